//! The inner kernel of the weight gradient: products of windows of the input with gradients of the output, summed over the pixels.

use pulp::{Simd, WithSimd};

use crate::lanes::outlined;
use crate::real::Real;

/// Sums over output pixels (i, j) of one image, added to
/// sums\[t\]\[k\]\[c\] += image\[i row_step + t row + j step + k\] gradient\[(i width + j) channels + c\].
pub struct Gram<'a, T> {
    /// Rows of the kernel.
    pub taps: usize,
    /// Columns of the kernel times channels in.
    pub depth: usize,
    /// From one row of the image to the next, in numbers.
    pub row: usize,
    /// From the window of one output pixel to that of the pixel below.
    pub row_step: usize,
    /// From the window of one output pixel to that of the pixel to its right.
    pub step: usize,
    /// Rows and columns of output pixels.
    pub size: [usize; 2],
    /// Channels out, a multiple of the vector's lanes.
    pub channels: usize,
    /// Padded image.
    pub image: &'a [T],
    /// Gradient with respect to the output, `[height, width, channels]`.
    pub gradient: &'a [T],
    /// `[taps, depth, channels]`, added to.
    pub sums: &'a mut [T],
}

impl<T: Real> WithSimd for Gram<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let lanes = T::lanes::<S>();
        let many = S::REGISTER_COUNT >= 32;
        for t in 0..self.taps {
            let mut c = 0;
            while c < self.channels {
                let wide = c + 2 * lanes <= self.channels;
                let mut k = 0;
                while k < self.depth {
                    let left = self.depth - k;
                    let at = [t, k, c];
                    let gram = &mut self;
                    k += match (wide, many) {
                        (true, true) if left >= 12 => outlined(simd, Block::<T, 12, 2> { gram, at }),
                        (true, false) if left >= 6 => outlined(simd, Block::<T, 6, 2> { gram, at }),
                        (true, _) if left >= 4 => outlined(simd, Block::<T, 4, 2> { gram, at }),
                        (true, _) => outlined(simd, Block::<T, 1, 2> { gram, at }),
                        (false, true) if left >= 24 => outlined(simd, Block::<T, 24, 1> { gram, at }),
                        (false, false) if left >= 12 => outlined(simd, Block::<T, 12, 1> { gram, at }),
                        (false, _) if left >= 8 => outlined(simd, Block::<T, 8, 1> { gram, at }),
                        (false, _) if left >= 4 => outlined(simd, Block::<T, 4, 1> { gram, at }),
                        (false, _) => outlined(simd, Block::<T, 1, 1> { gram, at }),
                    };
                }
                c += if wide { 2 * lanes } else { lanes };
            }
        }
    }
}

/// M entries of the window times V vectors of channels, from `at` = `[t, k, c]` on.
struct Block<'a, 'b, T, const M: usize, const V: usize> {
    gram: &'a mut Gram<'b, T>,
    at: [usize; 3],
}

impl<T: Real, const M: usize, const V: usize> WithSimd for Block<'_, '_, T, M, V> {
    type Output = usize;

    #[inline(always)]
    #[allow(unsafe_code)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        let lanes = T::lanes::<S>();
        let Self { gram, at: [t, k, c] } = self;
        let [height, width] = gram.size;
        let (channels, step) = (gram.channels, gram.step);
        let sums = &mut gram.sums[(t * gram.depth + k) * channels..][..M * channels];
        let mut held = [[T::splat(simd, T::zero()); V]; M];
        for (held, row) in held.iter_mut().zip(sums.chunks_exact(channels)) {
            for (v, held) in held.iter_mut().enumerate() {
                *held = T::load(simd, &row[c + v * lanes..]);
            }
        }
        for i in 0..height {
            let image = &gram.image[i * gram.row_step + t * gram.row + k..][..(width - 1) * step + M];
            let gradient = &gram.gradient[i * width * channels..][..width * channels];
            assert!(c + V * lanes <= channels, "the block ends with the channels");
            for j in 0..width {
                // SAFETY: j < width, so [j channels + c, + V lanes) lies in the row by the assertion above.
                let gradient = T::vectors::<S>(unsafe { gradient.get_unchecked(j * channels + c..j * channels + c + V * lanes) });
                for (m, held) in held.iter_mut().enumerate() {
                    // A check for each read doubles the time of the loop, which has V multiplications for each.
                    // SAFETY: j < width and m < M, so the index is below the length of the slice.
                    let pixel = T::splat(simd, unsafe { *image.get_unchecked(j * step + m) });
                    for (v, held) in held.iter_mut().enumerate() {
                        // SAFETY: the slice was cut to V vectors.
                        *held = T::multiply_add(simd, pixel, unsafe { *gradient.get_unchecked(v) }, *held);
                    }
                }
            }
        }
        for (held, row) in held.iter().zip(sums.chunks_exact_mut(channels)) {
            for (v, held) in held.iter().enumerate() {
                T::store(simd, &mut row[c + v * lanes..], *held);
            }
        }
        M
    }
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: f32) -> Vec<f32> {
        (0..n).map(|i| ((i as f32 + seed) * 0.618_034).fract() - 0.5).collect()
    }

    /// On a machine with wider vectors these are used nowhere else.
    #[test]
    fn vectors_of_256_bits_give_what_arrays_of_as_many_give() {
        let Some(avx2) = pulp::x86::V3::try_new() else {
            println!("skipped: this machine has no AVX2");
            return;
        };
        // Every block of rows: 12, 8, 6, 4 and single ones, with one vector of channels and with two.
        for (depth, channels) in [(3, 8), (9, 8), (23, 8), (5, 16), (11, 24), (96, 64)] {
            let [height, width, taps] = [3, 5, 2];
            let (step, row) = (2, 2 * width + depth);
            let (image, gradient) = (numbers((height + taps) * row, 0.2), numbers(height * width * channels, 3.7));
            let through = |vectors: bool| {
                let mut sums = numbers(taps * depth * channels, 5.1);
                let (image, gradient) = (&image, &gradient);
                let gram =
                    Gram { taps, depth, row, row_step: row, step, size: [height, width], channels, image, gradient, sums: &mut sums };
                if vectors {
                    Simd::vectorize(avx2, gram);
                } else {
                    Simd::vectorize(pulp::Scalar256b, gram);
                }
                sums
            };
            for (i, (a, b)) in through(true).iter().zip(&through(false)).enumerate() {
                assert!((a - b).abs() < 1e-5, "{depth} by {channels}: number {i} is {a}, not {b}");
            }
        }
    }
}
