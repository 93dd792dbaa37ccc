//! Analysis `label_information`: what codes tell about the label, and the accuracy that allows.

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Measured, Results};
use ibhost_framework::dataset::Split;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::information::accuracy_bound::AccuracyBound;
use crate::information::kraskov::Rows;
use crate::information::levels::{LevelCodes, level_codes};
use crate::information::mixed_ksg::mixed_ksg;
use crate::numbers::mean;

const NAME: &str = "label_information";
const HALF_LN_2PI: f64 = 0.918_938_533_204_672_7;
/// Added to every count of [`discrete_information`].
const COUNT_FLOOR: f64 = 1e-5;

/// Normal posteriors of some inputs with one code drawn from each, sample-major with `dim` values.
#[derive(Clone, Copy, Debug)]
pub struct DrawnCodes<'a> {
    /// Means.
    pub mean: &'a [f64],
    /// Positive standard deviations, `dim` a sample, or lower-triangular Cholesky factors of the covariances, `dim * dim` a sample.
    pub scale: &'a [f64],
    /// One code from each posterior.
    pub code: &'a [f64],
    /// Values of a code.
    pub dim: usize,
}

/// Per-example terms whose mean estimates I_q(z;l) in nats:
/// LSE_{i: l_i = l_j} ln q(z_j|x_i) - LSE_i ln q(z_j|x_i) - ln(N_{l_j} / N).
///
/// The code's own posterior takes part, as published, which biases the estimate up at high rates (it ends at H(L)); with `leave_one_out`
/// it does not, neither in the sums nor in the counts, and an example that is the only one of its class has no term.
pub fn label_information_terms(codes: DrawnCodes<'_>, labels: &[u8], leave_one_out: bool) -> Vec<f64> {
    let (n, dim) = (labels.len(), codes.dim.max(1));
    let whitening: Vec<Whitening> =
        codes.scale.chunks_exact((codes.scale.len() / n.max(1)).max(1)).map(|s| Whitening::new(s, dim)).collect();
    let mut members = [0usize; 256];
    for label in labels {
        members[usize::from(*label)] += 1;
    }
    let one = |j: usize| {
        let code = &codes.code[j * dim..(j + 1) * dim];
        // Running largest and sum of exponentials relative to it, of the label's own class and of all.
        let mut own = (f64::NEG_INFINITY, 0.0);
        let mut all = (f64::NEG_INFINITY, 0.0);
        for i in 0..n {
            if leave_one_out && i == j {
                continue;
            }
            let density = whitening[i].log_density(code, &codes.mean[i * dim..(i + 1) * dim]);
            add(&mut all, density);
            if labels[i] == labels[j] {
                add(&mut own, density);
            }
        }
        let left_out = usize::from(leave_one_out);
        let share = (members[usize::from(labels[j])] - left_out) as f64 / (n - left_out) as f64;
        own.0 + own.1.ln() - all.0 - all.1.ln() - share.ln()
    };
    (0..n).into_par_iter().map(one).filter(|term| !leave_one_out || term.is_finite()).collect()
}

/// What turns a posterior's codes into standard normal ones.
struct Whitening {
    /// 1 / standard deviation of each dimension, or the rows of the inverse Cholesky factor up to the diagonal.
    inverse: Vec<f64>,
    /// Whether it is the inverse of a factor.
    full: bool,
    /// Logarithm of the density at the mean.
    peak: f64,
}

impl Whitening {
    /// From `dim` standard deviations or a Cholesky factor of `dim` rows.
    fn new(scale: &[f64], dim: usize) -> Self {
        let full = scale.len() > dim;
        let spread = |row: usize| if full { scale[row * dim + row] } else { scale[row] };
        let peak = -(0..dim).map(|row| spread(row).ln() + HALF_LN_2PI).sum::<f64>();
        let inverse = if full { inverse_factor(scale, dim) } else { scale.iter().map(|s| s.recip()).collect() };
        Self { inverse, full, peak }
    }

    fn log_density(&self, code: &[f64], mean: &[f64]) -> f64 {
        let square: f64 = if self.full {
            let mut rows = self.inverse.as_slice();
            let row = |length: usize| {
                let (row, rest) = rows.split_at(length);
                rows = rest;
                row.iter().zip(code.iter().zip(mean)).map(|(w, (z, m))| w * (z - m)).sum::<f64>().powi(2)
            };
            (1..=code.len()).map(row).sum()
        } else {
            code.iter().zip(mean).zip(&self.inverse).map(|((z, m), s)| ((z - m) * s).powi(2)).sum()
        };
        self.peak - 0.5 * square
    }
}

/// Rows of the inverse of the lower-triangular `factor`, each up to its diagonal.
fn inverse_factor(factor: &[f64], dim: usize) -> Vec<f64> {
    let start = |row: usize| row * (row + 1) / 2;
    let mut inverse = vec![0.0; start(dim)];
    for row in 0..dim {
        let below = factor[row * dim + row].recip();
        inverse[start(row) + row] = below;
        for column in 0..row {
            let sum: f64 = (column..row).map(|k| factor[row * dim + k] * inverse[start(k) + column]).sum();
            inverse[start(row) + column] = -below * sum;
        }
    }
    inverse
}

/// Adds exp(value) to a sum of exponentials kept relative to its largest exponent.
fn add(sum: &mut (f64, f64), value: f64) {
    if value <= sum.0 {
        sum.1 += (value - sum.0).exp();
    } else {
        *sum = (value, sum.1 * (sum.0 - value).exp() + 1.0);
    }
}

/// Counts of pairs (code, label) given as weights `[N, codes]` and `[N, labels]`, summed outer products, `[codes, labels]`.
pub fn count_pairs(codes: &[f64], labels: &[f64], sizes: [usize; 2]) -> Vec<f64> {
    let mut counts = vec![0.0; sizes[0] * sizes[1]];
    for (code, label) in codes.chunks_exact(sizes[0].max(1)).zip(labels.chunks_exact(sizes[1].max(1))) {
        for (row, c) in counts.chunks_exact_mut(sizes[1].max(1)).zip(code) {
            row.iter_mut().zip(label).for_each(|(count, l)| *count += c * l);
        }
    }
    counts
}

/// Plug-in mutual information in nats of two discrete variables from their `counts` `[.., labels]`: sum p ln(p / (p_z p_l)), 1e-5 added to
/// every count.
pub fn discrete_information(counts: &[f64], labels: usize) -> f64 {
    let labels = labels.max(1);
    let total: f64 = counts.iter().map(|c| c + COUNT_FLOOR).sum();
    let p: Vec<f64> = counts.iter().map(|c| (c + COUNT_FLOOR) / total).collect();
    let of_label: Vec<f64> = (0..labels).map(|l| p.iter().skip(l).step_by(labels).sum()).collect();
    p.chunks_exact(labels)
        .map(|row| {
            let of_code: f64 = row.iter().sum();
            row.iter().zip(&of_label).map(|(p, l)| p * (p / (of_code * l)).ln()).sum::<f64>()
        })
        .sum()
}

/// I_q(z_l; label) of every level of the code in nats over the test samples, and the largest accuracy it allows.
///
/// An estimate, neither upper nor lower bound: too high at high rates, where a code's own posterior names its input, too low with
/// `leave_one_out`; the nearest-neighbour estimate is none either and takes distances between codes as they are, in their own units.
/// One code z_j from each posterior: mean_j of LSE_{i: l_i = l_j} ln q(z_j|x_i) - LSE_i ln q(z_j|x_i) - ln(N_{l_j}/N), work N^2 times the
/// dimensions (their square for full covariances); levels below the top given the means of those above. `leave_one_out` leaves each code's own posterior out. `ksg` adds
/// the nearest-neighbour estimate of Gao et al. 2017 with k = 5 on the sampled codes. The bound is f^-1 of the information with the test
/// labels' own entropy; one-hot codes are counted instead. Probes on sampled codes stay below it, up to sampling error. z1 is the bottom level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LabelInformation {
    /// Test samples used at most.
    #[schemars(range(min = 2, max = 1_000_000))]
    pub points: usize,
    /// Leave each code's own posterior out.
    pub leave_one_out: bool,
    /// Also estimate by nearest neighbours.
    pub ksg: bool,
}

impl Default for LabelInformation {
    fn default() -> Self {
        Self { points: 10_000, leave_one_out: false, ksg: false }
    }
}

/// Rows of `classes` numbers with a 1 at the label.
fn one_hot(labels: &[u8], classes: usize) -> Vec<f64> {
    labels.iter().flat_map(|&label| (0..classes).map(move |class| f64::from(u8::from(class == usize::from(label))))).collect()
}

impl LevelCodes {
    /// The estimate of I_q(z;l) in nats: by Monte Carlo where the posterior is normal, from counts where the sampled codes are one-hot; nothing
    /// for other codes.
    pub(crate) fn label_information(&self, labels: &[u8], leave_one_out: bool) -> Option<f64> {
        let Some(scale) = &self.scale else {
            let is_one_hot = |row: &[f64]| row.iter().all(|&x| x == 0.0 || x == 1.0) && row.iter().sum::<f64>() == 1.0;
            let classes = usize::from(labels.iter().copied().max()?) + 1;
            return self.code.chunks_exact(self.dim.max(1)).all(is_one_hot).then(|| {
                let counts = count_pairs(&self.code, &one_hot(labels, classes), [self.dim, classes]);
                discrete_information(&counts, classes)
            });
        };
        let codes = DrawnCodes { mean: &self.mean, scale, code: &self.code, dim: self.dim };
        let terms = label_information_terms(codes, labels, leave_one_out);
        Some(mean(&terms))
    }
}

#[typetag::serde(name = "label_information")]
impl AnalysisConfig for LabelInformation {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let (levels, labels) = level_codes(NAME, context, Split::Test, self.points)?;
        let bound = AccuracyBound::of(context.data.split(Split::Test), context.data.info().classes.len());
        let mut results = Results::default();
        for (at, level) in levels.iter().enumerate() {
            let information = level.label_information(&labels, self.leave_one_out).ok_or_else(|| {
                AnalysisError::Request(format!(
                    "`{NAME}` needs codes drawn from normal distributions (such as `cov:diag` or `cov:full`) or one-hot ones"
                ))
            })?;
            let accuracy = bound.accuracy(information);
            let neighbours = if self.ksg {
                let classes = context.data.info().classes.len().max(1);
                let estimate = mixed_ksg(Rows::new(&level.code, level.dim), Rows::new(&one_hot(&labels, classes), classes), 5);
                Some(estimate.map_err(|error| AnalysisError::Request(format!("`{NAME}`: {error}")))?)
            } else {
                None
            };
            let record = format!("levels/{at}");
            let along = |measured: Measured| measured.along("level", level.name.as_str()).within(&record);
            results.values.extend([Measured::nats("information", information), Measured::share("accuracy_bound", accuracy)].map(along));
            results.values.extend(neighbours.map(|estimate| along(Measured::nats("mixed_ksg", estimate))));
            results = results.fact(format!("{record}/dimensions"), level.dim);
            if neighbours.is_none() {
                results = results.fact(format!("{record}/mixed_ksg"), Value::Null);
            }
        }
        let results =
            results.and(Measured::nats("label_entropy", bound.entropy)).fact("classes", bound.classes).fact("samples", labels.len());
        Ok(results.fact("bound", "none").fact("leave_one_out", self.leave_one_out))
    }
}

ibhost_framework::register! {
    Analysis: LabelInformation as AnalysisConfig, aliases: [],
    paper: "Xiao & Bamler 2023, arXiv:2302.04855; Gao et al. 2017, arXiv:1709.06212", example: "label_information/ksg:true", needs: [Encode],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, Shape};

    #[test]
    fn classes_far_apart_give_the_entropy_and_equal_posteriors_nothing() {
        let labels: Vec<u8> = (0..60).map(|i| i % 3).collect();
        let apart: Vec<f64> = labels.iter().map(|&l| 100.0 * f64::from(l)).collect();
        let scale = vec![1.0; 60];
        let mean_of = |terms: Vec<f64>| terms.iter().sum::<f64>() / terms.len() as f64;
        let of = |mean: &[f64], out| mean_of(label_information_terms(DrawnCodes { mean, scale: &scale, code: mean, dim: 1 }, &labels, out));
        assert!((of(&apart, false) - 3f64.ln()).abs() < 1e-9);
        assert!(of(&[0.0; 60], false).abs() < 1e-9);
        // Without the own posterior the other labels are a little more frequent than the own one.
        assert!((of(&apart, true) + (19.0f64 / 59.0).ln()).abs() < 1e-9 && of(&[0.0; 60], true).abs() < 1e-9);
        // Codes of tiny posteriors know themselves only: everything about the label, unless they are left out.
        let narrow: Vec<f64> = (0..60).map(|i| f64::from(i * 7 % 60)).collect();
        assert!((of(&narrow.iter().map(|x| x * 100.0).collect::<Vec<_>>(), false) - 3f64.ln()).abs() < 1e-9);
    }

    #[test]
    fn a_discrete_code_equal_to_the_label_tells_its_entropy() {
        let onehot: Vec<f64> = (0..40).flat_map(|i| (0..4).map(move |c| if c == i % 4 { 1.0 } else { 0.0 })).collect();
        let counts = count_pairs(&onehot, &onehot, [4, 4]);
        assert!((discrete_information(&counts, 4) - 4f64.ln()).abs() < 1e-4);
        assert!(discrete_information(&[3.0; 8], 4).abs() < 1e-12);
    }

    #[test]
    fn one_hot_codes_are_counted() {
        let labels: Vec<u8> = (0..30).map(|i| i % 3).collect();
        let level = LevelCodes { dim: 3, code: one_hot(&labels, 3), ..LevelCodes::default() };
        assert!((level.label_information(&labels, false).unwrap() - 3f64.ln()).abs() < 1e-4);
        let soft = LevelCodes { dim: 3, code: vec![1.0 / 3.0; 90], ..LevelCodes::default() };
        assert!(soft.label_information(&labels, false).is_none());
    }

    #[test]
    fn any_encoder_with_normal_codes_is_measured() {
        let report = LabelInformation { ksg: true, points: 200, ..LabelInformation::default() };
        let result = report.run(&Fixture::new(Shape::Diagonal, 300).context()).unwrap().json();
        let level = &result["levels"][0];
        let value = |key: &str| level[key].as_f64().unwrap_or_else(|| panic!("{key} in {level}"));
        assert!(value("information") > 0.3 && value("information") <= 10f64.ln() + 1e-9 && value("mixed_ksg") > 0.1);
        assert!(value("accuracy_bound") > 0.1 && value("accuracy_bound") <= 1.0);
        let error = report.run(&Fixture::new(Shape::Point, 30).context()).unwrap_err().to_string();
        assert!(error.contains("cov:diag"), "{error}");
    }

    #[test]
    fn a_full_covariance_is_measured_as_the_same_normal_in_turned_axes() {
        let labels: Vec<u8> = (0..40).map(|i| i % 4).collect();
        let value = |i: usize, k: usize| ((i * 13 + k * 7) as f64 * 0.37).sin();
        let mean: Vec<f64> = (0..80).map(|i| 2.0 * value(i, 0) + f64::from(labels[i / 2])).collect();
        let scale: Vec<f64> = (0..80).map(|i| 0.8 + 0.5 * value(i, 1)).collect();
        let code: Vec<f64> = mean.iter().zip(&scale).enumerate().map(|(i, (m, s))| m + s * value(i, 2)).collect();
        let plain = label_information_terms(DrawnCodes { mean: &mean, scale: &scale, code: &code, dim: 2 }, &labels, false);
        // z = A z' with A lower triangular keeps all ratios of densities; the factor of the turned normal is A diag(scale).
        let a = [[1.5, 0.0], [-0.7, 0.6]];
        let turned = |rows: &[f64]| -> Vec<f64> { rows.chunks_exact(2).flat_map(|z| a.map(|row| row[0] * z[0] + row[1] * z[1])).collect() };
        let factors: Vec<f64> = scale.chunks_exact(2).flat_map(|s| a.map(|row| [row[0] * s[0], row[1] * s[1]])).flatten().collect();
        let (mean, code) = (turned(&mean), turned(&code));
        let full = label_information_terms(DrawnCodes { mean: &mean, scale: &factors, code: &code, dim: 2 }, &labels, false);
        for (a, b) in plain.iter().zip(&full) {
            assert!((a - b).abs() < 1e-9, "{a} {b}");
        }
        let result = LabelInformation { points: 100, ..LabelInformation::default() }.run(&Fixture::new(Shape::Full, 300).context());
        assert!(result.unwrap().json()["levels"][0]["information"].as_f64().is_some_and(|i| i > 0.0 && i <= 10f64.ln() + 1e-9));
    }
}
