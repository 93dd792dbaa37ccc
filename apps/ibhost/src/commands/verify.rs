//! `ibhost verify`: is every file of a run what was written?

use ibhost_framework::storage::{CheckpointStore, MetricsLog, RunDir, StorageError};

use crate::cli::VerifyArgs;
use crate::exit::{FAILED, Failure};
use crate::paths::show;
use crate::table;

pub fn verify(arguments: &VerifyArgs) -> Result<u8, Failure> {
    let run = RunDir::open_read_only(&arguments.run_dir)?;
    let mut problems: Vec<StorageError> = Vec::new();
    let mut sound = 0;
    let mut note = |result: Result<(), StorageError>| match result {
        Ok(()) => sound += 1,
        Err(error) => problems.push(error),
    };
    note(run.read_config::<serde_json::Value>().map(|_| ()));
    note(run.read_summary().map(|_| ()));
    if run.metrics_path().exists() {
        note(MetricsLog::read(&run.metrics_path()).map(|_| ()));
    }
    for entry in run.checkpoints().list()? {
        note(CheckpointStore::load_path(&entry.path).map(|_| ()));
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
