//! The equal mixture of a batch of distributions of any family.

use burn::tensor::{Device, Int, Tensor};

use crate::distribution::{BoxedDistribution, Distribution, Support, Undefined};
use crate::math::log_mean_exp;
use crate::noise::Draws;

/// sum_k p_k / K over the `K` distributions of a batch, the same mixture for every value.
#[derive(Clone, Debug)]
pub struct EqualMixture {
    /// The components.
    pub each: BoxedDistribution,
}

impl Distribution for EqualMixture {
    fn family(&self) -> &'static str {
        "mixture"
    }
    /// One distribution.
    fn dims(&self) -> [usize; 2] {
        [1, self.each.dims()[1]]
    }
    fn device(&self) -> Device {
        self.each.device()
    }
    fn support(&self) -> Support {
        self.each.support()
    }
    fn mean(&self) -> Tensor<2> {
        self.each.mean().mean_dim(0)
    }
    fn log_prob(&self, x: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        let ([batch, features], [components, _]) = (x.dims(), self.each.dims());
        let each = self.each.repeat(batch).ok_or(Undefined::Component(self.each.family()))?;
        let x = x.reshape([batch, 1, features]).expand([batch, components, features]).reshape([batch * components, features]);
        Ok(log_mean_exp(each.log_prob(x)?.reshape([batch, components]), 1).reshape([batch]))
    }
    fn sample(&self, purpose: &str, draws: &mut Draws) -> Tensor<2> {
        let chosen = draws.host(&format!("{purpose} component")).below(self.each.dims()[0]) as i64;
        let index = Tensor::<1, Int>::from_data([chosen], &self.device());
        self.each.sample(purpose, draws).select(0, index)
    }
}
