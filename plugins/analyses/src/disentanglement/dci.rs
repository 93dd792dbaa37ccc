//! Disentanglement, completeness and informativeness (Eastwood and Williams 2018).

use ibhost_framework::noise::Noise;

use super::Coded;
use super::forest::Forest;
use crate::numbers::{mean, share};

/// The three scores; not a number when no factor varies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dci {
    /// Mean over dimensions, weighted by their importance, of 1 - entropy of the factors a dimension matters for.
    pub disentanglement: f64,
    /// Mean over factors of 1 - entropy of the dimensions that matter for a factor.
    pub completeness: f64,
    /// Mean over factors of the share of held-out samples predicted right.
    pub informativeness: f64,
}

/// Entropy of non-negative weights, normalised to [0, 1] by the logarithm of their number; 1 when there is no weight.
fn normalised_entropy(weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    if total <= 0.0 || weights.len() < 2 {
        return if total > 0.0 { 0.0 } else { 1.0 };
    }
    let share = |w: &f64| if *w > 0.0 { -(w / total) * (w / total).ln() } else { 0.0 };
    weights.iter().map(share).sum::<f64>() / (weights.len() as f64).ln()
}

/// The scores from the importances of one forest per factor, grown on half of the samples and judged on the other half.
pub fn dci(coded: &Coded, noise: Noise) -> Dci {
    let half = coded.len() / 2;
    let (mut importance, mut right) = (Vec::new(), Vec::new());
    for f in 0..coded.factors.sizes.len() {
        if coded.groups(f).len() < 2 {
            continue;
        }
        let (labels, classes) = (coded.factor(f), coded.factors.sizes[f]);
        let mut stream = noise.stream("disentanglement/dci", f as u64);
        let forest = Forest::grow(&coded.codes[..half * coded.dims], &labels[..half], coded.dims, classes, &mut stream);
        let hits = (half..coded.len()).filter(|&i| forest.predict(coded.code(i), classes) == labels[i]).count();
        right.push(share(hits, coded.len() - half));
        importance.push(forest.importance);
    }
    let completeness = mean(&importance.iter().map(|row| 1.0 - normalised_entropy(row)).collect::<Vec<_>>());
    let total: f64 = importance.iter().flatten().sum();
    let dimension = |k: usize| {
        let column: Vec<f64> = importance.iter().map(|row| row[k]).collect();
        column.iter().sum::<f64>() * (1.0 - normalised_entropy(&column))
    };
    let disentanglement = match importance.len() {
        0 => f64::NAN,
        _ if total > 0.0 => (0..coded.dims).map(dimension).sum::<f64>() / total,
        _ => 0.0,
    };
    Dci { disentanglement, completeness, informativeness: mean(&right) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropies_are_normalised() {
        assert_eq!((normalised_entropy(&[1.0, 0.0]), normalised_entropy(&[3.0, 3.0])), (0.0, 1.0));
        assert_eq!((normalised_entropy(&[0.0, 0.0]), normalised_entropy(&[2.0])), (1.0, 0.0));
    }
}
