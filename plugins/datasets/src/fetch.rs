//! Download of the files of a data set: mirrors in order, resumed, verified, and renamed only when right.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use ibhost_framework::dataset::DataFile;

use crate::archive::{Wanted, check, extract, open_part, part_of, publish};
pub use crate::download::Cause;
use crate::download::{Broken, Transfer, agent};
use crate::verify::{Verdict, git_blob, verify};

/// Most bytes accepted of a file or archive without a published size.
const MAX_UNPUBLISHED: u64 = 1 << 30;

/// How to fetch.
#[derive(Clone, Copy)]
pub struct FetchOptions<'a> {
    /// A mirror that sends nothing for this long is given up.
    pub stall_timeout: Duration,
    /// Never connect; files that would have to be fetched are an error.
    pub offline: bool,
    /// Called with the state of the transfer whenever a piece of it (at most 64 KiB) is on disk.
    pub progress: &'a dyn Fn(Progress<'_>),
}

impl Default for FetchOptions<'_> {
    fn default() -> Self {
        Self { stall_timeout: Duration::from_secs(30), offline: false, progress: &|_| {} }
    }
}

/// State of the transfer under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Path of the file (or archive) below the data root.
    pub path: &'a str,
    /// Address it comes from.
    pub mirror: &'a str,
    /// Bytes on disk.
    pub received: u64,
    /// Bytes in all, when known.
    pub total: Option<u64>,
}

/// What a fetch did; paths are below the data root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchReport {
    /// Files that were there already and are right.
    pub present: Vec<String>,
    /// Files that were downloaded and verified.
    pub fetched: Vec<String>,
}

/// One mirror that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Address that was tried.
    pub mirror: String,
    /// Why it gave nothing.
    pub cause: Cause,
}

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection is allowed, but a file is missing or damaged.
    #[error("`{}` has to be fetched, but fetching is switched off (offline)\n  hint: put the file there by hand, or fetch with a connection", .path.display())]
    Offline {
        /// The file.
        path: PathBuf,
    },
    /// Nobody publishes the file.
    #[error("`{}` has no mirror to fetch it from\n  hint: put the file there by hand", .path.display())]
    NoMirror {
        /// The file.
        path: PathBuf,
    },
    /// Every mirror failed.
    #[error("cannot fetch `{}`:{}\n  hint: try again later (what has arrived is kept and continued), or put the file there by hand", .path.display(), list(.attempts))]
    Failed {
        /// The file.
        path: PathBuf,
        /// All mirrors in order.
        attempts: Vec<Attempt>,
    },
    /// Another process is writing the same file.
    #[error("`{}` is being fetched by another process\n  hint: wait until it is done", .path.display())]
    Busy {
        /// The partial file.
        path: PathBuf,
    },
    /// Files in the way that contradict each other.
    #[error("{why}\n  hint: remove what is not right and fetch again, or fetch into another --data-dir")]
    Unclear {
        /// What contradicts what.
        why: String,
    },
    /// A data set that names a file outside of the data folder.
    #[error("`{path}` is not a plain path below the data folder\n  hint: this is a mistake in the data set's list of files")]
    BadPath {
        /// The path.
        path: String,
    },
    /// The disk refused.
    #[error("cannot {action} `{}`: {source}", .path.display())]
    Io {
        /// What was tried, e.g. `write`.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn list(attempts: &[Attempt]) -> String {
    attempts.iter().fold(String::new(), |text, attempt| text + "\n  " + &attempt.mirror + ": " + &attempt.cause.to_string())
}

/// Makes sure that all `files` are below `root` as published; right ones are left alone.
///
/// Each file is written to a sibling `<name>.part`, continued there when a transfer was interrupted, and gets its name only after
/// size and md5 are verified and the bytes are on disk. Files inside an archive are taken from one download of it.
///
/// # Errors
/// [`FetchError`] for the first file that cannot be had; files fetched before it stay.
pub fn fetch(files: &[DataFile], root: &Path, options: FetchOptions<'_>) -> Result<FetchReport, FetchError> {
    let mut report = FetchReport::default();
    let mut wanted = Vec::new();
    if let Some(bad) = files.iter().find(|file| !is_plain(&file.path)) {
        return Err(FetchError::BadPath { path: bad.path.clone() });
    }
    for (file, (path, found)) in files.iter().zip(verify(files, root)) {
        match found {
            // A file that is there and has no published checksum can only be taken as it is; another form of it cannot stand for it.
            Verdict::Ok => report.present.push(shown(&path, root)),
            Verdict::Unknown if path == root.join(&file.path) => report.present.push(file.path.clone()),
            // What is fetched would lie beside files that say something else, and nothing could be loaded.
            Verdict::Unclear(why) => return Err(FetchError::Unclear { why }),
            Verdict::Damaged { expected, found } if path != root.join(&file.path) => {
                let why = format!("`{}` is not the published file: expected {expected}, found {found}", path.display());
                return Err(FetchError::Unclear { why });
            }
            _ if options.offline => return Err(FetchError::Offline { path: root.join(&file.path) }),
            _ => wanted.push(file),
        }
    }
    let fetcher = Fetcher { root, options, agent: agent(options.stall_timeout) };
    while let Some(file) = wanted.first().copied() {
        let group: Vec<&DataFile> = if file.archive_member.is_some() {
            wanted.iter().copied().filter(|other| other.archive_member.is_some() && other.mirrors == file.mirrors).collect()
        } else {
            vec![file]
        };
        if file.archive_member.is_some() {
            fetcher.archive(&group)?;
        } else {
            fetcher.file(file)?;
        }
        wanted.retain(|file| !group.iter().any(|done| std::ptr::eq(*done, *file)));
        report.fetched.extend(group.iter().map(|file| file.path.clone()));
    }
    Ok(report)
}

/// Whether `path` leads nowhere but below the folder it is joined to.
fn is_plain(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// `path` without the `root` it lies below.
fn shown(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

struct Fetcher<'a> {
    root: &'a Path,
    options: FetchOptions<'a>,
    agent: ureq::Agent,
}

impl Fetcher<'_> {
    fn file(&self, file: &DataFile) -> Result<(), FetchError> {
        let target = self.root.join(&file.path);
        self.try_mirrors(&file.path, &file.mirrors, file.bytes, |part| {
            part.sync_all().map_err(Broken::Disk)?;
            check(part, file.md5.as_deref())?;
            check_blob(part, file.git_blob.as_deref())
        })?;
        publish(&part_of(&target), &target).map_err(|source| FetchError::Io { action: "rename", path: target, source })
    }

    /// Fetches the one archive that all of `files` are members of.
    fn archive(&self, files: &[&DataFile]) -> Result<(), FetchError> {
        let [first, ..] = files else { return Ok(()) };
        let mut wanted = Vec::new();
        for file in files {
            let target = self.root.join(&file.path);
            make_parent(&target)?;
            let member = file.archive_member.clone().unwrap_or_default();
            wanted.push(Wanted { member, target, bytes: file.bytes, md5: file.md5.clone() });
        }
        let path = archive_path(first);
        self.try_mirrors(&path, &first.mirrors, None, |part| {
            io::Seek::rewind(part).map_err(Broken::Disk)?;
            extract(part, &mut wanted)
        })?;
        remove(&part_of(&self.root.join(path)))
    }

    /// Completes the partial file of `path` from the first mirror whose bytes `accept` takes.
    fn try_mirrors(
        &self,
        path: &str,
        mirrors: &[String],
        size: Option<u64>,
        mut accept: impl FnMut(&mut File) -> Result<(), Broken>,
    ) -> Result<(), FetchError> {
        let target = self.root.join(path);
        if mirrors.is_empty() {
            return Err(FetchError::NoMirror { path: target });
        }
        make_parent(&target)?;
        let part_path = part_of(&target);
        let mut part = lock(&part_path)?;
        let mut attempts = Vec::new();
        for mirror in mirrors {
            let report = |received, total| (self.options.progress)(Progress { path, mirror, received, total });
            let limit = size.unwrap_or(MAX_UNPUBLISHED);
            let transfer = Transfer { agent: &self.agent, url: mirror, stall: self.options.stall_timeout, size, limit, report: &report };
            tracing::info!(%mirror, path, "fetching");
            let mut outcome = attempt(&transfer, &mut part, &mut accept);
            if let Err((true, Broken::Mirror(cause))) = &outcome
                && cause.spoils_the_part()
            {
                // The beginning that was continued may be to blame, so this mirror gets one chance to send everything.
                tracing::warn!(%mirror, path, %cause, "continued download is not right, starting anew");
                empty(&part, &part_path)?;
                outcome = attempt(&transfer, &mut part, &mut accept);
            }
            match outcome {
                Ok(()) => return Ok(()),
                Err((_, Broken::Disk(source))) => return Err(FetchError::Io { action: "write", path: part_path, source }),
                Err((_, Broken::Mirror(cause))) => {
                    tracing::warn!(%mirror, path, %cause, "mirror failed");
                    if cause.spoils_the_part() {
                        empty(&part, &part_path)?;
                    }
                    attempts.push(Attempt { mirror: mirror.clone(), cause });
                }
            }
        }
        if part.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            remove(&part_path)?;
        }
        Err(FetchError::Failed { path: target, attempts })
    }
}

/// Transfers and checks once; an error says whether a beginning from earlier was continued.
fn attempt(
    transfer: &Transfer<'_>,
    part: &mut File,
    accept: &mut impl FnMut(&mut File) -> Result<(), Broken>,
) -> Result<(), (bool, Broken)> {
    let resumed = transfer.run(part).map_err(|e| (false, e))?;
    accept(part).map_err(|e| (resumed, e))
}

/// Compares the whole of `part` with the content that git knows by the name `blob`.
fn check_blob(part: &mut File, blob: Option<&str>) -> Result<(), Broken> {
    let Some(expected) = blob else { return Ok(()) };
    io::Seek::rewind(part).map_err(Broken::Disk)?;
    let length = part.metadata().map_err(Broken::Disk)?.len();
    let found = git_blob(part, length).map_err(Broken::Disk)?;
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(Cause::Blob { expected: expected.to_owned(), found }.into())
}

/// Opens the partial file and keeps other processes from it until it is closed.
fn lock(path: &Path) -> Result<File, FetchError> {
    let io = |source| FetchError::Io { action: "open", path: path.to_owned(), source };
    let file = open_part(path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FetchError::Busy { path: path.to_owned() }),
        // Some network file systems cannot lock; a second fetch is then caught by the checksum.
        Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// Where the archive that holds `file` waits: beside it, under the archive's own name, so that a later fetch finds and continues it.
fn archive_path(file: &DataFile) -> String {
    let url = file.mirrors.first().map_or("", String::as_str);
    let name: String =
        url.rsplit('/').next().unwrap_or_default().chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect();
    let name = name.trim_start_matches('.');
    let name = if name.is_empty() { "archive" } else { name };
    match file.path.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{name}"),
        None => name.to_owned(),
    }
}

fn empty(part: &File, path: &Path) -> Result<(), FetchError> {
    part.set_len(0).map_err(|source| FetchError::Io { action: "empty", path: path.to_owned(), source })
}

fn remove(path: &Path) -> Result<(), FetchError> {
    fs::remove_file(path).map_err(|source| FetchError::Io { action: "remove", path: path.to_owned(), source })
}

fn make_parent(target: &Path) -> Result<(), FetchError> {
    let Some(folder) = target.parent() else { return Ok(()) };
    fs::create_dir_all(folder).map_err(|source| FetchError::Io { action: "create", path: folder.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::test_server::{Reply, Server};
    use crate::verify::md5_hex;

    const STALL: Duration = Duration::from_millis(300);

    fn body() -> Vec<u8> {
        (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
    }

    fn file(mirrors: &[String]) -> DataFile {
        DataFile {
            path: "set/data.bin".to_owned(),
            bytes: Some(200_000),
            md5: Some(md5_hex(&mut &body()[..]).unwrap()),
            mirrors: mirrors.to_vec(),
            ..DataFile::default()
        }
    }

    fn options() -> FetchOptions<'static> {
        FetchOptions { stall_timeout: STALL, ..FetchOptions::default() }
    }

    /// Fetches the file of [`body`] from `paths` of a server with `routes`, after `part` was left by an earlier attempt.
    fn run(
        routes: Vec<(&'static str, Reply)>,
        paths: &[&str],
        part: &[u8],
    ) -> (tempfile::TempDir, Result<FetchReport, FetchError>, Server) {
        let server = Server::start(routes);
        let folder = tempfile::tempdir().unwrap();
        if !part.is_empty() {
            fs::create_dir(folder.path().join("set")).unwrap();
            fs::write(folder.path().join("set/data.bin.part"), part).unwrap();
        }
        let mirrors: Vec<String> = paths.iter().map(|path| server.url(path)).collect();
        let result = fetch(&[file(&mirrors)], folder.path(), options());
        (folder, result, server)
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn assert_fetched(folder: &Path, result: &Result<FetchReport, FetchError>) {
        assert_eq!(result.as_ref().unwrap().fetched, ["set/data.bin"]);
        assert_eq!(fs::read(folder.join("set/data.bin")).unwrap(), body());
        assert_eq!(names(&folder.join("set")), ["data.bin"]);
    }

    fn causes(result: Result<FetchReport, FetchError>) -> Vec<Cause> {
        match result {
            Err(FetchError::Failed { attempts, .. }) => attempts.into_iter().map(|attempt| attempt.cause).collect(),
            other => panic!("expected failed attempts, got {other:?}"),
        }
    }

    #[test]
    fn a_good_file_is_fetched_once() {
        let (folder, result, server) = run(vec![("/a", Reply::Ranged(body()))], &["/a"], &[]);
        assert_fetched(folder.path(), &result);
        let again = fetch(&[file(&[server.url("/a")])], folder.path(), FetchOptions { offline: true, ..options() }).unwrap();
        assert_eq!((again.present.len(), again.fetched.len()), (1, 0));
        assert_eq!(server.requests(), [("/a".to_owned(), None)]);
    }

    #[test]
    fn truncated_is_continued_at_the_next_mirror() {
        let routes = vec![("/a", Reply::Truncated(body(), 70_000)), ("/b", Reply::Ranged(body()))];
        let (folder, result, server) = run(routes, &["/a", "/b"], &[]);
        assert_fetched(folder.path(), &result);
        assert_eq!(server.requests()[1], ("/b".to_owned(), Some("bytes=70000-".to_owned())));
        let (folder, result, _server) = run(vec![("/a", Reply::Truncated(body(), 70_000))], &["/a"], &[]);
        let message = result.as_ref().unwrap_err().to_string();
        assert!(message.contains("set/data.bin") && message.contains("/a: truncated: 70000 of 200000"), "{message}");
        assert_eq!(causes(result), [Cause::Truncated { received: 70_000, expected: Some(200_000) }]);
        assert_eq!(fs::read(folder.path().join("set/data.bin.part")).unwrap(), body()[..70_000]);
    }

    #[test]
    fn corrupted_is_deleted_and_the_next_mirror_tried() {
        let mut wrong = body();
        wrong[100] ^= 1;
        let routes = vec![("/a", Reply::Whole(wrong.clone())), ("/b", Reply::Ranged(body()))];
        let (folder, result, server) = run(routes, &["/a", "/b"], &[]);
        assert_fetched(folder.path(), &result);
        assert_eq!(server.requests()[1].1, None, "nothing of the corrupted file is continued");
        let (folder, result, _server) = run(vec![("/a", Reply::Whole(wrong))], &["/a"], &[]);
        assert!(matches!(&causes(result)[..], [Cause::Checksum { .. }]));
        assert!(names(&folder.path().join("set")).is_empty());
    }

    #[test]
    fn a_file_known_by_its_git_blob_only_is_held_against_it() {
        let server = Server::start(vec![("/stub", Reply::Whole(b"<html>".to_vec())), ("/b", Reply::Whole(body()))]);
        let blob = git_blob(&mut &body()[..], 200_000).ok();
        let unsized_file = |paths: &[&str]| {
            let mirrors: Vec<String> = paths.iter().map(|path| server.url(path)).collect();
            DataFile { bytes: None, md5: None, git_blob: blob.clone(), ..file(&mirrors) }
        };
        let folder = tempfile::tempdir().unwrap();
        let stub = fetch(&[unsized_file(&["/stub"])], folder.path(), options());
        assert!(matches!(&causes(stub)[..], [Cause::Blob { .. }]));
        assert!(names(&folder.path().join("set")).is_empty());
        assert_fetched(folder.path(), &fetch(&[unsized_file(&["/stub", "/b"])], folder.path(), options()));
    }

    #[test]
    fn not_found_and_no_server() {
        let (folder, result, _server) = run(vec![("/a", Reply::Status(500))], &["/x", "/a"], &[]);
        assert_eq!(causes(result), [Cause::Status(404), Cause::Status(500)]);
        assert!(names(&folder.path().join("set")).is_empty());
        let gone = "http://127.0.0.1:1/a".to_owned();
        assert!(matches!(&causes(fetch(&[file(&[gone])], folder.path(), options()))[..], [Cause::Connection(_)]));
    }

    #[test]
    fn stalled_is_given_up_in_time() {
        let routes = vec![("/a", Reply::Stalled(body(), 1000)), ("/b", Reply::Ranged(body()))];
        let start = std::time::Instant::now();
        let (folder, result, server) = run(routes, &["/a", "/b"], &[]);
        assert!(start.elapsed() >= STALL && start.elapsed() < 20 * STALL, "took {:?}", start.elapsed());
        assert_fetched(folder.path(), &result);
        assert_eq!(server.requests()[1].1.as_deref(), Some("bytes=1000-"));
        let (_folder, result, _server) = run(vec![("/a", Reply::Stalled(body(), 0))], &["/a"], &[]);
        assert_eq!(causes(result), [Cause::Stalled(STALL)]);
    }

    #[test]
    fn an_earlier_part_is_continued() {
        let (folder, result, server) = run(vec![("/a", Reply::Ranged(body()))], &["/a"], &body()[..150_000]);
        assert_fetched(folder.path(), &result);
        assert_eq!(server.requests(), [("/a".to_owned(), Some("bytes=150000-".to_owned()))]);
        let (folder, result, server) = run(vec![("/a", Reply::Ranged(body()))], &["/a"], &body());
        assert_fetched(folder.path(), &result);
        assert!(server.requests().is_empty(), "a whole part only needs its name");
    }

    #[test]
    fn a_server_without_ranges_sends_all_again() {
        let (folder, result, server) = run(vec![("/a", Reply::Whole(body()))], &["/a"], &body()[..150_000]);
        assert_fetched(folder.path(), &result);
        assert_eq!(server.requests().len(), 1);
    }

    #[test]
    fn a_wrong_part_is_noticed_and_replaced() {
        for part in [vec![1; 150_000], vec![1; 200_000], vec![1; 250_000]] {
            let (folder, result, server) = run(vec![("/a", Reply::Ranged(body()))], &["/a"], &part);
            assert_fetched(folder.path(), &result);
            assert_eq!(server.requests().last().unwrap().1, None);
        }
    }

    #[test]
    fn redirects_are_followed_but_not_for_ever() {
        let routes = vec![
            ("/a", Reply::Redirect("/b".to_owned())),
            ("/b", Reply::Ranged(body())),
            ("/x", Reply::Redirect("/y".to_owned())),
            ("/y", Reply::Redirect("/x".to_owned())),
        ];
        let (folder, result, server) = run(routes, &["/x", "/a"], &[]);
        assert_fetched(folder.path(), &result);
        assert!(server.requests().len() <= 8, "{:?}", server.requests());
        let (_folder, result, _server) = run(vec![("/x", Reply::Redirect("/x".to_owned()))], &["/x"], &[]);
        assert_eq!(causes(result), [Cause::Redirects]);
    }

    #[test]
    fn an_endless_or_oversized_body_is_cut_off() {
        let (folder, result, _server) = run(vec![("/a", Reply::Endless), ("/b", Reply::Whole(vec![0; 200_001]))], &["/a", "/b"], &[]);
        assert_eq!(causes(result), [Cause::TooLarge { limit: 200_000 }, Cause::TooLarge { limit: 200_000 }]);
        assert!(names(&folder.path().join("set")).is_empty());
    }

    #[test]
    fn a_whole_answer_of_another_length_never_gets_the_name() {
        let short = body()[..1000].to_vec();
        let routes = vec![("/a", Reply::Whole(short)), ("/b", Reply::Whole(Vec::new()))];
        let (folder, result, _server) = run(routes, &["/a", "/b"], &[]);
        let cut = |received| Cause::Truncated { received, expected: Some(200_000) };
        assert_eq!(causes(result), [cut(1000), cut(0)]);
        assert!(!folder.path().join("set/data.bin").exists());
    }

    #[test]
    fn members_of_one_archive_are_fetched_together() {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        let members = [("d/one", &body()[..1000]), ("d/two", &body()[1000..3000]), ("d/unwanted", &body()[..])];
        for (name, data) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, data).unwrap();
        }
        let mut encoder = builder.into_inner().unwrap();
        encoder.flush().unwrap();
        let packed = encoder.finish().unwrap();
        let server = Server::start(vec![("/cut", Reply::Whole(packed[..600].to_vec())), ("/good", Reply::Ranged(packed))]);
        let member = |name: &str, data: &[u8]| DataFile {
            path: name.to_owned(),
            bytes: Some(data.len() as u64),
            md5: Some(md5_hex(&mut &*data).unwrap()),
            mirrors: vec![server.url("/cut"), server.url("/good")],
            archive_member: Some(name.to_owned()),
            ..DataFile::default()
        };
        let files = [member("d/one", members[0].1), member("d/two", members[1].1)];
        let folder = tempfile::tempdir().unwrap();
        let seen = RefCell::new(Vec::new());
        let progress = |p: Progress<'_>| seen.borrow_mut().push((p.received, p.total));
        let report = fetch(&files, folder.path(), FetchOptions { progress: &progress, ..options() }).unwrap();
        assert_eq!(report.fetched, ["d/one", "d/two"]);
        assert_eq!(server.requests().iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["/cut", "/good"]);
        assert_eq!(names(&folder.path().join("d")), ["one", "two"]);
        assert_eq!(fs::read(folder.path().join("d/two")).unwrap(), body()[1000..3000]);
        let seen = seen.into_inner();
        let (received, total) = *seen.last().unwrap();
        assert!(Some(received) == total && received > 0, "{seen:?}");
    }

    #[test]
    fn archives_wait_under_their_own_name() {
        let at = |url: &str| archive_path(&file(&[url.to_owned()]));
        assert_eq!(at("https://host/~x/cifar-10-binary.tar.gz"), "set/cifar-10-binary.tar.gz");
        assert_eq!(at("https://host/get?a=b/.."), "set/archive");
    }

    #[test]
    fn refusals_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let offline = fetch(&[file(&[])], folder.path(), FetchOptions { offline: true, ..options() }).unwrap_err();
        assert!(offline.to_string().contains("set/data.bin"), "{offline}");
        assert!(matches!(fetch(&[file(&[])], folder.path(), options()), Err(FetchError::NoMirror { .. })));
        for path in ["../x", "/etc/x", ""] {
            let bad = DataFile { path: path.to_owned(), ..file(&[]) };
            assert!(matches!(fetch(&[bad], folder.path(), options()), Err(FetchError::BadPath { .. })));
        }
    }

    #[test]
    fn nothing_is_fetched_beside_a_file_that_says_something_else() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("set")).unwrap();
        fs::write(folder.path().join("set/data"), b"other").unwrap();
        let contents = Some(md5_hex(&mut &body()[..]).unwrap());
        let packed = DataFile { path: "set/data.gz".to_owned(), contents, ..file(&["http://127.0.0.1:1/a".to_owned()]) };
        let error = fetch(std::slice::from_ref(&packed), folder.path(), options()).unwrap_err().to_string();
        assert!(error.contains("set/data` is not the published file") && error.contains("hint:"), "{error}");
        fs::write(folder.path().join("set/data"), body()).unwrap();
        assert_eq!(fetch(&[packed], folder.path(), options()).unwrap().present, ["set/data"]);
    }

    #[test]
    fn two_fetches_of_one_file_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("set")).unwrap();
        let _held = lock(&folder.path().join("set/data.bin.part")).unwrap();
        assert!(matches!(fetch(&[file(&["http://127.0.0.1:1/a".to_owned()])], folder.path(), options()), Err(FetchError::Busy { .. })));
    }
}
