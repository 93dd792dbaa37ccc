//! `manifest.json` of a run: every file that holds a setting or a result, with size and hash, so that damage anywhere in a run is found.
//!
//! The list is *open* while a process may be writing: then it promises only what it names (files that no longer change) and tolerates
//! files it does not name, because a process can die between writing a file and listing it. It is *closed* when the work has ended, or by
//! the next command that holds the run's lock: then it names every file that this program wrote, and a missing, changed or surplus one is
//! an error. What this program wrote is told by its name, or was noted down before it was written; nothing else is ever taken into the
//! list. Checkpoints come and go; each is covered by its own manifest, and a closed list holds the hash of that manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::atomic::{self, StorageError};
use super::layout::{CHECKPOINTS, EVENT_FOLDERS, EVENTS, MANIFEST_FILE, NOT_COVERED, OWN, parse_folder_name};
use super::manifest::{FileHash, read_sealed, seal};
use super::{inside, journal};

const FORMAT: &str = "ibhost-run-manifest";
const VERSION: u32 = 1;
/// Folders below a run deeper than this are none of ours.
const MAX_DEPTH: usize = 4;

/// Every file of a run by its path relative to the run's folder, `/` between names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileList {
    format: String,
    version: u32,
    /// The run the list belongs to.
    pub run_id: String,
    /// Whether a process may be writing files that are not listed yet.
    pub open: bool,
    /// Listed files.
    pub files: BTreeMap<String, FileHash>,
    self_hash: String,
}

impl FileList {
    /// An open list without files.
    pub(super) fn new(run_id: &str) -> Self {
        let files = BTreeMap::new();
        Self { format: FORMAT.into(), version: VERSION, run_id: run_id.into(), open: true, files, self_hash: String::new() }
    }

    /// Reads the list of the run in `run`.
    ///
    /// # Errors
    /// Missing, damaged, of another run or another version; always naming the list.
    pub fn read(run: &Path, run_id: &str) -> Result<Self, StorageError> {
        let path = run.join(MANIFEST_FILE);
        if !inside::check_file(&path)? {
            return Err(StorageError::damaged(&path, "it is missing, so nobody knows which files belong to the run"));
        }
        let list: Self =
            serde_json::from_value(read_sealed(&path, FORMAT, VERSION)?).map_err(|e| StorageError::damaged(&path, e.to_string()))?;
        if list.run_id != run_id {
            let reason = format!("it was written by run {}, but `.run.json` says that this is run {run_id}", list.run_id);
            return Err(StorageError::damaged(&path, reason));
        }
        if let Some(name) = list.files.keys().find(|name| name.split('/').any(|part| matches!(part, "" | "." | ".."))) {
            return Err(StorageError::damaged(&path, format!("it lists `{name}`, which does not lie in the run's folder")));
        }
        Ok(list)
    }

    /// Writes the list.
    pub(super) fn write(&self, run: &Path) -> Result<(), StorageError> {
        let path = run.join(MANIFEST_FILE);
        let text = serde_json::to_value(self).and_then(seal).map_err(|e| StorageError::encode(&path, e.to_string()))?;
        atomic::write_atomic(&path, &text)
    }

    /// Opens the list: drops what `changes` accepts, adds every other file of this program that is there and not listed yet, and keeps what
    /// it says of the rest, so that damage of a file that was listed before is still found afterwards.
    pub(super) fn reopen(&mut self, run: &Path, changes: impl Fn(&str) -> bool) -> Result<(), StorageError> {
        self.open = true;
        self.files.retain(|name, _| !changes(name));
        self.add(run, |name| !changes(name) && is_known(name))
    }

    /// Closes the list: adds every file of this program that is there and not listed yet, and reads results again that were written since.
    pub(super) fn close(&mut self, run: &Path) -> Result<(), StorageError> {
        let noted = journal::names(run)?;
        self.files.retain(|name, _| !noted.contains(name));
        self.add(run, |name| is_known(name) || noted.contains(name))?;
        self.open = false;
        Ok(())
    }

    /// Adds the regular files that `wanted` accepts and that are not listed yet; links are none of ours and stay out.
    fn add(&mut self, run: &Path, wanted: impl Fn(&str) -> bool) -> Result<(), StorageError> {
        for name in present(run)? {
            if wanted(&name) && !self.files.contains_key(&name) && inside::is_file(&run.join(&name)) {
                let hash = hash_of(run, &name)?;
                self.files.insert(name, hash);
            }
        }
        Ok(())
    }

    /// The files of `run` whose content an open list says nothing about, in order of names: results that are being written or were when a
    /// process died, and what somebody else put there. Settings, checkpoints and event files are covered in other ways too and are left out.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn uncovered(&self, run: &Path) -> Result<Vec<String>, StorageError> {
        if !self.open {
            return Ok(Vec::new());
        }
        let noted = journal::names(run)?;
        let unlisted = |name: &String| !self.files.contains_key(name) || noted.contains(name);
        Ok(present(run)?.into_iter().filter(|name| unlisted(name) && !is_known(name)).collect())
    }

    /// Compares the files of `run` with the list; every problem found, in order of names. Checkpoints are compared by their manifest only.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn check(&self, run: &Path) -> Result<Vec<StorageError>, StorageError> {
        let mut problems = Vec::new();
        let noted = if self.open { journal::names(run)? } else { BTreeSet::new() };
        for (name, expected) in self.files.iter().filter(|(name, _)| !noted.contains(*name)) {
            let path = run.join(name);
            match fs::symlink_metadata(&path) {
                Ok(kind) if !kind.is_file() => problems.push(StorageError::damaged(&path, "a regular file is expected")),
                // The length is compared first, so that a swollen file is never read into memory.
                Ok(kind) if kind.len() != expected.bytes => {
                    problems.push(StorageError::damaged(&path, format!("it has {} bytes, {} were written", kind.len(), expected.bytes)));
                }
                Ok(_) => match hash_of(run, name) {
                    Ok(found) if found == *expected => {}
                    Ok(found) => problems.push(StorageError::damaged(&path, self.origin(&found))),
                    Err(error) => problems.push(error),
                },
                Err(error) if error.kind() == ErrorKind::NotFound => problems.push(StorageError::damaged(&path, "it is missing")),
                Err(error) => problems.push(StorageError::io("inspect", &path, error)),
            }
        }
        if !self.open {
            let surplus = present(run)?.into_iter().filter(|name| !self.files.contains_key(name));
            let reason =
                "the run's manifest does not list it\n  hint: move it elsewhere; a result is listed once `ibhost analyze` writes it again";
            problems.extend(surplus.map(|name| StorageError::foreign(&run.join(name), reason)));
        }
        Ok(problems)
    }

    /// Why a file with the hash `found` is not the one that was listed.
    fn origin(&self, found: &FileHash) -> String {
        match self.files.iter().find(|(_, hash)| *hash == found) {
            Some((other, _)) => format!("it holds the content of `{other}`"),
            None => "its content is not what was written".to_owned(),
        }
    }
}

fn hash_of(run: &Path, name: &str) -> Result<FileHash, StorageError> {
    Ok(FileHash::of(&inside::read(&run.join(name))?))
}

/// Whether a run always writes the file `name` itself, under no other name than this.
fn is_known(name: &str) -> bool {
    let event = |(folder, file): (&str, &str)| EVENT_FOLDERS.contains(&folder) && file.starts_with(EVENTS);
    OWN.contains(&name)
        || (name.starts_with(CHECKPOINTS) && is_checkpoint_manifest(name))
        || name.strip_prefix("tensorboard/").and_then(|name| name.split_once('/')).is_some_and(event)
}

fn is_checkpoint_manifest(name: &str) -> bool {
    let folder = name.strip_prefix(CHECKPOINTS).and_then(|name| name.strip_suffix(MANIFEST_FILE)).and_then(|name| name.strip_suffix('/'));
    folder.is_some_and(|folder| parse_folder_name(folder).is_some())
}

/// Names of all files a list covers, sorted: everything but [`NOT_COVERED`], what is being written, and the files inside of checkpoints other
/// than their manifests.
fn present(run: &Path) -> Result<Vec<String>, StorageError> {
    let mut names = Vec::new();
    let mut open = vec![(String::new(), 0)];
    while let Some((folder, depth)) = open.pop() {
        let path = run.join(&folder);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            // A checkpoint that was retired between listing and looking.
            Err(error) if error.kind() == ErrorKind::NotFound && depth > 0 => continue,
            Err(error) => return Err(StorageError::io("list", &path, error)),
        };
        for entry in entries {
            let entry = entry.map_err(|source| StorageError::io("list", &path, source))?;
            let plain = entry.file_name().to_string_lossy().into_owned();
            if atomic::is_temporary_name(&plain) || (depth == 0 && NOT_COVERED.contains(&plain.as_str())) {
                continue;
            }
            let kind = entry.file_type().map_err(|source| StorageError::io("inspect", &entry.path(), source))?;
            let name = format!("{folder}{plain}");
            if !kind.is_dir() {
                names.push(name);
            } else if folder == CHECKPOINTS && parse_folder_name(&plain).is_some() {
                if inside::is_file(&entry.path().join(MANIFEST_FILE)) {
                    names.push(format!("{name}/{MANIFEST_FILE}"));
                }
            } else if depth < MAX_DEPTH {
                open.push((format!("{name}/"), depth + 1));
            }
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::super::layout::LOG_FILE;
    use super::*;

    /// A closed run with a result, a log and a checkpoint.
    fn run() -> (tempfile::TempDir, FileList) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["analyses", "checkpoints/last-000000001"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        let files = [("config.yml", "a: 1"), ("analyses/curves.json", "{}"), (LOG_FILE, "text"), (".tmp-x-1-77777777777", "half")];
        for (name, text) in files.into_iter().chain([
            ("checkpoints/last-000000001/manifest.json", "m"),
            ("checkpoints/last-000000001/weights.safetensors", "covered by the manifest beside it"),
        ]) {
            fs::write(at(name), text).unwrap();
        }
        journal::note(dir.path(), "analyses/curves.json").unwrap();
        let mut list = FileList::new("run-a");
        list.close(dir.path()).unwrap();
        list.write(dir.path()).unwrap();
        journal::clear(dir.path()).unwrap();
        (dir, list)
    }

    fn problems(dir: &Path) -> Vec<String> {
        FileList::read(dir, "run-a").unwrap().check(dir).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_closed_list_names_every_file_and_nothing_else_may_be_there() {
        let (dir, list) = run();
        assert_eq!(
            list.files.keys().collect::<Vec<_>>(),
            ["analyses/curves.json", "checkpoints/last-000000001/manifest.json", "config.yml"]
        );
        assert_eq!(problems(dir.path()), [""; 0]);
        fs::write(dir.path().join("analyses/extra.json"), "").unwrap();
        assert!(problems(dir.path())[0].contains("extra.json` does not belong here"));
        fs::remove_file(dir.path().join("analyses/extra.json")).unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link")).unwrap();
            let mut again = list.clone();
            again.close(dir.path()).unwrap();
            assert_eq!(again, list);
            assert!(problems(dir.path())[0].contains("link` does not belong here"));
            fs::remove_file(dir.path().join("link")).unwrap();
        }
        fs::write(dir.path().join("config.yml"), "a: 2").unwrap();
        assert!(problems(dir.path())[0].contains("config.yml` is damaged: its content"));
        fs::write(dir.path().join("config.yml"), "a: 11").unwrap();
        assert!(problems(dir.path())[0].contains("5 bytes, 4 were written"));
        fs::remove_file(dir.path().join("config.yml")).unwrap();
        fs::remove_dir_all(dir.path().join("checkpoints/last-000000001")).unwrap();
        let found = problems(dir.path());
        assert!(
            found[0].contains("last-000000001/manifest.json") && found[1].contains("config.yml` is damaged: it is missing"),
            "{found:?}"
        );
    }

    #[test]
    fn an_open_list_keeps_what_it_knew_and_tolerates_what_is_new() {
        let (dir, mut list) = run();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("config.yml"), "a: 2").unwrap();
        list.reopen(dir.path(), |name| name == "metrics.jsonl").unwrap();
        list.write(dir.path()).unwrap();
        for (name, text) in [("analyses/curves.json", "{\"a\": 1}"), ("analyses/second.json", "{}")] {
            journal::note(dir.path(), name).unwrap();
            fs::write(at(name), text).unwrap();
        }
        let found = problems(dir.path());
        assert!(found.len() == 1 && found[0].contains("config.yml"), "what was damaged before stays damaged: {found:?}");
        fs::write(at("analyses/stray.json"), "{}").unwrap();
        assert_eq!(list.uncovered(dir.path()).unwrap(), ["analyses/curves.json", "analyses/second.json", "analyses/stray.json"]);
        list.close(dir.path()).unwrap();
        list.write(dir.path()).unwrap();
        assert_eq!(list.files.len(), 4);
        assert!(list.uncovered(dir.path()).unwrap().is_empty());
        let found = problems(dir.path());
        assert!(found.len() == 2 && found[1].contains("stray.json` does not belong here"), "what nobody noted is not taken in: {found:?}");
    }

    #[test]
    fn only_what_a_run_writes_under_its_own_names_is_known_without_a_note() {
        for name in [
            "config.yml",
            ".run.json",
            "metrics.jsonl",
            "tensorboard/test_average/events.out.tfevents.1.host.2.0",
            "checkpoints/best-000000012-r2/manifest.json",
        ] {
            assert!(is_known(name), "{name}");
        }
        for name in [
            ".ibhost-index.sqlite",
            "notes.txt",
            "plots/config.yml",
            "tensorboard/notes.txt",
            "tensorboard/mine/events.out.tfevents.1",
            "checkpoints/manifest.json",
            "checkpoints/mine/manifest.json",
            "checkpoints/last-000000001/notes.txt",
        ] {
            assert!(!is_known(name), "{name}");
        }
    }

    #[test]
    fn a_result_that_changed_is_found_although_another_one_is_written() {
        let (dir, mut list) = run();
        fs::write(dir.path().join("analyses/curves.json"), "[]").unwrap();
        list.reopen(dir.path(), |_| false).unwrap();
        journal::note(dir.path(), "analyses/second.json").unwrap();
        fs::write(dir.path().join("analyses/second.json"), "{}").unwrap();
        list.close(dir.path()).unwrap();
        list.write(dir.path()).unwrap();
        let found = problems(dir.path());
        assert!(found.len() == 1 && found[0].contains("curves.json"), "{found:?}");
    }

    #[test]
    fn the_list_itself_is_sealed_and_belongs_to_its_run() {
        let (dir, _) = run();
        let path = dir.path().join(MANIFEST_FILE);
        assert!(FileList::read(dir.path(), "run-b").unwrap_err().to_string().contains("run-b"));
        let sound = fs::read(&path).unwrap();
        for position in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[position] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert!(FileList::read(dir.path(), "run-a").is_err(), "byte {position}");
        }
        let mut escaping = FileList::new("run-a");
        escaping.files.insert("../config.yml".into(), FileHash::of(b""));
        escaping.write(dir.path()).unwrap();
        assert!(FileList::read(dir.path(), "run-a").unwrap_err().to_string().contains("../config.yml"));
        fs::remove_file(&path).unwrap();
        assert!(FileList::read(dir.path(), "run-a").unwrap_err().to_string().contains("missing"));
    }
}
