//! Schedule `constant`.

use ibhost_framework::schedule::{ScheduleConfig, ScheduleContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The base learning rate throughout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Constant {}

#[typetag::serde(name = "constant")]
impl ScheduleConfig for Constant {
    fn rate(&self, context: &ScheduleContext) -> f64 {
        context.base
    }
    fn is_constant(&self) -> bool {
        true
    }
}

ibhost_framework::register! { Schedule: Constant as ScheduleConfig, aliases: [], paper: "", example: "constant" }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignores_the_step() {
        let context = ScheduleContext { base: 0.3, step: 1_000_000, steps_per_epoch: 10, updates: 10, step_factor: 1 };
        assert_eq!(Constant {}.rate(&context).to_bits(), 0.3f64.to_bits());
    }
}
