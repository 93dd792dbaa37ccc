//! Multinomial logistic regression with an L2 penalty, solved to convergence by limited-memory BFGS.

use rayon::prelude::*;

/// Rows a task sums; fixed, so that rounding does not depend on the number of threads.
const ROWS: usize = 256;
/// Pairs of steps and gradient changes remembered.
const MEMORY: usize = 10;
/// Iterations at most.
const ITERATIONS: usize = 1000;
/// Largest component of the gradient per row at which the solution stands.
const TOLERANCE: f64 = 1e-6;

/// Class scores W x + b.
#[derive(Clone, Debug, PartialEq)]
pub struct Logistic {
    dim: usize,
    classes: Vec<u8>,
    /// `[classes, dim + 1]`, the bias last.
    weights: Vec<f64>,
}

impl Logistic {
    /// The most probable class of each row; ties go to the smaller class.
    pub fn predict(&self, rows: &[f64]) -> Vec<u8> {
        let mut scores = vec![0.0; self.classes.len()];
        let mut best = |row: &[f64]| {
            scores_of(&self.weights, row, &mut scores);
            let largest = scores.iter().enumerate().fold((0, f64::NEG_INFINITY), |best, (i, &s)| if s > best.1 { (i, s) } else { best });
            self.classes.get(largest.0).copied().unwrap_or(0)
        };
        rows.chunks_exact(self.dim.max(1)).map(&mut best).collect()
    }
}

/// The minimum of sum_i -ln p(l_i | x_i) + |W|^2 / 2 over weights W and biases (which are free) for rows of `dim` values: C = 1.
pub fn fit(train: (&[f64], &[u8]), dim: usize) -> Logistic {
    let mut classes = train.1.to_vec();
    classes.sort_unstable();
    classes.dedup();
    let targets: Vec<usize> = train.1.iter().map(|label| classes.partition_point(|class| class < label)).collect();
    let problem = Problem { rows: train.0, targets: &targets, dim, classes: classes.len() };
    let weights = problem.minimised();
    Logistic { dim, classes, weights }
}

struct Problem<'a> {
    rows: &'a [f64],
    targets: &'a [usize],
    dim: usize,
    classes: usize,
}

fn scores_of(weights: &[f64], row: &[f64], scores: &mut [f64]) {
    for (score, weights) in scores.iter_mut().zip(weights.chunks_exact(row.len() + 1)) {
        *score = weights[row.len()] + weights.iter().zip(row).map(|(w, x)| w * x).sum::<f64>();
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Problem<'_> {
    /// Objective and gradient.
    fn value(&self, weights: &[f64]) -> (f64, Vec<f64>) {
        let width = self.dim + 1;
        let part = |(rows, targets): (&[f64], &[usize])| {
            let (mut loss, mut gradient, mut scores) = (0.0, vec![0.0; weights.len()], vec![0.0; self.classes]);
            for (row, &target) in rows.chunks_exact(self.dim.max(1)).zip(targets) {
                scores_of(weights, row, &mut scores);
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
                loss += largest + sum.ln() - scores[target];
                for (class, (score, gradient)) in scores.iter().zip(gradient.chunks_exact_mut(width)).enumerate() {
                    let error = (score - largest).exp() / sum - f64::from(u8::from(class == target));
                    gradient.iter_mut().zip(row).for_each(|(g, x)| *g += error * x);
                    gradient[self.dim] += error;
                }
            }
            (loss, gradient)
        };
        let parts: Vec<(f64, Vec<f64>)> =
            self.rows.par_chunks(ROWS * self.dim.max(1)).zip(self.targets.par_chunks(ROWS)).map(part).collect();
        let (mut loss, mut gradient) = (0.0, vec![0.0; weights.len()]);
        for (part, more) in parts {
            loss += part;
            gradient.iter_mut().zip(more).for_each(|(g, m)| *g += m);
        }
        for (weights, gradient) in weights.chunks_exact(width).zip(gradient.chunks_exact_mut(width)) {
            loss += 0.5 * dot(&weights[..self.dim], &weights[..self.dim]);
            gradient[..self.dim].iter_mut().zip(weights).for_each(|(g, w)| *g += w);
        }
        (loss, gradient)
    }

    fn minimised(&self) -> Vec<f64> {
        let mut weights = vec![0.0; self.classes * (self.dim + 1)];
        let (mut loss, mut gradient) = self.value(&weights);
        let mut pairs: Vec<(Vec<f64>, Vec<f64>)> = Vec::new();
        let limit = TOLERANCE * self.targets.len() as f64;
        for _ in 0..ITERATIONS {
            if gradient.iter().all(|g| g.abs() <= limit) {
                break;
            }
            let direction = descent(&gradient, &pairs);
            let slope = dot(&direction, &gradient);
            // The first step is short, as nothing is known of the curvature yet.
            let mut step = if pairs.is_empty() { 1.0 / dot(&gradient, &gradient).sqrt().max(1.0) } else { 1.0 };
            let (next, value) = loop {
                let next: Vec<f64> = weights.iter().zip(&direction).map(|(w, d)| w + step * d).collect();
                let value = self.value(&next);
                if value.0 <= loss + 1e-4 * step * slope || step < 1e-12 {
                    break (next, value);
                }
                step *= 0.5;
            };
            if value.0 >= loss {
                break;
            }
            let moved: Vec<f64> = next.iter().zip(&weights).map(|(a, b)| a - b).collect();
            let change: Vec<f64> = value.1.iter().zip(&gradient).map(|(a, b)| a - b).collect();
            // Only steps along which the gradient grows keep the estimate of the curvature positive.
            if dot(&moved, &change) > 1e-12 * dot(&change, &change) {
                pairs.push((moved, change));
                if pairs.len() > MEMORY {
                    pairs.remove(0);
                }
            }
            weights = next;
            (loss, gradient) = value;
        }
        weights
    }
}

/// Minus the estimated inverse Hessian times the gradient.
fn descent(gradient: &[f64], pairs: &[(Vec<f64>, Vec<f64>)]) -> Vec<f64> {
    let mut q = gradient.to_vec();
    let mut factors = Vec::with_capacity(pairs.len());
    for (moved, change) in pairs.iter().rev() {
        let factor = dot(moved, &q) / dot(moved, change);
        q.iter_mut().zip(change).for_each(|(q, c)| *q -= factor * c);
        factors.push(factor);
    }
    if let Some((moved, change)) = pairs.last() {
        let scale = dot(moved, change) / dot(change, change);
        for q in &mut q {
            *q *= scale;
        }
    }
    for ((moved, change), factor) in pairs.iter().zip(factors.iter().rev()) {
        let back = dot(change, &q) / dot(moved, change);
        q.iter_mut().zip(moved).for_each(|(q, m)| *q += (factor - back) * m);
    }
    for q in &mut q {
        *q = -*q;
    }
    q
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_framework::noise::Noise;

    #[test]
    fn the_solution_has_no_gradient_and_separates_what_can_be() {
        let mut noise = Noise::new(3).stream("rows", 0);
        let labels: Vec<u8> = (0..600).map(|i| [2, 5, 7][i % 3]).collect();
        let rows: Vec<f64> = labels.iter().flat_map(|&l| [f64::from(l) + 0.3 * noise.normal(), noise.normal(), 2.0]).collect();
        let model = fit((&rows, &labels), 3);
        let targets: Vec<usize> = labels.iter().map(|l| [2, 5, 7].iter().position(|c| c == l).unwrap()).collect();
        let problem = Problem { rows: &rows, targets: &targets, dim: 3, classes: 3 };
        let (loss, gradient) = problem.value(&model.weights);
        assert!(gradient.iter().all(|g| g.abs() <= 1e-3), "{gradient:?}");
        // The gradient is that of the objective.
        let mut shifted = model.weights.clone();
        shifted[4] += 0.1;
        let (other, slope) = problem.value(&shifted);
        let mut little = shifted.clone();
        little[4] += 1e-5;
        assert!(((problem.value(&little).0 - other) / 1e-5 - slope[4]).abs() < 1e-2 && other > loss);
        let right = model.predict(&rows).iter().zip(&labels).filter(|(a, b)| a == b).count();
        assert!(right > 580, "{right} of 600");
        assert_eq!(fit((&rows[..9], &[4, 4, 4]), 3).predict(&rows[..6]), [4, 4]);
    }
}
