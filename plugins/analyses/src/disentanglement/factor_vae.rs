//! The FactorVAE score (Kim and Mnih 2018, arXiv:1802.05983).

use ibhost_framework::noise::Noise;

use super::Coded;

/// Dimensions whose standard deviation is below this share of the largest count as switched off.
const DEAD: f64 = 1e-3;

/// Accuracy of predicting which factor was fixed from the dimension of least relative variance, by majority vote.
///
/// A vote fixes one value of a random factor, takes `per_vote` random samples with it and finds the dimension whose variance, relative to
/// its variance over all samples, is least. Half of `votes` decide which factor a dimension stands for, the other half are counted.
pub fn factor_vae(coded: &Coded, votes: usize, per_vote: usize, noise: Noise) -> f64 {
    let deviations = coded.deviations();
    let largest = deviations.iter().copied().fold(0.0, f64::max);
    let alive: Vec<usize> = (0..coded.dims).filter(|&k| deviations[k] > DEAD * largest).collect();
    let factors: Vec<Vec<Vec<usize>>> = (0..coded.factors.sizes.len()).map(|f| coded.groups(f)).filter(|g| g.len() > 1).collect();
    if factors.is_empty() {
        return f64::NAN;
    }
    // A code that never changes tells no factor.
    if alive.is_empty() {
        return 0.0;
    }
    let mut stream = noise.stream("disentanglement/factor_vae", 0);
    let mut vote = || {
        let factor = stream.below(factors.len());
        let group = &factors[factor][stream.below(factors[factor].len())];
        let chosen: Vec<usize> = (0..per_vote).map(|_| group[stream.below(group.len())]).collect();
        let variance = |k: usize| {
            let mean = chosen.iter().map(|&i| coded.code(i)[k]).sum::<f64>() / chosen.len() as f64;
            chosen.iter().map(|&i| (coded.code(i)[k] - mean).powi(2)).sum::<f64>() / deviations[k].powi(2)
        };
        let quietest = alive.iter().copied().min_by(|&a, &b| variance(a).total_cmp(&variance(b))).unwrap_or(0);
        (quietest, factor)
    };
    let mut counts = vec![vec![0usize; factors.len()]; coded.dims];
    for _ in 0..votes.div_ceil(2) {
        let (dimension, factor) = vote();
        counts[dimension][factor] += 1;
    }
    let stands_for = |k: usize| counts[k].iter().enumerate().max_by_key(|(_, count)| **count).map_or(0, |(factor, _)| factor);
    let judged = (votes / 2).max(1);
    let right = (0..judged).filter(|_| {
        let (dimension, factor) = vote();
        stands_for(dimension) == factor
    });
    right.count() as f64 / judged as f64
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{perfect, useless};
    use super::*;

    #[test]
    fn a_perfect_code_is_always_right_and_noise_is_near_chance() {
        assert_eq!(factor_vae(&perfect(1500), 400, 40, Noise::new(1)), 1.0);
        assert!(factor_vae(&useless(1500), 400, 40, Noise::new(1)) < 0.5);
        let flat = super::super::Coded { codes: vec![1.0; 4 * 100], ..perfect(100) };
        assert_eq!(factor_vae(&flat, 100, 10, Noise::new(1)), 0.0);
    }
}
