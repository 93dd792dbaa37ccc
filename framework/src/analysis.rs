//! Analyses: evaluations that run on any finished run whose model offers what they need.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;

use crate::capability::{Capability, CapabilityInfo};
use crate::component::Configured;
use crate::dataset::{DataError, DataRoot, Dataset};
use crate::engine::EngineError;
use crate::finished::DataLibrary;
use crate::objective::Objective;
pub use crate::result::{Direction, Measured, Results};
use crate::storage::StorageError;

/// What an analysis may look at.
pub struct AnalysisContext<'a> {
    /// The evaluation copy of the trained model (no autodiff).
    pub model: &'a (dyn Objective + 'static),
    /// The data set of the run.
    pub data: &'a dyn Dataset,
    /// The data sets of the command, for analyses that look at other data as well.
    pub library: &'a DataLibrary,
    /// Device the model lives on.
    pub device: &'a Device,
    /// Directory of the run, to read from; results go where `output` says.
    pub run_dir: &'a Path,
    /// Where files are written, and what their names end in.
    pub output: &'a Output,
    /// Label of the run for titles, e.g. `Strategy=oneshot  Beta=0.1`.
    pub label: &'a str,
    /// Seed of every draw of the analysis.
    pub seed: u64,
}

impl<'a> AnalysisContext<'a> {
    /// The model as one that can `C`, in the name of `analysis`.
    ///
    /// # Errors
    /// [`AnalysisError::Unfit`] when it does not offer it.
    pub fn require<C: Capability>(&self, analysis: &str) -> Result<&'a C::Model, AnalysisError> {
        self.model.capability::<C>().ok_or_else(|| AnalysisError::Unfit { analysis: analysis.to_owned(), capability: &C::INFO })
    }
}

/// Where an analysis writes, and what sets its files apart from those under other settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Files go below `analyses/`, `plots/` and `tensorboard/` of this folder: the run's own, or one elsewhere.
    pub folder: PathBuf,
    /// Stands before the ending of every file's name; empty under default settings.
    pub suffix: String,
}

impl Output {
    /// The run's own folder and default settings.
    pub fn of_run(run_dir: &Path) -> Self {
        Self { folder: run_dir.to_path_buf(), suffix: String::new() }
    }

    /// Where the file `relative` goes: `plots/curves.png` with the suffix `-best` is `plots/curves-best.png` below the folder.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.join(with_suffix(relative, &self.suffix))
    }
}

/// `relative` with `suffix` before the ending of the file's name, or at its end when it has none.
pub fn with_suffix(relative: &str, suffix: &str) -> String {
    let name = relative.rfind('/').map_or(0, |slash| slash + 1);
    match relative[name..].rfind('.') {
        Some(dot) if dot > 0 => format!("{}{suffix}{}", &relative[..name + dot], &relative[name + dot..]),
        _ => format!("{relative}{suffix}"),
    }
}

/// What a result depends on besides the model, its data and the seed: a word for each thing to an identity that changes when it does, e.g.
/// `judge` to the id and the weights of a classifier's run.
pub type Sources = BTreeMap<String, String>;

/// Why an analysis could not be done.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// The model lacks a capability.
    #[error(
        "`{analysis}` needs a model that can {}, which this objective does not offer\n  hint: `ibhost describe {analysis}` lists the \
         objectives it fits; one of your own offers it when its model implements `{}` and it is registered with `offers: [{}]`",
        .capability.deed, .capability.model.trim_start_matches("dyn "), .capability.offered
    )]
    Unfit {
        /// Analysis.
        analysis: String,
        /// Missing capability.
        capability: &'static CapabilityInfo,
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

impl From<EngineError> for AnalysisError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Data(error) => error.into(),
            EngineError::Storage(error) => error.into(),
            other => Self::Request(other.to_string()),
        }
    }
}

/// Configuration of an analysis, found by name in the registry.
#[typetag::serde(tag = "name")]
pub trait AnalysisConfig: Configured + Send + Sync {
    /// Runs the analysis.
    ///
    /// # Errors
    /// [`AnalysisError`] naming what is missing.
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError>;

    /// What the result depends on besides the run in `run_dir` and its data. `None` when that cannot be told without making it, for example
    /// because other data are read: then a result on disk is never taken for one that would be made now.
    ///
    /// # Errors
    /// [`AnalysisError`] naming what is missing.
    fn sources(&self, run_dir: &Path, root: &DataRoot) -> Result<Option<Sources>, AnalysisError> {
        let _ = (run_dir, root);
        Ok(Some(Sources::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_before_their_ending() {
        let names = ["plots/a.b/curves.png", "analyses/results.1.csv", "plots/.x", "plain"].map(|name| with_suffix(name, "-best"));
        assert_eq!(names, ["plots/a.b/curves-best.png", "analyses/results.1-best.csv", "plots/.x-best", "plain-best"]);
        assert_eq!(with_suffix("plots/curves.png", ""), "plots/curves.png");
    }
}
