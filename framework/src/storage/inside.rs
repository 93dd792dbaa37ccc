//! How everything inside of runs and sweeps is opened: plain files and folders that lie there themselves, never what a link, a pipe or a
//! device in their place leads to.
//!
//! A folder that somebody shares may hold anything. The folder of a run or sweep itself may be reached through a link; below it a link
//! would let this program read, empty or remove what belongs to somebody else, and a pipe would let it wait for ever.

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::atomic::{self, StorageError};
use super::layout::{CHECKPOINTS, OWN, RUN_MARK};

/// File that makes a folder a sweep, together with a folder of one of these names, as a file of settings may be called like that too.
const SWEEP_MARK: &str = "sweep.json";
const SWEEP_FOLDERS: [&str; 2] = ["trials", "slurm"];
/// Deepest nesting of a file below a run or sweep: `trials/000000/<run>/tensorboard/train/<file>`, with room for an analysis's own folders.
const LEVELS: usize = 9;
/// What to do about something that is not opened.
const FIX: &str = "only plain files and folders that lie there themselves are opened\n  \
                   hint: remove it (what a link points to stays), or put the file or folder itself in its place";

/// What something is that is no plain file, with what a link points to.
fn what(path: &Path, kind: FileType) -> String {
    if kind.is_symlink() {
        return match fs::read_link(path) {
            Ok(target) => format!("a link to `{}`", target.to_string_lossy().escape_debug()),
            Err(_) => "a link".to_owned(),
        };
    }
    if kind.is_dir() {
        return "a folder, not a file".to_owned();
    }
    if kind.is_file() {
        return "a file, not a folder".to_owned();
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a pipe".to_owned();
        }
        if kind.is_socket() {
            return "a socket".to_owned();
        }
    }
    "a device".to_owned()
}

/// The refusal of what lies at `path`.
pub(super) fn refused(path: &Path, kind: FileType) -> StorageError {
    StorageError::NotPlain { path: path.to_path_buf(), reason: format!("it is {}; {FIX}", what(path, kind)) }
}

/// Whether `folder`, whose parent is `parent`, lies inside of a run or a sweep.
fn lies_inside(folder: &Path, parent: &Path) -> bool {
    let marked = |mark: &str| fs::symlink_metadata(parent.join(mark)).is_ok();
    let of_sweep = || folder.file_name().is_some_and(|name| SWEEP_FOLDERS.iter().any(|known| name == *known)) && marked(SWEEP_MARK);
    marked(RUN_MARK) || of_sweep()
}

/// Refuses a path whose way from the folder of a run or sweep leads through a link.
///
/// # Errors
/// [`StorageError::NotPlain`] naming the link.
pub fn check_way(path: &Path) -> Result<(), StorageError> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let folders: Vec<&Path> = path.ancestors().skip(1).take(LEVELS).collect();
    // The outermost one counts: a link to another run would look like the folder of a run itself.
    let Some(outermost) = folders.iter().rposition(|folder| folder.parent().is_some_and(|parent| lies_inside(folder, parent))) else {
        return Ok(());
    };
    for folder in folders[..=outermost].iter().rev() {
        if let Ok(found) = fs::symlink_metadata(folder)
            && !found.is_dir()
        {
            return Err(refused(folder, found.file_type()));
        }
    }
    Ok(())
}

/// Refuses a folder of a run or sweep that is a link or no folder; one that is missing is none of either.
///
/// # Errors
/// [`StorageError::NotPlain`] naming what is there instead.
pub fn check_folder(path: &Path) -> Result<(), StorageError> {
    check_way(path)?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_dir() => Err(refused(path, found.file_type())),
        _ => Ok(()),
    }
}

/// Refuses what is no plain file of its own, before it is opened; tells whether there is one.
///
/// # Errors
/// [`StorageError::NotPlain`] naming what is there instead.
pub fn check_file(path: &Path) -> Result<bool, StorageError> {
    check_way(path)?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => Err(refused(path, found.file_type())),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StorageError::io("inspect", path, error)),
    }
}

/// Whether there is a plain file, not counting links.
pub fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}

/// Lets `options` open nothing through a link, and never wait for the other end of a pipe that was put there a moment ago.
pub(super) fn strict(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    options
}

/// The file just opened at `path`, if it is a plain one.
pub(super) fn plain(file: File, path: &Path) -> Result<File, StorageError> {
    let kind = file.metadata().map_err(|source| StorageError::io("inspect", path, source))?.file_type();
    if kind.is_file() { Ok(file) } else { Err(refused(path, kind)) }
}

/// Opens a file of a run or sweep for reading.
///
/// # Errors
/// [`StorageError::NotPlain`], or what the disk refused.
pub fn open(path: &Path) -> Result<File, StorageError> {
    check_file(path)?;
    let file = strict(OpenOptions::new().read(true)).open(path).map_err(|source| StorageError::io("read", path, source))?;
    plain(file, path)
}

/// Reads a whole file of a run or sweep; the memory used is the file's own size.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path) -> Result<Vec<u8>, StorageError> {
    let mut file = open(path)?;
    let io = |source| StorageError::io("read", path, source);
    let mut bytes = Vec::new();
    // A file that claims more than there is memory for is an error, as everywhere else.
    let length = usize::try_from(file.metadata().map_err(io)?.len()).unwrap_or(usize::MAX);
    bytes.try_reserve_exact(length).map_err(|_| io(ErrorKind::OutOfMemory.into()))?;
    file.read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

/// Reads a whole file of text of a run or sweep.
///
/// # Errors
/// As [`open`], and [`StorageError::Damaged`] when it is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, StorageError> {
    String::from_utf8(read(path)?).map_err(|e| StorageError::damaged(path, format!("not valid UTF-8: {e}")))
}

/// Opens a file of a run or sweep to be changed in place, creating it when it is missing. Bytes that it shares with another name, as in a
/// snapshot by hard links, are copied first.
///
/// # Errors
/// [`StorageError::NotPlain`], or what the disk refused.
pub fn open_in_place(path: &Path) -> Result<File, StorageError> {
    if check_file(path)? {
        unshare(path)?;
    }
    open_shared(path)
}

/// Opens a file of a run or sweep in place as it is, creating it when it is missing.
///
/// # Errors
/// As [`open_in_place`].
pub fn open_shared(path: &Path) -> Result<File, StorageError> {
    check_file(path)?;
    plain(atomic::open_in_place(path)?, path)
}

/// Opens a file of a run or sweep to be continued at its end by any number of processes, creating it when it is missing; what it shares with a
/// snapshot is copied first.
///
/// # Errors
/// As [`open_in_place`].
pub fn open_append(path: &Path) -> Result<File, StorageError> {
    if check_file(path)? {
        unshare(path)?;
    }
    plain(atomic::open_append(path)?, path)
}

/// Whether other names share the bytes of a file.
#[cfg(unix)]
fn is_shared(found: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(found) > 1
}

/// This system does not tell.
#[cfg(not(unix))]
fn is_shared(_found: &Metadata) -> bool {
    false
}

/// Gives the file at `path` bytes of its own.
fn unshare(path: &Path) -> Result<(), StorageError> {
    let found = fs::symlink_metadata(path).map_err(|source| StorageError::io("inspect", path, source))?;
    if is_shared(&found) { atomic::replace(path, &read(path)?) } else { Ok(()) }
}

/// Whether `file`, once opened at `path`, still is the file of that name and of no other.
pub fn is_own(file: &File, path: &Path) -> bool {
    is_current(file, path) && file.metadata().is_ok_and(|opened| !is_shared(&opened))
}

/// Whether `file`, once opened at `path`, still is the file of that name.
pub fn is_current(file: &File, path: &Path) -> bool {
    let (Ok(opened), Ok(named)) = (file.metadata(), fs::symlink_metadata(path)) else { return false };
    is_same(&opened, &named)
}

#[cfg(unix)]
fn is_same(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// This system does not tell.
#[cfg(not(unix))]
fn is_same(_a: &Metadata, _b: &Metadata) -> bool {
    true
}

/// Before an open file is written to again: if a snapshot by hard links was taken of it meanwhile, the writer goes on with a copy.
pub(crate) fn separate(file: &mut File, path: &Path) -> Result<(), StorageError> {
    let found = file.metadata().map_err(|source| StorageError::io("inspect", path, source))?;
    if !is_shared(&found) || !is_current(file, path) {
        return Ok(());
    }
    unshare(path)?;
    let mut own = open_shared(path)?;
    own.seek(SeekFrom::End(0)).map_err(|source| StorageError::io("seek in", path, source))?;
    *file = own;
    Ok(())
}

/// The run in which a path leads to a result, and the path relative to the run with `/` between names; `None` outside of runs, and for
/// checkpoints and the files directly in the run's folder that every run has.
pub(super) fn result_of(path: &Path) -> Option<(PathBuf, String)> {
    let path = std::path::absolute(path).ok()?;
    let run = path.ancestors().skip(1).take(LEVELS).find(|folder| fs::symlink_metadata(folder.join(RUN_MARK)).is_ok())?;
    let parts: Option<Vec<&str>> = path.strip_prefix(run).ok()?.iter().map(std::ffi::OsStr::to_str).collect();
    let name = parts?.join("/");
    (!OWN.contains(&&*name) && !name.starts_with(CHECKPOINTS)).then(|| (run.to_path_buf(), name))
}

/// The run in whose folder `path` lies, if any, wherever links lead; what does not exist yet lies where its nearest folder that does lies.
fn enclosing_run(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let real = absolute.ancestors().find_map(|folder| fs::canonicalize(folder).ok())?;
    real.ancestors().find(|folder| is_file(&folder.join(RUN_MARK))).map(Path::to_path_buf)
}

/// Refuses to write a page, a table, a run or a sweep to `path` when that lies in the folder of a run, which holds what the run wrote alone.
///
/// # Errors
/// [`StorageError::Foreign`] naming the run.
pub fn check_outside(path: &Path) -> Result<(), StorageError> {
    enclosing_run(path).map_or(Ok(()), |run| {
        let reason =
            format!("it lies in the run `{}`, which holds its own files only\n  hint: choose a place outside of runs", run.display());
        Err(StorageError::foreign(path, reason))
    })
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder that counts as a run, with a folder of plots.
    fn run(dir: &Path, name: &str) -> PathBuf {
        let run = dir.join(name);
        fs::create_dir_all(run.join("plots")).unwrap();
        fs::write(run.join(RUN_MARK), "{}").unwrap();
        run
    }

    #[test]
    fn links_pipes_and_folders_are_not_opened_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (run(dir.path(), "a"), run(dir.path(), "b"));
        fs::write(b.join("plots/x.png"), "x").unwrap();
        fs::write(dir.path().join("document"), "text").unwrap();
        symlink(dir.path().join("document"), a.join("log.txt")).unwrap();
        symlink("line\nbreak", a.join("broken")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(a.join("pipe")).status().unwrap();
        assert!(made.success());
        let words = |path: &Path| {
            let errors = [open(path).map(drop), open_in_place(path).map(drop), read(path).map(drop), read_text(path).map(drop)];
            let texts: Vec<String> = errors.into_iter().map(|error| error.unwrap_err().to_string()).collect();
            assert!(texts.iter().all(|text| *text == texts[0] && text.contains("hint: remove it")), "{texts:?}");
            texts[0].clone()
        };
        let linked = words(&a.join("log.txt"));
        assert!(linked.contains("log.txt") && linked.contains("a link to `/") && linked.contains("document"), "{linked}");
        assert!(words(&a.join("broken")).contains("line\\nbreak"));
        assert!(words(&a.join("pipe")).contains("a pipe"));
        assert!(words(&a.join("plots")).contains("a folder"));
        assert!(read(Path::new("/dev/null")).unwrap_err().to_string().contains("a device"));
        assert_eq!(fs::read_to_string(dir.path().join("document")).unwrap(), "text");

        // A folder inside is as bad, also one that leads to a whole run, but the run itself may be reached through a link.
        fs::remove_dir(a.join("plots")).unwrap();
        for target in ["../b/plots", "../b"] {
            symlink(target, a.join("plots")).unwrap();
            for path in ["plots/x.png", "plots/plots/x.png", "plots/new/deep/x.png"] {
                let error = check_way(&a.join(path)).unwrap_err().to_string();
                assert!(error.contains("a/plots` is not opened: it is a link to `../b"), "{error}");
            }
            fs::remove_file(a.join("plots")).unwrap();
        }
        symlink(&b, dir.path().join("name")).unwrap();
        assert_eq!(read(&dir.path().join("name/plots/x.png")).unwrap(), b"x");
    }

    #[test]
    fn trials_that_are_links_are_refused_and_a_file_called_like_a_sweep_s_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let sweep = dir.path().join("sweep");
        let inner = run(&sweep.join("trials/000001"), "run");
        fs::write(sweep.join("sweep.json"), "{}").unwrap();
        check_way(&inner.join("config.yml")).unwrap();
        symlink("000001", sweep.join("trials/000000")).unwrap();
        let error = check_way(&sweep.join("trials/000000/run/config.yml")).unwrap_err().to_string();
        assert!(error.contains("trials/000000` is not opened"), "{error}");
        assert!(check_folder(&sweep.join("trials/000000")).is_err());
        symlink("trials/000001", sweep.join("runs")).unwrap();
        check_way(&sweep.join("runs/run/config.yml")).unwrap();
    }

    #[test]
    fn what_a_snapshot_shares_is_copied_before_it_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let (original, snapshot) = (dir.path().join("original"), dir.path().join("snapshot"));
        let mut file = open_in_place(&original).unwrap();
        file.write_all(b"one\n").unwrap();
        separate(&mut file, &original).unwrap();
        fs::hard_link(&original, &snapshot).unwrap();
        assert!(!is_own(&file, &original));
        separate(&mut file, &original).unwrap();
        file.write_all(b"two\n").unwrap();
        assert!(is_own(&file, &original));
        assert_eq!((fs::read(&original).unwrap(), fs::read(&snapshot).unwrap()), (b"one\ntwo\n".to_vec(), b"one\n".to_vec()));
        fs::hard_link(&snapshot, dir.path().join("third")).unwrap();
        open_in_place(&snapshot).unwrap().set_len(0).unwrap();
        assert_eq!(fs::read(dir.path().join("third")).unwrap(), b"one\n");
    }

    #[test]
    fn nothing_else_is_written_into_a_run() {
        let dir = tempfile::tempdir().unwrap();
        let a = run(dir.path(), "a");
        for path in [a.clone(), a.join("plots"), a.join("new/report.html"), a.join("config.yml")] {
            let error = check_outside(&path).unwrap_err().to_string();
            assert!(error.contains("lies in the run") && error.contains("hint:"), "{error}");
        }
        for path in [dir.path().to_path_buf(), dir.path().join("report.html"), dir.path().join("b/c/d")] {
            check_outside(&path).unwrap();
        }
        assert_eq!(result_of(&a.join("plots/x/y.png")).unwrap(), (a.clone(), "plots/x/y.png".to_owned()));
        for path in [a.join("summary.yml"), a.join("checkpoints/last-000000001/state.json"), dir.path().join("plots/x.png")] {
            assert_eq!(result_of(&path), None);
        }
    }
}
