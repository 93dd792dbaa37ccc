//! Convolution and its gradients over a batch, images in parallel.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::frame::Frame;
use super::gram::Gram;
use super::phase::{Phase, border, phases};
use super::shape::ConvShape;
use super::tile::{Pass, PassOn, block_vectors};
use crate::gate::gate_rows;
use crate::lanes::{dispatch, lanes};
use crate::memory::{filled, written};
use crate::real::Real;
use crate::vectorised;

/// Parts of the batch whose weight gradients are summed one after the other; their number, and with it the result, is the same for any
/// number of threads.
const PARTS: usize = 16;

/// Channels that a pass computes together.
fn block<T: Real>(channels: usize) -> usize {
    let lanes = lanes::<T>();
    lanes * block_vectors(channels, lanes)
}

/// A kernel as [`PassOn`] reads it, from its entries `get(t, k, c)`.
fn blocks<T: Real>(channels: usize, taps: usize, depth: usize, get: impl Fn(usize, usize, usize) -> T) -> Vec<T> {
    let block = block::<T>(channels);
    let mut packed = Vec::with_capacity(channels.next_multiple_of(block) * taps * depth);
    for first in (0..channels).step_by(block) {
        for t in 0..taps {
            for k in 0..depth {
                packed.extend((first..first + block).map(|c| if c < channels { get(t, k, c) } else { T::zero() }));
            }
        }
    }
    packed
}

/// Rows of the kernel that are not 0 all over, counted from the first: below them, as under a mask, there is nothing to compute.
fn live_rows<T: Real>(shape: &ConvShape, weight: &[T]) -> usize {
    let [height, width] = shape.kernel;
    let live = |u: &usize| {
        weight.chunks_exact((height * width).max(1)).any(|plane| plane[u * width..(u + 1) * width].iter().any(|w| *w != T::zero()))
    };
    (0..height).rev().find(live).map_or(0, |last| last + 1)
}

/// `bias`, or zeros, filled up to whole blocks.
fn block_bias<T: Real>(channels: usize, bias: Option<&[T]>) -> Vec<T> {
    let mut padded = bias.map_or_else(Vec::new, <[T]>::to_vec);
    padded.resize(channels.next_multiple_of(block::<T>(channels)), T::zero());
    padded
}

/// y of [`ConvShape`]. `weight` is `[out, in, height, width]`; `bias`, if any, `[out]`.
#[allow(unsafe_code)] // Memory for the result is not zeroed first.
pub fn forward<T: Real>(shape: &ConvShape, input: &[T], weight: &[T], bias: Option<&[T]>) -> Vec<T> {
    let convolve = prepared(shape, input, weight, bias);
    let (scratch, to) = (|| vec![T::zero(); Frame::of_input(shape).len()], shape.output_len());
    // SAFETY: an image is written as a whole.
    unsafe { written(shape.batch * to, to, scratch, convolve) }
}

/// The first half of the channels of y of [`ConvShape`] times the sigmoid of the second; y itself never leaves the cache.
#[allow(unsafe_code)] // Memory for the result is not zeroed first.
pub fn gated_forward<T: Real>(shape: &ConvShape, input: &[T], weight: &[T], bias: Option<&[T]>) -> Vec<T> {
    let convolve = prepared(shape, input, weight, bias);
    let (half, to) = (shape.channels[1] / 2, shape.output_len());
    let scratch = || (vec![T::zero(); Frame::of_input(shape).len()], vec![MaybeUninit::uninit(); to]);
    let gated = |(padded, y): &mut (Vec<T>, Vec<MaybeUninit<T>>), n: usize, out: &mut [MaybeUninit<T>]| {
        convolve(padded, n, y);
        // SAFETY: the image has been written as a whole.
        gate_rows(unsafe { y.assume_init_ref() }, half, out);
    };
    // SAFETY: the gate writes every row.
    unsafe { written(shape.batch * to / 2, to / 2, scratch, gated) }
}

/// What writes image `n` of y of [`ConvShape`] as a whole, given memory for its frame.
fn prepared<T: Real>(
    shape: &ConvShape,
    input: &[T],
    weight: &[T],
    bias: Option<&[T]>,
) -> impl Fn(&mut Vec<T>, usize, &mut [MaybeUninit<T>]) + Sync + Send {
    let ([inputs, outputs], [kernel_h, kernel_w]) = (shape.channels, shape.kernel);
    let [height, width] = shape.output();
    let frame = Frame::of_input(shape);
    let taps = live_rows(shape, weight);
    let weights =
        blocks(outputs, taps, kernel_w * inputs, |t, k, o| weight[((o * inputs + k % inputs) * kernel_h + t) * kernel_w + k / inputs]);
    let bias = block_bias(outputs, bias);
    let pass = Pass {
        taps,
        depth: kernel_w * inputs,
        row: frame.row(),
        row_step: shape.stride[0] * frame.row(),
        step: shape.stride[1] * inputs,
        size: [height, width],
        channels: outputs,
        out_row: width * outputs,
        out_pixel: outputs,
    };
    let from = shape.input_len();
    move |padded, n, out| {
        frame.fill(&input[n * from..(n + 1) * from], padded);
        dispatch(PassOn { pass, image: padded, weights: &weights, bias: &bias, out });
    }
}

/// Gradient with respect to x of [`ConvShape`] from the gradient with respect to y. As a layer of its own this is the transposed
/// convolution, and `bias` (`[in]`) is what that one adds.
#[allow(unsafe_code)] // Memory for the result is not zeroed first.
pub fn input_gradient<T: Real>(shape: &ConvShape, gradient: &[T], weight: &[T], bias: Option<&[T]>) -> Vec<T> {
    // A pass computes whole vectors of channels; where these are half empty, it is less work to compute what each output pixel gives to its
    // window.
    if 2 * shape.channels[0] < lanes::<T>() {
        return scattered(shape, gradient, weight, bias);
    }
    let ([inputs, outputs], [kernel_h, kernel_w]) = (shape.channels, shape.kernel);
    let size = shape.output();
    let [rows, columns] = [0, 1].map(|d| phases(shape.size[d], shape.kernel[d], shape.stride[d], shape.padding[d][0]));
    let borders = [border(&rows, size[0]), border(&columns, size[1])];
    let frame = Frame {
        channels: [outputs; 2],
        size,
        padded: [0, 1].map(|d| size[d] + borders[d][0] + borders[d][1]),
        start: [borders[0][0], borders[1][0]],
    };
    let from = |phase: &Phase, border: usize| (phase.start + border as isize) as usize;
    let live = live_rows(shape, weight);
    let mut passes = Vec::with_capacity(rows.len() * columns.len());
    for down in &rows {
        for across in &columns {
            // Taps run backwards: the window over the output starts with the last one.
            let taps = live.saturating_sub(down.tap).div_ceil(shape.stride[0]).min(down.taps);
            let reads = taps > 0 && across.taps > 0;
            let weights = blocks(inputs, taps, across.taps * outputs, |t, k, c| {
                let u = down.tap + (taps - 1 - t) * shape.stride[0];
                let v = across.tap + (across.taps - 1 - k / outputs) * shape.stride[1];
                weight[((k % outputs * inputs + c) * kernel_h + u) * kernel_w + v]
            });
            let pass = Pass {
                taps: if reads { taps } else { 0 },
                depth: across.taps * outputs,
                row: frame.row(),
                row_step: frame.row(),
                step: outputs,
                size: [down.count, across.count],
                channels: inputs,
                out_row: shape.stride[0] * shape.size[1] * inputs,
                out_pixel: shape.stride[1] * inputs,
            };
            let above = from(down, borders[0][0]) + down.taps - taps;
            let start = if reads { above * frame.row() + from(across, borders[1][0]) * outputs } else { 0 };
            passes.push((pass, weights, start, (down.first * shape.size[1] + across.first) * inputs));
        }
    }
    let bias = block_bias(inputs, bias);
    let (from, to) = (shape.output_len(), shape.input_len());
    let scratch = || vec![T::zero(); frame.len()];
    // SAFETY: a pass writes all channels of its pixels, and every position belongs to the phases of one pass.
    unsafe {
        written(shape.batch * to, to, scratch, |padded, n, out| {
            frame.fill(&gradient[n * from..(n + 1) * from], padded);
            for (pass, weights, start, first) in &passes {
                dispatch(PassOn { pass: *pass, image: &padded[*start..], weights, bias: &bias, out: &mut out[*first..] });
            }
        })
    }
}

/// [`input_gradient`] by adding, for every output pixel, its gradient times the kernel to its window of a padded image.
#[allow(unsafe_code)] // Memory for the result is not zeroed first.
fn scattered<T: Real>(shape: &ConvShape, gradient: &[T], weight: &[T], bias: Option<&[T]>) -> Vec<T> {
    let ([inputs, outputs], [kernel_h, kernel_w]) = (shape.channels, shape.kernel);
    let [height, width] = shape.output();
    let frame = Frame::of_input(shape);
    let (run, window) = (kernel_w * inputs, kernel_h * kernel_w * inputs);
    let weights = blocks(window, 1, outputs, |_, o, k| weight[(o * inputs + k % inputs) * kernel_h * kernel_w + k / inputs]);
    let zeros = block_bias(window, None);
    let pass = Pass {
        taps: 1,
        depth: outputs,
        row: width * outputs,
        row_step: width * outputs,
        step: outputs,
        size: [height, width],
        channels: window,
        out_row: width * window,
        out_pixel: window,
    };
    let bias: Vec<T> = (0..shape.size[1] * inputs).map(|at| bias.map_or(T::zero(), |bias| bias[at % inputs])).collect();
    let (from, to) = (shape.output_len(), shape.input_len());
    let scratch = || (vec![MaybeUninit::uninit(); height * width * window], vec![T::zero(); frame.len()]);
    let image_of = |(windows, padded): &mut (Vec<MaybeUninit<T>>, Vec<T>), n: usize, out: &mut [MaybeUninit<T>]| {
        let image = &gradient[n * from..(n + 1) * from];
        dispatch(PassOn { pass, image, weights: &weights, bias: &zeros, out: windows });
        // SAFETY: the pass has written all channels of all pixels.
        let windows = unsafe { windows.assume_init_ref() };
        padded.fill(T::zero());
        for (at, window) in windows.chunks_exact(window).enumerate() {
            let first = at / width * shape.stride[0] * frame.row() + at % width * shape.stride[1] * inputs;
            for (u, values) in window.chunks_exact(run).enumerate() {
                let target = &mut padded[first + u * frame.row()..][..run];
                target.iter_mut().zip(values).for_each(|(sum, value)| *sum += *value);
            }
        }
        for (i, out) in out.chunks_exact_mut(bias.len()).enumerate() {
            let row = &padded[(frame.start[0] + i) * frame.row() + frame.start[1] * inputs..][..bias.len()];
            for ((y, sum), bias) in out.iter_mut().zip(row).zip(&bias) {
                y.write(*sum + *bias);
            }
        }
    };
    // SAFETY: all rows of the image are written from end to end.
    unsafe { written(shape.batch * to, to, scratch, image_of) }
}

/// Gradient with respect to w of [`ConvShape`], `[out, in, height, width]`, from x and the gradient with respect to y.
pub fn weight_gradient<T: Real>(shape: &ConvShape, input: &[T], gradient: &[T]) -> Vec<T> {
    let ([inputs, outputs], [kernel_h, kernel_w]) = (shape.channels, shape.kernel);
    let [height, width] = shape.output();
    let wide = outputs.next_multiple_of(lanes::<T>());
    let frame = Frame::of_input(shape);
    let whole_vectors = Frame { channels: [outputs, wide], size: [height, width], padded: [height, width], start: [0; 2] };
    let run = kernel_w * inputs;
    // Short rows of the kernel leave registers empty; then the whole windows are laid out one after the other first.
    let unfolds = run < 12 && kernel_h > 1;
    let (taps, depth) = if unfolds { (1, (kernel_h * run).next_multiple_of(4)) } else { (kernel_h, run) };
    let len = taps * depth * wide;
    if shape.batch == 0 || height * width == 0 || len == 0 {
        return vec![T::zero(); shape.weight_len()];
    }
    let part = shape.batch.div_ceil(PARTS);
    let unfolded = if unfolds { height * width * depth } else { 0 };
    let scratch = || {
        (vec![T::zero(); frame.len()], vec![T::zero(); unfolded], vec![T::zero(); if wide == outputs { 0 } else { whole_vectors.len() }])
    };
    let (input_len, output_len) = (shape.input_len(), shape.output_len());
    let mut sums = filled(shape.batch.div_ceil(part) * len, len, scratch, |(padded, windows, copy), number, sums| {
        for n in number * part..((number + 1) * part).min(shape.batch) {
            frame.fill(&input[n * input_len..(n + 1) * input_len], padded);
            let mut gradient = &gradient[n * output_len..(n + 1) * output_len];
            if wide != outputs {
                whole_vectors.fill(gradient, copy);
                gradient = copy;
            }
            let (mut row_step, mut step, mut image) = (shape.stride[0] * frame.row(), shape.stride[1] * inputs, &*padded);
            if unfolds {
                for (at, window) in windows.chunks_exact_mut(depth).enumerate() {
                    let first = at / width * row_step + at % width * step;
                    for (u, values) in window.chunks_exact_mut(run).take(kernel_h).enumerate() {
                        values.copy_from_slice(&padded[first + u * frame.row()..][..run]);
                    }
                }
                (row_step, step, image) = (width * depth, depth, &*windows);
            }
            dispatch(Gram { taps, depth, row: frame.row(), row_step, step, size: [height, width], channels: wide, image, gradient, sums });
        }
    });
    let (total, others) = sums.split_at_mut(len);
    for other in others.chunks_exact(len) {
        for (total, other) in total.iter_mut().zip(other) {
            *total += *other;
        }
    }
    let mut result = Vec::with_capacity(shape.weight_len());
    for o in 0..outputs {
        for c in 0..inputs {
            for u in 0..kernel_h {
                result.extend((0..kernel_w).map(|v| total[(u * run + v * inputs + c) * wide + o]));
            }
        }
    }
    result
}

/// Sum over images and pixels of `pixels` = `[pixels, channels]`: the gradient with respect to a bias.
pub fn channel_sums<T: Real>(pixels: &[T], channels: usize) -> Vec<T> {
    let part = (1 << 12) * channels.max(1);
    let parts: Vec<Vec<f64>> = pixels
        .par_chunks(part)
        .map(|pixels| {
            let mut sums = vec![T::zero(); channels];
            vectorised!(|| {
                for pixel in pixels.chunks_exact(channels.max(1)) {
                    for (sum, value) in sums.iter_mut().zip(pixel) {
                        *sum += *value;
                    }
                }
            });
            sums.into_iter().map(T::wide).collect()
        })
        .collect();
    (0..channels).map(|c| T::of(parts.iter().map(|part| part[c]).sum())).collect()
}
