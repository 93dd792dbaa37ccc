//! Detection metrics from confidence scores: how well high scores pick out the inside. On the paper's threshold grid, and exact.

use ibhost_kernels::vectorised;

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

/// Scores of both sides, in any order.
#[derive(Clone, Debug)]
pub struct Scores {
    inside: Vec<f64>,
    outside: Vec<f64>,
    /// Smallest and largest of all.
    range: [f64; 2],
}

/// Smallest and largest of some numbers; `None` when there are none or one is not finite.
fn range(values: &[f64]) -> Option<[f64; 2]> {
    // Side by side, so that no comparison waits for the one before.
    const LANES: usize = 32;
    let first = *values.first()?;
    let (mut lows, mut highs, mut nothing) = ([first; LANES], [first; LANES], [0.0; LANES]);
    let mut extend = |values: &[f64]| {
        for (k, &x) in values.iter().enumerate() {
            lows[k] = if x < lows[k] { x } else { lows[k] };
            highs[k] = if x > highs[k] { x } else { highs[k] };
            // Zero, unless x is infinite or no number.
            nothing[k] += x * 0.0;
        }
    };
    let (whole, rest) = values.as_chunks::<LANES>();
    vectorised!(|| whole.iter().for_each(|values| extend(values)));
    extend(rest);
    let finite = nothing.iter().all(|x| *x == 0.0);
    finite.then(|| [lows.into_iter().fold(first, f64::min), highs.into_iter().fold(first, f64::max)])
}

/// 2^52: the last bit of numbers from here to its double is worth 1.
const WHOLE: f64 = 4_503_599_627_370_496.0;

/// Scores handled at once.
const PART: usize = 256;

/// Equally spaced thresholds, from one end of the scores to the other without the last one.
#[derive(Clone, Copy)]
struct Thresholds {
    first: f64,
    gap: f64,
    count: usize,
}

impl Thresholds {
    /// Those of `first + i gap`, i = 0 ... `steps`, that are not yet `last`.
    fn new(first: f64, last: f64, gap: f64, steps: usize) -> Self {
        let all = Self { first, gap, count: steps + 1 };
        let before = |i: usize| if gap > 0.0 { all.at(i) < last } else { all.at(i) > last };
        let mut count = steps + 1;
        while count > 0 && !before(count - 1) {
            count -= 1;
        }
        Self { count, ..all }
    }

    fn at(self, index: usize) -> f64 {
        self.first + index as f64 * self.gap
    }

    /// For each threshold, how many scores pass it. A score passes a first part of the thresholds and no other.
    fn passing(self, scores: &[f64], passes: impl Fn(f64, f64) -> bool) -> Vec<u32> {
        let mut counts = vec![0u32; self.count + 1];
        let (each_gap, most) = (1.0 / self.gap, self.count as f64);
        let mut passed = [0u32; PART];
        for scores in scores.chunks(PART) {
            // Numbers of thresholds as floating-point numbers and corrections without branches, so that the loop is one of vectors.
            vectorised!(|| {
                for (passed, &score) in passed.iter_mut().zip(scores) {
                    // What rounding may add is taken away and more, so that the number is right or one too small.
                    let count = ((score - self.first) * each_gap - 1e-6).floor() + 1.0;
                    let next = self.first + count * self.gap;
                    let count = count + if passes(score, next) { 1.0 } else { 0.0 };
                    // `clamp` checks its ends, and a conversion for what cannot be; the low bits of the sum are the whole number.
                    let count = if count > 0.0 { count } else { 0.0 };
                    let count = if count < most { count } else { most };
                    *passed = (count + WHOLE).to_bits() as u32;
                }
            });
            passed[..scores.len()].iter().for_each(|&passed| counts[passed as usize] += 1);
        }
        counts.pop();
        let mut left = scores.len() as u32;
        for count in &mut counts {
            left -= *count;
            *count = left;
        }
        counts
    }
}

impl Scores {
    /// Scores of samples inside and outside. `None` when a side is empty or a score is not a number.
    pub fn new(inside: Vec<f64>, outside: Vec<f64>) -> Option<Self> {
        let ([low, high], [other_low, other_high]) = (range(&inside)?, range(&outside)?);
        Some(Self { inside, outside, range: [low.min(other_low), high.max(other_high)] })
    }

    /// Mean false-positive rate at the inside scores of descending rank int(0.9495 n) to int(0.9505 n).
    pub fn fpr_at_tpr95(&self) -> f64 {
        let n = self.inside.len();
        let (from, to) = ((0.9495 * n as f64) as usize, (0.9505 * n as f64) as usize);
        let last = if from < to { to - 1 } else { to };
        let (lowest, highest) = (n - 1 - last, n - 1 - from.min(last));
        // Descending ranks are ascending positions from the end; the rest need not be in order.
        let mut scores = self.inside.clone();
        scores.select_nth_unstable_by(lowest, f64::total_cmp);
        scores[lowest..].select_nth_unstable_by(highest - lowest, f64::total_cmp);
        let thresholds = &mut scores[lowest..=highest];
        thresholds.sort_unstable_by(f64::total_cmp);
        let alarms = |t: &f64| self.outside.iter().filter(|s| *s >= t).count() as f64 / self.outside.len() as f64;
        thresholds.iter().map(alarms).sum::<f64>() / thresholds.len() as f64
    }

    /// The paper's metrics: `steps` thresholds from the smallest to the largest score, areas by rectangles.
    ///
    /// The sliver of the curves beyond the last threshold is not added, so perfectly separated scores give areas under precision and recall
    /// slightly below 1. When all scores are equal: area 0.5, base rates and error 0.5.
    pub fn on_grid(&self, steps: usize) -> Detection {
        let [low, high] = self.range;
        let gap = (high - low) / steps as f64;
        let base = self.inside.len() as f64 / (self.inside.len() + self.outside.len()) as f64;
        if gap <= 0.0 {
            let fpr_at_tpr95 = self.fpr_at_tpr95();
            return Detection { fpr_at_tpr95, auroc: 0.5, aupr_in: base, aupr_out: 1.0 - base, detection_error: 0.5 };
        }
        let (up, (aupr_out, fpr_at_tpr95)) = rayon::join(
            || self.ascending(low, high, gap, steps),
            || rayon::join(|| self.aupr_out(low, high, gap, steps), || self.fpr_at_tpr95()),
        );
        Detection { fpr_at_tpr95, aupr_out, ..up }
    }

    /// What ascending thresholds give, with scores of at least the threshold counted as inside; the other two metrics are left at 0.
    fn ascending(&self, low: f64, high: f64, gap: f64, steps: usize) -> Detection {
        let thresholds = Thresholds::new(low, high, gap, steps);
        let (hits, alarms) = (thresholds.passing(&self.inside, |s, t| s >= t), thresholds.passing(&self.outside, |s, t| s >= t));
        let (inside, outside) = (self.inside.len() as u64, self.outside.len() as u64);
        // Areas and errors times both numbers of scores are whole numbers.
        let (mut area, mut error, mut last) = (0, 2 * inside * outside, outside);
        for (&hits, &alarms) in hits.iter().zip(&alarms) {
            let (hits, alarms) = (u64::from(hits), u64::from(alarms));
            area += (last - alarms) * hits;
            error = error.min((inside - hits) * outside + alarms * inside);
            last = alarms;
        }
        let pairs = (inside * outside) as f64;
        Detection {
            fpr_at_tpr95: 0.0,
            auroc: area as f64 / pairs,
            aupr_in: area_of_precision([&hits, &alarms], [inside, outside]),
            aupr_out: 0.0,
            detection_error: error as f64 / pairs / 2.0,
        }
    }

    /// The mirror image: thresholds descend from the largest score, outside scores below them are hits.
    fn aupr_out(&self, low: f64, high: f64, gap: f64, steps: usize) -> f64 {
        let thresholds = Thresholds::new(high, low, -gap, steps);
        let [alarms, hits] = [&self.inside, &self.outside].map(|scores| thresholds.passing(scores, |s, t| s < t));
        area_of_precision([&hits, &alarms], [self.outside.len() as u64, self.inside.len() as u64])
    }

    /// Exact metrics: every distinct score is a threshold, the area under the ROC counts ties half (trapezoids), precision and recall are
    /// summed as average precision over counts.
    pub fn exact(&self) -> Detection {
        let [all_inside, all_outside] = [&self.inside, &self.outside].map(|scores| {
            let mut scores = scores.clone();
            scores.sort_unstable_by(f64::total_cmp);
            scores
        });
        let (n_in, n_out) = (all_inside.len(), all_outside.len());
        let (mut i, mut o) = (n_in, n_out);
        let (mut auroc, mut aupr_in, mut error) = (0.0, 0.0, 0.5f64);
        // Descending thresholds: everything from position i (o) on is at or above it.
        while i > 0 || o > 0 {
            let top = |s: &[f64], n: usize| if n > 0 { s[n - 1] } else { f64::NEG_INFINITY };
            let threshold = top(&all_inside, i).max(top(&all_outside, o));
            let (before_i, before_o) = (i, o);
            while i > 0 && all_inside[i - 1] >= threshold {
                i -= 1;
            }
            while o > 0 && all_outside[o - 1] >= threshold {
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
            let threshold = all_outside[o];
            let before = o;
            while o < n_out && all_outside[o] <= threshold {
                o += 1;
            }
            while i < n_in && all_inside[i] <= threshold {
                i += 1;
            }
            aupr_out += (o - before) as f64 * o as f64 / (o + i) as f64;
        }
        // Dividing once at the end keeps the sums of counts exact.
        let (inside, outside) = (n_in as f64, n_out as f64);
        Detection {
            fpr_at_tpr95: kept_alarms(&all_inside, &all_outside),
            auroc: auroc / (inside * outside),
            aupr_in: aupr_in / inside,
            aupr_out: aupr_out / outside,
            detection_error: error,
        }
    }
}

/// Area under precision and recall by rectangles, from the hits and false alarms at each threshold and how many of either there could be.
/// Precision is that of equally many scores on both sides.
fn area_of_precision([hits, alarms]: [&[u32]; 2], [positive, negative]: [u64; 2]) -> f64 {
    // Products of two numbers of scores are exact in double precision.
    let [positive, negative] = [positive, negative].map(|count| count as f64);
    let (mut area, mut last) = (0.0, positive);
    for (&hits, &alarms) in hits.iter().zip(alarms) {
        let found = f64::from(hits);
        // Without hits there is no precision.
        if hits > 0 {
            let share = found * negative;
            area += (last - found) * share / (share + f64::from(alarms) * positive);
        }
        last = found;
    }
    area / positive
}

/// False-positive rate at the highest threshold that keeps at least 95 % of the inside; scores ascending.
fn kept_alarms(inside: &[f64], outside: &[f64]) -> f64 {
    let n = inside.len();
    let kept = (0.95 * n as f64).ceil() as usize;
    let threshold = inside[n - kept.clamp(1, n)];
    (outside.len() - outside.partition_point(|score| *score < threshold)) as f64 / outside.len() as f64
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
