//! The grammar of component strings: `name` or `name/key:value|key:value`, cut into spanned words without knowing any component.
//!
//! `,` is accepted for `|`. A value is a word of `A-Z a-z 0-9 _ . + -`, a path of words and `/`, a list `[a;b;c]` of words, or any text in
//! quotes as in `"my data.csv"`. Nothing else is accepted.

use std::ops::Range;

use super::error::ComponentError;
use super::quoted::{end_of_quotes, is_bare_char, text_in};

/// Longest component string in bytes.
pub const MAX_LENGTH: usize = 4096;

/// What to do about a `/` that begins parameters for the second time.
const ONE_SLASH: &str = "separate parameters with `|` or `,`";
const FORM: &str = "the form is `name` or `name/key:value|key:value`";

/// A piece of the source and the bytes it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The piece.
    pub value: T,
    /// Its byte range in the source.
    pub span: Range<usize>,
}

/// A component string cut into its words; neither the name nor the keys are known to exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The component's name.
    pub name: Spanned<String>,
    /// Keys and raw values in the order written; keys are distinct.
    pub params: Vec<(Spanned<String>, Spanned<String>)>,
}

/// Whether `c` may stand in a name, key or value.
#[must_use]
pub const fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-')
}

/// Whether `text` is a non-empty word of the grammar.
#[must_use]
pub fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_word_char)
}

/// Cuts a component string into name, keys and values.
///
/// # Errors
/// The first place where `text` departs from the grammar, with what was expected there.
pub fn parse(text: &str) -> Result<Parsed, ComponentError> {
    let fail = |span: Range<usize>, message: String, help: &str| Err(ComponentError::new(text, span, message, Some(help.to_owned())));
    if text.len() > MAX_LENGTH {
        return fail(0..MAX_LENGTH, format!("a component string has at most {MAX_LENGTH} bytes, this one has {}", text.len()), FORM);
    }
    if text.is_empty() {
        return fail(0..0, "the component string is empty".into(), FORM);
    }
    check_characters(text)?;

    let slash = text.find('/');
    let name = &text[..slash.unwrap_or(text.len())];
    if name.is_empty() {
        return fail(0..1, "the name before `/` is empty".into(), FORM);
    }
    if let Some(at) = name.find(|c| !is_word_char(c)) {
        let message = format!("`{}` cannot stand in a component's name", &name[at..=at]);
        return fail(at..at + 1, message, "parameters follow a `/`, as in `name/key:value|key:value`");
    }
    let name = Spanned { value: name.to_owned(), span: 0..name.len() };
    let Some(slash) = slash else { return Ok(Parsed { name, params: Vec::new() }) };

    let first = slash + 1;
    if first == text.len() {
        return fail(slash..first, "no parameter follows `/`".into(), "leave the `/` out, or write `name/key:value`");
    }

    let mut params: Vec<(Spanned<String>, Spanned<String>)> = Vec::new();
    let mut start = first;
    for part in parts(&text[first..]) {
        let (key, value) = parse_part(text, part, start)?;
        if params.iter().any(|(known, _)| known.value == key.value) {
            return fail(key.span, format!("`{}` is given twice", key.value), "keep one of the two");
        }
        params.push((key, value));
        start += part.len() + 1;
    }
    Ok(Parsed { name, params })
}

/// Cuts parameters at `|` and `,` outside of quotes.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut at) = (0, 0);
    while let Some(next) = text[at..].find(['|', ',', '"']).map(|next| at + next) {
        if text[next..].starts_with('"') {
            at = end_of_quotes(&text[next..]).map_or(text.len(), |end| next + end);
        } else {
            parts.push(&text[start..next]);
            (start, at) = (next + 1, next + 1);
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Refuses every character that no component string contains outside of quotes, and those that steer terminals inside of them.
fn check_characters(text: &str) -> Result<(), ComponentError> {
    let punctuation = |c: char| matches!(c, '/' | '|' | ',' | ':' | ';' | '[' | ']' | '=' | '"');
    let mut quoted_to = 0;
    let found = text.char_indices().find(|&(at, c)| {
        if c == '"' && at >= quoted_to {
            quoted_to = end_of_quotes(&text[at..]).map_or(text.len(), |end| at + end);
        }
        if at < quoted_to { c.is_control() } else { !is_word_char(c) && !punctuation(c) }
    });
    let Some((at, c)) = found else { return Ok(()) };
    let (message, help) = if c.is_control() && !c.is_whitespace() || at < quoted_to {
        (format!("the control character U+{:04X} is not allowed", u32::from(c)), "leave it out")
    } else if c.is_whitespace() {
        ("a component string contains no white space outside of quotes".to_owned(), "leave it out, or write `key:\"a value\"`")
    } else if c.is_ascii() {
        (format!("`{c}` is not allowed in a component string"), "names, keys and values are made of letters, digits and `_` `.` `+` `-`")
    } else {
        (
            format!("`{}` is not an ASCII character", c.escape_debug()),
            "names, keys and values are made of the letters a to z, digits and `_` `.` `+` `-`; any other text stands in quotes",
        )
    };
    Err(ComponentError::new(text, at..at + c.len_utf8(), message, Some(help.into())))
}

/// Cuts `part`, which begins at byte `start` of `text`, at its `:`.
fn parse_part(text: &str, part: &str, start: usize) -> Result<(Spanned<String>, Spanned<String>), ComponentError> {
    let fail = |at: usize, len: usize, message: String, help: String| Err(ComponentError::new(text, at..at + len, message, Some(help)));
    let end = start + part.len();
    if part.is_empty() {
        // The separator that follows is the superfluous one, except at the end of the string.
        let at = if start < text.len() { start } else { start - 1 };
        return fail(at, 1, "a parameter is missing here".into(), "leave the extra separator out, or write `key:value`".into());
    }
    let Some(colon) = part.find(':') else {
        if let Some(equals) = part.find('=') {
            let help = format!("write `{}:{}`", &part[..equals], &part[equals + 1..]);
            return fail(start + equals, 1, "a key and its value are joined by `:`, not `=`".into(), help);
        }
        return fail(start, part.len(), format!("`{part}` has no value: `:` is missing"), format!("write `{part}:value`"));
    };
    let (key, value) = (&part[..colon], &part[colon + 1..]);
    let colon = start + colon;
    if key.is_empty() {
        return fail(colon, 1, "the key before `:` is empty".into(), "write `key:value`".into());
    }
    if let Some(at) = key.find('/') {
        return fail(start + at, 1, "a second `/` is not allowed".into(), ONE_SLASH.into());
    }
    if let Some(at) = key.find(|c| !is_word_char(c)) {
        return fail(start + at, 1, format!("`{}` cannot stand in a key", &key[at..=at]), "write `key:value`".into());
    }
    if value.is_empty() {
        return fail(
            colon,
            1,
            format!("the value of `{key}` is empty"),
            format!("write `{key}:value`, or leave `{key}` out to get its default"),
        );
    }
    check_value(text, key, value, colon + 1)?;
    Ok((Spanned { value: key.to_owned(), span: start..colon }, Spanned { value: value.to_owned(), span: colon + 1..end }))
}

/// Checks that `value`, which begins at byte `start` of `text`, is a word, a path, text in quotes or a list of words.
fn check_value(text: &str, key: &str, value: &str, start: usize) -> Result<(), ComponentError> {
    let fail = |span: Range<usize>, message: String, help: &str| Err(ComponentError::new(text, span, message, Some(help.to_owned())));
    let stray = |c: char| !is_word_char(c) && c != ';';
    if value.starts_with('"') {
        let Some(end) = end_of_quotes(value) else {
            return fail(start..start + value.len(), format!("the text of `{key}` has no closing `\"`"), "write `key:\"text\"`");
        };
        if end < value.len() {
            return fail(start + end..start + value.len(), format!("something follows the `\"` of `{key}`"), "leave it out");
        }
        return match text_in(value) {
            Some(_) => Ok(()),
            None => fail(start..start + value.len(), format!("a `\\` in the text of `{key}` stands alone"), "write `\\\\` for `\\`"),
        };
    }
    let Some(inner) = value.strip_prefix('[') else {
        return match value.find(|c| !is_bare_char(c)) {
            None => Ok(()),
            Some(at) if value[at..].starts_with(':') && value[..at].contains('/') => {
                let slash = value[..at].rfind('/').unwrap_or(at);
                fail(start + slash..start + slash + 1, "a second `/` is not allowed".into(), ONE_SLASH)
            }
            Some(at) => {
                let help = if matches!(&value[at..=at], ";" | "]") {
                    "a list is written in brackets, as in `[1;2;3]`"
                } else {
                    "a value is a number, `true`, `false`, a word, a path, a list `[1;2;3]`, or text in quotes"
                };
                fail(start + at..start + at + 1, format!("`{}` cannot stand in the value of `{key}`", &value[at..=at]), help)
            }
        };
    };
    let Some(close) = inner.find(']') else {
        return fail(
            start..start + value.len(),
            format!("the list of `{key}` has no closing `]`"),
            "separate its elements with `;`, as in `[1;2;3]`",
        );
    };
    if close + 1 < inner.len() {
        return fail(start + close + 2..start + value.len(), format!("something follows the `]` of `{key}`"), "leave it out");
    }
    let inner = &inner[..close];
    if let Some(at) = inner.find(stray) {
        let at_text = start + 1 + at;
        return fail(
            at_text..at_text + 1,
            format!("`{}` cannot stand in the list of `{key}`", &inner[at..=at]),
            "a list is written `[1;2;3]`",
        );
    }
    let mut element = start + 1;
    for word in inner.split(';') {
        if word.is_empty() && !inner.is_empty() {
            return fail(element..element + 1, format!("an element of the list of `{key}` is empty"), "leave the extra `;` out");
        }
        element += word.len() + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::fixture::{any_text, text_of};
    use proptest::prelude::*;

    #[test]
    fn good_strings_keep_their_spans() {
        let text = "algo1/d:10,e:[1;2.5]|flag:-1e-9";
        let parsed = parse(text).unwrap();
        assert_eq!(parsed.name, Spanned { value: "algo1".into(), span: 0..5 });
        let words: Vec<(&str, &str)> = parsed.params.iter().map(|(k, v)| (k.value.as_str(), v.value.as_str())).collect();
        assert_eq!(words, [("d", "10"), ("e", "[1;2.5]"), ("flag", "-1e-9")]);
        for (key, value) in &parsed.params {
            assert_eq!(text[key.span.clone()], key.value);
            assert_eq!(text[value.span.clone()], value.value);
        }
        assert!(parse("mlp").unwrap().params.is_empty());
        assert_eq!(parse("mlp/h:[]").unwrap().params[0].1.value, "[]");
    }

    #[test]
    fn bad_strings_point_at_the_place() {
        let table: [(&str, Range<usize>, &str); 36] = [
            ("", 0..0, "is empty"),
            ("/z:2", 0..1, "name before `/` is empty"),
            ("/", 0..1, "name before `/` is empty"),
            ("mlp/", 3..4, "no parameter follows"),
            ("mlp:2", 3..4, "`:` cannot stand in a component's name"),
            ("mlp|z:2", 3..4, "`|` cannot stand in a component's name"),
            ("mlp=z", 3..4, "`=` cannot stand in a component's name"),
            (":", 0..1, "`:` cannot stand in a component's name"),
            ("[a]/z:1", 0..1, "`[` cannot stand"),
            ("mlp/z", 4..5, "`z` has no value"),
            ("mlp/z=2", 5..6, "joined by `:`, not `=`"),
            ("mlp/e:1|z=2", 9..10, "joined by `:`, not `=`"),
            ("mlp/z=2:3", 5..6, "`=` cannot stand in a key"),
            ("mlp/z:a=3", 7..8, "`=` cannot stand in the value of `z`"),
            ("mlp/:2", 4..5, "key before `:` is empty"),
            ("mlp/z:", 5..6, "value of `z` is empty"),
            ("mlp/z:|e:1", 5..6, "value of `z` is empty"),
            ("mlp/a:1||b:2", 8..9, "a parameter is missing"),
            ("mlp/a:1|,b:2", 8..9, "a parameter is missing"),
            ("mlp/a:1|", 7..8, "a parameter is missing"),
            ("mlp/|a:1", 4..5, "a parameter is missing"),
            ("mlp/a:1/b:2", 7..8, "a second `/`"),
            ("mlp//a:1", 4..5, "a second `/`"),
            ("mlp/a:1:2", 7..8, "`:` cannot stand in the value of `a`"),
            ("mlp/z:1|z:2", 8..9, "`z` is given twice"),
            ("mlp/zé:1", 5..7, "`é` is not an ASCII"),
            ("mlp /z:1", 3..4, "no white space"),
            ("mlp\u{a0}", 3..5, "no white space"),
            ("mlp/z:\u{7}", 6..7, "control character U+0007"),
            ("mlp/z:$x", 6..7, "`$` is not allowed"),
            ("mlp/h:[1,2]", 6..8, "no closing `]`"),
            ("mlp/h:[1;;2]", 9..10, "an element of the list of `h` is empty"),
            ("mlp/h:[1;]", 9..10, "an element of the list of `h` is empty"),
            ("mlp/h:[1]2", 9..10, "something follows the `]`"),
            ("mlp/h:1;2", 7..8, "`;` cannot stand in the value of `h`"),
            ("mlp/h:[[1]]", 10..11, "something follows"),
        ];
        for (text, span, fragment) in table {
            let error = parse(text).unwrap_err();
            assert!(error.message.contains(fragment), "{text:?}: {error}");
            assert_eq!(error.span, span, "{text:?}: {error}");
            assert!(error.help.is_some(), "{text:?} has no hint");
            assert_eq!(error.text, text);
        }
    }

    #[test]
    fn paths_and_text_in_quotes_are_values() {
        for (text, value) in [
            ("file/path:/data/a.csv", "/data/a.csv"),
            ("file/path:../a/b|x:1", "../a/b"),
            ("file/path:\"a|b, c:é/=\"|x:1", "\"a|b, c:é/=\""),
            ("file/path:\"\\\"\\\\\"", "\"\\\"\\\\\""),
            ("file/path:\"\"", "\"\""),
        ] {
            let parsed = parse(text).unwrap();
            assert_eq!(parsed.params[0].1.value, value, "{text}");
            assert_eq!(&text[parsed.params[0].1.span.clone()], value);
        }
        let table: [(&str, Range<usize>, &str); 6] = [
            ("f/p:\"a", 4..6, "no closing"),
            ("f/p:\"a\"b", 7..8, "something follows"),
            ("f/p:\"a\\b\"", 4..9, "stands alone"),
            ("f/p:\"a\n\"", 6..7, "control character U+000A"),
            ("f/p:a\"b\"", 5..6, "cannot stand in the value of `p`"),
            ("\"f\"/p:1", 0..1, "cannot stand in a component's name"),
        ];
        for (text, span, fragment) in table {
            let error = parse(text).unwrap_err();
            assert!(error.message.contains(fragment), "{text:?}: {error}");
            assert_eq!(error.span, span, "{text:?}: {error}");
        }
    }

    #[test]
    fn the_hint_rewrites_an_equals_sign() {
        assert_eq!(parse("mlp/z=2").unwrap_err().help.as_deref(), Some("write `z:2`"));
    }

    #[test]
    fn ten_megabytes_are_refused_at_once_and_shortly() {
        let text = "é".repeat(5_000_000);
        let started = std::time::Instant::now();
        let error = parse(&text).unwrap_err();
        assert!(started.elapsed() < std::time::Duration::from_millis(50));
        assert!(error.message.contains("at most 4096 bytes, this one has 10000000"));
        assert!(error.to_string().len() < 400);
        assert!(parse(&"a".repeat(MAX_LENGTH)).is_ok());
        assert!(parse(&"a".repeat(MAX_LENGTH + 1)).is_err());
    }

    fn inside(error: &ComponentError) -> bool {
        error.text.get(error.span.clone()).is_some() && !error.to_string().is_empty()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_string_parses_or_fails_inside_itself(text in any_text()) {
            if let Err(error) = parse(&text) {
                prop_assert!(inside(&error));
            }
        }

        #[test]
        fn strings_of_the_grammars_own_alphabet_never_panic(text in text_of("ab1/|,:;=é []\"\\.+-", 0..=24)) {
            match parse(&text) {
                Ok(parsed) => {
                    prop_assert!(is_word(&parsed.name.value));
                    for (key, value) in &parsed.params {
                        prop_assert_eq!(&text[key.span.clone()], &key.value);
                        prop_assert_eq!(&text[value.span.clone()], &value.value);
                    }
                }
                Err(error) => prop_assert!(inside(&error)),
            }
        }
    }
}
