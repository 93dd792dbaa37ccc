//! Plans of training: which parameter groups move on which losses and when. Objectives and strategies write them, the engine executes them.

pub mod coverage;

/// Part of a model that one optimiser can move: the parameters whose path starts with one of the prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterGroup {
    /// Name of the group, e.g. `encoder`.
    pub name: String,
    /// Path prefixes, e.g. `encoder`.
    pub prefixes: Vec<String>,
}

impl ParameterGroup {
    /// Group of all parameters below the field `name`.
    pub fn field(name: &str) -> Self {
        Self { name: name.to_owned(), prefixes: vec![name.to_owned()] }
    }

    /// Whether the parameter at `path` belongs to the group.
    pub fn contains(&self, path: &str) -> bool {
        self.prefixes.iter().any(|p| path.strip_prefix(p.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    }
}

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
    /// On the steps of `start..end` whose distance from `start` modulo `period` lies in `from..to`: what begins late, or ends early.
    Window {
        /// First step of the window.
        start: u64,
        /// One past its last step.
        end: u64,
        /// Length of the cycle inside the window.
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
            Self::Window { start, end, period, from, to } => {
                period > 0 && (start..end).contains(&step) && (from..to).contains(&((step - start) % period))
            }
        }
    }

    /// How many of the first `steps` steps it happens on, with `steps_per_epoch` steps an epoch.
    pub fn count_before(self, steps: u64, steps_per_epoch: u64) -> u64 {
        let in_cycles = |steps: u64, period: u64, from: u64, to: u64| {
            let (from, to) = (from.min(period), to.min(period).max(from.min(period)));
            let rest = steps.checked_rem(period).unwrap_or(0).clamp(from, to) - from;
            steps.checked_div(period).unwrap_or(0) * (to - from) + rest
        };
        match self {
            Self::Always => steps,
            Self::EpochsDivisibleBy(n) => {
                let per_epoch = steps_per_epoch.max(1);
                let whole = steps / per_epoch;
                let current = if n > 0 && (whole + 1).is_multiple_of(n) { steps % per_epoch } else { 0 };
                whole.checked_div(n).unwrap_or(0) * per_epoch + current
            }
            Self::Cycle { period, from, to } => in_cycles(steps, period, from, to),
            Self::Window { start, end, period, from, to } => in_cycles(steps.min(end).saturating_sub(start), period, from, to),
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
    /// Name handed to [`Objective::loss`](crate::objective::Objective::loss), one of the objective's
    /// [`phases`](crate::objective::Objective::phases).
    pub name: String,
    /// When the phase runs at all.
    pub when: Cadence,
    /// How many batches it consumes each time.
    pub repeats: u64,
    /// Which optimiser (index into [`Plan::optimisers`]) moves when.
    pub updates: Vec<(usize, Cadence)>,
    /// Samples of its own batches; the run's batch size without it. The first phase of a step takes the step's batch whatever this says.
    pub batch_size: Option<usize>,
    /// Measure of this phase's loss and limit: where the measure has reached the limit, the loss is logged and nothing moves.
    pub hold_at: Option<(&'static str, f64)>,
}

impl Phase {
    /// The phase `name` on every step, one batch each time, with the optimisers `updates`.
    pub fn new(name: impl Into<String>, updates: Vec<(usize, Cadence)>) -> Self {
        Self { name: name.into(), when: Cadence::Always, repeats: 1, updates, batch_size: None, hold_at: None }
    }
}

/// Everything the engine needs to know about how to train.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Optimisers with their parameters.
    pub optimisers: Vec<OptimiserSlot>,
    /// Phases of a step, in order.
    pub phases: Vec<Phase>,
}

impl Plan {
    /// One optimiser that moves all `groups` on every step.
    pub fn together(groups: &[ParameterGroup]) -> Self {
        let slot = OptimiserSlot { name: "all".to_owned(), groups: groups.to_vec(), step_factor: 1 };
        Self { optimisers: vec![slot], phases: vec![Phase::new(MAIN, vec![(0, Cadence::Always)])] }
    }
}

/// Name of the loss of objectives that have only one.
pub const MAIN: &str = "main";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_match_whole_path_segments() {
        let group = ParameterGroup::field("encoder");
        assert!(group.contains("encoder.layers.0.weight") && group.contains("encoder"));
        assert!(!group.contains("encoder_2.weight") && !group.contains("decoder.weight"));
    }

    #[test]
    fn cadences_follow_the_counters() {
        let due = |cadence: Cadence| (0..8).filter(|&s| cadence.is_due(1, s)).collect::<Vec<_>>();
        assert_eq!(due(Cadence::Cycle { period: 4, from: 0, to: 3 }), [0, 1, 2, 4, 5, 6]);
        assert_eq!(due(Cadence::Cycle { period: 4, from: 3, to: 4 }), [3, 7]);
        assert_eq!((1..7).filter(|&e| Cadence::EpochsDivisibleBy(3).is_due(e, 0)).collect::<Vec<_>>(), [3, 6]);
        assert!(!Cadence::EpochsDivisibleBy(0).is_due(3, 0));
        assert_eq!(due(Cadence::Window { start: 2, end: 7, period: 3, from: 0, to: 2 }), [2, 3, 5, 6]);
    }

    #[test]
    fn counts_agree_with_counting() {
        let cadences = [
            Cadence::Always,
            Cadence::EpochsDivisibleBy(0),
            Cadence::EpochsDivisibleBy(3),
            Cadence::Cycle { period: 5, from: 1, to: 3 },
            Cadence::Cycle { period: 0, from: 0, to: 1 },
            Cadence::Window { start: 4, end: 30, period: 5, from: 4, to: 5 },
            Cadence::Window { start: 0, end: 7, period: 1, from: 0, to: 1 },
        ];
        for cadence in cadences {
            let mut count = 0;
            for step in 0..60 {
                assert_eq!(cadence.count_before(step, 4), count, "{cadence:?} before {step}");
                count += u64::from(cadence.is_due(step / 4 + 1, step));
            }
        }
    }
}
