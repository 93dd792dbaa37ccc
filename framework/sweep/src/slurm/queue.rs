//! What Slurm knows about the trials of a sweep: `squeue` for what waits and runs, `sacct` for what has ended.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ibhost_framework::storage::inside;

use crate::error::SweepError;
use crate::folder::SweepFolder;
use crate::state::{TrialState, TrialStatus};

/// A task of an array, as `squeue` or `sacct` tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// `<array job>_<task>`.
    pub job: String,
    /// Slurm's word for its state, e.g. `PENDING`.
    pub state: String,
}

impl Task {
    /// Whether it waits, runs, or is about to.
    pub fn is_live(&self) -> bool {
        let live = ["PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"];
        live.contains(&self.state.as_str()) || self.state.starts_with("REQUEUE") || self.state.starts_with("RESV")
    }
}

/// The tasks of a sweep by trial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    tasks: HashMap<usize, Task>,
    /// Jobs that wait or run, the aggregating one among them, without their tasks.
    pub live_jobs: Vec<String>,
}

/// Name of the jobs of a sweep.
pub(super) fn job_name(sweep: &SweepFolder) -> String {
    format!("ibhost-{}", sweep.plan.definition.name)
}

/// Runs a program of Slurm and returns what it printed.
pub(super) fn slurm(program: &str, arguments: &[String]) -> Result<String, SweepError> {
    let failed = |reason: String| SweepError::Slurm { command: format!("{program} {}", arguments.join(" ")), reason };
    let output = Command::new(program).args(arguments).output();
    let output =
        output.map_err(|e| failed(format!("{e}\n  hint: launch on a machine where Slurm's commands work, or with --launcher local")))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The folder of the scripts of all submissions.
pub(super) fn scripts_folder(sweep: &SweepFolder) -> PathBuf {
    std::path::absolute(sweep.path()).unwrap_or_else(|_| sweep.path().to_path_buf()).join("slurm")
}

/// The trials that the tasks of the array with this script run, in order.
fn trials_of(script: &Path) -> Vec<usize> {
    let text = inside::read_text(&script.with_extension("txt")).unwrap_or_default();
    text.lines().filter_map(|line| Path::new(line).file_name()?.to_str()?.parse().ok()).collect()
}

impl Queue {
    /// Asks Slurm about the trials of `sweep`. Later submissions win over earlier ones.
    ///
    /// # Errors
    /// When `squeue` fails. `sacct` may, because not every cluster keeps accounts.
    pub fn read(sweep: &SweepFolder) -> Result<Self, SweepError> {
        let folder = scripts_folder(sweep);
        let mut queue = Self::default();
        let name = job_name(sweep);
        queue.add_ended(&folder, &name);
        let arguments = ["--noheader", "--array", "--states=all", "--format=%F|%K|%T|%o", &format!("--name={name},{name}-collect")];
        let text = slurm("squeue", &arguments.map(str::to_owned))?;
        queue.add_queued(&folder, &text);
        Ok(queue)
    }

    fn add_queued(&mut self, folder: &Path, text: &str) {
        let mut lists: HashMap<PathBuf, Vec<usize>> = HashMap::new();
        for line in text.lines() {
            let parts: Vec<&str> = line.trim().splitn(4, '|').collect();
            let [job, index, state, script] = parts[..] else { continue };
            // Another sweep may have the same name in another place.
            let script = PathBuf::from(script.trim());
            if !script.starts_with(folder) {
                continue;
            }
            let task = Task { job: format!("{job}_{index}"), state: state.to_owned() };
            if task.is_live() && !self.live_jobs.iter().any(|known| known == job) {
                self.live_jobs.push(job.to_owned());
            }
            let Ok(index) = index.parse::<usize>() else { continue };
            let trials = lists.entry(script.clone()).or_insert_with(|| trials_of(&script));
            if let Some(&trial) = trials.get(index) {
                self.add(trial, task);
            }
        }
    }

    /// Adds what `sacct` says about the arrays whose numbers were noted down.
    fn add_ended(&mut self, folder: &Path, name: &str) {
        let mut scripts: HashMap<String, PathBuf> = HashMap::new();
        for submission in fs::read_dir(folder).into_iter().flatten().flatten() {
            for file in fs::read_dir(submission.path()).into_iter().flatten().flatten() {
                let path = file.path();
                if path.extension().is_some_and(|extension| extension == "job")
                    && let Ok(job) = inside::read_text(&path)
                {
                    scripts.insert(job.trim().to_owned(), path.with_extension("sh"));
                }
            }
        }
        if scripts.is_empty() {
            return;
        }
        let jobs: Vec<&str> = scripts.keys().map(String::as_str).collect();
        let arguments =
            ["--noheader", "--parsable2", "--allocations", "--array", "--format=JobID,State", &format!("--jobs={}", jobs.join(","))];
        let text = match slurm("sacct", &arguments.map(str::to_owned)) {
            Ok(text) => text,
            Err(error) => {
                tracing::debug!("no accounts of {name}: {error}");
                return;
            }
        };
        for line in text.lines() {
            let Some((job, state)) = line.split_once('|') else { continue };
            let Some((array, index)) = job.split_once('_') else { continue };
            let (Some(script), Ok(index)) = (scripts.get(array), index.parse::<usize>()) else { continue };
            if let Some(&trial) = trials_of(script).get(index) {
                // `CANCELLED by 1000` and the like.
                let state = state.split_whitespace().next().unwrap_or_default().to_owned();
                self.add(trial, Task { job: job.to_owned(), state });
            }
        }
    }

    fn add(&mut self, trial: usize, task: Task) {
        let number = |task: &Task| task.job.split('_').next().and_then(|job| job.parse::<u64>().ok()).unwrap_or(0);
        let newer = self.tasks.get(&trial).is_none_or(|known| number(&task) >= number(known));
        if newer {
            self.tasks.insert(trial, task);
        }
    }

    /// The task of a trial.
    pub fn task(&self, trial: usize) -> Option<&Task> {
        self.tasks.get(&trial)
    }

    /// Completes what the files tell about a trial by what Slurm knows.
    pub fn amend(&self, state: &mut TrialState) {
        let Some(task) = self.task(state.trial) else { return };
        let queued = format!("job {} is {}", task.job, task.state.to_lowercase());
        match state.status {
            // A lock that this machine cannot see.
            TrialStatus::Interrupted if task.state == "RUNNING" => (state.status, state.reason) = (TrialStatus::Running, None),
            TrialStatus::Pending if task.state == "RUNNING" => state.status = TrialStatus::Running,
            TrialStatus::Pending | TrialStatus::Interrupted if task.is_live() => state.reason = Some(queued),
            TrialStatus::Interrupted => {
                let words = state.reason.take().unwrap_or_default();
                state.reason = Some(format!("{queued}; {words}"));
            }
            // Taken out of the queue on request: nothing is wrong with it.
            TrialStatus::Pending if task.state == "CANCELLED" => state.reason = Some(queued),
            // It ended before the trial began: the node, the program or the folder was not there.
            TrialStatus::Pending if task.state != "COMPLETED" => {
                (state.status, state.reason) = (TrialStatus::Failed, Some(format!("{queued}, before the trial began")));
            }
            TrialStatus::Completed | TrialStatus::Failed | TrialStatus::Running | TrialStatus::Pending => {}
        }
        state.job = state.job.take().or_else(|| Some(task.job.clone()));
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn tasks_are_found_by_their_script_and_later_submissions_win() {
        let folder = tempfile::tempdir().unwrap();
        let slurm = folder.path().join("slurm");
        for (name, lines) in [("000/array-0", "t/000003\nt/000005\n"), ("001/array-0", "t/000005\n")] {
            let path = slurm.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path.with_extension("txt"), lines).unwrap();
        }
        let script = |name: &str| slurm.join(name).display().to_string();
        let text = format!(
            "12|0|RUNNING|{a}\n12|1|FAILED|{a}\n20|0|PENDING|{b}\n21|N/A|PENDING|{c}\n7|0|RUNNING|/elsewhere/array-0.sh\nnonsense\n",
            a = script("000/array-0.sh"),
            b = script("001/array-0.sh"),
            c = script("001/collect.sh"),
        );
        let mut queue = Queue::default();
        queue.add_queued(&slurm, &text);
        assert_eq!(queue.task(3).unwrap().job, "12_0");
        assert_eq!(queue.task(5).unwrap(), &Task { job: "20_0".into(), state: "PENDING".into() });
        assert_eq!(queue.live_jobs, ["12", "20", "21"]);
        let state = |trial, status| TrialState {
            trial,
            axes: serde_json::Map::new(),
            status,
            reason: None,
            attempts: 0,
            seconds: 0.0,
            run_dir: None,
            log: PathBuf::new(),
            job: None,
        };
        let mut amended = state(3, TrialStatus::Interrupted);
        queue.amend(&mut amended);
        assert_eq!((amended.status, amended.job.as_deref()), (TrialStatus::Running, Some("12_0")));
        let mut amended = state(5, TrialStatus::Interrupted);
        queue.amend(&mut amended);
        assert_eq!((amended.status, amended.reason.as_deref()), (TrialStatus::Interrupted, Some("job 20_0 is pending")));
        for (ended, status) in [("CANCELLED", TrialStatus::Pending), ("NODE_FAIL", TrialStatus::Failed)] {
            queue.add(7, Task { job: "30_0".into(), state: ended.into() });
            let mut amended = state(7, TrialStatus::Pending);
            queue.amend(&mut amended);
            assert_eq!(amended.status, status);
            assert!(amended.reason.unwrap().starts_with(&format!("job 30_0 is {}", ended.to_lowercase())));
        }
        let mut alone = state(9, TrialStatus::Pending);
        queue.amend(&mut alone);
        assert_eq!(alone, state(9, TrialStatus::Pending));
    }
}
