//! Every n-th pixel of channels-last images with channels of zeros added: the shortcut without parameters of residual networks.

use burn::tensor::ops::PadMode;
use burn::tensor::{Int, Tensor};

use crate::array::Array;
use crate::memory::filled;
use crate::operation::{Operation, apply};
use crate::real::Real;

/// Rows and columns 0, `step`, 2 `step`, ... of x `[batch, height, width, channels]`, with `added[0]` channels of zeros before those of x
/// and `added[1]` after: `[batch, ceil(height / step), ceil(width / step), added[0] + channels + added[1]]` ("option A" of He et al. 2015,
/// arXiv:1512.03385).
pub fn subsample(x: Tensor<4>, step: usize, added: [usize; 2]) -> Tensor<4> {
    let [_, height, width, _] = x.dims();
    let operation = Subsample { step: step.max(1), added, size: [height, width] };
    match apply(operation.clone(), [x.into_dispatch()]) {
        Ok(y) => Tensor::from_dispatch(y),
        Err([x]) => plain(Tensor::from_dispatch(x), operation.step, added),
    }
}

fn plain(x: Tensor<4>, step: usize, [before, after]: [usize; 2]) -> Tensor<4> {
    let x = if step == 1 { x } else { every(every(x, 1, step), 2, step) };
    if before + after == 0 { x } else { x.pad([(before, after)], PadMode::Constant(0.0)) }
}

/// Every `step`-th entry along `dim`, from the first on. A selection rather than a slice with a step, because the backward pass of the
/// latter accepts only contiguous gradients on LibTorch, and convolutions there do not give one.
fn every(x: Tensor<4>, dim: usize, step: usize) -> Tensor<4> {
    let positions = Tensor::<1, Int>::arange_step(0..x.dims()[dim] as i64, step, &x.device());
    x.select(dim, positions)
}

/// [`subsample`] as a graph node.
#[derive(Clone, Debug)]
struct Subsample {
    step: usize,
    added: [usize; 2],
    /// Height and width of x.
    size: [usize; 2],
}

impl Subsample {
    /// Height and width of the result.
    fn output(&self) -> [usize; 2] {
        self.size.map(|size| size.div_ceil(self.step))
    }
}

impl Operation<1> for Subsample {
    fn forward<T: Real>(&self, [x]: [Array<T>; 1], _tracked: [bool; 1]) -> (Array<T>, Vec<Array<T>>) {
        let (batch, channels) = (x.shape()[0], x.shape()[3]);
        let [rows, columns] = self.output();
        let ([before, after], image) = (self.added, self.size[0] * self.size[1] * channels);
        let wide = before + channels + after;
        let y = filled(
            batch * rows * columns * wide,
            rows * columns * wide,
            || (),
            |(), n, out| {
                let x = &x.as_slice()[n * image..(n + 1) * image];
                for (i, row) in out.chunks_exact_mut((columns * wide).max(1)).enumerate() {
                    let x = &x[i * self.step * self.size[1] * channels..];
                    for (j, pixel) in row.chunks_exact_mut(wide).enumerate() {
                        pixel[before..before + channels].copy_from_slice(&x[j * self.step * channels..][..channels]);
                    }
                }
            },
        );
        (Array::new(y, &[batch, rows, columns, wide]), Vec::new())
    }

    fn backward<T: Real>(&self, _saved: Vec<Array<T>>, gradient: Array<T>, wanted: [bool; 1]) -> [Option<Array<T>>; 1] {
        let (batch, wide) = (gradient.shape()[0], gradient.shape()[3]);
        let ([rows, columns], [height, width]) = (self.output(), self.size);
        let ([before, after], image) = (self.added, rows * columns * wide);
        let channels = wide - before - after;
        let result = wanted[0].then(|| {
            filled(
                batch * height * width * channels,
                height * width * channels,
                || (),
                |(), n, out| {
                    let gradient = &gradient.as_slice()[n * image..(n + 1) * image];
                    for (i, row) in gradient.chunks_exact((columns * wide).max(1)).enumerate() {
                        let out = &mut out[i * self.step * width * channels..];
                        for (j, pixel) in row.chunks_exact(wide).enumerate() {
                            out[j * self.step * channels..][..channels].copy_from_slice(&pixel[before..before + channels]);
                        }
                    }
                },
            )
        });
        [result.map(|values| Array::new(values, &[batch, height, width, channels]))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, check};

    #[test]
    fn pixels_and_channels_are_those_of_the_plain_formula() {
        for (shape, step, added) in
            [([1, 1, 1, 1], 1, [0, 0]), ([2, 4, 6, 3], 2, [1, 2]), ([3, 5, 7, 16], 2, [8, 8]), ([2, 7, 4, 2], 3, [0, 1])]
        {
            check::<4>(
                &Case::new(&[shape.to_vec()]),
                |t| subsample(t.get(0), step, added).into_dispatch(),
                |t| plain(t.get(0), step, added).into_dispatch(),
            );
        }
    }
}
