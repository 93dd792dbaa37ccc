//! State of one trial: a small file that is replaced as a whole when an attempt begins and ends, and a lock that ends with the process.
//!
//! A trial whose file says `running` and whose lock nobody holds was interrupted, however its process died.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ibhost_framework::storage::run_dir::local_time;
use ibhost_framework::storage::{RunDir, RunStatus, StorageError, create_folders, inside, write_atomic};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::SweepError;
use crate::process::{FolderLock, host_name};
use crate::store::record::find_all;

const STATE_FILE: &str = "state.json";
/// Longest reason that is kept, in characters.
const REASON: usize = 600;

/// How far a trial got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrialStatus {
    /// Not begun.
    Pending,
    /// A process works on it.
    Running,
    /// Training and analyses are done.
    Completed,
    /// It ended with an error.
    Failed,
    /// It was stopped or killed, and goes on from its last checkpoint.
    Interrupted,
}

impl TrialStatus {
    /// Every status, in the order of a trial's life.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Running, Self::Completed, Self::Failed, Self::Interrupted];

    /// As it is written everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What `state.json` holds: the latest attempt at a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialRecord {
    /// How it ended, or `running` while it goes on.
    pub status: TrialStatus,
    /// Why it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Local time of its start.
    pub started: String,
    /// Seconds it took; of this attempt alone.
    pub seconds: f64,
    /// Process that worked on it.
    pub pid: u32,
    /// Machine it ran on.
    pub host: String,
    /// Job of the cluster, `<array job>_<task>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}

/// A trial as far as its files tell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrialState {
    /// Number of the trial.
    pub trial: usize,
    /// Value of each axis.
    pub axes: serde_json::Map<String, Value>,
    /// How far it got.
    pub status: TrialStatus,
    /// Why it did not complete.
    pub reason: Option<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// Seconds of the latest attempt.
    pub seconds: f64,
    /// Folder of its run, once there is one.
    pub run_dir: Option<PathBuf>,
    /// Its log.
    pub log: PathBuf,
    /// Job of the cluster.
    pub job: Option<String>,
}

/// The folder of one trial: `<sweep>/trials/<number>`, with `state.json`, `log.txt` and the folder of its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialFolder {
    path: PathBuf,
}

impl TrialFolder {
    /// The folder at `path`, which need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything the trial's processes say.
    pub fn log_path(&self) -> PathBuf {
        self.path.join("log.txt")
    }

    /// Creates the folder where it is missing.
    ///
    /// # Errors
    /// What the disk refused.
    pub fn create(&self) -> Result<(), SweepError> {
        Ok(create_folders(&self.path)?)
    }

    /// Takes the trial's lock.
    ///
    /// # Errors
    /// [`SweepError::Locked`] when another process works on the trial.
    pub fn lock(&self) -> Result<FolderLock, SweepError> {
        FolderLock::acquire(&self.path)
    }

    /// Whether a process works on the trial.
    pub fn is_held(&self) -> bool {
        FolderLock::is_held(&self.path)
    }

    /// The latest attempt; `None` before the first and when the file is damaged, so that the trial is tried again.
    pub fn record(&self) -> Option<TrialRecord> {
        let path = self.path.join(STATE_FILE);
        let bytes = match inside::read(&path) {
            Ok(bytes) => bytes,
            Err(StorageError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!("{error}");
                return None;
            }
        };
        serde_json::from_slice(&bytes).inspect_err(|error| tracing::warn!("`{}` is damaged: {error}", path.display())).ok()
    }

    /// Notes the start of an attempt and returns its record.
    ///
    /// # Errors
    /// What the disk refused.
    pub fn begin(&self, job: Option<String>) -> Result<TrialRecord, SweepError> {
        let attempt = self.record().map_or(1, |record| record.attempt + 1);
        let record = TrialRecord {
            status: TrialStatus::Running,
            reason: None,
            attempt,
            started: local_time(),
            seconds: 0.0,
            pid: std::process::id(),
            host: host_name(),
            job,
        };
        self.write(&record)?;
        Ok(record)
    }

    /// Replaces the record.
    ///
    /// # Errors
    /// What the disk refused.
    pub fn write(&self, record: &TrialRecord) -> Result<(), SweepError> {
        let reason = record.reason.as_ref().map(|reason| reason.chars().take(REASON).collect());
        let bytes = serde_json::to_vec(&TrialRecord { reason, ..record.clone() })
            .map_err(|e| SweepError::Request(format!("the state of a trial cannot be written: {e}")))?;
        Ok(write_atomic(&self.path.join(STATE_FILE), &bytes)?)
    }

    /// Folder of the trial's run: the newest there is.
    pub fn run_dir(&self) -> Option<PathBuf> {
        let entries = fs::read_dir(&self.path).ok()?.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        entries.map(|entry| entry.path()).filter(|path| RunDir::open_read_only(path).is_ok()).max()
    }

    /// Whether the trial's run is complete.
    ///
    /// # Errors
    /// What is missing, in words.
    pub fn check_run(&self) -> Result<(), String> {
        let path = self.run_dir().ok_or("there is no run in its folder")?;
        let summary = RunDir::open_read_only(&path).and_then(|run| run.read_summary());
        match summary.map(|summary| summary.status) {
            Ok(RunStatus::Completed) => Ok(()),
            Ok(_) => Err(format!("its run `{}` is not completed", path.display())),
            Err(error) => Err(format!("the state of its run cannot be read: {error}")),
        }
    }

    /// What is wrong with the trial's run, when it has a folder for one that cannot be opened.
    pub fn broken_run(&self) -> Option<String> {
        let (path, broken) = find_all(&self.path).ok()?.into_iter().next_back()?;
        let error = || RunDir::open_read_only(&path).err().map(|error| error.to_string());
        Some(format!("its run `{}` cannot be read: {}", path.display(), broken.or_else(error)?))
    }

    /// How far the trial got.
    pub fn status(&self) -> (TrialStatus, Option<String>, Option<TrialRecord>) {
        // The lock is looked at first: a process that ends in between has written its last word by then.
        let held = self.is_held();
        match self.record() {
            Some(record) => match record.status {
                TrialStatus::Running if !held => {
                    let reason = "its process ended without a word; it goes on from its last checkpoint".to_owned();
                    (TrialStatus::Interrupted, Some(reason), Some(record))
                }
                _ if held => (TrialStatus::Running, None, Some(record)),
                status => (status, record.reason.clone(), Some(record)),
            },
            None if held => (TrialStatus::Running, None, None),
            None => (TrialStatus::Pending, None, None),
        }
    }

    /// The last line of the log that tells of an error, else its last line.
    pub fn last_words(&self) -> Option<String> {
        let bytes = inside::read(&self.log_path()).ok()?;
        let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(8192)..]).into_owned();
        let error = text.lines().rev().find(|line| line.starts_with("error: ") || line.contains("panicked"));
        error.or_else(|| text.lines().rev().find(|line| !line.trim().is_empty())).map(|line| line.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_its_process_and_a_dead_attempt_counts_as_interrupted() {
        let folder = tempfile::tempdir().unwrap();
        let trial = TrialFolder::new(folder.path().join("trials/000003"));
        assert_eq!(trial.status().0, TrialStatus::Pending);
        trial.create().unwrap();
        let lock = trial.lock().unwrap();
        let mut record = trial.begin(Some("12_3".to_owned())).unwrap();
        assert_eq!((trial.status().0, record.attempt), (TrialStatus::Running, 1));
        drop(lock);
        let (status, reason, _) = trial.status();
        assert!(status == TrialStatus::Interrupted && reason.unwrap().contains("without a word"));
        let record_two = trial.begin(None).unwrap();
        assert_eq!(record_two.attempt, 2);
        (record.status, record.reason) = (TrialStatus::Failed, Some("x".repeat(5000)));
        trial.write(&record).unwrap();
        let (status, reason, kept) = trial.status();
        assert_eq!((status, reason.unwrap().len(), kept.unwrap().job.unwrap()), (TrialStatus::Failed, REASON, "12_3".to_owned()));
        fs::write(trial.path().join(STATE_FILE), b"{\"status\": \"comp").unwrap();
        assert_eq!(trial.status().0, TrialStatus::Pending, "a damaged state is tried again");
    }

    #[test]
    fn a_run_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let trial = TrialFolder::new(folder.path().join("trials/000003"));
        assert_eq!(trial.broken_run(), None);
        trial.create().unwrap();
        assert_eq!(trial.broken_run(), None);
        let run = RunDir::create(trial.path(), "mlp-vib-digits", None).unwrap().path().to_path_buf();
        assert_eq!(trial.broken_run(), None);
        fs::write(run.join(".run.json"), "{\"format\": ").unwrap();
        let reason = trial.broken_run().unwrap();
        assert!(reason.contains("cannot be read") && reason.contains(".run.json"), "{reason}");
        fs::remove_file(run.join(".run.json")).unwrap();
        assert!(trial.broken_run().unwrap().contains("can be removed"));
    }

    #[test]
    fn last_words_prefer_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let trial = TrialFolder::new(folder.path().to_path_buf());
        assert_eq!(trial.last_words(), None);
        fs::write(trial.log_path(), "epoch 1\nerror: the disk is full\n  hint: free some\n\n").unwrap();
        assert_eq!(trial.last_words().unwrap(), "error: the disk is full");
        fs::write(trial.log_path(), "epoch 1\nepoch 2\n").unwrap();
        assert_eq!(trial.last_words().unwrap(), "epoch 2");
    }
}
