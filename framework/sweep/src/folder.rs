//! The folder of a sweep, `<output-dir>/sweeps/<name>/`: `sweep.json` with its definition, `trials/` with a folder for each trial.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use ibhost_framework::component::text_of;
use ibhost_framework::csv_text::csv_text;
use ibhost_framework::storage::run_dir::local_time;
use ibhost_framework::storage::{StorageError, write_atomic};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::definition::Definition;
use crate::error::SweepError;
use crate::plan::{Plan, Trial, labels as labels_of};
use crate::process::FolderLock;
use crate::state::{TrialFolder, TrialState, TrialStatus};
use crate::store::record::RunRecord;

pub(crate) const SWEEP_FILE: &str = "sweep.json";
const FORMAT: &str = "ibhost-sweep";
const VERSION: u32 = 1;

/// Content of `sweep.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    format: String,
    version: u32,
    created: String,
    program: String,
    /// Hash of all resolved configurations.
    trials: String,
    definition: Definition,
}

/// An existing sweep.
#[derive(Debug)]
pub struct SweepFolder {
    path: PathBuf,
    /// Its trials.
    pub plan: Plan,
}

impl SweepFolder {
    /// Where a sweep called `name` lies.
    pub fn place(output_dir: &Path, name: &str) -> PathBuf {
        output_dir.join("sweeps").join(name)
    }

    /// Checks every trial, then creates the folder of the sweep, or opens it again when `resume` says so and the definition is the same.
    ///
    /// # Errors
    /// [`SweepError::Exists`] and [`SweepError::Changed`], a trial that cannot be resolved, what the disk refused.
    pub fn begin(path: &Path, plan: Plan, resume: bool, program: &str) -> Result<Self, SweepError> {
        let trials = plan.check_trials()?;
        let file = path.join(SWEEP_FILE);
        if !file.exists() {
            fs::create_dir_all(path.join("trials")).map_err(|e| SweepError::system(format!("create `{}`", path.display()), e))?;
            let definition = plan.definition.clone();
            let stored =
                Stored { format: FORMAT.into(), version: VERSION, created: local_time(), program: program.into(), trials, definition };
            write(&file, &stored)?;
            return Ok(Self { path: path.to_path_buf(), plan });
        }
        if !resume {
            return Err(SweepError::Exists(path.to_path_buf()));
        }
        let stored = read(&file)?;
        let mut changes = stored.definition.changes(&plan.definition);
        if changes.is_empty() && stored.trials != trials {
            changes.push(format!(
                "version {} of ibhost, which began it, gave the same settings other defaults than {program}",
                stored.program
            ));
        }
        if !changes.is_empty() {
            return Err(SweepError::Changed { path: path.to_path_buf(), changes });
        }
        // Another report or launcher, as the trials are the same.
        if stored.definition != plan.definition {
            write(&file, &Stored { definition: plan.definition.clone(), ..stored })?;
        }
        Ok(Self { path: path.to_path_buf(), plan })
    }

    /// Opens the sweep in `path`.
    ///
    /// # Errors
    /// When there is none or its file is damaged.
    pub fn open(path: &Path) -> Result<Self, SweepError> {
        Ok(Self { path: path.to_path_buf(), plan: Plan::new(Self::definition(path)?)? })
    }

    /// The definition of the sweep in `path`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn definition(path: &Path) -> Result<Definition, SweepError> {
        let file = path.join(SWEEP_FILE);
        if !file.is_file() {
            let problem = format!("`{}` is not the folder of a sweep (it has no `{SWEEP_FILE}`)", path.display());
            return Err(SweepError::Request(format!("{problem}\n  hint: name a sweep file, or a folder such as runs/sweeps/<name>")));
        }
        Ok(read(&file)?.definition)
    }

    /// The sweep and the number of the trial whose folder is `path`.
    ///
    /// # Errors
    /// When it is not the folder of a trial.
    pub fn of_trial(path: &Path) -> Result<(Self, usize), SweepError> {
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        let sweep = path.parent().filter(|parent| parent.ends_with("trials")).and_then(Path::parent);
        let wrong = || {
            let shown = path.display();
            SweepError::Request(format!("`{shown}` is not the folder of a trial\n  hint: it looks like runs/sweeps/<name>/trials/000007"))
        };
        let (Some(number), Some(sweep)) = (number, sweep) else { return Err(wrong()) };
        let sweep = Self::open(sweep)?;
        if sweep.plan.trial(number).is_none() {
            return Err(SweepError::Request(format!("the sweep `{}` has no trial {number}", sweep.path.display())));
        }
        Ok((sweep, number))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of a trial.
    pub fn trial(&self, number: usize) -> TrialFolder {
        TrialFolder::new(self.path.join("trials").join(format!("{number:06}")))
    }

    /// Takes the lock that one launching process at a time holds.
    ///
    /// # Errors
    /// [`SweepError::Locked`] naming the other one.
    pub fn lock(&self) -> Result<FolderLock, SweepError> {
        FolderLock::acquire(&self.path)
    }

    /// State of one trial.
    pub fn state(&self, trial: &Trial) -> TrialState {
        let folder = self.trial(trial.number);
        let (status, reason, record) = folder.status();
        let run_dir = record.is_some().then(|| folder.run_dir()).flatten();
        TrialState {
            trial: trial.number,
            axes: trial.labels.iter().cloned().collect(),
            status,
            reason: reason.or_else(|| if run_dir.is_none() { folder.broken_run() } else { None }),
            attempts: record.as_ref().map_or(0, |record| record.attempt),
            seconds: record.as_ref().map_or(0.0, |record| record.seconds),
            run_dir,
            log: folder.log_path(),
            job: record.and_then(|record| record.job),
        }
    }

    /// State of every trial, by number.
    pub fn states(&self) -> Vec<TrialState> {
        self.plan.trials.iter().map(|trial| self.state(trial)).collect()
    }

    /// Numbers of the trials that are not completed.
    pub fn unfinished(&self) -> Vec<usize> {
        let open = |trial: &&Trial| self.trial(trial.number).status().0 != TrialStatus::Completed;
        self.plan.trials.iter().filter(open).map(|trial| trial.number).collect()
    }

    /// Writes `trials.csv`: a row a trial with its state, the value of each axis, and the last measurements of its run among `runs`.
    ///
    /// # Errors
    /// What the disk refused.
    pub fn write_table(&self, states: &[TrialState], runs: &[RunRecord]) -> Result<PathBuf, SweepError> {
        let by_trial: HashMap<usize, &RunRecord> =
            runs.iter().filter(|run| run.status.is_some()).filter_map(|run| Some((run.trial?, run))).collect();
        let metrics: Vec<&[(String, f64)]> =
            states.iter().map(|state| by_trial.get(&state.trial).map_or(&[][..], |run| run.metrics.as_slice())).collect();
        let mut names: Vec<&str> = Vec::new();
        let mut known = HashSet::new();
        for (name, _) in metrics.iter().copied().flatten() {
            if known.insert(name.as_str()) {
                names.push(name);
            }
        }
        let fixed = ["trial", "status", "attempts", "seconds"];
        let header =
            fixed.into_iter().chain(self.plan.axes.iter().map(String::as_str)).chain(names.iter().copied()).chain(["run_dir", "reason"]);
        let mut rows: Vec<Vec<String>> = vec![header.map(str::to_owned).collect()];
        for (state, measured) in states.iter().zip(&metrics) {
            let mut row = vec![
                state.trial.to_string(),
                state.status.as_str().to_owned(),
                state.attempts.to_string(),
                format!("{:.3}", state.seconds),
            ];
            row.extend(self.plan.axes.iter().map(|axis| state.axes.get(axis).map(text_of).unwrap_or_default()));
            let value =
                |name: &&str| measured.iter().find(|(known, _)| known == name).map(|(_, value)| value.to_string()).unwrap_or_default();
            row.extend(names.iter().map(value));
            let run = state.run_dir.as_ref().map(|path| path.strip_prefix(&self.path).unwrap_or(path).display().to_string());
            row.push(run.unwrap_or_default());
            row.push(state.reason.as_deref().and_then(|reason| reason.lines().next()).unwrap_or_default().to_owned());
            rows.push(row);
        }
        let path = self.path.join("trials.csv");
        write_atomic(&path, csv_text(&rows).as_bytes())?;
        Ok(path)
    }
}

/// Folder of the sweep and number of the trial that the run in `run` belongs to, `<sweep>/trials/<number>/<run>`.
pub fn membership(run: &Path) -> Option<(PathBuf, usize)> {
    let absolute = std::path::absolute(run).unwrap_or_else(|_| run.to_path_buf());
    let trial = absolute.parent()?;
    let number = trial.file_name()?.to_str()?.parse().ok()?;
    let sweep = trial.parent().filter(|trials| trials.ends_with("trials"))?.parent()?;
    sweep.join(SWEEP_FILE).is_file().then(|| (sweep.to_path_buf(), number))
}

/// Value of each axis for the run in `run`; of an axis with labels, the label. Nothing for a run that belongs to no sweep.
pub fn axes_of(run: &Path) -> Vec<(String, Value)> {
    let Some((sweep, number)) = membership(run) else { return Vec::new() };
    axes_in(run, &SweepFolder::definition(&sweep).map_err(|error| error.to_string()), number)
}

/// As [`axes_of`], for a run that is the trial `number` of a sweep that is known.
pub(crate) fn axes_in(run: &Path, definition: &Result<Definition, String>, number: usize) -> Vec<(String, Value)> {
    let labels = definition.as_ref().map_err(Clone::clone);
    let labels = labels.and_then(|definition| labels_of(definition, number).map_err(|error| error.to_string()));
    labels.unwrap_or_else(|error| {
        tracing::warn!("`{}` is shown without the axes of its sweep: {error}", run.display());
        Vec::new()
    })
}

/// How many trials are in each state, in the order of [`TrialStatus::ALL`].
pub fn counts(states: &[TrialState]) -> [(TrialStatus, usize); 5] {
    TrialStatus::ALL.map(|status| (status, states.iter().filter(|state| state.status == status).count()))
}

fn read(file: &Path) -> Result<Stored, SweepError> {
    let bytes = fs::read(file).map_err(|e| SweepError::system(format!("read `{}`", file.display()), e))?;
    let damaged = |reason: String| SweepError::Storage(StorageError::Damaged { path: file.to_path_buf(), reason });
    let stored: Stored = serde_json::from_slice(&bytes).map_err(|e| damaged(format!("not valid: {e}")))?;
    if stored.format != FORMAT {
        return Err(damaged(format!("its `format` is not `{FORMAT}`")));
    }
    if stored.version != VERSION {
        let (path, found) = (file.to_path_buf(), stored.version);
        return Err(StorageError::Version { path, found, supported: VERSION }.into());
    }
    Ok(stored)
}

fn write(file: &Path, stored: &Stored) -> Result<(), SweepError> {
    let bytes = serde_json::to_vec_pretty(stored).map_err(|e| encode(file, &e))?;
    Ok(write_atomic(file, &bytes)?)
}

fn encode(file: &Path, error: &serde_json::Error) -> SweepError {
    StorageError::Encode { path: file.to_path_buf(), reason: error.to_string() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_sweep_or_trial_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = SweepFolder::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("sweep.json") && error.contains("runs/sweeps"), "{error}");
        for path in ["trials/x", "000001"] {
            assert!(SweepFolder::of_trial(&folder.path().join(path)).unwrap_err().to_string().contains("not the folder of a trial"));
        }
        fs::write(folder.path().join(SWEEP_FILE), "{}").unwrap();
        assert!(matches!(SweepFolder::open(folder.path()).unwrap_err(), SweepError::Storage(StorageError::Damaged { .. })));
    }
}
