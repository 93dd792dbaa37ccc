//! Optimisers: update rules, their state, and the pass that applies them to a model's parameters.

mod apply;
mod average;
mod rule;
mod state;
pub mod testing;

use crate::component::Configured;
use crate::run::config::RunConfig;

pub use apply::{ParameterUpdate, is_host};
pub use average::WeightAverage;
pub use num_traits::Float;
pub use rule::{Elementwise, HostParameter, Rule, elementwise, real};
pub use state::{Buffer, OptimiserState};

/// Configuration of an optimiser, found by name in the registry.
#[typetag::serde(tag = "name")]
pub trait OptimiserConfig: Configured + Send + Sync {
    /// The rule of update number `step` (from 1) at learning rate `rate`.
    fn rule(&self, step: u64, rate: f64) -> Box<dyn Rule>;

    /// Whether this configuration can be part of `run`, see [`ObjectiveConfig::check`](crate::objective::ObjectiveConfig::check).
    ///
    /// # Errors
    /// What is wrong.
    fn check(&self, _run: &RunConfig) -> Result<(), String> {
        Ok(())
    }
}
