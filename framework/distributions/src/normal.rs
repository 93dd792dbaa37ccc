//! Independent normals: with a standard deviation each, with one for all, and the standard normal.

use burn::tensor::{Device, Tensor};
use ibhost_kernels::{centred_log_density, normal_sample, reparameterise, shared_normal_log_density, standard_normal_rate};

use crate::distribution::{BoxedDistribution, Distribution, Support, Undefined, repeat_rows};
use crate::math::HALF_LN_2PI;
use crate::noise::Draws;

/// N(mean, diag(scale^2)).
#[derive(Clone, Debug)]
pub struct Normal {
    /// `[batch, features]`.
    pub mean: Tensor<2>,
    /// Standard deviations, `[batch, features]`, positive.
    pub scale: Tensor<2>,
}

impl Distribution for Normal {
    fn family(&self) -> &'static str {
        "diagonal normal"
    }
    fn dims(&self) -> [usize; 2] {
        self.mean.dims()
    }
    fn device(&self) -> Device {
        self.mean.device()
    }
    fn support(&self) -> Support {
        Support::Real
    }
    fn mean(&self) -> Tensor<2> {
        self.mean.clone()
    }
    fn log_prob(&self, x: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        Ok(normal_log_prob(x, self.mean.clone(), self.scale.clone()))
    }
    fn sample(&self, purpose: &str, draws: &mut Draws) -> Tensor<2> {
        normal_sample(self.mean.clone(), self.scale.clone(), draws.normal(purpose, self.dims(), &self.device()))
    }
    fn deviation(&self) -> Option<Tensor<2>> {
        Some(self.scale.clone())
    }
    fn rsample(&self, noise: Tensor<3>) -> Option<Tensor<3>> {
        Some(reparameterise(self.mean.clone(), self.scale.clone(), noise))
    }
    fn rsample_with_choice(&self, noise: Tensor<2>) -> Option<(Tensor<2>, Option<Tensor<1>>)> {
        Some((normal_sample(self.mean.clone(), self.scale.clone(), noise), None))
    }
    /// Written in the noise, (z - mean) never has to be divided by a tiny scale.
    fn log_prob_of_noise(&self, noise: Tensor<3>) -> Result<Tensor<2>, Undefined> {
        let [batch, _] = self.dims();
        Ok(log_prob_of_noise(noise, self.scale.clone().log().sum_dim(1).reshape([batch])))
    }
    fn kl(&self, other: &dyn Distribution) -> Option<Tensor<1>> {
        if other.downcast::<StandardNormal>().is_some() {
            return Some(standard_normal_rate(self.mean.clone(), self.scale.clone()));
        }
        let [batch, _] = self.dims();
        let log_determinant = self.scale.clone().log().sum_dim(1).reshape([batch]);
        Some(kl_of_moments(self.mean.clone(), self.scale.clone(), log_determinant, other.as_normal()?))
    }
    fn as_normal(&self) -> Option<(Tensor<2>, Tensor<2>)> {
        Some((self.mean.clone(), self.scale.clone()))
    }
    fn repeat(&self, times: usize) -> Option<BoxedDistribution> {
        Some(Self { mean: repeat_rows(&self.mean, times), scale: repeat_rows(&self.scale, times) }.boxed())
    }
}

/// ln of the density at mean + L noise, `[samples, batch]`, from noise `[samples, batch, features]` and ln |det L| `[batch]`.
pub(crate) fn log_prob_of_noise(noise: Tensor<3>, log_determinant: Tensor<1>) -> Tensor<2> {
    let [samples, batch, features] = noise.dims();
    let quadratic = noise.powi_scalar(2).sum_dim(2).reshape([samples, batch]).mul_scalar(-0.5);
    quadratic - log_determinant.reshape([1, batch]) - features as f64 * HALF_LN_2PI
}

/// KL of a normal with these means, standard deviations and ln |det L| from independent normals, `[batch]`: the sum of
/// ln(prior scale) - ln det L + (variance + (mean - prior mean)^2) / (2 prior scale^2) - 1/2.
pub(crate) fn kl_of_moments(mean: Tensor<2>, scale: Tensor<2>, log_determinant: Tensor<1>, prior: (Tensor<2>, Tensor<2>)) -> Tensor<1> {
    let [batch, latent] = mean.dims();
    let (prior_mean, prior_scale) = prior;
    let precision = prior_scale.clone().recip();
    let distance = (mean - prior_mean) * precision.clone();
    let spread = scale * precision;
    let terms = (distance.powi_scalar(2) + spread.powi_scalar(2)).mul_scalar(0.5) + prior_scale.log();
    terms.sum_dim(1).reshape([batch]) - log_determinant - 0.5 * latent as f64
}

/// Independent normals with one standard deviation for all values.
#[derive(Clone, Debug)]
pub struct SharedScaleNormal {
    /// `[batch, features]`.
    pub mean: Tensor<2>,
    /// Standard deviation, `[1]`, positive.
    pub scale: Tensor<1>,
}

impl SharedScaleNormal {
    fn normal(&self) -> Normal {
        Normal { mean: self.mean.clone(), scale: self.scale.clone().reshape([1, 1]).expand(self.mean.dims()) }
    }
}

impl Distribution for SharedScaleNormal {
    fn family(&self) -> &'static str {
        "diagonal normal"
    }
    fn dims(&self) -> [usize; 2] {
        self.mean.dims()
    }
    fn device(&self) -> Device {
        self.mean.device()
    }
    fn support(&self) -> Support {
        Support::Real
    }
    fn mean(&self) -> Tensor<2> {
        self.mean.clone()
    }
    fn log_prob(&self, x: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        Ok(shared_normal_log_density(x, self.mean.clone(), self.scale.clone()))
    }
    fn sample(&self, purpose: &str, draws: &mut Draws) -> Tensor<2> {
        self.normal().sample(purpose, draws)
    }
    fn deviation(&self) -> Option<Tensor<2>> {
        self.normal().deviation()
    }
    fn rsample(&self, noise: Tensor<3>) -> Option<Tensor<3>> {
        self.normal().rsample(noise)
    }
    fn rsample_with_choice(&self, noise: Tensor<2>) -> Option<(Tensor<2>, Option<Tensor<1>>)> {
        self.normal().rsample_with_choice(noise)
    }
    fn log_prob_of_noise(&self, noise: Tensor<3>) -> Result<Tensor<2>, Undefined> {
        self.normal().log_prob_of_noise(noise)
    }
    fn kl(&self, other: &dyn Distribution) -> Option<Tensor<1>> {
        self.normal().kl(other)
    }
    fn as_normal(&self) -> Option<(Tensor<2>, Tensor<2>)> {
        self.normal().as_normal()
    }
    fn repeat(&self, times: usize) -> Option<BoxedDistribution> {
        Some(Self { mean: repeat_rows(&self.mean, times), scale: self.scale.clone() }.boxed())
    }
}

/// N(0, I).
#[derive(Clone, Debug)]
pub struct StandardNormal {
    dims: [usize; 2],
    device: Device,
}

impl StandardNormal {
    /// So many of them over so many features, `[batch, features]`.
    pub fn new(dims: [usize; 2], device: &Device) -> Self {
        Self { dims, device: device.clone() }
    }
}

impl Distribution for StandardNormal {
    fn family(&self) -> &'static str {
        "standard normal"
    }
    fn dims(&self) -> [usize; 2] {
        self.dims
    }
    fn device(&self) -> Device {
        self.device.clone()
    }
    fn support(&self) -> Support {
        Support::Real
    }
    fn mean(&self) -> Tensor<2> {
        Tensor::zeros(self.dims, &self.device)
    }
    fn log_prob(&self, x: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        let [batch, features] = x.dims();
        Ok(standard_normal_log_prob(x.reshape([1, batch, features])).reshape([batch]))
    }
    fn sample(&self, purpose: &str, draws: &mut Draws) -> Tensor<2> {
        draws.normal(purpose, self.dims, &self.device)
    }
    fn deviation(&self) -> Option<Tensor<2>> {
        Some(Tensor::ones(self.dims, &self.device))
    }
    fn rsample(&self, noise: Tensor<3>) -> Option<Tensor<3>> {
        Some(noise)
    }
    fn kl(&self, other: &dyn Distribution) -> Option<Tensor<1>> {
        if other.downcast::<Self>().is_some() {
            return Some(Tensor::zeros([self.dims[0]], &self.device));
        }
        let (mean, scale) = self.as_normal()?;
        Normal { mean, scale }.kl(other)
    }
    fn as_normal(&self) -> Option<(Tensor<2>, Tensor<2>)> {
        Some((self.mean(), Tensor::ones(self.dims, &self.device)))
    }
    fn repeat(&self, times: usize) -> Option<BoxedDistribution> {
        Some(Self { dims: [self.dims[0] * times, self.dims[1]], device: self.device.clone() }.boxed())
    }
}

/// N(0, scale^2 I), one for all values.
#[derive(Clone, Debug)]
pub struct CentredNormal {
    /// Number of features.
    pub features: usize,
    /// Standard deviation, positive.
    pub scale: f64,
    /// Where its tensors live.
    pub device: Device,
}

impl Distribution for CentredNormal {
    fn family(&self) -> &'static str {
        "diagonal normal"
    }
    /// One distribution.
    fn dims(&self) -> [usize; 2] {
        [1, self.features]
    }
    fn device(&self) -> Device {
        self.device.clone()
    }
    fn support(&self) -> Support {
        Support::Real
    }
    fn mean(&self) -> Tensor<2> {
        Tensor::zeros(self.dims(), &self.device)
    }
    fn log_prob(&self, x: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        Ok(centred_log_density(x, self.scale))
    }
    fn sample(&self, purpose: &str, draws: &mut Draws) -> Tensor<2> {
        draws.normal(purpose, self.dims(), &self.device).mul_scalar(self.scale)
    }
    fn deviation(&self) -> Option<Tensor<2>> {
        Some(Tensor::full(self.dims(), self.scale, &self.device))
    }
    fn as_normal(&self) -> Option<(Tensor<2>, Tensor<2>)> {
        Some((self.mean(), self.deviation()?))
    }
}

/// The normalised product of a bottom-up estimate and a prior, both independent normals: precisions add and means are weighted by them
/// (Sønderby et al. 2016, arXiv:1602.02282, equations 17 to 19). With variances v and V: variance v V / (v + V), mean
/// (mean V + prior mean v) / (v + V).
///
/// # Errors
/// [`Undefined::Product`] of other distributions.
pub fn product(estimate: &dyn Distribution, prior: &dyn Distribution) -> Result<Normal, Undefined> {
    let (Some((mean, scale)), Some((prior_mean, prior_scale))) = (estimate.as_normal(), prior.as_normal()) else {
        return Err(Undefined::Product { estimate: estimate.family(), prior: prior.family() });
    };
    let (v, prior_v) = (scale.clone().powi_scalar(2), prior_scale.clone().powi_scalar(2));
    let total = v.clone() + prior_v.clone();
    let mean = (mean * prior_v + prior_mean * v) / total.clone();
    Ok(Normal { mean, scale: scale * prior_scale / total.sqrt() })
}

/// ln N(x; mean, diag(scale^2)) in nats summed over features, `[batch]`; arguments `[batch, features]` (rows of 1 are repeated).
pub fn normal_log_prob(x: Tensor<2>, mean: Tensor<2>, scale: Tensor<2>) -> Tensor<1> {
    let shape = x.dims();
    let repeated = |rows: Tensor<2>| if rows.dims() == shape { rows } else { rows.expand(shape) };
    ibhost_kernels::normal_log_density(x, repeated(mean), repeated(scale))
}

/// ln N(z; 0, I) in nats for z `[samples, batch, latent]`, `[samples, batch]`.
pub fn standard_normal_log_prob(z: Tensor<3>) -> Tensor<2> {
    let [samples, batch, latent] = z.dims();
    z.powi_scalar(2).sum_dim(2).reshape([samples, batch]).mul_scalar(-0.5) - latent as f64 * HALF_LN_2PI
}
