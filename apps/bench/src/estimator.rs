//! The estimators: mutual information and detection metrics on synthetic samples like the peer's.

use std::time::Instant;

use ibhost_analyses::information::aggregate::{Scales, aggregated_information};
use ibhost_analyses::information::kraskov::{Rows, kraskov};
use ibhost_analyses::robustness::detection::Scores;
use ibhost_datasets::mixture::Mixture;
use ibhost_framework::noise::Noise;

/// Noise around the codes of the Kraskov workloads.
const CODE_NOISE: f64 = 0.1;
/// Dimensions of the codes whose aggregated posterior is taken.
const LATENT: usize = 16;
/// Thresholds of the detection metrics.
const THRESHOLDS: usize = 10_000;

/// One estimate from samples in memory; NaN where it cannot be made.
type Estimate = Box<dyn Fn() -> f64>;

/// An estimator on samples of a fixed number.
pub struct Estimator {
    /// Name, the same as the peer's.
    pub name: &'static str,
    /// Samples.
    pub samples: usize,
    /// Timed estimates in a repeat, and estimates before the first.
    pub steps: [usize; 2],
    /// Draws that many samples.
    prepare: fn(usize) -> Estimate,
}

/// Every estimator.
pub fn estimators() -> Vec<Estimator> {
    vec![
        Estimator { name: "ksg-2-2", samples: 10_000, steps: [2, 1], prepare: |n| nearest_neighbours(n, [2, 2]) },
        Estimator { name: "ksg-20-10", samples: 10_000, steps: [1, 1], prepare: |n| nearest_neighbours(n, [20, 10]) },
        Estimator { name: "disenib-aggregated-mi", samples: 10_000, steps: [2, 1], prepare: aggregated },
        Estimator { name: "odin-ood-metrics", samples: 20_000, steps: [50, 5], prepare: detection },
    ]
}

/// I(X;Z) with the fifth neighbour: x from the toy mixture, z = x A + noise, A from N(0, 1 / dimensions of x). Nats.
fn nearest_neighbours(samples: usize, dimensions: [usize; 2]) -> Estimate {
    let [dx, dz] = dimensions;
    let mixture = Mixture::circle(4, dx, false);
    let mut stream = Noise::new(1).stream("estimator samples", 0);
    let mut x = Vec::with_capacity(samples * dx);
    for _ in 0..samples {
        let component = stream.below(mixture.components());
        mixture.draw(component, &mut stream, &mut x);
    }
    let x: Vec<f64> = x.into_iter().map(f64::from).collect();
    let map: Vec<f64> = (0..dx * dz).map(|_| stream.normal() / (dx as f64).sqrt()).collect();
    let z: Vec<f64> = x
        .chunks_exact(dx)
        .flat_map(|row| (0..dz).map(|k| row.iter().enumerate().map(|(d, v)| v * map[d * dz + k]).sum::<f64>()).collect::<Vec<_>>())
        .map(|mean| mean + CODE_NOISE * stream.normal())
        .collect();
    Box::new(move || kraskov(&[Rows::new(&x, dx), Rows::new(&z, dz)], 5).unwrap_or(f64::NAN))
}

/// I(X;T) of codes around ten centres, uniform in [-3, 3], with noise of scale 1. Nats.
fn aggregated(samples: usize) -> Estimate {
    let mut stream = Noise::new(1).stream("estimator codes", 0);
    let centres: Vec<f64> = (0..10 * LATENT).map(|_| 6.0 * stream.uniform() - 3.0).collect();
    let mut means = Vec::with_capacity(samples * LATENT);
    for _ in 0..samples {
        let at = stream.below(10) * LATENT;
        means.extend(centres[at..at + LATENT].iter().map(|centre| centre + 0.3 * stream.normal()));
    }
    Box::new(move || aggregated_information(&means, &means, Scales::Shared(1.0), LATENT))
}

/// Sum of the five metrics of half as many scores inside, Beta(5, 2), as outside, Beta(2, 4), just above 0.1 as the softmax of ten classes
/// at temperature 1000 has them.
fn detection(samples: usize) -> Estimate {
    let mut stream = Noise::new(1).stream("estimator scores", 0);
    // The a-th smallest of a + b - 1 uniform numbers follows Beta(a, b).
    let mut scores = |a: usize, b: usize| -> Vec<f64> {
        (0..samples / 2)
            .map(|_| {
                let mut uniform: Vec<f64> = (1..a + b).map(|_| stream.uniform()).collect();
                uniform.sort_by(f64::total_cmp);
                0.1 + 0.002 * uniform[a - 1]
            })
            .collect()
    };
    let (inside, outside) = (scores(5, 2), scores(2, 4));
    Box::new(move || {
        let Some(scores) = Scores::new(inside.clone(), outside.clone()) else { return f64::NAN };
        let found = scores.on_grid(THRESHOLDS);
        found.fpr_at_tpr95 + found.auroc + found.aupr_in + found.aupr_out + found.detection_error
    })
}

/// What was measured of one estimator.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    /// Milliseconds an estimate, one entry a repeat.
    pub milliseconds: Vec<f64>,
    /// Seconds of the estimates before the first repeat.
    pub warmup: f64,
    /// The estimate.
    pub value: f64,
}

impl Estimator {
    /// Times `repeats` of `steps` estimates on `samples` samples, after `warmup` estimates and one at least.
    pub fn time(&self, samples: usize, repeats: usize, steps: usize, warmup: usize) -> Timed {
        let estimate = (self.prepare)(samples);
        let begin = Instant::now();
        let mut value = (0..warmup.max(1)).map(|_| estimate()).fold(f64::NAN, |_, last| last);
        let warmup = begin.elapsed().as_secs_f64();
        let milliseconds = (0..repeats)
            .map(|_| {
                let begin = Instant::now();
                for _ in 0..steps {
                    value = estimate();
                }
                1e3 * begin.elapsed().as_secs_f64() / steps as f64
            })
            .collect();
        Timed { milliseconds, warmup, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_estimate_is_what_its_samples_allow() {
        let bounds = |name: &str, samples: usize| match name {
            // Codes that follow x up to a tenth of a unit tell much about it, and no estimate exceeds ln N by much.
            "ksg-2-2" => [1.0, (samples as f64).ln()],
            "ksg-20-10" => [1.5, (samples as f64).ln() + 1.0],
            "disenib-aggregated-mi" => [2.0, (samples as f64).ln()],
            // Each of the five metrics lies between 0 and 1, and these scores overlap.
            _ => [2.5, 4.0],
        };
        for estimator in estimators() {
            let timed = estimator.time(2000, 2, 1, 0);
            let [low, high] = bounds(estimator.name, 2000);
            assert!(timed.value > low && timed.value < high, "{}: {timed:?}", estimator.name);
            assert!(timed.milliseconds.len() == 2 && timed.milliseconds.iter().all(|ms| *ms > 0.0), "{timed:?}");
        }
    }
}
