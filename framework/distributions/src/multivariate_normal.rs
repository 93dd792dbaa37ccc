//! Normals with a full covariance, by its Cholesky factor.

use burn::tensor::{Device, Int, Tensor};

use crate::distribution::{Distribution, Support, Undefined};
use crate::noise::Draws;
use crate::normal::{StandardNormal, kl_of_moments, log_prob_of_noise};

/// N(mean, L L^T).
#[derive(Clone, Debug)]
pub struct MultivariateNormal {
    /// `[batch, features]`.
    pub mean: Tensor<2>,
    /// Lower-triangular Cholesky factor L, `[batch, features, features]`, positive diagonal.
    pub cholesky: Tensor<3>,
}

impl MultivariateNormal {
    /// ln det L, `[batch]`.
    fn log_determinant(&self) -> Tensor<1> {
        diagonal(self.cholesky.clone()).log().sum_dim(1).reshape([self.mean.dims()[0]])
    }

    fn scale(&self) -> Tensor<2> {
        self.cholesky.clone().powi_scalar(2).sum_dim(2).reshape(self.mean.dims()).sqrt()
    }
}

impl Distribution for MultivariateNormal {
    fn family(&self) -> &'static str {
        "full-covariance normal"
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
        let [batch, features] = x.dims();
        let noise = forward_substitution(self.cholesky.clone(), x - self.mean.clone());
        Ok(self.log_prob_of_noise(noise.reshape([1, batch, features]))?.reshape([batch]))
    }
    fn sample(&self, purpose: &str, draws: &mut Draws) -> Tensor<2> {
        let [batch, features] = self.dims();
        let noise: Tensor<3> = draws.normal(purpose, [1, batch, features], &self.device());
        spread(self.cholesky.clone(), noise).reshape([batch, features]) + self.mean.clone()
    }
    fn deviation(&self) -> Option<Tensor<2>> {
        Some(self.scale())
    }
    fn covariance(&self) -> Option<Tensor<3>> {
        Some(self.cholesky.clone().matmul(self.cholesky.clone().swap_dims(1, 2)))
    }
    fn rsample(&self, noise: Tensor<3>) -> Option<Tensor<3>> {
        let [batch, features] = self.dims();
        Some(spread(self.cholesky.clone(), noise) + self.mean.clone().reshape([1, batch, features]))
    }
    /// Written in the noise, no system has to be solved.
    fn log_prob_of_noise(&self, noise: Tensor<3>) -> Result<Tensor<2>, Undefined> {
        Ok(log_prob_of_noise(noise, self.log_determinant()))
    }
    /// From the standard normal (|L|_F^2 + |mean|^2 - features)/2 - ln det L.
    fn kl(&self, other: &dyn Distribution) -> Option<Tensor<1>> {
        let [batch, features] = self.dims();
        if other.downcast::<StandardNormal>().is_some() {
            let energy = self.mean.clone().powi_scalar(2).sum_dim(1).reshape([batch]);
            let spread = self.cholesky.clone().powi_scalar(2).reshape([batch, features * features]).sum_dim(1).reshape([batch]);
            return Some((energy + spread - features as f64).mul_scalar(0.5) - self.log_determinant());
        }
        Some(kl_of_moments(self.mean.clone(), self.scale(), self.log_determinant(), other.as_normal()?))
    }
}

/// L noise for noise `[samples, batch, n]`, same shape.
fn spread(cholesky: Tensor<3>, noise: Tensor<3>) -> Tensor<3> {
    cholesky.matmul(noise.permute([1, 2, 0])).permute([2, 0, 1])
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

/// Diagonals of square matrices, `[batch, n, n]` to `[batch, n]`.
pub fn diagonal(matrices: Tensor<3>) -> Tensor<2> {
    let [batch, n, _] = matrices.dims();
    let index = Tensor::<1, Int>::arange(0..n as i64, &matrices.device()).mul_scalar(n as i64 + 1);
    matrices.reshape([batch, n * n]).select(1, index)
}
