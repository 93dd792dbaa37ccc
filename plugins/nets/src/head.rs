//! From the numbers an encoder's last layer gives to the posterior they stand for.

use burn::tensor::Tensor;
use ibhost_framework::build::BuildError;
use ibhost_framework::distributions::{BoxedDistribution, Delta, Distribution, MultivariateNormal, Normal, diagonal};
use ibhost_kernels::softplus;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Covariance of the posterior q(z|x).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Covariance {
    /// None: the code is deterministic; z outputs.
    Point,
    /// Diagonal: one standard deviation a dimension; 2z outputs.
    #[default]
    Diag,
    /// Full: a Cholesky factor; z + z(z+1)/2 outputs.
    Full,
}

/// How outputs become standard deviations and Cholesky factors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScaleMap {
    /// softplus(r - 5) on the diagonal, 0.01 r + softplus(-5) below it: codes start almost noiseless.
    #[default]
    Softplus,
    /// exp(r) on the diagonal, r below it: codes start at unit variance.
    Exp,
}

/// Subtracted before the softplus.
const SHIFT: f64 = 5.0;
/// Factor of the entries below the diagonal under [`ScaleMap::Softplus`].
const BELOW: f64 = 0.01;

impl ScaleMap {
    fn positive(self, raw: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Softplus => softplus(raw, SHIFT),
            Self::Exp => raw.exp(),
        }
    }

    fn below(self, raw: Tensor<3>) -> Tensor<3> {
        match self {
            // The constant is softplus(-5): the original adds it to every entry of the factor, not to its diagonal alone.
            Self::Softplus => raw.mul_scalar(BELOW).add_scalar((-SHIFT).exp().ln_1p()),
            Self::Exp => raw,
        }
    }
}

/// Numbers an encoder must give for `z` dimensions.
pub fn outputs(covariance: Covariance, z: usize) -> usize {
    match covariance {
        Covariance::Point => z,
        Covariance::Diag => 2 * z,
        Covariance::Full => z + z * (z + 1) / 2,
    }
}

/// Most outputs of one head: a full covariance of 510 dimensions. Beyond it the factors of one batch alone take gigabytes.
const MOST_OUTPUTS: usize = 1 << 17;

/// As [`outputs`], for the encoder called `component`.
///
/// # Errors
/// [`BuildError`] when the head would be too large to train.
pub fn head_size(component: &str, covariance: Covariance, z: usize) -> Result<usize, BuildError> {
    match outputs(covariance, z) {
        n if n > MOST_OUTPUTS && covariance == Covariance::Full => Err(BuildError::new(
            component,
            format!("z:{z} with cov:full needs {n} outputs, at most {MOST_OUTPUTS} can be trained; use cov:diag or z up to 510"),
        )),
        n => Ok(n),
    }
}

/// The posterior that `raw` `[batch, outputs(covariance, z)]` stands for; the first `z` columns are the mean.
pub fn posterior(covariance: Covariance, scale: ScaleMap, raw: Tensor<2>, z: usize) -> BoxedDistribution {
    let rest = outputs(covariance, z) - z;
    match covariance {
        Covariance::Point => Delta { value: raw }.boxed(),
        Covariance::Diag => Normal { mean: raw.clone().narrow(1, 0, z), scale: scale.positive(raw.narrow(1, z, rest)) }.boxed(),
        Covariance::Full => {
            let mean = raw.clone().narrow(1, 0, z);
            MultivariateNormal { mean, cholesky: cholesky(scale, raw.narrow(1, z, rest), z) }.boxed()
        }
    }
}

/// Lower-triangular factor L `[batch, z, z]` from its `z(z+1)/2` entries in the spiral order of TensorFlow Probability's `fill_triangular`.
fn cholesky(scale: ScaleMap, entries: Tensor<2>, z: usize) -> Tensor<3> {
    let [batch, n] = entries.dims();
    let device = entries.device();
    // Read row by row, the entries from the z-th on followed by all of them backwards hold each entry once in the lower triangle.
    let backwards = entries.clone().flip([1]);
    let square = if n > z { Tensor::cat(vec![entries.narrow(1, z, n - z), backwards], 1) } else { backwards };
    let square = square.reshape([batch, z, z]);
    let on = scale.positive(diagonal(square.clone())).reshape([batch, z, 1]);
    scale.below(square).tril(-1) + on * Tensor::<2>::eye(z, &device).reshape([1, z, z])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
        x.into_data().iter::<f64>().collect()
    }

    fn softplus_of(x: f64) -> f64 {
        x.exp().ln_1p()
    }

    fn counting(z: usize) -> Tensor<2> {
        let n = outputs(Covariance::Full, z);
        let entries: Vec<f32> = (0..n).map(|i| if i < z { -1.0 } else { (i - z) as f32 * 0.1 }).collect();
        Tensor::from_data(TensorData::new(entries, [1, n]), &Device::flex())
    }

    fn factor(scale: ScaleMap, z: usize) -> Vec<f64> {
        values(posterior(Covariance::Full, scale, counting(z), z).downcast::<MultivariateNormal>().unwrap().cholesky.clone())
    }

    fn check(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} is not {expected:?}");
    }

    #[test]
    fn entries_fill_the_factor_in_the_spiral_order() {
        let e = |i: i32| (f64::from(i) * 0.1).exp();
        let r = |i: i32| f64::from(i) * 0.1;
        check(&factor(ScaleMap::Exp, 1), &[e(0)]);
        check(&factor(ScaleMap::Exp, 2), &[e(2), 0.0, r(1), e(0)]);
        check(&factor(ScaleMap::Exp, 3), &[e(3), 0.0, 0.0, r(5), e(4), 0.0, r(2), r(1), e(0)]);
    }

    #[test]
    fn the_softplus_factor_has_small_positive_entries_below_the_diagonal() {
        let below = 0.01 * 0.1 + softplus_of(-5.0);
        check(&factor(ScaleMap::Softplus, 2), &[softplus_of(0.2 - 5.0), 0.0, below, softplus_of(-5.0)]);
    }

    #[test]
    fn diagonal_and_point_heads_split_mean_and_scale() {
        let raw = Tensor::<2>::from_floats([[1.0, 2.0, 5.0, 300.0]], &Device::flex());
        let (mean, scale) = posterior(Covariance::Diag, ScaleMap::Softplus, raw.clone(), 2).as_normal().unwrap();
        check(&values(mean), &[1.0, 2.0]);
        check(&values(scale), &[2f64.ln(), 295.0]);
        assert_eq!(values(posterior(Covariance::Point, ScaleMap::Softplus, raw, 4).mean()), [1.0, 2.0, 5.0, 300.0]);
    }

    #[test]
    fn gradients_reach_every_output_of_every_head() {
        let device = Device::flex().autodiff();
        for covariance in [Covariance::Diag, Covariance::Full] {
            for scale in [ScaleMap::Softplus, ScaleMap::Exp] {
                let n = outputs(covariance, 3);
                let raw = Tensor::<2>::ones([2, n], &device).mul_scalar(0.3).require_grad();
                let gradients = posterior(covariance, scale, raw.clone(), 3).kl_to_standard().unwrap().sum().backward();
                let gradient = values(raw.grad(&gradients).unwrap());
                assert!(gradient.iter().all(|g| g.is_finite() && *g != 0.0), "{covariance:?} {scale:?} {gradient:?}");
            }
        }
    }
}
