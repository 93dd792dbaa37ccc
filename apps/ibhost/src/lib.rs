//! Command line of ibhost. A host with other plugins links them (`use my_plugin as _;`) and calls [`main`].

mod cli;
mod commands;
mod exit;
mod kept;
mod logging;
mod panics;
mod paths;
mod progress;
mod report;
mod results;
mod sweep_progress;
mod table;
mod text;
mod together;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: ibhost_kernels::Allocator = ibhost_kernels::Allocator;

/// Runs the command line of this process and returns its exit code (see [`exit`] codes in `ibhost --help`).
pub fn main() -> ExitCode {
    panics::remember();
    // A closed pipe (`ibhost list | head`) is not an error of ours.
    let arguments = match cli::Cli::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { exit::USAGE } else { 0 };
            // Nothing can be reported when the terminal itself is gone.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match std::panic::catch_unwind(|| commands::dispatch(arguments)) {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(failure)) => {
            eprintln!("{failure}");
            ExitCode::from(failure.code())
        }
        Err(_) => {
            eprintln!(
                "error: this is a bug in ibhost: {}\n  hint: a run's summary.yml and log.txt say the same, and what it saved before is sound \
                 (`ibhost verify`); report these lines with the command line",
                text::visible(&panics::last().unwrap_or_else(|| "it panicked without a message".to_owned()))
            );
            ExitCode::from(exit::BUG)
        }
    }
}
