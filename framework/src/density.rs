//! Distributions over inputs that a generator returns: log densities, means and samples; features are flattened to one row per sample.

use burn::tensor::Tensor;
use ibhost_kernels::shared_normal_log_density;
pub use ibhost_kernels::{centred_log_density, normal_sample};

use crate::logistic_mixture::LogisticMixture;
use crate::noise::Draws;
use crate::normal_mixture::NormalMixture;

/// Uniform draws of logistic variables stay this far from 0 and 1, whose quantiles are not finite.
const UNIFORM_MARGIN: f64 = 1e-5;
/// Width of a level of [`Density::Logistic256`].
const BIN: f64 = 1.0 / 256.0;

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
            Self::Logistic256 { mean, log_scale } => level_terms(x, mean.clone(), log_scale.clone()).sum_dim(1).reshape([batch]),
        }
    }

    /// ln of the probability of each value's level, `[batch, features]`, of logistic variables on 256 levels; nothing for any other
    /// distribution.
    pub fn logistic_terms(&self, x: Tensor<2>) -> Option<Tensor<2>> {
        match self {
            Self::Logistic256 { mean, log_scale } => Some(level_terms(x, mean.clone(), log_scale.clone())),
            _ => None,
        }
    }

    /// Means, `[batch, features]`: probabilities of Bernoulli variables; of mixtures of logistics the weighted centres of the components, cut
    /// to `[0, 1]` (see [`LogisticMixture::mean`]); of logistic variables on 256 levels the location, neither cut nor rounded.
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

    /// Samples that gradients flow through: mean + scale noise for normals; for Bernoulli variables the probabilities themselves, a relaxation
    /// and no draw (Livne et al. 2019; see [`Density::sample`]). Nothing for logistic variables and mixtures of them. Noise
    /// `[batch, features]` is standard normal; a mixture of normals takes one more column, which chooses the component (see
    /// [`NormalMixture::sample`]).
    pub fn reparameterised(&self, noise: Tensor<2>) -> Option<Tensor<2>> {
        Some(match self {
            Self::Normal { mean, scale } => normal_sample(mean.clone(), scale.clone(), noise),
            Self::SharedNormal { mean, scale } => {
                let scale = scale.clone().reshape([1, 1]).expand(mean.dims());
                normal_sample(mean.clone(), scale, noise)
            }
            Self::NormalMixture(mixture) => mixture.sample(noise).0,
            Self::Bernoulli { probabilities } | Self::GuardedBernoulli { probabilities, .. } => probabilities.clone(),
            Self::LogisticMixture(_) | Self::Logistic256 { .. } => return None,
        })
    }

    /// One draw of every distribution, `[batch, features]`, with noise for `purpose`: 0 or 1 of Bernoulli variables, `[0, 1]` of logistic
    /// ones and mixtures of them, the latter without their rounding to levels.
    pub fn sample(&self, purpose: &str, draws: &mut Draws) -> Tensor<2> {
        let [batch, features] = self.dims();
        let inside = |u: Tensor<3>| u.mul_scalar(1.0 - 2.0 * UNIFORM_MARGIN).add_scalar(UNIFORM_MARGIN);
        match self {
            Self::Normal { mean, scale } => {
                normal_sample(mean.clone(), scale.clone(), draws.normal(purpose, [batch, features], &mean.device()))
            }
            Self::SharedNormal { mean, scale } => {
                let scale = scale.clone().reshape([1, 1]).expand(mean.dims());
                normal_sample(mean.clone(), scale, draws.normal(purpose, [batch, features], &mean.device()))
            }
            Self::NormalMixture(mixture) => mixture.sample(draws.normal(purpose, [batch, features + 1], &mixture.mean.device())).0,
            Self::Bernoulli { probabilities } | Self::GuardedBernoulli { probabilities, .. } => {
                let uniform = draws.uniform(purpose, [batch, features], &probabilities.device());
                uniform.lower(probabilities.clone()).float().cast(probabilities.dtype())
            }
            Self::LogisticMixture(mixture) => {
                let device = mixture.parameters.device();
                let mut uniform =
                    |what: &str, last: usize| inside(draws.uniform(&format!("{purpose} {what}"), [batch, features / 3, last], &device));
                let component = uniform("component", mixture.components());
                mixture.sample(component, uniform("value", 3))
            }
            Self::Logistic256 { mean, log_scale } => {
                let u = inside(draws.uniform(purpose, [1, batch, features], &mean.device())).reshape([batch, features]);
                let logit = u.clone().log() - u.neg().add_scalar(1.0).log();
                let value = mean.clone() + log_scale.clone().exp() * logit;
                value.div_scalar(BIN).floor().mul_scalar(BIN).clamp(0.0, 1.0 - BIN)
            }
        }
    }

    /// Whether samples are discrete, so that gradients cannot flow through them.
    pub fn is_discrete(&self) -> bool {
        matches!(self, Self::Bernoulli { .. } | Self::GuardedBernoulli { .. })
    }
}

/// ln of the probability of the level of 256 that x lies on, for logistic variables.
fn level_terms(x: Tensor<2>, mean: Tensor<2>, log_scale: Tensor<2>) -> Tensor<2> {
    let scale = log_scale.exp();
    let low = (x.div_scalar(BIN).floor().mul_scalar(BIN) - mean) / scale.clone();
    let high = low.clone() + scale.recip().mul_scalar(BIN);
    let sigmoid = burn::tensor::activation::sigmoid::<2>;
    (sigmoid(high) - sigmoid(low)).add_scalar(1e-7).log()
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
    use crate::noise::Noise;
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
        assert_eq!(shared.reparameterised(t([1.0, -1.0])).unwrap().into_data().iter::<f64>().collect::<Vec<_>>(), [2.0, -1.0]);
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

    #[test]
    fn draws_of_every_family_lie_around_the_mean_and_only_normals_have_gradients_through_them() {
        let (device, count) = (Device::flex(), 4000);
        let column = |x: f32| Tensor::<2>::full([count, 1], x, &device);
        let values = |x: Tensor<2>| x.into_data().iter::<f64>().collect::<Vec<_>>();
        let mixture = NormalMixture {
            log_weights: Tensor::<2>::from_floats([[0.25f32.ln(), 0.75f32.ln()]], &device).expand([count, 2]),
            mean: Tensor::<3>::from_floats([[[-2.0], [2.0]]], &device).expand([count, 2, 1]),
            scale: Tensor::full([count, 2, 1], 0.5, &device),
        };
        for (density, spread, continuous) in [
            (Density::Normal { mean: column(1.0), scale: column(0.5) }, 0.5, true),
            (Density::SharedNormal { mean: column(-1.0), scale: Tensor::full([1], 0.5, &device) }, 0.5, true),
            (Density::NormalMixture(mixture), (3.0f64 + 0.25).sqrt(), true),
            (Density::Bernoulli { probabilities: column(0.3) }, 0.21f64.sqrt(), false),
            (Density::GuardedBernoulli { probabilities: column(0.8), guard: 1e-8 }, 0.4, false),
            (Density::Logistic256 { mean: column(0.5), log_scale: column(-4.0) }, std::f64::consts::PI / 3f64.sqrt() * (-4f64).exp(), true),
        ] {
            let sample = values(density.sample("test", &mut Draws::seeded(Noise::new(1), 0, "test")));
            let mean = values(density.mean())[0];
            let average = sample.iter().sum::<f64>() / f64::from(count);
            let deviation = (sample.iter().map(|x| (x - average).powi(2)).sum::<f64>() / f64::from(count)).sqrt();
            assert!((average - mean).abs() < 5.0 * spread / (f64::from(count)).sqrt() + BIN, "{density:?}: {average} {mean}");
            assert!((deviation / spread - 1.0).abs() < 0.1, "{density:?}: {deviation} {spread}");
            assert!(continuous || sample.iter().all(|x| *x == 0.0 || *x == 1.0), "a draw of binary values is binary");
        }
        let logistic = Density::Logistic256 { mean: column(0.5), log_scale: column(-4.0) };
        assert!(logistic.reparameterised(column(0.0)).is_none() && logistic.logistic_terms(column(0.5)).is_some());
        assert!(Density::Bernoulli { probabilities: column(0.5) }.logistic_terms(column(0.5)).is_none());
    }
}
