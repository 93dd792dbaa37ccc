//! Words for people in place of those of the deserialiser, which knows Rust's types and not what somebody meant to write.

/// `message` of a deserialiser without names of types: what was found, what is expected, and what to write where that is a common mistake.
pub fn plain(message: &str) -> String {
    let message = message.strip_prefix("invalid number").map_or(message, |_| "expected a number");
    if let Some(rest) = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))
        && let Some((found, expected)) = rest.rsplit_once(", expected ")
    {
        let expected = expectation(expected);
        return format!("found {}, expected {expected}{}", finding(found), advice(found, &expected));
    }
    if let Some((length, expected)) = message.strip_prefix("invalid length ").and_then(|rest| rest.split_once(", expected ")) {
        return format!("found {length} elements, expected {}", expectation(expected));
    }
    if let Some(rest) = message.strip_prefix("unknown field ") {
        return format!("unknown key {rest}");
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        return format!("unknown word {rest}");
    }
    if let Some(field) = message.strip_prefix("missing field ") {
        return format!("the key {field} is missing");
    }
    message.to_owned()
}

/// What a type is called by somebody who writes values.
pub fn expectation(kind: &str) -> String {
    let words = match kind.trim_end_matches(" value") {
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" | "nonzero" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" | "integer" | "an integer" => "a whole number",
        "f32" | "f64" | "float" | "floating point" => "a number",
        "a string" | "a borrowed string" | "str" | "string" | "string scalar" | "a character" => "a word or text",
        "a boolean" | "bool" | "boolean" => "`true` or `false`",
        "a sequence" | "seq" | "sequence start" => "a list",
        "a map" | "map" | "mapping start" => "a map of `key: value`",
        "null" | "unit" | "a unit" => "nothing",
        other if other.starts_with("struct ") => "a map of `key: value`",
        other if other.starts_with("a tuple") || other.starts_with("tuple") => "a list",
        other => other,
    };
    words.to_owned()
}

fn finding(found: &str) -> String {
    let quoted = |prefix: &str| found.strip_prefix(prefix).map(|rest| rest.trim_matches('`').to_owned());
    if let Some(text) = found.strip_prefix("string ") {
        return format!("the text {text}");
    }
    if let Some(number) = quoted("integer ").or_else(|| quoted("floating point ")) {
        return format!("the number {number}");
    }
    if let Some(word) = quoted("boolean ") {
        return format!("`{word}`");
    }
    match found {
        "null" | "unit value" | "Option value" => "nothing",
        "sequence" => "a list",
        "map" => "a map",
        other => other,
    }
    .to_owned()
}

/// What to write instead, for texts that other programs take for the value that is expected.
fn advice(found: &str, expected: &str) -> String {
    let Some(text) = found.strip_prefix("string ").map(|text| text.trim_matches('"')) else { return String::new() };
    let digits = text.trim_start_matches(['+', '-']);
    if expected.contains("number") && digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()) {
        let sign = if text.starts_with('-') { "-" } else { "" };
        let number = digits.trim_start_matches('0');
        return format!("\n  hint: a number has no leading zeros: write {sign}{}", if number.is_empty() { "0" } else { number });
    }
    if expected.contains("number") && matches!(text.to_ascii_lowercase().trim_start_matches(['.', '+', '-']), "inf" | "infinity" | "nan") {
        return "\n  hint: it must be finite".to_owned();
    }
    if expected.contains("`true`") {
        let word = match text.to_ascii_lowercase().as_str() {
            "y" | "yes" | "on" => "true",
            "n" | "no" | "off" => "false",
            _ => return String::new(),
        };
        return format!("\n  hint: write `{word}`");
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_types_become_words_and_common_mistakes_get_a_hint() {
        for (message, words) in [
            ("invalid type: string \"ten\", expected u64", "found the text \"ten\", expected a whole number of at least 0"),
            ("invalid type: floating point `1.5`, expected usize", "found the number 1.5, expected a whole number of at least 0"),
            ("invalid value: integer `-1`, expected u64", "found the number -1, expected a whole number of at least 0"),
            ("invalid type: null, expected f64", "found nothing, expected a number"),
            ("invalid type: map, expected a string", "found a map, expected a word or text"),
            ("invalid type: boolean `true`, expected a sequence", "found `true`, expected a list"),
            ("invalid type: integer `3`, expected struct EarlyStopping", "found the number 3, expected a map of `key: value`"),
            ("unknown field `axis`, expected one of `axes`", "unknown key `axis`, expected one of `axes`"),
            ("missing field `name`", "the key `name` is missing"),
            ("any other words", "any other words"),
        ] {
            assert_eq!(plain(message), words);
        }
        for (message, hint) in [
            ("invalid type: string \"007\", expected u64", "write 7"),
            ("invalid type: string \"-00\", expected i64", "write -0"),
            ("invalid type: string \".inf\", expected f64", "must be finite"),
            ("invalid type: string \"NaN\", expected f64", "must be finite"),
            ("invalid type: string \"yes\", expected a boolean", "write `true`"),
            ("invalid type: string \"n\", expected a boolean", "write `false`"),
        ] {
            assert!(plain(message).ends_with(hint) && plain(message).contains("\n  hint: "), "{}", plain(message));
        }
    }
}
