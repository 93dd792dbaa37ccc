//! Categorical codes as relaxed one-hot vectors: samples that gradients flow through, and the rate against the uniform prior.

use std::f64::consts::FRAC_1_SQRT_2;

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Int, Tensor};

/// Keeps logarithms finite where probabilities underflow.
const TINY: f64 = 1e-20;

/// How far a sample may stray from one-hot vectors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relaxation {
    /// Temperature of the softmax; samples approach one-hot vectors as it falls to 0.
    pub temperature: f64,
    /// One-hot samples, with the gradient of the relaxed ones (straight-through).
    pub hard: bool,
}

/// z = softmax((logits + g)/T) with g = -ln(-ln u) (Jang et al. 2017, arXiv:1611.01144, equation 2); logits and `uniform` draws
/// `[.., classes]`. With `hard` the one-hot vector of the largest entry, and the gradient of z.
pub fn relaxed_one_hot<const D: usize>(logits: Tensor<D>, uniform: Tensor<D>, relaxation: Relaxation) -> Tensor<D> {
    let gumbel = uniform.add_scalar(TINY).log().neg().add_scalar(TINY).log().neg();
    let soft = softmax((logits + gumbel).div_scalar(relaxation.temperature), D - 1);
    // The difference comes first and is exactly 0: hard samples are one-hot to the last bit.
    if relaxation.hard { one_hot_of_largest(soft.clone()) + (soft.clone() - soft.detach()) } else { soft }
}

/// One-hot vectors of the largest entries along the last dimension, without gradient; NaN where an entry is.
pub fn one_hot_of_largest<const D: usize>(scores: Tensor<D>) -> Tensor<D> {
    let shape = scores.dims();
    let classes = shape[D - 1];
    let mut row = [1; D];
    row[D - 1] = classes;
    let index = Tensor::<1, Int>::arange(0..classes as i64, &scores.device()).reshape(row).expand(shape);
    let scores = scores.detach();
    let unknown = scores.clone().sum_dim(D - 1).is_nan().expand(shape);
    scores.argmax(D - 1).expand(shape).equal(index).float().mask_fill(unknown, f32::NAN)
}

/// Uniform draws whose quantiles are those of standard normal `noise`.
pub fn uniform_from_normal<const D: usize>(noise: Tensor<D>) -> Tensor<D> {
    noise.mul_scalar(FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5)
}

/// KL(softmax(logits) || uniform) in nats, `[batch]`: sum over classes of q ln(classes q); logits `[batch, classes]`.
pub fn uniform_rate(logits: Tensor<2>) -> Tensor<1> {
    let [batch, classes] = logits.dims();
    let q = softmax(logits, 1);
    (q.clone() * q.mul_scalar(classes as f64).add_scalar(TINY).log()).sum_dim(1).reshape([batch])
}

/// KL(softmax(logits) || softmax(prior)) in nats, `[batch]`; both `[batch, classes]`.
pub fn categorical_divergence(logits: Tensor<2>, prior: Tensor<2>) -> Tensor<1> {
    let [batch, _] = logits.dims();
    let (q, p) = (log_softmax(logits, 1), log_softmax(prior, 1));
    (q.clone().exp() * (q - p)).sum_dim(1).reshape([batch])
}

/// ln of the probability of one-hot `codes`, `[batch]`; both `[batch, classes]`.
pub fn one_hot_log_prob(codes: Tensor<2>, logits: Tensor<2>) -> Tensor<1> {
    let [batch, _] = codes.dims();
    (codes * log_softmax(logits, 1)).sum_dim(1).reshape([batch])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
        x.into_data().iter::<f64>().collect()
    }

    #[test]
    fn hard_samples_are_one_hot_and_pass_the_soft_gradient() {
        let device = Device::flex().autodiff();
        let weights = Tensor::<2>::from_floats([[1.0, -2.0, 0.5]], &device);
        let gradient = |hard| {
            let logits = Tensor::<2>::from_floats([[0.2, 0.1, -0.3]], &device).require_grad();
            let uniform = Tensor::from_floats([[0.3, 0.9, 0.5]], &device);
            let z = relaxed_one_hot(logits.clone(), uniform, Relaxation { temperature: 0.5, hard });
            let gradients = (z.clone() * weights.clone()).sum().backward();
            (values(z.inner()), values(logits.grad(&gradients).unwrap()))
        };
        let (hard, straight_through) = gradient(true);
        let (soft, reference) = gradient(false);
        assert_eq!(hard, [0.0, 1.0, 0.0]);
        assert!((soft.iter().sum::<f64>() - 1.0).abs() < 1e-6 && soft[1] < 1.0);
        assert!(straight_through.iter().zip(&reference).all(|(a, b)| (a - b).abs() < 1e-6), "{straight_through:?} {reference:?}");
    }

    #[test]
    fn scores_that_are_no_numbers_have_no_one_hot_vector() {
        let scores = Tensor::<2>::from_floats([[f32::NAN, 1.0], [f32::NEG_INFINITY, 1.0]], &Device::flex());
        let found = values(one_hot_of_largest(scores));
        assert!(found[0].is_nan() && found[1].is_nan() && found[2..] == [0.0, 1.0], "{found:?}");
    }

    #[test]
    fn the_rate_is_zero_for_the_uniform_and_ln_classes_for_a_certain_code() {
        let logits = Tensor::<2>::from_floats([[0.0, 0.0, 0.0, 0.0], [200.0, 0.0, 0.0, 0.0]], &Device::flex());
        let rates = values(uniform_rate(logits));
        assert!(rates[0].abs() < 1e-6 && (rates[1] - 4f64.ln()).abs() < 1e-5, "{rates:?}");
    }

    #[test]
    fn normal_quantiles_become_uniform_ones() {
        let found = values(uniform_from_normal(Tensor::<1>::from_floats([-1.959_964, 0.0, 1.644_854], &Device::flex())));
        for (found, expected) in found.iter().zip([0.025, 0.5, 0.95]) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }
}
