//! Posterior distributions q(z|x) an encoder can return: sampling, density and rate against the standard normal prior.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use ibhost_kernels::{reparameterise, standard_normal_rate};

use crate::categorical::{Relaxation, one_hot_log_prob, one_hot_of_largest, relaxed_one_hot, uniform_from_normal, uniform_rate};
use crate::density::normal_log_prob;

const HALF_LN_2PI: f64 = 0.918_938_533_204_672_7;

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

    /// The normalised product of this bottom-up estimate and `prior`, both taken as diagonal normals: precisions add and means are weighted
    /// by them (Sønderby et al. 2016, arXiv:1602.02282, equations 17 to 19). With variances v and V: variance v V / (v + V), mean
    /// (mean V + prior mean v) / (v + V).
    #[must_use]
    pub fn combined(&self, prior: &Self) -> Self {
        let ((mean, scale), (prior_mean, prior_scale)) = (self.normal(), prior.normal());
        let (v, prior_v) = (scale.clone().powi_scalar(2), prior_scale.clone().powi_scalar(2));
        let total = v.clone() + prior_v.clone();
        let mean = (mean * prior_v + prior_mean * v) / total.clone();
        Self::Diagonal { mean, scale: scale * prior_scale / total.sqrt() }
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
    pub fn log_prob_of_noise(&self, noise: Tensor<3>) -> Tensor<2> {
        let [samples, batch, latent] = noise.dims();
        if let Self::Categorical { logits, relaxation } = self {
            let hard = Self::Categorical { logits: logits.clone(), relaxation: Relaxation { hard: true, ..*relaxation } };
            let codes = hard.sample(noise).reshape([samples * batch, latent]);
            let logits = logits.clone().reshape([1, batch, latent]).expand([samples, batch, latent]).reshape([samples * batch, latent]);
            return one_hot_log_prob(codes, logits).reshape([samples, batch]);
        }
        let quadratic = noise.powi_scalar(2).sum_dim(2).reshape([samples, batch]).mul_scalar(-0.5);
        quadratic - self.log_determinant().reshape([1, batch]) - latent as f64 * HALF_LN_2PI
    }

    /// ln q(z|x) in nats at any codes `[batch, latent]`, `[batch]`; a point counts as the standard normal around it.
    pub fn log_prob(&self, codes: Tensor<2>) -> Tensor<1> {
        match self {
            Self::Categorical { logits, .. } => one_hot_log_prob(codes, logits.clone()),
            Self::Point { mean } => normal_log_prob(codes, mean.clone(), mean.ones_like()),
            Self::Diagonal { mean, scale } => normal_log_prob(codes, mean.clone(), scale.clone()),
            Self::Full { mean, cholesky } => {
                let [batch, latent] = codes.dims();
                let noise = forward_substitution(cholesky.clone(), codes - mean.clone());
                self.log_prob_of_noise(noise.reshape([1, batch, latent])).reshape([batch])
            }
        }
    }

    /// KL(self || prior) in nats, `[batch]`, for a prior of independent normals: sum of
    /// ln(prior scale) - ln det L + (variance + (mean - prior mean)^2) / (2 prior scale^2) - 1/2. A categorical posterior is charged against
    /// the uniform distribution whatever the prior.
    pub fn divergence(&self, prior: &Self) -> Tensor<1> {
        if let Self::Categorical { .. } = self {
            return self.rate();
        }
        let [batch, latent] = self.dims();
        let ((mean, scale), (prior_mean, prior_scale)) = (self.normal(), prior.normal());
        let precision = prior_scale.clone().recip();
        let distance = (mean - prior_mean) * precision.clone();
        let spread = scale * precision;
        let terms = (distance.powi_scalar(2) + spread.powi_scalar(2)).mul_scalar(0.5) + prior_scale.log();
        terms.sum_dim(1).reshape([batch]) - self.log_determinant() - 0.5 * latent as f64
    }

    /// ln |det L|, `[batch]`; 0 for a point and for a categorical posterior.
    fn log_determinant(&self) -> Tensor<1> {
        let [batch, _] = self.dims();
        match self {
            Self::Point { mean: like } | Self::Categorical { logits: like, .. } => Tensor::zeros([batch], &like.device()),
            Self::Diagonal { scale, .. } => scale.clone().log().sum_dim(1).reshape([batch]),
            Self::Full { cholesky, .. } => diagonal(cholesky.clone()).log().sum_dim(1).reshape([batch]),
        }
    }

    /// Rate KL(q(z|x) || N(0, I)) in nats, `[batch]`: (|L|_F^2 + |mean|^2 - latent)/2 - ln det L.
    ///
    /// A point has no finite rate; it returns |mean|^2/2, the distortion of its code under the prior. A categorical posterior is charged
    /// against the uniform distribution.
    pub fn rate(&self) -> Tensor<1> {
        let [batch, latent] = self.dims();
        let energy = |mean: &Tensor<2>| mean.clone().powi_scalar(2).sum_dim(1).reshape([batch]);
        match self {
            Self::Point { mean } => energy(mean).mul_scalar(0.5),
            Self::Diagonal { mean, scale } => standard_normal_rate(mean.clone(), scale.clone()),
            Self::Full { mean, cholesky } => {
                let spread = cholesky.clone().powi_scalar(2).reshape([batch, latent * latent]).sum_dim(1).reshape([batch]);
                (energy(mean) + spread - latent as f64).mul_scalar(0.5) - self.log_determinant()
            }
            Self::Categorical { logits, .. } => uniform_rate(logits.clone()),
        }
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
            (values(diagonal.rate()), values(full.rate())),
            (values(diagonal.sample(noise.clone())), values(full.sample(noise.clone()))),
            (values(diagonal.log_prob_of_noise(noise.clone())), values(full.log_prob_of_noise(noise))),
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
            let (found, expected) = (values(posterior.log_prob(codes))[0], values(posterior.log_prob_of_noise(noise.clone()))[0]);
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
            let (found, expected) = (values(posterior.divergence(&prior))[0], values(posterior.rate())[0]);
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn rate_is_zero_at_the_prior_and_matches_a_hand_computed_value() {
        let device = Device::flex();
        let prior = Posterior::Diagonal { mean: Tensor::zeros([1, 3], &device), scale: Tensor::ones([1, 3], &device) };
        assert!(values(prior.rate())[0].abs() < 1e-6);
        let q = Posterior::Diagonal { mean: Tensor::from_floats([[1.0]], &device), scale: Tensor::from_floats([[0.5]], &device) };
        assert!((values(q.rate())[0] - (0.5 * (1.0 + 0.25 - 1.0) + 2f32.ln())).abs() < 1e-6);
    }
}
