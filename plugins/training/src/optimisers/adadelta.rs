//! Optimiser `adadelta`.

use burn::tensor::Tensor;
use ibhost_framework::optimiser::{Elementwise, Float, OptimiserConfig, Rule, elementwise, real};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    fn rule(&self, _step: u64, rate: f64) -> Box<dyn Rule> {
        elementwise(AdadeltaRule { rate, decay: self.rho, epsilon: self.epsilon })
    }
}

ibhost_framework::register! { Optimiser: Adadelta as OptimiserConfig, aliases: [], paper: "Zeiler 2012, arXiv:1212.5701", example: "adadelta" }

/// s = decay s + (1-decay) g^2; d = g sqrt(m + epsilon) / sqrt(s + epsilon); m = decay m + (1-decay) d^2; p -= rate d.
#[derive(Clone, Copy, Debug)]
struct AdadeltaRule {
    rate: f64,
    decay: f64,
    epsilon: f64,
}

impl Elementwise<2> for AdadeltaRule {
    #[allow(clippy::inline_always)] // Only what is inlined is compiled for wide vectors.
    #[inline(always)]
    fn update<T: Float>(&self, p: &mut [T], g: &[T], [m, s]: [&mut [T]; 2]) -> bool {
        let [rate, rho, rest, epsilon]: [T; 4] = [self.rate, self.decay, 1.0 - self.decay, self.epsilon].map(real);
        let mut finite = true;
        for ((p, &g), (m, s)) in p.iter_mut().zip(g).zip(m.iter_mut().zip(s.iter_mut())) {
            finite &= g.is_finite();
            *s = rho * *s + rest * g * g;
            let step = g * (*m + epsilon).sqrt() / (*s + epsilon).sqrt();
            *m = rho * *m + rest * step * step;
            *p = *p - rate * step;
        }
        finite
    }

    fn update_tensors(&self, p: Tensor<1>, g: Tensor<1>, [m, s]: [Tensor<1>; 2]) -> (Tensor<1>, [Tensor<1>; 2]) {
        let s = s.mul_scalar(self.decay) + g.clone().powi_scalar(2).mul_scalar(1.0 - self.decay);
        let step = g * m.clone().add_scalar(self.epsilon).sqrt() / s.clone().add_scalar(self.epsilon).sqrt();
        let m = m.mul_scalar(self.decay) + step.clone().powi_scalar(2).mul_scalar(1.0 - self.decay);
        (p - step.mul_scalar(self.rate), [m, s])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_framework::optimiser::testing::{buffers, check, update};

    #[test]
    fn the_first_step_has_the_size_of_the_root_of_epsilon() {
        let rule = Adadelta::default().rule(1, 1.0);
        let (mut p, mut kept) = ([1.0], buffers(&*rule, 1));
        update(&*rule, &mut p, &[2.0], &mut kept);
        let step = 2.0 * 1e-3 / (0.4f64 + 1e-6).sqrt();
        assert!((p[0] - (1.0 - step)).abs() < 1e-12 && (kept[0][0] - 0.1 * step * step).abs() < 1e-15);
    }

    #[test]
    fn one_pass_equals_the_tensor_formula() {
        check(&Adadelta::default());
    }
}
