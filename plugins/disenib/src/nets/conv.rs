//! Strided convolutions and transposed convolutions, each with instance norm and a leaky or plain rectifier.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use ibhost_framework::build::{BuildContext, Initial};
use ibhost_kernels::{ConvGeometry, conv_transpose2d, conv2d, instance_norm};
use ibhost_nets::residual_block::{channels_first, channels_last};
use ibhost_nets::shape::flatten;

use super::stack::SLOPE;

/// Standard deviation of fresh kernels.
const KERNEL_STD: f64 = 0.05;
/// Edge of convolution kernels and of transposed ones.
const KERNEL: usize = 5;
const TRANSPOSED_KERNEL: usize = 4;
/// Step of both.
const STRIDE: usize = 2;
/// Added to the variance.
const EPSILON: f64 = 1e-5;

/// One 5x5 convolution of stride 2.
#[derive(Module, Debug)]
pub struct Convolution {
    /// `[outputs, inputs, 5, 5]`.
    pub weight: Param<Tensor<4>>,
    /// `[outputs]`; in front of an instance norm without effect, kept because the original has it.
    pub bias: Param<Tensor<1>>,
    padding: usize,
}

impl Convolution {
    fn new(inputs: usize, outputs: usize, padding: usize, context: &BuildContext) -> Self {
        let weight = context.weight([outputs, inputs, KERNEL, KERNEL], 1, 1, Initial::Normal(KERNEL_STD));
        Self { weight, bias: context.constant([outputs], 0.0), padding }
    }

    /// Of channels-last images.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        conv2d(x, self.weight.val(), Some(self.bias.val()), ConvGeometry::even(STRIDE, self.padding))
    }
}

/// Convolutions, each followed by instance norm and a rectifier.
#[derive(Module, Debug)]
pub struct ConvStack {
    /// From the image on.
    pub layers: Vec<Convolution>,
    leaky: bool,
}

impl ConvStack {
    /// Stack from `channels` channels through stages of (outputs, zero padding).
    pub fn new(channels: usize, stages: &[(usize, usize)], leaky: bool, context: &BuildContext) -> Self {
        let mut inputs = channels;
        let mut layers = Vec::with_capacity(stages.len());
        for &(outputs, padding) in stages {
            layers.push(Convolution::new(inputs, outputs, padding, context));
            inputs = outputs;
        }
        Self { layers, leaky }
    }

    /// `[batch, channels, height, width]` to rows in channel-major order.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let slope = if self.leaky { SLOPE } else { 0.0 };
        let x = self.layers.iter().fold(channels_last(x), |x, layer| instance_norm(layer.forward(x), EPSILON, slope));
        flatten(channels_first(x))
    }
}

/// One 4x4 transposed convolution of stride 2.
#[derive(Module, Debug)]
pub struct Transposed {
    /// `[inputs, outputs, 4, 4]`.
    pub weight: Param<Tensor<4>>,
    /// `[outputs]`.
    pub bias: Param<Tensor<1>>,
    padding: usize,
}

impl Transposed {
    fn new(inputs: usize, outputs: usize, padding: usize, context: &BuildContext) -> Self {
        // The bound a framework's default takes: one over the root of outputs times kernel area.
        let initial = Initial::Uniform(1.0 / ((outputs * TRANSPOSED_KERNEL * TRANSPOSED_KERNEL) as f64).sqrt());
        Self {
            weight: context.weight([inputs, outputs, TRANSPOSED_KERNEL, TRANSPOSED_KERNEL], 1, 1, initial),
            bias: context.weight([outputs], 1, 1, initial),
            padding,
        }
    }

    /// Of channels-last images.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        conv_transpose2d(x, self.weight.val(), Some(self.bias.val()), STRIDE, self.padding, 0)
    }
}

/// Transposed convolutions; all but the last are followed by instance norm and leaky units.
#[derive(Module, Debug)]
pub struct TransposedStack {
    /// From the code on.
    pub layers: Vec<Transposed>,
}

impl TransposedStack {
    /// Stack from `channels` channels through stages of (outputs, cropping).
    pub fn new(channels: usize, stages: &[(usize, usize)], context: &BuildContext) -> Self {
        let mut inputs = channels;
        let mut layers = Vec::with_capacity(stages.len());
        for &(outputs, padding) in stages {
            layers.push(Transposed::new(inputs, outputs, padding, context));
            inputs = outputs;
        }
        Self { layers }
    }

    /// `[batch, channels, height, width]` to images.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mut x = channels_last(x);
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(x);
            if index + 1 < self.layers.len() {
                x = instance_norm(x, EPSILON, SLOPE);
            }
        }
        channels_first(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn stages_halve_and_double_the_image() {
        let context = BuildContext::new(Device::flex(), 1);
        let down = ConvStack::new(1, &[(16, 1), (32, 1), (64, 1)], false, &context);
        assert_eq!(down.forward(Tensor::ones([2, 1, 28, 28], &Device::flex())).dims(), [2, 256]);
        let up = TransposedStack::new(128, &[(32, 0), (16, 0), (1, 1)], &context);
        assert_eq!(up.forward(Tensor::ones([2, 128, 2, 2], &Device::flex())).dims(), [2, 1, 28, 28]);
    }
}
