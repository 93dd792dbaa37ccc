//! Optimiser `adadelta`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OptimiserConfig, Rule};

/// Steps as large as past ones, relative to the size of past gradients (Zeiler 2012), times a learning rate.
///
/// s = rho s + (1-rho) g^2; d = g sqrt(m + epsilon) / sqrt(s + epsilon); m = rho m + (1-rho) d^2; p -= lr d.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Adadelta {
    /// Decay of the mean squares of gradients and steps.
    #[schemars(range(min = 0.0, max = 0.999_999_9))]
    pub rho: f64,
    /// Added below both roots.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub epsilon: f64,
}

impl Default for Adadelta {
    fn default() -> Self {
        Self { rho: 0.9, epsilon: 1e-6 }
    }
}

#[typetag::serde(name = "adadelta")]
impl OptimiserConfig for Adadelta {
    fn rule(&self, _step: u64, rate: f64) -> Rule {
        Rule::Adadelta { rate, decay: self.rho, epsilon: self.epsilon }
    }
}

crate::register! { Optimiser: Adadelta as OptimiserConfig, aliases: [], paper: "Zeiler 2012, arXiv:1212.5701", example: "adadelta" }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_has_the_size_of_the_root_of_epsilon() {
        let (mut p, mut m, mut s) = ([1.0f64], [0.0], [0.0]);
        Adadelta::default().rule(1, 1.0).update(&mut p, &[2.0], &mut m, &mut s, None);
        let step = 2.0 * 1e-3 / (0.4f64 + 1e-6).sqrt();
        assert!((p[0] - (1.0 - step)).abs() < 1e-12 && (m[0] - 0.1 * step * step).abs() < 1e-15);
    }
}
