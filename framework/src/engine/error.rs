//! What can stop a run.

use std::path::PathBuf;

use crate::build::BuildError;
use crate::component::ComponentError;
use crate::dataset::DataError;
use crate::device::DeviceError;
use crate::identity::OtherData;
use crate::room::NoRoom;
use crate::run::ConfigError;
use crate::storage::StorageError;

/// Why a run cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A component string is wrong.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Components do not fit each other.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The data is missing or damaged.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The data are not those of the run.
    #[error("`{}`: {source}\n  hint: {hint}", .run.display())]
    OtherData {
        /// Folder of the run.
        run: PathBuf,
        /// What differs.
        source: Box<OtherData>,
        /// What to do.
        hint: &'static str,
    },
    /// The network does not fit into memory.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The disk refused, or what it holds is damaged.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Training diverged.
    #[error(
        "step {step} (epoch {epoch}), phase `{phase}`: {what} is not finite{}\n  measured there: {terms}\n  {kept}\n  hint: lower `--lr`, check the range of the inputs, or look at the numbers above for the one that went first",
        .term.as_ref().map_or_else(String::new, |term| format!(", neither is the loss term `{term}`"))
    )]
    NonFinite {
        /// Step, from 0.
        step: u64,
        /// Epoch, from 1.
        epoch: u64,
        /// Phase.
        phase: Box<str>,
        /// First bad tensor.
        what: Box<str>,
        /// First term of the loss that is not finite, if any was measured to be.
        term: Option<Box<str>>,
        /// Means of the step or split.
        terms: Box<str>,
        /// What is still there.
        kept: Box<str>,
    },
    /// The run's own files do not fit each other.
    #[error("`{}`: {reason}", .path.display())]
    Inconsistent {
        /// File or folder.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// Anything the user asked for that cannot be done.
    #[error("{0}")]
    Request(String),
}
