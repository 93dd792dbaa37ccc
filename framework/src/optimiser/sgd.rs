//! Optimiser `sgd`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OptimiserConfig, Rule};

/// Stochastic gradient descent with heavy-ball momentum.
///
/// m = momentum m + g + weight_decay p, p -= lr m.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Sgd {
    /// Decay of the velocity.
    #[schemars(range(min = 0.0, max = 0.999_999_9))]
    pub momentum: f64,
    /// Share of the parameter added to the gradient.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub weight_decay: f64,
}

#[typetag::serde(name = "sgd")]
impl OptimiserConfig for Sgd {
    fn rule(&self, _step: u64, rate: f64) -> Rule {
        Rule::Sgd { rate, momentum: self.momentum, weight_decay: self.weight_decay }
    }
}

crate::register! { Optimiser: Sgd as OptimiserConfig, aliases: [], paper: "", example: "sgd/momentum:0.9" }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn velocity_builds_up() {
        let (mut p, mut m, mut s) = ([0.0f64], [0.0], [0.0]);
        for step in 1..=2 {
            Sgd { momentum: 0.5, weight_decay: 0.0 }.rule(step, 0.1).update(&mut p, &[1.0], &mut m, &mut s, None);
        }
        assert!((p[0] + 0.1 + 0.15).abs() < 1e-12);
    }

    #[test]
    fn weights_decay_through_the_gradient() {
        let (mut p, mut m, mut s) = ([2.0f64], [0.0], [0.0]);
        Sgd { momentum: 0.9, weight_decay: 0.5 }.rule(1, 0.1).update(&mut p, &[0.25], &mut m, &mut s, None);
        assert!((p[0] - (2.0 - 0.1 * 1.25)).abs() < 1e-12);
    }
}
