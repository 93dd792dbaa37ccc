//! `ibhost trial`: one trial of a sweep in a process of its own. It begins, or goes on from the last checkpoint, then runs the analyses,
//! and says in its state how it ended.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ibhost_framework::dataset::DataRoot;
use ibhost_framework::engine::{Start, Trainer};
use ibhost_framework::finished::DataLibrary;
use ibhost_framework::identity::OtherDataPolicy;
use ibhost_framework::run::{ConfigError, RunConfig};
use ibhost_framework::storage::{Label, RunDir};
use ibhost_sweep::{SweepFolder, TrialFolder, TrialStatus, plan, process, values};

use super::analyze::{self, Asked, View};
use super::open_run;
use super::run::{complete, drive_until};
use crate::cli::{Format, TrialArgs};
use crate::exit::{Failure, INTERRUPTED};
use crate::logging::RunLog;
use crate::messages::say;
use crate::panics;
use crate::paths::{absolute, data_root, show};
use crate::program;
use crate::signals;

/// Environment variable of the allocator: the address space it reserves at a time.
#[cfg(unix)]
const RESERVE: &str = "MIMALLOC_ARENA_RESERVE";

pub fn trial(arguments: &TrialArgs, quiet: bool, log: &RunLog) -> Result<u8, Failure> {
    if let Some(text) = &arguments.memory {
        let bytes = values::bytes(text).map_err(|problem| Failure::usage(format!("--memory: {problem}")))?;
        reserve_little()?;
        process::limit_memory(bytes)?;
    }
    if let Some(planned) = &arguments.program
        && *planned != program::this().key()
    {
        return Err(Failure::usage(format!(
            "this program (version {}) is not the one that started the sweep: its file was replaced since\n  \
             hint: `ibhost sweep FOLDER --resume` goes on with this one, and says so in the record",
            program::version()
        )));
    }
    let stop = stop_on_signal();
    let (sweep, number) = SweepFolder::of_trial(&absolute(&arguments.folder))?;
    let root = data_root(&arguments.data)?;
    let folder = sweep.trial(number);
    folder.create()?;
    let _lock = folder.lock()?;
    if arguments.parent.is_some_and(|parent| !process::end_with(parent)) {
        return Err(Failure::failed("the sweep that started this trial is gone"));
    }
    if folder.record().is_some_and(|record| record.status == TrialStatus::Completed) {
        say!("trial {number} is complete; nothing to do");
        return Ok(0);
    }
    let job =
        std::env::var("SLURM_ARRAY_JOB_ID").ok().zip(std::env::var("SLURM_ARRAY_TASK_ID").ok()).map(|(job, task)| format!("{job}_{task}"));
    let mut record = folder.begin(job)?;
    let begun = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| work(&sweep, number, &folder, &root, quiet, log, &stop)));
    (record.status, record.reason) = match &result {
        Ok(Ok(INTERRUPTED)) => (TrialStatus::Interrupted, Some("interrupted on request".to_owned())),
        Ok(Ok(_)) => (TrialStatus::Completed, None),
        Ok(Err(failure)) => (TrialStatus::Failed, Some(failure.reason().to_owned())),
        Err(_) => (TrialStatus::Failed, Some(format!("a bug in ibhost: {}", panics::last().unwrap_or_default()))),
    };
    record.seconds = begun.elapsed().as_secs_f64();
    folder.write(&record)?;
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Lets the allocator reserve little address space ahead of need, which would count against a limit. It asks for this before `main`, so the
/// process starts anew.
fn reserve_little() -> Result<(), Failure> {
    #[cfg(unix)]
    if std::env::var_os(RESERVE).is_none() {
        let restarted = process::this_program()
            .map(|mut command| std::os::unix::process::CommandExt::exec(command.args(std::env::args_os().skip(1)).env(RESERVE, "64MiB")));
        let error = restarted.unwrap_or_else(|error| error);
        return Err(Failure::failed(format!("cannot start anew under a limit on memory: {error}\n  hint: leave --memory out")));
    }
    Ok(())
}

/// Trains to the end or to a signal, then analyses.
fn work(
    sweep: &SweepFolder,
    number: usize,
    folder: &TrialFolder,
    root: &DataRoot,
    quiet: bool,
    log: &RunLog,
    stop: &AtomicBool,
) -> Result<u8, Failure> {
    let plan = &sweep.plan;
    let trial = plan.trial(number).ok_or_else(|| Failure::usage(format!("there is no trial {number}")))?;
    say!("trial {}", trial.title());
    let config = plan.resolve(trial)?;
    let trainer = match folder.settle()? {
        None => {
            let command = [vec!["ibhost".to_owned()], plan::command(&config)].concat();
            let dataset = config.data_name().map_err(|source| ConfigError::Component { key: "dataset".to_owned(), source })?;
            let start = Start { command, program: program::this(), data: sweep.data_of(&dataset)? };
            let trainer = Trainer::create(config, root, folder.path(), start)?;
            sweep.keep_data(&dataset, &trainer.session.loaded)?;
            Some(trainer)
        }
        // Whatever sound checkpoint is taken, the end is the same.
        Some(path) => {
            check_own(&path, &config)?;
            let trainer = Trainer::resume(&path, root, true, &program::this())?;
            if trainer.is_none() {
                complete(&path, &DataLibrary::new(root.clone()), stop)?;
            }
            trainer
        }
    };
    let (mut library, mut finished) = (DataLibrary::new(root.clone()), None);
    if let Some(mut trainer) = trainer {
        library = trainer.library(root);
        let code;
        (code, finished) = drive_until(&mut trainer, &library, Format::Table, quiet, log, stop)?;
        if code != 0 {
            return Ok(code);
        }
    }
    if plan.definition.analyses.is_empty() {
        return Ok(0);
    }
    let run = folder.run_dir().ok_or_else(|| Failure::failed(format!("the run in `{}` is gone", show(folder.path()))))?;
    let finished = finished.map_or_else(|| open_run(&run, OtherDataPolicy::Refuse), Ok)?;
    for request in &plan.definition.analyses {
        if stop.load(Ordering::Relaxed) {
            return Ok(INTERRUPTED);
        }
        let label: Label = request.checkpoint.parse().map_err(|e: String| Failure::usage(format!("analyses: {e}")))?;
        let asked = Asked::read(&request.analysis)?;
        analyze::recorded(&run, || analyze::one(&finished, &library, &asked, View::new(label, request.average)))?;
        say!("analysed with {}", request.analysis);
    }
    Ok(0)
}

/// Refuses a run in the trial's folder that is not this trial's, as when folders were moved.
fn check_own(path: &Path, planned: &RunConfig) -> Result<(), Failure> {
    let run = RunDir::open_read_only(path)?;
    // Settings that cannot be read are named when the run is continued.
    let Ok(config) = run.read_config().map_err(Failure::failed).and_then(|config| Ok(RunConfig::from_json(config)?)) else { return Ok(()) };
    let [planned, found] = [planned, &config].map(|config| serde_json::to_value(config).unwrap_or_default());
    let differs = |(key, value): &(&String, &serde_json::Value)| !value.is_null() && found.get(key.as_str()) != Some(value);
    match planned.as_object().and_then(|planned| planned.iter().find(differs)) {
        None => Ok(()),
        Some((key, value)) => Err(Failure::failed(format!(
            "the run `{}` is not this trial's: its `{key}` is {}, the trial's is {value}\n  \
             hint: move it to the trial it belongs to, or elsewhere, and this trial begins anew",
            show(path),
            found.get(key).unwrap_or_default(),
        ))),
    }
}

/// A flag that a signal sets. Launchers may send several for one request, so that further ones change nothing; only SIGKILL is faster.
fn stop_on_signal() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    signals::listen(
        move |_| {
            flag.store(true, Ordering::Relaxed);
            say!("finishing the step and saving");
        },
        || {},
    );
    stop
}
