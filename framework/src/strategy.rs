//! Training strategies: how the plan of an objective that has none of its own is made.

use crate::component::Configured;
use crate::plan::ParameterGroup;
use crate::run::config::RunConfig;

pub use crate::plan::{Cadence, MAIN, OptimiserSlot, Phase, Plan};

/// Configuration of a strategy, found by name in the registry.
#[typetag::serde(tag = "name")]
pub trait StrategyConfig: Configured + Send + Sync {
    /// The plan for an objective with `groups`; the first group is the encoder, the others are moved with the decoder.
    fn plan(&self, groups: &[ParameterGroup]) -> Plan;

    /// Whether the strategy demands nothing that an objective with phases of its own would contradict; any other refuses such an objective.
    fn leaves_order_to_the_objective(&self) -> bool {
        false
    }

    /// Whether this configuration can be part of `run`, see [`ObjectiveConfig::check`](crate::objective::ObjectiveConfig::check).
    ///
    /// # Errors
    /// What is wrong.
    fn check(&self, _run: &RunConfig) -> Result<(), String> {
        Ok(())
    }
}
