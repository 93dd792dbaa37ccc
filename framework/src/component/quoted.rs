//! Text in quotes: values that hold more than the characters of words and plain paths.
//!
//! `"a b.csv"` is the text between the quotes, in which `\"` and `\\` stand for `"` and `\`.

use std::borrow::Cow;

use super::grammar::is_word_char;

/// Whether `c` may stand in a value without quotes: a character of words, or the `/` of paths.
pub(super) const fn is_bare_char(c: char) -> bool {
    is_word_char(c) || c == '/'
}

/// `text` as a value of a component string: as it is where that reads back as the same, in quotes elsewhere.
pub fn literal(text: &str) -> Cow<'_, str> {
    if !text.is_empty() && text.chars().all(is_bare_char) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// The text that the value `raw` stands for; `None` where its quotes are wrong.
pub(super) fn text_in(raw: &str) -> Option<Cow<'_, str>> {
    let Some(inner) = raw.strip_prefix('"') else { return Some(Cow::Borrowed(raw)) };
    let inner = inner.strip_suffix('"')?;
    if !inner.contains('\\') {
        return (!inner.contains('"')).then_some(Cow::Borrowed(inner));
    }
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => text.push(characters.next().filter(|c| matches!(c, '\\' | '"'))?),
            '"' => return None,
            c => text.push(c),
        }
    }
    Some(Cow::Owned(text))
}

/// Where the quotes that begin `text` end, in bytes: behind the closing one.
pub(super) fn end_of_quotes(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().skip(1).find_map(|(at, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::fixture::{any_text, text_of};
    use proptest::prelude::*;

    #[test]
    fn words_and_plain_paths_need_no_quotes() {
        for text in ["a", "1e-3", "./data/x.csv", "/data/mnist.npz"] {
            assert_eq!(literal(text), text);
        }
        assert_eq!(literal(""), "\"\"");
        assert_eq!(literal("my data/é \"1\".csv"), "\"my data/é \\\"1\\\".csv\"");
        assert_eq!(text_in("\"a\\b\""), None, "only quotes and backslashes are escaped");
        assert_eq!((text_in("\"a"), text_in("\"a\"b\"")), (None, None));
    }

    proptest! {
        #[test]
        fn any_text_reads_back(text in any_text(), tail in text_of("az|,\"\\", 0..=4)) {
            let literal = literal(&text).into_owned();
            let read = text_in(&literal);
            prop_assert_eq!(read.as_deref(), Some(text.as_str()));
            if literal.starts_with('"') {
                prop_assert_eq!(end_of_quotes(&format!("{literal}{tail}")), Some(literal.len()));
            }
        }
    }
}
