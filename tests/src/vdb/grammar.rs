//! The parser of component strings: `parse_arch`.

use ibhost_framework::component::grammar::parse;
use serde_json::{Map, Value};

use crate::golden::{list, member};

/// The original's strings are the part after the `/`, here read as parameters of a component.
///
/// One leniency of the original is refused here on purpose: where a key is given twice it takes the last value, this grammar names the
/// second place. Such a string must be refused, and without the earlier values it must parse to the recorded ones.
pub(super) fn parse_arch(file: &Value) -> Result<(), String> {
    let strings = list(member(member(file, "inputs")?, "strings")?)?;
    let parsed = list(member(member(file, "outputs")?, "parsed")?)?;
    if strings.len() != parsed.len() {
        return Err(format!("{} strings have {} results", strings.len(), parsed.len()));
    }
    for (text, want) in strings.iter().zip(parsed) {
        let text = text.as_str().ok_or_else(|| format!("{text} is not a string"))?;
        let last = last_of_each_key(text);
        if last != text {
            match parse(&format!("net/{text}")) {
                Err(error) if error.message.contains("given twice") => {}
                other => return Err(format!("`{text}` repeats a key but gives {other:?}")),
            }
        }
        let found = parameters(&last)?;
        if Value::Object(found.clone()) != *want {
            return Err(format!("`{text}` parses to {found:?}, expected {want}"));
        }
    }
    Ok(())
}

fn last_of_each_key(text: &str) -> String {
    let parts: Vec<&str> = text.split('|').collect();
    let key = |part: &str| part.split(':').next().unwrap_or_default().to_owned();
    let kept = parts.iter().enumerate().filter(|(i, part)| !parts[i + 1..].iter().any(|later| key(later) == key(part)));
    kept.map(|(_, part)| *part).collect::<Vec<_>>().join("|")
}

/// Keys with their values, decimals where the word has a point and whole numbers elsewhere.
fn parameters(text: &str) -> Result<Map<String, Value>, String> {
    let parsed = parse(&format!("net/{text}")).map_err(|error| error.to_string())?;
    let number = |word: &str| {
        let number = if word.contains('.') { word.parse::<f64>().ok().map(Value::from) } else { word.parse::<i64>().ok().map(Value::from) };
        number.ok_or_else(|| format!("`{word}` is not a number"))
    };
    parsed.params.into_iter().map(|(key, value)| Ok((key.value, number(&value.value)?))).collect()
}
