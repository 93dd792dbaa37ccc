//! Watching one metric: which evaluation was best, and when to stop early.

use serde::{Deserialize, Serialize};

use crate::objective::Direction;
use crate::run::EarlyStopping;

/// State of the watched metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// `<split>.<metric>`.
    pub metric: String,
    /// Which way is better.
    pub direction: Direction,
    /// Best value so far, as bits so that it survives JSON exactly.
    best_bits: Option<u64>,
    /// Value that last reset the patience, as bits.
    reference_bits: Option<u64>,
    /// Epoch of the best value.
    pub best_epoch: u64,
    /// Steps done at the best value.
    pub best_step: u64,
    /// Evaluations since the metric last improved by more than `min_delta`.
    pub stale: u64,
}

impl Watch {
    /// Watches `metric`.
    pub fn new(metric: &str, direction: Direction) -> Self {
        Self { metric: metric.to_owned(), direction, best_bits: None, reference_bits: None, best_epoch: 0, best_step: 0, stale: 0 }
    }

    /// Best value so far.
    pub fn best(&self) -> Option<f64> {
        self.best_bits.map(f64::from_bits)
    }

    /// Takes note of a new value; true when it is the best so far. NaN never is.
    pub fn observe(&mut self, value: f64, epoch: u64, step: u64, min_delta: f64) -> bool {
        let gain = |old: Option<u64>| match (self.direction, old.map(f64::from_bits)) {
            (_, None) => f64::INFINITY,
            (Direction::Maximise, Some(old)) => value - old,
            (_, Some(old)) => old - value,
        };
        let finite = value.is_finite();
        if finite && gain(self.reference_bits) > min_delta {
            self.reference_bits = Some(value.to_bits());
            self.stale = 0;
        } else {
            self.stale += 1;
        }
        let better = finite && gain(self.best_bits) > 0.0;
        if better {
            self.best_bits = Some(value.to_bits());
            (self.best_epoch, self.best_step) = (epoch, step);
        }
        better
    }

    /// Whether patience has run out.
    pub fn should_stop(&self, early: Option<&EarlyStopping>) -> bool {
        early.is_some_and(|early| self.stale >= early.patience.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_never_best_and_counts_as_stale() {
        let mut watch = Watch::new("test.loss", Direction::Minimise);
        assert!(!watch.observe(f64::NAN, 1, 1, 0.0));
        assert!(watch.observe(2.0, 2, 2, 0.0));
        assert!(!watch.observe(f64::NAN, 3, 3, 0.0) && !watch.observe(f64::NEG_INFINITY, 3, 3, 0.0));
        assert_eq!((watch.best(), watch.best_epoch, watch.stale), (Some(2.0), 2, 2));
    }

    #[test]
    fn small_gains_are_best_but_do_not_reset_the_patience() {
        let mut watch = Watch::new("test.accuracy", Direction::Maximise);
        let early = EarlyStopping { patience: 2, min_delta: 0.1, from: 0 };
        watch.observe(0.5, 1, 1, early.min_delta);
        assert!(watch.observe(0.55, 2, 2, early.min_delta) && watch.observe(0.58, 3, 3, early.min_delta));
        assert!(watch.should_stop(Some(&early)) && !watch.should_stop(None));
        assert!(watch.observe(0.7, 4, 4, early.min_delta) && !watch.should_stop(Some(&early)));
    }
}
