//! YAML that people write: configurations, sweeps, templates. What is wrong with it is said in their words, with file, line and column.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_saphyr::{Error, MessageFormatter, NonFiniteFloatPolicy, Spanned, UserMessageFormatter};

use super::atomic::{self, StorageError};
use crate::plain::{expectation, plain};

/// Most values that aliases (`*name`) of a YAML text may repeat in all, so that a few lines cannot stand for millions.
const MAX_REPEATED: usize = 10_000;

/// Why a YAML file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    /// It cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Its text is not YAML, or holds something else than is expected there.
    #[error("`{}`{reason}", .path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Continues its name: place and problem.
        reason: String,
    },
}

/// Reads a YAML file that somebody wrote by hand, or whose seal does not matter.
///
/// # Errors
/// File, line and column when it is not YAML, or not a `T`.
pub fn read_yaml<T: DeserializeOwned>(path: &Path) -> Result<T, YamlError> {
    let failed = |reason: String| YamlError::Text { path: path.to_path_buf(), reason };
    let text = String::from_utf8(atomic::read(path)?).map_err(|e| failed(format!(" is no text: not valid UTF-8: {e}")))?;
    let name = path.file_name().map_or_else(|| path.to_string_lossy(), OsStr::to_string_lossy);
    parse(&text, NonFiniteFloatPolicy::AsString).map_err(|error| failed(told(&error, &name)))
}

/// Reads YAML text.
///
/// # Errors
/// Line, column and cause when the text is not a `T`.
pub fn yaml_from_str<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    parse(text, NonFiniteFloatPolicy::PassThrough)
        .map_err(|error| told(&error, "text").trim_start_matches([',', ' ']).trim_start_matches("is ").to_owned())
}

/// Line of a YAML file in which `key` stands, a key of its outermost map.
pub fn line_of(path: &Path, key: &str) -> Option<u64> {
    let text = String::from_utf8(atomic::read(path).ok()?).ok()?;
    #[expect(clippy::zero_sized_map_values, reason = "of a map of YAML, only the keys are wanted")]
    let map: HashMap<Spanned<String>, IgnoredAny> = parse(&text, NonFiniteFloatPolicy::AsString).ok()?;
    map.keys().find(|known| known.value == key).map(|known| known.referenced.line()).filter(|line| *line > 0)
}

fn parse<T: DeserializeOwned>(text: &str, non_finite: NonFiniteFloatPolicy) -> Result<T, Error> {
    let options = serde_saphyr::options! {
        non_finite_float_policy: non_finite,
        // `y`, `no` and `007` are names and labels as often as they are anything else, so that they stay what was written.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPEATED },
    };
    serde_saphyr::from_str_with_options(text, options)
}

/// Place and problem, to follow the name of the file, and the lines around it.
fn told(error: &Error, name: &str) -> String {
    let options = serde_saphyr::render_options! { formatter: &InPlainWords, source_name: Some(name) };
    let rendered = error.render_with_options(options);
    // The first line of a rendering with lines around the place says where it is and what is wrong, as this does.
    let around = rendered.lines().skip(1).filter(|line| !line.trim().is_empty());
    let around = around.map(|line| format!("\n{line}")).collect::<Vec<_>>().concat();
    let bare = bare(error);
    let place = error.location().filter(|location| location.line() > 0);
    let place = place.map_or_else(String::new, |place| format!(", line {}, column {}", place.line(), place.column()));
    let kind = if is_about_content(bare) { "" } else { " is not valid YAML" };
    let words = words(bare);
    let (problem, hint) = words.split_once('\n').map_or((words.as_str(), String::new()), |(problem, hint)| (problem, format!("\n{hint}")));
    format!("{kind}{place}: {}{around}{}", visible(problem), hint)
}

/// `text` with control characters as escapes.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// The error within what was wrapped around it.
fn bare(error: &Error) -> &Error {
    match error {
        Error::WithSnippet { error, .. } | Error::AliasError { error, .. } => bare(error),
        other => other,
    }
}

/// Whether the text is YAML, only not what is asked for.
fn is_about_content(error: &Error) -> bool {
    matches!(
        error,
        Error::Unexpected { .. }
            | Error::InvalidScalar { .. }
            | Error::InvalidBooleanStrict { .. }
            | Error::NullIntoString { .. }
            | Error::SerdeInvalidType { .. }
            | Error::SerdeInvalidValue { .. }
            | Error::SerdeInvalidLength { .. }
            | Error::SerdeUnknownVariant { .. }
            | Error::SerdeUnknownField { .. }
            | Error::SerdeMissingField { .. }
            | Error::DuplicateMappingKey { .. }
            | Error::Message { .. }
            | Error::Eof { .. }
    )
}

/// What is wrong, and on further lines what to write instead.
fn words(error: &Error) -> String {
    match error {
        Error::Unexpected { expected, .. } => format!("expected {}", expectation(expected)),
        Error::InvalidScalar { ty, .. } => format!("expected {}", expectation(ty)),
        Error::InvalidBooleanStrict { .. } => "expected `true` or `false`".to_owned(),
        Error::NullIntoString { .. } => "found nothing, expected a word or text".to_owned(),
        Error::SerdeInvalidType { unexpected, expected, .. } => plain(&format!("invalid type: {unexpected}, expected {expected}")),
        Error::SerdeInvalidValue { unexpected, expected, .. } => plain(&format!("invalid value: {unexpected}, expected {expected}")),
        Error::SerdeInvalidLength { len, expected, .. } => plain(&format!("invalid length {len}, expected {expected}")),
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            format!("unknown word `{variant}`, expected one of {}", expected.join(", "))
        }
        Error::SerdeUnknownField { field, expected, .. } => format!("unknown key `{field}`, expected one of {}", expected.join(", ")),
        Error::SerdeMissingField { field, .. } => format!("the key `{field}` is missing"),
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key `{key}` is there twice"),
        Error::DuplicateMappingKey { .. } => "a key is there twice".to_owned(),
        Error::Eof { .. } => "the text ends where something is expected".to_owned(),
        Error::Message { msg, .. } => plain(msg),
        _ => UserMessageFormatter.format_message(error).into_owned(),
    }
}

struct InPlainWords;

impl MessageFormatter for InPlainWords {
    fn format_message<'a>(&self, error: &'a Error) -> Cow<'a, str> {
        Cow::Owned(words(error).lines().next().unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde::Deserialize;
    use serde_json::{Map, Value, json};

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read by the derived code alone")]
    struct Sheet {
        title: Option<String>,
        count: Option<u32>,
        flag: Option<bool>,
        rate: Option<f64>,
        rows: Option<Vec<String>>,
        more: Option<Map<String, Value>>,
    }

    fn error<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.yml");
        fs::write(&path, text).unwrap();
        read_yaml::<T>(&path).unwrap_err().to_string()
    }

    #[test]
    fn what_is_yaml_but_not_what_is_asked_for_is_named_with_its_place_in_plain_words() {
        for (text, words) in [
            ("title: [a]\n", &["line 1, column 8", "expected a word or text", "title: [a]"][..]),
            ("title: a\ncount: many\n", &["line 2, column 8", "expected a whole number of at least 0", "count: many"]),
            ("count: -3\n", &["line 1, column 8", "a whole number of at least 0"]),
            ("flag: perhaps\n", &["line 1, column 7", "`true` or `false`"]),
            ("rate: fast\n", &["expected a number"]),
            ("rows: 3\n", &["expected a list"]),
            ("more: 3\n", &["expected a map of `key: value`"]),
            ("- a\n", &["line 1, column 1", "expected a map of `key: value`"]),
            ("titel: a\n", &["unknown key `titel`", "title"]),
            ("title: a\ntitle: b\n", &["line 2", "the key `title` is there twice"]),
        ] {
            let error = error::<Sheet>(text);
            assert!(words.iter().all(|word| error.contains(word)) && error.contains("mine.yml`, line "), "{text}: {error}");
            for jargon in ["damaged", "not valid YAML", "invalid", "u32", "f64", "struct", "mapping", "Policy", "<input>"] {
                assert!(!error.contains(jargon), "{jargon} is said of {text}: {error}");
            }
        }
        let error = error::<Sheet>("rows: [\n");
        assert!(error.contains("mine.yml` is not valid YAML, line ") && error.contains("bracket"), "{error}");
    }

    #[test]
    fn words_that_older_yaml_takes_for_something_else_stay_words() {
        let read: Value = yaml_from_str("{a: y, b: [n, yes, No, on, OFF], c: 007, d: [-01, 0.5, 10, 0], e: true, y: 1}").unwrap();
        let expected = json!({"a": "y", "b": ["n", "yes", "No", "on", "OFF"], "c": "007", "d": ["-01", 0.5, 10, 0], "e": true, "y": 1});
        assert_eq!(read, expected);
        let sheet: Sheet = yaml_from_str("title: y").unwrap();
        assert_eq!(sheet.title.as_deref(), Some("y"));
        assert!(yaml_from_str::<Sheet>("flag: yes").unwrap_err().contains("`true` or `false`"));
    }

    #[test]
    fn a_key_of_the_outermost_map_has_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.yml");
        fs::write(&path, "# first\na: 1\nb:\n  - 1\nc: {a: 3}\n").unwrap();
        assert_eq!(["a", "b", "c", "d"].map(|key| line_of(&path, key)), [Some(2), Some(3), Some(5), None]);
    }

    #[test]
    fn numbers_that_are_none_do_not_become_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.yml");
        fs::write(&path, "{a: .inf, b: .NaN, c: -.inf}").unwrap();
        assert_eq!(read_yaml::<Value>(&path).unwrap(), json!({"a": ".inf", "b": ".nan", "c": "-.inf"}));
    }
}
