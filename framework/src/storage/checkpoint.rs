//! Checkpoints: a run's tensors and state as one folder of files that are complete and matching, or refused.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::atomic::{self, AtomicDir, StorageError};
use super::inside;
use super::layout::{MANIFEST_FILE, STATE_FILE, TENSOR_SUFFIX, folder_name, parse_folder_name};
use super::manifest::{Manifest, verify};
use super::tensors;

pub use super::layout::Label;
pub use super::tensors::{HostData, HostTensor};

/// Everything a checkpoint holds, as plain host data.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointContent {
    /// Counters, schedules and the like. JSON has no NaN or infinity: such numbers must be stored as text or bits.
    pub state: Value,
    /// File stem (`weights`, `optimiser`, `average`) to tensor name to tensor.
    pub tensors: BTreeMap<String, BTreeMap<String, HostTensor>>,
}

/// One checkpoint on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointEntry {
    /// Why it is kept.
    pub label: Label,
    /// Optimiser steps done.
    pub step: u64,
    /// 1, or more when the same step was saved again with other content.
    pub revision: u32,
    /// Its folder.
    pub path: PathBuf,
}

/// The checkpoints of one run.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    folder: PathBuf,
    run_id: String,
}

impl CheckpointStore {
    /// The store in `folder` of the run with this id.
    pub(super) fn new(folder: PathBuf, run_id: &str) -> Self {
        Self { folder, run_id: run_id.to_owned() }
    }

    /// Saves a complete checkpoint, then removes those of the same label beyond the `keep` newest (at least 1) and any of a later step,
    /// which a run that went back to an earlier checkpoint has abandoned. Returns the folder.
    ///
    /// # Errors
    /// When the content cannot be encoded or the disk refuses; earlier checkpoints then stay valid.
    pub fn save(&self, label: Label, step: u64, content: &CheckpointContent, keep: usize) -> Result<PathBuf, StorageError> {
        let files = encode(&self.folder, content)?;
        let mut manifest = Manifest::new(&self.run_id, label.as_str(), step);
        for (name, bytes) in &files {
            manifest.add(name, bytes);
        }
        let existing = self.list()?;
        let same_step = existing.iter().filter(|entry| entry.label == label && entry.step == step);
        let newest_twin = same_step.max_by_key(|entry| entry.revision);
        let (revision, saved) = match newest_twin {
            // After a resume the same step is often reached again with the same content; nothing needs writing then.
            Some(twin) if verify(&twin.path).is_ok_and(|found| found.files == manifest.files && found.run_id == self.run_id) => {
                (twin.revision, twin.path.clone())
            }
            twin => {
                let revision = twin.map_or(1, |t| t.revision.saturating_add(1));
                (revision, self.write(&folder_name(label, step, revision), &files, &manifest)?)
            }
        };
        let (older, abandoned): (Vec<_>, Vec<_>) = existing
            .into_iter()
            .filter(|entry| entry.label == label && (entry.step, entry.revision) != (step, revision))
            .partition(|entry| (entry.step, entry.revision) < (step, revision));
        let surplus = older.len().saturating_sub(keep.max(1) - 1);
        for entry in &abandoned {
            atomic::retire_folder(&entry.path)?;
        }
        for entry in &older[..surplus] {
            match atomic::retire_folder(&entry.path) {
                // Somebody's own file lies in it; an older checkpoint harms nobody.
                Err(error @ StorageError::Foreign { .. }) => tracing::warn!("{error}"),
                result => result?,
            }
        }
        Ok(saved)
    }

    /// Writes the files and, last, the manifest.
    fn write(&self, name: &str, files: &BTreeMap<String, Vec<u8>>, manifest: &Manifest) -> Result<PathBuf, StorageError> {
        let mut folder = AtomicDir::new(&self.folder, name)?;
        for (file, bytes) in files {
            folder.file(file, bytes)?;
        }
        let text = manifest.to_bytes().map_err(|e| StorageError::encode(&self.folder.join(name).join(MANIFEST_FILE), e.to_string()))?;
        folder.file(MANIFEST_FILE, &text)?;
        folder.commit(name)
    }

    /// The newest checkpoint of a label with its step, `None` when there is none.
    ///
    /// # Errors
    /// When the newest is damaged: names the file and the newest older checkpoint that is sound.
    pub fn load(&self, label: Label) -> Result<Option<(u64, CheckpointContent)>, StorageError> {
        let mut entries = self.list()?;
        entries.retain(|entry| entry.label == label);
        let Some(newest) = entries.pop() else {
            return Ok(None);
        };
        let error = match self.load_own(&newest.path) {
            Ok(content) => return Ok(Some((newest.step, content))),
            Err(error) => error,
        };
        let sound = self.newest_sound(label)?;
        let advice = sound.map_or_else(
            || format!("there is no older sound `{label}` checkpoint"),
            |entry| {
                let path = entry.path.display();
                format!("the checkpoint of step {} in `{path}` is sound: `ibhost resume --skip-damaged` continues from it", entry.step)
            },
        );
        Err(match error {
            StorageError::Damaged { path, reason } => StorageError::Damaged { path, reason: format!("{reason}; {advice}") },
            StorageError::Foreign { path, reason } => StorageError::Foreign { path, reason: format!("{reason}; {advice}") },
            other => other,
        })
    }

    /// All checkpoints by label, step and revision, oldest first; their content is not read.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<CheckpointEntry>, StorageError> {
        inside::check_folder(&self.folder)?;
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StorageError::io("list", &self.folder, error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| StorageError::io("list", &self.folder, source))?;
            if let Some((label, step, revision)) = parse_folder_name(&entry.file_name().to_string_lossy()) {
                inside::check_folder(&entry.path())?;
                found.push(CheckpointEntry { label, step, revision, path: entry.path() });
            }
        }
        found.sort_by_key(|entry| (entry.label, entry.step, entry.revision));
        Ok(found)
    }

    /// The checkpoint in a given folder, of whatever run, with its step.
    ///
    /// # Errors
    /// When it is damaged, naming the file.
    pub fn load_path(path: &Path) -> Result<(u64, CheckpointContent), StorageError> {
        let (manifest, content) = decode(path)?;
        Ok((manifest.step, content))
    }

    /// The newest checkpoint of a label whose every file is what was written.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn newest_sound(&self, label: Label) -> Result<Option<CheckpointEntry>, StorageError> {
        let entries = self.list()?;
        Ok(entries.into_iter().rev().find(|entry| entry.label == label && self.load_own(&entry.path).is_ok()))
    }

    /// Removes one checkpoint.
    ///
    /// # Errors
    /// [`StorageError::Foreign`] when somebody else's file lies in its folder, or what the disk refused; it then stays.
    pub fn remove(&self, entry: &CheckpointEntry) -> Result<(), StorageError> {
        atomic::retire_folder(&entry.path)
    }

    /// The checkpoint in `path`, which must have been written by this run.
    ///
    /// # Errors
    /// When it is damaged or of another run, naming the file.
    pub fn load_own(&self, path: &Path) -> Result<CheckpointContent, StorageError> {
        let (manifest, content) = decode(path)?;
        if manifest.run_id != self.run_id {
            let reason = format!("it was written by run {}, this is run {}", manifest.run_id, self.run_id);
            return Err(StorageError::foreign(&path.join(MANIFEST_FILE), reason));
        }
        Ok(content)
    }
}

/// The bytes of every file but the manifest.
fn encode(folder: &Path, content: &CheckpointContent) -> Result<BTreeMap<String, Vec<u8>>, StorageError> {
    let mut files = BTreeMap::new();
    for (stem, tensors) in &content.tensors {
        let name = format!("{stem}{TENSOR_SUFFIX}");
        let bytes = tensors::to_bytes(tensors).map_err(|reason| StorageError::encode(&folder.join(&name), reason))?;
        files.insert(name, bytes);
    }
    let state = serde_json::to_vec_pretty(&content.state).map_err(|e| StorageError::encode(&folder.join(STATE_FILE), e.to_string()))?;
    files.insert(STATE_FILE.into(), state);
    Ok(files)
}

/// Reads a checkpoint folder; each file is read once, checked, then parsed from the checked bytes.
fn decode(folder: &Path) -> Result<(Manifest, CheckpointContent), StorageError> {
    let manifest = Manifest::read(folder)?;
    let mut tensors = BTreeMap::new();
    let mut state = None;
    for name in manifest.files.keys() {
        let path = folder.join(name);
        let bytes = manifest.read_file(folder, name)?;
        if name == STATE_FILE {
            state = Some(serde_json::from_slice(&bytes).map_err(|e| StorageError::damaged(&path, format!("not valid JSON: {e}")))?);
        } else if let Some(stem) = name.strip_suffix(TENSOR_SUFFIX) {
            let group = tensors::from_bytes(&bytes).map_err(|reason| StorageError::damaged(&path, reason))?;
            tensors.insert(stem.to_owned(), group);
        } else {
            return Err(StorageError::foreign(&path, "a checkpoint has only `.safetensors` files and `state.json`"));
        }
    }
    let state = state.ok_or_else(|| StorageError::damaged(&folder.join(STATE_FILE), "it is missing"))?;
    Ok((manifest, CheckpointContent { state, tensors }))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use serde_json::json;

    use super::super::fault::sweep::{self, FAILURES};
    use super::super::fault::{self, Verdict};
    use super::*;

    fn content(value: f32) -> CheckpointContent {
        let weights = [
            ("encoder.weight", HostTensor { shape: vec![2, 2], data: HostData::F32(vec![value, -0.0, f32::NAN.abs(), f32::INFINITY]) }),
            ("encoder.scale", HostTensor { shape: vec![], data: HostData::F64(vec![f64::from(value) / 3.0]) }),
        ];
        let optimiser = [
            ("time", HostTensor { shape: vec![1], data: HostData::I64(vec![i64::MIN]) }),
            ("flags", HostTensor { shape: vec![3], data: HostData::U8(vec![0, 1, 255]) }),
        ];
        let group = |tensors: Vec<(&str, HostTensor)>| tensors.into_iter().map(|(n, t)| (n.to_owned(), t)).collect::<BTreeMap<_, _>>();
        CheckpointContent {
            state: json!({ "z_first": 1, "step": u64::MAX, "rate": 0.1 + 0.2 * f64::from(value), "phases": [1, 2], "a_last": null }),
            tensors: BTreeMap::from([
                ("weights".to_owned(), group(weights.into())),
                ("optimiser".to_owned(), group(optimiser.into())),
                ("average".to_owned(), BTreeMap::new()),
            ]),
        }
    }

    fn store() -> (tempfile::TempDir, CheckpointStore) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("checkpoints");
        fs::create_dir(&folder).unwrap();
        (dir, CheckpointStore { folder, run_id: "run-a".into() })
    }

    /// Equality of what a file would hold, so that NaN equals itself.
    fn same(a: &CheckpointContent, b: &CheckpointContent) -> bool {
        encode(Path::new(""), a).unwrap() == encode(Path::new(""), b).unwrap()
    }

    fn names(store: &CheckpointStore) -> Vec<String> {
        store.list().unwrap().iter().map(|e| e.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn what_is_saved_is_loaded_bit_for_bit() {
        let (_dir, store) = store();
        assert!(store.load(Label::Last).unwrap().is_none());
        let saved = content(1.5);
        let path = store.save(Label::Last, 12, &saved, 1).unwrap();
        assert!(path.ends_with("last-000000012"));
        let (step, loaded) = store.load(Label::Last).unwrap().unwrap();
        assert_eq!(step, 12);
        assert!(same(&saved, &loaded));
        assert_eq!(saved.state.to_string(), loaded.state.to_string(), "order of keys and digits of numbers");
        assert_eq!(loaded.tensors.len(), 3);
        assert!(same(&CheckpointStore::load_path(&path).unwrap().1, &saved));
        assert!(store.load(Label::Best).unwrap().is_none(), "kinds do not share files");
    }

    #[test]
    fn state_numbers_come_back_exactly() {
        let (_dir, store) = store();
        // Many digits make a reader that rounds carelessly differ in the last place.
        let numbers: Vec<f64> = (1..2000u32).map(|i| (f64::from(i) * 0.737_351_9).exp() % 1e9 / f64::from(i * i)).collect();
        let saved = CheckpointContent { state: json!(numbers), tensors: BTreeMap::new() };
        store.save(Label::Best, 0, &saved, 1).unwrap();
        assert_eq!(store.load(Label::Best).unwrap().unwrap().1, saved);
    }

    #[test]
    fn older_ones_go_only_beyond_the_number_to_keep_and_abandoned_later_ones_go_too() {
        let (_dir, store) = store();
        for step in [100, 200, 300] {
            store.save(Label::Last, step, &content(1.0), 2).unwrap();
        }
        store.save(Label::Best, 150, &content(1.0), 1).unwrap();
        assert_eq!(names(&store), ["last-000000200", "last-000000300", "best-000000150"]);
        // The run went back to step 200 and reached 250.
        store.save(Label::Last, 250, &content(2.0), 2).unwrap();
        assert_eq!(names(&store), ["last-000000200", "last-000000250", "best-000000150"]);
        // The same step again: nothing changes for equal content, other content never overwrites.
        store.save(Label::Last, 250, &content(2.0), 2).unwrap();
        assert_eq!(names(&store), ["last-000000200", "last-000000250", "best-000000150"]);
        store.save(Label::Last, 250, &content(3.0), 1).unwrap();
        assert_eq!(names(&store), ["last-000000250-r2", "best-000000150"]);
        assert!(same(&store.load(Label::Last).unwrap().unwrap().1, &content(3.0)));
    }

    #[test]
    fn every_damaged_file_is_named_and_an_older_sound_checkpoint_offered() {
        let (_dir, store) = store();
        store.save(Label::Last, 1, &content(1.0), 2).unwrap();
        let newest = store.save(Label::Last, 2, &content(2.0), 2).unwrap();
        for file in ["weights.safetensors", "optimiser.safetensors", "average.safetensors", STATE_FILE, MANIFEST_FILE] {
            let path = newest.join(file);
            let sound = fs::read(&path).unwrap();
            let check = |what: &str| {
                let error = store.load(Label::Last).unwrap_err().to_string();
                assert!(error.contains(&path.display().to_string()), "{file} {what}: {error}");
                assert!(error.contains("step 1 in") && error.contains("last-000000001"), "{file} {what}: {error}");
            };
            for position in [0, 7, 8, sound.len() / 2, sound.len() - 1] {
                let mut bytes = sound.clone();
                bytes[position] ^= 0x10;
                fs::write(&path, bytes).unwrap();
                check("flipped");
            }
            for length in [0, 8, sound.len() / 2, sound.len() - 1] {
                fs::write(&path, &sound[..length]).unwrap();
                check("truncated");
            }
            fs::remove_file(&path).unwrap();
            check("removed");
            fs::write(&path, [&sound[..], b"\n"].concat()).unwrap();
            check("extended");
            fs::write(&path, &sound).unwrap();
        }
        assert_eq!(store.load(Label::Last).unwrap().unwrap().0, 2);
    }

    #[test]
    fn a_file_from_another_checkpoint_is_named() {
        let (_dir, store) = store();
        let one = store.save(Label::Last, 1, &content(1.0), 2).unwrap();
        let two = store.save(Label::Last, 2, &content(2.0), 2).unwrap();
        for file in ["weights.safetensors", STATE_FILE, MANIFEST_FILE] {
            let (a, b) = (fs::read(one.join(file)).unwrap(), fs::read(two.join(file)).unwrap());
            assert_ne!(a, b, "the sets must differ for this test to mean anything");
            fs::write(one.join(file), &b).unwrap();
            fs::write(two.join(file), &a).unwrap();
            for folder in [&one, &two] {
                let error = CheckpointStore::load_path(folder).unwrap_err().to_string();
                assert!(error.contains(&folder.join(file).display().to_string()), "{error}");
            }
            let error = store.load(Label::Last).unwrap_err().to_string();
            assert!(error.contains("no older sound"), "{error}");
            fs::write(one.join(file), &a).unwrap();
            fs::write(two.join(file), &b).unwrap();
        }
        fs::rename(&two, store.folder.join("best-000000002")).unwrap();
        assert!(store.load(Label::Best).unwrap_err().to_string().contains(MANIFEST_FILE));
    }

    #[test]
    fn a_checkpoint_of_another_run_is_not_resumed_but_can_be_read() {
        let (_dir, store) = store();
        let path = store.save(Label::Last, 1, &content(1.0), 1).unwrap();
        let other = CheckpointStore { run_id: "run-b".into(), ..store };
        let error = other.load(Label::Last).unwrap_err();
        assert!(matches!(error, StorageError::Foreign { .. }), "{error}");
        assert!(CheckpointStore::load_path(&path).is_ok());
    }

    #[test]
    fn whichever_operation_of_a_save_fails_a_complete_checkpoint_remains() {
        let (_count_dir, count_store) = store();
        count_store.save(Label::Last, 1, &content(1.0), 1).unwrap();
        let operations = sweep::count(|| drop(count_store.save(Label::Last, 2, &content(2.0), 1).unwrap()));
        assert!(operations > 15, "{operations} operations");
        for failure in FAILURES {
            for call in 0..operations {
                let (dir, store) = store();
                store.save(Label::Last, 1, &content(1.0), 1).unwrap();
                sweep::arm(call, failure);
                let result = store.save(Label::Last, 2, &content(2.0), 1);
                sweep::disarm();
                assert!(result.is_err(), "operation {call} of {operations} went unnoticed");
                let (step, loaded) = store.load(Label::Last).unwrap().expect("a checkpoint");
                assert!(same(&loaded, &content(if step == 1 { 1.0 } else { 2.0 })), "operation {call}");
                for entry in store.list().unwrap() {
                    verify(&entry.path).unwrap();
                }
                // Saving again succeeds whatever was left behind.
                store.save(Label::Last, 2, &content(2.0), 1).unwrap();
                assert_eq!(names(&store), ["last-000000002"], "operation {call} in {}", dir.path().display());
            }
        }
    }

    #[test]
    fn everything_is_on_the_disk_before_it_becomes_visible() {
        let (_dir, store) = store();
        let seen: Rc<RefCell<Vec<(&'static str, PathBuf)>>> = Rc::default();
        let notes = Rc::clone(&seen);
        fault::watch(move |operation| {
            notes.borrow_mut().push((operation.action, operation.path.to_path_buf()));
            Verdict::Pass
        });
        let saved = store.save(Label::Last, 1, &content(1.0), 1).unwrap();
        fault::unwatch();
        let seen = seen.borrow();
        let renamed = seen.iter().position(|(action, path)| *action == "rename to" && *path == saved).unwrap();
        let written: Vec<&PathBuf> = seen.iter().filter(|(action, _)| *action == "write").map(|(_, path)| path).collect();
        assert_eq!(written.len(), 5, "{seen:?}");
        for path in written {
            let last = |wanted: &str| seen.iter().rposition(|(action, of)| *action == wanted && of == path).unwrap();
            assert!(last("write") < last("flush to disk") && last("flush to disk") < renamed, "{}: {seen:?}", path.display());
        }
        let folder = seen[renamed - 1].clone();
        assert!(folder.0 == "flush to disk" && folder.1.parent() == saved.parent(), "the folder's names: {seen:?}");
        assert_eq!(seen[renamed + 1..], [("flush to disk", store.folder.clone())], "and the folder's own name");
        assert!(seen[renamed - 2].1.ends_with(MANIFEST_FILE), "the manifest comes last: {seen:?}");
    }

    #[test]
    fn content_the_format_cannot_hold_is_refused_before_anything_is_written() {
        let (_dir, store) = store();
        let mut wrong = content(1.0);
        let bad = HostTensor { shape: vec![3], data: HostData::F32(vec![0.0]) };
        wrong.tensors.insert("weights".into(), BTreeMap::from([("w".to_owned(), bad)]));
        assert!(store.save(Label::Last, 1, &wrong, 1).unwrap_err().to_string().contains("weights.safetensors"));
        let mut escaping = content(1.0);
        escaping.tensors.insert("../weights".into(), BTreeMap::new());
        assert!(matches!(store.save(Label::Last, 1, &escaping, 1), Err(StorageError::Encode { .. })));
        assert_eq!(fs::read_dir(&store.folder).unwrap().count(), 0);
    }

    #[test]
    fn only_the_exact_folder_names_count() {
        assert_eq!(parse_folder_name("last-000000007"), Some((Label::Last, 7, 1)));
        assert_eq!(parse_folder_name("best-1234567890-r3"), Some((Label::Best, 1_234_567_890, 3)));
        for other in ["last-7", "last-000000007-r1", "last-0000000007", "latest-000000007", ".tmp-last-000000007-1-1", "last--00000007", ""]
        {
            assert_eq!(parse_folder_name(other), None, "{other}");
        }
    }
}
