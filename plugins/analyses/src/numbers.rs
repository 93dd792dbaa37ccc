//! Numbers that may not be there: shares and means of nothing, and the class of scores that are no numbers.

/// `count` of `total`; not a number when there is nothing to count, which tables show as `-` and files as null.
pub fn share(count: usize, total: usize) -> f64 {
    if total == 0 { f64::NAN } else { count as f64 / total as f64 }
}

/// Mean of `values`, not a number when there is none.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { f64::NAN } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Position of the largest score, the first of equals; nothing when there is no score or one is not a number.
pub fn class_of(scores: &[f64]) -> Option<usize> {
    if scores.iter().any(|score| score.is_nan()) {
        return None;
    }
    (0..scores.len()).reduce(|best, next| if scores[next] > scores[best] { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_nothing_is_no_number() {
        assert!(share(0, 0).is_nan() && mean(&[]).is_nan());
        assert_eq!((share(0, 4), share(3, 4), mean(&[1.0, 2.0])), (0.0, 0.75, 1.5));
        assert_eq!(serde_json::json!(share(0, 0)), serde_json::Value::Null);
    }

    #[test]
    fn scores_that_are_no_numbers_have_no_class() {
        assert_eq!(class_of(&[0.0, 2.0, 2.0]), Some(1));
        assert_eq!(class_of(&[f64::NEG_INFINITY, f64::NEG_INFINITY]), Some(0));
        assert_eq!(class_of(&[f64::NAN, f64::NAN]), None);
        assert_eq!(class_of(&[1.0, f64::NAN, 3.0]), None);
        assert_eq!(class_of(&[]), None);
    }
}
