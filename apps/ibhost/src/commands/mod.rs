//! The commands, one file each.

mod analyze;
mod catalogue;
mod compare;
mod data;
mod describe;
mod devices;
mod generate;
mod inspect;
mod list;
mod list_runs;
mod new_plugin;
mod replaced;
mod report;
mod resume;
mod run;
mod seeds;
mod sweep;
mod trial;
mod verify;

use std::path::Path;

use ibhost_framework::finished::FinishedRun;
use ibhost_framework::identity::OtherDataPolicy;
use ibhost_framework::storage::{RunDir, StorageError};
use ibhost_sweep::folder::axes_of;

use crate::cli::{Cli, Command};
use crate::exit::Failure;
use crate::logging;
use crate::paths::show;
use crate::program;
pub use seeds::Seeds;

/// Runs the command and returns the exit code.
pub fn dispatch(cli: Cli) -> Result<u8, Failure> {
    let log = logging::start(cli.verbose, cli.quiet);
    ibhost_kernels::keep_freed_memory();
    if cli.threads == Some(0) {
        return Err(Failure::usage("--threads must be at least 1"));
    }
    // This thread belongs to the pool, so that a parallel loop begins at once; from outside each one would wake a thread and wait for it.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(cli.threads.unwrap_or_default()).use_current_thread().build_global();
    if let (Err(error), Some(threads)) = (pool, cli.threads) {
        return Err(Failure::failed(format!("cannot start {threads} threads: {error}")));
    }
    if matches!(cli.command, Command::Run(_) | Command::Resume(_) | Command::Sweep(_) | Command::Trial(_) | Command::Analyze(_)) {
        program::prepare();
    }
    let (quiet, log) = (cli.quiet, &log);
    match cli.command {
        Command::Run(arguments) => run::run(&arguments, quiet, log),
        Command::Resume(arguments) => resume::resume(&arguments, quiet, log),
        Command::List(arguments) => list::list(&arguments),
        Command::Sweep(arguments) => sweep::sweep(&arguments, cli.threads, quiet),
        Command::Trial(arguments) => trial::trial(&arguments, quiet, log),
        Command::Runs(arguments) => list_runs::list_runs(&arguments),
        Command::Describe(arguments) => describe::describe(&arguments),
        Command::Analyze(arguments) => analyze::analyze(&arguments),
        Command::Compare(arguments) => compare::compare(&arguments),
        Command::Evaluate(arguments) => Err(replaced::replaced("evaluate", &arguments.words)),
        Command::Plot(arguments) => Err(replaced::replaced("plot", &arguments.words)),
        Command::Report(arguments) => report::report_command(&arguments),
        Command::Tabulate(arguments) => Err(replaced::replaced("tabulate", &arguments.words)),
        Command::Verify(arguments) => verify::verify(&arguments),
        Command::Data(command) => data::data(&command, quiet),
        Command::Devices(arguments) => devices::devices(&arguments),
        Command::NewPlugin(arguments) => new_plugin::new_plugin(&arguments),
        Command::Completions(arguments) => generate::completions(&arguments),
        Command::Man => generate::man(),
    }
}

/// Opens the run in `path`, with the axes of the sweep it belongs to.
pub fn open_run(path: &Path, policy: OtherDataPolicy) -> Result<FinishedRun, Failure> {
    check_run_folder(path)?;
    let mut run = FinishedRun::open(path, policy)?;
    run.axes = axes_of(path);
    Ok(run)
}

/// Refuses a path that is not the folder of a run, which is a mistake in the request and not in the run.
fn check_run_folder(path: &Path) -> Result<(), Failure> {
    match RunDir::open_read_only(path) {
        Ok(_) => Ok(()),
        Err(error @ StorageError::Foreign { .. }) => {
            Err(Failure::usage(format!("{error}\n  hint: name the folder that `ibhost run` printed, e.g. runs/<encoder>-<objective>-...")))
        }
        Err(StorageError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Err(Failure::usage(format!(
            "there is no run `{}`\n  hint: check the spelling; `ibhost run` prints the folder of a run",
            show(path)
        ))),
        Err(error) => Err(error.into()),
    }
}
