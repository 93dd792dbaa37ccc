//! The only code that changes the disk: whole files and whole folders that appear complete or not at all.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::fault::{self, Verdict};
use super::{inside, journal};

pub use super::error::StorageError;

/// Start of the name of every file and folder that is still being written.
const TEMPORARY_PREFIX: &str = ".tmp-";

/// How often a fresh name is tried before a name collision is reported.
const NAME_ATTEMPTS: usize = 16;

/// Every change of the disk passes here, so that a test can make the n-th one fail.
fn perform<T>(action: &'static str, path: &Path, operation: impl FnOnce() -> io::Result<T>) -> Result<T, StorageError> {
    match fault::ask(action, path) {
        Verdict::Pass => operation().map_err(|source| StorageError::io(action, path, source)),
        Verdict::Refuse(source) | Verdict::Tear(source) => Err(StorageError::io(action, path, source)),
    }
}

/// Creates a file that must not exist yet, open for writing.
pub(crate) fn create_file(path: &Path) -> Result<File, StorageError> {
    inside::check_way(path)?;
    perform("create", path, || OpenOptions::new().write(true).create_new(true).open(path)).map_err(occupied)
}

/// Creates a folder that must not exist yet.
pub(crate) fn create_folder(path: &Path) -> Result<(), StorageError> {
    inside::check_way(path)?;
    perform("create", path, || fs::create_dir(path)).map_err(occupied)
}

/// Creates a folder and its parents where they are missing.
///
/// # Errors
/// [`StorageError::NotPlain`] when one of them lies in a run or sweep and is a link, or what the disk refused.
pub fn create_folders(path: &Path) -> Result<(), StorageError> {
    inside::check_folder(path)?;
    perform("create", path, || fs::create_dir_all(path))
}

/// Opens a file for reading and writing in place, creating it when it is missing and keeping its content.
pub(super) fn open_in_place(path: &Path) -> Result<File, StorageError> {
    let open = || inside::strict(OpenOptions::new().read(true).write(true).create(true).truncate(false)).open(path);
    perform("open for writing", path, open)
}

/// Opens a file for writing at its end, creating it when it is missing.
pub(super) fn open_append(path: &Path) -> Result<File, StorageError> {
    perform("open for writing", path, || inside::strict(OpenOptions::new().create(true).append(true)).open(path))
}

/// Writes all of `bytes` at the file's current position.
pub(crate) fn write_all(mut file: &File, path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let io = |source| StorageError::io("write", path, source);
    match fault::ask("write", path) {
        Verdict::Pass => file.write_all(bytes).map_err(io),
        Verdict::Refuse(source) => Err(io(source)),
        Verdict::Tear(source) => {
            file.write_all(&bytes[..bytes.len() / 2]).map_err(io)?;
            Err(io(source))
        }
    }
}

/// Cuts or extends a file to `length` bytes.
pub(crate) fn set_length(file: &File, path: &Path, length: u64) -> Result<(), StorageError> {
    perform("set the length of", path, || file.set_len(length))
}

/// Waits until the content of a file is on the disk.
pub(crate) fn sync_file(file: &File, path: &Path) -> Result<(), StorageError> {
    perform("flush to disk", path, || file.sync_all())
}

/// Waits until the names inside a folder are on the disk; systems that cannot open folders do this on their own.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StorageError> {
    if cfg!(unix) { perform("flush to disk", path, || File::open(path)?.sync_all()) } else { Ok(()) }
}

/// Gives a file or folder its new name in one step.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), StorageError> {
    inside::check_way(to)?;
    perform("rename to", to, || fs::rename(from, to))
}

/// Removes one file.
pub(crate) fn remove_file(path: &Path) -> Result<(), StorageError> {
    inside::check_way(path)?;
    perform("remove", path, || fs::remove_file(path))
}

/// Removes an empty folder.
pub(crate) fn remove_empty_folder(path: &Path) -> Result<(), StorageError> {
    inside::check_way(path)?;
    perform("remove", path, || fs::remove_dir(path))
}

/// Removes a folder of plain files that this program wrote, which `ours` tells by their names; nothing is removed when anything else lies there.
pub(crate) fn remove_folder(path: &Path, ours: impl Fn(&str) -> bool) -> Result<(), StorageError> {
    inside::check_folder(path)?;
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(|source| StorageError::io("list", path, source))? {
        let entry = entry.map_err(|source| StorageError::io("list", path, source))?;
        let kind = entry.file_type().map_err(|source| StorageError::io("inspect", &entry.path(), source))?;
        if !kind.is_file() || !ours(&entry.file_name().to_string_lossy()) {
            let reason = "it is not one of the files that ibhost writes there, so the folder is not removed\n  hint: move it elsewhere";
            return Err(StorageError::foreign(&entry.path(), reason));
        }
        files.push(entry.path());
    }
    perform("remove", path, || files.iter().try_for_each(fs::remove_file).and_then(|()| fs::remove_dir(path)))
}

/// Reads a whole regular file that a person named, through links too; the memory used is the file's own size.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, StorageError> {
    let kind = fs::metadata(path).map_err(|source| StorageError::io("read", path, source))?;
    if !kind.is_file() {
        // A pipe or device would block or never end.
        return Err(StorageError::foreign(path, "a regular file is expected"));
    }
    fs::read(path).map_err(|source| StorageError::io("read", path, source))
}

/// The folder a path lies in; `.` for a bare name.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Turns "file exists" of an exclusive creation into its own error.
fn occupied(error: StorageError) -> StorageError {
    match error {
        StorageError::Io { path, source, .. } if source.kind() == ErrorKind::AlreadyExists => StorageError::AlreadyExists { path },
        other => other,
    }
}

/// No serial number is smaller, so that no name a person would give looks like a temporary one.
const LEAST_SERIAL: u64 = 1 << 32;
/// A random number of this process, so that leftovers of an earlier process with the same id are told apart.
static FIRST_SERIAL: LazyLock<u64> = LazyLock::new(|| (RandomState::new().build_hasher().finish() >> 16) | LEAST_SERIAL);
static SERIALS_USED: AtomicU64 = AtomicU64::new(0);

/// A sibling name that nothing else uses: `.tmp-<name>-<pid>-<n>`.
fn temporary_path(parent: &Path, name: &str) -> PathBuf {
    let serial = *FIRST_SERIAL + SERIALS_USED.fetch_add(1, Ordering::Relaxed);
    parent.join(format!("{TEMPORARY_PREFIX}{name}-{}-{serial}", std::process::id()))
}

/// Tries fresh temporary names until `create` meets one that is free.
fn create_temporary<T>(parent: &Path, name: &str, create: impl Fn(&Path) -> Result<T, StorageError>) -> Result<(PathBuf, T), StorageError> {
    let mut path = temporary_path(parent, name);
    for _ in 1..NAME_ATTEMPTS {
        match create(&path) {
            Err(StorageError::AlreadyExists { .. }) => path = temporary_path(parent, name),
            other => return other.map(|made| (path, made)),
        }
    }
    create(&path).map(|made| (path, made))
}

/// Writes a file so that readers see the old content or all of the new, also after a loss of power. A result in the
/// folder of a run is noted down first, so that it gets listed among the run's files even if this process dies.
///
/// # Errors
/// Any refusal of the operating system; the old file is then untouched, or the new one is in place but not yet known to be durable.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    if let Some((run, name)) = inside::result_of(path) {
        journal::note(&run, &name)?;
    }
    replace(path, bytes)
}

/// The same for a file that `fill` writes at the path it is given, as another program does.
///
/// # Errors
/// Those of `fill`, and as [`write_atomic`].
pub fn write_through<E: From<StorageError>>(path: &Path, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    let name = path.file_name().unwrap_or_default();
    let temporary = temporary_path(parent_of(path), &name.to_string_lossy());
    inside::check_way(&temporary)?;
    let bytes = fill(&temporary).and_then(|()| inside::read(&temporary).map_err(E::from));
    if inside::is_file(&temporary) {
        discard(remove_file(&temporary));
    }
    Ok(write_atomic(path, &bytes?)?)
}

/// [`write_atomic`] for a file that is no result.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let Some(name) = path.file_name() else {
        return Err(StorageError::encode(path, "a file name is needed"));
    };
    let parent = parent_of(path);
    let (temporary, file) = create_temporary(parent, &name.to_string_lossy(), create_file)?;
    let written = write_all(&file, &temporary, bytes).and_then(|()| sync_file(&file, &temporary));
    // Some systems refuse to rename a file that is open.
    drop(file);
    if let Err(error) = written.and_then(|()| rename(&temporary, path)) {
        discard(remove_file(&temporary));
        return Err(error);
    }
    sync_folder(parent)
}

/// Notes a failed clean-up; the error that led to it is the one worth reporting.
fn discard(result: Result<(), StorageError>) {
    if let Err(error) = result {
        tracing::warn!("a temporary file stays behind: {error}");
    }
}

/// A folder that is filled under a temporary name and becomes visible as a whole.
#[derive(Debug)]
pub struct AtomicDir {
    parent: PathBuf,
    temporary: Option<PathBuf>,
}

impl AtomicDir {
    /// Starts a folder inside `parent`; `name` is what it is going to be called, for people who look at leftovers.
    ///
    /// # Errors
    /// When `parent` is missing or cannot be written.
    pub fn new(parent: &Path, name: &str) -> Result<Self, StorageError> {
        let (temporary, ()) = create_temporary(parent, name, create_folder)?;
        Ok(Self { parent: parent.to_path_buf(), temporary: Some(temporary) })
    }

    /// Writes one new file into the folder and waits until it is on the disk.
    ///
    /// # Errors
    /// When `name` is not a plain file name, is taken, or the disk refuses.
    pub fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let Some(folder) = &self.temporary else {
            return Err(StorageError::encode(&self.parent.join(name), "the folder is already complete"));
        };
        let path = folder.join(name);
        if !is_plain_name(name) {
            return Err(StorageError::encode(&path, "a plain file name of letters, digits, `.`, `_` and `-` is needed"));
        }
        let file = create_file(&path)?;
        write_all(&file, &path, bytes)?;
        sync_file(&file, &path)
    }

    /// Gives the folder its final name inside the parent and returns that path.
    ///
    /// # Errors
    /// [`StorageError::AlreadyExists`] when the name is taken, otherwise what the disk refused.
    pub fn commit(mut self, final_name: &str) -> Result<PathBuf, StorageError> {
        let target = self.parent.join(final_name);
        let Some(temporary) = &self.temporary else {
            return Err(StorageError::encode(&target, "the folder is already complete"));
        };
        // A rename would silently replace an empty folder of that name.
        if fs::symlink_metadata(&target).is_ok() {
            return Err(StorageError::AlreadyExists { path: target });
        }
        sync_folder(temporary)?;
        rename(temporary, &target)?;
        self.temporary = None;
        sync_folder(&self.parent)?;
        Ok(target)
    }
}

impl Drop for AtomicDir {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            discard(remove_folder(&temporary, is_set_file));
        }
    }
}

/// Whether a name is that of a file in a folder that appears as a whole, which are the checkpoints.
fn is_set_file(name: &str) -> bool {
    matches!(name, "manifest.json" | "state.json") || (is_plain_name(name) && name.ends_with(".safetensors"))
}

/// Takes a checkpoint's folder away so that it is never seen half deleted under its own name.
///
/// # Errors
/// [`StorageError::Foreign`] naming a file that is none of a checkpoint's, and nothing is removed; or what the disk refused.
pub(crate) fn retire_folder(path: &Path) -> Result<(), StorageError> {
    inside::check_folder(path)?;
    for entry in fs::read_dir(path).map_err(|source| StorageError::io("list", path, source))? {
        let entry = entry.map_err(|source| StorageError::io("list", path, source))?;
        if !is_set_file(&entry.file_name().to_string_lossy()) || !inside::is_file(&entry.path()) {
            let reason = "it is no file of a checkpoint, so the checkpoint is not removed\n  hint: move it elsewhere";
            return Err(StorageError::foreign(&entry.path(), reason));
        }
    }
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let grave = temporary_path(parent_of(path), &name);
    rename(path, &grave)?;
    remove_folder(&grave, is_set_file)
}

/// Whether a name is safe to join to a folder: no separators, no hidden files, nothing a shell or another system would trip over.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Removes what dead processes left half written directly inside `dir` and returns how many entries went; a missing folder has none. A
/// folder that holds anything else by now is left, and named in a warning.
///
/// # Errors
/// When the folder cannot be read or an entry cannot be removed.
pub fn clean_leftovers(dir: &Path) -> Result<usize, StorageError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(StorageError::io("list", dir, error)),
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry.map_err(|source| StorageError::io("list", dir, source))?;
        if !is_stale(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let kind = entry.file_type().map_err(|source| StorageError::io("inspect", &entry.path(), source))?;
        if kind.is_file() {
            remove_file(&entry.path())?;
        } else if kind.is_dir() {
            match remove_folder(&entry.path(), is_set_file) {
                Err(error @ StorageError::Foreign { .. }) => {
                    tracing::warn!("{error}");
                    continue;
                }
                result => result?,
            }
        } else {
            continue;
        }
        removed += 1;
    }
    Ok(removed)
}

/// Process and serial number in the name of something that was written under a temporary one; `None` for names this module does not give.
fn parse_temporary(name: &str) -> Option<(u64, u64)> {
    let mut parts = name.strip_prefix(TEMPORARY_PREFIX)?.rsplitn(3, '-');
    let (serial, pid) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (serial >= LEAST_SERIAL && parts.next().is_some_and(|name| !name.is_empty())).then_some((pid, serial))
}

/// Whether a name is that of something still being written, by a live process or a dead one.
pub(super) fn is_temporary_name(name: &str) -> bool {
    parse_temporary(name).is_some()
}

/// Whether a name is that of a temporary whose writer is gone.
fn is_stale(name: &str) -> bool {
    let Some((pid, serial)) = parse_temporary(name) else { return false };
    if pid == u64::from(std::process::id()) {
        let ours = *FIRST_SERIAL..*FIRST_SERIAL + SERIALS_USED.load(Ordering::Relaxed);
        return !ours.contains(&serial);
    }
    !Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::super::fault::sweep::{self, FAILURES, Failure};
    use super::*;

    /// A name that a checkpoint's file may have.
    const FILE: &str = "weights.safetensors";

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("summary.yml");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two and more").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two and more");
        assert_eq!(names(dir.path()), ["summary.yml"]);
    }

    #[test]
    fn every_failing_operation_keeps_the_old_file_or_shows_the_new_one_whole() {
        for failure in FAILURES {
            for call in 0..5 {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("f");
                write_atomic(&path, b"old content").unwrap();
                sweep::arm(call, failure);
                let error = write_atomic(&path, b"new content").unwrap_err();
                sweep::disarm();
                assert_eq!(error.to_string().contains("the disk is full"), failure != Failure::Device, "{error}");
                let content = fs::read(&path).unwrap();
                // Operations: create, write, flush, rename, flush folder; only after the rename is the new content there.
                assert_eq!(content, if call < 4 { b"old content" } else { b"new content" }, "operation {call}");
                if failure != Failure::FullFromNowOn {
                    assert_eq!(names(dir.path()), ["f"], "operation {call}");
                }
            }
        }
    }

    #[test]
    fn a_folder_appears_complete_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = AtomicDir::new(dir.path(), "set").unwrap();
        folder.file(FILE, b"1").unwrap();
        assert!(matches!(folder.file(FILE, b"2"), Err(StorageError::AlreadyExists { .. })));
        assert!(matches!(folder.file("../a", b"2"), Err(StorageError::Encode { .. })));
        assert!(!dir.path().join("set").exists());
        let path = folder.commit("set").unwrap();
        assert_eq!(fs::read(path.join(FILE)).unwrap(), b"1");

        let mut second = AtomicDir::new(dir.path(), "set").unwrap();
        second.file(FILE, b"3").unwrap();
        assert!(matches!(second.commit("set"), Err(StorageError::AlreadyExists { .. })));
        assert_eq!(names(dir.path()), ["set"]);
        assert_eq!(fs::read(path.join(FILE)).unwrap(), b"1");
        fs::write(path.join("notes.txt"), b"of a person").unwrap();
        let error = retire_folder(&path).unwrap_err().to_string();
        assert!(error.contains("set/notes.txt") && error.contains("move it elsewhere"), "{error}");
        assert_eq!(names(&path), ["notes.txt", FILE]);
        fs::remove_file(path.join("notes.txt")).unwrap();
        retire_folder(&path).unwrap();
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn leftovers_of_dead_processes_go_and_those_of_this_one_stay() {
        let dir = tempfile::tempdir().unwrap();
        let live = AtomicDir::new(dir.path(), "live").unwrap();
        fs::create_dir_all(dir.path().join(".tmp-set-4294967290-77777777777")).unwrap();
        fs::write(dir.path().join(".tmp-set-4294967290-77777777777/weights.safetensors"), b"x").unwrap();
        fs::create_dir_all(dir.path().join(".tmp-mine-4294967290-77777777777/inner")).unwrap();
        fs::write(dir.path().join(".tmp-summary.yml-4294967290-77777777777"), b"x").unwrap();
        // The same process id as ours, but from an earlier life of that number.
        fs::write(dir.path().join(format!(".tmp-f-{}-{}", std::process::id(), u64::MAX)), b"x").unwrap();
        for notes in [".tmp-notes", ".tmp-notes-4294967290-7"] {
            fs::write(dir.path().join(notes), b"of a person").unwrap();
        }
        assert_eq!(clean_leftovers(dir.path()).unwrap(), 3);
        assert_eq!(names(dir.path()).len(), 4);
        drop(live);
        assert_eq!(names(dir.path()), [".tmp-mine-4294967290-77777777777", ".tmp-notes", ".tmp-notes-4294967290-7"]);
        assert_eq!(clean_leftovers(&dir.path().join("absent")).unwrap(), 0);
    }

    #[test]
    fn errors_say_what_where_and_what_to_do() {
        let error = write_atomic(Path::new("/proc/no/such/file"), b"").unwrap_err();
        assert!(error.to_string().contains("cannot create `/proc/no/such/.tmp-file-"), "{error}");
        let refused = StorageError::io("create", Path::new("runs"), ErrorKind::PermissionDenied.into()).to_string();
        assert!(refused.contains("`runs`") && refused.contains("check the owner"), "{refused}");
        let read_only = StorageError::io("create", Path::new("runs"), ErrorKind::ReadOnlyFilesystem.into()).to_string();
        assert!(read_only.contains("write to another folder"), "{read_only}");
        assert!(matches!(read(Path::new("/dev/null")), Err(StorageError::Foreign { .. })));
    }
}
