//! The index of all runs below a folder: a SQLite file that saves reading thousands of small files again. It is never the only truth; what
//! is stale is read again, and a file that is damaged or of another version is built anew.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use ibhost_framework::component::suggest::nearest;
use ibhost_framework::component::text_of;
use rusqlite::types::Value as Cell;
use rusqlite::{Connection, ErrorCode, params, params_from_iter};

use super::filter::{Comparison, Filter};
use super::record::{RunRecord, find_runs};
use crate::error::SweepError;

const FILE: &str = ".ibhost-index.sqlite";
/// Raised whenever the tables or the text of a record change.
const SCHEMA: i64 = 2;
const PATIENCE: Duration = Duration::from_secs(10);

/// An open index.
#[derive(Debug)]
pub struct Index {
    folder: PathBuf,
    file: PathBuf,
    connection: Connection,
}

impl Index {
    /// Opens the index of `folder` and brings it up to date with the runs that are there.
    ///
    /// # Errors
    /// When the folder cannot be listed or SQLite fails.
    pub fn open(folder: &Path) -> Result<Self, SweepError> {
        let file = folder.join(FILE);
        let paths = find_runs(folder).map_err(|source| {
            SweepError::Request(format!(
                "cannot list `{}`: {source}\n  hint: name the folder that was given to `ibhost run --output-dir`",
                folder.display()
            ))
        })?;
        let build = |connection: Connection| -> Result<Self, SweepError> {
            let index = Self { folder: folder.to_path_buf(), file: file.clone(), connection };
            index.prepare().map_err(|source| index.failed(source))?;
            index.refresh(&paths)?;
            Ok(index)
        };
        let first = Connection::open(&file).map_err(|source| SweepError::Index { path: file.clone(), source }).and_then(build);
        match first {
            Err(SweepError::Index { source, .. }) if is_damaged(&source) => {
                tracing::warn!("`{}` is damaged and built anew: {source}", file.display());
                fs::remove_file(&file).map_err(|e| SweepError::system(format!("remove `{}`", file.display()), e))?;
                let again = Connection::open(&file).map_err(|source| SweepError::Index { path: file.clone(), source })?;
                build(again)
            }
            // A folder that cannot be written is indexed in memory.
            Err(SweepError::Index { source, .. }) if is_unwritable(&source) => {
                tracing::debug!("`{}` cannot be written: {source}", file.display());
                build(Connection::open_in_memory().map_err(|source| SweepError::Index { path: file.clone(), source })?)
            }
            result => result,
        }
    }

    fn failed(&self, source: rusqlite::Error) -> SweepError {
        SweepError::Index { path: self.file.clone(), source }
    }

    fn prepare(&self) -> Result<(), rusqlite::Error> {
        self.connection.busy_timeout(PATIENCE)?;
        // Whatever a loss of power does to it, it can be built again.
        self.connection.pragma_update(None, "synchronous", "OFF")?;
        let version: i64 = self.connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version == SCHEMA {
            return Ok(());
        }
        self.connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; DROP TABLE IF EXISTS fields; DROP TABLE IF EXISTS runs;
             CREATE TABLE runs (id INTEGER PRIMARY KEY, path TEXT UNIQUE NOT NULL, stamp TEXT NOT NULL, record TEXT NOT NULL);
             CREATE TABLE fields (run INTEGER NOT NULL REFERENCES runs (id), key TEXT NOT NULL, text TEXT NOT NULL, number REAL);
             CREATE INDEX by_key ON fields (key, run); CREATE INDEX by_run ON fields (run);
             PRAGMA user_version = {SCHEMA}; COMMIT;"
        ))
    }

    /// Reads again every run whose files changed, and forgets those that are gone.
    fn refresh(&self, paths: &[PathBuf]) -> Result<(), SweepError> {
        let failed = |source| self.failed(source);
        let transaction = self.connection.unchecked_transaction().map_err(failed)?;
        let mut known: HashMap<String, (i64, String)> = {
            let mut statement = transaction.prepare("SELECT path, id, stamp FROM runs").map_err(failed)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))).map_err(failed)?;
            rows.collect::<Result<_, _>>().map_err(failed)?
        };
        let forget = |id: i64| -> Result<(), rusqlite::Error> {
            transaction.prepare_cached("DELETE FROM fields WHERE run = ?1")?.execute([id])?;
            transaction.prepare_cached("DELETE FROM runs WHERE id = ?1")?.execute([id])?;
            Ok(())
        };
        for path in paths {
            let relative = path.strip_prefix(&self.folder).unwrap_or(path).to_string_lossy().into_owned();
            let stamp = stamp(path);
            match known.remove(&relative) {
                Some((_, old)) if old == stamp => continue,
                Some((id, _)) => forget(id).map_err(failed)?,
                None => {}
            }
            let Ok(record) = RunRecord::read(path) else { continue };
            // A live run changes without a change of its summary: it is read again every time.
            let stamp = if record.status_word() == "running" { String::new() } else { stamp };
            self.insert(&relative, &stamp, &record).map_err(failed)?;
        }
        for (id, _) in known.into_values() {
            forget(id).map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }

    fn insert(&self, relative: &str, stamp: &str, record: &RunRecord) -> Result<(), rusqlite::Error> {
        let text = serde_json::to_string(record).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
        self.connection.prepare_cached("INSERT INTO runs (path, stamp, record) VALUES (?1, ?2, ?3)")?.execute((relative, stamp, text))?;
        let id = self.connection.last_insert_rowid();
        let mut statement = self.connection.prepare_cached("INSERT INTO fields (run, key, text, number) VALUES (?1, ?2, ?3, ?4)")?;
        for (key, value) in record.fields() {
            statement.execute(params![id, key, text_of(&value), value.as_f64()])?;
        }
        Ok(())
    }

    /// Every field that some run has, sorted.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn keys(&self) -> Result<Vec<String>, SweepError> {
        let keys = || -> Result<Vec<String>, rusqlite::Error> {
            let mut statement = self.connection.prepare("SELECT DISTINCT key FROM fields ORDER BY key")?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        keys().map_err(|source| self.failed(source))
    }

    /// The runs that meet all `filters`, sorted by the field `sort` (falling when it begins with `-`), else by folder. Runs without that
    /// field come last.
    ///
    /// # Errors
    /// When a field is none of any run, or SQLite fails.
    pub fn query(&self, filters: &[Filter], sort: Option<&str>) -> Result<Vec<RunRecord>, SweepError> {
        let descending = sort.is_some_and(|key| key.starts_with('-'));
        let sort = sort.map(|key| key.trim_start_matches('-'));
        let keys = self.keys()?;
        for key in filters.iter().map(|filter| filter.key.as_str()).chain(sort) {
            if !keys.is_empty() && !keys.iter().any(|known| known == key) {
                let near = nearest(key, keys.iter().map(String::as_str));
                let hint = if near.is_empty() { keys.join(", ") } else { format!("did you mean {}?", near.join(" or ")) };
                return Err(SweepError::Request(format!("no run in `{}` has `{key}`\n  hint: {hint}", self.folder.display())));
            }
        }
        let mut values: Vec<Cell> = Vec::new();
        let mut conditions = Vec::new();
        for filter in filters {
            let mut bind = |value: Cell| {
                values.push(value);
                format!("?{}", values.len())
            };
            let key = bind(filter.key.clone().into());
            let number = filter.number();
            let test = match (filter.comparison, number) {
                (Comparison::Equal | Comparison::Different, Some(number)) => {
                    let text = bind(filter.value.clone().into());
                    format!("(number = {} OR text = {text})", bind(number.into()))
                }
                (Comparison::Equal | Comparison::Different, None) => format!("text = {}", bind(filter.value.clone().into())),
                (Comparison::Contains, _) => format!("instr(text, {}) > 0", bind(filter.value.clone().into())),
                (Comparison::Less, number) => format!("number < {}", bind(number.into())),
                (Comparison::AtMost, number) => format!("number <= {}", bind(number.into())),
                (Comparison::Greater, number) => format!("number > {}", bind(number.into())),
                (Comparison::AtLeast, number) => format!("number >= {}", bind(number.into())),
            };
            let not = if filter.comparison == Comparison::Different { "NOT " } else { "" };
            conditions.push(format!("{not}EXISTS (SELECT 1 FROM fields WHERE run = runs.id AND key = {key} AND {test})"));
        }
        let wanted = if conditions.is_empty() { "1".to_owned() } else { conditions.join(" AND ") };
        let (join, order) = match sort {
            Some(key) => {
                values.push(key.to_owned().into());
                let direction = if descending { "DESC" } else { "ASC" };
                (
                    format!("LEFT JOIN fields AS sorted ON sorted.run = runs.id AND sorted.key = ?{}", values.len()),
                    format!("sorted.run IS NULL, sorted.number IS NULL, sorted.number {direction}, sorted.text {direction}, runs.path"),
                )
            }
            None => (String::new(), "runs.path".to_owned()),
        };
        let select = || -> Result<Vec<(String, String)>, rusqlite::Error> {
            let mut statement =
                self.connection.prepare(&format!("SELECT runs.path, runs.record FROM runs {join} WHERE {wanted} ORDER BY {order}"))?;
            statement.query_map(params_from_iter(values), |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        let mut records = Vec::new();
        for (path, text) in select().map_err(|source| self.failed(source))? {
            let record: RunRecord = serde_json::from_str(&text).map_err(|e| {
                SweepError::Request(format!("the index of `{}` is not readable: {e}\n  hint: remove `{FILE}`", self.folder.display()))
            })?;
            // The folder may have been moved or named another way since.
            records.push(RunRecord { run_dir: self.folder.join(path), ..record });
        }
        Ok(records)
    }
}

/// What changes whenever the summary or configuration of a run does: both are replaced as whole files.
fn stamp(path: &Path) -> String {
    let one = |name: &str| {
        let Ok(metadata) = fs::metadata(path.join(name)) else { return "-".to_owned() };
        let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        format!("{}.{}.{inode}", changed.as_nanos(), metadata.len())
    };
    format!("{} {}", one("summary.yml"), one("config.yml"))
}

fn code(error: &rusqlite::Error) -> Option<ErrorCode> {
    error.sqlite_error_code()
}

fn is_damaged(error: &rusqlite::Error) -> bool {
    matches!(code(error), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

fn is_unwritable(error: &rusqlite::Error) -> bool {
    matches!(
        code(error),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::DatabaseBusy | ErrorCode::DiskFull)
    )
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::make_run;
    use super::*;

    fn found(index: &Index, filters: &[&str], sort: Option<&str>) -> Vec<f64> {
        let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
        index.query(&filters, sort).unwrap().iter().map(|run| run.settings["objective.beta"].as_f64().unwrap()).collect()
    }

    #[test]
    fn runs_are_filtered_and_sorted_by_components_settings_and_metrics() {
        let folder = tempfile::tempdir().unwrap();
        for (beta, accuracy) in [(0.1, 0.9), (1.0, 0.5), (0.01, 0.7)] {
            make_run(folder.path(), beta, accuracy);
        }
        let index = Index::open(folder.path()).unwrap();
        assert_eq!(found(&index, &[], Some("objective.beta")), [0.01, 0.1, 1.0]);
        assert_eq!(found(&index, &[], Some("-test.accuracy")), [0.1, 0.01, 1.0]);
        assert_eq!(found(&index, &["objective=vib", "objective.beta<0.5", "test.accuracy>=0.8"], None), [0.1]);
        assert_eq!(found(&index, &["objective.beta!=1"], Some("objective.beta")), [0.01, 0.1]);
        assert_eq!(found(&index, &["objective.beta=1.0"], None), [1.0]);
        assert_eq!(found(&index, &["encoder~ml", "status=completed"], Some("-objective.beta")), [1.0, 0.1, 0.01]);
        let error = index.query(&["objective.bet=1".parse().unwrap()], None).unwrap_err().to_string();
        assert!(error.contains("`objective.bet`") && error.contains("did you mean objective.beta"), "{error}");
    }

    #[test]
    fn the_index_follows_the_folders_and_survives_damage() {
        let folder = tempfile::tempdir().unwrap();
        let first = make_run(folder.path(), 0.1, 0.9);
        make_run(&folder.path().join("sweeps/a/trials/000000"), 0.2, 0.9);
        assert_eq!(found(&Index::open(folder.path()).unwrap(), &[], Some("objective.beta")), [0.1, 0.2]);
        make_run(folder.path(), 0.3, 0.9);
        fs::remove_dir_all(&first).unwrap();
        assert_eq!(found(&Index::open(folder.path()).unwrap(), &[], Some("objective.beta")), [0.2, 0.3]);
        fs::write(folder.path().join(FILE), "not a database at all, but long enough to be read as one ".repeat(100)).unwrap();
        assert_eq!(found(&Index::open(folder.path()).unwrap(), &[], Some("objective.beta")), [0.2, 0.3]);
        fs::remove_file(folder.path().join(FILE)).unwrap();
        assert_eq!(found(&Index::open(folder.path()).unwrap(), &[], Some("objective.beta")), [0.2, 0.3]);
    }
}
