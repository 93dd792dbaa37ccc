//! Convolutions as tensor functions.

use burn::tensor::Tensor;
use burn::tensor::module::{conv_transpose2d as plain_conv_transpose2d, conv2d as plain_conv2d};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};

use super::convolution::{channel_sums, forward, gated_forward, input_gradient, weight_gradient};
use super::shape::ConvShape;
use crate::array::Array;
use crate::gate::{Gated, gated};
use crate::operation::{Operation, apply};
use crate::real::Real;

/// How a kernel moves over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Steps down and across.
    pub stride: [usize; 2],
    /// Rows of zeros before and after the image, then columns before and after.
    pub padding: [[usize; 2]; 2],
}

impl ConvGeometry {
    /// The same step and the same padding on all sides.
    pub fn even(stride: usize, padding: usize) -> Self {
        Self { stride: [stride; 2], padding: [[padding; 2]; 2] }
    }
}

/// TensorFlow's "same" padding of `size` positions, before and after: ceil(size / stride) windows, an odd zero at the end.
pub fn same_padding(size: usize, kernel: usize, stride: usize) -> [usize; 2] {
    let total = (size.div_ceil(stride).saturating_sub(1) * stride + kernel).saturating_sub(size);
    [total / 2, total - total / 2]
}

/// y\[n, i, j, o\] = b\[o\] + sum over c, u, v of w\[o, c, u, v\] x\[n, i stride - top + u, j stride - left + v, c\].
///
/// x `[batch, height, width, in]`, w `[out, in, kernel height, kernel width]`, b `[out]`; y `[batch, rows, columns, out]`.
///
/// # Panics
/// When the sizes do not fit together or the padded image is smaller than the kernel.
pub fn conv2d(x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>, geometry: ConvGeometry) -> Tensor<4> {
    through(Conv { geometry }, x, weight, bias, |x, weight, bias| {
        #[cfg(feature = "tch")]
        let (x, weight, bias) = match super::libtorch::conv2d((x, weight, bias), geometry) {
            Ok(y) => return y,
            Err(inputs) => inputs,
        };
        plain(x, weight, bias, geometry)
    })
}

/// [`gated`] of [`conv2d`]: the first half of the channels out times the sigmoid of the second.
///
/// # Panics
/// As [`conv2d`], and when the channels out are odd.
pub fn gated_conv2d(x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>, geometry: ConvGeometry) -> Tensor<4> {
    assert!(weight.dims()[0].is_multiple_of(2), "an odd number of channels, {:?}, has no halves", weight.dims());
    through(GatedConv(Conv { geometry }), x, weight, bias, |x, weight, bias| gated(conv2d(x, weight, bias, geometry)))
}

/// The transpose of [`conv2d`] in x: y\[n, i stride - top + u, j stride - left + v, o\] = b\[o\] + sum over c of
/// w\[c, o, u, v\] x\[n, i, j, c\], summed over all i, j, u, v that lead there.
///
/// x `[batch, height, width, in]`, w `[in, out, kernel height, kernel width]`, b `[out]`; y `[batch, rows, columns, out]` with
/// rows = (height - 1) stride - 2 padding + kernel height + `extra`, where `extra`, below the stride, adds rows and columns at the end.
///
/// # Panics
/// When the sizes do not fit together.
pub fn conv_transpose2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: usize,
    padding: usize,
    extra: usize,
) -> Tensor<4> {
    let operation = ConvTranspose { stride, padding, extra };
    through(operation, x, weight, bias, |x, weight, bias| {
        #[cfg(feature = "tch")]
        let (x, weight, bias) = match super::libtorch::conv_transpose2d((x, weight, bias), stride, padding, extra) {
            Ok(y) => return y,
            Err(inputs) => inputs,
        };
        plain_transpose(x, weight, bias, stride, padding, extra)
    })
}

/// The operation on flex, with or without a bias, or else what there is for other backends.
fn through<O: Operation<2> + Operation<3>>(
    operation: O,
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    elsewhere: impl Fn(Tensor<4>, Tensor<4>, Option<Tensor<1>>) -> Tensor<4>,
) -> Tensor<4> {
    let result = match bias {
        Some(bias) => apply(operation, [x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch()])
            .map_err(|[x, weight, bias]| (x, weight, Some(Tensor::from_dispatch(bias)))),
        None => apply(operation, [x.into_dispatch(), weight.into_dispatch()]).map_err(|[x, weight]| (x, weight, None)),
    };
    match result {
        Ok(y) => Tensor::from_dispatch(y),
        Err((x, weight, bias)) => elsewhere(Tensor::from_dispatch(x), Tensor::from_dispatch(weight), bias),
    }
}

fn plain(x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>, geometry: ConvGeometry) -> Tensor<4> {
    let padding = geometry.padding.map(|[before, after]| (before, after));
    let options = ConvOptions::new_with_padding(geometry.stride, padding, [1; 2], 1);
    plain_conv2d(x.permute([0, 3, 1, 2]), weight, bias, options).permute([0, 2, 3, 1])
}

fn plain_transpose(x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>, stride: usize, padding: usize, extra: usize) -> Tensor<4> {
    let options = ConvTransposeOptions::new([stride; 2], [padding; 2], [extra; 2], [1; 2], 1);
    plain_conv_transpose2d(x.permute([0, 3, 1, 2]), weight, bias, options).permute([0, 2, 3, 1])
}

fn sizes<T: Real>(array: &Array<T>) -> [usize; 4] {
    [0, 1, 2, 3].map(|d| array.shape()[d])
}

/// [`conv2d`] as a graph node, with the bias as third input or without.
#[derive(Clone, Debug)]
struct Conv {
    geometry: ConvGeometry,
}

impl Conv {
    fn shape<T: Real>(&self, x: &Array<T>, weight: &Array<T>) -> ConvShape {
        let ([batch, height, width, channels], [out, inputs, kernel_h, kernel_w]) = (sizes(x), sizes(weight));
        assert_eq!(channels, inputs, "channels of images {:?} for kernels {:?} ([out, in, height, width])", x.shape(), weight.shape());
        let ConvGeometry { stride, padding } = self.geometry;
        ConvShape { batch, channels: [inputs, out], size: [height, width], kernel: [kernel_h, kernel_w], stride, padding }
    }
}

/// Height and width of y.
///
/// # Panics
/// When there is none.
fn output(shape: &ConvShape) -> [usize; 2] {
    let output = shape.output();
    let (kernel, size, padding) = (shape.kernel, shape.size, shape.padding);
    assert!(output[0] * output[1] > 0, "a kernel of {kernel:?} does not fit into images of {size:?} padded by {padding:?}");
    output
}

impl<const N: usize> Operation<N> for Conv {
    fn forward<T: Real>(&self, inputs: [Array<T>; N], tracked: [bool; N]) -> (Array<T>, Vec<Array<T>>) {
        let shape = self.shape(&inputs[0], &inputs[1]);
        let [height, width] = output(&shape);
        let y = forward(&shape, inputs[0].as_slice(), inputs[1].as_slice(), inputs.get(2).map(Array::as_slice));
        let saved = if tracked == [false; N] { Vec::new() } else { inputs.into_iter().take(2).collect() };
        (Array::new(y, &[shape.batch, height, width, shape.channels[1]]), saved)
    }

    fn backward<T: Real>(&self, saved: Vec<Array<T>>, gradient: Array<T>, wanted: [bool; N]) -> [Option<Array<T>>; N] {
        let [x, weight] = [&saved[0], &saved[1]];
        let (shape, gradient) = (self.shape(x, weight), gradient.as_slice());
        std::array::from_fn(|input| {
            wanted[input].then(|| match input {
                0 => Array::new(input_gradient(&shape, gradient, weight.as_slice(), None), x.shape()),
                1 => Array::new(weight_gradient(&shape, x.as_slice(), gradient), weight.shape()),
                _ => Array::new(channel_sums(gradient, shape.channels[1]), &[shape.channels[1]]),
            })
        })
    }
}

/// [`gated_conv2d`] as a graph node, with the bias as third input or without.
#[derive(Clone, Debug)]
struct GatedConv(Conv);

impl<const N: usize> Operation<N> for GatedConv {
    fn forward<T: Real>(&self, inputs: [Array<T>; N], tracked: [bool; N]) -> (Array<T>, Vec<Array<T>>) {
        if tracked == [false; N] {
            let shape = self.0.shape(&inputs[0], &inputs[1]);
            let [height, width] = output(&shape);
            let y = gated_forward(&shape, inputs[0].as_slice(), inputs[1].as_slice(), inputs.get(2).map(Array::as_slice));
            return (Array::new(y, &[shape.batch, height, width, shape.channels[1] / 2]), Vec::new());
        }
        let (y, mut saved) = self.0.forward(inputs, tracked);
        let (gated, before) = Gated.forward([y], [true]);
        saved.extend(before);
        (gated, saved)
    }

    fn backward<T: Real>(&self, mut saved: Vec<Array<T>>, gradient: Array<T>, wanted: [bool; N]) -> [Option<Array<T>>; N] {
        let before = saved.split_off(2);
        let [gradient] = Gated.backward(before, gradient, [true]);
        gradient.map_or_else(|| std::array::from_fn(|_| None), |gradient| self.0.backward(saved, gradient, wanted))
    }
}

/// [`conv_transpose2d`] as a graph node, with the bias as third input or without.
#[derive(Clone, Debug)]
struct ConvTranspose {
    stride: usize,
    padding: usize,
    extra: usize,
}

impl ConvTranspose {
    /// The convolution this is the transpose of: from the output's channels to the input's.
    fn shape<T: Real>(&self, x: &Array<T>, weight: &Array<T>) -> ConvShape {
        let ([batch, height, width, channels], [inputs, out, kernel_h, kernel_w]) = (sizes(x), sizes(weight));
        assert_eq!(channels, inputs, "channels of images {:?} for kernels {:?} ([in, out, height, width])", x.shape(), weight.shape());
        assert!(self.extra < self.stride, "{} additional rows for a stride of {}", self.extra, self.stride);
        let size = [(height, kernel_h), (width, kernel_w)]
            .map(|(size, kernel)| (size.saturating_sub(1) * self.stride + kernel + self.extra).saturating_sub(2 * self.padding));
        let padding = [self.padding, self.padding.saturating_sub(self.extra)];
        ConvShape { batch, channels: [out, inputs], size, kernel: [kernel_h, kernel_w], stride: [self.stride; 2], padding: [padding; 2] }
    }
}

impl<const N: usize> Operation<N> for ConvTranspose {
    fn forward<T: Real>(&self, inputs: [Array<T>; N], tracked: [bool; N]) -> (Array<T>, Vec<Array<T>>) {
        let shape = self.shape(&inputs[0], &inputs[1]);
        let [height, width] = shape.size;
        let y = input_gradient(&shape, inputs[0].as_slice(), inputs[1].as_slice(), inputs.get(2).map(Array::as_slice));
        let saved = if tracked == [false; N] { Vec::new() } else { inputs.into_iter().take(2).collect() };
        (Array::new(y, &[shape.batch, height, width, shape.channels[0]]), saved)
    }

    fn backward<T: Real>(&self, saved: Vec<Array<T>>, gradient: Array<T>, wanted: [bool; N]) -> [Option<Array<T>>; N] {
        let [x, weight] = [&saved[0], &saved[1]];
        let (shape, gradient) = (self.shape(x, weight), gradient.as_slice());
        std::array::from_fn(|input| {
            wanted[input].then(|| match input {
                0 => Array::new(forward(&shape, gradient, weight.as_slice(), None), x.shape()),
                1 => Array::new(weight_gradient(&shape, gradient, x.as_slice()), weight.shape()),
                _ => Array::new(channel_sums(gradient, shape.channels[0]), &[shape.channels[0]]),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, check};

    fn compare(batch: usize, channels: [usize; 2], size: [usize; 2], kernel: [usize; 2], geometry: ConvGeometry) {
        let [inputs, outputs] = channels;
        let shapes = [vec![batch, size[0], size[1], inputs], vec![outputs, inputs, kernel[0], kernel[1]], vec![outputs]];
        check::<4>(
            &Case::new(&shapes),
            |t| conv2d(t.get(0), t.get(1), Some(t.get(2)), geometry).into_dispatch(),
            |t| plain(t.get(0), t.get(1), Some(t.get(2)), geometry).into_dispatch(),
        );
    }

    #[test]
    fn small_kernels_of_any_stride_and_padding_are_those_of_the_plain_formula() {
        let uneven = ConvGeometry { stride: [2; 2], padding: [[0, 1]; 2] };
        compare(1, [1, 1], [1, 1], [1, 1], ConvGeometry::even(1, 0));
        compare(2, [3, 16], [9, 7], [3, 3], ConvGeometry::even(1, 1));
        compare(3, [16, 32], [8, 8], [3, 3], uneven);
        compare(1, [32, 17], [7, 9], [3, 3], ConvGeometry::even(2, 1));
        compare(2, [5, 7], [6, 5], [4, 4], ConvGeometry::even(2, 1));
        compare(2, [16, 8], [5, 5], [1, 1], ConvGeometry::even(2, 0));
        compare(2, [2, 3], [5, 4], [3, 2], ConvGeometry { stride: [1, 3], padding: [[0, 2], [1, 0]] });
    }

    #[test]
    fn every_tile_of_the_kernel_is_that_of_the_plain_formula() {
        for (channels, size) in
            [([16, 16], [17, 33]), ([16, 16], [3, 11]), ([16, 5], [5, 4]), ([64, 64], [3, 9]), ([32, 33], [2, 5]), ([64, 40], [1, 4])]
        {
            compare(2, channels, size, [3, 3], ConvGeometry::even(1, 1));
        }
    }

    #[test]
    fn gated_kernels_are_those_of_the_plain_formula() {
        for (channels, size) in [([1, 2], [1, 1]), ([3, 6], [9, 7]), ([16, 64], [8, 5]), ([5, 34], [4, 4])] {
            let [inputs, outputs] = channels;
            let geometry = ConvGeometry::even(1, 1);
            check::<4>(
                &Case::new(&[vec![2, size[0], size[1], inputs], vec![outputs, inputs, 3, 3], vec![outputs]]),
                |t| gated_conv2d(t.get(0), t.get(1), Some(t.get(2)), geometry).into_dispatch(),
                |t| gated(plain(t.get(0), t.get(1), Some(t.get(2)), geometry)).into_dispatch(),
            );
        }
    }

    #[test]
    fn a_missing_bias_counts_as_zero() {
        let geometry = ConvGeometry::even(1, 2);
        check::<4>(
            &Case::new(&[vec![2, 4, 3, 3], vec![6, 3, 5, 5]]),
            |t| conv2d(t.get(0), t.get(1), None, geometry).into_dispatch(),
            |t| plain(t.get(0), t.get(1), None, geometry).into_dispatch(),
        );
    }

    #[test]
    fn transposed_convolutions_are_those_of_the_plain_formula() {
        for (channels, size, kernel, [stride, padding, extra]) in [
            ([8, 5], 4, 4, [2, 1, 0]),
            ([3, 20], 3, 5, [2, 2, 1]),
            ([17, 16], 4, 4, [1, 0, 0]),
            ([4, 33], 5, 3, [1, 1, 0]),
            ([2, 2], 2, 2, [3, 0, 2]),
        ] {
            let [inputs, outputs] = channels;
            check::<4>(
                &Case::new(&[vec![2, size, size + 1, inputs], vec![inputs, outputs, kernel, kernel], vec![outputs]]),
                |t| conv_transpose2d(t.get(0), t.get(1), Some(t.get(2)), stride, padding, extra).into_dispatch(),
                |t| plain_transpose(t.get(0), t.get(1), Some(t.get(2)), stride, padding, extra).into_dispatch(),
            );
        }
    }

    #[test]
    fn same_padding_has_its_odd_zero_at_the_end() {
        assert_eq!(same_padding(32, 3, 1), [1, 1]);
        assert_eq!(same_padding(32, 3, 2), [0, 1]);
        assert_eq!(same_padding(7, 3, 2), [1, 1]);
        assert_eq!(same_padding(8, 1, 2), [0, 0]);
    }
}
