//! A finished run, opened once: its configuration at once; its log, its data and its weights when they are first asked for, each read once however
//! many analyses and comparisons look at it.

pub mod documents;
mod library;
mod origin;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::Value;

pub use documents::{Document, Selector};
pub use library::{DataLibrary, LoadedData};
pub use origin::Origin;
pub use values::{entry, last_epochs_mean, readings, split_of};

use crate::engine::{EngineError, Session, State, restore_weights_of};
use crate::identity::{Identity, OtherDataPolicy};
use crate::run::RunConfig;
use crate::storage::{Label, Manifest, MetricsLog, Row, RunDir, RunStatus, StorageError, Summary};

/// What can be done about a finished run whose data are not there.
const OTHER_DATA: &str = "name the folder of the right data with --data-dir, or pass --other-data to analyse the model on these";

/// A run that was trained, as everything sees it that looks at runs.
pub struct FinishedRun {
    /// Its folder, as it was named.
    pub path: PathBuf,
    /// Its id, which copies of its folder share.
    pub id: String,
    /// What it was configured to do.
    pub config: RunConfig,
    /// Value of each axis of the sweep it belongs to; whoever knows sweeps says so.
    pub axes: Vec<(String, Value)>,
    /// Where results of analyses are read: its folder, or one elsewhere.
    pub results: PathBuf,
    folder: RunDir,
    policy: OtherDataPolicy,
    rows: OnceLock<Vec<Row>>,
    weights: Mutex<BTreeMap<Label, Weights>>,
}

/// What a checkpoint holds, made ready for evaluation.
struct Weights {
    session: Session,
    state: State,
    hash: String,
}

/// Weights of a finished run and what belongs to them, for as long as they are looked at.
pub struct Look<'a> {
    /// Data, device and settings.
    pub session: &'a Session,
    /// The model and its average.
    pub state: &'a State,
    /// Hash of the weights, as [`Manifest::weights_hash`] has it.
    pub hash: &'a str,
}

impl FinishedRun {
    /// Opens the run in `path` to read from it. `policy` says what is done when its data turn out not to be those that it was trained on.
    ///
    /// # Errors
    /// [`EngineError`] when there is no run, or its configuration cannot be read or means nothing to this program.
    pub fn open(path: &Path, policy: OtherDataPolicy) -> Result<Self, EngineError> {
        let folder = RunDir::open_read_only(path)?;
        let config = RunConfig::from_json(folder.read_config()?)?;
        Ok(Self {
            path: path.to_path_buf(),
            id: folder.run_id().to_owned(),
            config,
            axes: Vec::new(),
            results: path.to_path_buf(),
            folder,
            policy,
            rows: OnceLock::new(),
            weights: Mutex::default(),
        })
    }

    /// Its folder, for reading.
    pub fn folder(&self) -> &RunDir {
        &self.folder
    }

    /// How far it got; a run whose process is gone is interrupted.
    ///
    /// # Errors
    /// [`StorageError`] when its summary cannot be read.
    pub fn status(&self) -> Result<RunStatus, StorageError> {
        self.folder.status()
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// [`StorageError`] when that cannot be read.
    pub fn summary(&self) -> Result<Summary, StorageError> {
        self.folder.read_summary()
    }

    /// What its summary says about its data, program and machine; nothing where there is no summary yet, or one of an earlier version.
    ///
    /// # Errors
    /// [`StorageError`] when the summary is damaged.
    pub fn recorded_identity(&self) -> Result<Option<Identity>, StorageError> {
        if self.folder.summary_path().exists() { Ok(self.folder.read_summary()?.identity) } else { Ok(None) }
    }

    /// The rows of its metrics log.
    ///
    /// # Errors
    /// [`StorageError`] naming the damaged line.
    pub fn rows(&self) -> Result<&[Row], StorageError> {
        if let Some(rows) = self.rows.get() {
            return Ok(rows);
        }
        let rows = MetricsLog::read(&self.folder.metrics_path())?;
        Ok(self.rows.get_or_init(|| rows))
    }

    /// What `look` makes of the weights of the newest checkpoint called `label`, which are read when they are first asked for. The data come
    /// from `library`.
    ///
    /// # Errors
    /// [`EngineError`] naming what is missing or damaged, or [`EngineError::OtherData`] where the data are refused.
    pub fn with_weights<T>(&self, library: &DataLibrary, label: Label, look: impl FnOnce(&Look<'_>) -> T) -> Result<T, EngineError> {
        let mut known = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        if let std::collections::btree_map::Entry::Vacant(e) = known.entry(label) {
            e.insert(self.read_weights(library, label)?);
        }
        let Some(Weights { session, state, hash }) = known.get(&label) else { return Err(self.no_checkpoint(label)) };
        Ok(look(&Look { session, state, hash }))
    }

    /// Gives the memory of its weights back; they are read again when they are asked for.
    pub fn forget_weights(&self) {
        self.weights.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn read_weights(&self, library: &DataLibrary, label: Label) -> Result<Weights, EngineError> {
        let (session, state) = Session::open_untrained(self.config.clone(), library)?;
        // A run that was killed before its first summary has no record; its checkpoints cannot be there either.
        match (self.recorded_identity()?, self.policy) {
            (Some(before), OtherDataPolicy::Refuse) => {
                let found = session.loaded.expect(&before.data, &session.config.dataset.to_string());
                found.map_err(|source| EngineError::OtherData { run: self.path.clone(), source, hint: OTHER_DATA })?;
            }
            (Some(_), OtherDataPolicy::Accept) => {}
            (None, _) => crate::engine::unrecorded(&self.path),
        }
        let state = restore_weights_of(state, &self.folder, label)?.ok_or_else(|| self.no_checkpoint(label))?;
        let entries = self.folder.checkpoints().list()?;
        let entry = entries.into_iter().find(|entry| entry.label == label && entry.step == state.step);
        let entry = entry.ok_or_else(|| EngineError::Inconsistent {
            path: self.folder.checkpoints_dir(),
            reason: format!(
                "its `{label}` checkpoint of step {} was replaced while it was read\n  hint: the run is still trained; try again",
                state.step
            ),
        })?;
        Ok(Weights { session, hash: Manifest::read(&entry.path)?.weights_hash(), state })
    }

    fn no_checkpoint(&self, label: Label) -> EngineError {
        EngineError::Inconsistent {
            path: self.folder.checkpoints_dir(),
            reason: format!("the run has no `{label}` checkpoint\n  hint: finish it with `ibhost resume {}`", self.path.display()),
        }
    }
}
