//! Analyses: evaluations that run on any finished run whose model offers what they need.

use std::path::Path;

use burn::tensor::Device;

use crate::capability::Capability;
use crate::component::Configured;
use crate::dataset::{DataError, DataRoot, Dataset};
use crate::objective::Objective;
use crate::storage::StorageError;

/// What an analysis may look at.
pub struct AnalysisContext<'a> {
    /// The evaluation copy of the trained model (no autodiff).
    pub model: &'a dyn Objective,
    /// The data set of the run.
    pub data: &'a dyn Dataset,
    /// Where other data can be read from.
    pub root: &'a DataRoot,
    /// Device the model lives on.
    pub device: &'a Device,
    /// Directory of the run; results go below its `analyses/`.
    pub run_dir: &'a Path,
    /// Label of the run for titles, e.g. `vdb-oneshot`.
    pub label: &'a str,
    /// Seed of every draw of the analysis.
    pub seed: u64,
}

/// What an analysis found.
#[derive(Clone, Debug, Default)]
pub struct AnalysisReport {
    /// The result as written to `analyses/<name>.json`.
    pub result: serde_json::Value,
    /// Table to show: header and rows.
    pub table: Vec<Vec<String>>,
    /// Files written below the run directory.
    pub files: Vec<std::path::PathBuf>,
}

/// Why an analysis could not be done.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// The model lacks a capability.
    #[error(
        "`{analysis}` needs a model that can {}, which this objective does not offer\n  hint: `ibhost describe {analysis}` lists the \
         objectives it fits; one of your own offers it when its model returns itself from `{}` and it is registered with `offers: [{}]`",
        .capability.deed(), .capability.method(), .capability.word()
    )]
    Unfit {
        /// Analysis.
        analysis: String,
        /// Missing capability.
        capability: Capability,
    },
    /// A request that makes no sense for this run.
    #[error("{0}")]
    Request(String),
    /// Data that is missing or damaged.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Results that could not be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A picture that could not be drawn.
    #[error("cannot draw `{path}`: {reason}")]
    Plot {
        /// File.
        path: String,
        /// Cause.
        reason: String,
    },
}

impl AnalysisReport {
    /// The same with `-` in the table where there is no number: what is null in the result.
    #[must_use]
    pub fn without_nan(mut self) -> Self {
        for cell in self.table.iter_mut().flatten() {
            if matches!(cell.as_str(), "NaN" | "-NaN") {
                "-".clone_into(cell);
            }
        }
        self
    }
}

/// Configuration of an analysis, found by name in the registry.
#[typetag::serde(tag = "name")]
pub trait AnalysisConfig: Configured + Send + Sync {
    /// Runs the analysis.
    ///
    /// # Errors
    /// [`AnalysisError`] naming what is missing.
    fn run(&self, context: &AnalysisContext<'_>) -> Result<AnalysisReport, AnalysisError>;
}
