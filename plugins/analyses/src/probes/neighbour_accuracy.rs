//! Classification by nearest neighbours among labelled codes, and agreement of two partitions: how well codes separate classes.

use rayon::prelude::*;

use crate::numbers::share;

/// Shares of test codes whose class the `k` nearest training codes vote for, with the votes' outcomes, one entry for each of `ks`.
///
/// Euclidean distance, one vote a neighbour, ties between classes to the smaller class number, ties between distances to the earlier
/// training code. Codes are sample-major with `dim` values; fewer training codes than k all vote.
pub fn neighbour_accuracies(train: (&[f64], &[u8]), test: (&[f64], &[u8]), dim: usize, ks: &[usize]) -> Vec<(f64, Vec<u8>)> {
    let most = ks.iter().copied().max().unwrap_or(0);
    let columns: Vec<Vec<f64>> = (0..dim).map(|d| train.0.iter().skip(d).step_by(dim).copied().collect()).collect();
    let nearest: Vec<Vec<u8>> = test
        .0
        .par_chunks_exact(dim.max(1))
        .with_min_len(16)
        .map_init(Vec::new, |distances: &mut Vec<f64>, code| {
            distances.clear();
            distances.resize(train.1.len(), 0.0);
            for (column, &at) in columns.iter().zip(code) {
                distances.iter_mut().zip(column).for_each(|(sum, x)| *sum += (x - at) * (x - at));
            }
            labels_of_nearest(distances, train.1, most)
        })
        .collect();
    ks.iter()
        .map(|&k| {
            let votes: Vec<u8> = nearest.iter().map(|labels| majority(&labels[..k.min(labels.len())])).collect();
            let right = votes.iter().zip(test.1).filter(|(vote, label)| vote == label).count();
            (share(right, test.1.len()), votes)
        })
        .collect()
}

/// Labels of the `count` smallest distances, nearest first.
fn labels_of_nearest(distances: &[f64], labels: &[u8], count: usize) -> Vec<u8> {
    let mut best: Vec<(f64, u8)> = Vec::with_capacity(count + 1);
    for (&distance, &label) in distances.iter().zip(labels) {
        if best.len() == count && best.last().is_none_or(|worst| distance >= worst.0) {
            continue;
        }
        let at = best.partition_point(|kept| kept.0 <= distance);
        best.insert(at, (distance, label));
        best.truncate(count);
    }
    best.into_iter().map(|(_, label)| label).collect()
}

fn majority(labels: &[u8]) -> u8 {
    let mut counts = [0usize; 256];
    for &label in labels {
        counts[usize::from(label)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(0);
    counts.iter().position(|&count| count == most).unwrap_or(0) as u8
}

/// Mutual information of two partitions divided by the larger of their entropies, in `[0, 1]`; 1 for two partitions without parts.
pub fn normalised_mutual_information(first: &[usize], second: &[usize]) -> f64 {
    use std::collections::BTreeMap;
    let n = first.len().min(second.len()) as f64;
    let count = |keys: &mut dyn Iterator<Item = (usize, usize)>| {
        let mut counts: BTreeMap<(usize, usize), f64> = BTreeMap::new();
        keys.for_each(|key| *counts.entry(key).or_default() += 1.0);
        counts
    };
    let entropy = |counts: &BTreeMap<(usize, usize), f64>| -counts.values().map(|c| c / n * (c / n).ln()).sum::<f64>();
    let (a, b) = (count(&mut first.iter().map(|&x| (x, 0))), count(&mut second.iter().map(|&y| (y, 0))));
    let joint = count(&mut first.iter().copied().zip(second.iter().copied()));
    let (entropy_a, entropy_b) = (entropy(&a), entropy(&b));
    let largest = entropy_a.max(entropy_b);
    if largest <= 0.0 { 1.0 } else { (entropy_a + entropy_b - entropy(&joint)) / largest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_and_ties_are_counted_as_stated() {
        let train = ([0.0, 1.0, 2.0, 10.0, 11.0], [3u8, 1, 1, 2, 0]);
        let test = ([0.4, 10.5], [3u8, 0]);
        let found = neighbour_accuracies((&train.0, &train.1), (&test.0, &test.1), 1, &[1, 2, 3, 9]);
        // At 0.4: labels 3, 1, 1 in order of distance. At 10.5 codes 10 and 11 are equally far: 2 comes first; with two votes 0 is smaller.
        assert_eq!(found[0], (0.5, vec![3, 2]));
        assert_eq!(found[1], (0.5, vec![1, 0]));
        assert_eq!(found[2].1, [1, 0]);
        assert_eq!(found[3].1, [1, 1]);
    }

    #[test]
    fn agreement_of_partitions() {
        assert!((normalised_mutual_information(&[0, 0, 1, 1], &[5, 5, 2, 2]) - 1.0).abs() < 1e-12);
        assert!(normalised_mutual_information(&[0, 0, 1, 1], &[0, 1, 0, 1]).abs() < 1e-12);
        let half = normalised_mutual_information(&[0, 0, 1, 1], &[0, 1, 2, 3]);
        assert!((half - 0.5).abs() < 1e-12, "{half}");
        assert_eq!(normalised_mutual_information(&[1, 1], &[0, 0]), 1.0);
    }
}
