//! Optimiser `adabelief`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OptimiserConfig, Rule};

/// AdaBelief: Adam with the second moment of the surprise g - m instead of the gradient.
///
/// d = g - m (m before this step), m = beta1 m + (1-beta1) g, s = beta2 s + (1-beta2) d^2, both bias-corrected,
/// p -= lr m^ / (sqrt(s^ + root_epsilon) + epsilon).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AdaBelief {
    /// Decay of the mean gradient.
    #[schemars(range(min = 0.0, max = 0.999_999_9))]
    pub beta1: f64,
    /// Decay of the mean squared surprise.
    #[schemars(range(min = 0.0, max = 0.999_999_999))]
    pub beta2: f64,
    /// Added to the denominator.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub epsilon: f64,
    /// Added below the root.
    #[schemars(range(min = 1e-30, max = 1.0))]
    pub root_epsilon: f64,
}

impl Default for AdaBelief {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-16, root_epsilon: 1e-16 }
    }
}

#[typetag::serde(name = "adabelief")]
impl OptimiserConfig for AdaBelief {
    fn rule(&self, step: u64, rate: f64) -> Rule {
        let t = step as f64;
        Rule::AdaBelief {
            rate: rate / (1.0 - self.beta1.powf(t)),
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            root_epsilon: self.root_epsilon,
            scale: 1.0 / (1.0 - self.beta2.powf(t)),
        }
    }
}

crate::register! {
    Optimiser: AdaBelief as OptimiserConfig, aliases: [], paper: "Zhuang et al. 2020, arXiv:2010.07468", example: "adabelief"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_gradient_is_trusted_more_each_step() {
        let (mut p, mut m, mut s) = ([0.0f64], [0.0], [0.0]);
        let mut moved = Vec::new();
        for step in 1..=20 {
            let before = p[0];
            AdaBelief::default().rule(step, 0.01).update(&mut p, &[1.0], &mut m, &mut s, None);
            moved.push(before - p[0]);
        }
        assert!((moved[0] - 0.01).abs() < 1e-9);
        assert!(moved.windows(2).all(|w| w[1] > w[0]));
    }
}
