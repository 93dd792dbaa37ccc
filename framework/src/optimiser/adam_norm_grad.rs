//! Optimiser `adam_norm_grad`: Adam on gradients scaled to unit length, parameter by parameter.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OptimiserConfig, Rule};

/// Adam on normalised gradients: every parameter's gradient is divided by its own Euclidean norm first.
///
/// g <- g / (|g|_2 + 1e-7) for each parameter tensor, then g <- g + weight_decay p, then m = beta1 m + (1-beta1) g,
/// s = beta2 s + (1-beta2) g^2 and p -= lr sqrt(1-beta2^t)/(1-beta1^t) m / (sqrt(s) + epsilon): epsilon is not bias-corrected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AdamNormGrad {
    /// Decay of the mean gradient.
    #[schemars(range(min = 0.0, max = 0.999_999_9))]
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    #[schemars(range(min = 0.0, max = 0.999_999_999))]
    pub beta2: f64,
    /// Added to the denominator.
    #[schemars(range(min = 1e-30, max = 1.0))]
    pub epsilon: f64,
    /// Share of the parameter added to its normalised gradient.
    #[schemars(range(min = 0.0, max = 1e3))]
    pub weight_decay: f64,
}

impl Default for AdamNormGrad {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

#[typetag::serde(name = "adam_norm_grad")]
impl OptimiserConfig for AdamNormGrad {
    fn rule(&self, step: u64, rate: f64) -> Rule {
        let t = step as f64;
        Rule::NormalisedAdam {
            rate: rate * (1.0 - self.beta2.powf(t)).sqrt() / (1.0 - self.beta1.powf(t)),
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
        }
    }
}

crate::register! {
    Optimiser: AdamNormGrad as OptimiserConfig, aliases: [], paper: "Tomczak & Welling 2018, arXiv:1705.07120", example: "adam_norm_grad"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_gradient_does_not_matter() {
        let step = |scale: f64| {
            let (mut p, mut m, mut s) = ([1.0f64, -2.0], [0.0; 2], [0.0; 2]);
            for t in 1..=3 {
                assert!(AdamNormGrad::default().rule(t, 0.1).update(&mut p, &[3.0 * scale, -4.0 * scale], &mut m, &mut s, None));
            }
            p
        };
        let (small, large) = (step(1.0), step(1e4));
        assert!(small.iter().zip(large).all(|(a, b)| (a - b).abs() < 1e-7), "{small:?} {large:?}");
        assert!((small[0] - 0.7).abs() < 1e-4, "{small:?}");
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_reported() {
        let (mut p, mut m, mut s) = ([1.0f32, 2.0], [0.0; 2], [0.0; 2]);
        assert!(!AdamNormGrad::default().rule(1, 0.1).update(&mut p, &[f32::INFINITY, 1.0], &mut m, &mut s, None));
    }
}
