//! The program that computed: version, commit, hash of the executable file, and the crates its components came from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::component::Component;
use crate::registry::Registry;

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
static EXECUTABLE: LazyLock<Option<String>> = LazyLock::new(|| {
    let hash = hash_of_this_executable();
    hash.inspect_err(|error| tracing::info!("the program's own file cannot be read, so that a change of it will not be seen: {error}")).ok()
});

/// Begins to hash the executable on a thread of its own, so that nobody waits for it later.
pub fn prepare() {
    let begun = std::thread::Builder::new().name("executable".to_owned()).spawn(|| LazyLock::force(&EXECUTABLE));
    // Without a thread it is hashed when it is asked for.
    drop(begun);
}

/// Hashes the file that this process was started from, even when another one lies at its path by now.
fn hash_of_this_executable() -> std::io::Result<String> {
    let own = PathBuf::from("/proc/self/exe");
    let mut file = File::open(&own).or_else(|_| std::env::current_exe().and_then(File::open))?;
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finalize().to_hex()[..32].to_owned()),
            read => hasher.update(&piece[..read]),
        };
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
            executable: EXECUTABLE.clone(),
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
    fn the_executable_is_hashed_once_and_as_a_whole() {
        prepare();
        let program = Program::this("1.2.3", Some(""));
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(program.executable.as_deref(), Some(&blake3::hash(&bytes).to_hex()[..32]));
        assert_eq!((program.commit.as_deref(), program.version()), (None, "1.2.3".to_owned()));
        assert_eq!(Program::this("1.2.3", Some("abc")).version(), "1.2.3 (abc)");
    }
}
