//! The folder of a sweep, `<output-dir>/sweeps/<name>/`: `sweep.json` with its definition, `trials/` with a folder for each trial.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use ibhost_framework::component::text_of;
use ibhost_framework::csv_text::csv_text;
use ibhost_framework::identity::{DataIdentity, Program};
use ibhost_framework::storage::run_dir::local_time;
use ibhost_framework::storage::{RunDir, StorageError, create_folders, inside, write_atomic};
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
    /// Hash of the executable that plans and runs the trials, the latest one; nothing in sweeps of versions that did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    executable: Option<String>,
    /// Hash of all resolved configurations.
    trials: String,
    definition: Definition,
}

/// Content of a file in `data/`: what the sweep's trials are trained on.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    dataset: String,
    data: DataIdentity,
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
    pub fn begin(path: &Path, plan: Plan, resume: bool, program: &Program) -> Result<Self, SweepError> {
        let trials = plan.check_trials()?;
        check_place(path)?;
        let file = path.join(SWEEP_FILE);
        if !inside::check_file(&file)? {
            create_folders(&path.join("trials"))?;
            let definition = plan.definition.clone();
            let (version, executable) = (program.version(), program.executable.clone());
            let stored =
                Stored { format: FORMAT.into(), version: VERSION, created: local_time(), program: version, executable, trials, definition };
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
                "version {} of ibhost, which began it, gave the same settings other defaults than {}",
                stored.program,
                program.version()
            ));
        }
        if !changes.is_empty() {
            return Err(SweepError::Changed { path: path.to_path_buf(), changes });
        }
        let same_program = stored.executable.is_none() || program.executable.is_none() || stored.executable == program.executable;
        if !same_program {
            tracing::warn!(
                "the trials that are left will be run by another program (version {}) than those before ({})",
                program.version(),
                stored.program
            );
        }
        // Another report or launcher, as the trials are the same.
        if stored.definition != plan.definition || stored.executable != program.executable {
            let executable = program.executable.clone().or(stored.executable.clone());
            write(&file, &Stored { definition: plan.definition.clone(), program: program.version(), executable, ..stored })?;
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
        if !inside::check_file(&file)? {
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

    fn data_path(&self, dataset: &str) -> PathBuf {
        self.path.join("data").join(format!("{}.json", &blake3::hash(dataset.as_bytes()).to_hex()[..16]))
    }

    /// The data that the trials before found under `dataset`, a component in canonical form; nothing before the first one has loaded it.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn data_of(&self, dataset: &str) -> Result<Option<DataIdentity>, SweepError> {
        let path = self.data_path(dataset);
        if !inside::check_file(&path)? {
            return Ok(None);
        }
        let bytes = inside::read(&path)?;
        let found: Found = serde_json::from_slice(&bytes)
            .map_err(|e| SweepError::Storage(StorageError::Damaged { path, reason: format!("not valid: {e}") }))?;
        Ok(Some(found.data))
    }

    /// Notes what the first trial found under `dataset`, so that all others train on the same.
    ///
    /// # Errors
    /// What the disk refused.
    pub fn keep_data(&self, dataset: &str, data: &DataIdentity) -> Result<(), SweepError> {
        let path = self.data_path(dataset);
        if inside::check_file(&path)? {
            return Ok(());
        }
        let folder = self.path.join("data");
        create_folders(&folder)?;
        let found = Found { dataset: dataset.to_owned(), data: data.clone() };
        let bytes = serde_json::to_vec_pretty(&found).map_err(|e| encode(&path, &e))?;
        Ok(write_atomic(&path, &bytes)?)
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

/// Refuses to make runs or a sweep in `path` when that lies inside of a run or among the trials of a sweep, or has a name that no new folder
/// gets.
///
/// # Errors
/// [`SweepError::Request`] naming the place.
pub fn check_place(path: &Path) -> Result<(), SweepError> {
    let checked = inside::check_outside(path).and_then(|()| RunDir::check_new_name(path));
    checked.map_err(|error| SweepError::Request(error.to_string()))?;
    check_outside_of_trials(path)
}

/// A sweep's folders of trials hold what these make only.
fn check_outside_of_trials(path: &Path) -> Result<(), SweepError> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let real = absolute.ancestors().find_map(|folder| fs::canonicalize(folder).ok()).unwrap_or_default();
    // What does not exist yet counts by its own name, everything else by where links lead.
    let is_sweep = |file: &Path| inside::read_text(file).is_ok_and(|text| text.contains(&format!("\"{FORMAT}\"")));
    let of_trials = |folder: &&Path| folder.ends_with("trials") && is_sweep(&folder.with_file_name(SWEEP_FILE));
    let within = |path: &Path| path.ancestors().any(|folder| of_trials(&folder));
    if !within(&real) && !within(&absolute) {
        return Ok(());
    }
    let problem = "lies among the trials of a sweep, which holds what these make only\n  hint: choose another --output-dir";
    Err(SweepError::Request(format!("`{}` {problem}", path.display())))
}

/// How many trials are in each state, in the order of [`TrialStatus::ALL`].
pub fn counts(states: &[TrialState]) -> [(TrialStatus, usize); 5] {
    TrialStatus::ALL.map(|status| (status, states.iter().filter(|state| state.status == status).count()))
}

fn read(file: &Path) -> Result<Stored, SweepError> {
    let bytes = inside::read(file)?;
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
    fn nothing_else_begins_among_the_trials_of_a_sweep() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("trials/000000")).unwrap();
        let places = ["trials", "trials/000000", "trials/000000/sweeps/other"];
        let refusal = |inner: &str| check_outside_of_trials(&folder.path().join(inner));
        // A file of settings may be called like that, beside a folder of that name.
        fs::write(folder.path().join(SWEEP_FILE), "{\"axes\": {}}").unwrap();
        assert!(places.iter().all(|place| refusal(place).is_ok()));
        fs::write(folder.path().join(SWEEP_FILE), format!("{{\"format\":\"{FORMAT}\"}}")).unwrap();
        for place in places {
            let error = refusal(place).unwrap_err().to_string();
            assert!(error.contains("among the trials of a sweep") && error.contains("--output-dir"), "{error}");
        }
        for beside in ["", "sweeps/other", "other/trials"] {
            refusal(beside).unwrap();
        }
    }

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
