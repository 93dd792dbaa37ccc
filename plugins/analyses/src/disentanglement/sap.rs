//! Separated attribute predictability (Kumar, Sattigeri and Balakrishnan 2018, arXiv:1711.00848).

use super::Coded;
use crate::numbers::mean;

/// Mean over factors of the gap between the two dimensions that predict the factor best; not a number when no factor varies.
///
/// A dimension predicts a factor by the nearest of the means of its values; its score is the mean over values of the share predicted right.
pub fn attribute_gap(coded: &Coded) -> f64 {
    let mut gaps = Vec::new();
    for f in 0..coded.factors.sizes.len() {
        let groups = coded.groups(f);
        if groups.len() < 2 {
            continue;
        }
        let mut scores: Vec<f64> = (0..coded.dims).map(|k| predictability(&coded.column(k), &groups)).collect();
        scores.sort_unstable_by(|a, b| b.total_cmp(a));
        gaps.push(scores[0] - scores.get(1).copied().unwrap_or(0.0));
    }
    mean(&gaps)
}

/// Balanced accuracy of the nearest group mean.
fn predictability(column: &[f64], groups: &[Vec<usize>]) -> f64 {
    let centre = |group: &Vec<usize>| group.iter().map(|&i| column[i]).sum::<f64>() / group.len() as f64;
    let means: Vec<f64> = groups.iter().map(centre).collect();
    let nearest = |x: f64| (0..means.len()).min_by(|&a, &b| (means[a] - x).abs().total_cmp(&(means[b] - x).abs())).unwrap_or(0);
    let right = |(g, group): (usize, &Vec<usize>)| group.iter().filter(|&&i| nearest(column[i]) == g).count() as f64 / group.len() as f64;
    groups.iter().enumerate().map(right).sum::<f64>() / groups.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separated_groups_are_predicted_and_a_constant_is_not() {
        let groups = vec![vec![0, 1], vec![2], vec![3]];
        assert_eq!(predictability(&[0.0, 0.1, 5.0, 9.0], &groups), 1.0);
        assert!((predictability(&[1.0; 4], &groups) - 1.0 / 3.0).abs() < 1e-12);
    }
}
