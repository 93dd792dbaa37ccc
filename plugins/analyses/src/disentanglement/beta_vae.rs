//! The beta-VAE score (Higgins et al. 2017).

use ibhost_framework::noise::Noise;

use super::Coded;
use crate::numbers::class_of;

/// Gradient steps of the linear classifier and their size.
const STEPS: usize = 500;
const RATE: f64 = 0.5;

/// Accuracy of a linear classifier that tells which factor pairs share from the mean absolute difference of their codes.
///
/// A vote takes `per_vote` pairs that agree in a random factor. Differences are divided by their standard deviation; softmax regression is
/// trained on half of `votes` and judged on the other half.
pub fn beta_vae(coded: &Coded, votes: usize, per_vote: usize, noise: Noise) -> f64 {
    let factors: Vec<Vec<Vec<usize>>> = (0..coded.factors.sizes.len()).map(|f| coded.groups(f)).filter(|g| g.len() > 1).collect();
    if factors.is_empty() || votes < 2 {
        return f64::NAN;
    }
    let mut stream = noise.stream("disentanglement/beta_vae", 0);
    let mut rows = Vec::with_capacity(votes * coded.dims);
    let mut labels = Vec::with_capacity(votes);
    for _ in 0..votes {
        let factor = stream.below(factors.len());
        let mut difference = vec![0.0; coded.dims];
        for _ in 0..per_vote {
            // A random sample decides the shared value, so frequent values are shared as often as they occur.
            let mut place = stream.below(coded.len());
            let group = factors[factor].iter().find(|group| {
                let here = place < group.len();
                place = if here { place } else { place - group.len() };
                here
            });
            let Some(group) = group else { continue };
            let (a, b) = (coded.code(group[place]), coded.code(group[stream.below(group.len())]));
            difference.iter_mut().zip(a).zip(b).for_each(|((d, x), y)| *d += (x - y).abs() / per_vote as f64);
        }
        rows.extend(difference);
        labels.push(factor);
    }
    standardise(&mut rows, coded.dims);
    let half = votes / 2;
    let (train, test) = rows.split_at(half * coded.dims);
    let weights = softmax_regression(train, &labels[..half], coded.dims, factors.len());
    let right = test
        .chunks_exact(coded.dims)
        .zip(&labels[half..])
        .filter(|(row, label)| class_of(&scores(&weights, row, factors.len())) == Some(**label));
    right.count() as f64 / (votes - half) as f64
}

/// Brings every column to mean 0 and standard deviation 1; constant columns become 0.
fn standardise(rows: &mut [f64], dims: usize) {
    let n = (rows.len() / dims) as f64;
    for k in 0..dims {
        let mean = rows.iter().skip(k).step_by(dims).sum::<f64>() / n;
        let std = (rows.iter().skip(k).step_by(dims).map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        rows.iter_mut().skip(k).step_by(dims).for_each(|x| *x = if std > 0.0 { (*x - mean) / std } else { 0.0 });
    }
}

/// Class scores of a row; the last weight of each class is its offset.
fn scores(weights: &[f64], row: &[f64], classes: usize) -> Vec<f64> {
    let width = row.len() + 1;
    let score =
        |c: usize| weights[c * width..][..row.len()].iter().zip(row).map(|(w, x)| w * x).sum::<f64>() + weights[c * width + row.len()];
    (0..classes).map(score).collect()
}

/// Weights `[classes, dims + 1]` by gradient descent on the cross-entropy.
fn softmax_regression(rows: &[f64], labels: &[usize], dims: usize, classes: usize) -> Vec<f64> {
    let width = dims + 1;
    let mut weights = vec![0.0; classes * width];
    for _ in 0..STEPS {
        let mut gradient = vec![0.0; weights.len()];
        for (row, &label) in rows.chunks_exact(dims).zip(labels) {
            let mut p = scores(&weights, row, classes);
            let top = p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            for x in &mut p {
                *x = (*x - top).exp();
            }
            let total: f64 = p.iter().sum();
            for (c, p) in p.iter().enumerate() {
                let error = p / total - f64::from(u8::from(c == label));
                gradient[c * width..].iter_mut().zip(row).for_each(|(g, x)| *g += error * x);
                gradient[c * width + dims] += error;
            }
        }
        let size = RATE / labels.len().max(1) as f64;
        weights.iter_mut().zip(gradient).for_each(|(w, g)| *w -= size * g);
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{perfect, useless};
    use super::*;

    #[test]
    fn a_perfect_code_is_told_apart_and_noise_is_near_chance() {
        assert!(beta_vae(&perfect(1500), 200, 40, Noise::new(1)) > 0.97);
        assert!(beta_vae(&useless(1500), 200, 40, Noise::new(1)) < 0.5);
    }

    #[test]
    fn columns_are_standardised() {
        let mut rows = vec![1.0, 5.0, 3.0, 5.0];
        standardise(&mut rows, 2);
        assert_eq!(rows, [-1.0, 0.0, 1.0, 0.0]);
    }
}
