//! One mixture of weighted normals for all rows: what learned priors are.

use burn::tensor::{Device, Int, Tensor};
use ibhost_kernels::normal_mixture_log_density;

use crate::distribution::{Distribution, Support, Undefined};
use crate::noise::Draws;
use crate::normal_mixture::NormalMixture;

/// sum_k w_k N(mean_k, diag(scale_k^2)), the same mixture for every value.
#[derive(Clone, Debug)]
pub struct NormalComponents {
    /// `[components, features]`.
    pub mean: Tensor<2>,
    /// Standard deviations, `[components, features]`, positive.
    pub scale: Tensor<2>,
    /// ln w_k, normalised, `[components]`; nothing when all are equal.
    pub log_weights: Option<Tensor<1>>,
}

impl NormalComponents {
    /// The equal mixture of a batch of normals or of mixtures of normals; nothing of other distributions.
    pub fn equal(each: &dyn Distribution) -> Option<Self> {
        if let Some(each) = each.downcast::<NormalMixture>() {
            let [rows, components] = each.log_weights.dims();
            let log_weights = each.log_weights.clone().reshape([rows * components]).sub_scalar((rows as f64).ln());
            return Some(Self { mean: each.rows(&each.mean), scale: each.rows(&each.scale), log_weights: Some(log_weights) });
        }
        let (mean, scale) = each.as_normal()?;
        Some(Self { mean, scale, log_weights: None })
    }

    /// `count` draws without gradient, `[count, features]`: components at random by their weights for `purposes[0]`, normal noise for
    /// `purposes[1]`.
    pub fn draw(&self, count: usize, purposes: [&str; 2], draws: &mut Draws) -> Tensor<2> {
        let [components, features] = self.mean.dims();
        let weights: Vec<f64> = match &self.log_weights {
            Some(log_weights) => log_weights.clone().exp().into_data().iter::<f64>().collect(),
            None => vec![1.0 / components as f64; components],
        };
        let mut stream = draws.host(purposes[0]);
        let chosen: Vec<i64> = (0..count)
            .map(|_| {
                let mut left = stream.uniform();
                let found = weights.iter().position(|w| {
                    left -= w;
                    left < 0.0
                });
                // Rounding may leave a little beyond the last component; one that is switched off never takes it.
                found.or_else(|| weights.iter().rposition(|w| *w > 0.0)).unwrap_or(weights.len() - 1) as i64
            })
            .collect();
        let device = self.mean.device();
        let index = Tensor::<1, Int>::from_data(chosen.as_slice(), &device);
        let noise = draws.normal(purposes[1], [count, features], &device);
        (self.mean.clone().select(0, index.clone()) + self.scale.clone().select(0, index) * noise).detach()
    }

    fn weighted(&self, values: Tensor<2>) -> Tensor<2> {
        match &self.log_weights {
            Some(log_weights) => (values * log_weights.clone().exp().reshape([-1, 1])).sum_dim(0),
            None => values.mean_dim(0),
        }
    }
}

impl Distribution for NormalComponents {
    fn family(&self) -> &'static str {
        "mixture of normals"
    }
    /// One distribution.
    fn dims(&self) -> [usize; 2] {
        [1, self.mean.dims()[1]]
    }
    fn device(&self) -> Device {
        self.mean.device()
    }
    fn support(&self) -> Support {
        Support::Real
    }
    fn mean(&self) -> Tensor<2> {
        self.weighted(self.mean.clone())
    }
    fn log_prob(&self, x: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        Ok(normal_mixture_log_prob(x, self.mean.clone(), self.scale.clone(), self.log_weights.clone()))
    }
    fn sample(&self, purpose: &str, draws: &mut Draws) -> Tensor<2> {
        self.draw(1, [&format!("{purpose} component"), purpose], draws)
    }
    fn deviation(&self) -> Option<Tensor<2>> {
        let distance = self.mean.clone() - self.mean();
        Some(self.weighted(self.scale.clone().powi_scalar(2) + distance.powi_scalar(2)).sqrt())
    }
}

/// ln sum_k w_k N(x; mean_k, diag(scale_k^2)) in nats, `[batch]`: x `[batch, dim]`, components `[components, dim]`, log weights
/// `[components]` that need not be there when all are equal.
pub fn normal_mixture_log_prob(x: Tensor<2>, mean: Tensor<2>, scale: Tensor<2>, log_weights: Option<Tensor<1>>) -> Tensor<1> {
    let components = mean.dims()[0];
    let equal = || Tensor::full([components], -(components as f64).ln(), (&mean.device(), mean.dtype()));
    let log_weights = log_weights.unwrap_or_else(equal);
    normal_mixture_log_density(x, mean, scale, log_weights)
}
