//! Exit codes and the one error type the commands end with.

use std::fmt;

use ibhost_framework::component::ComponentError;
use ibhost_framework::engine::EngineError;
use ibhost_framework::run::ConfigError;
use ibhost_sweep::SweepError;
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report};

use ibhost_framework::text::{one_line, visible};

/// The command was understood, but what it asked for failed.
pub const FAILED: u8 = 1;
/// The command line, configuration, data folder or device is not usable.
pub const USAGE: u8 = 2;
/// A bug: the program panicked.
pub const BUG: u8 = 101;
/// Stopped by Ctrl-C or a termination signal after saving.
pub const INTERRUPTED: u8 = 130;

/// Longest line of a message, in characters: a message repeats what was typed, which may be a whole file by mistake.
const LINE: usize = 1000;

/// What ends a command early, ready to be shown.
#[derive(Debug)]
pub struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// A failure of the work itself.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self { message: bounded(&format!("error: {message}")), code: FAILED }
    }

    /// A mistake in what was asked for.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { message: bounded(&format!("error: {message}")), code: USAGE }
    }

    /// With the exit code of another failure.
    pub fn with_code(message: impl fmt::Display, code: u8) -> Self {
        Self { message: bounded(&format!("error: {message}")), code }
    }

    /// Exit code.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// First lines without the `error:` prefix, for `summary.yml`.
    pub fn reason(&self) -> &str {
        self.message.strip_prefix("error: ").unwrap_or(&self.message)
    }

    /// A mistake in a component string, with the place marked. `origin` names the flag or key it stood in.
    pub fn component(origin: &str, error: &ComponentError) -> Self {
        let text = error.text.as_str();
        let place = |end: usize| one_line(text.get(..end).unwrap_or(text)).len();
        let span = place(error.span.start)..place(error.span.end);
        let label = LabeledSpan::new_with_span(Some("here".to_owned()), span);
        let mut diagnostic = MietteDiagnostic::new(visible(&error.message)).with_label(label);
        if let Some(help) = &error.help {
            diagnostic = diagnostic.with_help(visible(help));
        }
        let source = NamedSource::new(one_line(origin), one_line(text).into_owned());
        let report = Report::new(diagnostic).with_source_code(source);
        let mut message = String::new();
        let theme = if std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none() {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::none()
        };
        let rendered = GraphicalReportHandler::new_themed(theme).with_width(120).render_report(&mut message, report.as_ref());
        if rendered.is_err() {
            message = visible(&error.to_string()).into_owned();
        }
        Self { message: format!("error: {}", message.trim_start_matches([' ', '×', 'x', '\n']).trim_end()), code: USAGE }
    }
}

/// `text` with the middle of overlong lines left out, and with what would steer a terminal shown as escapes.
fn bounded(text: &str) -> String {
    let shorten = |line: &str| {
        let count = line.chars().count();
        if count <= LINE {
            return line.to_owned();
        }
        let head: String = line.chars().take(LINE * 3 / 4).collect();
        let tail: String = line.chars().skip(count - LINE / 4).collect();
        format!("{head} ... {tail}")
    };
    visible(text).lines().map(shorten).collect::<Vec<_>>().join("\n")
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Component { key, source } => Self::component(&key, &source),
            ConfigError::Setting(message) => Self::usage(message),
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Component(source) => Self::component("component", &source),
            EngineError::Config(source) => source.into(),
            EngineError::Build(_)
            | EngineError::Data(_)
            | EngineError::OtherData { .. }
            | EngineError::Device(_)
            | EngineError::NoRoom(_)
            | EngineError::Request(_) => Self::usage(error),
            EngineError::Storage(_) | EngineError::NonFinite { .. } | EngineError::Inconsistent { .. } => Self::failed(error),
        }
    }
}

impl From<SweepError> for Failure {
    fn from(error: SweepError) -> Self {
        match error {
            SweepError::Trial { trial, source } => match *source {
                ConfigError::Component { key, source } => Self::component(&format!("{key} of trial {trial}"), &source),
                source @ ConfigError::Setting(_) => Self::usage(SweepError::Trial { trial, source: Box::new(source) }),
            },
            SweepError::Definition { .. } | SweepError::Request(_) | SweepError::Exists(_) | SweepError::Changed { .. } => {
                Self::usage(error)
            }
            SweepError::Locked { .. }
            | SweepError::Storage(_)
            | SweepError::System { .. }
            | SweepError::Slurm { .. }
            | SweepError::Index { .. } => Self::failed(error),
        }
    }
}

impl From<ibhost_framework::storage::StorageError> for Failure {
    fn from(error: ibhost_framework::storage::StorageError) -> Self {
        Self::failed(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_is_repeated_within_reason() {
        let failure = Failure::usage(format!("`{}` is no device\n  hint: write é", "é".repeat(1 << 20)));
        let text = failure.to_string();
        assert!(text.starts_with("error: `éé") && text.ends_with("é` is no device\n  hint: write é"), "{}", text.len());
        assert!(text.chars().count() < LINE + 40);
        assert_eq!(Failure::failed("short").to_string(), "error: short");
    }

    #[test]
    fn what_steers_a_terminal_is_shown_and_the_mark_stays_below_its_word() {
        assert_eq!(Failure::failed("a\u{1b}]0;x\u{7}\n  hint: b").to_string(), "error: a\\u001b]0;x\\u0007\n  hint: b");
        let error = ComponentError::new("m\u{1b}[2J/zz:2", 6..8, "unknown key `zz\u{1b}`", Some("try\u{1b} `z`".into()));
        let text = Failure::component("key\u{1b}", &error).to_string();
        assert!(!text.contains('\u{1b}') && text.contains("m\\u001b[2J/zz:2") && text.contains("try\\u001b"), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        let line = lines.iter().position(|line| line.contains("/zz:2")).unwrap();
        let column = |text: &str, mark: &str| text.chars().count() - text[text.find(mark).unwrap()..].chars().count();
        assert_eq!(column(lines[line], "zz:2"), column(lines[line + 1], "^"), "{text}");
    }
}
