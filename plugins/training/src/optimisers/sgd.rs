//! Optimiser `sgd`.

use burn::tensor::Tensor;
use ibhost_framework::optimiser::{Elementwise, Float, OptimiserConfig, Rule, elementwise, real};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    fn rule(&self, _step: u64, rate: f64) -> Box<dyn Rule> {
        elementwise(SgdRule { rate, momentum: self.momentum, weight_decay: self.weight_decay })
    }
}

ibhost_framework::register! { Optimiser: Sgd as OptimiserConfig, aliases: [], paper: "", example: "sgd/momentum:0.9" }

/// m = momentum m + g + weight_decay p; p -= rate m.
#[derive(Clone, Copy, Debug)]
struct SgdRule {
    rate: f64,
    momentum: f64,
    weight_decay: f64,
}

impl Elementwise<1> for SgdRule {
    #[allow(clippy::inline_always)] // Only what is inlined is compiled for wide vectors.
    #[inline(always)]
    fn update<T: Float>(&self, p: &mut [T], g: &[T], [m]: [&mut [T]; 1]) -> bool {
        let [rate, momentum, weight_decay]: [T; 3] = [self.rate, self.momentum, self.weight_decay].map(real);
        let mut finite = true;
        for ((p, &g), m) in p.iter_mut().zip(g).zip(m.iter_mut()) {
            finite &= g.is_finite();
            *m = momentum * *m + (g + weight_decay * *p);
            *p = *p - rate * *m;
        }
        finite
    }

    fn update_tensors(&self, p: Tensor<1>, g: Tensor<1>, [m]: [Tensor<1>; 1]) -> (Tensor<1>, [Tensor<1>; 1]) {
        let m = m.mul_scalar(self.momentum) + g + p.clone().mul_scalar(self.weight_decay);
        (p - m.clone().mul_scalar(self.rate), [m])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_framework::optimiser::testing::{check, descend};

    #[test]
    fn velocity_builds_up() {
        let p = descend(&Sgd { momentum: 0.5, weight_decay: 0.0 }, 0.1, &[0.0], &[1.0], 2);
        assert!((p[0] + 0.1 + 0.15).abs() < 1e-12);
    }

    #[test]
    fn weights_decay_through_the_gradient() {
        let p = descend(&Sgd { momentum: 0.9, weight_decay: 0.5 }, 0.1, &[2.0], &[0.25], 1);
        assert!((p[0] - (2.0 - 0.1 * 1.25)).abs() < 1e-12);
    }

    #[test]
    fn one_pass_equals_the_tensor_formula() {
        check(&Sgd { momentum: 0.9, weight_decay: 0.01 });
    }
}
