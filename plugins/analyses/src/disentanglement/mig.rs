//! Mutual information gap (Chen, Li, Grosse and Duvenaud 2018, arXiv:1802.04942).

use super::Coded;
use crate::numbers::mean;

/// Equal-width bins a dimension is cut into.
const BINS: usize = 20;

/// Mean over factors of (I(z_first; v) - I(z_second; v)) / H(v), the two dimensions with the most information about v; not a number when
/// no factor varies.
pub fn mutual_information_gap(coded: &Coded) -> f64 {
    let binned: Vec<Vec<usize>> = (0..coded.dims).map(|k| bins(&coded.column(k))).collect();
    let mut gaps = Vec::new();
    for f in 0..coded.factors.sizes.len() {
        let values: Vec<usize> = coded.factor(f).into_iter().map(usize::from).collect();
        let entropy = information(&values, &values);
        if entropy <= 0.0 {
            continue;
        }
        let mut all: Vec<f64> = binned.iter().map(|column| information(column, &values)).collect();
        all.sort_unstable_by(|a, b| b.total_cmp(a));
        gaps.push((all[0] - all.get(1).copied().unwrap_or(0.0)) / entropy);
    }
    mean(&gaps)
}

fn bins(column: &[f64]) -> Vec<usize> {
    let (low, high) = column.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(*x), h.max(*x)));
    let width = (high - low) / BINS as f64;
    let bin = |x: &f64| if width > 0.0 { (((x - low) / width) as usize).min(BINS - 1) } else { 0 };
    column.iter().map(bin).collect()
}

/// Mutual information in nats of two paired lists of numbers.
fn information(a: &[usize], b: &[usize]) -> f64 {
    let size = |values: &[usize]| values.iter().max().map_or(0, |m| m + 1);
    let (rows, columns) = (size(a), size(b));
    let mut joint = vec![0.0; rows * columns];
    for (x, y) in a.iter().zip(b) {
        joint[x * columns + y] += 1.0 / a.len() as f64;
    }
    let row: Vec<f64> = joint.chunks_exact(columns.max(1)).map(|r| r.iter().sum()).collect();
    let column: Vec<f64> = (0..columns).map(|y| (0..rows).map(|x| joint[x * columns + y]).sum()).collect();
    let term = |(at, p): (usize, &f64)| if *p > 0.0 { p * (p / (row[at / columns] * column[at % columns])).ln() } else { 0.0 };
    joint.iter().enumerate().map(term).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn information_of_equal_and_of_independent_lists() {
        assert!((information(&[0, 1, 0, 1], &[5, 2, 5, 2]) - 2f64.ln()).abs() < 1e-12);
        assert!(information(&[0, 0, 1, 1], &[0, 1, 0, 1]).abs() < 1e-12);
        assert_eq!(bins(&[0.0, 0.999, 20.0, 10.0]), [0, 0, 19, 10]);
    }
}
