//! Schedule `exponential`: multiply by a factor every few epochs.

use ibhost_framework::schedule::{ScheduleConfig, ScheduleContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// base * decay^floor(step / (epochs * steps per epoch)), a staircase.
///
/// The defaults are the schedule of the 2017 VIB notebook, 0.97 every two epochs; the 2021 remake uses `exponential/decay:0.95`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Exponential {
    /// Factor of each stair.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub decay: f64,
    /// Epochs a stair lasts.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub epochs: u64,
}

impl Default for Exponential {
    fn default() -> Self {
        Self { decay: 0.97, epochs: 2 }
    }
}

#[typetag::serde(name = "exponential")]
impl ScheduleConfig for Exponential {
    fn rate(&self, context: &ScheduleContext) -> f64 {
        let stairs = context.step / (self.epochs * context.steps_per_epoch).max(1);
        // TensorFlow holds the factor in single precision; after hundreds of stairs the difference shows in the sixth digit.
        let decay = f64::from(self.decay as f32);
        context.base * decay.powf(stairs as f64)
    }
}

ibhost_framework::register! {
    Schedule: Exponential as ScheduleConfig, aliases: ["alemi_vib_mnist"], paper: "Alemi et al. 2017, arXiv:1612.00410",
    example: "exponential/decay:0.97|epochs:2"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_at_the_stair_and_not_before() {
        let at =
            |step| Exponential::default().rate(&ScheduleContext { base: 1e-4, step, steps_per_epoch: 600, updates: 0, step_factor: 1 });
        assert!((at(1199) - 1e-4).abs() < 1e-18 && (at(1200) - 0.97e-4).abs() < 1e-11);
        assert!((at(2400) - 0.97f64.powi(2) * 1e-4).abs() < 1e-11);
    }
}
