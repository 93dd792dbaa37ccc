//! Distributions over inputs that a generator returns: log densities, means and samples; features are flattened to one row per sample.

use burn::tensor::Tensor;
use ibhost_kernels::shared_normal_log_density;
pub use ibhost_kernels::{centred_log_density, normal_sample};

use crate::logistic_mixture::LogisticMixture;
use crate::normal_mixture::NormalMixture;

/// A batch of distributions over `features` values.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // All are a few tensor handles, of which a step makes a handful.
pub enum Density {
    /// Independent normals.
    Normal {
        /// `[batch, features]`.
        mean: Tensor<2>,
        /// Standard deviations, `[batch, features]`, positive.
        scale: Tensor<2>,
    },
    /// Independent normals with one standard deviation for all values.
    SharedNormal {
        /// `[batch, features]`.
        mean: Tensor<2>,
        /// Standard deviation, `[1]`, positive.
        scale: Tensor<1>,
    },
    /// Mixtures of normals with diagonal covariance.
    NormalMixture(NormalMixture),
    /// Independent Bernoulli variables.
    Bernoulli {
        /// P(x = 1), `[batch, features]`, away from 0 and 1 by what the caller chose.
        probabilities: Tensor<2>,
    },
    /// Independent Bernoulli variables whose probabilities may be exactly 0 and 1.
    GuardedBernoulli {
        /// P(x = 1), `[batch, features]`.
        probabilities: Tensor<2>,
        /// Added to the probabilities of both values below the logarithm.
        guard: f64,
    },
    /// Mixtures of discretised logistic distributions over the colours of each pixel of images in `[0, 1]`.
    LogisticMixture(LogisticMixture),
    /// Independent logistic variables rounded down to 256 levels in `[0, 1)` (Kingma et al. 2016).
    Logistic256 {
        /// `[batch, features]`.
        mean: Tensor<2>,
        /// ln of the scale, `[batch, features]`.
        log_scale: Tensor<2>,
    },
}

impl Density {
    /// ln of the density in nats, summed over features, `[batch]`; x `[batch, features]`. Bernoulli variables may be soft.
    pub fn log_prob(&self, x: Tensor<2>) -> Tensor<1> {
        let [batch, _] = x.dims();
        match self {
            Self::Normal { mean, scale } => normal_log_prob(x, mean.clone(), scale.clone()),
            Self::SharedNormal { mean, scale } => shared_normal_log_density(x, mean.clone(), scale.clone()),
            Self::NormalMixture(mixture) => mixture.log_prob(x),
            Self::Bernoulli { probabilities } => {
                let off = probabilities.clone().neg().add_scalar(1.0).log();
                // One product fewer than x ln p + (1 - x) ln(1 - p).
                (x * (probabilities.clone().log() - off.clone()) + off).sum_dim(1).reshape([batch])
            }
            Self::GuardedBernoulli { probabilities, guard } => {
                // In two steps: in single precision 1 + guard is 1, and the probability 1 would have no logarithm.
                let off = probabilities.clone().neg().add_scalar(1.0).add_scalar(*guard).log();
                (x * (probabilities.clone().add_scalar(*guard).log() - off.clone()) + off).sum_dim(1).reshape([batch])
            }
            Self::LogisticMixture(mixture) => mixture.log_prob(x),
            Self::Logistic256 { .. } => self.logistic_terms(x).sum_dim(1).reshape([batch]),
        }
    }

    /// ln of the probability of each value's level, `[batch, features]`; zeros unless the distribution is discretised.
    pub fn logistic_terms(&self, x: Tensor<2>) -> Tensor<2> {
        let Self::Logistic256 { mean, log_scale } = self else { return x.zeros_like() };
        let bin = 1.0 / 256.0;
        let scale = log_scale.clone().exp();
        let low = (x.div_scalar(bin).floor().mul_scalar(bin) - mean.clone()) / scale.clone();
        let high = low.clone() + scale.recip().mul_scalar(bin);
        let sigmoid = burn::tensor::activation::sigmoid::<2>;
        (sigmoid(high) - sigmoid(low)).add_scalar(1e-7).log()
    }

    /// Means, `[batch, features]`.
    pub fn mean(&self) -> Tensor<2> {
        match self {
            Self::Normal { mean, .. } | Self::SharedNormal { mean, .. } | Self::Logistic256 { mean, .. } => mean.clone(),
            Self::Bernoulli { probabilities } | Self::GuardedBernoulli { probabilities, .. } => probabilities.clone(),
            Self::LogisticMixture(mixture) => mixture.mean(),
            Self::NormalMixture(mixture) => mixture.mean(),
        }
    }

    /// Number of distributions and of features.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::LogisticMixture(mixture) => mixture.dims(),
            Self::NormalMixture(mixture) => mixture.dims(),
            _ => self.mean().dims(),
        }
    }

    /// Samples that gradients flow through: mean + scale noise for normals; the probabilities themselves for Bernoulli variables and the
    /// means for logistic ones and mixtures of them, which have no such samples. Noise `[batch, features]` is standard normal; a mixture of
    /// normals takes one more column, which chooses the component (see [`NormalMixture::sample`]).
    pub fn reparameterised(&self, noise: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Normal { mean, scale } => normal_sample(mean.clone(), scale.clone(), noise),
            Self::SharedNormal { mean, scale } => {
                let scale = scale.clone().reshape([1, 1]).expand(mean.dims());
                normal_sample(mean.clone(), scale, noise)
            }
            Self::NormalMixture(mixture) => mixture.sample(noise).0,
            Self::Bernoulli { .. } | Self::GuardedBernoulli { .. } | Self::LogisticMixture(_) | Self::Logistic256 { .. } => self.mean(),
        }
    }

    /// Whether samples are discrete, so that gradients cannot flow through them.
    pub fn is_discrete(&self) -> bool {
        matches!(self, Self::Bernoulli { .. } | Self::GuardedBernoulli { .. })
    }
}

/// ln N(x; mean, diag(scale^2)) in nats summed over features, `[batch]`; arguments `[batch, features]` (rows of 1 are repeated).
pub fn normal_log_prob(x: Tensor<2>, mean: Tensor<2>, scale: Tensor<2>) -> Tensor<1> {
    let shape = x.dims();
    let repeated = |rows: Tensor<2>| if rows.dims() == shape { rows } else { rows.expand(shape) };
    ibhost_kernels::normal_log_density(x, repeated(mean), repeated(scale))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn value(x: Tensor<1>) -> f64 {
        x.into_data().iter::<f64>().next().unwrap()
    }

    #[test]
    fn densities_match_hand_computed_values() {
        let device = Device::flex();
        let t = |v: [f32; 2]| Tensor::<2>::from_floats([v], &device);
        let normal = Density::Normal { mean: t([0.0, 1.0]), scale: t([1.0, 2.0]) };
        let expected = -0.5 * (0.25 + 1.0) - 2f64.ln() - (2.0 * std::f64::consts::PI).ln();
        assert!((value(normal.log_prob(t([0.5, 3.0]))) - expected).abs() < 1e-6);
        let shared = Density::SharedNormal { mean: t([0.0, 1.0]), scale: Tensor::from_floats([2.0], &device) };
        let expected = -0.5 * (0.0625 + 1.0) - 2.0 * 2f64.ln() - (2.0 * std::f64::consts::PI).ln();
        assert!((value(shared.log_prob(t([0.5, 3.0]))) - expected).abs() < 1e-6);
        assert_eq!(shared.reparameterised(t([1.0, -1.0])).into_data().iter::<f64>().collect::<Vec<_>>(), [2.0, -1.0]);
        let bernoulli = Density::Bernoulli { probabilities: t([0.25, 0.5]) };
        assert!((value(bernoulli.log_prob(t([1.0, 0.0]))) - (0.125f64).ln()).abs() < 1e-6);
        let certain = Density::GuardedBernoulli { probabilities: t([1.0, 0.25]), guard: 1e-3 };
        assert!((value(certain.log_prob(t([0.0, 1.0]))) - (1e-3f64.ln() + 0.251f64.ln())).abs() < 1e-3);
        let guarded = Density::GuardedBernoulli { probabilities: t([1.0, 0.0]), guard: 1e-8 };
        assert!(value(guarded.log_prob(t([1.0, 0.0]))).abs() < 1e-6);
        assert!((value(guarded.log_prob(t([0.0, 1.0]))) - 2.0 * 1e-8f64.ln()).abs() < 1e-4);
        assert!((value(bernoulli.log_prob(t([0.5, 1.0]))) - (0.5 * (0.25f64 * 0.75).ln() + 0.5f64.ln())).abs() < 1e-6);
    }

    #[test]
    fn the_levels_of_a_logistic_variable_sum_to_almost_one() {
        let device = Device::flex();
        let levels = Tensor::<1, burn::tensor::Int>::arange(0..256, &device).float().div_scalar(256.0).reshape([256, 1]);
        let at = |x: f32| Tensor::<2>::full([256, 1], x, &device);
        let density = Density::Logistic256 { mean: at(0.5), log_scale: at(-4.0) };
        let total: f64 = density.log_prob(levels).exp().into_data().iter::<f64>().sum();
        assert!((total - 1.0).abs() < 1e-3, "{total}");
    }
}
