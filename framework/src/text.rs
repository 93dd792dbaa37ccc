//! Text from files and names of folders, as it may be shown: nothing in it steers a terminal or turns the reading direction.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;

/// Whether a character acts on a terminal or on how its neighbours are read, instead of being seen.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            // Marks of direction, embeddings and isolates; line and paragraph separators; what is invisible, and tags.
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Whether every character is one of ASCII that is seen, as nearly all of long tables are.
pub fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

fn escaped(text: &str, plain: impl Fn(char) -> bool) -> Cow<'_, str> {
    let acts = |c: char| !plain(c) && steers(c);
    if is_plain(text) || !text.chars().any(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !acts(c) => shown.push(c),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            // Pairs of surrogates where one is not enough, so that JSON stays JSON. Writing to a string cannot fail.
            c => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                let _ = write!(shown, "\\u{unit:04x}");
            }),
        }
    }
    Cow::Owned(shown)
}

/// Text of several lines: everything that steers is shown as `\u001b`, lines and tabulators stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

/// Text of one line, such as a name or a cell: the ends of lines are shown as `\n` too.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// Text of `path`, with bytes that are no text as `\xff`, so that two names stay two.
pub fn path_text(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// Text of `path` for messages and tables: on one line, with what would steer a terminal and what is no text shown as escapes.
pub fn show(path: &Path) -> String {
    one_line(&path_text(path)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_shown_and_all_else_stays() {
        assert_eq!(visible("a\u{1b}[31mb\u{9b}2J\u{7}\u{202e}c\r\nd\te"), "a\\u001b[31mb\\u009b2J\\u0007\\u202ec\\r\nd\te");
        assert_eq!(one_line("a\nb\tc\u{e0041}"), "a\\nb\\tc\\udb40\\udc41");
        for plain in ["", "plain", "é ± · 漢字 🦀 I(X;Z)", "C:\\x\\n"] {
            assert!(matches!(visible(plain), Cow::Borrowed(same) if same == plain) && matches!(one_line(plain), Cow::Borrowed(_)));
        }
        let json = serde_json::json!({ "a\u{1b}\u{9b}\u{e0041}": "\u{202e}\n" });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&visible(&json.to_string())).unwrap(), json);
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_text_or_steer_a_terminal_are_shown_as_escapes() {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::OsStr::from_bytes(b"runs/\x1b[31m\xff\n\xc3\xa9");
        assert_eq!(show(Path::new(name)), "runs/\\u001b[31m\\xff\\n\u{e9}");
    }
}
