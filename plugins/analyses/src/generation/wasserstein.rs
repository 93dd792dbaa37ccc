//! The 2-Wasserstein distance between normal distributions with diagonal covariance.

/// Squared 2-Wasserstein distance of N(mean_a, diag(variance_a)) and N(mean_b, diag(variance_b)).
///
/// `|mean_a - mean_b|^2 + sum_k (sqrt(variance_a,k) - sqrt(variance_b,k))^2`, in squared latent units; the arguments are variances,
/// not standard deviations. NaN when a variance is negative.
pub fn squared_w2(mean_a: &[f64], variance_a: &[f64], mean_b: &[f64], variance_b: &[f64]) -> f64 {
    let means: f64 = mean_a.iter().zip(mean_b).map(|(a, b)| (a - b).powi(2)).sum();
    let spreads: f64 = variance_a.iter().zip(variance_b).map(|(a, b)| (a.sqrt() - b.sqrt()).powi(2)).sum();
    means + spreads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_known_by_hand() {
        assert_eq!(squared_w2(&[1.0, 2.0], &[4.0, 1.0], &[1.0, 2.0], &[4.0, 1.0]), 0.0);
        assert!((squared_w2(&[0.0, 0.0], &[4.0, 1.0], &[3.0, 0.0], &[1.0, 1.0]) - 10.0).abs() < 1e-12);
    }
}
