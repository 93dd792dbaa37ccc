//! Strategy `oneshot`: one optimiser moves everything on every batch.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cadence, OptimiserSlot, Plan, StrategyConfig, single_phase};
use crate::objective::ParameterGroup;

/// All parameters move together on every batch.
///
/// One optimiser, one gradient of the full objective a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Oneshot {}

#[typetag::serde(name = "oneshot")]
impl StrategyConfig for Oneshot {
    fn plan(&self, groups: &[ParameterGroup]) -> Plan {
        let slot = OptimiserSlot { name: "all".to_owned(), groups: groups.to_vec(), step_factor: 1 };
        Plan { optimisers: vec![slot], phases: single_phase(vec![(0, Cadence::Always)]) }
    }
}

crate::register! { Strategy: Oneshot as StrategyConfig, aliases: [], paper: "", example: "oneshot" }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_optimiser_holds_every_group() {
        let plan = Oneshot {}.plan(&[ParameterGroup::field("encoder"), ParameterGroup::field("decoder")]);
        assert_eq!(plan.optimisers.len(), 1);
        assert!(plan.optimisers[0].contains("encoder.a") && plan.optimisers[0].contains("decoder.b"));
    }
}
