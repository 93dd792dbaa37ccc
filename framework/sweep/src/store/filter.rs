//! Conditions on runs as written on the command line: `seed=3`, `objective.beta<0.01`, `test.accuracy>=0.9`, `name~first`.

use std::str::FromStr;

use ibhost_framework::component::text_of;
use serde_json::Value;

use crate::error::SweepError;

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The same number or word.
    Equal,
    /// Another one, or none.
    Different,
    /// A smaller number.
    Less,
    /// A number at most as large.
    AtMost,
    /// A larger number.
    Greater,
    /// A number at least as large.
    AtLeast,
    /// A text that contains the word.
    Contains,
}

/// Longer signs before those they begin with.
const SIGNS: [(&str, Comparison); 7] = [
    ("!=", Comparison::Different),
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("=", Comparison::Equal),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
    ("~", Comparison::Contains),
];

/// A condition on one field of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Field, see [`super::select::keys`].
    pub key: String,
    /// How it is compared.
    pub comparison: Comparison,
    /// What with.
    pub value: String,
}

impl Filter {
    /// Whether `text` has the form of a filter and not that of a folder's name.
    pub fn is_one(text: &str) -> bool {
        !std::path::Path::new(text).exists() && SIGNS.iter().any(|(sign, _)| text.contains(sign))
    }

    /// Whether a field has a value that is wanted; `None` is a field that a run does not have.
    pub fn accepts(&self, found: Option<&Value>) -> bool {
        let number = found.and_then(Value::as_f64);
        let ordered = |test: fn(f64, f64) -> bool| number.zip(self.number()).is_some_and(|(found, wanted)| test(found, wanted));
        let text = |test: fn(&str, &str) -> bool| found.is_some_and(|found| test(&text_of(found), &self.value));
        let equal = || ordered(|found, wanted| found == wanted) || text(|found, wanted| found == wanted);
        match self.comparison {
            Comparison::Equal => equal(),
            Comparison::Different => !equal(),
            Comparison::Contains => text(|found, wanted| found.contains(wanted)),
            Comparison::Less => ordered(|found, wanted| found < wanted),
            Comparison::AtMost => ordered(|found, wanted| found <= wanted),
            Comparison::Greater => ordered(|found, wanted| found > wanted),
            Comparison::AtLeast => ordered(|found, wanted| found >= wanted),
        }
    }

    /// The value as a number.
    pub fn number(&self) -> Option<f64> {
        self.value.parse().ok()
    }
}

impl FromStr for Filter {
    type Err = SweepError;

    fn from_str(text: &str) -> Result<Self, SweepError> {
        let wrong = |what: &str| {
            SweepError::Request(format!(
                "`{text}`: {what}\n  hint: a filter is FIELD, one of = != < <= > >= ~ and a value, e.g. seed=3 or test.accuracy>0.9"
            ))
        };
        let place = text.find(['=', '!', '<', '>', '~']).ok_or_else(|| wrong("there is no comparison"))?;
        let (key, rest) = text.split_at(place);
        let (sign, comparison) = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign)).ok_or_else(|| wrong("there is no comparison"))?;
        let filter = Self { key: key.trim().to_owned(), comparison: *comparison, value: rest[sign.len()..].trim().to_owned() };
        if filter.key.is_empty() || filter.value.is_empty() {
            return Err(wrong("a field or a value is missing"));
        }
        let ordered = matches!(comparison, Comparison::Less | Comparison::AtMost | Comparison::Greater | Comparison::AtLeast);
        if ordered && filter.number().is_none() {
            return Err(wrong(&format!("`{}` is not a number", filter.value)));
        }
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_as_numbers_and_as_words_and_what_is_missing_is_only_different() {
        let accepts = |filter: &str, value: Value| filter.parse::<Filter>().unwrap().accepts(Some(&value));
        assert!(accepts("beta=1e-2", 0.01.into()) && accepts("seed=3", 3.into()) && accepts("drop_last=false", false.into()));
        assert!(accepts("steps=none", Value::Null) && accepts("a~b", "abc".into()) && !accepts("a~b", "xyz".into()));
        assert!(accepts("a>=1", 1.into()) && !accepts("a>1", 1.into()) && !accepts("a>1", "2 words".into()));
        assert!(accepts("a!=NaN", 1.into()) && accepts("a=NaN", "NaN".into()) && !accepts("a<1", "NaN".into()));
        for (filter, accepted) in [("a!=1", true), ("a=1", false), ("a<1", false), ("a~1", false)] {
            assert_eq!(filter.parse::<Filter>().unwrap().accepts(None), accepted, "{filter}");
        }
    }

    #[test]
    fn filters_are_read_or_refused_with_their_form() {
        let read = |text: &str| text.parse::<Filter>().map(|f| (f.key, f.comparison, f.value));
        assert_eq!(read("objective.beta<=0.01").unwrap(), ("objective.beta".into(), Comparison::AtMost, "0.01".into()));
        assert_eq!(read("status!=completed").unwrap(), ("status".into(), Comparison::Different, "completed".into()));
        assert_eq!(read("dataset~mnist").unwrap(), ("dataset".into(), Comparison::Contains, "mnist".into()));
        for (wrong, words) in
            [("runs", "no comparison"), ("=3", "missing"), ("lr=", "missing"), ("lr<fast", "not a number"), ("a!b", "no comparison")]
        {
            let error = wrong.parse::<Filter>().unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("test.accuracy>0.9"), "{error}");
        }
    }
}
