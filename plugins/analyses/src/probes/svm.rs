//! Support vector machines with C = 1, one against one, solved by sequential minimal optimisation with second-order choice of pairs
//! (Fan, Chen & Lin 2005).

use std::collections::HashMap;

use rayon::prelude::*;

/// Weight of margin violations.
const C: f64 = 1.0;
/// Violation of the optimality conditions at which the solution stands.
const TOLERANCE: f64 = 1e-3;
/// Replaces curvatures that are not positive.
const TINY: f64 = 1e-12;
/// Updates per training row at most.
const UPDATES: usize = 2000;
/// Kernel values of a problem kept at most, 256 MB in single precision.
const KEPT: usize = 1 << 26;

/// Similarity of two codes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kernel {
    /// Inner product.
    Linear,
    /// exp(-gamma |x - y|^2).
    Rbf {
        /// Inverse squared width.
        gamma: f64,
    },
}

impl Kernel {
    fn of(self, x: &[f64], y: &[f64]) -> f64 {
        match self {
            Self::Linear => x.iter().zip(y).map(|(a, b)| a * b).sum(),
            Self::Rbf { gamma } => (-gamma * x.iter().zip(y).map(|(a, b)| (a - b).powi(2)).sum::<f64>()).exp(),
        }
    }
}

/// Classes of the rows of `test` by the votes of one machine for each pair of classes; ties go to the smaller class. Rows have `dim` values.
pub fn one_against_one(train: (&[f64], &[u8]), test: &[f64], dim: usize, kernel: Kernel) -> Vec<u8> {
    let dim = dim.max(1);
    let mut classes = train.1.to_vec();
    classes.sort_unstable();
    classes.dedup();
    let of_class = |class: u8| train.0.chunks_exact(dim).zip(train.1).filter(move |(_, label)| **label == class).map(|(row, _)| row);
    let pairs: Vec<[usize; 2]> = (0..classes.len()).flat_map(|a| (a + 1..classes.len()).map(move |b| [a, b])).collect();
    let decide = |[a, b]: &[usize; 2]| {
        let mut rows: Vec<&[f64]> = of_class(classes[*a]).collect();
        let firsts = rows.len();
        rows.extend(of_class(classes[*b]));
        let signs: Vec<f64> = (0..rows.len()).map(|i| if i < firsts { 1.0 } else { -1.0 }).collect();
        let machine = Machine::fit(&rows, &signs, kernel);
        test.chunks_exact(dim).map(|row| machine.decision(row) > 0.0).collect::<Vec<_>>()
    };
    let decisions: Vec<Vec<bool>> = pairs.par_iter().map(decide).collect();
    let winner = |row: usize| {
        let mut votes = vec![0; classes.len()];
        pairs.iter().zip(&decisions).for_each(|([a, b], decided)| votes[if decided[row] { *a } else { *b }] += 1);
        let most = votes.iter().copied().max().unwrap_or(0);
        votes.iter().position(|&v| v == most).and_then(|best| classes.get(best).copied()).unwrap_or(0)
    };
    (0..test.len() / dim).map(winner).collect()
}

/// sum_i alpha_i y_i K(x_i, x) - rho, with the rows that have weight.
struct Machine<'a> {
    support: Vec<(&'a [f64], f64)>,
    rho: f64,
    kernel: Kernel,
}

/// Rows of a kernel matrix, computed when first asked for.
struct Rows<'a> {
    points: &'a [&'a [f64]],
    kernel: Kernel,
    kept: HashMap<usize, Vec<f32>>,
}

impl Rows<'_> {
    fn get(&mut self, i: usize) -> &[f32] {
        if self.kept.len() * self.points.len() > KEPT {
            self.kept.clear();
        }
        let (rows, kernel) = (self.points, self.kernel);
        self.kept.entry(i).or_insert_with(|| rows.iter().map(|row| kernel.of(rows[i], row) as f32).collect())
    }
}

impl<'a> Machine<'a> {
    /// Minimises 1/2 a^T Q a - sum a, Q_ij = y_i y_j K_ij, 0 <= a <= C, y^T a = 0.
    fn fit(rows: &'a [&'a [f64]], signs: &[f64], kernel: Kernel) -> Self {
        let n = rows.len();
        let (mut alpha, mut gradient) = (vec![0.0f64; n], vec![-1.0f64; n]);
        let diagonal: Vec<f64> = rows.iter().map(|row| kernel.of(row, row)).collect();
        let mut matrix = Rows { points: rows, kernel, kept: HashMap::new() };
        let up = |alpha: f64, sign: f64| if sign > 0.0 { alpha < C } else { alpha > 0.0 };
        let low = |alpha: f64, sign: f64| up(alpha, -sign);
        for _ in 0..UPDATES.saturating_mul(n) {
            let steepest = |allowed: &dyn Fn(f64, f64) -> bool, factor: f64| {
                let mut best = (None, f64::NEG_INFINITY);
                for t in 0..n {
                    let value = -signs[t] * gradient[t] * factor;
                    if allowed(alpha[t], signs[t]) && value > best.1 {
                        best = (Some(t), value);
                    }
                }
                best
            };
            let ((Some(i), most), (Some(_), least)) = (steepest(&up, 1.0), steepest(&low, -1.0)) else { break };
            if most + least < TOLERANCE {
                break;
            }
            let row_i = matrix.get(i).to_vec();
            let (mut j, mut gain) = (i, f64::INFINITY);
            for t in 0..n {
                let violation = most + signs[t] * gradient[t];
                if low(alpha[t], signs[t]) && violation > 0.0 {
                    let curvature = (diagonal[i] + diagonal[t] - 2.0 * f64::from(row_i[t])).max(TINY);
                    let value = -violation * violation / curvature;
                    if value < gain {
                        (j, gain) = (t, value);
                    }
                }
            }
            if j == i {
                break;
            }
            let curvature = (diagonal[i] + diagonal[j] - 2.0 * f64::from(row_i[j])).max(TINY);
            // alpha_i moves by y_i step and alpha_j by -y_j step, which keeps y^T alpha; the box limits the step.
            let room = |t: usize, direction: f64| if direction > 0.0 { C - alpha[t] } else { alpha[t] };
            let step = ((most + signs[j] * gradient[j]) / curvature).min(room(i, signs[i])).min(room(j, -signs[j]));
            let row_j = matrix.get(j);
            for (t, gradient) in gradient.iter_mut().enumerate() {
                *gradient += signs[t] * step * (f64::from(row_i[t]) - f64::from(row_j[t]));
            }
            alpha[i] = (alpha[i] + signs[i] * step).clamp(0.0, C);
            alpha[j] = (alpha[j] - signs[j] * step).clamp(0.0, C);
        }
        let rho = offset(&alpha, &gradient, signs);
        let support = (0..n).filter(|&t| alpha[t] > 0.0).map(|t| (rows[t], alpha[t] * signs[t])).collect();
        Self { support, rho, kernel }
    }

    fn decision(&self, row: &[f64]) -> f64 {
        self.support.iter().map(|(x, weight)| weight * self.kernel.of(x, row)).sum::<f64>() - self.rho
    }
}

/// The mean of y G over the weights inside the box, or the middle of what the others allow.
fn offset(alpha: &[f64], gradient: &[f64], signs: &[f64]) -> f64 {
    let (mut sum, mut free, mut above, mut below) = (0.0, 0usize, f64::INFINITY, f64::NEG_INFINITY);
    for ((&a, &g), &y) in alpha.iter().zip(gradient).zip(signs) {
        let value = y * g;
        if a > 0.0 && a < C {
            sum += value;
            free += 1;
        } else if (a <= 0.0) == (y > 0.0) {
            above = above.min(value);
        } else {
            below = below.max(value);
        }
    }
    if free > 0 { sum / free as f64 } else { 0.5 * (above + below) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_framework::noise::Noise;

    #[test]
    fn two_points_are_parted_in_the_middle() {
        let rows: [&[f64]; 2] = [&[1.0, 0.0], &[-1.0, 0.0]];
        let machine = Machine::fit(&rows, &[1.0, -1.0], Kernel::Linear);
        // The dual: max 2a - 2a^2, so a = 1/2 and the decision is x.
        assert!((machine.decision(&[0.3, 7.0]) - 0.3).abs() < 1e-9 && machine.rho.abs() < 1e-9);
        assert!(machine.support.iter().all(|(_, weight)| (weight.abs() - 0.5).abs() < 1e-9));
    }

    #[test]
    fn solutions_meet_the_optimality_conditions() {
        let mut noise = Noise::new(8).stream("rows", 0);
        let values: Vec<f64> = (0..400).map(|_| noise.normal()).collect();
        let rows: Vec<&[f64]> = values.chunks_exact(2).collect();
        let signs: Vec<f64> =
            rows.iter().map(|r| if r[0] * r[0] + r[1] * r[1] + 0.3 * noise.normal() > 1.2 { 1.0 } else { -1.0 }).collect();
        for kernel in [Kernel::Linear, Kernel::Rbf { gamma: 0.7 }] {
            let machine = Machine::fit(&rows, &signs, kernel);
            for (row, sign) in rows.iter().zip(&signs) {
                let weight = machine.support.iter().find(|(x, _)| std::ptr::eq(*x, *row)).map_or(0.0, |(_, w)| w * sign);
                let margin = sign * machine.decision(row);
                let fits = if weight <= 0.0 {
                    margin > 0.99
                } else if weight >= C {
                    margin < 1.01
                } else {
                    (margin - 1.0).abs() < 0.01
                };
                assert!(fits, "{kernel:?}: weight {weight}, margin {margin}");
            }
            assert!(machine.support.iter().map(|(_, w)| w).sum::<f64>().abs() < 1e-9);
        }
    }

    #[test]
    fn a_ring_needs_the_rbf_kernel_and_votes_decide_among_classes() {
        let angle = |i: usize| i as f64 * 0.7;
        let radius = |i: usize| [0.2, 1.5, 3.0][i % 3];
        let rows: Vec<f64> = (0..300).flat_map(|i| [radius(i) * angle(i).cos(), radius(i) * angle(i).sin()]).collect();
        let labels: Vec<u8> = (0..300).map(|i| [4, 1, 9][i % 3]).collect();
        let share = |kernel| {
            let found = one_against_one((&rows, &labels), &rows, 2, kernel);
            found.iter().zip(&labels).filter(|(a, b)| a == b).count() as f64 / 300.0
        };
        assert_eq!(share(Kernel::Rbf { gamma: 1.0 }), 1.0);
        assert!(share(Kernel::Linear) < 0.7);
        assert_eq!(one_against_one((&rows[..4], &[3, 3]), &rows[..4], 2, Kernel::Linear), [3, 3]);
    }
}
