//! Compression terms of the Lagrangian methods: bounds on I(X;T) and the convex functions laid over them.

use burn::tensor::Tensor;
use ibhost_framework::distributions::Distribution;
use ibhost_framework::math::log_mean_exp;
use ibhost_kernels::mean_pairwise_kl;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bound C on I(X;T) of a batch, in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Mean over inputs of KL(q_i || N(0, I)) (Alemi et al. 2017).
    #[default]
    Vib,
    /// Mean over all pairs of inputs, equal ones included, of KL(q_i || q_j): what the DisenIB code calls NIB.
    Nib,
    /// -mean over i of ln mean over j of exp(-KL(q_i || q_j)) (Kolchinsky et al. 2019); by Jensen never above `nib`.
    NibKolchinsky,
}

/// Convex function h of the batch's bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hfunc {
    /// h(C) = C.
    #[default]
    None,
    /// h(C) = C^(1 + p); p = 1 gives the squared variants.
    Pow,
    /// h(C) = exp(p C).
    Exp,
}

impl Hfunc {
    /// h of a scalar bound `[1]`.
    pub fn apply(self, c: Tensor<1>, p: f64) -> Tensor<1> {
        match self {
            Self::None => c,
            Self::Pow => c.powf_scalar(1.0 + p),
            Self::Exp => c.mul_scalar(p).exp(),
        }
    }
}

impl Compression {
    /// The bound of a batch of posteriors, `[1]` in nats. `None` of deterministic codes, and for pairwise bounds of posteriors that are not
    /// diagonal normals.
    pub fn of(self, posterior: &dyn Distribution) -> Option<Tensor<1>> {
        if self == Self::Vib {
            return posterior.kl_to_standard().map(Tensor::mean);
        }
        let (mean, scale) = posterior.as_normal()?;
        Some(match self {
            Self::NibKolchinsky => log_mean_exp(pairwise_kl(mean, scale).neg(), 1).mean().neg(),
            _ => mean_pairwise_kl(mean, scale),
        })
    }
}

/// Means `[batch, latent]` moved by their common mean, which no divergence between them depends on; without it the squares of far-away
/// means cancel badly.
fn centred(mean: Tensor<2>) -> Tensor<2> {
    let shift = mean.clone().detach().mean_dim(0);
    mean - shift
}

/// KL(N(mean_i, scale_i^2) || N(mean_j, scale_j^2)) of all pairs, `[batch, batch]` with i along the rows, in nats.
pub fn pairwise_kl(mean: Tensor<2>, scale: Tensor<2>) -> Tensor<2> {
    let [batch, latent] = mean.dims();
    let mean = centred(mean);
    let precision = scale.clone().powi_scalar(2).recip();
    let log_scale = scale.clone().log().sum_dim(1);
    let square = mean.clone().powi_scalar(2);
    let own = (square.clone() + scale.powi_scalar(2)).matmul(precision.clone().transpose()).mul_scalar(0.5);
    let cross = mean.clone().matmul((mean * precision.clone()).transpose());
    let other = (square * precision).sum_dim(1).mul_scalar(0.5) + log_scale.clone();
    own - cross + other.reshape([1, batch]) - log_scale - latent as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use ibhost_framework::distributions::{Delta, Normal};

    fn posterior() -> Normal {
        let device = Device::flex();
        Normal {
            mean: Tensor::from_floats([[100.0, 1.0], [101.5, 0.0], [99.0, 2.0]], &device),
            scale: Tensor::from_floats([[1.0, 0.5], [2.0, 1.0], [0.7, 0.9]], &device),
        }
    }

    fn kl(m: [f64; 2], s: [f64; 2], n: [f64; 2], r: [f64; 2]) -> f64 {
        (0..2).map(|k| (r[k] / s[k]).ln() + ((m[k] - n[k]).powi(2) + s[k] * s[k]) / (2.0 * r[k] * r[k]) - 0.5).sum()
    }

    #[test]
    fn bounds_agree_with_the_sum_over_pairs() {
        let m = [[100.0, 1.0], [101.5, 0.0], [99.0, 2.0]];
        let s = [[1.0, 0.5], [2.0, 1.0], [0.7, 0.9]];
        let (mut sum, mut outer) = (0.0, 0.0);
        for i in 0..3 {
            let row: Vec<f64> = (0..3).map(|j| kl(m[i], s[i], m[j], s[j])).collect();
            sum += row.iter().sum::<f64>();
            outer -= (row.iter().map(|d| (-d).exp()).sum::<f64>() / 3.0).ln() / 3.0;
        }
        let value = |c: Compression| c.of(&posterior()).unwrap().into_scalar::<f32>();
        assert!((f64::from(value(Compression::Nib)) - sum / 9.0).abs() < 1e-4);
        assert!((f64::from(value(Compression::NibKolchinsky)) - outer).abs() < 1e-4);
        assert!(value(Compression::NibKolchinsky) <= value(Compression::Nib));
        for bound in [Compression::Vib, Compression::Nib, Compression::NibKolchinsky] {
            assert!(bound.of(&Delta { value: posterior().mean }).is_none(), "{bound:?}");
        }
    }

    #[test]
    fn functions_of_the_bound() {
        let at = |h: Hfunc, p| h.apply(Tensor::from_floats([3.0], &Device::flex()), p).into_scalar::<f32>();
        assert_eq!(at(Hfunc::None, 7.0), 3.0);
        assert!((at(Hfunc::Pow, 1.0) - 9.0).abs() < 1e-4 && (at(Hfunc::Exp, 0.5) - 1.5f32.exp()).abs() < 1e-4);
    }
}
