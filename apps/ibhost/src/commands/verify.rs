//! `ibhost verify`: is every file of a run what was written?

use std::path::Path;

use ibhost_framework::engine::metrics_mark;
use ibhost_framework::event_reader::check_events;
use ibhost_framework::storage::{Label, MetricsLog, RunDir, StorageError, inside};

use super::check_run_folder;
use crate::cli::VerifyArgs;
use crate::exit::{FAILED, Failure};
use crate::messages::say;
use crate::paths::show;
use crate::table;

/// Most names of files that are not covered in the one line about them.
const MOST_NAMES: usize = 20;

pub fn verify(arguments: &VerifyArgs) -> Result<u8, Failure> {
    check_run_folder(&arguments.run_dir)?;
    let run = RunDir::open_read_only(&arguments.run_dir)?;
    if let Some(holder) = RunDir::holder(run.path())? {
        tracing::warn!("process {} on {} is writing to the run; what it changes meanwhile may look damaged", holder.pid, holder.host);
    }
    let mut problems: Vec<StorageError> = Vec::new();
    let mut sound = 0;
    let mut note = |result: Result<(), StorageError>| match result {
        Ok(()) => sound += 1,
        // A file is covered more than once; the first finding about it is enough.
        Err(error) if problems.iter().any(|known| known.path() == error.path()) => {}
        Err(error) => problems.push(error),
    };
    note(run.read_config::<serde_json::Value>().map(|_| ()));
    note(run.read_summary().and_then(|summary| same_run(&run, &summary.run_id, &run.summary_path())));
    if std::fs::symlink_metadata(run.metrics_path()).is_ok() {
        note(MetricsLog::read(&run.metrics_path()).map(|_| ()));
    }
    // What it says is not covered, but a resume writes to it.
    if let Err(error) = inside::check_file(&run.log_path()) {
        note(Err(error));
    }
    let mut damaged_checkpoint = false;
    for entry in run.checkpoints().list()? {
        let checked = run.checkpoints().load_own(&entry.path).and_then(|content| match metrics_mark(&content) {
            Some((bytes, digest)) => MetricsLog::check(&run.metrics_path(), bytes, &digest),
            None => Ok(()),
        });
        damaged_checkpoint |= checked.is_err();
        note(checked);
    }
    for path in event_files(&run.tensorboard_dir())? {
        note(check_events(&path).map(|_| ()));
    }
    let mut uncovered = None;
    match run.files() {
        Ok(list) => {
            note(Ok(()));
            for problem in list.check(run.path())? {
                note(Err(problem));
            }
            if list.open {
                uncovered = Some(list.uncovered(run.path())?);
            }
        }
        Err(error) => note(Err(error)),
    }
    for problem in &problems {
        say!("damaged: {problem}");
    }
    if problems.is_empty()
        && let Some(files) = uncovered
    {
        return say_open(&run, sound, &files);
    }
    if problems.is_empty() {
        table::print(&format!("{} is sound: {sound} parts checked", show(run.path())))?;
        return Ok(0);
    }
    if damaged_checkpoint && let Some(entry) = run.checkpoints().newest_sound(Label::Last)? {
        say!("the newest sound checkpoint is that of step {} in `{}`", entry.step, show(&entry.path));
    }
    Ok(FAILED)
}

/// Says that the list of the run's files is open, which is no damage, and what it does not cover therefore.
fn say_open(run: &RunDir, sound: usize, uncovered: &[String]) -> Result<u8, Failure> {
    let shown: Vec<String> = uncovered.iter().take(MOST_NAMES).map(|name| name.escape_debug().to_string()).collect();
    let more = if uncovered.len() > shown.len() { format!(" and {} more", uncovered.len() - shown.len()) } else { String::new() };
    let files = match uncovered.len() {
        0 => "every file is covered so far".to_owned(),
        1 => format!("1 file is not covered: {}", shown[0]),
        count => format!("{count} files are not covered: {}{more}", shown.join(", ")),
    };
    table::print(&format!("{} is open: {sound} parts checked and nothing damaged; {files}", show(run.path())))?;
    say!(
        "a process works on the run, or was killed before it listed its files; `ibhost resume {}` ends the work and closes the list",
        show(run.path())
    );
    Ok(0)
}

/// A file of another run was copied in, or the run's own identity was changed.
fn same_run(run: &RunDir, id: &str, path: &Path) -> Result<(), StorageError> {
    if id == run.run_id() {
        return Ok(());
    }
    let reason = format!("it was written by run {id}, but `.run.json` says that this is run {}", run.run_id());
    Err(StorageError::Damaged { path: path.to_path_buf(), reason })
}

/// All event files below `folder`, sorted; none when it is missing.
fn event_files(folder: &Path) -> Result<Vec<std::path::PathBuf>, Failure> {
    let failed = |e: std::io::Error| Failure::failed(format!("cannot list `{}`: {e}", show(folder)));
    let mut found = Vec::new();
    if !folder.exists() {
        return Ok(found);
    }
    for split in std::fs::read_dir(folder).map_err(failed)? {
        let split = split.map_err(failed)?.path();
        inside::check_way(&split.join("file"))?;
        if split.is_dir() {
            for entry in std::fs::read_dir(&split).map_err(failed)? {
                found.push(entry.map_err(failed)?.path());
            }
        }
    }
    found.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("events.out.tfevents.")));
    found.sort();
    Ok(found)
}
