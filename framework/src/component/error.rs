//! The one error type of component strings: the text, the place in it, what is wrong and what to write instead.

use std::fmt;
use std::ops::Range;

use super::grammar::MAX_LENGTH;

/// Bytes kept of a text that is too long to be a component string.
const KEPT: usize = 60;

/// Characters shown on each side of the marked place when the text is long.
const CONTEXT: usize = 60;

/// What is wrong with a component string (or with the map that stands for one in a configuration file).
///
/// `Display` prints several lines: the message, the text with a caret line under [`span`](Self::span), and the hint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ComponentError {
    /// The text the span points into; cut after a few characters when the input was longer than a component string may be.
    pub text: String,
    /// Byte range of the offending place in `text`; always on character boundaries and inside `text`.
    pub span: Range<usize>,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl ComponentError {
    /// An error at `span` of `text`; overlong texts are cut and the span is moved inside what is left.
    #[must_use]
    pub fn new(text: &str, span: Range<usize>, message: impl Into<String>, help: Option<String>) -> Self {
        let text = if text.len() > MAX_LENGTH { format!("{}...", &text[..text.floor_char_boundary(KEPT)]) } else { text.to_owned() };
        let start = text.floor_char_boundary(span.start);
        let end = text.ceil_char_boundary(span.end).max(start);
        Self { text, span: start..end, message: message.into(), help }
    }

    /// An error that concerns the whole of `text`.
    #[must_use]
    pub fn whole(text: &str, message: impl Into<String>, help: Option<String>) -> Self {
        Self::new(text, 0..text.len(), message, help)
    }
}

impl fmt::Display for ComponentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.message)?;
        let before: Vec<char> = self.text[..self.span.start].chars().collect();
        let marked: Vec<char> = self.text[self.span.clone()].chars().collect();
        let after: Vec<char> = self.text[self.span.end..].chars().collect();
        let (lead, left) = if before.len() > CONTEXT { ("...", &before[before.len() - CONTEXT..]) } else { ("", &before[..]) };
        let middle = &marked[..marked.len().min(2 * CONTEXT)];
        let right = if middle.len() < marked.len() { &[][..] } else { &after[..after.len().min(CONTEXT)] };
        let cut = middle.len() < marked.len() || right.len() < after.len();
        let line: String = [left, middle, right].into_iter().flatten().map(|&c| visible(c)).collect();
        writeln!(f, "  {lead}{line}{}", if cut { "..." } else { "" })?;
        write!(f, "  {}{}", " ".repeat(lead.len() + left.len()), "^".repeat(middle.len().max(1)))?;
        match &self.help {
            Some(help) => write!(f, "\nhint: {help}"),
            None => Ok(()),
        }
    }
}

/// A control character would move the caret line away from the text (or act on the terminal), so it is shown as a placeholder.
fn visible(c: char) -> char {
    if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caret_stands_under_the_span() {
        let error = ComponentError::new("mlp/zz:2", 4..6, "unknown key `zz`", Some("did you mean `z`?".into()));
        assert_eq!(error.to_string(), "unknown key `zz`\n  mlp/zz:2\n      ^^\nhint: did you mean `z`?");
    }

    #[test]
    fn caret_counts_characters_not_bytes() {
        let error = ComponentError::new("äö/z", 4..5, "m", None);
        assert_eq!(error.to_string(), "m\n  äö/z\n    ^");
    }

    #[test]
    fn an_empty_text_still_gets_a_caret() {
        assert_eq!(ComponentError::new("", 0..0, "m", None).to_string(), "m\n  \n  ^");
    }

    #[test]
    fn spans_are_moved_inside_the_text_and_onto_boundaries() {
        let error = ComponentError::new("aé", 2..90, "m", None);
        assert_eq!(error.span, 1..3);
        let error = ComponentError::new(&"é".repeat(9000), 7000..7001, "m", None);
        assert!(error.text.len() < 80 && error.span.end <= error.text.len());
        assert!(error.to_string().len() < 300);
    }

    #[test]
    fn long_texts_are_shown_around_the_span_without_control_characters() {
        let text = format!("{}\n{}", "a".repeat(1000), "b".repeat(1000));
        let shown = ComponentError::new(&text, 1000..1001, "m", None).to_string();
        assert_eq!(shown.lines().count(), 3);
        assert!(shown.len() < 300 && shown.contains('\u{fffd}'));
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1].chars().position(|c| c == '\u{fffd}'), lines[2].chars().position(|c| c == '^'));
    }
}
