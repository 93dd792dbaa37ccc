//! Schedule `noam`: a linear warm-up, then the inverse square root, one rate per epoch.

use ibhost_framework::schedule::{ScheduleConfig, ScheduleContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// base * min(epoch / warmup, sqrt(warmup / epoch)): rises to the base rate at epoch `warmup`, then falls.
///
/// Epochs count from 1 and the rate changes between epochs only. The shape is that of Vaswani et al. 2017 with the peak at the base rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Noam {
    /// Epoch of the peak.
    #[schemars(range(min = 1))]
    pub warmup: u64,
}

impl Default for Noam {
    fn default() -> Self {
        Self { warmup: 10 }
    }
}

impl Noam {
    /// Share of the base rate at `epoch`, from 0.
    pub fn factor(&self, epoch: u64) -> f64 {
        let (epoch, warmup) = (epoch as f64, self.warmup as f64);
        if epoch <= warmup { epoch / warmup } else { (warmup / epoch).sqrt() }
    }
}

#[typetag::serde(name = "noam")]
impl ScheduleConfig for Noam {
    fn rate(&self, context: &ScheduleContext) -> f64 {
        let epoch = context.step * context.step_factor.max(1) / context.steps_per_epoch.max(1) + 1;
        context.base * self.factor(epoch)
    }
}

ibhost_framework::register! { Schedule: Noam as ScheduleConfig, aliases: [], paper: "Vaswani et al. 2017, arXiv:1706.03762", example: "noam/warmup:3" }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_the_base_rate_at_the_end_of_the_warm_up() {
        let schedule = Noam { warmup: 3 };
        let at = |step| schedule.rate(&ScheduleContext { base: 1e-3, step, steps_per_epoch: 10, updates: 1000, step_factor: 1 });
        assert!((at(0) - 1e-3 / 3.0).abs() < 1e-15 && at(0) == at(9));
        assert!((at(20) - 1e-3).abs() < 1e-15);
        assert!((at(110) - 1e-3 * (3.0f64 / 12.0).sqrt()).abs() < 1e-15);
    }
}
