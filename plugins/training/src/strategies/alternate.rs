//! Strategy `alternate` (once `algo2`, also `alt`): k encoder steps, then one decoder step.

use ibhost_framework::plan::{Cadence, ParameterGroup, Plan};
use ibhost_framework::strategy::StrategyConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::encoder_and_decoder;

/// `k` encoder steps, then one decoder step, repeated across epochs.
///
/// The cycle runs over batches and carries on from epoch to epoch. Each optimiser counts its own updates; piecewise schedules of the
/// decoder shrink their boundaries by `k`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Alternate {
    /// Encoder steps for each decoder step.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub k: u64,
}

impl Default for Alternate {
    fn default() -> Self {
        Self { k: 10 }
    }
}

// The name that configurations have recorded from the start.
#[typetag::serde(name = "algo2")]
impl StrategyConfig for Alternate {
    fn plan(&self, groups: &[ParameterGroup]) -> Plan {
        let period = self.k + 1;
        let moves = [(0, self.k), (self.k, period)].map(|(from, to)| Cadence::Cycle { period, from, to });
        encoder_and_decoder(groups, moves, self.k)
    }
}

ibhost_framework::register! {
    Strategy: Alternate as StrategyConfig, name: "alternate", aliases: ["algo2", "alt"], paper: "Banerjee & Montúfar 2020, arXiv:1810.11677",
    example: "alternate/k:10"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_group_moves_each_step() {
        let plan = Alternate { k: 3 }.plan(&[ParameterGroup::field("encoder"), ParameterGroup::field("decoder")]);
        let moved: Vec<usize> =
            (0..8).flat_map(|s| plan.phases[0].updates.iter().filter(move |(_, c)| c.is_due(1, s)).map(|(i, _)| *i)).collect();
        assert_eq!(moved, [0, 0, 0, 1, 0, 0, 0, 1]);
        assert_eq!(plan.optimisers[1].step_factor, 3);
    }
}
