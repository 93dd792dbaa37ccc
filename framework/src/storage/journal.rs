//! `.unlisted` of a run: the names of results that were written since the run's list of files was last closed, each noted before it is
//! written. So a list that is closed later names what this program wrote, also by processes that died or did not hold the run's lock,
//! and nothing that anybody else put there.

use std::collections::BTreeSet;
use std::path::Path;

use super::atomic::{self, StorageError};
use super::inside;

/// Name of the file; it is gone once the list is closed.
pub(super) const JOURNAL_FILE: &str = ".unlisted";

/// Notes that the file `name` of the run in `run` is about to be written.
pub(super) fn note(run: &Path, name: &str) -> Result<(), StorageError> {
    let path = run.join(JOURNAL_FILE);
    if name.contains('\n') {
        return Err(StorageError::encode(&run.join(name), "a result cannot have a line break in its name"));
    }
    let file = inside::open_append(&path)?;
    // A line before it that a dying process left unfinished must not swallow the name.
    atomic::write_all(&file, &path, format!("\n{name}\n").as_bytes())
}

/// The names noted so far.
pub(super) fn names(run: &Path) -> Result<BTreeSet<String>, StorageError> {
    let path = run.join(JOURNAL_FILE);
    if !inside::check_file(&path)? {
        return Ok(BTreeSet::new());
    }
    let bytes = inside::read(&path)?;
    Ok(String::from_utf8_lossy(&bytes).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// Forgets all names, which are listed now.
pub(super) fn clear(run: &Path) -> Result<(), StorageError> {
    let path = run.join(JOURNAL_FILE);
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
        clear(dir.path()).unwrap();
        clear(dir.path()).unwrap();
        assert!(!path.exists());
    }
}
