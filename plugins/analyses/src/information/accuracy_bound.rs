//! How much a classifier can get right with a given information about the label, and how much information an accuracy takes.

use ibhost_framework::dataset::Samples;

/// Halvings of the interval of the inverse; beyond the precision of `f64`.
const HALVINGS: usize = 64;

/// Label entropy and number of classes, which decide the bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AccuracyBound {
    /// H(L) in nats.
    pub entropy: f64,
    /// M, at least 2.
    pub classes: usize,
}

impl AccuracyBound {
    /// The bound for labels that occur `counts` times each; classes that never occur count as classes.
    pub fn new(counts: &[f64]) -> Self {
        let total: f64 = counts.iter().sum();
        let shares = counts.iter().map(|count| count / total).filter(|share| *share > 0.0);
        Self { entropy: shares.map(|share| -share * share.ln()).sum(), classes: counts.len().max(2) }
    }

    /// The bound for the labels of `samples`, of `classes` classes.
    pub fn of(samples: &Samples, classes: usize) -> Self {
        let mut counts = vec![0.0; classes.max(2)];
        for label in samples.labels() {
            if let Some(count) = counts.get_mut(usize::from(label)) {
                *count += 1.0;
            }
        }
        Self::new(&counts)
    }

    /// Least I(L;Z) in nats that allows accuracy `accuracy`, from 1/M to 1:
    /// f(a) = H(L) + a ln a + (1-a) ln((1-a)/(M-1)) (Fano's inequality for a symmetric error).
    pub fn information(&self, accuracy: f64) -> f64 {
        let term = |p: f64, of: f64| if p > 0.0 { p * (p / of).ln() } else { 0.0 };
        self.entropy + term(accuracy, 1.0) + term(1.0 - accuracy, self.classes as f64 - 1.0)
    }

    /// Largest accuracy that `information` nats about the label allow: f^-1 on `[1/M, 1]`; 1 from H(L) on, 1/M where f is above it already, NaN for
    /// NaN.
    pub fn accuracy(&self, information: f64) -> f64 {
        let mut range = [1.0 / self.classes as f64, 1.0];
        if information.is_nan() {
            return f64::NAN;
        }
        if information >= self.entropy {
            return 1.0;
        }
        for _ in 0..HALVINGS {
            let middle = 0.5 * (range[0] + range[1]);
            range[usize::from(self.information(middle) > information)] = middle;
        }
        0.5 * (range[0] + range[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_inverse() {
        let even = AccuracyBound::new(&[1.0; 10]);
        assert!((even.information(1.0) - 10f64.ln()).abs() < 1e-12 && even.information(0.1).abs() < 1e-12);
        let odd = AccuracyBound::new(&[5.0, 1.0, 2.0]);
        for bound in [even, odd] {
            assert_eq!((bound.accuracy(bound.entropy), bound.accuracy(9.0)), (1.0, 1.0));
            for a in [0.4, 0.55, 0.7, 0.9, 0.999] {
                assert!((bound.accuracy(bound.information(a)) - a).abs() < 1e-12);
            }
        }
        assert!(even.accuracy(f64::NAN).is_nan(), "what is not known bounds nothing");
        // Without information only the uneven classes help, by what f allows at 0.
        assert!((even.accuracy(0.0) - 0.1).abs() < 1e-6 && odd.accuracy(0.0) > 0.5);
    }
}
