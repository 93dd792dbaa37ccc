//! The list of a checkpoint's files with their sizes and hashes, written last: what makes a set of files one checkpoint.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::atomic::{self, StorageError};
use super::inside;
pub use super::layout::MANIFEST_FILE;

/// Value of the field `format`.
pub const FORMAT: &str = "ibhost-checkpoint";
/// Format version this build reads and writes.
pub const VERSION: u32 = 1;

/// Size and hash of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileHash {
    /// Length in bytes.
    pub bytes: u64,
    /// BLAKE3 of the content, 64 hexadecimal digits.
    pub blake3: String,
}

impl FileHash {
    /// Size and hash of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self { bytes: content.len() as u64, blake3: blake3::hash(content).to_hex().to_string() }
    }
}

/// What a checkpoint folder must contain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`FORMAT`].
    pub format: String,
    /// Always [`VERSION`] once read.
    pub version: u32,
    /// The run that wrote the checkpoint.
    pub run_id: String,
    /// Why it was kept: `last` or `best`.
    pub label: String,
    /// Optimiser steps done.
    pub step: u64,
    /// Every other file of the folder by name.
    pub files: BTreeMap<String, FileHash>,
    /// BLAKE3 of this manifest's own text with this field empty.
    pub self_hash: String,
}

impl Manifest {
    /// A manifest without files yet.
    pub fn new(run_id: &str, label: &str, step: u64) -> Self {
        Self {
            format: FORMAT.into(),
            version: VERSION,
            run_id: run_id.into(),
            label: label.into(),
            step,
            files: BTreeMap::new(),
            self_hash: String::new(),
        }
    }

    /// Lists one more file.
    pub fn add(&mut self, name: &str, content: &[u8]) {
        self.files.insert(name.into(), FileHash::of(content));
    }

    /// Hash of the checkpoint's weights and of their average where one is kept.
    pub fn weights_hash(&self) -> String {
        let files = self.files.iter().filter(|(name, _)| name.starts_with("weights") || name.starts_with("average"));
        files.map(|(_, hash)| hash.blake3.chars().take(16).collect::<String>()).collect::<Vec<_>>().join("+")
    }

    /// The text to store, with the hash of itself filled in.
    ///
    /// # Errors
    /// Only what the JSON writer reports.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        seal(serde_json::to_value(self)?)
    }

    /// Reads and checks the manifest of the checkpoint folder `dir`, but none of the files it lists.
    ///
    /// # Errors
    /// Damaged, foreign or of another version; always naming the manifest.
    pub fn read(dir: &Path) -> Result<Self, StorageError> {
        let path = dir.join(MANIFEST_FILE);
        let damaged = |reason: String| StorageError::damaged(&path, reason);
        inside::check_folder(dir)?;
        if !inside::check_file(&path)? {
            return Err(damaged("it is missing, so the folder is not a complete checkpoint".into()));
        }
        let value = read_sealed(&path, FORMAT, VERSION)?;
        let manifest: Self = serde_json::from_value(value).map_err(|e| damaged(e.to_string()))?;
        if let Some(name) = manifest.files.keys().find(|name| !atomic::is_plain_name(name) || *name == MANIFEST_FILE) {
            return Err(damaged(format!("it lists `{name}`, which is not the name of a checkpoint file")));
        }
        manifest.check_folder_name(dir)?;
        manifest.check_listing(dir)?;
        Ok(manifest)
    }

    /// Reads one listed file of `dir` and checks it.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] naming the file when its size or hash differs.
    pub fn read_file(&self, dir: &Path, name: &str) -> Result<Vec<u8>, StorageError> {
        let path = dir.join(name);
        let Some(expected) = self.files.get(name) else {
            return Err(StorageError::damaged(&path, "the manifest does not list it"));
        };
        // The size on disk is compared first, so that a swollen file is never read into memory.
        let on_disk = fs::symlink_metadata(&path).map_err(|source| StorageError::io("inspect", &path, source))?;
        if on_disk.len() != expected.bytes {
            return Err(StorageError::damaged(&path, format!("it has {} bytes, {} were written", on_disk.len(), expected.bytes)));
        }
        let content = inside::read(&path)?;
        let found = FileHash::of(&content);
        if found == *expected {
            return Ok(content);
        }
        let origin = self.files.iter().find(|(_, hash)| **hash == found);
        let reason = origin.map_or_else(
            || "its content is not what was written (changed, or swapped with a file of another checkpoint)".to_owned(),
            |(other, _)| format!("it holds the content of `{other}`"),
        );
        Err(StorageError::damaged(&path, reason))
    }

    /// A folder named like a checkpoint must carry the label and step of its manifest.
    fn check_folder_name(&self, dir: &Path) -> Result<(), StorageError> {
        let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        match super::layout::parse_folder_name(&name) {
            Some((label, step, _)) if label.as_str() != self.label || step != self.step => Err(StorageError::damaged(
                &dir.join(MANIFEST_FILE),
                format!("it belongs to the checkpoint `{}` of step {}, not to `{name}`", self.label, self.step),
            )),
            _ => Ok(()),
        }
    }

    /// Compares the folder's entries with the list, both ways.
    fn check_listing(&self, dir: &Path) -> Result<(), StorageError> {
        for name in self.files.keys() {
            let path = dir.join(name);
            match fs::symlink_metadata(&path) {
                Ok(kind) if kind.is_file() => {}
                Ok(_) => return Err(StorageError::damaged(&path, "a regular file is expected")),
                Err(_) => return Err(StorageError::damaged(&path, "it is missing")),
            }
        }
        let entries = fs::read_dir(dir).map_err(|source| StorageError::io("list", dir, source))?;
        for entry in entries {
            let entry = entry.map_err(|source| StorageError::io("list", dir, source))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != MANIFEST_FILE && !self.files.contains_key(&name) {
                return Err(StorageError::foreign(&entry.path(), "the checkpoint's manifest does not list it; move it elsewhere"));
            }
        }
        Ok(())
    }
}

/// The text of an object whose field `self_hash` is filled with the hash of the rest.
pub(super) fn seal(mut value: Value) -> Result<Vec<u8>, serde_json::Error> {
    let hash = hash_of_text(&mut value)?;
    value["self_hash"] = Value::String(hash);
    serde_json::to_vec_pretty(&value)
}

/// Reads what [`seal`] wrote and checks hash, format and version, but not what it means.
pub(super) fn read_sealed(path: &Path, format: &str, version: u32) -> Result<Value, StorageError> {
    let damaged = |reason: String| StorageError::damaged(path, reason);
    let bytes = inside::read(path)?;
    let mut value: Value = serde_json::from_slice(&bytes).map_err(|e| damaged(format!("not valid JSON: {e}")))?;
    let Some(stated) = value.get("self_hash").and_then(Value::as_str).map(str::to_owned) else {
        return Err(damaged("it has no hash of itself".into()));
    };
    // The text has one valid form, so even a changed blank is found.
    let computed = hash_of_text(&mut value).map_err(|e| damaged(e.to_string()))?;
    value["self_hash"] = Value::String(computed.clone());
    let canonical = serde_json::to_vec_pretty(&value).map_err(|e| damaged(e.to_string()))?;
    if stated != computed || canonical != bytes {
        return Err(damaged("its content does not match its own hash".into()));
    }
    if value.get("format").and_then(Value::as_str) != Some(format) {
        return Err(StorageError::foreign(path, format!("its `format` is not `{format}`")));
    }
    let found = value.get("version").and_then(Value::as_u64).and_then(|v| u32::try_from(v).ok()).unwrap_or(0);
    if found != version {
        return Err(StorageError::Version { path: path.to_path_buf(), found, supported: version });
    }
    Ok(value)
}

/// Hash of the pretty-printed value after emptying its field `self_hash`.
fn hash_of_text(value: &mut Value) -> Result<String, serde_json::Error> {
    if let Some(fields) = value.as_object_mut() {
        fields.insert("self_hash".into(), Value::String(String::new()));
    }
    Ok(blake3::hash(&serde_json::to_vec_pretty(value)?).to_hex().to_string())
}

/// Checks every file of the checkpoint folder `dir` against its manifest.
///
/// # Errors
/// Names the first damaged, missing, truncated, surplus or swapped file.
pub fn verify(dir: &Path) -> Result<Manifest, StorageError> {
    let manifest = Manifest::read(dir)?;
    for name in manifest.files.keys() {
        manifest.read_file(dir, name)?;
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with two files and their manifest.
    fn folder() -> (tempfile::TempDir, Manifest) {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::new("run", "last", 3);
        for (name, content) in [("a.bin", b"first".as_slice()), ("b.bin", b"other")] {
            fs::write(dir.path().join(name), content).unwrap();
            manifest.add(name, content);
        }
        fs::write(dir.path().join(MANIFEST_FILE), manifest.to_bytes().unwrap()).unwrap();
        (dir, manifest)
    }

    #[test]
    fn a_sound_folder_is_accepted_and_its_manifest_returned() {
        let (dir, written) = folder();
        let read = verify(dir.path()).unwrap();
        assert_eq!(read.files, written.files);
        assert_eq!((read.step, read.version, read.self_hash.len()), (3, VERSION, 64));
    }

    #[test]
    fn every_flipped_bit_of_the_manifest_is_found() {
        let (dir, _) = folder();
        let path = dir.path().join(MANIFEST_FILE);
        let sound = fs::read(&path).unwrap();
        for position in 0..sound.len() {
            for bit in 0..8 {
                let mut bytes = sound.clone();
                bytes[position] ^= 1 << bit;
                fs::write(&path, bytes).unwrap();
                let error = verify(dir.path()).unwrap_err();
                assert!(matches!(&error, StorageError::Damaged { path: named, .. } if *named == path), "{position}.{bit}: {error}");
            }
        }
        for length in 0..sound.len() {
            fs::write(&path, &sound[..length]).unwrap();
            assert!(verify(dir.path()).is_err(), "cut to {length} bytes");
        }
    }

    #[test]
    fn surplus_missing_exchanged_and_linked_files_are_named() {
        let (dir, _) = folder();
        let at = |name: &str| dir.path().join(name);
        let named = |name: &str| {
            let text = verify(dir.path()).unwrap_err().to_string();
            assert!(text.contains(name), "{text}");
            text
        };
        fs::write(at("extra.bin"), b"").unwrap();
        named("extra.bin");
        fs::remove_file(at("extra.bin")).unwrap();

        fs::rename(at("a.bin"), at("t")).unwrap();
        assert!(named("a.bin").contains("missing"));
        fs::rename(at("b.bin"), at("a.bin")).unwrap();
        fs::rename(at("t"), at("b.bin")).unwrap();
        assert!(named("a.bin").contains("holds the content of `b.bin`"));

        fs::write(at("a.bin"), b"first plus").unwrap();
        assert!(named("a.bin").contains("10 bytes, 5 were written"));
        #[cfg(unix)]
        {
            fs::remove_file(at("a.bin")).unwrap();
            std::os::unix::fs::symlink("/etc/hostname", at("a.bin")).unwrap();
            assert!(named("a.bin").contains("regular file"));
        }
    }

    #[test]
    fn other_formats_versions_and_escaping_names_are_refused() {
        let (dir, manifest) = folder();
        let path = dir.path().join(MANIFEST_FILE);
        let check = |changed: &Manifest| {
            fs::write(&path, changed.to_bytes().unwrap()).unwrap();
            verify(dir.path()).unwrap_err()
        };
        assert!(matches!(check(&Manifest { format: "other".into(), ..manifest.clone() }), StorageError::Foreign { .. }));
        let newer = check(&Manifest { version: 7, ..manifest.clone() });
        assert!(matches!(newer, StorageError::Version { found: 7, supported: VERSION, .. }), "{newer}");
        let mut escaping = manifest;
        escaping.add("../secret", b"");
        assert!(check(&escaping).to_string().contains("../secret"));
    }
}
