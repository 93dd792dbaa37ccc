//! Strategy `algo2` (also `alt`): k encoder steps, then one decoder step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cadence, Plan, StrategyConfig, encoder_and_decoder, single_phase};
use crate::objective::ParameterGroup;

/// `k` encoder steps, then one decoder step, repeated across epochs.
///
/// The cycle runs over batches and carries on from epoch to epoch. Each optimiser counts its own updates; piecewise schedules of the
/// decoder shrink their boundaries by `k`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Algo2 {
    /// Encoder steps for each decoder step.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub k: u64,
}

impl Default for Algo2 {
    fn default() -> Self {
        Self { k: 10 }
    }
}

#[typetag::serde(name = "algo2")]
impl StrategyConfig for Algo2 {
    fn plan(&self, groups: &[ParameterGroup]) -> Plan {
        let period = self.k + 1;
        Plan {
            optimisers: encoder_and_decoder(groups, self.k),
            phases: single_phase(vec![
                (0, Cadence::Cycle { period, from: 0, to: self.k }),
                (1, Cadence::Cycle { period, from: self.k, to: period }),
            ]),
        }
    }
}

crate::register! {
    Strategy: Algo2 as StrategyConfig, aliases: ["alt"], paper: "Banerjee & Montúfar 2020, arXiv:1810.11677", example: "algo2/k:10"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_group_moves_each_step() {
        let plan = Algo2 { k: 3 }.plan(&[ParameterGroup::field("encoder"), ParameterGroup::field("decoder")]);
        let moved: Vec<usize> =
            (0..8).flat_map(|s| plan.phases[0].updates.iter().filter(move |(_, c)| c.is_due(1, s)).map(|(i, _)| *i)).collect();
        assert_eq!(moved, [0, 0, 0, 1, 0, 0, 0, 1]);
        assert_eq!(plan.optimisers[1].step_factor, 3);
    }
}
