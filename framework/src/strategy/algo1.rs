//! Strategy `algo1` (also `seq`): encoder and decoder have their own optimisers and move in epochs that their periods divide.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cadence, Plan, StrategyConfig, encoder_and_decoder, single_phase};
use crate::objective::ParameterGroup;

/// Encoder and decoder move in the epochs that `e` and `d` divide.
///
/// Epochs count from 1. In an epoch that `d` divides the decoder moves on every batch, in one that `e` divides the encoder does; when
/// both move, both gradients are taken at the same point. In an epoch that neither divides nothing moves, metrics are still recorded.
/// `algo1/d:10|e:1` keeps a random fixed decoder for nine epochs out of ten. Needs a constant learning rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Algo1 {
    /// Period of the decoder in epochs.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub d: u64,
    /// Period of the encoder in epochs.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub e: u64,
}

impl Default for Algo1 {
    fn default() -> Self {
        Self { d: 10, e: 1 }
    }
}

#[typetag::serde(name = "algo1")]
impl StrategyConfig for Algo1 {
    fn plan(&self, groups: &[ParameterGroup]) -> Plan {
        Plan {
            optimisers: encoder_and_decoder(groups, 1),
            phases: single_phase(vec![(0, Cadence::EpochsDivisibleBy(self.e)), (1, Cadence::EpochsDivisibleBy(self.d))]),
        }
    }

    fn requires_constant_rate(&self) -> bool {
        true
    }
}

crate::register! {
    Strategy: Algo1 as StrategyConfig, aliases: ["seq"], paper: "Banerjee & Montúfar 2020, arXiv:1810.11677", example: "algo1/d:10|e:1"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decoder_waits_for_its_epochs() {
        let plan = Algo1 { d: 10, e: 1 }.plan(&[ParameterGroup::field("encoder"), ParameterGroup::field("decoder")]);
        let moves = |epoch| plan.phases[0].updates.iter().filter(|(_, c)| c.is_due(epoch, 0)).map(|(i, _)| *i).collect::<Vec<_>>();
        assert_eq!((moves(9), moves(10)), (vec![0], vec![0, 1]));
        assert!(plan.optimisers[1].contains("decoder.weight") && !plan.optimisers[1].contains("encoder.weight"));
    }
}
