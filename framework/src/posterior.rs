//! Posterior distributions q(z|x) an encoder can return: sampling, density and rate against the standard normal prior.

use burn::tensor::Tensor;
use ibhost_kernels::{reparameterise, standard_normal_rate};

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
}

impl Posterior {
    /// Mean of each posterior, `[batch, latent]`.
    pub fn mean(&self) -> Tensor<2> {
        match self {
            Self::Point { mean } | Self::Diagonal { mean, .. } | Self::Full { mean, .. } => mean.clone(),
        }
    }

    /// Number of posteriors and of latent dimensions.
    pub fn dims(&self) -> [usize; 2] {
        self.mean().dims()
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
        }
    }

    /// Reparameterised samples z = mean + L noise for standard normal `noise` `[samples, batch, latent]`; same shape.
    pub fn sample(&self, noise: Tensor<3>) -> Tensor<3> {
        let [batch, latent] = self.dims();
        let samples = noise.dims()[0];
        let mean = self.mean().reshape([1, batch, latent]);
        match self {
            Self::Point { .. } => mean.expand([samples, batch, latent]),
            Self::Diagonal { mean, scale } => reparameterise(mean.clone(), scale.clone(), noise),
            Self::Full { cholesky, .. } => {
                let spread = cholesky.clone().matmul(noise.permute([1, 2, 0])).permute([2, 0, 1]);
                spread + mean
            }
        }
    }

    /// ln q(z|x) in nats at the samples that `noise` `[samples, batch, latent]` gives, `[samples, batch]`.
    ///
    /// Written in the noise, (z - mean) never has to be divided by a tiny scale.
    pub fn log_prob_of_noise(&self, noise: Tensor<3>) -> Tensor<2> {
        let [samples, batch, latent] = noise.dims();
        let quadratic = noise.powi_scalar(2).sum_dim(2).reshape([samples, batch]).mul_scalar(-0.5);
        quadratic - self.log_determinant().reshape([1, batch]) - latent as f64 * HALF_LN_2PI
    }

    /// ln |det L|, `[batch]`; 0 for a point.
    fn log_determinant(&self) -> Tensor<1> {
        let [batch, _] = self.dims();
        match self {
            Self::Point { mean } => Tensor::zeros([batch], &mean.device()),
            Self::Diagonal { scale, .. } => scale.clone().log().sum_dim(1).reshape([batch]),
            Self::Full { cholesky, .. } => diagonal(cholesky.clone()).log().sum_dim(1).reshape([batch]),
        }
    }

    /// Rate KL(q(z|x) || N(0, I)) in nats, `[batch]`: (|L|_F^2 + |mean|^2 - latent)/2 - ln det L.
    ///
    /// A point has no finite rate; it returns |mean|^2/2, the distortion of its code under the prior.
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
        }
    }
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
    fn rate_is_zero_at_the_prior_and_matches_a_hand_computed_value() {
        let device = Device::flex();
        let prior = Posterior::Diagonal { mean: Tensor::zeros([1, 3], &device), scale: Tensor::ones([1, 3], &device) };
        assert!(values(prior.rate())[0].abs() < 1e-6);
        let q = Posterior::Diagonal { mean: Tensor::from_floats([[1.0]], &device), scale: Tensor::from_floats([[0.5]], &device) };
        assert!((values(q.rate())[0] - (0.5 * (1.0 + 0.25 - 1.0) + 2f32.ln())).abs() < 1e-6);
    }
}
