//! The index of all runs below a folder: a SQLite file that saves reading thousands of small files again. It is never the only truth: what
//! is stale is read again, and what is damaged or of another version is built anew. A run never has one inside of it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rayon::prelude::*;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::filter::Filter;
use super::record::RunRecord;
use super::row::{Details, Row, Words};
use super::scan::{Found, IDENTITY, Shared, Stamp, scan};
use super::select::select;
use crate::error::SweepError;

const FILE: &str = ".ibhost-index.sqlite";
/// Raised whenever the tables or the form of a row change.
const SCHEMA: i64 = 3;
/// Longest wait for another process that writes the index.
const PATIENCE: Duration = Duration::from_secs(2);
/// Fewer runs are read as fast as an index of them.
const WORTHWHILE: usize = 100;
/// Runs that are held in memory as they were read.
const BATCH: usize = 1024;

/// A run of the index.
#[derive(Debug)]
pub(super) struct Known {
    /// Its folder below that of the index; empty where it is that folder.
    pub path: PathBuf,
    pub row: Row,
    /// Packed.
    details: Vec<u8>,
    /// `None` of a row that holds for this moment only.
    stamp: Option<Stamp>,
    /// Whether the file has it already.
    kept: bool,
}

/// All runs below a folder.
#[derive(Debug)]
pub struct Index {
    pub(super) folder: PathBuf,
    pub(super) words: Words,
    pub(super) runs: Vec<Known>,
}

/// What the file of an index held.
#[derive(Default)]
struct Stored {
    /// Counts the changes of the file, so that two processes do not mix their words.
    generation: i64,
    words: Words,
    rows: HashMap<PathBuf, (Stamp, Row, Vec<u8>)>,
}

impl Known {
    /// The longer part of the row.
    pub fn details(&self) -> Details {
        Details::unpack(&self.details)
    }
}

impl Index {
    /// Opens the index of `folder` and brings it up to date with the runs that are there, itself included. Where it cannot be kept, as on a
    /// read-only file system, in a run, or under a link, the runs are read without one.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn open(folder: &Path) -> Result<Self, SweepError> {
        Self::open_at(folder, SystemTime::now())
    }

    fn open_at(folder: &Path, now: SystemTime) -> Result<Self, SweepError> {
        let shared = Shared::default();
        let file = file_of(folder);
        let was_there = file.as_ref().is_some_and(|file| file.exists());
        let (found, stored) = rayon::join(|| scan(folder, now, &shared), || file.as_deref().map_or_else(|| Ok(Stored::default()), load));
        let found = found.map_err(|source| {
            SweepError::Request(format!(
                "cannot list `{}`: {source}\n  hint: name the folder that was given to `ibhost run --output-dir`",
                folder.display()
            ))
        })?;
        let stored = stored.unwrap_or_else(|error| {
            tracing::debug!("the runs in `{}` are read without their index: {error}", folder.display());
            Stored::default()
        });
        let (generation, before, first) = (stored.generation, stored.rows.len(), stored.words.len());
        let mut index = Self::refreshed(folder, found, stored, &shared);
        if let Some(file) = file.filter(|_| was_there || index.runs.len() >= WORTHWHILE) {
            let kept = index.runs.iter().filter(|run| run.kept).count();
            if kept != before || index.runs.iter().any(|run| !run.kept && run.stamp.is_some()) {
                let rewrite = index.compact();
                if let Err(error) = index.save(&file, generation, if rewrite { 0 } else { first }) {
                    tracing::debug!("`{}` is not brought up to date: {error}", file.display());
                }
            }
        }
        Ok(index)
    }

    /// Takes what is `stored` of the runs that were `found`, and reads what changed.
    fn refreshed(folder: &Path, found: Vec<Found>, stored: Stored, shared: &Shared) -> Self {
        let Stored { words, mut rows, .. } = stored;
        let mut index = Self { folder: folder.to_path_buf(), words, runs: Vec::with_capacity(found.len()) };
        let mut stale = Vec::new();
        for found in found {
            let path = found.path.strip_prefix(folder).unwrap_or(&found.path).to_path_buf();
            match rows.remove(&path) {
                Some((stamp, row, details)) if found.stamp == Some(stamp) => {
                    index.runs.push(Known { path, row, details, stamp: Some(stamp), kept: true });
                }
                _ => stale.push((path, found)),
            }
        }
        for batch in stale.chunks(BATCH) {
            let read = batch.par_iter().map(|(_, found)| match &found.broken {
                Some(reason) => (RunRecord::broken(&found.path, reason.clone(), shared), false),
                None => RunRecord::look(&found.path, shared),
            });
            let records: Vec<(RunRecord, bool)> = read.collect();
            for ((path, found), (record, settled)) in batch.iter().zip(records) {
                let (row, details) = Row::of(&record, &mut index.words);
                let details = packed(&details);
                index.runs.push(Known { path: path.clone(), row, details, stamp: found.stamp.filter(|_| settled), kept: false });
            }
        }
        index.runs.sort_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
        index
    }

    /// Numbers the words anew when most are of runs that are gone; says whether it did.
    fn compact(&mut self) -> bool {
        let mut used = vec![false; self.words.len()];
        let mut details: Vec<Details> = self.runs.par_iter().map(Known::details).collect();
        for (run, details) in self.runs.iter_mut().zip(&mut details) {
            for word in run.row.words().chain(details.words()) {
                if let Some(used) = used.get_mut(*word as usize) {
                    *used = true;
                }
            }
        }
        if 2 * used.iter().filter(|used| **used).count() + BATCH > used.len() {
            return false;
        }
        let mut words = Words::default();
        for (run, mut details) in self.runs.iter_mut().zip(details) {
            for word in run.row.words().chain(details.words()) {
                *word = words.number(self.words.text(*word));
            }
            run.details = packed(&details);
            run.kept = false;
        }
        self.words = words;
        true
    }

    /// Writes rows that are new, forgets those that are gone, and adds the words from `first` on; all of them where that is none.
    fn save(&self, file: &Path, generation: i64, first: usize) -> Result<(), rusqlite::Error> {
        let mut connection = create(file)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if generation_of(&transaction)? != generation {
            // Another process was faster; what it wrote is brought up to date the next time.
            return Ok(());
        }
        if first == 0 {
            transaction.execute_batch("DELETE FROM words; DELETE FROM runs;")?;
        }
        let mut statement = transaction.prepare("INSERT INTO words (id, text) VALUES (?1, ?2)")?;
        for (number, text) in self.words.since(first) {
            statement.execute((number as i64, text))?;
        }
        drop(statement);
        let kept: HashSet<&Path> = self.runs.iter().filter(|run| run.kept).map(|run| run.path.as_path()).collect();
        for path in paths(&transaction)? {
            if !kept.contains(Path::new(&path)) {
                transaction.prepare_cached("DELETE FROM runs WHERE path = ?1")?.execute([path])?;
            }
        }
        for run in self.runs.iter().filter(|run| !run.kept) {
            // A name that is no text is read again every time.
            if let (Some(stamp), Some(path)) = (&run.stamp, run.path.to_str()) {
                let mut statement = transaction.prepare_cached("INSERT INTO runs (path, stamp, row, details) VALUES (?1, ?2, ?3, ?4)")?;
                statement.execute((path, stamp, packed(&run.row), &run.details))?;
            }
        }
        transaction.execute("UPDATE state SET generation = generation + 1", [])?;
        transaction.commit()
    }

    /// Every field that some run has, sorted.
    pub fn keys(&self) -> Vec<String> {
        super::select::keys(std::slice::from_ref(self))
    }

    /// The runs that meet all `filters`, sorted by the field `sort` (falling when it begins with `-`), else by folder. Runs without that
    /// field come last.
    ///
    /// # Errors
    /// When a field is none of any run.
    pub fn query(&self, filters: &[Filter], sort: Option<&str>) -> Result<Vec<RunRecord>, SweepError> {
        Ok(select(std::slice::from_ref(self), filters, sort)?.iter().map(super::select::Listed::record).collect())
    }
}

/// Where the index of `folder` is kept; nowhere when that is a run or inside of one, or something else has that name.
fn file_of(folder: &Path) -> Option<PathBuf> {
    let folder = folder.canonicalize().ok()?;
    if folder.ancestors().any(|ancestor| fs::symlink_metadata(ancestor.join(IDENTITY)).is_ok()) {
        return None;
    }
    let file = folder.join(FILE);
    match fs::symlink_metadata(&file) {
        Ok(metadata) if !metadata.is_file() => {
            tracing::warn!("`{}` is no plain file; the runs are read without an index", file.display());
            None
        }
        // A snapshot made of hard links shares its index with the folder it was made of.
        #[cfg(unix)]
        Ok(metadata) if std::os::unix::fs::MetadataExt::nlink(&metadata) > 1 => fs::remove_file(&file).is_ok().then_some(file),
        _ => Some(file),
    }
}

/// What `file` holds; nothing when it is not there, and when it is damaged or of another version, in which case it is removed.
fn load(file: &Path) -> Result<Stored, rusqlite::Error> {
    if !file.exists() {
        return Ok(Stored::default());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let stored = Connection::open_with_flags(file, flags).and_then(|mut connection| {
        connection.busy_timeout(PATIENCE)?;
        read(&connection.transaction()?)
    });
    match stored {
        Ok(Some(stored)) => Ok(stored),
        Ok(None) => Ok(discard(file, "it is of another version")),
        Err(error) if is_damaged(&error) => Ok(discard(file, &error.to_string())),
        Err(error) => Err(error),
    }
}

fn discard(file: &Path, reason: &str) -> Stored {
    tracing::debug!("`{}` is built anew: {reason}", file.display());
    if let Err(error) = fs::remove_file(file) {
        tracing::debug!("`{}` cannot be removed: {error}", file.display());
    }
    Stored::default()
}

/// All of an index; nothing when it is of another version.
fn read(transaction: &Transaction<'_>) -> Result<Option<Stored>, rusqlite::Error> {
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != SCHEMA {
        return Ok(None);
    }
    let generation = generation_of(transaction)?;
    let mut statement = transaction.prepare("SELECT id, text FROM words ORDER BY id")?;
    let mut texts = Vec::new();
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        if row.get_ref(0)?.as_i64()? != texts.len() as i64 {
            return Ok(None);
        }
        texts.push(Box::from(row.get_ref(1)?.as_str()?));
    }
    let mut statement = transaction.prepare("SELECT path, stamp, row, details FROM runs")?;
    let mut found = statement.query([])?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        let blob = |column| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_blob()?.to_vec());
        rows.push((PathBuf::from(row.get_ref(0)?.as_str()?), row.get::<_, Stamp>(1)?, blob(2)?, blob(3)?));
    }
    let words = Words::new(texts);
    let unpacked = rows.into_par_iter().filter_map(|(path, stamp, row, details)| {
        let row = postcard::from_bytes(&row).ok()?;
        Some((path, (stamp, row, details)))
    });
    let rows: Vec<_> = unpacked.collect();
    Ok(Some(Stored { generation, words, rows: rows.into_iter().collect() }))
}

/// The bytes of a row or its details; writing numbers to memory does not fail.
fn packed(value: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).unwrap_or_default()
}

fn open(file: &Path) -> Result<Connection, rusqlite::Error> {
    let access = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    Connection::open_with_flags(file, access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW)
}

/// Opens `file` for writing, with tables.
fn create(file: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = open(file)?;
    connection.busy_timeout(PATIENCE)?;
    // Whatever a loss of power does to it, it can be built again.
    connection.pragma_update(None, "synchronous", "OFF")?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != SCHEMA {
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE;
             CREATE TABLE IF NOT EXISTS state (generation INTEGER NOT NULL);
             INSERT INTO state SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM state);
             CREATE TABLE IF NOT EXISTS words (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
             CREATE TABLE IF NOT EXISTS runs (path TEXT PRIMARY KEY, stamp BLOB NOT NULL, row BLOB NOT NULL,
                 details BLOB NOT NULL) WITHOUT ROWID;
             PRAGMA user_version = {SCHEMA}; COMMIT;"
        ))?;
    }
    Ok(connection)
}

fn generation_of(transaction: &Transaction<'_>) -> Result<i64, rusqlite::Error> {
    transaction.query_row("SELECT generation FROM state", [], |row| row.get(0))
}

fn paths(transaction: &Transaction<'_>) -> Result<Vec<String>, rusqlite::Error> {
    transaction.prepare("SELECT path FROM runs")?.query_map([], |row| row.get(0))?.collect()
}

fn is_damaged(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, PermissionDenied, ReadOnly, SystemIoFailure};
    let refused = [CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, PermissionDenied, ReadOnly, SystemIoFailure];
    !error.sqlite_error_code().is_some_and(|code| refused.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::make_run;
    use super::*;

    /// An index file of this many bytes a run, at most; 30,000 runs are to take 40 MB.
    const BYTES: u64 = 1300;

    fn betas(index: &Index, sort: Option<&str>) -> Vec<f64> {
        index.query(&[], sort).unwrap().iter().map(|run| run.settings["objective.beta"].as_f64().unwrap()).collect()
    }

    #[test]
    fn the_index_follows_the_folders_and_survives_damage() {
        let folder = tempfile::tempdir().unwrap();
        let first = make_run(folder.path(), 0.1, 0.9);
        make_run(&folder.path().join("sweeps/a/trials/000000"), 0.2, 0.9);
        fs::write(folder.path().join(FILE), "").unwrap();
        let sorted = Some("objective.beta");
        assert_eq!(betas(&Index::open(folder.path()).unwrap(), sorted), [0.1, 0.2]);
        make_run(folder.path(), 0.3, 0.9);
        fs::remove_dir_all(&first).unwrap();
        assert_eq!(betas(&Index::open(folder.path()).unwrap(), sorted), [0.2, 0.3]);
        for wrong in ["not a database at all, but long enough to be read as one ".repeat(100), "short".to_owned()] {
            fs::write(folder.path().join(FILE), wrong).unwrap();
            assert_eq!(betas(&Index::open(folder.path()).unwrap(), sorted), [0.2, 0.3]);
        }
    }

    /// An hour from now no file is too young for its row to be kept.
    fn later(folder: &Path) -> Index {
        Index::open_at(folder, SystemTime::now() + Duration::from_hours(1)).unwrap()
    }

    fn kept(index: &Index) -> usize {
        index.runs.iter().filter(|run| run.kept).count()
    }

    /// An index of `count` rows like that of `run`, each with numbers of its own.
    fn many(folder: &Path, run: &Path, count: u32) -> Index {
        let mut index = Index { folder: folder.to_path_buf(), words: Words::default(), runs: Vec::new() };
        let mut record = RunRecord::read(run);
        for n in 0..count {
            record.settings.insert("objective.beta".to_owned(), f64::from(n).into());
            record.settings.insert("seed".to_owned(), n.into());
            record.metrics = (0..25).map(|metric| (format!("test.metric-{metric}"), 1.0 / f64::from(n + metric + 1))).collect();
            record.command =
                ["ibhost", "run", "--objective", "vib", "--epochs", "200", "--seed", &n.to_string()].map(str::to_owned).to_vec();
            let (row, details) = Row::of(&record, &mut index.words);
            let path = PathBuf::from(format!("mlp-vib-binary_digits--2026-12-01T10-41-29-{n:08x}"));
            index.runs.push(Known { path, row, details: packed(&details), stamp: Some(Stamp::default()), kept: false });
        }
        index
    }

    #[test]
    fn a_run_takes_little_room() {
        let folder = tempfile::tempdir().unwrap();
        let run = make_run(folder.path(), 0.1, 0.9);
        let file = folder.path().join(FILE);
        let index = many(folder.path(), &run, 500);
        index.save(&file, 0, 0).unwrap();
        let size = fs::metadata(&file).unwrap().len();
        assert!(size < 500 * BYTES, "{} bytes a run", size / 500);
        let stored = load(&file).unwrap();
        assert_eq!((stored.rows.len(), stored.words.len(), stored.generation), (500, index.words.len(), 1));
    }

    #[test]
    fn a_run_is_read_again_when_any_of_its_files_changes() {
        let folder = tempfile::tempdir().unwrap();
        let runs: Vec<PathBuf> = (0..8).map(|n| make_run(folder.path(), f64::from(n) / 7.0, 1.0 / f64::from(n + 1))).collect();
        let file = folder.path().join(FILE);
        fs::write(&file, "").unwrap();
        later(folder.path());
        let index = later(folder.path());
        assert_eq!((kept(&index), index.runs.len()), (8, 8));
        let bytes = fs::read(&file).unwrap();
        later(folder.path());
        assert!(fs::read(&file).unwrap() == bytes, "nothing changed, nothing is written");
        // The same length in the same file, as an editor leaves it.
        let config = fs::read_to_string(runs[3].join("config.yml")).unwrap();
        fs::write(runs[3].join("config.yml"), config.replace("mlp", "mpl")).unwrap();
        fs::remove_file(runs[4].join(IDENTITY)).unwrap();
        fs::remove_dir_all(&runs[5]).unwrap();
        let summary = fs::read(runs[7].join("summary.yml")).unwrap();
        fs::write(runs[6].join("summary.yml"), summary).unwrap();
        let index = later(folder.path());
        assert_eq!((kept(&index), index.runs.len()), (4, 7));
        let damaged = index.query(&["status=damaged".parse().unwrap()], None).unwrap();
        let reasons: Vec<&str> = damaged.iter().map(|run| run.reason.as_deref().unwrap()).collect();
        assert!(reasons.len() == 1 && reasons[0].contains("`.run.json` is missing"), "{reasons:?}");
        let edited = index.query(&[], None).unwrap().into_iter().find(|run| run.run_dir == runs[3]).unwrap();
        assert!(edited.reason.unwrap().contains("config.yml` is damaged"));
    }

    #[cfg(unix)]
    #[test]
    fn no_index_is_kept_in_a_run_under_a_link_or_in_the_file_of_a_snapshot() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let run = make_run(folder.path(), 0.1, 0.9);
        // A file that exists is brought up to date however few runs there are.
        let file = folder.path().join(FILE);
        for place in [run.clone(), run.join("plots")] {
            let before = fs::metadata(&place).unwrap().modified().unwrap();
            assert_eq!(Index::open(&place).unwrap().runs.len(), usize::from(place == run));
            assert_eq!(fs::metadata(&place).unwrap().modified().unwrap(), before);
        }
        Index::open(folder.path()).unwrap();
        assert!(!file.exists(), "few runs need none");
        let other = folder.path().join("other.sqlite");
        Connection::open(&other).unwrap().execute_batch("CREATE TABLE runs (mine TEXT); INSERT INTO runs VALUES ('kept')").unwrap();
        let foreign = fs::read(&other).unwrap();
        symlink(&other, &file).unwrap();
        assert_eq!(later(folder.path()).runs.len(), 1);
        fs::remove_file(&file).unwrap();
        fs::hard_link(&other, &file).unwrap();
        assert_eq!(later(folder.path()).runs.len(), 1);
        assert_eq!(fs::read(&other).unwrap(), foreign);
        fs::remove_file(&file).ok();
        assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
        assert_eq!(later(folder.path()).runs.len(), 1);
    }

    #[test]
    fn words_of_runs_that_are_gone_go_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let run = make_run(folder.path(), 0.1, 0.9);
        let mut index = many(folder.path(), &run, 200);
        for n in 0..8 * BATCH {
            index.words.number(&format!("a word of a run that is gone, {n}"));
        }
        let before = index.words.len();
        assert!(index.compact() && index.words.len() + 8 * BATCH == before);
        let mut betas = betas(&index, None);
        betas.sort_by(f64::total_cmp);
        assert_eq!(betas, (0..200).map(f64::from).collect::<Vec<_>>());
    }
}
