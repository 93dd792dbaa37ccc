//! Training strategies: which parameter groups move on which losses and when, as a plan the engine executes.

mod algo1;
mod algo2;
mod oneshot;

use crate::component::Configured;
use crate::objective::ParameterGroup;

pub use algo1::Algo1;
pub use algo2::Algo2;
pub use oneshot::Oneshot;

/// When something happens, a function of the counters alone, so that nothing has to be saved to resume it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cadence {
    /// On every step.
    Always,
    /// On every step of epochs (counted from 1) that `n` divides.
    EpochsDivisibleBy(u64),
    /// On steps (counted from 0) whose remainder modulo `period` lies in `from..to`.
    Cycle {
        /// Length of the cycle.
        period: u64,
        /// First remainder.
        from: u64,
        /// One past the last remainder.
        to: u64,
    },
}

impl Cadence {
    /// Whether it happens at `step` (from 0) of `epoch` (from 1).
    pub fn is_due(self, epoch: u64, step: u64) -> bool {
        match self {
            Self::Always => true,
            Self::EpochsDivisibleBy(n) => n > 0 && epoch.is_multiple_of(n),
            Self::Cycle { period, from, to } => period > 0 && (from..to).contains(&(step % period)),
        }
    }
}

/// One optimiser with the groups it moves. Its step counter (bias correction, schedule) counts only its own updates.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimiserSlot {
    /// Name in logs and checkpoints.
    pub name: String,
    /// Parameters it moves.
    pub groups: Vec<ParameterGroup>,
    /// How many steps of the run one update of this optimiser stands for, used to place schedule boundaries.
    pub step_factor: u64,
}

impl OptimiserSlot {
    /// Whether the parameter at `path` is moved by this optimiser.
    pub fn contains(&self, path: &str) -> bool {
        self.groups.iter().any(|g| g.contains(path))
    }
}

/// A loss and the optimisers that follow its gradient. All gradients of a phase are taken at the same point.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// Name handed to [`Objective::loss`](crate::objective::Objective::loss).
    pub name: String,
    /// When the phase runs at all.
    pub when: Cadence,
    /// How many batches it consumes each time.
    pub repeats: u64,
    /// Which optimiser (index into [`Plan::optimisers`]) moves when.
    pub updates: Vec<(usize, Cadence)>,
}

/// Everything the engine needs to know about how to train.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Optimisers with their parameters.
    pub optimisers: Vec<OptimiserSlot>,
    /// Phases of a step, in order.
    pub phases: Vec<Phase>,
}

/// Name of the loss of objectives that have only one.
pub const MAIN: &str = "main";

/// Configuration of a strategy, found by name in the registry.
#[typetag::serde(tag = "name")]
pub trait StrategyConfig: Configured + Send + Sync {
    /// The plan for an objective with `groups`; the first group is the encoder, the others are moved with the decoder.
    fn plan(&self, groups: &[ParameterGroup]) -> Plan;

    /// Whether only a constant learning rate makes sense under this strategy.
    fn requires_constant_rate(&self) -> bool {
        false
    }
}

fn encoder_and_decoder(groups: &[ParameterGroup], decoder_step_factor: u64) -> Vec<OptimiserSlot> {
    let (encoder, decoder) = groups.split_at(groups.len().min(1));
    vec![
        OptimiserSlot { name: "encoder".to_owned(), groups: encoder.to_vec(), step_factor: 1 },
        OptimiserSlot { name: "decoder".to_owned(), groups: decoder.to_vec(), step_factor: decoder_step_factor },
    ]
}

fn single_phase(updates: Vec<(usize, Cadence)>) -> Vec<Phase> {
    vec![Phase { name: MAIN.to_owned(), when: Cadence::Always, repeats: 1, updates }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cadences_follow_the_counters() {
        let due = |cadence: Cadence| (0..8).filter(|&s| cadence.is_due(1, s)).collect::<Vec<_>>();
        assert_eq!(due(Cadence::Cycle { period: 4, from: 0, to: 3 }), [0, 1, 2, 4, 5, 6]);
        assert_eq!(due(Cadence::Cycle { period: 4, from: 3, to: 4 }), [3, 7]);
        assert_eq!((1..7).filter(|&e| Cadence::EpochsDivisibleBy(3).is_due(e, 0)).collect::<Vec<_>>(), [3, 6]);
        assert!(!Cadence::EpochsDivisibleBy(0).is_due(3, 0));
    }
}
