//! What lies below a folder: runs, and folders that were to become runs and did not.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ibhost_framework::storage::RunDir;
use rayon::prelude::*;

use super::sections::Sections;
use crate::definition::Definition;
use crate::folder::{SWEEP_FILE, SweepFolder, membership};

/// Deepest nesting of folders that is searched for runs.
const DEPTH: usize = 8;
/// What marks a folder as a run.
pub(super) const IDENTITY: &str = ".run.json";
/// The files of a run that its row is made of.
const FILES: [&str; 3] = [IDENTITY, "summary.yml", "config.yml"];
/// Folders and files that only runs have together.
const INNER: [&str; 4] = ["tensorboard", "checkpoints", "plots", "analyses"];
const OUTER: [&str; 4] = [".lock", "manifest.json", "config.yml", "summary.yml"];
/// A file that changed this recently may change again without a later time: clocks of file systems are coarse.
const COARSE: Duration = Duration::from_secs(2);

/// What changes whenever a file that a row is made of does.
pub(super) type Stamp = [u8; 16];

/// A folder that is a run or should be one.
#[derive(Debug)]
pub(super) struct Found {
    /// The folder.
    pub path: PathBuf,
    /// Why it is none, of one that was to become a run.
    pub broken: Option<String>,
    /// `None` when its files are too young to be told from those of the next moment.
    pub stamp: Option<Stamp>,
}

/// What runs have in common, each read once: the sweeps they belong to, and sections of their settings.
#[derive(Debug, Default)]
pub(super) struct Shared {
    known: Mutex<HashMap<PathBuf, Option<Arc<Sweep>>>>,
    /// Settings.
    pub sections: Sections,
}

/// One sweep.
#[derive(Debug)]
pub(super) struct Sweep {
    /// Name of its folder.
    pub name: String,
    /// What the definition says, or why it cannot be read.
    pub definition: Result<Definition, String>,
    times: Option<Vec<u8>>,
}

impl Shared {
    /// The sweep and the number of the trial that the run in `path` belongs to.
    pub fn of(&self, path: &Path) -> Option<(Arc<Sweep>, usize)> {
        // Names tell most runs apart from trials without a look at the disk.
        path.parent()?.file_name()?.to_str()?.parse::<usize>().ok()?;
        let (folder, number) = membership(path)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.entry(folder.clone()).or_insert_with(|| {
            let times = fs::symlink_metadata(folder.join(SWEEP_FILE)).ok().and_then(|metadata| times(&metadata, SystemTime::now()));
            let definition = SweepFolder::definition(&folder).map_err(|error| error.to_string());
            let name = folder.file_name()?.to_string_lossy().into_owned();
            Some(Arc::new(Sweep { name, definition, times }))
        });
        entry.clone().map(|sweep| (sweep, number))
    }
}

/// Everything in `folder` and below, sorted by path, the folder itself where it is a run; links are not followed.
///
/// # Errors
/// When `folder` itself cannot be listed; what cannot be read below it is passed over with a warning.
pub(super) fn scan(folder: &Path, now: SystemTime, shared: &Shared) -> Result<Vec<Found>, io::Error> {
    let mut found = Vec::new();
    let mut level = vec![folder.to_path_buf()];
    for depth in 0..=DEPTH + 1 {
        // Beyond the deepest level runs are still recognised, but no folder is opened.
        let seen: Vec<_> = level.into_par_iter().map(|path| (look(&path, depth <= DEPTH, now, shared), path)).collect();
        level = Vec::new();
        for (result, path) in seen {
            match result {
                Ok(Seen::Run(run)) => found.push(run),
                Ok(Seen::Folder(inner)) => level.extend(inner),
                Err(error) if depth == 0 => return Err(error),
                // A folder that vanished meanwhile is none.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!("`{}` is passed over: {error}", path.display()),
            }
        }
    }
    found.sort_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
    Ok(found)
}

enum Seen {
    Run(Found),
    Folder(Vec<PathBuf>),
}

fn look(path: &Path, opened: bool, now: SystemTime, shared: &Shared) -> Result<Seen, io::Error> {
    if fs::symlink_metadata(path.join(IDENTITY)).is_ok() {
        return Ok(Seen::Run(Found { path: path.to_path_buf(), broken: None, stamp: stamp(path, now, shared) }));
    }
    if !opened {
        return Ok(Seen::Folder(Vec::new()));
    }
    let (mut folders, mut inner, mut outer, mut checkpoints) = (Vec::new(), 0, 0, false);
    for entry in fs::read_dir(path)?.flatten() {
        let name = entry.file_name();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && INNER.iter().any(|known| name == *known) {
            inner += 1;
            checkpoints |= name == "checkpoints";
        }
        outer += usize::from(!is_folder && OUTER.iter().any(|known| name == *known));
        if is_folder && !name.as_encoded_bytes().starts_with(b".") {
            folders.push(entry.path());
        }
    }
    // Without its identity a run is recognised by what is left of it, or by a name that only this program gives.
    if (checkpoints && outer > 0) || (inner == folders.len() && is_run_name(path)) {
        return Ok(Seen::Run(Found { path: path.to_path_buf(), broken: Some(unborn(path, outer)), stamp: None }));
    }
    Ok(Seen::Folder(folders))
}

/// Why a folder without identity is no run.
fn unborn(path: &Path, files: usize) -> String {
    if RunDir::holder(path).ok().flatten().is_some() {
        return "a process is creating it".to_owned();
    }
    if ["config.yml", "summary.yml"].iter().any(|name| path.join(name).exists()) {
        return format!("its `{IDENTITY}` is missing: restore it from a copy of the run");
    }
    let what = if files > 0 { "its process ended" } else { "its process ended, or everything in it was removed" };
    format!("{what} while it was created; nothing was computed, and the folder can be removed")
}

/// Whether the folder is called as this program calls runs: `<stem>--2026-01-02T03-04-05-0123abcd`.
fn is_run_name(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let Some((_, tail)) = name.rsplit_once("--") else { return false };
    let Some((time, id)) = tail.split_at_checked(19) else { return false };
    let form = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let is_id = |id: &str| id.len() == 9 && id.starts_with('-') && id[1..].bytes().all(|b| b.is_ascii_hexdigit());
    time.chars().map(form).eq("0000-00-00T00-00-00".chars()) && is_id(id)
}

/// What changes whenever a file that the row of the run in `path` is made of does, its place in a sweep, or that sweep.
fn stamp(path: &Path, now: SystemTime, shared: &Shared) -> Option<Stamp> {
    let mut hasher = blake3::Hasher::new();
    for name in FILES {
        match fs::symlink_metadata(path.join(name)) {
            // What a link leads to may change without the link.
            Ok(metadata) if !metadata.is_file() => return None,
            Ok(metadata) => hasher.update(&times(&metadata, now)?),
            Err(_) => hasher.update(b"none"),
        };
    }
    if let Some((sweep, number)) = shared.of(path) {
        hasher.update(sweep.name.as_bytes()).update(&number.to_le_bytes()).update(sweep.times.as_deref()?);
    }
    let mut stamp = Stamp::default();
    stamp.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Some(stamp)
}

/// Times, length and number of a file; `None` when it changed just now.
fn times(metadata: &Metadata, now: SystemTime) -> Option<Vec<u8>> {
    let modified = metadata.modified().ok()?;
    let settled = now.duration_since(modified).is_ok_and(|age| age > COARSE);
    let nanoseconds = modified.duration_since(UNIX_EPOCH).ok()?.as_nanos();
    let mut bytes = [nanoseconds.to_le_bytes().as_slice(), &metadata.len().to_le_bytes()].concat();
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        // The time of the last change of anything about the file cannot be set back.
        for number in [metadata.ino() as i64, metadata.ctime(), metadata.ctime_nsec()] {
            bytes.extend(number.to_le_bytes());
        }
        let seconds = now.duration_since(UNIX_EPOCH).ok()?.as_secs() as i64;
        if seconds - metadata.ctime() <= COARSE.as_secs() as i64 {
            return None;
        }
    }
    settled.then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_runs_are_told_from_others() {
        assert!(is_run_name(Path::new("runs/mlp-vib--2026-12-01T10-41-29-c79d1439")));
        for other in
            ["mlp-vib--2026-12-01T10-41-29", "mlp-vib--2026-12-01T10-41-29-c79d143x", "trials", "a--b", "--é2026-12-01T10-41-29-c79d1439"]
        {
            assert!(!is_run_name(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn what_was_to_become_a_run_is_found_with_a_reason_and_other_folders_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a--2026-12-01T10-41-29-c79d1439", "renamed/checkpoints", "project/plots", "b--2026-12-01T10-41-29-c79d1430/runs"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        fs::write(at("renamed/summary.yml"), "").unwrap();
        let found = scan(folder.path(), SystemTime::now(), &Shared::default()).unwrap();
        let found: Vec<(&str, &str)> =
            found.iter().map(|found| (found.path.file_name().unwrap().to_str().unwrap(), found.broken.as_deref().unwrap())).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].0.starts_with("a--") && found[0].1.contains("can be removed"), "{found:?}");
        assert!(found[1].0 == "renamed" && found[1].1.contains("`.run.json` is missing"), "{found:?}");
    }
}
