//! Schedule `step`: a factor every few epochs.

use ibhost_framework::schedule::{ScheduleConfig, ScheduleContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// base * factor^(number of boundaries passed); boundaries are `every`, 2 `every`, ... epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Step {
    /// Epochs between drops.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub every: u64,
    /// Factor of each drop.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub factor: f64,
}

impl Default for Step {
    fn default() -> Self {
        Self { every: 30, factor: 0.1 }
    }
}

#[typetag::serde(name = "step")]
impl ScheduleConfig for Step {
    fn rate(&self, context: &ScheduleContext) -> f64 {
        let drops = context.step * context.step_factor.max(1) / (self.every * context.steps_per_epoch).max(1);
        context.base * self.factor.powf(drops as f64)
    }
}

ibhost_framework::register! { Schedule: Step as ScheduleConfig, aliases: [], paper: "", example: "step/every:30|factor:0.1" }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_drops_by_its_factor() {
        let at = |step| {
            Step { every: 2, factor: 0.5 }.rate(&ScheduleContext { base: 1.0, step, steps_per_epoch: 5, updates: 0, step_factor: 1 })
        };
        assert!((at(9) - 1.0).abs() < 1e-12 && (at(10) - 0.5).abs() < 1e-12 && (at(20) - 0.25).abs() < 1e-12);
    }
}
