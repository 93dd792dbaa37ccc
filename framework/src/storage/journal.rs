//! `.unlisted` of a run: the names of results that were written since the run's list of files was last closed, each noted before it is
//! written. So a list that is closed later names what this program wrote, also by processes that died or did not hold the run's lock,
//! and nothing that anybody else put there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::atomic::{self, StorageError};
use super::inside;
use super::layout::JOURNAL_FILE;

/// What this process noted itself, by the run's folder: another one that closes the list in between forgets what is not written by then.
static NOTED: Mutex<BTreeSet<(PathBuf, String)>> = Mutex::new(BTreeSet::new());

fn noted() -> MutexGuard<'static, BTreeSet<(PathBuf, String)>> {
    NOTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The folder of a run under one name, whatever it was called by.
fn real(run: &Path) -> PathBuf {
    std::fs::canonicalize(run).unwrap_or_else(|_| run.to_path_buf())
}

/// Notes that the file `name` of the run in `run` is about to be written.
pub(super) fn note(run: &Path, name: &str) -> Result<(), StorageError> {
    let path = run.join(JOURNAL_FILE);
    if name.contains('\n') {
        return Err(StorageError::encode(&run.join(name), "a result cannot have a line break in its name"));
    }
    noted().insert((real(run), name.to_owned()));
    let file = inside::open_append(&path)?;
    // A line before it that a dying process left unfinished must not swallow the name.
    atomic::write_all(&file, &path, format!("\n{name}\n").as_bytes())
}

/// The names noted so far.
pub(super) fn names(run: &Path) -> Result<BTreeSet<String>, StorageError> {
    let (path, run) = (run.join(JOURNAL_FILE), real(run));
    let mut names: BTreeSet<String> = noted().iter().filter(|(of, _)| *of == run).map(|(_, name)| name.clone()).collect();
    if inside::check_file(&path)? {
        let bytes = inside::read(&path)?;
        names.extend(String::from_utf8_lossy(&bytes).lines().filter(|line| !line.is_empty()).map(str::to_owned));
    }
    Ok(names)
}

/// Forgets all names, which are listed now.
pub(super) fn clear(run: &Path) -> Result<(), StorageError> {
    let path = run.join(JOURNAL_FILE);
    let own = real(run);
    noted().retain(|(of, _)| *of != own);
    if inside::check_file(&path)? { atomic::remove_file(&path) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_are_kept_until_they_are_listed_and_a_torn_line_swallows_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(names(dir.path()).unwrap().is_empty());
        note(dir.path(), "plots/a.png").unwrap();
        let path = dir.path().join(JOURNAL_FILE);
        fs::write(&path, [&fs::read(&path).unwrap()[..], b"\nplots/b"].concat()).unwrap();
        note(dir.path(), "plots/c.png").unwrap();
        assert_eq!(names(dir.path()).unwrap().into_iter().collect::<Vec<_>>(), ["plots/a.png", "plots/b", "plots/c.png"]);
        assert!(note(dir.path(), "plots/a\nb").is_err());
        // Another process has closed the list meanwhile.
        fs::remove_file(&path).unwrap();
        assert_eq!(names(dir.path()).unwrap().into_iter().collect::<Vec<_>>(), ["plots/a.png", "plots/c.png"]);
        note(dir.path(), "plots/a.png").unwrap();
        clear(dir.path()).unwrap();
        clear(dir.path()).unwrap();
        assert!(names(dir.path()).unwrap().is_empty());
        assert!(!path.exists());
    }
}
