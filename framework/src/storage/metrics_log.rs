//! `metrics.jsonl`: one line per measurement, appended while the run goes on and cut back to the checkpoint when it resumes.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use super::atomic::{self, StorageError};
use super::inside;
use super::summary::Metrics;

/// What a row was measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricsSplit {
    /// The training split.
    Train,
    /// The test split with the trained weights.
    Test,
    /// The test split with the averaged weights.
    TestAverage,
}

/// One measurement. Everything but `time_s` and `samples_per_s` depends on seed, data and device alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Optimiser steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: u64,
    /// What was measured on.
    pub split: MetricsSplit,
    /// Values by name; non-finite ones are stored as `null` and read as NaN.
    pub metrics: Metrics,
    /// Seconds since the run began, over all interruptions.
    #[serde(deserialize_with = "number_or_null")]
    pub time_s: f64,
    /// Samples processed per second since the previous row of the split.
    #[serde(deserialize_with = "number_or_null")]
    pub samples_per_s: f64,
}

/// JSON writes NaN as `null`.
fn number_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// The open log of a run.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
    position: u64,
    hasher: blake3::Hasher,
}

impl MetricsLog {
    /// Starts a new log (`keep_bytes` is `None`), or continues one after its first `keep_bytes` bytes and drops the rest.
    ///
    /// # Errors
    /// A new log whose file exists; a log that is shorter than `keep_bytes` or has no end of line there; whatever the disk refuses.
    pub fn open(path: &Path, keep_bytes: Option<u64>) -> Result<Self, StorageError> {
        let Some(keep) = keep_bytes else {
            let file = atomic::create_file(path)?;
            atomic::sync_folder(atomic::parent_of(path))?;
            return Ok(Self { path: path.to_path_buf(), file, position: 0, hasher: blake3::Hasher::new() });
        };
        let hasher = hash_beginning(path, keep)?;
        let mut file = inside::open_in_place(path)?;
        atomic::set_length(&file, path, keep)?;
        file.seek(SeekFrom::End(0)).map_err(|source| StorageError::io("seek in", path, source))?;
        Ok(Self { path: path.to_path_buf(), file, position: keep, hasher })
    }

    /// Appends one row; it is handed to the operating system before this returns.
    ///
    /// # Errors
    /// What the disk refused; the log then ends with the previous row again as far as the disk allows.
    pub fn append(&mut self, row: &Row) -> Result<(), StorageError> {
        let mut line = serde_json::to_vec(row).map_err(|e| StorageError::encode(&self.path, e.to_string()))?;
        line.push(b'\n');
        inside::separate(&mut self.file, &self.path)?;
        if let Err(error) = atomic::write_all(&self.file, &self.path, &line) {
            let cut = atomic::set_length(&self.file, &self.path, self.position);
            let back = self.file.seek(SeekFrom::Start(self.position));
            if cut.is_err() || back.is_err() {
                tracing::warn!("`{}` ends with an incomplete line", self.path.display());
            }
            return Err(error);
        }
        self.hasher.update(&line);
        self.position += line.len() as u64;
        Ok(())
    }

    /// Length in bytes, to be stored in a checkpoint after [`Self::sync`].
    pub fn position(&self) -> u64 {
        self.position
    }

    /// BLAKE3 of everything up to [`Self::position`], 64 hexadecimal digits; a checkpoint that stores it can tell later whether the log
    /// it continues is still the one it knew.
    pub fn digest(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    /// Waits until all rows are on the disk and returns the length in bytes.
    ///
    /// # Errors
    /// What the disk refused.
    pub fn sync(&self) -> Result<u64, StorageError> {
        atomic::sync_file(&self.file, &self.path)?;
        Ok(self.position)
    }

    /// Checks that the first `bytes` bytes of the log are those whose [`Self::digest`] a checkpoint stored.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] when the log is shorter or says something else there.
    pub fn check(path: &Path, bytes: u64, digest: &str) -> Result<(), StorageError> {
        let hasher = hash_beginning(path, bytes)?;
        if hasher.finalize().to_hex().as_str() == digest {
            return Ok(());
        }
        Err(StorageError::damaged(path, format!("its first {bytes} bytes are not what the checkpoint was taken with")))
    }

    /// All complete rows of a log; a last line that was cut off by a crash is left out.
    ///
    /// # Errors
    /// Names the first line before the last that is not a row.
    pub fn read(path: &Path) -> Result<Vec<Row>, StorageError> {
        let bytes = inside::read(path)?;
        let mut rows = Vec::new();
        for (index, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
            match serde_json::from_slice(line) {
                Ok(row) => rows.push(row),
                Err(_) if !line.ends_with(b"\n") => tracing::warn!("`{}` ends with an incomplete line", path.display()),
                Err(error) => return Err(StorageError::damaged(path, format!("line {}: {error}", index + 1))),
            }
        }
        Ok(rows)
    }
}

/// Hash of the first `keep` bytes of the log at `path`, which may be missing when that is none.
fn hash_beginning(path: &Path, keep: u64) -> Result<blake3::Hasher, StorageError> {
    match inside::open(path) {
        Ok(file) => hash_prefix(&file, path, keep),
        Err(StorageError::Io { source, .. }) if source.kind() == ErrorKind::NotFound && keep == 0 => Ok(blake3::Hasher::new()),
        Err(StorageError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Err(StorageError::damaged(path, format!("it is missing, the checkpoint expects {keep} bytes of it")))
        }
        Err(error) => Err(error),
    }
}

/// Hash of the first `keep` bytes, which must exist and end a line.
fn hash_prefix(file: &File, path: &Path, keep: u64) -> Result<blake3::Hasher, StorageError> {
    let mut hasher = blake3::Hasher::new();
    let mut reader = file.take(keep);
    let mut buffer = vec![0; 64 * 1024];
    let (mut total, mut last) = (0, b'\n');
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(StorageError::io("read", path, error)),
        };
        hasher.update(&buffer[..count]);
        last = buffer[count - 1];
        total += count as u64;
    }
    if total < keep {
        return Err(StorageError::damaged(path, format!("it has {total} bytes, the checkpoint expects at least {keep}")));
    }
    if last != b'\n' {
        return Err(StorageError::damaged(path, format!("no line ends at byte {keep}, where the checkpoint was taken")));
    }
    Ok(hasher)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::fault::sweep::{self, Failure};
    use super::*;

    fn row(step: u64) -> Row {
        let metrics = [("loss", 0.1 + 0.2), ("accuracy", 1e-7), ("izx_nats", f64::NAN)].into_iter().collect();
        Row { step, epoch: 1, split: MetricsSplit::TestAverage, metrics, time_s: 1.5, samples_per_s: 1e6 }
    }

    #[test]
    fn a_row_has_one_exact_text_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path, None).unwrap();
        log.append(&row(7)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"step\":7,\"epoch\":1,\"split\":\"test_average\",\"metrics\":{\"loss\":0.30000000000000004,\"accuracy\":1e-7,\
             \"izx_nats\":null},\"time_s\":1.5,\"samples_per_s\":1000000.0}\n"
        );
        assert_eq!(log.sync().unwrap(), text.len() as u64);
        let rows = MetricsLog::read(&path).unwrap();
        assert_eq!(rows[0].metrics.get("loss"), Some(0.1 + 0.2));
        assert!(rows[0].metrics.get("izx_nats").unwrap().is_nan());
        assert!(matches!(MetricsLog::open(&path, None), Err(StorageError::AlreadyExists { .. })));
    }

    #[test]
    fn resuming_cuts_back_to_the_checkpoint_and_equals_the_uninterrupted_log() {
        let dir = tempfile::tempdir().unwrap();
        let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
        let mut log = MetricsLog::open(&whole, None).unwrap();
        for step in 0..4 {
            log.append(&row(step)).unwrap();
        }
        let digest = log.digest();
        MetricsLog::check(&whole, log.position(), &digest).unwrap();

        let mut log = MetricsLog::open(&broken, None).unwrap();
        log.append(&row(0)).unwrap();
        log.append(&row(1)).unwrap();
        let (kept, mark) = (log.position(), log.digest());
        log.append(&row(99)).unwrap();
        drop(log);
        fs::write(&broken, [&fs::read(&broken).unwrap()[..], b"{\"step\":3,\"ep"].concat()).unwrap();
        assert_eq!(MetricsLog::read(&broken).unwrap().len(), 3, "a torn last line is tolerated");
        let mut log = MetricsLog::open(&broken, Some(kept)).unwrap();
        assert_eq!((log.position(), log.digest()), (kept, mark));
        log.append(&row(2)).unwrap();
        log.append(&row(3)).unwrap();
        assert_eq!(log.digest(), digest);
        assert_eq!(fs::read(&whole).unwrap(), fs::read(&broken).unwrap());
        let text = fs::read_to_string(&whole).unwrap().replacen("\"step\":1", "\"step\":5", 1);
        fs::write(&whole, &text).unwrap();
        let error = MetricsLog::check(&whole, text.len() as u64, &digest).unwrap_err().to_string();
        assert!(error.contains("whole") && error.contains("are not what the checkpoint"), "{error}");
    }

    #[test]
    fn a_log_that_does_not_fit_the_checkpoint_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        assert!(matches!(MetricsLog::open(&path, Some(5)), Err(StorageError::Damaged { .. })));
        assert_eq!(MetricsLog::open(&path, Some(0)).unwrap().position(), 0);
        let mut log = MetricsLog::open(&path, Some(0)).unwrap();
        log.append(&row(1)).unwrap();
        let length = log.position();
        for (keep, reason) in [(length + 1, "expects at least"), (length - 1, "no line ends")] {
            let error = MetricsLog::open(&path, Some(keep)).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("metrics.jsonl"), "{error}");
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), length);
        fs::write(&path, "{}\n{}\n").unwrap();
        assert!(MetricsLog::read(&path).unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn a_failed_write_leaves_whole_rows_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path, None).unwrap();
        log.append(&row(1)).unwrap();
        sweep::arm(0, Failure::FullHalfway);
        assert!(log.append(&row(2)).unwrap_err().to_string().contains("disk is full"));
        sweep::disarm();
        log.append(&row(3)).unwrap();
        let steps: Vec<u64> = MetricsLog::read(&path).unwrap().iter().map(|r| r.step).collect();
        assert_eq!(steps, [1, 3]);
        assert_eq!(fs::metadata(&path).unwrap().len(), log.position());
    }
}
