//! The basic block of residual networks: two 3x3 convolutions and a shortcut without parameters.

use burn::module::{Module, Param};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use ibhost_framework::build::{BuildContext, Initial};
use ibhost_kernels::{ConvGeometry, conv2d, same_padding, subsample};

use crate::batch_norm::BatchNorm;

/// What distinguishes the convolutions of the residual networks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Convolution {
    /// Channels in and out.
    pub channels: [usize; 2],
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Step in both directions.
    pub stride: usize,
    /// Whether a bias, initially 0, is added.
    pub bias: bool,
    /// How the kernel is drawn; its fans include the kernel's area.
    pub initial: Initial,
}

impl Convolution {
    /// A 3x3 convolution without bias, Glorot uniform.
    pub fn plain(channels: [usize; 2], stride: usize) -> Self {
        Self { channels, kernel: 3, stride, bias: false, initial: Initial::GlorotUniform }
    }

    /// Builds it with TensorFlow's "same" padding: the output has ceil(size / stride) rows and columns, and an odd number of padding
    /// rows has the extra one at the bottom (columns: on the right), so stride 2 on an even size pads 0 before and 1 after.
    pub fn build(self, context: &BuildContext) -> Conv2d {
        let Self { channels: [inputs, outputs], kernel, stride, bias, initial } = self;
        let area = kernel * kernel;
        Conv2d {
            weight: context.weight([outputs, inputs, kernel, kernel], inputs * area, outputs * area, initial),
            bias: bias.then(|| context.constant([outputs], 0.0)),
            stride: [stride; 2],
            kernel_size: [kernel; 2],
            dilation: [1; 2],
            groups: 1,
            padding: PaddingConfig2d::Same,
        }
    }
}

/// The convolution of `layer`, made by [`Convolution::build`], on channels-last images, `[batch, height, width, channels]`.
pub fn convolve(layer: &Conv2d, images: Tensor<4>) -> Tensor<4> {
    let [_, height, width, _] = images.dims();
    let (kernel, stride) = (layer.kernel_size, layer.stride);
    let padding = [same_padding(height, kernel[0], stride[0]), same_padding(width, kernel[1], stride[1])];
    conv2d(images, layer.weight.val(), layer.bias.as_ref().map(Param::val), ConvGeometry { stride, padding })
}

/// `[batch, channels, height, width]` to `[batch, height, width, channels]`, the order in which convolutions are fast.
pub fn channels_last(images: Tensor<4>) -> Tensor<4> {
    images.permute([0, 2, 3, 1])
}

/// `[batch, height, width, channels]` to `[batch, channels, height, width]`.
pub fn channels_first(images: Tensor<4>) -> Tensor<4> {
    images.permute([0, 3, 1, 2])
}

/// relu(norm2(conv2(relu(norm1(conv1(x))))) + shortcut(x)).
///
/// conv1 has the stride. The shortcut is the identity; where the block changes the size it takes every stride-th row and column from the
/// first on, and where it adds channels it puts half of the new ones, all 0, before and half after the old ("option A" of He et al. 2015).
#[derive(Module, Debug)]
pub struct BasicBlock {
    /// 3x3, with the stride.
    pub conv1: Conv2d,
    /// After conv1.
    pub norm1: BatchNorm,
    /// 3x3, stride 1.
    pub conv2: Conv2d,
    /// After conv2.
    pub norm2: BatchNorm,
    stride: usize,
    added: usize,
}

impl BasicBlock {
    /// Block from `channels[0]` to `channels[1]` channels, the second not below the first.
    pub fn new(channels: [usize; 2], stride: usize, momentum: f64, context: &BuildContext) -> Self {
        let [inputs, outputs] = channels;
        Self {
            conv1: Convolution::plain(channels, stride).build(context),
            norm1: BatchNorm::new(outputs, momentum, context),
            conv2: Convolution::plain([outputs, outputs], 1).build(context),
            norm2: BatchNorm::new(outputs, momentum, context),
            stride,
            added: outputs.saturating_sub(inputs),
        }
    }

    /// `[batch, channels[0], height, width]` to `[batch, channels[1], ceil(height / stride), ceil(width / stride)]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        channels_first(self.forward_last(channels_last(input)))
    }

    /// The same on channels-last images, `[batch, height, width, channels]`.
    pub fn forward_last(&self, input: Tensor<4>) -> Tensor<4> {
        let hidden = self.norm1.forward(convolve(&self.conv1, input.clone()), None, true);
        self.norm2.forward(convolve(&self.conv2, hidden), Some(self.shortcut(input)), true)
    }

    fn shortcut(&self, input: Tensor<4>) -> Tensor<4> {
        if self.stride == 1 && self.added == 0 {
            return input;
        }
        let before = self.added / 2;
        subsample(input, self.stride, [before, self.added - before])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    fn counting(shape: [usize; 4], device: &Device) -> Tensor<4> {
        let n: usize = shape.iter().product();
        Tensor::from_data(TensorData::new((0..n).map(|i| i as f32).collect::<Vec<_>>(), shape), device)
    }

    #[test]
    fn the_shortcut_takes_every_second_pixel_and_centres_the_channels() {
        let device = Device::flex();
        let block = BasicBlock::new([2, 4], 2, 0.99, &BuildContext::new(device.clone(), 1));
        let y = channels_first(block.shortcut(channels_last(counting([1, 2, 3, 3], &device))));
        assert_eq!(y.dims(), [1, 4, 2, 2]);
        let expected = [[0.0; 4], [0.0, 2.0, 6.0, 8.0], [9.0, 11.0, 15.0, 17.0], [0.0; 4]].concat();
        assert_eq!(values(y), expected);
    }

    #[test]
    fn stride_2_on_an_even_size_pads_at_the_bottom_and_on_the_right_only() {
        let device = Device::flex();
        let mut conv = Convolution::plain([1, 1], 2).build(&BuildContext::new(device.clone(), 1));
        conv.weight = conv.weight.map(|w| w.ones_like());
        // Each output sums the 3x3 window that starts at its own even row and column.
        let y = values(convolve(&conv, counting([1, 4, 4, 1], &device)));
        assert_eq!(y, [45.0, 39.0, 66.0, 50.0]);
        let odd = values(convolve(&conv, counting([1, 3, 3, 1], &device)));
        assert_eq!(odd, [8.0, 12.0, 20.0, 24.0]);
    }

    #[test]
    fn gradients_of_a_strided_block_match_finite_differences() {
        let device = Device::flex().autodiff();
        let block = BasicBlock::new([2, 4], 2, 0.99, &BuildContext::new(device.clone(), 3));
        let start: Vec<f32> = (0..2 * 2 * 16).map(|i| (i as f32 * 0.7).sin()).collect();
        let input = |values: &[f32]| Tensor::<4>::from_data(TensorData::new(values.to_vec(), [2, 2, 4, 4]), &device);
        let weights = counting([2, 4, 2, 2], &device).mul_scalar(0.37).sin();
        let value = |x: Tensor<4>| (block.forward(x) * weights.clone()).sum();
        let x = input(&start).require_grad();
        let gradients = value(x.clone()).backward();
        let gradient = values(x.grad(&gradients).unwrap());
        for at in [0, 5, 15, 21, 42, 63] {
            let shifted = |by: f32| {
                let mut moved = start.clone();
                moved[at] += by;
                values(value(input(&moved)).inner())[0]
            };
            let numeric = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
            assert!((numeric - gradient[at]).abs() < 2e-2 * (1.0 + numeric.abs()), "{at}: {numeric} and {}", gradient[at]);
        }
    }

    #[test]
    fn kernels_are_glorot_uniform_with_the_area_in_both_fans() {
        let conv = Convolution::plain([16, 32], 1).build(&BuildContext::new(Device::flex(), 1));
        let limit = (6.0f32 / (9.0 * 48.0)).sqrt();
        let weights = values(conv.weight.val());
        assert!(weights.iter().all(|w| w.abs() <= limit) && weights.iter().any(|w| w.abs() > 0.99 * limit));
        assert!(conv.bias.is_none());
    }
}
