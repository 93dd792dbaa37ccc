//! Schedule `geometric`: a straight line in ln(rate) from the base to a final value.

use ibhost_framework::schedule::{ScheduleConfig, ScheduleContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// base * (last / base)^(update / (updates - 1)): smooth decay from the base rate to `last` over the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Geometric {
    /// Rate of the last step.
    #[schemars(range(min = 1e-30, max = 1e3))]
    pub last: f64,
}

impl Default for Geometric {
    fn default() -> Self {
        Self { last: 3e-5 }
    }
}

#[typetag::serde(name = "geometric")]
impl ScheduleConfig for Geometric {
    fn rate(&self, context: &ScheduleContext) -> f64 {
        let updates = context.updates.max(2);
        let progress = context.step.min(updates - 1) as f64 / (updates - 1) as f64;
        context.base * (self.last / context.base).powf(progress)
    }
}

ibhost_framework::register! { Schedule: Geometric as ScheduleConfig, aliases: [], paper: "", example: "geometric/last:3e-5" }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_at_the_base_and_ends_at_the_last_rate() {
        let at = |step| Geometric::default().rate(&ScheduleContext { base: 1e-3, step, steps_per_epoch: 10, updates: 101, step_factor: 1 });
        assert!((at(0) - 1e-3).abs() < 1e-15 && (at(100) - 3e-5).abs() < 1e-15);
        assert!((at(50) - (1e-3f64 * 3e-5).sqrt()).abs() < 1e-15);
    }
}
