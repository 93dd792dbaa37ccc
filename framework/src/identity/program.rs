//! The program that computed: version, commit, hash of the executable file, and the crates its components came from.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::component::Component;
use crate::registry::Registry;
use crate::storage::{create_folders, write_atomic};

/// Hexadecimal digits of a hash that are kept.
const DIGITS: usize = 32;

/// What computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Name of the executable.
    pub name: String,
    /// Version of ibhost.
    pub version: String,
    /// Commit of the sources it was built from, with `-modified` where they had been changed; nothing where it was built without their history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// First 128 bits of the BLAKE3 hash of the executable, in hexadecimal digits; nothing where the system does not let a process read its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<String>,
    /// Name and version of every crate that a component of the run came from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub crates: BTreeMap<String, String>,
}

/// The hash of this process's executable. It cannot change while the process lives.
static EXECUTABLE: OnceLock<Option<String>> = OnceLock::new();

/// Time after which a file that changed again has another time of change, whatever the clock of the file system.
const TICK: Duration = Duration::from_secs(2);

/// Begins to hash the executable on a thread of its own, so that nobody waits for it later. Hashes are kept in the folder `cache`, as reading a large
/// program takes longer than a small run.
pub fn prepare(cache: Option<PathBuf>) {
    let begun = std::thread::Builder::new().name("executable".to_owned()).spawn(move || executable(cache.as_deref()));
    // Without a thread it is hashed when it is asked for.
    drop(begun);
}

fn executable(cache: Option<&Path>) -> Option<String> {
    let hash = || hash_of_this_executable(cache);
    let told = |error: &std::io::Error| {
        tracing::info!("the program's own file cannot be read, so that a change of it will not be seen: {error}");
    };
    EXECUTABLE.get_or_init(|| hash().inspect_err(told).ok()).clone()
}

/// Hashes the file that this process was started from, even when another one lies at its path by now.
fn hash_of_this_executable(cache: Option<&Path>) -> std::io::Result<String> {
    let own = PathBuf::from("/proc/self/exe");
    let mut file = File::open(&own).or_else(|_| std::env::current_exe().and_then(File::open))?;
    let kept = cache.and_then(|folder| Kept::of(&file.metadata().ok()?, folder));
    if let Some(hash) = kept.as_ref().and_then(Kept::read) {
        return Ok(hash);
    }
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => hasher.update(&piece[..read]),
        };
    }
    let hash = hasher.finalize().to_hex()[..DIGITS].to_owned();
    if let Some(kept) = kept {
        kept.write(&hash);
    }
    Ok(hash)
}

/// A hash that an earlier process kept, under everything that changes when the file does.
struct Kept {
    path: PathBuf,
    stamp: String,
}

impl Kept {
    /// That of the file with `metadata` in `folder`; nothing where the system does not tell files apart, or for a file that may still change unseen.
    #[cfg(unix)]
    fn of(metadata: &Metadata, folder: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let changed = UNIX_EPOCH + Duration::new(u64::try_from(metadata.ctime()).ok()?, u32::try_from(metadata.ctime_nsec()).ok()?);
        if SystemTime::now().duration_since(changed).ok()? < TICK {
            return None;
        }
        let times =
            [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()].map(|time| time.to_string()).join(" ");
        let path = folder.join(format!("{:x}-{:x}", metadata.dev(), metadata.ino()));
        Some(Self { path, stamp: format!("{} {times}", metadata.len()) })
    }

    #[cfg(not(unix))]
    fn of(_metadata: &Metadata, _folder: &Path) -> Option<Self> {
        None
    }

    fn read(&self) -> Option<String> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        let (stamp, hash) = text.trim_end().rsplit_once(' ')?;
        (stamp == self.stamp && hash.len() == DIGITS && hash.bytes().all(|c| c.is_ascii_hexdigit())).then(|| hash.to_owned())
    }

    /// What cannot be kept is hashed again next time.
    fn write(&self, hash: &str) {
        let kept = self.path.parent().map_or(Ok(()), create_folders);
        if let Err(error) = kept.and_then(|()| write_atomic(&self.path, format!("{} {hash}\n", self.stamp).as_bytes())) {
            tracing::debug!("the hash of the program is not kept: {error}");
        }
    }
}

impl Program {
    /// This process's program, which was built as `version` from `commit`.
    pub fn this(version: &str, commit: Option<&str>) -> Self {
        let name = std::env::args_os().next().map(PathBuf::from).and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        Self {
            name: name.unwrap_or_else(|| "ibhost".to_owned()),
            version: version.to_owned(),
            commit: commit.filter(|commit| !commit.is_empty()).map(ToOwned::to_owned),
            executable: executable(None),
            crates: BTreeMap::new(),
        }
    }

    /// The same with the crates that register `components`.
    pub fn with_components<'a>(mut self, components: impl IntoIterator<Item = &'a Component>) -> Self {
        if let Ok(registry) = Registry::global() {
            let items = components.into_iter().filter_map(|component| registry.get(component.kind, &component.name));
            self.crates.extend(items.map(|item| (item.crate_name.to_owned(), item.crate_version.to_owned())));
        }
        self
    }

    /// Version and commit, for people.
    pub fn version(&self) -> String {
        self.commit.as_ref().map_or_else(|| self.version.clone(), |commit| format!("{} ({commit})", self.version))
    }

    /// One word for this build, for keys: the executable where it is known, else version and commit.
    pub fn key(&self) -> String {
        self.executable.clone().unwrap_or_else(|| self.version())
    }

    /// What differs from `before`. Two builds of one commit differ too: by their compiler, features or flags.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        match (&self.executable, &before.executable) {
            (Some(now), Some(then)) if now == then => return changes,
            (Some(_), Some(_)) if self.version() == before.version() => {
                changes.push(format!("the program {} is another build of version {}", self.name, self.version()));
            }
            (Some(_), Some(_)) => changes.push(format!("the program was version {} and is {}", before.version(), self.version())),
            _ => changes.push("whether the program is the same cannot be told, as a hash of its file is missing".to_owned()),
        }
        let crates = self.crates.iter().filter_map(|(name, now)| Some((name, before.crates.get(name)?, now)));
        for (name, then, now) in crates.filter(|(_, then, now)| then != now) {
            changes.push(format!("components come from {name} {then} before and {now} now"));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_hashed_as_a_whole() {
        prepare(None);
        let program = Program::this("1.2.3", Some(""));
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(program.executable.as_deref(), Some(&blake3::hash(&bytes).to_hex()[..DIGITS]));
        assert_eq!((program.commit.as_deref(), program.version()), (None, "1.2.3".to_owned()));
        assert_eq!(Program::this("1.2.3", Some("abc")).version(), "1.2.3 (abc)");
    }

    #[cfg(unix)]
    #[test]
    fn a_hash_is_kept_for_the_very_file_and_not_for_one_that_may_still_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = std::env::current_exe().unwrap();
        let old = std::fs::metadata(&file).unwrap();
        let kept = Kept::of(&old, folder.path()).unwrap();
        assert_eq!(kept.read(), None);
        let hash = "ab".repeat(DIGITS / 2);
        kept.write(&hash);
        assert_eq!(Kept::of(&old, folder.path()).unwrap().read(), Some(hash.clone()));
        for damaged in [format!("1 {} {hash}", kept.stamp), format!("{} {}", kept.stamp, &hash[1..]), "x".to_owned()] {
            std::fs::write(&kept.path, damaged).unwrap();
            assert_eq!(kept.read(), None);
        }
        let new = folder.path().join("new");
        std::fs::write(&new, "x").unwrap();
        assert!(Kept::of(&std::fs::metadata(&new).unwrap(), folder.path()).is_none());
    }
}
