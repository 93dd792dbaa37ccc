//! What the program tells people on stderr. A message is a courtesy: one that cannot be written is lost, and nothing else is.

use std::borrow::Cow;
use std::fmt;
use std::io::{Result, Write};

use crate::exit::Failure;
use ibhost_framework::text::visible;

/// Writes a line to stderr as `eprintln!` does, which panics where nobody can read it: a closed pipe, a full disk, a terminal that is gone.
macro_rules! say {
    ($($words:tt)*) => { $crate::messages::write(format_args!($($words)*)) };
}
pub(crate) use say;

/// The line behind [`say!`], with what would steer the terminal shown as escapes.
pub fn write(line: fmt::Arguments<'_>) {
    show(visible(&line.to_string()).as_ref());
}

/// Writes `failure` to stderr, which may have colours of its own and nothing else that steers a terminal.
pub fn fail(failure: &Failure) {
    show(&failure.to_string());
}

/// Prints clap's `error`, or the help that was asked for, with its colours; one that repeats what would steer the terminal has none, and shows
/// that as escapes.
pub fn print_clap(error: &clap::Error) -> Result<()> {
    let plain = error.to_string();
    match visible(&plain) {
        Cow::Borrowed(_) => error.print(),
        Cow::Owned(shown) if error.use_stderr() => std::io::stderr().write_all(shown.as_bytes()),
        Cow::Owned(shown) => std::io::stdout().write_all(shown.as_bytes()),
    }
}

/// Written at once, so that lines of several threads do not mix.
fn show(line: &str) {
    // What cannot be said cannot be said about that either.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Stderr for libraries that would complain, there, about what they cannot write there.
#[derive(Clone, Copy, Debug)]
pub struct Courtesy;

impl Write for Courtesy {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let _ = std::io::stderr().write_all(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
