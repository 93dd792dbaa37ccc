//! Schedule `cosine`: half a cosine from the base rate to a final one.

use ibhost_framework::schedule::{ScheduleConfig, ScheduleContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// last + (base - last) (1 + cos(pi update / updates)) / 2 (Loshchilov & Hutter 2017, without restarts).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Cosine {
    /// Rate at the end of the run.
    #[schemars(range(min = 0.0, max = 1e3))]
    pub last: f64,
    /// Keep the rate of an epoch's first update throughout the epoch.
    pub per_epoch: bool,
}

#[typetag::serde(name = "cosine")]
impl ScheduleConfig for Cosine {
    fn rate(&self, context: &ScheduleContext) -> f64 {
        let updates = context.updates.max(1);
        let epoch = context.steps_per_epoch.max(1);
        let step = if self.per_epoch { context.step / epoch * epoch } else { context.step };
        let progress = step.min(updates) as f64 / updates as f64;
        self.last + (context.base - self.last) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
    }
}

ibhost_framework::register! {
    Schedule: Cosine as ScheduleConfig, aliases: [], paper: "Loshchilov & Hutter 2017, arXiv:1608.03983", example: "cosine/last:1e-6"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn falls_from_the_base_through_the_middle_to_the_end() {
        let at = |step| {
            Cosine { last: 0.2, per_epoch: false }.rate(&ScheduleContext {
                base: 1.0,
                step,
                steps_per_epoch: 1,
                updates: 100,
                step_factor: 1,
            })
        };
        assert!((at(0) - 1.0).abs() < 1e-12 && (at(50) - 0.6).abs() < 1e-12 && (at(100) - 0.2).abs() < 1e-12);
    }

    #[test]
    fn an_epoch_may_keep_its_first_rate() {
        let at = |step| {
            let cosine = Cosine { last: 0.0, per_epoch: true };
            cosine.rate(&ScheduleContext { base: 1.0, step, steps_per_epoch: 10, updates: 20, step_factor: 1 })
        };
        assert!((at(0) - 1.0).abs() < 1e-12 && at(9) == at(0) && (at(10) - 0.5).abs() < 1e-12 && at(19) == at(10));
    }
}
