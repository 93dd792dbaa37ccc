//! What a run is configured as: its components and numbers. Below the components' traits, which can look at it.

use serde::{Deserialize, Serialize};

use crate::component::Component;
use crate::component::value::{SMALLEST, is_lost};

/// How often a checkpoint is written: `500steps`, `2epochs` or `10min`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CheckpointEvery {
    /// After so many steps.
    Steps(u64),
    /// After so many epochs.
    Epochs(u64),
    /// After so many minutes.
    Minutes(u64),
}

impl TryFrom<String> for CheckpointEvery {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let wrong = || format!("`{text}` is not a checkpoint interval: write a number above 0 and a unit, e.g. 500steps, 2epochs or 10min");
        let n: u64 = text[..split].parse().ok().filter(|&n| n > 0).ok_or_else(wrong)?;
        match &text[split..] {
            "steps" | "step" => Ok(Self::Steps(n)),
            "epochs" | "epoch" => Ok(Self::Epochs(n)),
            "min" | "minutes" => Ok(Self::Minutes(n)),
            _ => Err(wrong()),
        }
    }
}

impl From<CheckpointEvery> for String {
    fn from(every: CheckpointEvery) -> Self {
        match every {
            CheckpointEvery::Steps(n) => format!("{n}steps"),
            CheckpointEvery::Epochs(n) => format!("{n}epochs"),
            CheckpointEvery::Minutes(n) => format!("{n}min"),
        }
    }
}

/// When to stop before the planned end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// Evaluations without improvement of the watched metric after which training stops.
    pub patience: u64,
    /// Change below which a better value does not count as improvement, in the metric's unit.
    #[serde(default)]
    pub min_delta: f64,
    /// First epoch whose metric counts, so that a warm-up can end first.
    #[serde(default)]
    pub from: u64,
}

/// A run as resolved: everything `config.yml` holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunConfig {
    /// Objective.
    pub objective: Component,
    /// Encoder.
    pub encoder: Component,
    /// Decoder.
    pub decoder: Component,
    /// Data set.
    pub dataset: Component,
    /// Training strategy.
    pub strategy: Component,
    /// Optimiser.
    pub optimiser: Component,
    /// Learning-rate schedule.
    pub schedule: Component,
    /// Numbers.
    #[serde(flatten)]
    pub training: Training,
}

/// Settings that are not components.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Base learning rate.
    pub lr: f64,
    /// Passes over the training split.
    pub epochs: u64,
    /// Steps after which training ends, instead of `epochs`.
    #[serde(default)]
    pub steps: Option<u64>,
    /// Samples a step.
    pub batch_size: usize,
    /// Decay of the moving average of the weights; none is kept without it.
    #[serde(default)]
    pub average: Option<f64>,
    /// Seed of every random draw.
    #[serde(default)]
    pub seed: u64,
    /// File of weights a new run starts from instead of fresh ones, in the safetensors format: those of a checkpoint, or converted from the
    /// original implementation's.
    #[serde(default)]
    pub initial_weights: Option<String>,
    /// Device, see `ibhost devices`.
    #[serde(default = "default_device")]
    pub device: String,
    /// Use only the first so many training samples.
    #[serde(default)]
    pub limit_train: Option<usize>,
    /// Leaves out the short batch at the end of an epoch.
    #[serde(default)]
    pub drop_last: bool,
    /// Epochs between evaluations; the last epoch is always evaluated.
    #[serde(default = "default_evaluate_every")]
    pub evaluate_every: u64,
    /// Samples evaluated at once.
    #[serde(default = "default_evaluation_batch")]
    pub evaluation_batch: usize,
    /// Metric that decides which checkpoint is best and when to stop early, `<split>.<metric>`.
    #[serde(default = "default_watch")]
    pub watch: String,
    /// Early stopping on the watched metric.
    #[serde(default)]
    pub early_stopping: Option<EarlyStopping>,
    /// How often a checkpoint is written besides at the end.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: CheckpointEvery,
    /// Newest resumable checkpoints kept. Two, so that a damaged newest one can be replaced by the one before.
    #[serde(default = "default_checkpoints_kept")]
    pub checkpoints_kept: usize,
    /// Name given by the user, part of the run's folder name.
    #[serde(default)]
    pub name: Option<String>,
    /// Hash of the data that a run was trained on ([`crate::identity::DataIdentity::key`]), written when it begins; a run that is begun with it
    /// refuses other data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_hash: Option<String>,
}

fn default_device() -> String {
    "flex".to_owned()
}
fn default_evaluate_every() -> u64 {
    1
}
fn default_evaluation_batch() -> usize {
    1000
}
fn default_watch() -> String {
    "test.loss".to_owned()
}
fn default_checkpoint_every() -> CheckpointEvery {
    CheckpointEvery::Minutes(5)
}
fn default_checkpoints_kept() -> usize {
    2
}

impl Training {
    /// What is wrong with these numbers by themselves.
    pub(super) fn check(&self) -> Result<(), String> {
        let wrong = |what: &str| Err(what.to_owned());
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return wrong(&format!("`lr` must be a finite number above 0, got {}", self.lr));
        }
        if is_lost(self.lr) {
            return wrong(&format!("`lr` must be at least {SMALLEST:e}, below which the weights' numbers lose it, got {:e}", self.lr));
        }
        if self.lr > f64::from(f32::MAX) {
            return wrong(&format!(
                "`lr` must be at most {:e}, beyond which the weights' numbers have no end, got {:e}",
                f32::MAX,
                self.lr
            ));
        }
        if self.batch_size == 0 || self.evaluation_batch == 0 || self.evaluate_every == 0 {
            return wrong("`batch_size`, `evaluation_batch` and `evaluate_every` must be at least 1");
        }
        if self.epochs == 0 || self.steps == Some(0) {
            return wrong("`epochs` and `steps` must be at least 1");
        }
        if self.checkpoints_kept == 0 {
            return wrong("`checkpoints_kept` must be at least 1");
        }
        if self.limit_train == Some(0) {
            return wrong("`limit_train` must be at least 1");
        }
        if let Some(decay) = self.average
            && !(0.0..1.0).contains(&decay)
        {
            return wrong(&format!("`average` must lie in [0, 1), got {decay}"));
        }
        if let Some(early) = &self.early_stopping {
            if early.patience == 0 {
                return wrong("the patience of `early_stopping` must be at least 1");
            }
            if !(early.min_delta.is_finite() && early.min_delta >= 0.0) {
                return wrong(&format!("`min_delta` of `early_stopping` must be a finite number of at least 0, got {}", early.min_delta));
            }
        }
        let split = self.watch.split_once('.').map_or("", |(split, _)| split);
        if !matches!(split, "train" | "test" | "test_average") {
            return wrong(&format!("`watch` is `{}`, expected `<split>.<metric>` with the split train, test or test_average", self.watch));
        }
        if split == "test_average" && self.average.is_none() {
            return wrong("`watch` names the averaged weights, but no `average` is kept: set `average`, e.g. to 0.999");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoint_intervals_round_trip_and_nonsense_is_refused() {
        for text in ["500steps", "2epochs", "10min"] {
            assert_eq!(String::from(CheckpointEvery::try_from(text.to_owned()).unwrap()), text);
        }
        for text in ["", "0steps", "steps", "5", "5h", "-1min", "99999999999999999999steps"] {
            assert!(CheckpointEvery::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
