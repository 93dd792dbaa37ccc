//! Schedules `keras_resnet20_cifar10` and `pytorch_resnet20_cifar10`: rates that a program gave to epochs, whatever the base rate.

use ibhost_framework::schedule::{ScheduleConfig, ScheduleContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Value `i` applies while step <= trunc(boundary_i * steps per epoch / step factor).
fn piecewise(context: &ScheduleContext, boundaries: &[f64], values: &[f64]) -> f64 {
    let passed = boundaries
        .iter()
        .take_while(|&&epoch| {
            let boundary = (epoch * context.steps_per_epoch as f64 / context.step_factor.max(1) as f64).trunc();
            context.step as f64 > boundary
        })
        .count();
    values.get(passed).or(values.last()).copied().unwrap_or(context.base)
}

/// 1e-3, 1e-4, 1e-5, 1e-6, 5e-7 with boundaries at epochs 80, 120, 160, 180; the base rate is ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KerasResnet20 {}

#[typetag::serde(name = "keras_resnet20_cifar10")]
impl ScheduleConfig for KerasResnet20 {
    fn rate(&self, context: &ScheduleContext) -> f64 {
        piecewise(context, &[80.0, 120.0, 160.0, 180.0], &[1e-3, 1e-4, 1e-5, 1e-6, 5e-7])
    }
}

ibhost_framework::register! {
    Schedule: KerasResnet20 as ScheduleConfig, aliases: [], paper: "Banerjee & Montúfar 2020, arXiv:1810.11677",
    example: "keras_resnet20_cifar10"
}

/// 1e-1, 1e-2, 1e-3 with boundaries at epochs 100 and 150; the base rate is ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PytorchResnet20 {}

#[typetag::serde(name = "pytorch_resnet20_cifar10")]
impl ScheduleConfig for PytorchResnet20 {
    fn rate(&self, context: &ScheduleContext) -> f64 {
        piecewise(context, &[100.0, 150.0], &[1e-1, 1e-2, 1e-3])
    }
}

ibhost_framework::register! {
    Schedule: PytorchResnet20 as ScheduleConfig, aliases: [], paper: "Banerjee & Montúfar 2020, arXiv:1810.11677",
    example: "pytorch_resnet20_cifar10"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_step_still_has_the_old_rate() {
        let at =
            |step, step_factor| PytorchResnet20 {}.rate(&ScheduleContext { base: 9.0, step, steps_per_epoch: 10, updates: 0, step_factor });
        assert!((at(1000, 1) - 0.1).abs() < 1e-12 && (at(1001, 1) - 0.01).abs() < 1e-12 && (at(1501, 1) - 1e-3).abs() < 1e-12);
        assert!((at(100, 10) - 0.1).abs() < 1e-12 && (at(101, 10) - 0.01).abs() < 1e-12);
    }
}
