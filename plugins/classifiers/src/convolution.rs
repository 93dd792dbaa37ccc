//! Convolutions as PyTorch starts and pads them, on channels-last images, and the pooling between them.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use ibhost_framework::build::BuildContext;
use ibhost_kernels::{ConvGeometry, conv2d};
use ibhost_nets::batch_norm::BatchNorm;

/// Added to the variance by batch normalisation.
const EPSILON: f64 = 1e-5;
/// Share of the moving statistics that batch normalisation keeps.
const KEPT: f64 = 0.9;

/// Square convolution with the same number of zeros on every side.
#[derive(Module, Debug)]
pub struct Convolution {
    /// `[out, in, kernel, kernel]`.
    pub weight: Param<Tensor<4>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
    stride: usize,
    padding: usize,
}

impl Convolution {
    /// From `channels[0]` to `channels[1]` channels with stride 1 and a bias; weight and bias uniform on ±1/sqrt(in kernel^2).
    pub fn new(channels: [usize; 2], kernel: usize, padding: usize, context: &BuildContext) -> Self {
        let limit = ((channels[0] * kernel * kernel).max(1) as f64).sqrt().recip();
        Self {
            weight: context.uniform([channels[1], channels[0], kernel, kernel], limit),
            bias: Some(context.uniform([channels[1]], limit)),
            stride: 1,
            padding,
        }
    }

    /// As [`Convolution::new`] without a bias.
    pub fn plain(channels: [usize; 2], kernel: usize, stride: usize, padding: usize, context: &BuildContext) -> Self {
        let limit = ((channels[0] * kernel * kernel).max(1) as f64).sqrt().recip();
        Self { weight: context.uniform([channels[1], channels[0], kernel, kernel], limit), bias: None, stride, padding }
    }

    /// `[batch, height, width, in]` to `[batch, rows, columns, out]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        let geometry = ConvGeometry::even(self.stride, self.padding);
        conv2d(images, self.weight.val(), self.bias.as_ref().map(Param::val), geometry)
    }
}

/// Batch normalisation with PyTorch's defaults: 1e-5 added to the variance, moving = 0.9 moving + 0.1 batch.
pub fn batch_norm(channels: usize, context: &BuildContext) -> BatchNorm {
    BatchNorm::with_epsilon(channels, KEPT, EPSILON, context)
}

/// Means over squares of 2 x 2 positions of `[batch, height, width, channels]`; an odd last row or column is left out.
pub fn average_pairs(images: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = images.dims();
    let (rows, columns) = (height / 2, width / 2);
    let images = images.narrow(1, 0, 2 * rows).narrow(2, 0, 2 * columns);
    let over_rows = images.reshape([batch * rows, 2, 2 * columns * channels]).sum_dim(1);
    over_rows.reshape([batch * rows * columns, 2, channels]).sum_dim(1).mul_scalar(0.25).reshape([batch, rows, columns, channels])
}

/// `[batch, height, width, channels]` to the means over all positions, `[batch, channels]`.
pub fn mean_over_positions(images: Tensor<4>) -> Tensor<2> {
    let [batch, height, width, channels] = images.dims();
    images.reshape([batch, height * width, channels]).mean_dim(1).reshape([batch, channels])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn pairs_are_averaged_and_odd_rests_left_out() {
        let images = Tensor::<1, burn::tensor::Int>::arange(0..15, &Device::flex()).float().reshape([1, 3, 5, 1]);
        let pooled = average_pairs(images);
        assert_eq!(pooled.dims(), [1, 1, 2, 1]);
        assert_eq!(pooled.into_data().try_to_vec::<f32>().unwrap(), [3.0, 5.0]);
    }

    #[test]
    fn weights_lie_within_the_bound_of_their_fan_in() {
        let convolution = Convolution::new([4, 8], 3, 1, &BuildContext::new(Device::flex(), 1));
        for values in [convolution.weight.val().into_data(), convolution.bias.as_ref().unwrap().val().into_data()] {
            let largest = values.iter::<f32>().fold(0f32, |m, w| m.max(w.abs()));
            assert!(largest <= 1.0 / 6.0 && largest > 0.1, "{largest}");
        }
        assert_eq!(convolution.forward(Tensor::zeros([2, 5, 6, 4], &Device::flex())).dims(), [2, 5, 6, 8]);
    }
}
