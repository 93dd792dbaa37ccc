//! Log messages: to stderr by verbosity, and everything of a run to its log.txt.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use ibhost_framework::storage::LogFile;
use tracing_subscriber::Layer;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::{FormatFields, MakeWriter, format};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::messages::{Courtesy, say};
use ibhost_framework::text::visible;

/// A log file that is named only once the run's folder exists; what comes before is not kept.
#[derive(Clone, Debug, Default)]
pub struct RunLog(Arc<Mutex<Option<Open>>>);

#[derive(Debug)]
struct Open {
    file: LogFile,
    /// Whether somebody was told that it cannot be written.
    told: bool,
}

impl RunLog {
    /// Sends all further messages to `file` too.
    pub fn open(&self, file: LogFile) {
        if let Ok(mut slot) = self.0.lock() {
            *slot = Some(Open { file, told: false });
        }
    }

    /// Does `write` to the file if there is one. A log that cannot be written is no reason to end the work; it is said once.
    fn with_file(&self, write: impl FnOnce(&mut LogFile) -> io::Result<()>) {
        let Ok(mut slot) = self.0.lock() else { return };
        let Some(open) = slot.as_mut() else { return };
        if let Err(error) = write(&mut open.file)
            && !std::mem::replace(&mut open.told, true)
        {
            say!("WARN the run's log.txt cannot be written: {error}");
        }
    }
}

impl Write for RunLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with_file(|file| file.write_all(bytes));
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.with_file(LogFile::flush);
        Ok(())
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
        .with_writer(|| Courtesy)
        .log_internal_errors(false)
        .with_ansi(colour)
        .without_time()
        .with_target(false)
        .fmt_fields(seen())
        .with_filter(level);
    let file = tracing_subscriber::fmt::layer().with_writer(log.clone()).log_internal_errors(false).with_ansi(false);
    let file = file.with_filter(LevelFilter::INFO);
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
