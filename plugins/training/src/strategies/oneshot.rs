//! Strategy `oneshot`: one optimiser moves everything on every batch.

use ibhost_framework::plan::{ParameterGroup, Plan};
use ibhost_framework::strategy::StrategyConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// All parameters move together on every batch.
///
/// One optimiser, one gradient of the full objective a step. An objective with phases of its own is run by these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Oneshot {}

#[typetag::serde(name = "oneshot")]
impl StrategyConfig for Oneshot {
    fn plan(&self, groups: &[ParameterGroup]) -> Plan {
        Plan::together(groups)
    }

    fn leaves_order_to_the_objective(&self) -> bool {
        true
    }
}

ibhost_framework::register! { Strategy: Oneshot as StrategyConfig, aliases: [], paper: "", example: "oneshot" }

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
