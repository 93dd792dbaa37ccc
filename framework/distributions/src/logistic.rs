//! Independent logistic variables on the 256 levels of a pixel.

use burn::tensor::{Device, Tensor};

use crate::distribution::{BoxedDistribution, Distribution, Support, Undefined, repeat_rows};
use crate::noise::Draws;

/// Uniform draws of logistic variables stay this far from 0 and 1, whose quantiles are not finite.
const UNIFORM_MARGIN: f64 = 1e-5;
/// Width of a level.
const BIN: f64 = 1.0 / 256.0;

/// Uniform draws `u` in [0, 1) away from its ends.
pub(crate) fn inside<const D: usize>(u: Tensor<D>) -> Tensor<D> {
    u.mul_scalar(1.0 - 2.0 * UNIFORM_MARGIN).add_scalar(UNIFORM_MARGIN)
}

/// Independent logistic variables rounded down to 256 levels in `[0, 1)` (Kingma et al. 2016).
#[derive(Clone, Debug)]
pub struct DiscretisedLogistic {
    /// Location, `[batch, features]`.
    pub location: Tensor<2>,
    /// ln of the scale, `[batch, features]`.
    pub log_scale: Tensor<2>,
}

impl DiscretisedLogistic {
    /// ln of the probability of the level that each value of `x` lies on, `[batch, features]`.
    pub fn level_log_probs(&self, x: Tensor<2>) -> Tensor<2> {
        let scale = self.log_scale.clone().exp();
        let low = (x.div_scalar(BIN).floor().mul_scalar(BIN) - self.location.clone()) / scale.clone();
        let high = low.clone() + scale.recip().mul_scalar(BIN);
        let sigmoid = burn::tensor::activation::sigmoid::<2>;
        (sigmoid(high) - sigmoid(low)).add_scalar(1e-7).log()
    }
}

impl Distribution for DiscretisedLogistic {
    fn family(&self) -> &'static str {
        "discretised logistic"
    }
    fn dims(&self) -> [usize; 2] {
        self.location.dims()
    }
    fn device(&self) -> Device {
        self.location.device()
    }
    fn support(&self) -> Support {
        Support::Unit
    }
    /// The location, neither cut nor rounded.
    fn mean(&self) -> Tensor<2> {
        self.location.clone()
    }
    fn log_prob(&self, x: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        let [batch, _] = x.dims();
        Ok(self.level_log_probs(x).sum_dim(1).reshape([batch]))
    }
    fn sample(&self, purpose: &str, draws: &mut Draws) -> Tensor<2> {
        let [batch, features] = self.dims();
        let u = inside(draws.uniform::<3>(purpose, [1, batch, features], &self.device())).reshape([batch, features]);
        let logit = u.clone().log() - u.neg().add_scalar(1.0).log();
        let value = self.location.clone() + self.log_scale.clone().exp() * logit;
        value.div_scalar(BIN).floor().mul_scalar(BIN).clamp(0.0, 1.0 - BIN)
    }
    fn repeat(&self, times: usize) -> Option<BoxedDistribution> {
        Some(Self { location: repeat_rows(&self.location, times), log_scale: repeat_rows(&self.log_scale, times) }.boxed())
    }
}
