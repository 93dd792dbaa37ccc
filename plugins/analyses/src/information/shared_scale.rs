//! Entropies of the aggregated posterior's weights under one noise scale, in single precision and by expansion of the square.

use pulp::{Simd, WithSimd};

use crate::information::aggregate::Weights;

/// Columns handled at once: those of four codes and all means of a block stay in the first-level cache.
const COLUMNS: usize = 256;
/// Codes whose products share the loads of a mean.
const CODES: usize = 4;
/// Vectors side by side, so that no product waits for the one before.
const VECTORS: usize = 2;
/// Largest squared distance of a mean or code from the means' centre, in scales, up to which the rounding of the expanded square stays below 1e-3 nats.
const FARTHEST: f64 = 4096.0;

/// Means about their centre, in scales.
pub(crate) struct SharedScale {
    latent: usize,
    centre: Vec<f64>,
    inverse: f64,
    /// Block by block of [`COLUMNS`], `[latent, COLUMNS]` each.
    means: Vec<f32>,
    /// Minus half the squared length of each mean, lowest beyond the last.
    offsets: Vec<f32>,
}

impl SharedScale {
    /// Prepares `means` `[N, latent]` for `codes` `[rows, latent]`; nothing when one lies too far from the centre for single precision or is
    /// no number.
    pub(crate) fn new([codes, means]: [&[f64]; 2], scale: f64, latent: usize) -> Option<Self> {
        let (count, inverse) = (means.len() / latent, 1.0 / scale);
        let mut centre = vec![0.0; latent];
        for mean in means.chunks_exact(latent) {
            centre.iter_mut().zip(mean).for_each(|(centre, x)| *centre += x / count as f64);
        }
        let square = |row: &[f64]| row.iter().zip(&centre).map(|(x, centre)| ((x - centre) * inverse).powi(2)).sum::<f64>();
        // A comparison with NaN is false.
        if !codes.chunks_exact(latent).chain(means.chunks_exact(latent)).all(|row| square(row) < FARTHEST) {
            return None;
        }
        let blocks = count.div_ceil(COLUMNS);
        let mut placed = Self {
            latent,
            inverse,
            means: vec![0.0; blocks * COLUMNS * latent],
            offsets: vec![f32::NEG_INFINITY; blocks * COLUMNS],
            centre,
        };
        for (j, mean) in means.chunks_exact(latent).enumerate() {
            let (block, column) = (j / COLUMNS, j % COLUMNS);
            let mut square = 0.0;
            for (k, (x, centre)) in mean.iter().zip(&placed.centre).enumerate() {
                let x = (x - centre) * inverse;
                square += x * x;
                placed.means[(block * latent + k) * COLUMNS + column] = x as f32;
            }
            placed.offsets[j] = (-0.5 * square) as f32;
        }
        Some(placed)
    }

    /// Sum in nats, over the rows of `codes` `[rows, latent]`, of the entropies of the weights softmax_j(ln N(code; mean_j, scale)).
    ///
    /// Of -|z - m|^2 / 2 = z m - |m|^2 / 2 - |z|^2 / 2 the last term is the same for all means and drops out.
    pub(crate) fn entropies(&self, codes: &[f64]) -> f64 {
        pulp::Arch::new().dispatch(Entropies { shared: self, codes })
    }
}

struct Entropies<'a> {
    shared: &'a SharedScale,
    codes: &'a [f64],
}

impl WithSimd for Entropies<'_> {
    type Output = f64;

    #[allow(clippy::inline_always)] // The instruction set is that of the function this is inlined into.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let Self { shared, codes } = self;
        let latent = shared.latent;
        let mut z = vec![[0f32; CODES]; latent];
        let mut l = [[0f32; COLUMNS]; CODES];
        let mut sum = 0.0;
        for codes in codes.chunks(CODES * latent) {
            // Fewer codes than usual leave zeros behind, whose entropies are not added.
            z.fill([0.0; CODES]);
            for (r, code) in codes.chunks_exact(latent).enumerate() {
                for ((z, x), centre) in z.iter_mut().zip(code).zip(&shared.centre) {
                    z[r] = ((x - centre) * shared.inverse) as f32;
                }
            }
            let mut weights: [Weights; CODES] = Default::default();
            for (means, offsets) in shared.means.chunks_exact(COLUMNS * latent).zip(shared.offsets.chunks_exact(COLUMNS)) {
                let tops = log_densities(simd, &z, means, offsets, &mut l);
                for ((weights, l), top) in weights.iter_mut().zip(&l).zip(tops) {
                    add_weights(simd, weights, l, top);
                }
            }
            sum += weights.iter().take(codes.len() / latent).map(Weights::entropy).sum::<f64>();
        }
        sum
    }
}

/// l = z m + offset for each code and column of a block; returns the largest of each code.
#[allow(clippy::inline_always)] // Only what is inlined into `with_simd` is compiled for its vectors.
#[inline(always)]
fn log_densities<S: Simd>(simd: S, z: &[[f32; CODES]], means: &[f32], offsets: &[f32], l: &mut [[f32; COLUMNS]; CODES]) -> [f32; CODES] {
    let wide = VECTORS * S::F32_LANES;
    let mut tops = [simd.splat_f32s(f32::NEG_INFINITY); CODES];
    for from in (0..COLUMNS).step_by(wide) {
        let offset = S::as_simd_f32s(&offsets[from..from + wide]).0;
        let mut sums = [[offset[0], offset[1]]; CODES];
        for (z, means) in z.iter().zip(means.chunks_exact(COLUMNS)) {
            let mean = S::as_simd_f32s(&means[from..from + wide]).0;
            let mean = [mean[0], mean[1]];
            for (sums, &z) in sums.iter_mut().zip(z) {
                let z = simd.splat_f32s(z);
                for (sum, mean) in sums.iter_mut().zip(mean) {
                    *sum = simd.mul_add_e_f32s(z, mean, *sum);
                }
            }
        }
        for ((l, sums), top) in l.iter_mut().zip(sums).zip(&mut tops) {
            *top = simd.max_f32s(*top, simd.max_f32s(sums[0], sums[1]));
            S::as_mut_simd_f32s(&mut l[from..from + wide]).0.copy_from_slice(&sums);
        }
    }
    tops.map(|top| simd.reduce_max_f32s(top))
}

/// Adds e^(l - highest) and its product with l - highest to `weights`, after `top`, the largest l.
#[allow(clippy::inline_always)] // As above.
#[inline(always)]
fn add_weights<S: Simd>(simd: S, weights: &mut Weights, l: &[f32; COLUMNS], top: f32) {
    let all = |x: f32| simd.splat_f32s(x);
    let shift = all(weights.raise(f64::from(top)) as f32);
    // Beyond, e^x would leave the normal numbers; its share of any sum is nothing.
    let lowest = all(-87.0);
    // Adding 1.5 * 2^23 rounds to the nearest integer n; with 127 more the low bits hold the exponent of 2^n.
    let round = all(12_582_912.0 + 127.0);
    let (mut totals, mut moments) = ([all(0.0); VECTORS], [all(0.0); VECTORS]);
    for l in S::as_simd_f32s(l).0.chunks_exact(VECTORS) {
        for v in 0..VECTORS {
            let x = simd.max_f32s(simd.sub_f32s(l[v], shift), lowest);
            let shifted = simd.mul_add_e_f32s(x, all(std::f32::consts::LOG2_E), round);
            let n = simd.sub_f32s(shifted, round);
            // ln 2 in two parts, the first of few bits so that its product with n is exact.
            let r = simd.mul_add_e_f32s(n, all(-0.693_359_4), x);
            let r = simd.mul_add_e_f32s(n, all(2.121_944_4e-4), r);
            let mut p = all(0.008_333_679);
            for coefficient in [0.041_666_49, 0.166_666_66, 0.5, 1.0, 1.0] {
                p = simd.mul_add_e_f32s(p, r, all(coefficient));
            }
            let power = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
            let e = simd.mul_f32s(p, simd.transmute_f32s_u32s(power));
            totals[v] = simd.add_f32s(totals[v], e);
            moments[v] = simd.mul_add_e_f32s(e, x, moments[v]);
        }
    }
    let sum = |[a, b]: [S::f32s; VECTORS]| f64::from(simd.reduce_sum_f32s(simd.add_f32s(a, b)));
    weights.total += sum(totals);
    weights.moment += sum(moments);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_framework::noise::Noise;

    #[test]
    fn rows_far_apart_or_not_numbers_are_refused() {
        let fits = |codes: &[f64], means: &[f64], scale| SharedScale::new([codes, means], scale, 1).is_some();
        let near = [0.0, 100.0];
        assert!(fits(&near, &near, 1.0) && !fits(&near, &[0.0, 200.0], 1.0) && !fits(&[50.0, 500.0], &near, 1.0));
        assert!(!fits(&near, &[0.0, f64::NAN], 1.0) && !fits(&[f64::NAN], &near, 1.0) && !fits(&near, &[0.0, 1.0], 0.0));
    }

    #[test]
    fn entropies_follow_the_formula_for_odd_numbers_of_codes_and_means() {
        let mut stream = Noise::new(3).stream("means", 0);
        for (n, latent, scale) in [(1, 1, 1.0), (5, 3, 0.5), (259, 7, 0.3), (771, 16, 2.0)] {
            let means: Vec<f64> = (0..n * latent).map(|_| 20.0 + 3.0 * stream.normal()).collect();
            let shared = SharedScale::new([&means, &means], scale, latent).unwrap();
            let expected: f64 = means
                .chunks_exact(latent)
                .map(|code| {
                    let square = |mean: &[f64]| code.iter().zip(mean).map(|(z, m)| ((z - m) / scale).powi(2)).sum::<f64>();
                    let l: Vec<f64> = means.chunks_exact(latent).map(|mean| -0.5 * square(mean)).collect();
                    let total: f64 = l.iter().map(|l| l.exp()).sum();
                    l.iter().map(|l| -(l - total.ln()) * l.exp() / total).sum::<f64>()
                })
                .sum();
            let found = shared.entropies(&means);
            assert!((found - expected).abs() < 1e-4 * n as f64, "{n} {latent}: {found}, not {expected}");
        }
    }
}
