//! The inner kernel of forward and input-gradient passes: a tile of output pixels times a block of output channels in registers.

use std::mem::MaybeUninit;

use pulp::{Simd, WithSimd};

use crate::lanes::outlined;
use crate::real::Real;

/// One pass of a kernel over a padded, channels-last image. All distances count numbers.
///
/// For output pixel (i, j) and channel c of a block:
/// out\[i out_row + j out_pixel + c\] = bias\[c\] + sum over t < taps, k < depth of
/// image\[i row_step + t row + j step + k\] weights\[block\]\[t\]\[k\]\[c\].
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Rows of the kernel.
    pub taps: usize,
    /// Columns of the kernel times channels in.
    pub depth: usize,
    /// From one row of the image to the next.
    pub row: usize,
    /// From the window of one output pixel to that of the pixel below.
    pub row_step: usize,
    /// From the window of one output pixel to that of the pixel to its right.
    pub step: usize,
    /// Rows and columns of output pixels.
    pub size: [usize; 2],
    /// Channels out.
    pub channels: usize,
    /// From one output row to the next.
    pub out_row: usize,
    /// From one output pixel to the next.
    pub out_pixel: usize,
}

/// Vectors of channels in a block: two where there are that many channels, because each number of the image is then read half as often.
pub fn block_vectors(channels: usize, lanes: usize) -> usize {
    if channels > lanes { 2 } else { 1 }
}

/// [`Pass`] on one image.
pub struct PassOn<'a, T> {
    /// What to compute.
    pub pass: Pass,
    /// Padded image, from the first window on.
    pub image: &'a [T],
    /// Block after block, each `taps x depth x block channels`.
    pub weights: &'a [T],
    /// One number for each channel of all blocks.
    pub bias: &'a [T],
    /// Image of the output, from the first pixel on; may hold nothing before, and holds all channels of all pixels after.
    pub out: &'a mut [MaybeUninit<T>],
}

impl<T: Real> WithSimd for PassOn<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = T::lanes::<S>();
        let [height, width] = self.pass.size;
        // 16 sums, or 8 where there are only 16 registers, hide the latency of the multiplier and leave registers for the factors.
        let many = S::REGISTER_COUNT >= 32;
        match (self.pass.channels > lanes, many) {
            (false, true) if width >= 16 => steps::<T, S, 1, 16, 1>(simd, self),
            (false, _) if width >= 8 && height >= 2 && many => steps::<T, S, 2, 8, 1>(simd, self),
            (false, _) if width >= 8 => steps::<T, S, 1, 8, 1>(simd, self),
            (false, true) if width >= 4 && height >= 4 => steps::<T, S, 4, 4, 1>(simd, self),
            (false, _) if width >= 4 && height >= 2 => steps::<T, S, 2, 4, 1>(simd, self),
            (false, _) => steps::<T, S, 1, 1, 1>(simd, self),
            // Widths of 7, 14 and 28 leave nothing over.
            (true, true) if width.is_multiple_of(7) => steps::<T, S, 1, 7, 2>(simd, self),
            (true, true) if width >= 8 => steps::<T, S, 1, 8, 2>(simd, self),
            (true, true) if width >= 4 && height >= 2 => steps::<T, S, 2, 4, 2>(simd, self),
            (true, _) if width >= 4 => steps::<T, S, 1, 4, 2>(simd, self),
            (true, _) => steps::<T, S, 1, 1, 2>(simd, self),
        }
    }
}

/// Chooses the code with the step between pixels as a constant, so that all pixels of a tile share one address register.
#[inline(always)]
fn steps<T: Real, S: Simd, const R: usize, const P: usize, const V: usize>(simd: S, on: PassOn<'_, T>) {
    match on.pass.step {
        16 => outlined(simd, Tiles::<T, R, P, V, 16> { on }),
        32 => outlined(simd, Tiles::<T, R, P, V, 32> { on }),
        64 => outlined(simd, Tiles::<T, R, P, V, 64> { on }),
        128 => outlined(simd, Tiles::<T, R, P, V, 128> { on }),
        _ => outlined(simd, Tiles::<T, R, P, V, 0> { on }),
    }
}

/// A pass with tiles of R x P pixels and V vectors of channels; STEP is [`Pass::step`], or 0 when that is no constant.
struct Tiles<'a, T, const R: usize, const P: usize, const V: usize, const STEP: usize> {
    on: PassOn<'a, T>,
}

impl<T: Real, const R: usize, const P: usize, const V: usize, const STEP: usize> WithSimd for Tiles<'_, T, R, P, V, STEP> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let PassOn { pass, image, weights, bias, out } = self.on;
        let block = V * T::lanes::<S>();
        let block_len = pass.taps * pass.depth * block;
        let [height, width] = pass.size;
        for (b, bias) in bias.chunks_exact(block).enumerate() {
            let weights = T::vectors::<S>(&weights[b * block_len..(b + 1) * block_len]);
            let first = b * block;
            let valid = block.min(pass.channels - first);
            let mut i = 0;
            while i < height {
                // The last tile of a column or row starts early enough to end with it; what it computes again comes out the same.
                i = i.min(height - R);
                let mut j = 0;
                while j < width {
                    j = j.min(width - P);
                    let sums = tile::<T, S, R, P, V, STEP>(simd, &pass, &image[i * pass.row_step + j * pass.step..], weights, bias);
                    for (r, row) in sums.iter().enumerate() {
                        for (p, vectors) in row.iter().enumerate() {
                            let at = (i + r) * pass.out_row + (j + p) * pass.out_pixel + first;
                            let target = &mut out[at..at + valid];
                            for (v, sum) in vectors.iter().enumerate() {
                                let start = v * T::lanes::<S>();
                                if start < valid {
                                    T::write(simd, &mut target[start..], *sum);
                                }
                            }
                        }
                    }
                    j += P;
                }
                i += R;
            }
        }
    }
}

/// Sums of one tile.
#[inline(always)]
#[allow(unsafe_code)]
fn tile<T: Real, S: Simd, const R: usize, const P: usize, const V: usize, const STEP: usize>(
    simd: S,
    pass: &Pass,
    image: &[T],
    weights: &[T::Vector<S>],
    bias: &[T],
) -> [[[T::Vector<S>; V]; P]; R] {
    let lanes = T::lanes::<S>();
    let step = if STEP == 0 { pass.step } else { STEP };
    let mut start = [T::splat(simd, T::zero()); V];
    for (v, start) in start.iter_mut().enumerate() {
        *start = T::load(simd, &bias[v * lanes..]);
    }
    let mut sums = [[start; P]; R];
    let reach = (R - 1) * pass.row_step + (P - 1) * step + pass.depth;
    for t in 0..pass.taps {
        let image = &image[t * pass.row..][..reach];
        let weights = &weights[t * pass.depth * V..][..pass.depth * V];
        for k in 0..pass.depth {
            let mut factors = start;
            for (v, factor) in factors.iter_mut().enumerate() {
                // SAFETY: k < depth and v < V, and the slice holds depth V vectors.
                *factor = unsafe { *weights.get_unchecked(k * V + v) };
            }
            for (r, row) in sums.iter_mut().enumerate() {
                for (p, sums) in row.iter_mut().enumerate() {
                    // A check for each of these reads doubles the time of the loop, which has one multiplication for each.
                    // SAFETY: r < R, p < P and k < depth, so the index is below `reach`, the length of the slice.
                    let pixel = T::splat(simd, unsafe { *image.get_unchecked(r * pass.row_step + p * step + k) });
                    for (sum, factor) in sums.iter_mut().zip(&factors) {
                        *sum = T::multiply_add(simd, pixel, *factor, *sum);
                    }
                }
            }
        }
    }
    sums
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: f32) -> Vec<f32> {
        (0..n).map(|i| ((i as f32 + seed) * 0.618_034).fract() - 0.5).collect()
    }

    /// The output of `pass` in the vectors of `simd`.
    #[allow(unsafe_code)]
    fn through<S: Simd>(simd: S, pass: Pass, image: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f32> {
        let mut out = vec![MaybeUninit::new(f32::NAN); pass.size[0] * pass.out_row];
        Simd::vectorize(simd, PassOn { pass, image, weights, bias, out: &mut out });
        // SAFETY: every number was there from the beginning.
        out.into_iter().map(|x| unsafe { x.assume_init() }).collect()
    }

    /// On a machine with wider vectors these are used nowhere else.
    #[test]
    fn vectors_of_256_bits_give_what_arrays_of_as_many_give() {
        let Some(avx2) = pulp::x86::V3::try_new() else {
            println!("skipped: this machine has no AVX2");
            return;
        };
        for ([height, width], channels, inputs) in
            [([1, 1], 3, 2), ([3, 4], 8, 16), ([2, 9], 7, 5), ([5, 32], 16, 16), ([4, 7], 17, 3), ([2, 3], 40, 32)]
        {
            let block = 8 * block_vectors(channels, 8);
            let (row, depth) = ((width + 2) * inputs, 3 * inputs);
            let pass = Pass {
                taps: 3,
                depth,
                row,
                row_step: row,
                step: inputs,
                size: [height, width],
                channels,
                out_row: width * channels,
                out_pixel: channels,
            };
            let wide = channels.next_multiple_of(block);
            let (image, weights, bias) = (numbers((height + 2) * row, 0.2), numbers(3 * depth * wide, 3.7), numbers(wide, 5.1));
            let (found, expected) =
                (through(avx2, pass, &image, &weights, &bias), through(pulp::Scalar256b, pass, &image, &weights, &bias));
            for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
                assert!((a - b).abs() < 1e-5, "{height}x{width}x{channels} from {inputs}: number {i} is {a}, not {b}");
            }
        }
    }
}
