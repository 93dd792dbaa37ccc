//! Trials as child processes on this machine, so many at once, each with its share of the threads and a log of its own.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ibhost_framework::storage::{StorageError, inside};

use crate::error::SweepError;
use crate::folder::SweepFolder;
use crate::pool::Pool;
use crate::process::{describe, spawn, this_program};
use crate::state::{TrialFolder, TrialRecord, TrialStatus};

/// Exit code of a trial that was stopped on request after saving.
const INTERRUPTED: i32 = 130;
/// Time between reports of progress.
const REPORT: Duration = Duration::from_millis(500);

/// How to launch.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program that runs a trial; this very one without it.
    pub program: Option<PathBuf>,
    /// Whether a trial whose process ended well has done its work; if not, why.
    pub done: fn(&TrialFolder) -> Result<(), String>,
    /// Its arguments before the trial's folder.
    pub before: Vec<String>,
    /// Its arguments after the trial's folder.
    pub after: Vec<OsString>,
    /// Trials at once.
    pub jobs: usize,
    /// Whether the first failure stops the others.
    pub fail_fast: bool,
}

/// Sees how a launch goes.
pub trait Watcher {
    /// A trial began.
    fn started(&mut self, number: usize);
    /// A trial ended as its record says; so many are `left` to be started.
    fn ended(&mut self, number: usize, record: &TrialRecord, left: usize);
    /// Time passes while the trials in `running` work.
    fn tick(&mut self, running: &[(usize, TrialFolder)]);
}

struct Running {
    number: usize,
    folder: TrialFolder,
    begun: Instant,
    /// The attempt before this one.
    before: u32,
}

/// Runs the trials called `numbers`. `stop` counts requests to stop: at the first, trials save and end; at the second, they are killed.
///
/// # Errors
/// When no child can be started or the disk refuses; children that run are stopped in order first. Once all others have ended, when the folder
/// of a trial is a link or holds one in place of a file of its own.
pub fn launch(
    sweep: &SweepFolder,
    numbers: &[usize],
    launch: &Launch,
    watcher: &mut dyn Watcher,
    stop: &AtomicUsize,
) -> Result<(), SweepError> {
    let mut queue: VecDeque<usize> = numbers.iter().copied().collect();
    let mut pool: Pool<Running> = Pool::default();
    let (mut failed, mut trouble, mut refused, mut reported) = (false, None, None, Instant::now());
    loop {
        for (trial, status) in pool.ended().map_err(|error| SweepError::system("wait for a trial", error))? {
            match conclude(&trial, status, launch.done) {
                Ok(record) => {
                    failed |= record.status == TrialStatus::Failed;
                    watcher.ended(trial.number, &record, queue.len());
                }
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        pool.obey(stop.load(Ordering::Relaxed).max(usize::from(trouble.is_some() || (failed && launch.fail_fast))));
        // A trial that a process of an earlier launch still works on waits at the end of the queue.
        let mut looked_at = 0;
        while !pool.is_stopped() && pool.running().len() < launch.jobs && looked_at < queue.len() {
            let Some(number) = queue.pop_front() else { break };
            let folder = sweep.trial(number);
            if folder.is_held() {
                queue.push_back(number);
                looked_at += 1;
                continue;
            }
            let before = folder.record();
            if before.as_ref().is_some_and(|record| record.status == TrialStatus::Completed) {
                continue;
            }
            match start(&folder, launch) {
                Ok(child) => {
                    watcher.started(number);
                    let before = before.map_or(0, |record| record.attempt);
                    pool.push(Running { number, folder, begun: Instant::now(), before }, child);
                }
                // That trial is not touched, and the others have nothing to do with it.
                Err(error @ SweepError::Storage(StorageError::NotPlain { .. })) => {
                    tracing::warn!("trial {number} is not started: {error}");
                    refused = refused.or(Some(error));
                }
                Err(error) => {
                    trouble = Some(error);
                    break;
                }
            }
        }
        if pool.running().len() == 0 && (queue.is_empty() || pool.is_stopped()) {
            return trouble.or(refused).map_or(Ok(()), Err);
        }
        if reported.elapsed() >= REPORT {
            watcher.tick(&pool.running().map(|trial| (trial.number, trial.folder.clone())).collect::<Vec<_>>());
            reported = Instant::now();
        }
        pool.pause();
    }
}

fn start(folder: &TrialFolder, launch: &Launch) -> Result<Child, SweepError> {
    folder.create()?;
    let path = folder.log_path();
    let cannot = |source| SweepError::system(format!("write `{}`", path.display()), source);
    let log = inside::open_append(&path)?;
    let errors = log.try_clone().map_err(cannot)?;
    let cannot = |source| SweepError::system("start a trial".to_owned(), source);
    let mut command = match &launch.program {
        Some(program) => Command::new(program),
        None => this_program().map_err(cannot)?,
    };
    command.args(&launch.before).arg(folder.path()).args(&launch.after).stdin(Stdio::null()).stdout(log).stderr(errors);
    spawn(&mut command).map_err(cannot)
}

/// The record of a trial whose process has ended; what the process could not write itself is written here.
fn conclude(trial: &Running, status: ExitStatus, done: fn(&TrialFolder) -> Result<(), String>) -> Result<TrialRecord, SweepError> {
    let written = trial.folder.record().filter(|record| record.attempt > trial.before);
    if let Some(record) = &written
        && record.status != TrialStatus::Running
    {
        return Ok(record.clone());
    }
    let mut record = match written {
        Some(record) => record,
        None => trial.folder.begin(None)?,
    };
    let (end, outside) = describe(status);
    (record.status, record.reason) = match status.code() {
        Some(0) => match done(&trial.folder) {
            Ok(()) => (TrialStatus::Completed, None),
            Err(reason) => (TrialStatus::Failed, Some(format!("its process ended well, but {reason}"))),
        },
        Some(INTERRUPTED) => (TrialStatus::Interrupted, Some("interrupted on request".to_owned())),
        _ if outside => (TrialStatus::Interrupted, Some(end)),
        _ => {
            let words = trial.folder.last_words().map_or(end.clone(), |words| format!("{end}; {words}"));
            (TrialStatus::Failed, Some(words))
        }
    };
    record.seconds = trial.begun.elapsed().as_secs_f64();
    trial.folder.write(&record)?;
    Ok(record)
}
