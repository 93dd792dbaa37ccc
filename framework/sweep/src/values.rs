//! Values of an axis: lists, and ranges written as text.

use serde_json::{Number, Value};

/// Most values one axis may have.
pub const MAX_VALUES: usize = 1_000_000;

const FORMS: &str = "a list such as [0.001, 0.01], or a range: 0..9 (both ends belong to it), linear(0, 1, 5), log10(-3, 0, 4)";

/// What a range written as text stands for, before any of its values is made.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Range {
    /// Whole numbers, both ends among them.
    Whole(i64, i64),
    /// `count` numbers at equal distances, of their powers of ten when `logarithmic`.
    Spread { first: f64, last: f64, count: usize, logarithmic: bool },
}

impl Range {
    fn count(self) -> usize {
        match self {
            Self::Whole(first, last) => usize::try_from(last.abs_diff(first)).map_or(usize::MAX, |steps| steps.saturating_add(1)),
            Self::Spread { count, .. } => count,
        }
    }
}

/// How many values an axis has, without making any of them.
///
/// # Errors
/// What is wrong with it and which forms there are.
pub fn count(value: &Value) -> Result<usize, String> {
    let number = match value {
        Value::Array(items) => {
            let mut number = 0usize;
            for item in items {
                let more = match item {
                    Value::String(text) => range(text)?.map_or(1, Range::count),
                    _ => 1,
                };
                number = number.saturating_add(more);
            }
            number
        }
        Value::String(text) => range(text)?.ok_or_else(|| format!("`{text}` is no range; expected {FORMS}"))?.count(),
        other => return Err(format!("`{other}` is neither a list nor a range; expected {FORMS}")),
    };
    match number {
        0 => Err(format!("there is no value; expected {FORMS}")),
        number if number > MAX_VALUES => Err(format!("{number} values are more than the {MAX_VALUES} an axis may have")),
        number => Ok(number),
    }
}

/// The values of an axis. A list may hold ranges among its items.
///
/// # Errors
/// What is wrong with it and which forms there are.
pub fn expand(value: &Value) -> Result<Vec<Value>, String> {
    let mut values = Vec::with_capacity(count(value)?);
    for item in value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice) {
        match item {
            Value::String(text) => match range(text)? {
                Some(Range::Whole(first, last)) => values.extend((first..=last).map(Value::from)),
                Some(Range::Spread { first, last, count, logarithmic }) => {
                    let spread = spread(first, last, count, logarithmic);
                    values.extend(spread.ok_or_else(|| format!("`{text}` leaves the range of numbers"))?);
                }
                None => values.push(item.clone()),
            },
            _ => values.push(item.clone()),
        }
    }
    Ok(values)
}

/// The range that `text` is; `None` when it is not one but a word.
fn range(text: &str) -> Result<Option<Range>, String> {
    let text = text.trim();
    if let Some((first, last)) = text.split_once("..")
        && let (Ok(first), Ok(last)) = (first.trim().parse::<i64>(), last.trim().parse::<i64>())
    {
        if last < first {
            return Err(format!("the range `{text}` ends before it begins; write {last}..{first}"));
        }
        let range = Range::Whole(first, last);
        if range.count() > MAX_VALUES {
            return Err(format!("the range `{text}` has more than the {MAX_VALUES} values an axis may have"));
        }
        return Ok(Some(range));
    }
    for (name, logarithmic) in [("log10", true), ("linear", false)] {
        let Some(inside) = text.strip_prefix(name).and_then(|rest| rest.trim_start().strip_prefix('(')) else { continue };
        let inside = inside.strip_suffix(')').ok_or_else(|| format!("`{text}` has no closing parenthesis"))?;
        let parts: Vec<&str> = inside.split(',').map(str::trim).collect();
        let [first, last, count] = parts[..] else {
            return Err(format!("`{text}` needs three numbers: {name}(first, last, count)"));
        };
        let number = |part: &str| {
            part.parse::<f64>().ok().filter(|x| x.is_finite()).ok_or_else(|| format!("`{part}` in `{text}` is not a finite number"))
        };
        let (first, last) = (number(first)?, number(last)?);
        let count = count.parse::<usize>().ok().filter(|&n| (1..=MAX_VALUES).contains(&n));
        let count = count.ok_or_else(|| format!("the count in `{text}` must be a whole number from 1 to {MAX_VALUES}"))?;
        return Ok(Some(Range::Spread { first, last, count, logarithmic }));
    }
    Ok(None)
}

/// `count` numbers from `first` to `last` at equal distances, of their powers of ten when `logarithmic`.
fn spread(first: f64, last: f64, count: usize, logarithmic: bool) -> Option<Vec<Value>> {
    let place = |i: usize| if count == 1 { first } else { first + (last - first) * i as f64 / (count - 1) as f64 };
    let value = |i: usize| {
        let x = if logarithmic { 10f64.powf(place(i)) } else { place(i) };
        // 0.3 and not 0.30000000000000004: what is printed, compared and typed again should be short.
        let rounded = format!("{x:.14e}").parse::<f64>().unwrap_or(x);
        Number::from_f64(rounded).map(Value::Number)
    };
    (0..count).map(value).collect()
}

/// An axis as written on the command line, `KEY=VALUES`: one range, or values separated by commas that stand in no bracket.
///
/// # Errors
/// What is wrong with it.
pub fn parse_axis(text: &str) -> Result<(String, Value), String> {
    let (key, values) = text
        .split_once('=')
        .filter(|(key, values)| !key.trim().is_empty() && !values.trim().is_empty())
        .ok_or_else(|| format!("`{text}` is not KEY=VALUES; write e.g. objective.beta=0.001,0.01 or seed=0..9"))?;
    let mut items = Vec::new();
    let (mut depth, mut start) = (0usize, 0);
    for (place, c) in values.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                items.push(&values[start..place]);
                start = place + 1;
            }
            _ => {}
        }
    }
    items.push(&values[start..]);
    if items.iter().any(|item| item.trim().is_empty()) {
        return Err(format!("`{text}` has an empty value between two commas"));
    }
    Ok((key.trim().to_owned(), items.into_iter().map(|item| scalar(item.trim())).collect::<Vec<_>>().into()))
}

/// A value as written on the command line: JSON where it is one, `none` for nothing, a word otherwise.
pub fn scalar(text: &str) -> Value {
    if text == "none" {
        return Value::Null;
    }
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// A number of bytes such as `512MiB`, `4GB` or `1000000`.
///
/// # Errors
/// What is wrong with it.
pub fn bytes(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let wrong = || format!("`{text}` is not an amount of memory; write e.g. 512MiB, 4GiB or 4GB");
    let number: f64 = text[..split].parse().map_err(|_| wrong())?;
    let unit: f64 = match text[split..].trim() {
        "" | "B" => 1.0,
        "K" | "KiB" => 1024.0,
        "M" | "MiB" => 1024f64.powi(2),
        "G" | "GiB" => 1024f64.powi(3),
        "T" | "TiB" => 1024f64.powi(4),
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        _ => return Err(wrong()),
    };
    let total = number * unit;
    if (1.0..9e18).contains(&total) { Ok(total as u64) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ranges_and_lists_expand_to_the_values_a_person_would_write() {
        let cases = [
            (json!([0, 1e-3, 0.01]), json!([0, 1e-3, 0.01])),
            (json!("0..3"), json!([0, 1, 2, 3])),
            (json!("-1..1"), json!([-1, 0, 1])),
            (json!("linear(0, 1, 11)"), json!([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])),
            (json!("log10(-3,0,4)"), json!([0.001, 0.01, 0.1, 1.0])),
            (json!(["0..2", 7, "word"]), json!([0, 1, 2, 7, "word"])),
            (json!("linear(3, 9, 1)"), json!([3.0])),
        ];
        for (written, expected) in cases {
            assert_eq!(Value::from(expand(&written).unwrap()), expected, "{written}");
        }
        let fine = expand(&json!("log10(-1, 1, 21)")).unwrap();
        assert_eq!((fine.len(), &fine[10]), (21, &json!(1.0)));
    }

    #[test]
    fn values_are_counted_without_being_made() {
        for written in [json!([0, 1e-3]), json!("0..3"), json!("linear(0, 1, 11)"), json!(["0..2", 7, "word"]), json!("log10(-3,0,4)")] {
            assert_eq!(count(&written).unwrap(), expand(&written).unwrap().len(), "{written}");
        }
        // Forty of them would be forty million values.
        let begin = std::time::Instant::now();
        assert!(count(&vec!["0..999999"; 40].into()).unwrap_err().contains("40000000 values are more than"));
        assert!(expand(&vec!["linear(0, 1, 1000000)"; 40].into()).unwrap_err().contains("40000000 values are more than"));
        let whole = format!("{}..{}", i64::MIN, i64::MAX);
        assert!(count(&whole.into()).unwrap_err().contains("more than"));
        assert!(begin.elapsed().as_millis() < 200, "{:?}", begin.elapsed());
    }

    #[test]
    fn what_is_no_axis_is_refused_with_the_reason() {
        for (written, reason) in [
            (json!([]), "no value"),
            (json!(3), "neither a list nor a range"),
            (json!("nine"), "`nine` is no range"),
            (json!("9..0"), "write 0..9"),
            (json!("0..99999999"), "more than"),
            (json!("log10(1, 2)"), "three numbers"),
            (json!("log10(1, 2, 3"), "closing parenthesis"),
            (json!("log10(1, 999, 3)"), "leaves the range"),
            (json!("linear(a, 2, 3)"), "`a`"),
            (json!("linear(1, 2, 0)"), "count"),
        ] {
            let error = expand(&written).unwrap_err();
            assert!(error.contains(reason), "{written}: {error}");
        }
    }

    #[test]
    fn axes_of_the_command_line_split_at_outer_commas_only() {
        assert_eq!(parse_axis("objective.beta=0.001,0.01").unwrap(), ("objective.beta".into(), json!([0.001, 0.01])));
        assert_eq!(parse_axis("seed=0..9").unwrap(), ("seed".into(), json!(["0..9"])));
        assert_eq!(parse_axis("lr=log10(-3,-1,3),1").unwrap(), ("lr".into(), json!(["log10(-3,-1,3)", 1])));
        assert_eq!(parse_axis("average=none,0.9").unwrap(), ("average".into(), json!([null, 0.9])));
        for wrong in ["seed", "=1", "seed=", "seed=1,,2"] {
            assert!(parse_axis(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn amounts_of_memory_have_units() {
        assert_eq!([bytes("4GiB"), bytes("512M"), bytes("1.5kB"), bytes("77")].map(Result::unwrap), [4 << 30, 512 << 20, 1500, 77]);
        for wrong in ["", "GiB", "-1G", "4 furlongs", "0", "1e99T"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
