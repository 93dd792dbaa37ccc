//! Run folders whose process died before it computed anything: recognised by their name and by everything in them, so that nothing else
//! is ever taken for one and removed.

use std::fs;
use std::path::Path;

use super::atomic::{self, StorageError};
use super::inside;
use super::layout::{CHECKPOINTS, CONFIG_FILE, FOLDERS, LOCK_FILE, MANIFEST_FILE, RUN_MARK, SUMMARY_FILE};

/// Files that a run has before its first summary, which is written before its first step.
const BEFORE_THE_FIRST_STEP: [&str; 4] = [LOCK_FILE, MANIFEST_FILE, RUN_MARK, CONFIG_FILE];
/// Form of the end of a run folder's name after `--`, `0` for any digit and `x` for any hexadecimal one.
const NAME_END: &str = "0000-00-00T00-00-00-xxxxxxxx";

/// Whether a folder is called as a new run's folder is, `<stem>--<time>-<id>`.
pub fn is_run_name(name: &str) -> bool {
    let fits = |(form, found): (u8, u8)| match form {
        b'0' => found.is_ascii_digit(),
        b'x' => found.is_ascii_hexdigit(),
        _ => form == found,
    };
    let end = name.rsplit_once("--").map(|(_, end)| end);
    end.is_some_and(|end| end.len() == NAME_END.len() && NAME_END.bytes().zip(end.bytes()).all(fits))
}

/// Whether the folder `path` provably is what remains of a run that died while it was created: called like a run, and holding nothing but
/// what a run has before its first step.
///
/// # Errors
/// When it cannot be listed.
pub fn is_unborn(path: &Path) -> Result<bool, StorageError> {
    let named = path.file_name().is_some_and(|name| is_run_name(&name.to_string_lossy()));
    Ok(named && holds_only(path, &BEFORE_THE_FIRST_STEP)?)
}

/// Removes a run folder that holds nothing but what a run has before its first step.
///
/// # Errors
/// [`StorageError::Foreign`] when it holds anything else, and nothing is removed; or what the disk refused.
pub fn remove_unborn(path: &Path) -> Result<(), StorageError> {
    remove(path, &BEFORE_THE_FIRST_STEP)
}

/// The same for a folder this process has just created, which may have got its first summary.
pub(super) fn remove_fresh(path: &Path) -> Result<(), StorageError> {
    let [lock, list, mark, config] = BEFORE_THE_FIRST_STEP;
    remove(path, &[lock, list, mark, config, SUMMARY_FILE])
}

fn remove(path: &Path, files: &[&str]) -> Result<(), StorageError> {
    if !holds_only(path, files)? {
        let reason = "it holds more than a run has before its first step, so it is not removed";
        return Err(StorageError::foreign(path, reason));
    }
    for folder in FOLDERS.map(|folder| path.join(folder)) {
        if fs::symlink_metadata(&folder).is_ok() {
            atomic::remove_empty_folder(&folder)?;
        }
    }
    atomic::remove_folder(path, |name| files.contains(&name) || atomic::is_temporary_name(name))
}

/// Whether `path` holds nothing but plain files called like `files`, what was being written, and the empty folders of a run.
fn holds_only(path: &Path, files: &[&str]) -> Result<bool, StorageError> {
    inside::check_folder(path)?;
    let list = |folder: &Path| fs::read_dir(folder).map_err(|source| StorageError::io("list", folder, source));
    for entry in list(path)? {
        let entry = entry.map_err(|source| StorageError::io("list", path, source))?;
        let kind = entry.file_type().map_err(|source| StorageError::io("inspect", &entry.path(), source))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let known = if kind.is_dir() {
            FOLDERS.contains(&&*name) && list(&entry.path())?.next().is_none()
        } else {
            kind.is_file() && (files.contains(&&*name) || atomic::is_temporary_name(&name))
        };
        if !known {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the run in `path`, whatever else is wrong with it, has computed something.
pub fn is_born(path: &Path) -> bool {
    let has_checkpoint = || fs::read_dir(path.join(CHECKPOINTS)).is_ok_and(|mut entries| entries.next().is_some());
    fs::symlink_metadata(path.join(SUMMARY_FILE)).is_ok() || has_checkpoint()
}

#[cfg(test)]
mod tests {
    use super::super::run_dir::RunDir;
    use super::*;

    #[test]
    fn only_what_is_called_like_a_run_and_holds_what_its_creation_leaves_is_unborn() {
        for name in ["mlp-vib-digits--2026-01-02T03-04-05-0a1b2c3d", "a--2026-01-02T03-04-05-00000000"] {
            assert!(is_run_name(name), "{name}");
        }
        for name in
            ["notes", "--", "a--2026-01-02T03-04-05-0a1b2c3", "a--2026-01-02T03-04-05-0a1b2c3d-copy", "a-2026-01-02T03-04-05-0a1b2c3d"]
        {
            assert!(!is_run_name(name), "{name}");
        }
        let dir = tempfile::tempdir().unwrap();
        let fresh = || RunDir::create(dir.path(), "mlp-vib-digits", None).unwrap().path().to_path_buf();
        let damaged = fresh();
        fs::write(damaged.join(RUN_MARK), "{").unwrap();
        fs::write(damaged.join(".tmp-config.yml-4294967290-77777777773"), "obj").unwrap();
        assert!(is_unborn(&damaged).unwrap() && !is_born(&damaged));
        remove_unborn(&damaged).unwrap();
        assert!(!damaged.exists());
        for (file, born) in
            [("notes.txt", false), ("plots/mine.png", false), ("metrics.jsonl", false), ("summary.yml", true), ("checkpoints/x", true)]
        {
            let run = fresh();
            fs::write(run.join(file), "x").unwrap();
            assert_eq!((is_unborn(&run).unwrap(), is_born(&run)), (false, born), "{file}");
            assert!(matches!(remove_unborn(&run), Err(StorageError::Foreign { .. })));
            assert!(run.join(file).exists() && run.join(RUN_MARK).exists() && run.join("tensorboard").is_dir(), "{file}");
        }
        let other = dir.path().join("notes");
        fs::create_dir(&other).unwrap();
        assert!(!is_unborn(&other).unwrap());
    }
}
