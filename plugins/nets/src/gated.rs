//! Gated dense and convolutional layers, masked convolutions, and the clamped heads of the image models.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::Tensor;
use ibhost_framework::build::BuildContext;
use ibhost_framework::distributions::Normal;
use ibhost_kernels::{Activation, ConvGeometry, conv2d, dense, gated, gated_conv2d, linear};

use crate::residual_block::{channels_first, channels_last};

/// (W_h x + b_h) sigmoid(W_g x + b_g).
#[derive(Module, Debug)]
pub struct GatedDense {
    /// The value.
    pub value: Linear,
    /// The gate, before the sigmoid.
    pub gate: Linear,
}

/// Dense layer with weights N(0, 2/inputs) and PyTorch's bias.
pub fn he_linear(inputs: usize, outputs: usize, context: &BuildContext) -> Linear {
    let limit = (inputs.max(1) as f64).sqrt().recip();
    let weight = context.normal([inputs, outputs], 0.0, (2.0 / inputs.max(1) as f64).sqrt());
    Linear { weight, bias: Some(context.uniform([outputs], limit)) }
}

/// The biases of value and gate one after the other; a layer has both or none.
fn both(value: Option<&Param<Tensor<1>>>, gate: Option<&Param<Tensor<1>>>) -> Option<Tensor<1>> {
    Some(Tensor::cat(vec![value?.val(), gate?.val()], 0))
}

impl GatedDense {
    /// A layer from `inputs` to `outputs` features.
    pub fn new(inputs: usize, outputs: usize, context: &BuildContext) -> Self {
        Self { value: he_linear(inputs, outputs, context), gate: he_linear(inputs, outputs, context) }
    }

    /// `[batch, inputs]` to `[batch, outputs]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let weight = Tensor::cat(vec![self.value.weight.val(), self.gate.weight.val()], 1);
        let bias = both(self.value.bias.as_ref(), self.gate.bias.as_ref());
        gated(linear(x, weight, bias, Activation::Identity))
    }
}

/// Convolution with the same stride and padding in both directions; weight `[outputs, inputs, height, width]`.
#[derive(Module, Debug)]
pub struct Conv {
    /// Kernels.
    pub weight: Param<Tensor<4>>,
    /// One per output channel.
    pub bias: Option<Param<Tensor<1>>>,
    stride: usize,
    padding: usize,
}

/// Kernel size, stride and padding of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Step.
    pub stride: usize,
    /// Zeros at every side.
    pub padding: usize,
}

impl Window {
    /// Kernel, stride, padding.
    pub const fn new(kernel: usize, stride: usize, padding: usize) -> Self {
        Self { kernel, stride, padding }
    }

    /// Size of the output for an input of `size`; 0 when the kernel does not fit.
    pub const fn output(self, size: usize) -> usize {
        match (size + 2 * self.padding).checked_sub(self.kernel) {
            Some(room) => room / self.stride + 1,
            None => 0,
        }
    }
}

impl Conv {
    /// From `channels[0]` to `channels[1]` channels, initialised as PyTorch does.
    pub fn new(channels: [usize; 2], window: Window, bias: bool, context: &BuildContext) -> Self {
        let [inputs, outputs] = channels;
        let limit = ((inputs * window.kernel * window.kernel).max(1) as f64).sqrt().recip();
        Self {
            weight: context.uniform([outputs, inputs, window.kernel, window.kernel], limit),
            bias: bias.then(|| context.uniform([outputs], limit)),
            stride: window.stride,
            padding: window.padding,
        }
    }

    fn forward_with(&self, x: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
        channels_first(self.windows(channels_last(x), weight, self.bias.as_ref().map(Param::val)))
    }

    /// Other kernels moved over channels-last images as this layer's own are.
    fn windows(&self, x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>) -> Tensor<4> {
        conv2d(x, weight, bias, ConvGeometry::even(self.stride, self.padding))
    }

    /// `[batch, inputs, height, width]` to `[batch, outputs, ...]`.
    ///
    /// Channels are innermost in memory, before and after, so that layers follow each other without a copy.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_with(x, self.weight.val())
    }
}

/// (W_h * x + b_h) sigmoid(W_g * x + b_g).
#[derive(Module, Debug)]
pub struct GatedConv {
    /// The value.
    pub value: Conv,
    /// The gate, before the sigmoid.
    pub gate: Conv,
}

impl GatedConv {
    /// From `channels[0]` to `channels[1]` channels.
    pub fn new(channels: [usize; 2], window: Window, context: &BuildContext) -> Self {
        Self { value: Conv::new(channels, window, true, context), gate: Conv::new(channels, window, true, context) }
    }

    /// As [`Conv::forward`].
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        halves(&self.value, &self.gate, x, [self.value.weight.val(), self.gate.weight.val()])
    }
}

/// Value and gate as one convolution of twice the channels, then the gate.
fn halves(value: &Conv, gate: &Conv, x: Tensor<4>, weights: [Tensor<4>; 2]) -> Tensor<4> {
    let bias = both(value.bias.as_ref(), gate.bias.as_ref());
    let geometry = ConvGeometry::even(value.stride, value.padding);
    channels_first(gated_conv2d(channels_last(x), Tensor::cat(weights.to_vec(), 0), bias, geometry))
}

/// Gated convolutions with a residual connection: x + gated(gated(x)).
#[derive(Module, Debug)]
pub struct GatedResidual {
    /// First layer.
    pub first: GatedConv,
    /// Second layer.
    pub second: GatedConv,
}

impl GatedResidual {
    /// 3x3 layers that keep the size.
    pub fn new(channels: usize, context: &BuildContext) -> Self {
        let layer = || GatedConv::new([channels, channels], Window::new(3, 1, 1), context);
        Self { first: layer(), second: layer() }
    }

    /// Keeps the shape.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.second.forward(self.first.forward(x.clone())) + x
    }
}

/// What a masked convolution may look at, in raster order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Earlier pixels only.
    A,
    /// Earlier pixels and the pixel itself.
    B,
}

/// Convolution whose kernels are zero below and right of the centre, and for mask A at the centre.
///
/// The gradient is that of the dense kernel: entries under the mask have gradients although their values never matter, which counts where
/// a gradient's norm does.
#[derive(Module, Debug)]
pub struct MaskedConv {
    /// Kernels before masking.
    pub conv: Conv,
    #[module(skip)]
    mask: Mask,
    open: usize,
}

impl MaskedConv {
    /// From `channels[0]` to `channels[1]` channels with the size kept; the last `open` input channels are not masked (conditioning maps).
    pub fn new(channels: [usize; 2], kernel: usize, mask: Mask, bias: bool, open: usize, context: &BuildContext) -> Self {
        Self { conv: Conv::new(channels, Window::new(kernel, 1, kernel / 2), bias, context), mask, open: open.min(channels[0]) }
    }

    fn mask_tensor(&self) -> Tensor<4> {
        let weight = self.conv.weight.val();
        let [_, inputs, height, width] = weight.dims();
        let (row, column) = (height / 2, width / 2);
        let visible = |y: usize, x: usize| match y.cmp(&row) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => x < column || (x == column && self.mask == Mask::B),
            std::cmp::Ordering::Greater => false,
        };
        let plane: Vec<f32> = (0..height * width).map(|i| if visible(i / width, i % width) { 1.0 } else { 0.0 }).collect();
        let values: Vec<f32> =
            (0..inputs).flat_map(|c| if c + self.open >= inputs { vec![1.0; height * width] } else { plane.clone() }).collect();
        Tensor::<1>::from_floats(values.as_slice(), &weight.device().without_autodiff()).reshape([1, inputs, height, width])
    }

    /// The kernels behind the mask.
    fn masked(&self) -> Tensor<4> {
        let weight = self.conv.weight.val();
        let hidden = if weight.is_autodiff() {
            let hidden = weight.clone().inner() * self.mask_tensor().neg().add_scalar(1.0);
            Tensor::from_inner(hidden)
        } else {
            weight.clone() * self.mask_tensor().neg().add_scalar(1.0)
        };
        // Subtracting a constant masks the value and leaves the gradient dense.
        weight - hidden
    }

    /// Keeps height and width.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.conv.forward_with(x, self.masked())
    }
}

/// Masked convolutions for value and gate.
#[derive(Module, Debug)]
pub struct MaskedGatedConv {
    /// The value.
    pub value: MaskedConv,
    /// The gate, before the sigmoid.
    pub gate: MaskedConv,
}

impl MaskedGatedConv {
    /// As [`MaskedConv::new`] with biases.
    pub fn new(channels: [usize; 2], kernel: usize, mask: Mask, context: &BuildContext) -> Self {
        let layer = || MaskedConv::new(channels, kernel, mask, true, 0, context);
        Self { value: layer(), gate: layer() }
    }

    /// Keeps height and width.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        halves(&self.value.conv, &self.gate.conv, x, [self.value.masked(), self.gate.masked()])
    }
}

/// Heads for the mean and the logarithm of the variance of a normal, the latter clamped; no gradient outside the range.
#[derive(Module, Debug)]
pub struct NormalHeads {
    /// Mean.
    pub mean: Linear,
    /// Logarithm of the variance before clamping.
    pub log_variance: Linear,
}

/// Range of the logarithm of a code's variance.
pub const LOG_VARIANCE: [f64; 2] = [-6.0, 2.0];

impl NormalHeads {
    /// From `inputs` features to `latent` dimensions.
    pub fn new(inputs: usize, latent: usize, context: &BuildContext) -> Self {
        Self { mean: he_linear(inputs, latent, context), log_variance: he_linear(inputs, latent, context) }
    }

    /// Mean and clamped log variance, `[batch, latent]` each.
    pub fn forward(&self, x: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let log_variance = dense(&self.log_variance, x.clone(), Activation::Identity).clamp(LOG_VARIANCE[0], LOG_VARIANCE[1]);
        (dense(&self.mean, x, Activation::Identity), log_variance)
    }

    /// The normal they describe.
    pub fn posterior(&self, x: Tensor<2>) -> Normal {
        let (mean, log_variance) = self.forward(x);
        Normal { mean, scale: log_variance.mul_scalar(0.5).exp() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn masked_convolutions_see_no_later_pixel_and_keep_dense_gradients() {
        let device = Device::flex().autodiff();
        let context = BuildContext::new(device.clone(), 1);
        for (mask, sees_itself) in [(Mask::A, false), (Mask::B, true)] {
            let conv = MaskedConv::new([1, 2], 3, mask, false, 0, &context);
            let at = |v: f32| {
                let mut image = vec![0.5f32; 25];
                image[12] = v;
                let image = Tensor::<1>::from_floats(image.as_slice(), &device).reshape([1, 1, 5, 5]);
                values(conv.forward(image).inner())
            };
            let changed: Vec<bool> = at(0.0).iter().zip(at(9.0)).map(|(a, b)| (a - b).abs() > 1e-6).collect();
            assert!(changed[..12].iter().all(|c| !c) && changed[13]);
            assert_eq!(changed[12], sees_itself);
            let gradients = conv.forward(Tensor::ones([1, 1, 5, 5], &device)).sum().backward();
            let gradient = values(conv.conv.weight.val().grad(&gradients).unwrap());
            assert!(gradient.iter().all(|g| g.abs() > 1.0));
        }
    }

    #[test]
    fn open_channels_are_not_masked() {
        let context = BuildContext::new(Device::flex(), 1);
        let conv = MaskedConv::new([2, 1], 3, Mask::A, false, 1, &context);
        let mask = values(conv.mask_tensor());
        assert_eq!(mask, [1., 1., 1., 1., 0., 0., 0., 0., 0., 1., 1., 1., 1., 1., 1., 1., 1., 1.]);
    }

    #[test]
    fn a_closed_gate_lets_nothing_through() {
        let context = BuildContext::new(Device::flex(), 1);
        let mut dense = GatedDense::new(3, 2, &context);
        dense.gate.bias = Some(context.constant([2], -1e4));
        assert_eq!(values(dense.forward(Tensor::ones([1, 3], &Device::flex()))), [0.0, 0.0]);
        assert_eq!(Window::new(3, 2, 1).output(28), 14);
        assert_eq!(Window::new(7, 1, 0).output(3), 0);
    }
}
