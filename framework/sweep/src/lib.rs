//! Sweeps: a grid of runs defined in one file, launched on this machine or through Slurm, with states that survive any crash, and an index
//! of all runs.

pub mod definition;
pub mod error;
mod extent;
pub mod folder;
pub mod local;
pub mod plan;
mod pool;
pub mod process;
mod remains;
pub mod slurm;
pub mod state;
pub mod store;
pub mod values;

pub use definition::{AnalysisRequest, Definition};
pub use error::SweepError;
pub use folder::SweepFolder;
pub use plan::{Plan, Trial};
pub use pool::Pool;
pub use state::{TrialFolder, TrialRecord, TrialState, TrialStatus};
