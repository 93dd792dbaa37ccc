//! The folder of one run: created exclusively, locked while a process writes to it, with its configuration and summary sealed by a hash.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::atomic::{self, StorageError};
use super::checkpoint::CheckpointStore;
use super::file_list::FileList;
use super::inside;
use super::layout::{CONFIG_FILE, FOLDERS, LOG_FILE, MANIFEST_FILE, METRICS_FILE, RUN_MARK as IDENTITY_FILE, SUMMARY_FILE};
use super::run_lock::{self, RunLock};
use super::summary::{RunStatus, Summary};
use super::{journal, unborn};

pub use super::layout::local_time;

pub use super::run_lock::LockHolder;
pub(crate) use super::run_lock::host_name;
pub use super::yaml::{YamlError, line_of, read_yaml, yaml_from_str};

const IDENTITY_FORMAT: &str = "ibhost-run";
const IDENTITY_VERSION: u32 = 1;

/// Start of the last line of a sealed file.
const SEAL: &str = "# blake3 of the lines above: ";
/// How often a fresh short id is tried.
const NAME_ATTEMPTS: usize = 16;
/// Longest stem, so that whole names stay within the 255 bytes file systems allow.
const STEM_BYTES: usize = 160;

/// What makes a run the same run after its folder was moved or renamed.
#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    format: String,
    version: u32,
    run_id: String,
    created: String,
}

/// An open run folder.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    run_id: String,
    /// Held as long as this value lives; `None` when opened for reading.
    lock: Option<RunLock>,
}

impl RunDir {
    /// Creates `<output_dir>/<stem>[-<name>]--<local time>-<short id>/` with its sub-folders and takes its lock.
    /// Characters of `stem` and `name` other than letters, digits, `.`, `_` and `-` become `-`.
    ///
    /// # Errors
    /// What the disk refused; nothing is left behind then. [`StorageError::Foreign`] when `output_dir` lies in the folder of another run.
    pub fn create(output_dir: &Path, stem: &str, name: Option<&str>) -> Result<Self, StorageError> {
        inside::check_outside(output_dir)?;
        Self::check_new_name(output_dir)?;
        atomic::create_folders(output_dir)?;
        let stem = folder_stem(stem, name);
        for _ in 0..NAME_ATTEMPTS {
            let now = jiff::Zoned::now();
            let run_id = short_id(&now);
            let path = output_dir.join(format!("{stem}--{}-{run_id}", now.strftime("%Y-%m-%dT%H-%M-%S")));
            match atomic::create_folder(&path) {
                Ok(()) => return Self::furnish_or_remove(&path, run_id),
                Err(StorageError::AlreadyExists { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StorageError::AlreadyExists { path: output_dir.join(stem) })
    }

    /// Fills a fresh run folder, or removes it again when that fails.
    fn furnish_or_remove(path: &Path, run_id: String) -> Result<Self, StorageError> {
        Self::furnish(path, run_id).inspect_err(|_| {
            if let Err(error) = unborn::remove_fresh(path) {
                tracing::warn!("an unfinished run folder stays behind: {error}");
            }
        })
    }

    /// Fills a fresh run folder; the identity comes last and makes it a run.
    fn furnish(path: &Path, run_id: String) -> Result<Self, StorageError> {
        let lock = RunLock::acquire(path)?;
        for folder in FOLDERS {
            atomic::create_folder(&path.join(folder))?;
        }
        FileList::new(&run_id).write(path)?;
        let identity =
            Identity { format: IDENTITY_FORMAT.into(), version: IDENTITY_VERSION, run_id: run_id.clone(), created: local_time() };
        let file = path.join(IDENTITY_FILE);
        let text = serde_json::to_vec_pretty(&identity).map_err(|e| StorageError::encode(&file, e.to_string()))?;
        atomic::write_atomic(&file, &text)?;
        atomic::sync_folder(atomic::parent_of(path))?;
        Ok(Self { path: path.to_path_buf(), run_id, lock: Some(lock) })
    }

    /// Opens an existing run for writing: takes its lock, restores missing sub-folders and removes what a dead process left half written.
    ///
    /// # Errors
    /// [`StorageError::Foreign`] when the folder is not a run, [`StorageError::Locked`] when a live process writes to it.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let mut run = Self::open_read_only(path)?;
        run.lock = Some(RunLock::acquire(path)?);
        atomic::clean_leftovers(path)?;
        for folder in FOLDERS {
            let folder = path.join(folder);
            atomic::create_folders(&folder)?;
            atomic::clean_leftovers(&folder)?;
        }
        Ok(run)
    }

    /// Opens an existing run for reading, whether or not a process writes to it.
    ///
    /// # Errors
    /// [`StorageError::Foreign`] when the folder is not a run.
    pub fn open_read_only(path: &Path) -> Result<Self, StorageError> {
        let file = path.join(IDENTITY_FILE);
        fs::metadata(path).map_err(|source| StorageError::io("open the run", path, source))?;
        if !inside::check_file(&file)? {
            return Err(StorageError::foreign(path, format!("it is not the folder of a run (it has no `{IDENTITY_FILE}`)")));
        }
        let identity: Identity =
            serde_json::from_slice(&inside::read(&file)?).map_err(|e| StorageError::damaged(&file, format!("not valid: {e}")))?;
        if identity.format != IDENTITY_FORMAT {
            return Err(StorageError::foreign(&file, format!("its `format` is not `{IDENTITY_FORMAT}`")));
        }
        if identity.version != IDENTITY_VERSION {
            return Err(StorageError::Version { path: file, found: identity.version, supported: IDENTITY_VERSION });
        }
        for folder in FOLDERS {
            inside::check_folder(&path.join(folder))?;
        }
        Ok(Self { path: path.to_path_buf(), run_id: identity.run_id, lock: None })
    }

    /// Removes a run that nothing was computed in yet.
    ///
    /// # Errors
    /// [`StorageError::Foreign`] when somebody else put something into it, or what the disk refused.
    pub fn abandon(self) -> Result<(), StorageError> {
        unborn::remove_fresh(&self.path)
    }

    /// Says that files whose path in the run `changes` accepts, and results, are about to be written, and every other one is not. Returns
    /// whether that was being said already, as in a run that was killed. A run whose list is gone gets a new one.
    ///
    /// # Errors
    /// When the list of files is damaged or the disk refuses.
    pub fn open_files(&self, changes: impl Fn(&str) -> bool) -> Result<bool, StorageError> {
        let mut list = match FileList::read(&self.path, &self.run_id) {
            Err(_) if !self.path.join(MANIFEST_FILE).exists() => FileList::new(&self.run_id),
            read => read?,
        };
        let was_open = list.open;
        list.reopen(&self.path, changes)?;
        list.write(&self.path)?;
        Ok(was_open)
    }

    /// Says that the files of the run are now complete: from here on `ibhost verify` reports any that changes, appears or is missing. Listed
    /// is what this program wrote; what anybody else put there is not, and is reported from now on.
    ///
    /// # Errors
    /// When the list of files is damaged or the disk refuses.
    pub fn close_files(&self) -> Result<(), StorageError> {
        let mut list = FileList::read(&self.path, &self.run_id)?;
        list.close(&self.path)?;
        list.write(&self.path)?;
        journal::clear(&self.path)
    }

    /// The list of the run's files.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn files(&self) -> Result<FileList, StorageError> {
        FileList::read(&self.path, &self.run_id)
    }

    /// How far the run got: what its summary says, except that a run whose process died without a word counts as interrupted.
    ///
    /// # Errors
    /// When the summary is missing or damaged, or the lock cannot be read.
    pub fn status(&self) -> Result<RunStatus, StorageError> {
        // The lock is looked at first: a process that ends in between has written its last word by then.
        let holder = Self::holder(&self.path)?;
        match self.read_summary()?.status {
            RunStatus::Running if holder.is_none() => Ok(RunStatus::Interrupted),
            status => Ok(status),
        }
    }

    /// The process that writes to the run in `path` right now; `None` when nobody does.
    ///
    /// # Errors
    /// When the lock file cannot be read.
    pub fn holder(path: &Path) -> Result<Option<LockHolder>, StorageError> {
        run_lock::holder(path)
    }

    /// Writes `config.yml`, keys in the order the value gives them.
    ///
    /// # Errors
    /// When YAML cannot hold the value or the disk refuses.
    pub fn write_config<T: Serialize>(&self, config: &T) -> Result<(), StorageError> {
        write_sealed(&self.config_path(), config)
    }

    /// Reads `config.yml` and checks its seal.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] when the text is not what was written, or not a `T`.
    pub fn read_config<T: DeserializeOwned>(&self) -> Result<T, StorageError> {
        read_sealed(&self.config_path())
    }

    /// The text of `config.yml` without its seal, which is checked.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] when the text is not what was written.
    pub fn config_text(&self) -> Result<String, StorageError> {
        sealed_text(&self.config_path())
    }

    /// Replaces `summary.yml`.
    ///
    /// # Errors
    /// What the disk refused; the old summary then stays.
    pub fn write_summary(&self, summary: &Summary) -> Result<(), StorageError> {
        write_sealed(&self.summary_path(), summary)
    }

    /// Reads `summary.yml` and checks its seal.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] when the text is not what was written.
    pub fn read_summary(&self) -> Result<Summary, StorageError> {
        read_sealed(&self.summary_path())
    }

    /// The run's checkpoints.
    pub fn checkpoints(&self) -> CheckpointStore {
        CheckpointStore::new(self.checkpoints_dir(), self.run_id())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Short id, unique to the run and part of its folder's first name.
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Whether this value holds the run's lock and may write.
    pub fn is_writable(&self) -> bool {
        self.lock.is_some()
    }

    /// `config.yml`: the resolved configuration.
    pub fn config_path(&self) -> PathBuf {
        self.path.join(CONFIG_FILE)
    }

    /// `summary.yml`: status and results.
    pub fn summary_path(&self) -> PathBuf {
        self.path.join(SUMMARY_FILE)
    }

    /// `metrics.jsonl`: every measurement.
    pub fn metrics_path(&self) -> PathBuf {
        self.path.join(METRICS_FILE)
    }

    /// `log.txt`: messages for people.
    pub fn log_path(&self) -> PathBuf {
        self.path.join(LOG_FILE)
    }

    /// Folder of the `TensorBoard` event files.
    pub fn tensorboard_dir(&self) -> PathBuf {
        self.path.join("tensorboard")
    }

    /// Folder of the checkpoints.
    pub fn checkpoints_dir(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Refuses to make a folder whose name would break lines of logs and scripts or steer a terminal; one that is there already is used.
    ///
    /// # Errors
    /// [`StorageError::Encode`] naming the folder with escapes.
    pub fn check_new_name(folder: &Path) -> Result<(), StorageError> {
        if !folder.to_string_lossy().chars().any(char::is_control) || folder.exists() {
            return Ok(());
        }
        let shown = folder.to_string_lossy().escape_debug().to_string();
        Err(StorageError::encode(Path::new(&shown), "no folder is made whose name has control characters, such as a line break"))
    }

    /// Folder of the plots.
    pub fn plots_dir(&self) -> PathBuf {
        self.path.join("plots")
    }

    /// Folder of the results of analyses.
    pub fn analyses_dir(&self) -> PathBuf {
        self.path.join("analyses")
    }
}

/// Eight hexadecimal digits that two runs are very unlikely to share.
fn short_id(now: &jiff::Zoned) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&RandomState::new().build_hasher().finish().to_le_bytes());
    hasher.update(&now.timestamp().as_nanosecond().to_le_bytes());
    hasher.update(&std::process::id().to_le_bytes());
    hasher.finalize().to_hex()[..8].to_owned()
}

/// A stem and an optional name as the start of a folder name.
fn folder_stem(stem: &str, name: Option<&str>) -> String {
    let joined = match name {
        Some(name) if !name.is_empty() => format!("{stem}-{name}"),
        _ => stem.to_owned(),
    };
    let kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let mut plain: String = joined.chars().map(|c| if kept(c) { c } else { '-' }).collect();
    plain.truncate(STEM_BYTES);
    let plain = plain.trim_matches(['.', '-']);
    // `--` separates the stem from the time.
    let mut single = plain.to_owned();
    while single.contains("--") {
        single = single.replace("--", "-");
    }
    if single.is_empty() { "run".into() } else { single }
}

/// Writes a value as YAML whose last line is a comment with the hash of the rest.
fn write_sealed<T: Serialize>(path: &Path, value: &T) -> Result<(), StorageError> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let mut text = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut text, value, options).map_err(|e| StorageError::encode(path, e.to_string()))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let hash = blake3::hash(text.as_bytes()).to_hex();
    atomic::write_atomic(path, format!("{text}{SEAL}{hash}\n").as_bytes())
}

/// Reads what [`write_sealed`] wrote.
fn read_sealed<T: DeserializeOwned>(path: &Path) -> Result<T, StorageError> {
    let text = sealed_text(path)?;
    yaml_from_str(&text).map_err(|reason| StorageError::damaged(path, reason))
}

/// The text that [`write_sealed`] sealed.
fn sealed_text(path: &Path) -> Result<String, StorageError> {
    let mut text = inside::read_text(path)?;
    let body = text.rfind(SEAL).map(|start| text.split_at(start));
    let sound = body.filter(|(body, seal)| **seal == format!("{SEAL}{}\n", blake3::hash(body.as_bytes()).to_hex()));
    let Some(length) = sound.map(|(body, _)| body.len()) else {
        let reason = "its text does not match the hash in its last line; if it was edited on purpose, start a new run from a copy";
        return Err(StorageError::damaged(path, reason));
    };
    text.truncate(length);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::fault::sweep::{self, FAILURES, Failure};
    use super::super::summary::tests::example;
    use super::*;

    use super::super::layout::LOCK_FILE;

    const STEM: &str = "mlp-vib-digits";

    #[test]
    fn two_runs_in_one_second_get_two_folders_with_all_parts() {
        let dir = tempfile::tempdir().unwrap();
        let runs: Vec<RunDir> = (0..20).map(|_| RunDir::create(&dir.path().join("runs"), STEM, None).unwrap()).collect();
        let mut paths: Vec<_> = runs.iter().map(|r| r.path().to_path_buf()).collect();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), 20);
        let name = runs[0].path().file_name().unwrap().to_string_lossy().into_owned();
        let (stem, rest) = name.split_once("--").unwrap();
        assert_eq!((stem, rest.len()), (STEM, "2026-01-02T03-04-05".len() + 9), "{name}");
        assert!(rest.ends_with(runs[0].run_id()));
        for folder in [runs[0].tensorboard_dir(), runs[0].checkpoints_dir(), runs[0].plots_dir(), runs[0].analyses_dir()] {
            assert!(folder.is_dir());
        }
    }

    #[test]
    fn a_live_lock_is_respected_and_a_dead_one_recovered() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(dir.path(), STEM, None).unwrap();
        let path = run.path().to_path_buf();
        let error = RunDir::open(&path).unwrap_err();
        assert!(matches!(error, StorageError::Locked { pid, .. } if pid == std::process::id()), "{error}");
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        assert_eq!(RunDir::holder(&path).unwrap().unwrap().pid, std::process::id());
        assert!(!RunDir::open_read_only(&path).unwrap().is_writable());
        run.write_summary(&Summary { status: RunStatus::Running, ..example() }).unwrap();
        assert_eq!(run.status().unwrap(), RunStatus::Running);
        drop(run);
        assert_eq!(RunDir::holder(&path).unwrap(), None);
        assert_eq!(RunDir::open_read_only(&path).unwrap().status().unwrap(), RunStatus::Interrupted);

        // What a killed process leaves: its name in the lock file, a half-written file, and no lock.
        fs::write(path.join(LOCK_FILE), r#"{"pid":4294967290,"host":"gone","started":"x"}"#).unwrap();
        fs::write(path.join(".tmp-summary.yml-4294967290-77777777773"), "sta").unwrap();
        fs::create_dir(path.join("checkpoints/.tmp-last-000000001-4294967290-77777777774")).unwrap();
        fs::remove_dir(path.join("plots")).unwrap();
        let run = RunDir::open(&path).unwrap();
        assert!(run.is_writable() && run.plots_dir().is_dir());
        assert!(!path.join(".tmp-summary.yml-4294967290-77777777773").exists());
        assert_eq!(fs::read_dir(run.checkpoints_dir()).unwrap().count(), 0);
        assert!(path.file_name().unwrap().to_string_lossy().ends_with(run.run_id()));
    }

    #[test]
    fn folders_that_are_no_runs_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(RunDir::open(dir.path()), Err(StorageError::Foreign { .. })));
        assert!(matches!(RunDir::open(&dir.path().join("absent")), Err(StorageError::Io { .. })));
        assert!(!dir.path().join(LOCK_FILE).exists(), "a foreign folder must stay as it was");
        let identity = |text: &str| {
            fs::write(dir.path().join(IDENTITY_FILE), text).unwrap();
            RunDir::open(dir.path()).unwrap_err()
        };
        assert!(matches!(identity("{"), StorageError::Damaged { .. }));
        let newer = r#"{"format":"ibhost-run","version":9,"run_id":"x","created":"y"}"#;
        assert!(matches!(identity(newer), StorageError::Version { found: 9, .. }));
        assert!(matches!(identity(&newer.replace("ibhost-run", "z")), StorageError::Foreign { .. }));
    }

    #[test]
    fn the_summary_comes_back_exactly_with_its_non_finite_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(dir.path(), STEM, None).unwrap();
        let written = example();
        run.write_summary(&written).unwrap();
        let text = fs::read_to_string(run.summary_path()).unwrap();
        assert!(text.contains("status: failed") && text.contains("\nfinal:\n"), "{text}");
        assert!(text.contains("loss: .nan") && text.contains("accuracy: .inf") && text.contains("izy_nats: -.inf"), "{text}");
        let read = run.read_summary().unwrap();
        // Debug prints floats exactly and, unlike equality, takes NaN for NaN.
        assert_eq!(format!("{read:?}"), format!("{written:?}"));
    }

    #[test]
    fn the_configuration_keeps_order_and_digits_and_every_change_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(dir.path(), STEM, None).unwrap();
        let rates: Vec<f64> = (1..500u32).map(|i| (f64::from(i) * 0.737).exp() / f64::from(i * i)).collect();
        let config = serde_json::json!({ "zeta": rates, "alpha": "yes", "seed": u64::MAX, "nested": { "b": [], "a": {} }, "rate": 1e-7 });
        run.write_config(&config).unwrap();
        let read: serde_json::Value = run.read_config().unwrap();
        assert_eq!(read.to_string(), config.to_string());
        assert_eq!(read_yaml::<serde_json::Value>(&run.config_path()).unwrap(), config);

        let path = run.config_path();
        let sound = fs::read(&path).unwrap();
        for position in (0..sound.len()).step_by(7).chain(sound.len() - 100..sound.len()) {
            let mut bytes = sound.clone();
            bytes[position] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let error = run.read_config::<serde_json::Value>().unwrap_err();
            assert!(matches!(error, StorageError::Damaged { .. }) && error.to_string().contains("config.yml"), "{position}: {error}");
            fs::write(&path, &sound[..position]).unwrap();
            assert!(run.read_config::<serde_json::Value>().is_err(), "cut to {position} bytes");
        }
        fs::write(&path, [&sound[..], b"extra: 1\n"].concat()).unwrap();
        assert!(run.read_config::<serde_json::Value>().is_err());
    }

    #[test]
    fn hand_written_yaml_errors_name_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.yml");
        fs::write(&path, "seed: 1\nseed: 2\n").unwrap();
        let error = read_yaml::<serde_json::Value>(&path).unwrap_err().to_string();
        assert!(error.contains("mine.yml") && error.contains("seed"), "{error}");
    }

    #[test]
    fn names_become_safe_folder_names() {
        assert_eq!(folder_stem("a-b-c", Some("my run/../x")), "a-b-c-my-run-..-x");
        assert_eq!(folder_stem("a--b", None), "a-b");
        assert_eq!(folder_stem("", Some("ü")), "run");
        assert_eq!(folder_stem("..", None), "run");
        assert!(folder_stem(&"x".repeat(10_000), None).len() <= STEM_BYTES);
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(dir.path(), STEM, Some("../../escape")).unwrap();
        assert_eq!(run.path().parent().unwrap(), dir.path());
    }

    #[test]
    fn whichever_operation_of_a_creation_fails_no_run_folder_is_left() {
        let dir = tempfile::tempdir().unwrap();
        // The last operation clears the lock when the run is dropped.
        let operations = sweep::count(|| drop(RunDir::create(&dir.path().join("count"), STEM, None).unwrap())) - 1;
        assert!(operations > 10, "{operations} operations");
        for failure in FAILURES {
            for call in 0..operations {
                let output = dir.path().join(format!("{failure:?}-{call}"));
                sweep::arm(call, failure);
                let result = RunDir::create(&output, STEM, None);
                sweep::disarm();
                assert!(result.is_err(), "operation {call} of {operations} went unnoticed");
                let left = fs::read_dir(&output).map_or(0, Iterator::count);
                // A disk that refuses everything refuses the clean-up too; what stays has no identity and so is no run.
                assert!(left == 0 || failure == Failure::FullFromNowOn, "{failure:?} at operation {call}");
            }
        }
    }
}
