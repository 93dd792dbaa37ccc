//! Mutual information from an aggregated posterior: I(X;T) of codes with normal noise, and I(Y;T) from class probabilities.

use ibhost_kernels::Real;
use rayon::prelude::*;

use crate::information::shared_scale::SharedScale;

/// Standard deviations of the noise around the means.
#[derive(Clone, Copy, Debug)]
pub enum Scales<'a> {
    /// One for all inputs and dimensions.
    Shared(f64),
    /// One for each entry, sample-major like the means.
    Each(&'a [f64]),
}

/// Below this a weight is nothing beside the largest one, e^0; padding lies at minus infinity, where 0 times it would be no number.
const NOTHING: f64 = -200.0;

/// Columns handled at once: their ln densities stay in the first-level cache.
const COLUMNS: usize = 512;
/// Partial sums kept side by side so that additions need not wait for each other.
const LANES: usize = 16;

/// The largest of some ln densities.
#[allow(clippy::inline_always)] // Only what is inlined into the wide loop is compiled for wide vectors.
#[inline(always)]
fn highest<T: Real>(l: &[T]) -> f64 {
    let mut tops = [T::neg_infinity(); LANES];
    for chunk in l.chunks_exact(LANES) {
        for (top, &x) in tops.iter_mut().zip(chunk) {
            *top = if x > *top { x } else { *top };
        }
    }
    tops.iter().fold(f64::NEG_INFINITY, |top, x| top.max(x.to_double()))
}

/// Weights e^(l - highest) of what was added so far: their sum, and the sum of (l - highest) e^(l - highest).
pub(crate) struct Weights {
    highest: f64,
    pub(crate) total: f64,
    pub(crate) moment: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { highest: f64::NEG_INFINITY, total: 0.0, moment: 0.0 }
    }
}

impl Weights {
    /// Adds whole lanes of ln densities whose largest is `top`.
    #[allow(clippy::inline_always)] // As above.
    #[inline(always)]
    fn add<T: Real>(&mut self, l: &[T], top: f64) {
        let (shift, nothing) = (T::of(self.raise(top)), T::of(NOTHING));
        let (mut totals, mut moments) = ([T::zero(); LANES], [T::zero(); LANES]);
        for chunk in l.chunks_exact(LANES) {
            for k in 0..LANES {
                let x = chunk[k] - shift;
                // By comparison: `max` would drop a NaN.
                let x = if x < nothing { nothing } else { x };
                let e = x.exponential();
                totals[k] += e;
                moments[k] += e * x;
            }
        }
        self.total += totals.iter().map(|x| x.to_double()).sum::<f64>();
        self.moment += moments.iter().map(|x| x.to_double()).sum::<f64>();
    }

    /// Makes `highest` at least `top` and returns it.
    pub(crate) fn raise(&mut self, top: f64) -> f64 {
        if top > self.highest {
            // e^(l - highest) of what was summed so far shrinks by the difference of the maxima, and l - highest grows by it.
            let shrink = (self.highest - top).exp();
            self.moment = if self.total > 0.0 { (self.moment + self.total * (self.highest - top)) * shrink } else { 0.0 };
            self.total *= shrink;
            self.highest = top;
        }
        self.highest
    }

    /// Entropy in nats of the weights divided by their sum.
    pub(crate) fn entropy(&self) -> f64 {
        self.total.ln() - self.moment / self.total
    }
}

/// Means and inverse scales with the dimension outermost, and the ln normaliser of every column, padded to whole blocks.
struct Columns<T> {
    padded: usize,
    /// `[latent, padded]`, divided by the shared scale if there is one.
    means: Vec<T>,
    /// `[latent, padded]`, empty under a shared scale.
    inverse: Vec<T>,
    /// -sum_k ln scale_k of each column under its own scales; lowest for padding.
    normaliser: Vec<T>,
    factor: f64,
}

impl<T: Real> Columns<T> {
    fn new(means: &[f64], scales: Scales<'_>, latent: usize) -> Self {
        let count = means.len() / latent;
        let padded = count.next_multiple_of(COLUMNS);
        let half = std::f64::consts::FRAC_1_SQRT_2;
        let spread = |values: &dyn Fn(usize, usize) -> f64| {
            let mut out = vec![T::zero(); latent * padded];
            for j in 0..count {
                for k in 0..latent {
                    out[k * padded + j] = T::of(values(j, k));
                }
            }
            out
        };
        let mut normaliser = vec![T::neg_infinity(); padded];
        let (factor, inverse) = match scales {
            Scales::Shared(scale) => (half / scale, Vec::new()),
            Scales::Each(scales) => (1.0, spread(&|j, k| half / scales[j * latent + k])),
        };
        for (j, slot) in normaliser[..count].iter_mut().enumerate() {
            *slot = match scales {
                Scales::Shared(_) => T::zero(),
                Scales::Each(scales) => T::of(-scales[j * latent..(j + 1) * latent].iter().map(|s| s.ln()).sum::<f64>()),
            };
        }
        let means = spread(&|j, k| means[j * latent + k] * factor);
        Self { padded, means, inverse, normaliser, factor }
    }

    /// Entropy in nats of the weights softmax_j(ln N(code; mean_j, scale_j)).
    #[allow(clippy::inline_always)] // As above.
    #[inline(always)]
    fn weight_entropy(&self, code: &[f64], l: &mut [T; COLUMNS]) -> f64 {
        let mut weights = Weights::default();
        for from in (0..self.padded).step_by(COLUMNS) {
            l.copy_from_slice(&self.normaliser[from..from + COLUMNS]);
            let mut k = 0;
            while k < code.len() {
                // Four dimensions a pass spare three of four trips of the sums through the cache.
                if self.inverse.is_empty() && k + 4 <= code.len() {
                    let z = [0, 1, 2, 3].map(|i| T::of(code[k + i] * self.factor));
                    let m = [0, 1, 2, 3].map(|i| &self.means[(k + i) * self.padded + from..][..COLUMNS]);
                    for (x, l) in l.iter_mut().enumerate() {
                        let (a, b, c, d) = (z[0] - m[0][x], z[1] - m[1][x], z[2] - m[2][x], z[3] - m[3][x]);
                        *l -= a * a + b * b + (c * c + d * d);
                    }
                    k += 4;
                    continue;
                }
                let z = T::of(code[k] * self.factor);
                let means = &self.means[k * self.padded + from..][..COLUMNS];
                if self.inverse.is_empty() {
                    for (l, &m) in l.iter_mut().zip(means) {
                        let d = z - m;
                        *l -= d * d;
                    }
                } else {
                    let inverse = &self.inverse[k * self.padded + from..][..COLUMNS];
                    for ((l, &m), &w) in l.iter_mut().zip(means).zip(inverse) {
                        let d = (z - m) * w;
                        *l -= d * d;
                    }
                }
                k += 1;
            }
            weights.add(l, highest(l));
        }
        weights.entropy()
    }
}

/// Codes handled by one task.
const ROWS: usize = 64;

fn information<T: Real>(codes: &[f64], means: &[f64], scales: Scales<'_>, latent: usize) -> f64 {
    let columns = Columns::<T>::new(means, scales, latent);
    let arch = pulp::Arch::new();
    mean_information(codes, means, latent, |rows| {
        // Compiled once more for the vectors of the machine at hand.
        arch.dispatch(
            #[inline(always)]
            || {
                let mut l = [T::zero(); COLUMNS];
                rows.chunks_exact(latent).map(|code| columns.weight_entropy(code, &mut l)).sum::<f64>()
            },
        )
    })
}

/// Pairs times dimensions above which sums are done in single precision.
const SINGLE_ABOVE: usize = 1 << 26;

/// I(X;T) in nats of codes with normal noise around `means`, inputs uniform over the N rows: ln N - mean_i H_i, where H_i is the entropy
/// of softmax_j(sum_k ln N(code_ik; mean_jk, scale_jk)). Never above ln N.
///
/// `codes` and `means` are `[N, latent]`, sample-major; `codes` may be the means themselves (the `mean` variant) or draws (`sampled`).
/// Takes memory for the rows and a block of columns only. More than 2^26 differences are summed in single precision, block sums in double;
/// under a shared scale by expansion of the square, where all rows are near enough for it.
/// NaN when there is no row or one holds NaN.
pub fn aggregated_information(codes: &[f64], means: &[f64], scales: Scales<'_>, latent: usize) -> f64 {
    if latent == 0 || means.len() < latent || codes.len() < latent {
        return f64::NAN;
    }
    if codes.len() / latent * (means.len() / latent) * latent <= SINGLE_ABOVE {
        return information::<f64>(codes, means, scales, latent);
    }
    if let Scales::Shared(scale) = scales
        && let Some(shared) = SharedScale::new([codes, means], scale, latent)
    {
        return mean_information(codes, means, latent, |rows| shared.entropies(rows));
    }
    information::<f32>(codes, means, scales, latent)
}

/// ln N less the mean entropy, from the sum of the entropies of some rows of codes.
fn mean_information(codes: &[f64], means: &[f64], latent: usize, entropies: impl Fn(&[f64]) -> f64 + Send + Sync) -> f64 {
    let sums: Vec<f64> = codes.par_chunks(ROWS * latent).map(entropies).collect();
    ((means.len() / latent) as f64).ln() - sums.iter().sum::<f64>() / (codes.len() / latent) as f64
}

/// Entropy in nats of the class frequencies of `labels`.
pub fn label_entropy(labels: &[u8]) -> f64 {
    let mut counts = [0usize; 256];
    for &label in labels {
        counts[usize::from(label)] += 1;
    }
    let share = |count: usize| count as f64 / labels.len() as f64;
    -counts.iter().filter(|count| **count > 0).map(|&count| share(count) * share(count).ln()).sum::<f64>()
}

/// Entropy in nats of one row of class probabilities given by their ln; ln(p + 1e-10) as the original has it.
pub fn prediction_entropy(log_probabilities: &[f64]) -> f64 {
    -log_probabilities.iter().map(|l| l.exp() * (l.exp() + 1e-10).ln()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_framework::noise::Noise;

    fn direct(codes: &[f64], means: &[f64], scales: &[f64], latent: usize) -> f64 {
        let n = means.len() / latent;
        let mut sum = 0.0;
        for code in codes.chunks_exact(latent) {
            let l: Vec<f64> = (0..n)
                .map(|j| {
                    (0..latent)
                        .map(|k| {
                            let s = scales[j * latent + k];
                            -s.ln() - ((code[k] - means[j * latent + k]) / s).powi(2) / 2.0
                        })
                        .sum()
                })
                .collect();
            let top = l.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = l.iter().map(|x| (x - top).exp()).sum();
            sum -= l.iter().map(|x| (x - top).exp() / total * (x - top - total.ln())).sum::<f64>();
        }
        (n as f64).ln() - sum / (codes.len() / latent) as f64
    }

    fn normal(n: usize, purpose: &str) -> Vec<f64> {
        let mut stream = Noise::new(4).stream(purpose, 0);
        (0..n).map(|_| stream.normal()).collect()
    }

    #[test]
    fn both_precisions_agree_with_the_formula() {
        for (n, latent) in [(1, 3), (37, 1), (513, 4), (700, 16)] {
            let means: Vec<f64> = normal(n * latent, "means").into_iter().map(|x| 2.0 * x).collect();
            let scales: Vec<f64> = normal(n * latent, "scales").into_iter().map(|x| (0.3 * x).exp()).collect();
            let codes: Vec<f64> = means.iter().zip(&scales).zip(normal(n * latent, "noise")).map(|((m, s), e)| m + s * e).collect();
            let expected = direct(&codes, &means, &scales, latent);
            let double = information::<f64>(&codes, &means, Scales::Each(&scales), latent);
            let single = information::<f32>(&codes, &means, Scales::Each(&scales), latent);
            assert!((double - expected).abs() < 1e-10 && (single - expected).abs() < 1e-4, "{n} {expected} {double} {single}");
            let shared = vec![0.4; n * latent];
            let expected = direct(&means, &means, &shared, latent);
            let double = information::<f64>(&means, &means, Scales::Shared(0.4), latent);
            let single = information::<f32>(&means, &means, Scales::Shared(0.4), latent);
            let shared = SharedScale::new([&means, &means], 0.4, latent).unwrap();
            let expanded = mean_information(&means, &means, latent, |rows| shared.entropies(rows));
            assert!((expanded - expected).abs() < 1e-4, "{n} {expected} {expanded}");
            assert!((double - expected).abs() < 1e-10 && (single - expected).abs() < 1e-4, "{n} {expected} {double} {single}");
        }
    }

    #[test]
    fn the_ends_of_the_scale() {
        let means: Vec<f64> = (0..100).map(|i| f64::from(i) * 100.0).collect();
        assert!((aggregated_information(&means, &means, Scales::Shared(0.1), 1) - 100f64.ln()).abs() < 1e-12);
        assert!(aggregated_information(&means, &means, Scales::Shared(1e9), 1).abs() < 1e-12);
        assert!(aggregated_information(&[], &[], Scales::Shared(1.0), 1).is_nan());
    }

    #[test]
    fn a_code_that_is_no_number_is_not_hidden() {
        for bad in [0, 1] {
            let (mut codes, mut means) = (normal(9000, "codes"), normal(9000, "means"));
            [&mut codes, &mut means][bad][77] = f64::NAN;
            for rows in [1000, 9000] {
                let found = aggregated_information(&codes[..rows], &means[..rows], Scales::Shared(1.0), 1);
                assert!(found.is_nan(), "{bad} {rows} {found}");
            }
        }
    }

    #[test]
    fn label_and_prediction_entropies() {
        assert!((label_entropy(&[0, 1, 2, 3]) - 4f64.ln()).abs() < 1e-12);
        assert!(label_entropy(&[7, 7, 7]).abs() < 1e-12);
        assert!((prediction_entropy(&[0.5f64.ln(), 0.5f64.ln()]) - 2f64.ln()).abs() < 1e-9);
        assert!(prediction_entropy(&[0.0, f64::NEG_INFINITY]).abs() < 1e-9);
    }
}
