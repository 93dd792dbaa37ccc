//! Optimiser `lion`, in a crate outside the workspace: the sign of an interpolated momentum.

use burn::tensor::Tensor;
use ibhost_framework::optimiser::{Elementwise, Float, OptimiserConfig, Rule, elementwise, real};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Steps of one size, in the direction of the sign of momentum and gradient together.
///
/// p -= lr (sign(beta1 m + (1-beta1) g) + weight_decay p), then m = beta2 m + (1-beta2) g.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Lion {
    /// Share of the momentum in the direction.
    #[schemars(range(min = 0.0, max = 0.999_999_9))]
    pub beta1: f64,
    /// Decay of the momentum.
    #[schemars(range(min = 0.0, max = 0.999_999_9))]
    pub beta2: f64,
    /// Share of the parameter added to its direction.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub weight_decay: f64,
}

impl Default for Lion {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.99, weight_decay: 0.0 }
    }
}

#[typetag::serde(name = "lion")]
impl OptimiserConfig for Lion {
    fn rule(&self, _step: u64, rate: f64) -> Box<dyn Rule> {
        elementwise(LionRule { config: self.clone(), rate })
    }
}

#[derive(Clone, Debug)]
struct LionRule {
    config: Lion,
    rate: f64,
}

impl Elementwise<1> for LionRule {
    #[inline(always)]
    fn update<T: Float>(&self, values: &mut [T], gradient: &[T], [m]: [&mut [T]; 1]) -> bool {
        let Lion { beta1, beta2, weight_decay } = self.config;
        let [rate, b1, b2, weight_decay]: [T; 4] = [self.rate, beta1, beta2, weight_decay].map(real);
        let [c1, c2]: [T; 2] = [1.0 - beta1, 1.0 - beta2].map(real);
        let mut finite = true;
        for ((p, &g), m) in values.iter_mut().zip(gradient).zip(m.iter_mut()) {
            finite &= g.is_finite();
            let along = b1 * *m + c1 * g;
            let sign = if along == T::zero() { along } else { along.signum() };
            *p = *p - rate * (sign + weight_decay * *p);
            *m = b2 * *m + c2 * g;
        }
        finite
    }

    fn update_tensors(&self, p: Tensor<1>, g: Tensor<1>, [m]: [Tensor<1>; 1]) -> (Tensor<1>, [Tensor<1>; 1]) {
        let Lion { beta1, beta2, weight_decay } = self.config;
        let along = m.clone().mul_scalar(beta1) + g.clone().mul_scalar(1.0 - beta1);
        let step = along.sign() + p.clone().mul_scalar(weight_decay);
        (p - step.mul_scalar(self.rate), [m.mul_scalar(beta2) + g.mul_scalar(1.0 - beta2)])
    }
}

ibhost_framework::register! { Optimiser: Lion as OptimiserConfig, paper: "Chen et al. 2023, arXiv:2302.06675", example: "lion/beta1:0.95" }

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_framework::optimiser::testing::{check, descend};

    #[test]
    fn lion_takes_steps_of_one_size_in_both_forms() {
        assert_eq!(descend(&Lion::default(), 0.5, &[1.0, 1.0, 1.0], &[3.0, -0.01, 0.0], 2), [0.0, 2.0, 1.0]);
        check(&Lion { weight_decay: 0.1, ..Lion::default() });
    }
}
