//! The lock of a run's folder: held by the one process that writes to it, gone with that process however it dies.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::atomic::{self, StorageError};
use super::inside;
use super::layout::{LOCK_FILE, local_time};

/// A look at a lock holds it for an instant; that must not be taken for another run.
const LOCK_ATTEMPTS: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The process that writes to a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// Process id, 0 while it is still unknown.
    pub pid: u32,
    /// Host name.
    pub host: String,
    /// Local time at which it took the lock.
    pub started: String,
    /// Number of the run's folder on its disk, where it has one: a snapshot by hard links shares the lock of the original.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    folder: Option<u64>,
}

/// The process that writes to the run in `path` right now.
pub(super) fn holder(path: &Path) -> Result<Option<LockHolder>, StorageError> {
    let file_path = path.join(LOCK_FILE);
    let mut file = match inside::open(&file_path) {
        Ok(file) => file,
        Err(StorageError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(read_holder(&mut file)).filter(|holder| !holder.is_of_another_folder(path))),
        Err(TryLockError::Error(error)) if lacks_locks(&error) => Ok(None),
        Err(TryLockError::Error(error)) => Err(StorageError::io("inspect the lock", &file_path, error)),
    }
}

/// The run's lock file with the operating system's lock on it, which ends with the process however that dies.
#[derive(Debug)]
pub(super) struct RunLock {
    file: File,
    path: PathBuf,
}

impl RunLock {
    /// Takes the lock of a run folder and writes down who holds it.
    pub(super) fn acquire(run: &Path) -> Result<Self, StorageError> {
        let path = run.join(LOCK_FILE);
        let mut file = inside::open_shared(&path)?;
        let mut attempt = 1;
        loop {
            match file.try_lock() {
                Ok(()) if inside::is_own(&file, &path) => break,
                // A snapshot by hard links has this file too, or another process gave this run a new one.
                Ok(()) if attempt < LOCK_ATTEMPTS => file = renewed(file, &path)?,
                // A file system that cannot tell files apart; an empty one is nobody's document.
                Ok(()) if file.metadata().is_ok_and(|found| found.len() == 0) => break,
                Ok(()) => return Err(StorageError::Locked { path: run.to_path_buf(), pid: 0, host: "unknown".into() }),
                Err(TryLockError::WouldBlock) if attempt < LOCK_ATTEMPTS && read_holder(&mut file).is_of_another_folder(run) => {
                    file = renewed(file, &path)?;
                }
                Err(TryLockError::WouldBlock) if attempt < LOCK_ATTEMPTS => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::WouldBlock) => {
                    let holder = read_holder(&mut file);
                    return Err(StorageError::Locked { path: run.to_path_buf(), pid: holder.pid, host: holder.host });
                }
                Err(TryLockError::Error(error)) if lacks_locks(&error) => {
                    tracing::warn!("`{}` is on a file system without locks: do not resume one run twice at a time", run.display());
                    break;
                }
                Err(TryLockError::Error(error)) => return Err(StorageError::io("lock", &path, error)),
            }
            attempt += 1;
        }
        let previous = read_holder(&mut file);
        if previous.pid != 0 {
            tracing::info!("process {} on {} left the run without closing it; taking over", previous.pid, previous.host);
        }
        let holder = LockHolder { pid: std::process::id(), host: host_name(), started: local_time(), folder: number_of(run) };
        let text = serde_json::to_vec(&holder).map_err(|e| StorageError::encode(&path, e.to_string()))?;
        atomic::set_length(&file, &path, 0)?;
        file.seek(SeekFrom::Start(0)).map_err(|source| StorageError::io("seek in", &path, source))?;
        atomic::write_all(&file, &path, &text)?;
        Ok(Self { file, path })
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // The file stays: removing it would let two processes lock two different files of that name.
        if let Err(error) = atomic::set_length(&self.file, &self.path, 0) {
            tracing::debug!("the lock keeps the name of its last holder: {error}");
        }
    }
}

impl LockHolder {
    /// Whether it wrote its name for another folder than `run`, as into the original of a snapshot.
    fn is_of_another_folder(&self, run: &Path) -> bool {
        self.folder.is_some_and(|folder| number_of(run).is_some_and(|own| own != folder))
    }
}

/// The number of a folder on its disk.
#[cfg(unix)]
fn number_of(folder: &Path) -> Option<u64> {
    fs::metadata(folder).ok().map(|found| std::os::unix::fs::MetadataExt::ino(&found))
}

/// This system does not tell.
#[cfg(not(unix))]
fn number_of(_folder: &Path) -> Option<u64> {
    None
}

/// The lock file of the name `path` that is no other name's, opened in place of `shared`.
fn renewed(shared: File, path: &Path) -> Result<File, StorageError> {
    if inside::is_current(&shared, path) {
        atomic::replace(path, b"")?;
    }
    inside::open_shared(path)
}

/// Who a lock file names; process 0 when it names nobody.
fn read_holder(file: &mut File) -> LockHolder {
    let mut text = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(4096).read_to_string(&mut text));
    let parsed = read.ok().and_then(|_| serde_json::from_str(&text).ok());
    parsed.unwrap_or(LockHolder { pid: 0, host: "unknown".into(), started: String::new(), folder: None })
}

/// Whether the file system cannot lock at all, as some network file systems.
fn lacks_locks(error: &std::io::Error) -> bool {
    // Not supported (95), no locks available (37), not implemented (38), as Linux numbers them.
    error.kind() == ErrorKind::Unsupported || (cfg!(target_os = "linux") && matches!(error.raw_os_error(), Some(95 | 37 | 38)))
}

/// The machine's name, for people who look for the process that holds a lock.
pub(crate) fn host_name() -> String {
    let from_system = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let from_shell = || std::env::var("HOSTNAME").or_else(|_| std::env::var("COMPUTERNAME")).ok();
    from_system.or_else(from_shell).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or("unknown-host".into())
}
