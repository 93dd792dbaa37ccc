//! Strategy `by_epoch` (once `algo1`, also `seq`): encoder and decoder have their own optimisers and move in epochs that their periods divide.

use ibhost_framework::plan::{Cadence, ParameterGroup, Plan};
use ibhost_framework::run::RunConfig;
use ibhost_framework::schedule::ScheduleConfig;
use ibhost_framework::strategy::StrategyConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::encoder_and_decoder;

/// Encoder and decoder move in the epochs that `e` and `d` divide.
///
/// Epochs count from 1. In an epoch that `d` divides the decoder moves on every batch, in one that `e` divides the encoder does; when
/// both move, both gradients are taken at the same point. In an epoch that neither divides nothing moves, metrics are still recorded.
/// `by_epoch/d:10|e:1` keeps a random fixed decoder for nine epochs out of ten. Needs a constant learning rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ByEpoch {
    /// Period of the decoder in epochs.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub d: u64,
    /// Period of the encoder in epochs.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub e: u64,
}

impl Default for ByEpoch {
    fn default() -> Self {
        Self { d: 10, e: 1 }
    }
}

// The name that configurations have recorded from the start.
#[typetag::serde(name = "algo1")]
impl StrategyConfig for ByEpoch {
    fn plan(&self, groups: &[ParameterGroup]) -> Plan {
        encoder_and_decoder(groups, [self.e, self.d].map(Cadence::EpochsDivisibleBy), 1)
    }

    fn check(&self, run: &RunConfig) -> Result<(), String> {
        let schedule = run.schedule.build::<dyn ScheduleConfig>().map_err(|error| error.to_string())?;
        if schedule.is_constant() {
            return Ok(());
        }
        Err(format!("needs a constant learning rate, not schedule `{}`\n  hint: add `--schedule constant`", run.schedule))
    }
}

ibhost_framework::register! {
    Strategy: ByEpoch as StrategyConfig, name: "by_epoch", aliases: ["algo1", "seq"], paper: "Banerjee & Montúfar 2020, arXiv:1810.11677",
    example: "by_epoch/d:10|e:1"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decoder_waits_for_its_epochs() {
        let plan = ByEpoch { d: 10, e: 1 }.plan(&[ParameterGroup::field("encoder"), ParameterGroup::field("decoder")]);
        let moves = |epoch| plan.phases[0].updates.iter().filter(|(_, c)| c.is_due(epoch, 0)).map(|(i, _)| *i).collect::<Vec<_>>();
        assert_eq!((moves(9), moves(10)), (vec![0], vec![0, 1]));
        assert!(plan.optimisers[1].contains("decoder.weight") && !plan.optimisers[1].contains("encoder.weight"));
    }
}
