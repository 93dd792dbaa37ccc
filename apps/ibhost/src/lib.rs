//! Command line of ibhost. A host with other plugins links them (`use my_plugin as _;`) and calls [`main`].

// They panic where nobody can read what they print; see `messages` and `table::print`.
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod accepted;
mod cli;
mod commands;
mod exit;
mod logging;
mod messages;
mod panics;
mod paths;
mod program;
mod progress;
mod report;
mod signals;
mod sweep_progress;
mod table;
mod together;

use std::process::ExitCode;

use clap::Parser;

use messages::say;

#[global_allocator]
static ALLOCATOR: ibhost_kernels::Allocator = ibhost_kernels::Allocator;

/// Runs the command line of this process and returns its exit code (see [`exit`] codes in `ibhost --help`).
pub fn main() -> ExitCode {
    #[cfg(unix)]
    signals::let_writes_fail();
    panics::remember();
    // A closed pipe (`ibhost list | head`) is not an error of ours.
    let arguments = match cli::Cli::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A mistake stays one, whether or not somebody can read the message; help that cannot be written is none.
            let code = match messages::print_clap(&error) {
                _ if error.use_stderr() => exit::USAGE,
                Err(lost) if lost.kind() != std::io::ErrorKind::BrokenPipe => exit::FAILED,
                _ => 0,
            };
            return ExitCode::from(code);
        }
    };
    // What a trial prints is for its log; its result is in its folder.
    let prints_results = !matches!(arguments.command, cli::Command::Trial(_));
    let ended = std::panic::catch_unwind(|| match commands::dispatch(arguments)? {
        0 if prints_results => table::lost().map_or(Ok(0), Err),
        code => Ok(code),
    });
    match ended {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(failure)) => {
            messages::fail(&failure);
            ExitCode::from(failure.code())
        }
        Err(_) => {
            say!(
                "error: this is a bug in ibhost: {}\n  hint: a run's summary.yml and log.txt say the same, and what it saved before is sound \
                 (`ibhost verify`); report these lines with the command line",
                panics::last().unwrap_or_else(|| "it panicked without a message".to_owned())
            );
            ExitCode::from(exit::BUG)
        }
    }
}
