//! Learning-rate schedules, functions of an optimiser's own step count.

use crate::component::Configured;
use crate::run::config::RunConfig;

/// Where an optimiser stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScheduleContext {
    /// Base learning rate of the run.
    pub base: f64,
    /// Updates this optimiser has made so far.
    pub step: u64,
    /// Full batches in an epoch, floor(samples / batch).
    pub steps_per_epoch: u64,
    /// Updates this optimiser will have made at the end of the run.
    pub updates: u64,
    /// Steps of the run per update of this optimiser, see [`OptimiserSlot`](crate::plan::OptimiserSlot).
    pub step_factor: u64,
}

/// Configuration of a schedule, found by name in the registry.
#[typetag::serde(tag = "name")]
pub trait ScheduleConfig: Configured + Send + Sync {
    /// Learning rate of the next update.
    fn rate(&self, context: &ScheduleContext) -> f64;

    /// Whether this configuration can be part of `run`, see [`ObjectiveConfig::check`](crate::objective::ObjectiveConfig::check).
    ///
    /// # Errors
    /// What is wrong.
    fn check(&self, _run: &RunConfig) -> Result<(), String> {
        Ok(())
    }

    /// Whether the rate never changes.
    fn is_constant(&self) -> bool {
        false
    }
}
