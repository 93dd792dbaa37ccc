//! Loss terms of the disentangled bottleneck: reconstruction, wall, estimator and discriminator.

use burn::tensor::Tensor;
use burn::tensor::activation::{log_softmax, relu};
use ibhost_kernels::mean_squared_error;

/// Box penalty: mean over all entries of both codes of max(|e| - radius, 0)^2, `[1]`.
///
/// Noise of fixed spread could be beaten by ever larger codes; the wall keeps them within the radius.
pub fn wall(style: Tensor<2>, class: Tensor<2>, radius: f64) -> Tensor<1> {
    let entries = |e: &Tensor<2>| e.dims().iter().product::<usize>() as f64;
    let total = entries(&style) + entries(&class);
    let beyond = |e: Tensor<2>| relu(e.abs().sub_scalar(radius)).powi_scalar(2).sum();
    (beyond(style) + beyond(class)).div_scalar(total)
}

/// Mean over all entries of the squared difference of images `[batch draws, ...]` and their sources `[batch, ...]`, `[1]`; the draws of one
/// source follow each other.
pub fn reconstruction(images: Tensor<4>, sources: Tensor<4>) -> Tensor<1> {
    let [batch, channels, height, width] = sources.dims();
    let (draws, values) = (images.dims()[0], channels * height * width);
    mean_squared_error(images.reshape([draws, values]), sources.reshape([batch, values]))
}

/// Least-squares losses of the estimator's scores `[codes, 1]`.
#[derive(Debug)]
pub struct EstimatorLoss {
    /// mean (1 - D)^2 on products of marginals, `[1]`.
    pub real: Tensor<1>,
    /// mean (1 + D)^2 on joint pairs, `[1]`.
    pub fake: Tensor<1>,
    /// (mean of all scores)^2, `[1]`.
    pub zero_centring: Tensor<1>,
}

/// The losses of scores `product` on products of marginals and `joint` on joint pairs.
pub fn estimator(product: &Tensor<2>, joint: &Tensor<2>) -> EstimatorLoss {
    let all = Tensor::cat(vec![product.clone(), joint.clone()], 0);
    EstimatorLoss {
        real: product.clone().neg().add_scalar(1.0).powi_scalar(2).mean(),
        fake: joint.clone().add_scalar(1.0).powi_scalar(2).mean(),
        zero_centring: all.mean().powi_scalar(2),
    }
}

/// Cross-entropy of discriminator logits `[images, 2]` against class 1 (`real`) or 0, `[1]`.
pub fn adversarial(logits: Tensor<2>, real: bool) -> Tensor<1> {
    log_softmax(logits, 1).narrow(1, usize::from(real), 1).mean().neg()
}

/// Share of images `[images, 2]` the discriminator takes for `real` ones, or for made ones. What is no number is taken for neither.
pub fn discriminator_hits(logits: Tensor<2>, real: bool) -> Tensor<1> {
    let [images, _] = logits.dims();
    let margin = logits.clone().narrow(1, 1, 1) - logits.narrow(1, 0, 1);
    // A tie goes to the first class, as an argmax decides.
    if real {
        margin.greater_scalar(0.0).float().reshape([images]).mean()
    } else {
        margin.lower_equal_scalar(0.0).bool_not().float().reshape([images]).mean().neg().add_scalar(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn near(found: Tensor<1>, expected: f32) {
        let found: f32 = found.into_scalar();
        assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
    }

    #[test]
    fn the_wall_stands_at_the_radius_for_codes_of_any_two_sizes() {
        let device = Device::flex();
        let style = Tensor::<2>::from_floats([[3.0, -5.0, 0.0]], &device);
        near(wall(style.clone(), style, 3.0), 4.0 / 3.0);
        let (style, class) = (Tensor::<2>::from_floats([[4.0, 0.0]], &device), Tensor::<2>::from_floats([[0.0]], &device));
        near(wall(style, class, 3.0), 1.0 / 3.0);
    }

    #[test]
    fn draws_are_compared_with_their_own_source() {
        let device = Device::flex();
        let images = Tensor::<1>::from_floats([0.0, 2.0, 5.0, 5.0], &device).reshape([4, 1, 1, 1]);
        let sources = Tensor::<1>::from_floats([1.0, 5.0], &device).reshape([2, 1, 1, 1]);
        near(reconstruction(images, sources), 0.5);
    }

    #[test]
    fn estimator_and_discriminator_targets() {
        let device = Device::flex();
        let (product, joint) = (Tensor::<2>::from_floats([[1.0], [0.0]], &device), Tensor::<2>::from_floats([[-1.0], [1.0]], &device));
        let loss = estimator(&product, &joint);
        near(loss.real, 0.5);
        near(loss.fake, 2.0);
        near(loss.zero_centring, 0.0625);
        let logits = Tensor::<2>::from_floats([[0.0, 100.0], [50.0, 0.0], [1.0, 1.0]], &device);
        near(discriminator_hits(logits.clone(), true), 1.0 / 3.0);
        near(discriminator_hits(logits.clone(), false), 2.0 / 3.0);
        near(adversarial(logits.clone().narrow(0, 0, 2), true), 25.0);
        near(adversarial(logits.narrow(0, 0, 2), false), 50.0);
    }
}
