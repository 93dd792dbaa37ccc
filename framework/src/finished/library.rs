//! The data sets that one command works with: each is read and hashed once, however many runs and analyses look at it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::component::Component;
use crate::dataset::{DataRoot, Dataset, DatasetConfig};
use crate::engine::EngineError;
use crate::identity::DataIdentity;
use crate::run::data_name;

/// Loaded data sets by their canonical form.
#[derive(Debug)]
pub struct DataLibrary {
    root: DataRoot,
    loaded: Mutex<HashMap<String, Arc<LoadedData>>>,
}

/// A data set and, once somebody asked, what it is.
#[derive(Debug)]
pub struct LoadedData {
    /// The data set.
    pub data: Arc<dyn Dataset>,
    identity: OnceLock<DataIdentity>,
}

impl LoadedData {
    /// The identity of the data, hashed when it is first asked for.
    pub fn identity(&self) -> &DataIdentity {
        self.identity.get_or_init(|| DataIdentity::of(&*self.data))
    }
}

impl DataLibrary {
    /// A library of what can be read from below `root`.
    pub fn new(root: DataRoot) -> Self {
        Self { root, loaded: Mutex::default() }
    }

    /// The same with `data`, which a training of this seed has loaded as the data set `dataset` and knows the identity of.
    #[must_use]
    pub fn with(self, dataset: &Component, seed: u64, data: Arc<dyn Dataset>, identity: DataIdentity) -> Self {
        // What has no name is read once more, and refused then.
        if let Ok(name) = data_name(dataset, seed) {
            let known = LoadedData { data, identity: OnceLock::from(identity) };
            self.loaded.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::new(known));
        }
        self
    }

    /// Where data are read from.
    pub fn root(&self) -> &DataRoot {
        &self.root
    }

    /// The data set as a run of this seed has it, read now if it was not before.
    ///
    /// # Errors
    /// [`EngineError`] naming the wrong parameter, or the missing or damaged file.
    pub fn get(&self, dataset: &Component, seed: u64) -> Result<Arc<LoadedData>, EngineError> {
        // One at a time, so that several runs on one data set do not read it at once.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let name = data_name(dataset, seed)?;
        if let Some(known) = loaded.get(&name) {
            return Ok(Arc::clone(known));
        }
        let data: Arc<dyn Dataset> = Arc::from(dataset.build::<dyn DatasetConfig>()?.load_with_seed(&self.root, seed)?);
        let read = Arc::new(LoadedData { data, identity: OnceLock::new() });
        loaded.insert(name, Arc::clone(&read));
        Ok(read)
    }
}
