//! Optimiser `adabelief`.

use burn::tensor::Tensor;
use ibhost_framework::optimiser::{Elementwise, Float, OptimiserConfig, Rule, elementwise, real};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    fn rule(&self, step: u64, rate: f64) -> Box<dyn Rule> {
        let t = step as f64;
        elementwise(AdaBeliefRule {
            config: self.clone(),
            rate: rate / (1.0 - self.beta1.powf(t)),
            scale: 1.0 / (1.0 - self.beta2.powf(t)),
        })
    }
}

ibhost_framework::register! {
    Optimiser: AdaBelief as OptimiserConfig, aliases: [], paper: "Zhuang et al. 2020, arXiv:2010.07468", example: "adabelief"
}

/// d = g - m; m = b1 m + (1-b1) g; s = b2 s + (1-b2) d^2; p -= rate m / (sqrt(s scale + root_epsilon) + epsilon).
#[derive(Clone, Debug)]
struct AdaBeliefRule {
    config: AdaBelief,
    /// Learning rate with the bias correction of m.
    rate: f64,
    /// Bias correction of s.
    scale: f64,
}

impl Elementwise<2> for AdaBeliefRule {
    #[allow(clippy::inline_always)] // Only what is inlined is compiled for wide vectors.
    #[inline(always)]
    fn update<T: Float>(&self, p: &mut [T], g: &[T], [m, s]: [&mut [T]; 2]) -> bool {
        let AdaBelief { beta1, beta2, epsilon, root_epsilon } = self.config;
        let [rate, b1, b2, epsilon, scale]: [T; 5] = [self.rate, beta1, beta2, epsilon, self.scale].map(real);
        let [c1, c2, root_epsilon]: [T; 3] = [1.0 - beta1, 1.0 - beta2, root_epsilon].map(real);
        let mut finite = true;
        for ((p, &g), (m, s)) in p.iter_mut().zip(g).zip(m.iter_mut().zip(s.iter_mut())) {
            finite &= g.is_finite();
            let surprise = g - *m;
            *m = b1 * *m + c1 * g;
            *s = b2 * *s + c2 * surprise * surprise;
            *p = *p - rate * *m / ((*s * scale + root_epsilon).sqrt() + epsilon);
        }
        finite
    }

    fn update_tensors(&self, p: Tensor<1>, g: Tensor<1>, [m, s]: [Tensor<1>; 2]) -> (Tensor<1>, [Tensor<1>; 2]) {
        let AdaBelief { beta1, beta2, epsilon, root_epsilon } = self.config;
        let surprise = g.clone() - m.clone();
        let m = m.mul_scalar(beta1) + g.mul_scalar(1.0 - beta1);
        let s = s.mul_scalar(beta2) + surprise.powi_scalar(2).mul_scalar(1.0 - beta2);
        (p - m.clone().mul_scalar(self.rate) / ((s.clone().mul_scalar(self.scale) + root_epsilon).sqrt() + epsilon), [m, s])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_framework::optimiser::testing::{check, descend};

    #[test]
    fn a_steady_gradient_is_trusted_more_each_step() {
        let at: Vec<f64> = (0..=20).map(|steps| descend(&AdaBelief::default(), 0.01, &[0.0], &[1.0], steps)[0]).collect();
        let moved: Vec<f64> = at.windows(2).map(|w| w[0] - w[1]).collect();
        assert!((moved[0] - 0.01).abs() < 1e-9);
        assert!(moved.windows(2).all(|w| w[1] > w[0]));
    }

    #[test]
    fn one_pass_equals_the_tensor_formula() {
        check(&AdaBelief { epsilon: 1e-8, ..AdaBelief::default() });
    }
}
