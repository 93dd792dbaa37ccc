//! Points: distributions that are certain of their value.

use burn::tensor::{Device, Tensor};

use crate::distribution::{BoxedDistribution, Distribution, Support, Undefined, repeat_rows};
use crate::noise::Draws;

/// A deterministic value. It has no density, and no finite divergence from any.
#[derive(Clone, Debug)]
pub struct Delta {
    /// `[batch, features]`.
    pub value: Tensor<2>,
}

impl Distribution for Delta {
    fn family(&self) -> &'static str {
        "deterministic"
    }
    fn dims(&self) -> [usize; 2] {
        self.value.dims()
    }
    fn device(&self) -> Device {
        self.value.device()
    }
    fn support(&self) -> Support {
        Support::Real
    }
    fn mean(&self) -> Tensor<2> {
        self.value.clone()
    }
    fn log_prob(&self, _x: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        Err(Undefined::Point)
    }
    fn sample(&self, _purpose: &str, _draws: &mut Draws) -> Tensor<2> {
        self.value.clone()
    }
    fn deviation(&self) -> Option<Tensor<2>> {
        Some(self.value.zeros_like())
    }
    fn covariance(&self) -> Option<Tensor<3>> {
        let [batch, features] = self.dims();
        Some(Tensor::zeros([batch, features, features], &self.device()))
    }
    fn is_stochastic(&self) -> bool {
        false
    }
    fn rsample(&self, noise: Tensor<3>) -> Option<Tensor<3>> {
        let ([batch, features], samples) = (self.dims(), noise.dims()[0]);
        Some(self.value.clone().reshape([1, batch, features]).expand([samples, batch, features]))
    }
    fn log_prob_of_noise(&self, _noise: Tensor<3>) -> Result<Tensor<2>, Undefined> {
        Err(Undefined::Point)
    }
    fn repeat(&self, times: usize) -> Option<BoxedDistribution> {
        Some(Self { value: repeat_rows(&self.value, times) }.boxed())
    }
}
