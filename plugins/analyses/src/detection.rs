//! Detection metrics from confidence scores: how well high scores pick out the inside. On the paper's threshold grid, and exact.

/// Metrics of scores; inside is the positive class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// False-positive rate at 95 % true positives, the mean over the thresholds around that rank.
    pub fpr_at_tpr95: f64,
    /// Area under the curve of true against false positives.
    pub auroc: f64,
    /// Area under precision and recall, inside positive.
    pub aupr_in: f64,
    /// Area under precision and recall, outside positive.
    pub aupr_out: f64,
    /// Smallest mean of misses and false alarms, at most 1.
    pub detection_error: f64,
}

/// Scores of both sides in ascending order.
#[derive(Clone, Debug)]
pub struct Scores {
    inside: Vec<f64>,
    outside: Vec<f64>,
}

/// Share of ascending `scores` that are at least the ascending thresholds, one threshold after the other.
struct AtLeast<'a> {
    scores: &'a [f64],
    below: usize,
}

impl<'a> AtLeast<'a> {
    fn new(scores: &'a [f64]) -> Self {
        Self { scores, below: 0 }
    }

    fn share(&mut self, threshold: f64) -> f64 {
        while self.scores.get(self.below).is_some_and(|s| *s < threshold) {
            self.below += 1;
        }
        (self.scores.len() - self.below) as f64 / self.scores.len() as f64
    }
}

impl Scores {
    /// Scores of samples inside and outside. `None` when a side is empty or a score is not a number.
    pub fn new(mut inside: Vec<f64>, mut outside: Vec<f64>) -> Option<Self> {
        if inside.is_empty() || outside.is_empty() || inside.iter().chain(&outside).any(|s| !s.is_finite()) {
            return None;
        }
        inside.sort_unstable_by(f64::total_cmp);
        outside.sort_unstable_by(f64::total_cmp);
        Some(Self { inside, outside })
    }

    /// Mean false-positive rate at the inside scores of descending rank int(0.9495 n) to int(0.9505 n).
    pub fn fpr_at_tpr95(&self) -> f64 {
        let n = self.inside.len();
        let (from, to) = ((0.9495 * n as f64) as usize, (0.9505 * n as f64) as usize);
        let ranks = if from < to { from..to } else { to..to + 1 };
        // Descending ranks are ascending positions from the end.
        let mut thresholds: Vec<f64> = ranks.map(|rank| self.inside[n - 1 - rank.min(n - 1)]).collect();
        thresholds.reverse();
        let mut outside = AtLeast::new(&self.outside);
        let sum: f64 = thresholds.iter().map(|&t| outside.share(t)).sum();
        sum / thresholds.len() as f64
    }

    fn range(&self) -> (f64, f64) {
        let last = |s: &[f64]| s[s.len() - 1];
        (self.inside[0].min(self.outside[0]), last(&self.inside).max(last(&self.outside)))
    }

    /// The paper's metrics: `steps` thresholds from the smallest to the largest score, areas by rectangles.
    ///
    /// The sliver of the curves beyond the last threshold is not added, so perfectly separated scores give areas under precision and recall
    /// slightly below 1. When all scores are equal: area 0.5, base rates and error 0.5.
    pub fn on_grid(&self, steps: usize) -> Detection {
        let (low, high) = self.range();
        let gap = (high - low) / steps as f64;
        let base = self.inside.len() as f64 / (self.inside.len() + self.outside.len()) as f64;
        let fpr_at_tpr95 = self.fpr_at_tpr95();
        if gap <= 0.0 {
            return Detection { fpr_at_tpr95, auroc: 0.5, aupr_in: base, aupr_out: 1.0 - base, detection_error: 0.5 };
        }
        let (mut inside, mut outside) = (AtLeast::new(&self.inside), AtLeast::new(&self.outside));
        let (mut auroc, mut aupr_in, mut detection_error) = (0.0, 0.0, 1f64);
        let (mut last_tpr, mut last_fpr) = (1.0, 1.0);
        for index in 0..=steps {
            let threshold = low + index as f64 * gap;
            if threshold >= high {
                break;
            }
            let (tpr, fpr) = (inside.share(threshold), outside.share(threshold));
            auroc += (last_fpr - fpr) * tpr;
            if tpr + fpr > 0.0 {
                aupr_in += (last_tpr - tpr) * tpr / (tpr + fpr);
            }
            detection_error = detection_error.min(f64::midpoint(1.0 - tpr, fpr));
            (last_tpr, last_fpr) = (tpr, fpr);
        }
        Detection { fpr_at_tpr95, auroc, aupr_in, aupr_out: self.aupr_out_on_grid(low, high, gap, steps), detection_error }
    }

    /// The mirror image: thresholds descend from the largest score, outside scores below them are hits.
    fn aupr_out_on_grid(&self, low: f64, high: f64, gap: f64, steps: usize) -> f64 {
        let mirrored = |scores: &[f64]| scores.iter().rev().map(|s| -s).collect::<Vec<f64>>();
        let (inside, outside) = (mirrored(&self.inside), mirrored(&self.outside));
        let (mut inside, mut outside) = (Above::new(&inside), Above::new(&outside));
        let (mut area, mut last) = (0.0, 1.0);
        for index in 0..=steps {
            let threshold = high - index as f64 * gap;
            if threshold <= low {
                break;
            }
            let (hits, alarms) = (outside.share(-threshold), inside.share(-threshold));
            if hits + alarms > 0.0 {
                area += (last - hits) * hits / (hits + alarms);
            }
            last = hits;
        }
        area
    }

    /// Exact metrics: every distinct score is a threshold, the area under the ROC counts ties half (trapezoids), precision and recall are
    /// summed as average precision over counts.
    pub fn exact(&self) -> Detection {
        let (n_in, n_out) = (self.inside.len(), self.outside.len());
        let (mut i, mut o) = (n_in, n_out);
        let (mut auroc, mut aupr_in, mut error) = (0.0, 0.0, 0.5f64);
        // Descending thresholds: everything from position i (o) on is at or above it.
        while i > 0 || o > 0 {
            let top = |s: &[f64], n: usize| if n > 0 { s[n - 1] } else { f64::NEG_INFINITY };
            let threshold = top(&self.inside, i).max(top(&self.outside, o));
            let (before_i, before_o) = (i, o);
            while i > 0 && self.inside[i - 1] >= threshold {
                i -= 1;
            }
            while o > 0 && self.outside[o - 1] >= threshold {
                o -= 1;
            }
            let (hits, alarms) = ((n_in - i) as f64, (n_out - o) as f64);
            let (new_hits, new_alarms) = ((before_i - i) as f64, (before_o - o) as f64);
            auroc += new_alarms * (hits - new_hits / 2.0);
            aupr_in += new_hits * hits / (hits + alarms);
            error = error.min(f64::midpoint(1.0 - hits / n_in as f64, alarms / n_out as f64));
        }
        let (mut aupr_out, mut i, mut o) = (0.0, 0, 0);
        while o < n_out {
            let threshold = self.outside[o];
            let before = o;
            while o < n_out && self.outside[o] <= threshold {
                o += 1;
            }
            while i < n_in && self.inside[i] <= threshold {
                i += 1;
            }
            aupr_out += (o - before) as f64 * o as f64 / (o + i) as f64;
        }
        // Dividing once at the end keeps the sums of counts exact.
        let (inside, outside) = (n_in as f64, n_out as f64);
        Detection {
            fpr_at_tpr95: self.exact_fpr_at_tpr95(),
            auroc: auroc / (inside * outside),
            aupr_in: aupr_in / inside,
            aupr_out: aupr_out / outside,
            detection_error: error,
        }
    }

    /// False-positive rate at the highest threshold that keeps at least 95 % of the inside.
    fn exact_fpr_at_tpr95(&self) -> f64 {
        let n = self.inside.len();
        let kept = (0.95 * n as f64).ceil() as usize;
        AtLeast::new(&self.outside).share(self.inside[n - kept.clamp(1, n)])
    }
}

/// Share of ascending `scores` that are above the ascending thresholds.
struct Above<'a> {
    scores: &'a [f64],
    passed: usize,
}

impl<'a> Above<'a> {
    fn new(scores: &'a [f64]) -> Self {
        Self { scores, passed: 0 }
    }

    fn share(&mut self, threshold: f64) -> f64 {
        while self.scores.get(self.passed).is_some_and(|s| *s <= threshold) {
            self.passed += 1;
        }
        (self.scores.len() - self.passed) as f64 / self.scores.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_framework::noise::Noise;

    #[test]
    fn separated_scores_are_detected_perfectly_and_the_grid_misses_the_last_sliver() {
        let scores = Scores::new((0..100).map(|i| 10.0 + f64::from(i)).collect(), (0..50).map(|i| f64::from(i) / 50.0).collect()).unwrap();
        let exact = scores.exact();
        assert_eq!((exact.auroc, exact.aupr_in, exact.aupr_out, exact.detection_error, exact.fpr_at_tpr95), (1.0, 1.0, 1.0, 0.0, 0.0));
        let grid = scores.on_grid(1000);
        assert!((grid.aupr_in - 0.99).abs() < 1e-9 && grid.auroc > 0.99 && grid.detection_error == 0.0, "{grid:?}");
    }

    #[test]
    fn equal_scores_and_bad_scores() {
        let scores = Scores::new(vec![0.5; 3], vec![0.5; 9]).unwrap();
        for found in [scores.on_grid(100), scores.exact()] {
            assert!((found.auroc - 0.5).abs() < 1e-12 && (found.aupr_in - 0.25).abs() < 1e-12 && (found.aupr_out - 0.75).abs() < 1e-12);
            assert_eq!((found.detection_error, found.fpr_at_tpr95), (0.5, 1.0));
        }
        assert!(Scores::new(vec![], vec![1.0]).is_none() && Scores::new(vec![f64::NAN], vec![1.0]).is_none());
    }

    #[test]
    fn the_exact_area_is_the_share_of_pairs_in_order_and_the_grid_comes_near_it() {
        let mut stream = Noise::new(1).stream("scores", 0);
        let inside: Vec<f64> = (0..300).map(|_| ((stream.normal() + 1.0) * 20.0).round()).collect();
        let outside: Vec<f64> = (0..200).map(|_| (stream.normal() * 20.0).round()).collect();
        let mut pairs = 0.0;
        for i in &inside {
            for o in &outside {
                pairs += if i > o {
                    1.0
                } else if i == o {
                    0.5
                } else {
                    0.0
                };
            }
        }
        let scores = Scores::new(inside, outside).unwrap();
        assert!((scores.exact().auroc - pairs / 60_000.0).abs() < 1e-12);
        let (exact, grid) = (scores.exact(), scores.on_grid(10_000));
        assert!((exact.auroc - grid.auroc).abs() < 0.02 && (exact.detection_error - grid.detection_error).abs() < 1e-12);
    }
}
