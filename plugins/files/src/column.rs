//! Columns of labels, groups and splits: numbers or words, and the classes that they stand for.

/// One value for each record.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// Numbers.
    Numbers(Vec<f64>),
    /// Words.
    Words(Vec<String>),
}

/// Classes of a column and the class of each record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    /// Names in the order of their numbers: numbers in theirs, words in that of their bytes.
    pub names: Vec<String>,
    /// Number of the class of each record.
    pub of: Vec<usize>,
}

impl Column {
    /// Number of records.
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers(values) => values.len(),
            Self::Words(words) => words.len(),
        }
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values of `self`, then those of `other`; numbers beside words are taken for words.
    #[must_use]
    pub fn followed_by(self, other: Self) -> Self {
        match (self, other) {
            (Self::Numbers(mut a), Self::Numbers(b)) => {
                a.extend(b);
                Self::Numbers(a)
            }
            (a, b) => Self::Words(a.into_words().into_iter().chain(b.into_words()).collect()),
        }
    }

    fn into_words(self) -> Vec<String> {
        match self {
            Self::Numbers(values) => values.into_iter().map(|value| value.to_string()).collect(),
            Self::Words(words) => words,
        }
    }

    /// The classes, or the first record whose value is none: a number that is not whole, or an empty word.
    ///
    /// # Errors
    /// The record and what it holds.
    pub fn classes(&self) -> Result<Classes, (usize, String)> {
        match self {
            Self::Numbers(values) => {
                if let Some(bad) = values.iter().position(|value| value.fract() != 0.0) {
                    return Err((bad, values[bad].to_string()));
                }
                let mut known: Vec<i64> = values.iter().map(|&value| value as i64).collect();
                known.sort_unstable();
                known.dedup();
                let of = values.iter().map(|&value| known.binary_search(&(value as i64)).unwrap_or_default()).collect();
                Ok(Classes { names: known.iter().map(ToString::to_string).collect(), of })
            }
            Self::Words(words) => {
                if let Some(bad) = words.iter().position(String::is_empty) {
                    return Err((bad, "nothing".to_owned()));
                }
                let mut names = words.clone();
                names.sort_unstable();
                names.dedup();
                let of = words.iter().map(|word| names.binary_search(word).unwrap_or_default()).collect();
                Ok(Classes { names, of })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_classes_in_their_order_and_words_in_theirs() {
        let numbers = Column::Numbers(vec![10.0, 2.0, -1.0, 10.0]).classes().unwrap();
        assert_eq!(numbers, Classes { names: ["-1", "2", "10"].map(String::from).to_vec(), of: vec![2, 1, 0, 2] });
        let words = Column::Words(["dog", "cat", "dog"].map(String::from).to_vec());
        assert_eq!(words.classes().unwrap(), Classes { names: ["cat", "dog"].map(String::from).to_vec(), of: vec![1, 0, 1] });
        assert_eq!(Column::Numbers(vec![1.0, 0.5]).classes(), Err((1, "0.5".to_owned())));
        assert_eq!(Column::Numbers(vec![f64::NAN]).classes(), Err((0, "NaN".to_owned())));
        assert_eq!(Column::Words(vec![String::new()]).classes(), Err((0, "nothing".to_owned())));
        let both = words.followed_by(Column::Numbers(vec![3.0]));
        assert_eq!(both, Column::Words(["dog", "cat", "dog", "3"].map(String::from).to_vec()));
    }
}
