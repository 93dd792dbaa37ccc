//! `ibhost verify`: are configuration, summary, metrics and checkpoints of a run what was written?

use std::path::Path;

use ibhost_framework::engine::metrics_mark;
use ibhost_framework::storage::{CheckpointStore, MetricsLog, RunDir, StorageError};

use super::check_run_folder;
use crate::cli::VerifyArgs;
use crate::exit::{FAILED, Failure};
use crate::paths::show;
use crate::table;

pub fn verify(arguments: &VerifyArgs) -> Result<u8, Failure> {
    check_run_folder(&arguments.run_dir)?;
    let run = RunDir::open_read_only(&arguments.run_dir)?;
    let mut problems: Vec<StorageError> = Vec::new();
    let mut sound = 0;
    let mut note = |result: Result<(), StorageError>| match result {
        Ok(()) => sound += 1,
        Err(error) => problems.push(error),
    };
    note(run.read_config::<serde_json::Value>().map(|_| ()));
    note(run.read_summary().and_then(|summary| same_run(&run, &summary.run_id, &run.summary_path())));
    if run.metrics_path().exists() {
        note(MetricsLog::read(&run.metrics_path()).map(|_| ()));
    }
    for entry in run.checkpoints().list()? {
        note(CheckpointStore::load_path(&entry.path).and_then(|(_, content)| match metrics_mark(&content) {
            Some((bytes, digest)) => MetricsLog::check(&run.metrics_path(), bytes, &digest),
            None => Ok(()),
        }));
    }
    for problem in &problems {
        eprintln!("damaged: {problem}");
    }
    if problems.is_empty() {
        table::print(&format!("{} is sound: {sound} parts checked", show(run.path())))?;
        return Ok(0);
    }
    Ok(FAILED)
}

/// A file of another run was copied in, or the run's own identity was changed.
fn same_run(run: &RunDir, id: &str, path: &Path) -> Result<(), StorageError> {
    if id == run.run_id() {
        return Ok(());
    }
    let reason = format!("it was written by run {id}, but `.run.json` says that this is run {}", run.run_id());
    Err(StorageError::Damaged { path: path.to_path_buf(), reason })
}
