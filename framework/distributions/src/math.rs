//! Numerically safe tensor pieces that densities and losses share.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

/// ln 2: nats in one bit.
pub const NATS_PER_BIT: f64 = std::f64::consts::LN_2;

/// Half of ln(2 pi): what a normal density has for every dimension.
pub const HALF_LN_2PI: f64 = 0.918_938_533_204_672_7;

pub use ibhost_kernels::{label_log_likelihood as log_likelihood, log_sum_exp, weighted_sum};

/// ln of the mean of exponentials over dimension `dim`, which keeps size 1.
pub fn log_mean_exp<const D: usize>(x: Tensor<D>, dim: usize) -> Tensor<D> {
    let n = x.dims()[dim] as f64;
    log_sum_exp(x, dim) - n.ln()
}

/// ln of the softmax averaged over samples: logits `[samples, batch, classes]`, result `[batch, classes]` in nats.
pub fn log_mean_softmax(logits: Tensor<3>) -> Tensor<2> {
    let [_, batch, classes] = logits.dims();
    log_mean_exp(log_softmax(logits, 2), 0).reshape([batch, classes])
}

/// Class of every row of `scores` `[.., classes]`, `[.., 1]`: where the largest entry stands, the first of equals. Scores that are no numbers have
/// no class: -1, which no label equals.
pub fn predicted<const D: usize>(scores: Tensor<D>) -> Tensor<D, Int> {
    let scores = scores.detach();
    let no_class = scores.clone().sum_dim(D - 1).is_nan();
    scores.argmax(D - 1).mask_fill(no_class, -1)
}

/// Share of rows of `scores` `[batch, classes]` whose largest entry is the label's, a scalar in `[0, 1]`; rows that hold NaN are wrong.
pub fn accuracy(scores: Tensor<2>, labels: &Tensor<1, Int>) -> Tensor<1> {
    let [batch, _] = scores.dims();
    predicted(scores).reshape([batch]).equal(labels.clone()).float().mean()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn log_sum_exp_survives_extreme_inputs_with_finite_gradients() {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_floats([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]], &device).require_grad();
        let y = log_sum_exp(x.clone(), 1);
        let grads = y.clone().sum().backward();
        let value: Vec<f32> = y.into_data().try_to_vec().unwrap();
        assert!((value[0] - 1e4).abs() < 1e-2 && (value[1] + 1e4 - 3f32.ln()).abs() < 1e-2);
        let gradient: Vec<f32> = x.grad(&grads).unwrap().into_data().try_to_vec().unwrap();
        for (g, expected) in gradient.iter().zip([1.0, 0.0, 0.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]) {
            assert!((g - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn accuracy_counts_the_right_rows() {
        let device = Device::flex();
        let scores = Tensor::<2>::from_floats([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], &device);
        let labels = Tensor::<1, Int>::from_ints([1, 1, 1], &device);
        let value: f32 = accuracy(scores, &labels).into_scalar();
        assert!((value - 2.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn scores_that_are_no_numbers_have_no_class() {
        let device = Device::flex();
        let (nan, low) = (f32::NAN, f32::NEG_INFINITY);
        let scores = Tensor::<2>::from_floats([[nan, nan], [nan, 0.5], [0.5, nan], [low, low], [low, 0.0]], &device);
        let classes: Vec<i64> = predicted(scores.clone()).into_data().iter::<i64>().collect();
        assert_eq!(classes, [-1, -1, -1, 0, 1]);
        let labels = Tensor::<1, Int>::from_ints([0, 0, 0, 0, 1], &device);
        let value: f32 = accuracy(scores, &labels).into_scalar();
        assert!((value - 0.4).abs() < 1e-6, "{value}");
    }
}
