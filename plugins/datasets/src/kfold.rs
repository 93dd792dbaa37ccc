//! Stratified folds without shuffling, equal to scikit-learn's rule since its version 0.22.

use std::collections::HashMap;
use std::hash::Hash;

/// Splits `labels` into `k` validation folds with the class proportions of the whole; returns the ascending indices of each.
///
/// Classes are numbered by first appearance and the labels sorted by that number. Fold `f` is owed, of class `c`, as many
/// samples as there are positions `f, f + k, f + 2 k, ...` of the sorted list that hold `c`; within a class, in data order,
/// the first samples go to fold 0, the next to fold 1, and so on. Without folds (`k == 0`) the result is empty.
///
/// Source: the index preparation of the variational deficiency bottleneck code, which calls scikit-learn.
pub fn stratified_folds<L: Copy + Eq + Hash>(labels: &[L], k: usize) -> Vec<Vec<usize>> {
    let mut folds = vec![Vec::new(); k];
    if k == 0 {
        return folds;
    }
    let mut number = HashMap::new();
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (index, &label) in labels.iter().enumerate() {
        let class = *number.entry(label).or_insert(members.len());
        if class == members.len() {
            members.push(Vec::new());
        }
        members[class].push(index);
    }
    let mut start = 0;
    for class in members {
        let end = start + class.len();
        let mut taken = 0;
        for (fold, indices) in folds.iter_mut().enumerate() {
            let count = congruent_below(end, fold, k) - congruent_below(start, fold, k);
            indices.extend(&class[taken..taken + count]);
            taken += count;
        }
        start = end;
    }
    for fold in &mut folds {
        fold.sort_unstable();
    }
    folds
}

/// How many of `0..end` leave the remainder `fold` when divided by `k`.
fn congruent_below(end: usize, fold: usize, k: usize) -> usize {
    if end > fold { (end - fold - 1) / k + 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_case_by_hand() {
        // Sorted by first appearance: b b b a a c; positions 0,2,4 -> b b a, positions 1,3,5 -> b a c.
        let folds = stratified_folds(&['b', 'a', 'b', 'c', 'b', 'a'], 2);
        assert_eq!(folds, vec![vec![0, 1, 2], vec![3, 4, 5]]);
    }

    #[test]
    fn folds_are_a_partition_with_even_classes() {
        let labels: Vec<u8> = (0..997u32).map(|i| (i * i % 7) as u8).collect();
        let folds = stratified_folds(&labels, 5);
        let mut all: Vec<usize> = folds.concat();
        all.sort_unstable();
        assert_eq!(all, (0..997).collect::<Vec<_>>());
        for class in 0..7 {
            let counts: Vec<usize> = folds.iter().map(|f| f.iter().filter(|&&i| labels[i] == class).count()).collect();
            let spread = counts.iter().max().unwrap() - counts.iter().min().unwrap();
            assert!(spread <= 1, "class {class} is spread as {counts:?}");
        }
    }

    #[test]
    fn degenerate_requests() {
        assert!(stratified_folds(&[1, 2], 0).is_empty());
        assert_eq!(stratified_folds::<u8>(&[], 3), vec![Vec::<usize>::new(); 3]);
        assert_eq!(stratified_folds(&[5, 5], 1), vec![vec![0, 1]]);
    }
}
