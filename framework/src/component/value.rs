//! One value of a component: from text or JSON to the type its parameter asks for, checked against bounds, and back to text.

use std::cmp::Ordering;
use std::ops::Range;

use serde_json::{Number, Value};

use super::grammar::is_word;
use super::quoted::{literal, text_in};
use super::schema::{Parameter, ParameterKind, elements};
use super::suggest::{did_you_mean, nearest};

/// Characters of an offending value that are repeated in a message.
const SHOWN: usize = 40;

/// Smallest size of a number other than 0 that single precision holds with all its digits. Models compute in it, so that smaller ones turn
/// into 0 on the way, in silence.
pub(crate) const SMALLEST: f32 = f32::MIN_POSITIVE;

/// Whether models would compute with 0, or a few digits, in place of `number`.
pub(crate) fn is_lost(number: f64) -> bool {
    number != 0.0 && number.abs() < f64::from(SMALLEST)
}

/// A value as it was given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Given<'a> {
    /// In a component string, already checked by the grammar.
    Text(&'a str),
    /// In a configuration file.
    Json(&'a Value),
}

impl Given<'_> {
    fn shown(self) -> String {
        let text = match self {
            Given::Text(text) => text.to_owned(),
            // As in the file, where `2`, `2.0` and `"2"` are different values.
            Given::Json(value) => value.to_string(),
        };
        if text.chars().count() > SHOWN { format!("`{}...`", text.chars().take(SHOWN).collect::<String>()) } else { format!("`{text}`") }
    }
}

/// Why a value does not fit its parameter.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) message: String,
    pub(super) help: Option<String>,
    /// The bytes of the value's own text that are to blame, when not all of it.
    pub(super) within: Option<Range<usize>>,
}

impl Misfit {
    fn new(message: String, help: Option<String>) -> Self {
        Self { message, help, within: None }
    }
}

/// The typed JSON value of `given`, or why `parameter` cannot take it.
pub(super) fn convert(parameter: &Parameter, given: Given<'_>) -> Result<Value, Misfit> {
    // A default may be something a string cannot spell (the empty word); repeated in a configuration file it is still right.
    if matches!(given, Given::Json(value) if *value == parameter.default) {
        return Ok(parameter.default.clone());
    }
    typed(parameter, &parameter.kind, &format!("`{}`", parameter.name), given)
}

/// The parameter's own default in the form [`convert`] gives to values, or what is wrong with it.
pub(super) fn normalised(parameter: &Parameter) -> Result<Value, String> {
    if parameter.default == "" {
        return Ok(parameter.default.clone());
    }
    typed(parameter, &parameter.kind, &format!("`{}`", parameter.name), Given::Json(&parameter.default)).map_err(|misfit| misfit.message)
}

fn typed(parameter: &Parameter, kind: &ParameterKind, subject: &str, given: Given<'_>) -> Result<Value, Misfit> {
    let wrong_type = || Misfit::new(format!("{subject} takes {}, got {}", kind.expected(), given.shown()), None);
    match kind {
        ParameterKind::Optional(inner) => match given {
            Given::Text("none") | Given::Json(Value::Null) => Ok(Value::Null),
            Given::Json(Value::String(word)) if word == "none" => Ok(Value::Null),
            _ => typed(parameter, inner, subject, given),
        },
        ParameterKind::List(inner) => list(parameter, inner, given).unwrap_or_else(|| Err(wrong_type())),
        ParameterKind::Bool => match given {
            Given::Text("true") | Given::Json(Value::Bool(true)) => Ok(Value::Bool(true)),
            Given::Text("false") | Given::Json(Value::Bool(false)) => Ok(Value::Bool(false)),
            _ => Err(wrong_type()),
        },
        ParameterKind::Int => whole_number(parameter, subject, given).unwrap_or_else(|| Err(wrong_type())),
        ParameterKind::Float | ParameterKind::Float32 => {
            let number = match given {
                Given::Text(text) => text.parse::<f64>().ok(),
                Given::Json(value) => value.as_f64(),
            };
            // The sum makes one zero of both.
            let number = number.ok_or_else(wrong_type)? + 0.0;
            if is_lost(number) {
                let message = format!(
                    "{subject} must be 0 or at least {SMALLEST:e} in size, below which models compute with 0, got {}",
                    given.shown()
                );
                return Err(Misfit::new(message, None));
            }
            let number = if *kind == ParameterKind::Float32 { single(number) } else { number };
            let number =
                Number::from_f64(number).ok_or_else(|| Misfit::new(format!("{subject} must be finite, got {}", given.shown()), None))?;
            in_bounds(parameter, subject, &number)?;
            Ok(Value::Number(number))
        }
        ParameterKind::Word => match given {
            Given::Text(word) if is_word(word) => Ok(word.into()),
            Given::Json(Value::String(word)) if is_word(word) => Ok(word.as_str().into()),
            _ => Err(wrong_type()),
        },
        ParameterKind::Text | ParameterKind::Path => {
            let text = match given {
                Given::Text(raw) => text_in(raw).ok_or_else(wrong_type)?,
                Given::Json(value) => value.as_str().ok_or_else(wrong_type)?.into(),
            };
            match text.chars().find(|c| c.is_control()) {
                Some(c) => Err(Misfit::new(format!("{subject} holds the control character U+{:04X}", u32::from(c)), None)),
                None => Ok(text.into_owned().into()),
            }
        }
        ParameterKind::Choice(choices) => {
            let word = match given {
                Given::Text(word) => word,
                Given::Json(value) => value.as_str().ok_or_else(wrong_type)?,
            };
            if choices.iter().any(|(choice, _)| choice == word) {
                return Ok(word.into());
            }
            let near = nearest(word, choices.iter().map(|(choice, _)| choice.as_str()));
            Err(Misfit { help: did_you_mean(&near), ..wrong_type() })
        }
    }
}

/// `None` when `given` is no list at all.
fn list(parameter: &Parameter, element: &ParameterKind, given: Given<'_>) -> Option<Result<Value, Misfit>> {
    let values: Result<Vec<Value>, Misfit> = match given {
        Given::Text(text) => {
            let inner = text.strip_prefix('[')?.strip_suffix(']')?;
            let mut start = 1;
            let words = if inner.is_empty() { Vec::new() } else { inner.split(';').collect() };
            words
                .into_iter()
                .enumerate()
                .map(|(at, word)| {
                    let within = start..start + word.len();
                    start = within.end + 1;
                    let subject = format!("element {} of `{}`", at + 1, parameter.name);
                    typed(parameter, element, &subject, Given::Text(word)).map_err(|misfit| Misfit { within: Some(within), ..misfit })
                })
                .collect()
        }
        Given::Json(value) => {
            let one = |(at, value)| typed(parameter, element, &format!("element {} of `{}`", at + 1, parameter.name), Given::Json(value));
            value.as_array()?.iter().enumerate().map(one).collect()
        }
    };
    Some(values.and_then(|values| {
        let count = values.len() as u64;
        let wrong_count = |bound: String| Err(Misfit::new(format!("`{}` takes {bound}, got {count}", parameter.name), None));
        match (parameter.minimum_length, parameter.maximum_length) {
            (Some(low), Some(high)) if low == high && count != low => wrong_count(format!("exactly {}", elements(low))),
            (Some(low), _) if count < low => wrong_count(format!("at least {}", elements(low))),
            (_, Some(high)) if count > high => wrong_count(format!("at most {}", elements(high))),
            _ => Ok(Value::Array(values)),
        }
    }))
}

/// `None` when `given` is no whole number at all.
fn whole_number(parameter: &Parameter, subject: &str, given: Given<'_>) -> Option<Result<Value, Misfit>> {
    let (least, most) = (*parameter.whole.start(), *parameter.whole.end());
    let number = match given {
        Given::Text(text) => {
            let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            // More digits than i128 holds are still a whole number, only one that is out of range.
            text.parse::<i128>().unwrap_or(if text.starts_with('-') { i128::MIN } else { i128::MAX })
        }
        Given::Json(value) => value.as_number()?.as_i128()?,
    };
    let storable = if number >= 0 { u64::try_from(number).map(Number::from) } else { i64::try_from(number).map(Number::from) };
    Some(match storable {
        // The documented bound is tighter than the type's and says more, so it is tried first.
        Ok(whole) => match in_bounds(parameter, subject, &whole) {
            Err(misfit) => Err(misfit),
            Ok(()) if number < least => Err(Misfit::new(format!("{subject} must be at least {least}, got {number}"), None)),
            Ok(()) if number > most => Err(Misfit::new(format!("{subject} must be at most {most}, got {number}"), None)),
            Ok(()) => Ok(Value::Number(whole)),
        },
        Err(_) if number < 0 => {
            let bound = parameter.minimum.as_ref().map_or_else(|| least.to_string(), Number::to_string);
            Err(Misfit::new(format!("{subject} must be at least {bound}, got {}", given.shown()), None))
        }
        Err(_) => {
            let bound = parameter.maximum.as_ref().map_or_else(|| most.to_string(), Number::to_string);
            Err(Misfit::new(format!("{subject} must be at most {bound}, got {}", given.shown()), None))
        }
    })
}

/// A bound, how it is worded, and which orderings of value and bound satisfy it.
type BoundRule<'a> = (&'a Option<Number>, &'static str, fn(Ordering) -> bool);

fn in_bounds(parameter: &Parameter, subject: &str, number: &Number) -> Result<(), Misfit> {
    let rules: [BoundRule<'_>; 4] = [
        (&parameter.minimum, "at least", Ordering::is_ge),
        (&parameter.exclusive_minimum, "greater than", Ordering::is_gt),
        (&parameter.maximum, "at most", Ordering::is_le),
        (&parameter.exclusive_maximum, "less than", Ordering::is_lt),
    ];
    for (bound, words, holds) in rules {
        if let Some(bound) = bound
            && !holds(compare(number, bound))
        {
            let (bound, got) = (text_of(&Value::Number(bound.clone())), text_of(&Value::Number(number.clone())));
            return Err(Misfit::new(format!("{subject} must be {words} {bound}, got {got}"), None));
        }
    }
    Ok(())
}

/// Exact for whole numbers, which `f64` alone would not be above 2^53.
fn compare(a: &Number, b: &Number) -> Ordering {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
    }
}

/// The shortest decimal that names the `f32` nearest to `number`, so that 0.1 typed and 0.1 stored as `f32` are the same JSON number.
///
/// Beyond the range of `f32` it is an infinity, which the caller refuses.
fn single(number: f64) -> f64 {
    let rounded = number as f32;
    rounded.to_string().parse().unwrap_or(f64::from(rounded))
}

/// A value as component strings write it: as [`text_of`], with quotes around text that needs them.
pub(super) fn literal_of(value: &Value) -> String {
    match value {
        Value::String(text) => literal(text).into_owned(),
        other => text_of(other),
    }
}

/// A value for people, words and text without quotes. Numbers parse back to the same bits; maps, which no parameter holds, are written as JSON.
#[must_use]
pub fn text_of(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(word) => word.clone(),
        Value::Array(values) => format!("[{}]", values.iter().map(text_of).collect::<Vec<_>>().join(";")),
        Value::Number(number) if number.is_f64() => {
            // `{:?}` is the shortest text that parses back, with an exponent where that is shorter.
            let text = format!("{:?}", number.as_f64().unwrap_or_default());
            text.strip_suffix(".0").unwrap_or(&text).to_owned()
        }
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn numbers_are_written_shortly() {
        let table = [
            (json!(1.0), "1"),
            (json!(0.001), "0.001"),
            (json!(1e-9), "1e-9"),
            (json!(1e300), "1e300"),
            (json!(-0.5), "-0.5"),
            (json!(7), "7"),
        ];
        for (value, text) in table {
            assert_eq!(text_of(&value), text);
        }
        assert_eq!(text_of(&json!([1, 2.5, null, "a", true])), "[1;2.5;none;a;true]");
    }

    proptest! {
        #[test]
        fn every_finite_float_parses_back_to_the_same_bits(bits in any::<u64>()) {
            let number = f64::from_bits(bits);
            prop_assume!(number.is_finite());
            prop_assert_eq!(text_of(&json!(number)).parse::<f64>().unwrap().to_bits(), bits);
        }

        #[test]
        fn every_finite_single_survives_the_way_through_json(bits in any::<u32>()) {
            let number = f32::from_bits(bits);
            prop_assume!(number.is_finite());
            let kept: f32 = serde_json::from_value(json!(single(f64::from(number)))).unwrap();
            prop_assert_eq!(kept.to_bits(), bits);
        }
    }
}
