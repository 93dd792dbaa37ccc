//! Convolutions and dense heads of channels-last images, initialised as PyTorch does.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::Tensor;
use ibhost_framework::build::BuildContext;
use ibhost_kernels::{Activation, ConvGeometry, channels_first, conv_transpose2d, conv2d, dense, relu, softplus};

/// How a square kernel moves over an image; the same for a convolution and for the transposed one that undoes its change of size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Edge of the kernel.
    pub kernel: usize,
    /// Pixels from one window to the next.
    pub stride: usize,
    /// Rows and columns of zeros around the image.
    pub padding: usize,
    /// Rows and columns a transposed convolution adds at the end.
    pub extra: usize,
}

impl Window {
    /// Window of edge `kernel`.
    pub const fn new(kernel: usize, stride: usize, padding: usize, extra: usize) -> Self {
        Self { kernel, stride, padding, extra }
    }

    /// Edge of the image a convolution makes of one of edge `side`; 0 where the kernel does not fit.
    pub fn output(&self, side: usize) -> usize {
        (side + 2 * self.padding).checked_sub(self.kernel).map_or(0, |room| room / self.stride + 1)
    }
}

/// Halves an image ("down"), or doubles it ("up").
pub const HALVE: Window = Window::new(4, 2, 1, 0);
/// Takes three from an image's edge, or adds them.
pub const TRIM: Window = Window::new(4, 1, 0, 0);
/// Halves or doubles with a kernel of five.
pub const HALVE5: Window = Window::new(5, 2, 2, 1);
/// Keeps the size.
pub const KEEP3: Window = Window::new(3, 1, 1, 0);
/// Keeps the size with a kernel of five.
pub const KEEP5: Window = Window::new(5, 1, 2, 0);

/// Weight and bias uniform on ±1/sqrt(fan_in), fan_in = the weight's second axis times the kernel's area.
fn torch(shape: [usize; 4], biases: usize, context: &BuildContext) -> (Param<Tensor<4>>, Param<Tensor<1>>) {
    let limit = ((shape[1] * shape[2] * shape[3]).max(1) as f64).sqrt().recip();
    (context.uniform(shape, limit), context.uniform([biases], limit))
}

/// A convolution.
#[derive(Module, Debug)]
pub struct Conv {
    /// `[out, in, kernel, kernel]`.
    pub weight: Param<Tensor<4>>,
    /// `[out]`.
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    window: Window,
}

impl Conv {
    /// From `channels[0]` to `channels[1]` channels.
    pub fn new(channels: [usize; 2], window: Window, context: &BuildContext) -> Self {
        let [inputs, outputs] = channels;
        let (weight, bias) = torch([outputs, inputs, window.kernel, window.kernel], outputs, context);
        Self { weight, bias, window }
    }

    /// `[batch, height, width, in]` to `[batch, height, width, out]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let geometry = ConvGeometry::even(self.window.stride, self.window.padding);
        conv2d(x, self.weight.val(), Some(self.bias.val()), geometry)
    }

    /// [`Conv::forward`], then negative values to 0.
    pub fn relu(&self, x: Tensor<4>) -> Tensor<4> {
        relu(self.forward(x))
    }
}

/// A transposed convolution.
#[derive(Module, Debug)]
pub struct Transposed {
    /// `[in, out, kernel, kernel]`.
    pub weight: Param<Tensor<4>>,
    /// `[out]`.
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    window: Window,
}

impl Transposed {
    /// From `channels[0]` to `channels[1]` channels.
    pub fn new(channels: [usize; 2], window: Window, context: &BuildContext) -> Self {
        let [inputs, outputs] = channels;
        let (weight, bias) = torch([inputs, outputs, window.kernel, window.kernel], outputs, context);
        Self { weight, bias, window }
    }

    /// `[batch, height, width, in]` to `[batch, height, width, out]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let Window { stride, padding, extra, .. } = self.window;
        conv_transpose2d(x, self.weight.val(), Some(self.bias.val()), stride, padding, extra)
    }

    /// [`Transposed::forward`], then negative values to 0.
    pub fn relu(&self, x: Tensor<4>) -> Tensor<4> {
        relu(self.forward(x))
    }
}

/// One layer of a sequence.
#[derive(Module, Debug)]
pub enum Layer {
    /// Convolution.
    Conv(Conv),
    /// Transposed convolution.
    Transposed(Transposed),
}

impl Layer {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Conv(layer) => layer.forward(x),
            Self::Transposed(layer) => layer.forward(x),
        }
    }
}

/// A convolution from `channels[0]` to `channels[1]` channels as a layer.
pub fn conv(channels: [usize; 2], window: Window, context: &BuildContext) -> Layer {
    Layer::Conv(Conv::new(channels, window, context))
}

/// A transposed convolution from `channels[0]` to `channels[1]` channels as a layer.
pub fn transposed(channels: [usize; 2], window: Window, context: &BuildContext) -> Layer {
    Layer::Transposed(Transposed::new(channels, window, context))
}

/// `layers` one after the other with rectified linear units between them.
pub fn through(layers: &[Layer], x: Tensor<4>) -> Tensor<4> {
    layers.iter().enumerate().fold(x, |x, (index, layer)| layer.forward(if index == 0 { x } else { relu(x) }))
}

/// Images `[batch, channels, height, width]` with their channels last.
pub fn channels_last(images: Tensor<4>) -> Tensor<4> {
    images.permute([0, 2, 3, 1])
}

/// Channels-last maps as rows `[batch, channels height width]`, a channel at a time.
pub fn to_rows(maps: Tensor<4>) -> Tensor<2> {
    let [batch, height, width, channels] = maps.dims();
    channels_first(maps).reshape([batch, channels * height * width])
}

/// Rows `[batch, channels side side]` as channels-last maps.
pub fn to_maps(rows: Tensor<2>, side: usize) -> Tensor<4> {
    let [batch, size] = rows.dims();
    rows.reshape([batch, size / (side * side), side, side]).permute([0, 2, 3, 1])
}

/// Numbers of channels-last maps as they lie in memory, `[batch, height width channels]`.
pub fn packed(maps: Tensor<4>) -> Tensor<2> {
    let [batch, height, width, channels] = maps.dims();
    maps.reshape([batch, height * width * channels])
}

/// What [`packed`] made of maps of `side` x `side` pixels.
pub fn unpacked(rows: Tensor<2>, side: usize) -> Tensor<4> {
    let [batch, size] = rows.dims();
    rows.reshape([batch, side, side, size / (side * side)])
}

/// A dense layer with rectified linear units.
pub fn dense_relu(layer: &Linear, x: Tensor<2>) -> Tensor<2> {
    dense(layer, x, Activation::Relu)
}

/// A dense layer.
pub fn dense_linear(layer: &Linear, x: Tensor<2>) -> Tensor<2> {
    dense(layer, x, Activation::Identity)
}

/// From features `[batch, side, side, channels]` to the numbers of a code.
#[derive(Module, Debug)]
pub enum Head {
    /// 3x3 convolution: the code is a map of as many channels.
    Map(Conv),
    /// Dense layer: the code is a row.
    Row(Linear),
}

impl Head {
    /// Head from maps of `channels` channels and edge `side` to a map, or to a row of `flat` numbers.
    pub fn new(channels: usize, side: usize, flat: Option<usize>, context: &BuildContext) -> Self {
        match flat {
            None => Self::Map(Conv::new([channels; 2], KEEP3, context)),
            Some(size) => Self::Row(context.torch_linear(channels * side * side, size)),
        }
    }

    /// `[batch, latent]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        match self {
            Self::Map(layer) => to_rows(layer.forward(x)),
            Self::Row(layer) => dense_linear(layer, to_rows(x)),
        }
    }
}

/// softplus(x) = ln(1 + e^x), at least `floor`.
pub fn positive<const D: usize>(x: Tensor<D>, floor: f64) -> Tensor<D> {
    let value = softplus(x, 0.0);
    if floor > 0.0 { value.clamp_min(floor) } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn count(from: usize, shape: [usize; 4]) -> Tensor<4> {
        let size: usize = shape.iter().product();
        Tensor::<1, burn::tensor::Int>::arange(from as i64..(from + size) as i64, &Device::flex()).float().reshape(shape)
    }

    #[test]
    fn rows_and_maps_are_inverse_and_rows_go_channel_by_channel() {
        let images = count(0, [2, 3, 4, 4]);
        let maps = channels_last(images.clone());
        assert_eq!(to_rows(maps.clone()).into_data(), images.reshape([2, 48]).into_data());
        assert_eq!(to_maps(to_rows(maps.clone()), 4).into_data(), maps.clone().into_data());
        assert_eq!(unpacked(packed(maps.clone()), 4).into_data(), maps.into_data());
    }

    #[test]
    fn windows_change_sizes_as_stated() {
        let context = BuildContext::new(Device::flex(), 1);
        for (window, side, out) in [(HALVE, 28, 14), (TRIM, 7, 4), (HALVE5, 32, 16), (KEEP3, 5, 5), (KEEP5, 8, 8)] {
            assert_eq!(window.output(side), out);
            assert_eq!(Conv::new([1, 2], window, &context).forward(count(0, [1, side, side, 1])).dims(), [1, out, out, 2]);
            assert_eq!(Transposed::new([1, 2], window, &context).forward(count(0, [1, out, out, 1])).dims(), [1, side, side, 2]);
        }
        assert_eq!(TRIM.output(3), 0);
    }

    #[test]
    fn sequences_rectify_between_layers_only() {
        let context = BuildContext::new(Device::flex(), 2);
        let layers = [conv([1, 4], KEEP3, &context), transposed([4, 3], HALVE, &context)];
        let x = count(0, [1, 4, 4, 1]).sub_scalar(7.5);
        let (Layer::Conv(first), Layer::Transposed(second)) = (&layers[0], &layers[1]) else { unreachable!("as built above") };
        let expected = second.forward(first.relu(x.clone()));
        let difference = (through(&layers, x) - expected).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-6, "{difference}");
    }
}
