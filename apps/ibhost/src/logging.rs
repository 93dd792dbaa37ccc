//! Log messages: to stderr by verbosity, and everything of a run to its log.txt.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing_subscriber::Layer;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::{FormatFields, MakeWriter, format};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::text::visible;

/// A log file that is named only once the run's folder exists; what comes before is not kept.
#[derive(Clone, Debug, Default)]
pub struct RunLog(Arc<Mutex<Option<File>>>);

impl RunLog {
    /// Sends all further messages to `file` too.
    pub fn open(&self, file: File) {
        if let Ok(mut slot) = self.0.lock() {
            *slot = Some(file);
        }
    }

    /// What `write` returns for the file, `without` where there is none.
    fn with_file<R>(&self, without: R, write: impl FnOnce(&mut File) -> R) -> R {
        match self.0.lock() {
            Ok(mut slot) => slot.as_mut().map_or(without, write),
            Err(_) => without,
        }
    }
}

impl Write for RunLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.with_file(Ok(bytes.len()), |file| file.write(bytes))
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.with_file(Ok(()), File::flush)
    }
}

impl<'a> MakeWriter<'a> for RunLog {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Sets up logging once; returns the handle that a run points at its log.txt.
pub fn start(verbose: u8, quiet: bool) -> RunLog {
    let level = match (quiet, verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    let log = RunLog::default();
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let terminal = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .without_time()
        .with_target(false)
        .fmt_fields(seen())
        .with_filter(level);
    let file = tracing_subscriber::fmt::layer().with_writer(log.clone()).with_ansi(false).with_filter(LevelFilter::INFO);
    // A host may have set up logging of its own; that one then stays.
    let _ = tracing_subscriber::registry().with(terminal).with(file).try_init();
    log
}

/// Fields of messages for a terminal: names and texts in them may come from somebody else.
fn seen() -> impl for<'writer> FormatFields<'writer> {
    format::debug_fn(|writer, field, value| {
        let name = if field.name() == "message" { String::new() } else { format!("{}=", field.name()) };
        write!(writer, "{}", visible(&format!("{name}{value:?}")))
    })
    .delimited(" ")
}
