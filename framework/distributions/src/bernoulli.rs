//! Independent Bernoulli variables, by their probabilities.

use burn::tensor::{Device, Tensor};

use crate::distribution::{BoxedDistribution, Distribution, Support, Undefined, repeat_rows};
use crate::noise::Draws;

/// Independent Bernoulli variables; values between 0 and 1 count with their share.
#[derive(Clone, Debug)]
pub struct Bernoulli {
    /// P(x = 1), `[batch, features]`.
    pub probabilities: Tensor<2>,
    /// Added to the probabilities of both values below the logarithm; with 0 they must be away from 0 and 1.
    pub guard: f64,
}

impl Bernoulli {
    /// Variables whose probabilities `[batch, features]` are away from 0 and 1 by what the caller chose.
    pub fn new(probabilities: Tensor<2>) -> Self {
        Self { probabilities, guard: 0.0 }
    }

    /// ln of the probabilities of 1 and of 0, `[batch, features]` each.
    pub fn log_probabilities(&self) -> [Tensor<2>; 2] {
        let off = self.probabilities.clone().neg().add_scalar(1.0);
        if self.guard == 0.0 {
            return [self.probabilities.clone().log(), off.log()];
        }
        // In two steps: in single precision 1 + guard is 1, and the probability 1 would have no logarithm.
        [self.probabilities.clone().add_scalar(self.guard).log(), off.add_scalar(self.guard).log()]
    }
}

impl Distribution for Bernoulli {
    fn family(&self) -> &'static str {
        "Bernoulli"
    }
    fn dims(&self) -> [usize; 2] {
        self.probabilities.dims()
    }
    fn device(&self) -> Device {
        self.probabilities.device()
    }
    fn support(&self) -> Support {
        Support::Binary
    }
    fn mean(&self) -> Tensor<2> {
        self.probabilities.clone()
    }
    fn log_prob(&self, x: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        let shape = x.dims();
        let probabilities = if self.dims() == shape { self.probabilities.clone() } else { self.probabilities.clone().expand(shape) };
        let [on, off] = Self { probabilities, guard: self.guard }.log_probabilities();
        // One product fewer than x ln p + (1 - x) ln(1 - p).
        Ok((x * (on - off.clone()) + off).sum_dim(1).reshape([shape[0]]))
    }
    fn sample(&self, purpose: &str, draws: &mut Draws) -> Tensor<2> {
        let uniform: Tensor<2> = draws.uniform(purpose, self.dims(), &self.device());
        uniform.lower(self.probabilities.clone()).float().cast(self.probabilities.dtype())
    }
    fn deviation(&self) -> Option<Tensor<2>> {
        let p = self.probabilities.clone();
        Some((p.clone() * p.neg().add_scalar(1.0)).sqrt())
    }
    fn repeat(&self, times: usize) -> Option<BoxedDistribution> {
        Some(Self { probabilities: repeat_rows(&self.probabilities, times), guard: self.guard }.boxed())
    }
}
