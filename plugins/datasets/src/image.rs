//! The loaded form every data set of this crate shares.

use std::sync::Arc;

use ibhost_framework::dataset::{Augmentation, DataError, DataInfo, Dataset, Samples, Split};

use crate::view::{Parts, View};

/// Images with class labels in two splits.
#[derive(Clone)]
pub struct ImageDataset {
    info: DataInfo,
    parts: Parts,
    augmentation: Option<Arc<dyn Augmentation>>,
}

impl std::fmt::Debug for ImageDataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageDataset").field("info", &self.info).field("augmented", &self.augmentation.is_some()).finish_non_exhaustive()
    }
}

impl ImageDataset {
    /// The official splits `train` and `test` seen through `view`.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] when the view asks for what the splits cannot give.
    pub fn new(info: DataInfo, train: Samples, test: Samples, view: &View) -> Result<Self, DataError> {
        let parts = view.apply(&info.name, train, test)?;
        tracing::debug!(data_set = %info.name, train = parts.train.len(), test = parts.test.len(), "data set loaded");
        Ok(Self { info, parts, augmentation: None })
    }

    /// The same with training batches changed at random by `augmentation`.
    #[must_use]
    pub fn augmented(self, augmentation: impl Augmentation + 'static) -> Self {
        Self { augmentation: Some(Arc::new(augmentation)), ..self }
    }
}

impl Dataset for ImageDataset {
    fn info(&self) -> &DataInfo {
        &self.info
    }

    fn split(&self, split: Split) -> &Samples {
        match split {
            Split::Train => &self.parts.train,
            Split::Test => &self.parts.test,
        }
    }

    fn official_test(&self) -> Option<&Samples> {
        self.parts.official_test.as_ref()
    }

    fn augmentation(&self) -> Option<&dyn Augmentation> {
        self.augmentation.as_deref()
    }
}

/// Owned class names.
pub(crate) fn names(classes: &[&str]) -> Vec<String> {
    classes.iter().map(|&class| class.to_owned()).collect()
}

/// The folder of real data that tests may read (`IBHOST_DATA`); prints why a test is skipped when it is not set.
#[cfg(test)]
pub(crate) fn real_data(folder: &str) -> Option<ibhost_framework::dataset::DataRoot> {
    let Some(root) = std::env::var_os("IBHOST_DATA").map(std::path::PathBuf::from) else {
        println!("skipped: IBHOST_DATA is not set");
        return None;
    };
    if !root.join(folder).is_dir() {
        println!("skipped: {} has no folder {folder}", root.display());
        return None;
    }
    Some(ibhost_framework::dataset::DataRoot(root))
}
