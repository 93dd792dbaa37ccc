//! Posterior distributions q(z|x) an encoder can return: sampling, density and rate against the standard normal prior.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use ibhost_kernels::{reparameterise, standard_normal_rate};

use crate::categorical::{
    Relaxation, categorical_divergence, one_hot_log_prob, one_hot_of_largest, relaxed_one_hot, uniform_from_normal, uniform_rate,
};
use crate::density::normal_log_prob;

const HALF_LN_2PI: f64 = 0.918_938_533_204_672_7;

/// A number that a distribution does not have, so that no other number may stand for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undefined {
    /// Density, or divergence from a density, of a point.
    #[error("a deterministic code has no density and no finite rate\n  hint: give the encoder a covariance (`cov:diag` or `cov:full`)")]
    Point,
    /// Divergence of a pair without a closed form.
    #[error("there is no closed form for the divergence of a {posterior} posterior from a {prior} prior")]
    Divergence {
        /// Family of the posterior.
        posterior: &'static str,
        /// Family of the prior.
        prior: &'static str,
    },
    /// Product of two distributions that are not both normal with a diagonal covariance.
    #[error("a ladder multiplies diagonal normals, not a {estimate} estimate with a {prior} prior")]
    Product {
        /// Family of the bottom-up estimate.
        estimate: &'static str,
        /// Family of the prior.
        prior: &'static str,
    },
    /// A prior that is defined by the other densities: it scores no code by itself, and none can be drawn from it.
    #[error("{0} is no density of its own: no code can be drawn from it or scored by it alone")]
    Prior(&'static str),
}

/// A batch of posteriors over `latent` dimensions.
#[derive(Clone, Debug)]
pub enum Posterior {
    /// Deterministic code, `[batch, latent]`.
    Point {
        /// The code.
        mean: Tensor<2>,
    },
    /// N(mean, diag(scale^2)).
    Diagonal {
        /// `[batch, latent]`.
        mean: Tensor<2>,
        /// Standard deviations, `[batch, latent]`, positive.
        scale: Tensor<2>,
    },
    /// N(mean, L L^T).
    Full {
        /// `[batch, latent]`.
        mean: Tensor<2>,
        /// Lower-triangular Cholesky factor L, `[batch, latent, latent]`, positive diagonal.
        cholesky: Tensor<3>,
    },
    /// One of `latent` classes, as a one-hot vector or a relaxed one.
    Categorical {
        /// Unnormalised ln probabilities, `[batch, latent]`.
        logits: Tensor<2>,
        /// How samples are drawn.
        relaxation: Relaxation,
    },
}

impl Posterior {
    /// Mean of each posterior, `[batch, latent]`; the most probable class of a categorical one.
    pub fn mean(&self) -> Tensor<2> {
        match self {
            Self::Point { mean } | Self::Diagonal { mean, .. } | Self::Full { mean, .. } => mean.clone(),
            Self::Categorical { logits, .. } => one_hot_of_largest(logits.clone()),
        }
    }

    /// Number of posteriors and of latent dimensions.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Categorical { logits, .. } => logits.dims(),
            _ => self.mean().dims(),
        }
    }

    /// Mean and standard deviation of every latent dimension by itself, `[batch, latent]` each; the deviation of a point is 0, the mean of
    /// a categorical posterior is its most probable class.
    pub fn normal(&self) -> (Tensor<2>, Tensor<2>) {
        let mean = self.mean();
        let scale = match self {
            Self::Point { mean } => mean.zeros_like(),
            Self::Diagonal { scale, .. } => scale.clone(),
            Self::Full { cholesky, .. } => cholesky.clone().powi_scalar(2).sum_dim(2).reshape(mean.dims()).sqrt(),
            Self::Categorical { logits, .. } => {
                let q = softmax(logits.clone(), 1);
                (q.clone() * q.neg().add_scalar(1.0)).sqrt()
            }
        };
        (mean, scale)
    }

    /// The normalised product of this bottom-up estimate and `prior`, both diagonal normals: precisions add and means are weighted by them
    /// (Sønderby et al. 2016, arXiv:1602.02282, equations 17 to 19). With variances v and V: variance v V / (v + V), mean
    /// (mean V + prior mean v) / (v + V).
    ///
    /// # Errors
    /// [`Undefined::Product`] of other distributions.
    pub fn combined(&self, prior: &Self) -> Result<Self, Undefined> {
        let (Some((mean, scale)), Some((prior_mean, prior_scale))) = (self.as_diagonal(), prior.as_diagonal()) else {
            return Err(Undefined::Product { estimate: self.family(), prior: prior.family() });
        };
        let (v, prior_v) = (scale.clone().powi_scalar(2), prior_scale.clone().powi_scalar(2));
        let total = v.clone() + prior_v.clone();
        let mean = (mean.clone() * prior_v + prior_mean.clone() * v) / total.clone();
        Ok(Self::Diagonal { mean, scale: scale.clone() * prior_scale.clone() / total.sqrt() })
    }

    /// What kind of distribution it is, in words.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Point { .. } => "deterministic",
            Self::Diagonal { .. } => "diagonal normal",
            Self::Full { .. } => "full-covariance normal",
            Self::Categorical { .. } => "categorical",
        }
    }

    /// Means and standard deviations of a normal with a diagonal covariance; nothing for any other distribution.
    pub fn as_diagonal(&self) -> Option<(&Tensor<2>, &Tensor<2>)> {
        match self {
            Self::Diagonal { mean, scale } => Some((mean, scale)),
            Self::Point { .. } | Self::Full { .. } | Self::Categorical { .. } => None,
        }
    }

    /// Whether codes are random.
    pub fn is_stochastic(&self) -> bool {
        !matches!(self, Self::Point { .. })
    }

    /// Covariance matrices, `[batch, latent, latent]` (zero for a point).
    pub fn covariance(&self) -> Tensor<3> {
        let [batch, latent] = self.dims();
        match self {
            Self::Point { mean } => Tensor::zeros([batch, latent, latent], &mean.device()),
            Self::Diagonal { mean, scale } => {
                let eye = Tensor::<2>::eye(latent, &mean.device()).reshape([1, latent, latent]);
                scale.clone().powi_scalar(2).reshape([batch, latent, 1]) * eye
            }
            Self::Full { cholesky, .. } => cholesky.clone().matmul(cholesky.clone().swap_dims(1, 2)),
            Self::Categorical { logits, .. } => {
                let q = softmax(logits.clone(), 1);
                let eye = Tensor::<2>::eye(latent, &q.device()).reshape([1, latent, latent]);
                let outer = q.clone().reshape([batch, latent, 1]) * q.clone().reshape([batch, 1, latent]);
                q.reshape([batch, latent, 1]) * eye - outer
            }
        }
    }

    /// Reparameterised samples z = mean + L noise for standard normal `noise` `[samples, batch, latent]`; same shape. Categorical ones are
    /// (relaxed) one-hot vectors, from the uniform variables with the noise's quantiles.
    pub fn sample(&self, noise: Tensor<3>) -> Tensor<3> {
        let [batch, latent] = self.dims();
        let samples = noise.dims()[0];
        match self {
            Self::Point { mean } => mean.clone().reshape([1, batch, latent]).expand([samples, batch, latent]),
            Self::Diagonal { mean, scale } => reparameterise(mean.clone(), scale.clone(), noise),
            Self::Full { mean, cholesky } => {
                let spread = cholesky.clone().matmul(noise.permute([1, 2, 0])).permute([2, 0, 1]);
                spread + mean.clone().reshape([1, batch, latent])
            }
            Self::Categorical { logits, relaxation } => {
                let logits = logits.clone().reshape([1, batch, latent]).expand([samples, batch, latent]);
                relaxed_one_hot(logits, uniform_from_normal(noise), *relaxation)
            }
        }
    }

    /// ln q(z|x) in nats at the samples that `noise` `[samples, batch, latent]` gives, `[samples, batch]`.
    ///
    /// Written in the noise, (z - mean) never has to be divided by a tiny scale.
    ///
    /// # Errors
    /// [`Undefined::Point`] of a deterministic code.
    pub fn log_prob_of_noise(&self, noise: Tensor<3>) -> Result<Tensor<2>, Undefined> {
        let [samples, batch, latent] = noise.dims();
        if let Self::Categorical { logits, relaxation } = self {
            let hard = Self::Categorical { logits: logits.clone(), relaxation: Relaxation { hard: true, ..*relaxation } };
            let codes = hard.sample(noise).reshape([samples * batch, latent]);
            let logits = logits.clone().reshape([1, batch, latent]).expand([samples, batch, latent]).reshape([samples * batch, latent]);
            return Ok(one_hot_log_prob(codes, logits).reshape([samples, batch]));
        }
        let quadratic = noise.powi_scalar(2).sum_dim(2).reshape([samples, batch]).mul_scalar(-0.5);
        Ok(quadratic - self.log_determinant()?.reshape([1, batch]) - latent as f64 * HALF_LN_2PI)
    }

    /// ln q(z|x) in nats at any codes `[batch, latent]`, `[batch]`.
    ///
    /// # Errors
    /// [`Undefined::Point`] of a deterministic code.
    pub fn log_prob(&self, codes: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        Ok(match self {
            Self::Categorical { logits, .. } => one_hot_log_prob(codes, logits.clone()),
            Self::Point { .. } => return Err(Undefined::Point),
            Self::Diagonal { mean, scale } => normal_log_prob(codes, mean.clone(), scale.clone()),
            Self::Full { mean, cholesky } => {
                let [batch, latent] = codes.dims();
                let noise = forward_substitution(cholesky.clone(), codes - mean.clone());
                self.log_prob_of_noise(noise.reshape([1, batch, latent]))?.reshape([batch])
            }
        })
    }

    /// KL(self || prior) in nats, `[batch]`. Of a normal posterior from a prior of independent normals the sum of
    /// ln(prior scale) - ln det L + (variance + (mean - prior mean)^2) / (2 prior scale^2) - 1/2; of a categorical one from a categorical
    /// prior the sum of q (ln q - ln p).
    ///
    /// # Errors
    /// [`Undefined`] of a point and of any other pair.
    pub fn divergence(&self, prior: &Self) -> Result<Tensor<1>, Undefined> {
        let [batch, latent] = self.dims();
        match (self, prior) {
            (Self::Point { .. }, _) => Err(Undefined::Point),
            (Self::Categorical { logits, .. }, Self::Categorical { logits: prior, .. }) => {
                Ok(categorical_divergence(logits.clone(), prior.clone()))
            }
            (Self::Diagonal { .. } | Self::Full { .. }, Self::Diagonal { mean: prior_mean, scale: prior_scale }) => {
                let (mean, scale) = self.normal();
                let precision = prior_scale.clone().recip();
                let distance = (mean - prior_mean.clone()) * precision.clone();
                let spread = scale * precision;
                let terms = (distance.powi_scalar(2) + spread.powi_scalar(2)).mul_scalar(0.5) + prior_scale.clone().log();
                Ok(terms.sum_dim(1).reshape([batch]) - self.log_determinant()? - 0.5 * latent as f64)
            }
            _ => Err(Undefined::Divergence { posterior: self.family(), prior: prior.family() }),
        }
    }

    /// ln |det L| of a normal, `[batch]`; 0 for a categorical posterior, whose codes are counted.
    fn log_determinant(&self) -> Result<Tensor<1>, Undefined> {
        let [batch, _] = self.dims();
        match self {
            Self::Point { .. } => Err(Undefined::Point),
            Self::Categorical { logits, .. } => Ok(Tensor::zeros([batch], &logits.device())),
            Self::Diagonal { scale, .. } => Ok(scale.clone().log().sum_dim(1).reshape([batch])),
            Self::Full { cholesky, .. } => Ok(diagonal(cholesky.clone()).log().sum_dim(1).reshape([batch])),
        }
    }

    /// Rate KL(q(z|x) || N(0, I)) in nats, `[batch]`: (|L|_F^2 + |mean|^2 - latent)/2 - ln det L. A categorical posterior is charged against
    /// the uniform distribution.
    ///
    /// # Errors
    /// [`Undefined::Point`] of a deterministic code, whose rate is not finite.
    pub fn rate(&self) -> Result<Tensor<1>, Undefined> {
        let [batch, latent] = self.dims();
        Ok(match self {
            Self::Point { .. } => return Err(Undefined::Point),
            Self::Diagonal { mean, scale } => standard_normal_rate(mean.clone(), scale.clone()),
            Self::Full { mean, cholesky } => {
                let energy = mean.clone().powi_scalar(2).sum_dim(1).reshape([batch]);
                let spread = cholesky.clone().powi_scalar(2).reshape([batch, latent * latent]).sum_dim(1).reshape([batch]);
                (energy + spread - latent as f64).mul_scalar(0.5) - self.log_determinant()?
            }
            Self::Categorical { logits, .. } => uniform_rate(logits.clone()),
        })
    }
}

/// The solutions of L x = b for lower-triangular L `[batch, n, n]` and b `[batch, n]`, `[batch, n]`.
fn forward_substitution(cholesky: Tensor<3>, b: Tensor<2>) -> Tensor<2> {
    let [batch, n] = b.dims();
    let mut solved: Vec<Tensor<2>> = Vec::with_capacity(n);
    for i in 0..n {
        let row = cholesky.clone().narrow(1, i, 1).reshape([batch, n]);
        let mut rest = b.clone().narrow(1, i, 1);
        if i > 0 {
            rest = rest - (row.clone().narrow(1, 0, i) * Tensor::cat(solved.clone(), 1)).sum_dim(1);
        }
        solved.push(rest / row.narrow(1, i, 1));
    }
    Tensor::cat(solved, 1)
}

/// ln N(z; 0, I) in nats for z `[samples, batch, latent]`, `[samples, batch]`.
pub fn standard_normal_log_prob(z: Tensor<3>) -> Tensor<2> {
    let [samples, batch, latent] = z.dims();
    z.powi_scalar(2).sum_dim(2).reshape([samples, batch]).mul_scalar(-0.5) - latent as f64 * HALF_LN_2PI
}

/// Diagonals of square matrices, `[batch, n, n]` to `[batch, n]`.
pub fn diagonal(matrices: Tensor<3>) -> Tensor<2> {
    let [batch, n, _] = matrices.dims();
    let index = Tensor::<1, burn::tensor::Int>::arange(0..n as i64, &matrices.device()).mul_scalar(n as i64 + 1);
    matrices.reshape([batch, n * n]).select(1, index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn diagonal_and_full_agree_where_they_describe_the_same_distribution() {
        let device = Device::flex();
        let mean = Tensor::<2>::from_floats([[0.3, -1.0], [2.0, 0.1]], &device);
        let scale = Tensor::<2>::from_floats([[0.5, 1.5], [0.2, 1.0]], &device);
        let diagonal = Posterior::Diagonal { mean: mean.clone(), scale: scale.clone() };
        let cholesky = scale.reshape([2, 2, 1]) * Tensor::<2>::eye(2, &device).reshape([1, 2, 2]);
        let full = Posterior::Full { mean, cholesky };
        let noise = Tensor::<3>::from_floats([[[0.1, -0.2], [1.0, 0.4]], [[0.0, 2.0], [-1.0, 0.3]]], &device);
        for (a, b) in [
            (values(diagonal.rate().unwrap()), values(full.rate().unwrap())),
            (values(diagonal.sample(noise.clone())), values(full.sample(noise.clone()))),
            (values(diagonal.log_prob_of_noise(noise.clone()).unwrap()), values(full.log_prob_of_noise(noise).unwrap())),
            (values(diagonal.covariance()), values(full.covariance())),
        ] {
            assert_eq!(a.len(), b.len());
            assert!(a.iter().zip(&b).all(|(x, y)| (x - y).abs() < 1e-5), "{a:?} {b:?}");
        }
    }

    #[test]
    fn densities_at_codes_are_those_of_the_noise_that_leads_there() {
        let device = Device::flex();
        let mean = Tensor::<2>::from_floats([[0.3, -1.0, 0.5]], &device);
        let scale = Tensor::<2>::from_floats([[0.5, 1.5, 0.7]], &device);
        let cholesky = Tensor::<3>::from_floats([[[0.5, 0.0, 0.0], [0.3, 1.2, 0.0], [-0.4, 0.2, 0.9]]], &device);
        let logits = Tensor::<2>::from_floats([[0.5, -0.2, 0.1]], &device);
        let relaxation = Relaxation { temperature: 0.4, hard: true };
        let noise = Tensor::<3>::from_floats([[[0.1, -0.2, 1.0]]], &device);
        for posterior in [
            Posterior::Diagonal { mean: mean.clone(), scale },
            Posterior::Full { mean, cholesky },
            Posterior::Categorical { logits, relaxation },
        ] {
            let codes = posterior.sample(noise.clone()).reshape([1, 3]);
            let found = values(posterior.log_prob(codes).unwrap())[0];
            let expected = values(posterior.log_prob_of_noise(noise.clone()).unwrap())[0];
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn the_divergence_from_the_standard_normal_is_the_rate() {
        let device = Device::flex();
        let mean = Tensor::<2>::from_floats([[0.3, -1.0]], &device);
        let prior = Posterior::Diagonal { mean: mean.zeros_like(), scale: mean.ones_like() };
        let cholesky = Tensor::<3>::from_floats([[[0.5, 0.0], [0.3, 1.2]]], &device);
        for posterior in
            [Posterior::Diagonal { scale: mean.ones_like().mul_scalar(0.6), mean: mean.clone() }, Posterior::Full { mean, cholesky }]
        {
            let (found, expected) = (values(posterior.divergence(&prior).unwrap())[0], values(posterior.rate().unwrap())[0]);
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn rate_is_zero_at_the_prior_and_matches_a_hand_computed_value() {
        let device = Device::flex();
        let prior = Posterior::Diagonal { mean: Tensor::zeros([1, 3], &device), scale: Tensor::ones([1, 3], &device) };
        assert!(values(prior.rate().unwrap())[0].abs() < 1e-6);
        let q = Posterior::Diagonal { mean: Tensor::from_floats([[1.0]], &device), scale: Tensor::from_floats([[0.5]], &device) };
        assert!((values(q.rate().unwrap())[0] - (0.5 * (1.0 + 0.25 - 1.0) + 2f32.ln())).abs() < 1e-6);
    }

    #[test]
    fn a_point_has_no_density_and_no_rate() {
        let device = Device::flex();
        let mean = Tensor::<2>::from_floats([[0.3, -1.0]], &device);
        let (point, normal) =
            (Posterior::Point { mean: mean.clone() }, Posterior::Diagonal { scale: mean.ones_like(), mean: mean.clone() });
        assert_eq!(point.log_prob(mean.clone()).unwrap_err(), Undefined::Point);
        assert_eq!(point.log_prob_of_noise(mean.clone().reshape([1, 1, 2])).unwrap_err(), Undefined::Point);
        assert_eq!(point.rate().unwrap_err(), Undefined::Point);
        assert_eq!(point.divergence(&normal).unwrap_err(), Undefined::Point);
        assert!(Undefined::Point.to_string().contains("cov:diag"), "{}", Undefined::Point);
        // Neither may one stand in for a prior.
        assert_eq!(normal.divergence(&point).unwrap_err(), Undefined::Divergence { posterior: "diagonal normal", prior: "deterministic" });
        assert_eq!(point.combined(&normal).unwrap_err(), Undefined::Product { estimate: "deterministic", prior: "diagonal normal" });
    }

    #[test]
    fn categorical_posteriors_are_charged_against_the_prior_they_are_given() {
        let device = Device::flex();
        let relaxation = Relaxation { temperature: 0.4, hard: true };
        let categorical = |logits: [f32; 3]| Posterior::Categorical { logits: Tensor::<2>::from_floats([logits], &device), relaxation };
        // Shares 1/2, 1/4, 1/4 from 1/4, 1/4, 1/2: ln 2 / 2 - ln 2 / 4.
        let (q, p) = (categorical([2f32.ln(), 0.0, 0.0]), categorical([0.0, 0.0, 2f32.ln()]));
        assert!((values(q.divergence(&p).unwrap())[0] - 0.25 * 2f32.ln()).abs() < 1e-6);
        assert!(values(q.divergence(&q).unwrap())[0].abs() < 1e-6);
        let uniform = categorical([0.7, 0.7, 0.7]);
        assert!((values(q.divergence(&uniform).unwrap())[0] - values(q.rate().unwrap())[0]).abs() < 1e-6);
        let mean = Tensor::<2>::from_floats([[0.0, 0.0, 0.0]], &device);
        let normal = Posterior::Diagonal { scale: mean.ones_like(), mean };
        assert_eq!(q.divergence(&normal).unwrap_err(), Undefined::Divergence { posterior: "categorical", prior: "diagonal normal" });
        assert_eq!(normal.divergence(&q).unwrap_err(), Undefined::Divergence { posterior: "diagonal normal", prior: "categorical" });
        assert!(q.as_diagonal().is_none() && normal.as_diagonal().is_some());
    }
}
