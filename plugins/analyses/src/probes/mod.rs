//! Analysis `probes`: simple classifiers on the codes of the test samples, beside the accuracy the codes' information allows.

pub mod knn_accuracy;
pub mod logistic;
pub mod neighbour_accuracy;
pub mod neighbours;
pub mod svm;

use ibhost_datasets::numpy::LegacyRandom;
use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Measured, Results};
use ibhost_framework::dataset::Split;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::information::accuracy_bound::AccuracyBound;
use crate::information::levels::{LevelCodes, level_codes};
use crate::numbers;
use crate::probes::neighbour_accuracy::neighbour_accuracies;

const NAME: &str = "probes";
/// Seed of the shuffle, as published.
const SHUFFLE: u32 = 42;
/// Neighbours that vote.
const NEIGHBOURS: usize = 5;
/// How far sampling error may lift a probe above the bound before it is called a violation.
const SLACK: f64 = 0.03;

/// Labelled codes in a part to fit and a part to score, sample-major with `dim` values.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// Values of a code.
    pub dim: usize,
    /// Codes to fit.
    pub train: Vec<f64>,
    /// Their labels.
    pub train_labels: Vec<u8>,
    /// Codes to score.
    pub test: Vec<f64>,
    /// Their labels.
    pub test_labels: Vec<u8>,
}

impl Parts {
    /// The last floor(n / 5) codes in `order` are scored, the others fitted.
    pub fn new(codes: &[f64], labels: &[u8], dim: usize, order: &[usize]) -> Self {
        let (fitted, scored) = order.split_at(order.len() - order.len() / 5);
        let rows = |part: &[usize]| part.iter().flat_map(|&i| codes[i * dim..(i + 1) * dim].iter().copied()).collect();
        let of = |part: &[usize]| part.iter().map(|&i| labels[i]).collect();
        Self { dim, train: rows(fitted), train_labels: of(fitted), test: rows(scored), test_labels: of(scored) }
    }

    /// 1 / (dim Var(all fitted values)), the width of the RBF kernel; 1 for constant codes.
    pub fn gamma(&self) -> f64 {
        let n = self.train.len() as f64;
        let mean = self.train.iter().sum::<f64>() / n;
        let variance = self.train.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        if variance > 0.0 { 1.0 / (self.dim as f64 * variance) } else { 1.0 }
    }
}

/// Accuracies of the four probes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accuracies {
    /// Multinomial logistic regression, L2 with C = 1, to convergence.
    pub logistic: f64,
    /// Support vectors with the RBF kernel, C = 1, gamma of [`Parts::gamma`], one against one.
    pub svm_rbf: f64,
    /// Support vectors with the linear kernel, C = 1, one against one.
    pub svm_linear: f64,
    /// Votes of the 5 nearest codes.
    pub knn: f64,
}

impl Accuracies {
    /// Fits and scores all four; features are not scaled.
    pub fn of(parts: &Parts) -> Self {
        let share = |found: Vec<u8>| {
            let right = found.iter().zip(&parts.test_labels).filter(|(a, b)| a == b).count();
            numbers::share(right, parts.test_labels.len())
        };
        let train = (&parts.train[..], &parts.train_labels[..]);
        let support = |kernel| share(svm::one_against_one(train, &parts.test, parts.dim, kernel));
        Self {
            logistic: share(logistic::fit(train, parts.dim).predict(&parts.test)),
            svm_rbf: support(svm::Kernel::Rbf { gamma: parts.gamma() }),
            svm_linear: support(svm::Kernel::Linear),
            knn: neighbour_accuracies(train, (&parts.test, &parts.test_labels), parts.dim, &[NEIGHBOURS])[0].0,
        }
    }

    /// What they are called in results.
    const NAMES: [&str; 4] = ["logistic", "svm_rbf", "svm_linear", "knn"];

    fn all(self) -> [f64; 4] {
        [self.logistic, self.svm_rbf, self.svm_linear, self.knn]
    }
}

/// What a probe looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// Posterior means, as published; they may tell more than the information of the sampled code.
    Mean,
    /// One sampled code per input, what the bound holds for.
    Sample,
    /// Both.
    #[default]
    Both,
}

/// Accuracy of logistic regression, SVMs and nearest neighbours on every level of the code, with the bound from I_q(z;label).
///
/// Test samples only: shuffled with NumPy's legacy generator, seed 42, the last fifth is scored, the rest fitted. Logistic: multinomial, L2,
/// C = 1, solved to convergence; SVMs: C = 1, RBF width 1/(d Var), one against one; 5 nearest neighbours; no scaling of features.
/// `within_bound` says whether every probe on sampled codes stays below f^-1(I_q(z;l)) + 0.03; probes on means need not. z1 is the bottom
/// level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Probes {
    /// Codes probed.
    pub on: On,
    /// Test samples used at most.
    #[schemars(range(min = 10, max = 1_000_000))]
    pub points: usize,
}

impl Default for Probes {
    fn default() -> Self {
        Self { on: On::Both, points: 10_000 }
    }
}

impl Probes {
    /// What is found on the level `at` from the bottom, beside what else the result says of it.
    fn level(&self, at: usize, level: &LevelCodes, labels: &[u8], order: &[usize], bound: AccuracyBound) -> Results {
        let place = |key: &str| format!("levels/{at}/{key}");
        let along = |measured: Measured| measured.along("level", level.name.as_str());
        let mut results = Results::default().fact(place("level"), level.name.as_str());
        let information = level.label_information(labels, false);
        let allowed = information.map(|i| bound.accuracy(i));
        match information.zip(allowed) {
            Some((information, allowed)) => {
                let bounds = [Measured::nats("information", information), Measured::share("accuracy_bound", allowed)];
                results.values.extend(bounds.map(|measured| along(measured).within(&format!("levels/{at}"))));
            }
            None => results = results.fact(place("information"), Value::Null).fact(place("accuracy_bound"), Value::Null),
        }
        for (on, codes, wanted) in [("mean", &level.mean, self.on != On::Sample), ("sample", &level.code, self.on != On::Mean)] {
            if !wanted {
                continue;
            }
            let accuracies = Accuracies::of(&Parts::new(codes, labels, level.dim, order));
            for (probe, accuracy) in Accuracies::NAMES.into_iter().zip(accuracies.all()) {
                results.values.push(along(Measured::share(probe, accuracy)).along("codes", on).at(place(&format!("{on}/{probe}"))));
            }
            if let (Some(allowed), "sample") = (allowed, on) {
                results = results.fact(place("within_bound"), accuracies.all().iter().all(|a| *a <= allowed + SLACK));
            }
        }
        results
    }
}

#[typetag::serde(name = "probes")]
impl AnalysisConfig for Probes {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let (levels, labels) = level_codes(NAME, context, Split::Test, self.points)?;
        if labels.len() < 10 {
            return Err(AnalysisError::Request(format!("`{NAME}` needs at least 10 test samples, this run has {}", labels.len())));
        }
        let order = LegacyRandom::new(SHUFFLE).permutation(labels.len());
        let bound = AccuracyBound::of(context.data.split(Split::Test), context.data.info().classes.len());
        let levels = levels.iter().enumerate().map(|(at, level)| self.level(at, level, &labels, &order, bound));
        let results = levels.fold(Results::default(), Results::joined);
        Ok(results.fact("samples", labels.len()).fact("scored", labels.len() / 5))
    }
}

ibhost_framework::register! {
    Analysis: Probes as AnalysisConfig, aliases: [], paper: "Xiao & Bamler 2023, arXiv:2302.04855", example: "probes/on:sample", needs: [Encode],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, Shape};

    #[test]
    fn the_last_fifth_is_scored() {
        let codes: Vec<f64> = (0..22).map(f64::from).collect();
        let parts = Parts::new(&codes, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 2, &[10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
        assert_eq!((parts.test, parts.test_labels, parts.train_labels.len()), (vec![2.0, 3.0, 0.0, 1.0], vec![1, 0], 9));
    }

    #[test]
    fn means_and_samples_of_any_encoder_are_probed() {
        let report = Probes { points: 300, ..Probes::default() }.run(&Fixture::new(Shape::Diagonal, 400).context()).unwrap();
        let level = &report.json()["levels"][0];
        let accuracy = |on: &str, probe: &str| level[on][probe].as_f64().unwrap_or_else(|| panic!("{on} {probe} in {level}"));
        for probe in ["logistic", "svm_rbf", "svm_linear", "knn"] {
            assert!(accuracy("mean", probe) >= accuracy("sample", probe) - 0.1 && accuracy("mean", probe) > 0.2, "{level}");
        }
        assert!(level["within_bound"].as_bool().is_some() && report.table().len() == 13);
        let point = Probes { on: On::Mean, points: 100 }.run(&Fixture::new(Shape::Point, 100).context()).unwrap();
        assert!(point.json()["levels"][0]["accuracy_bound"].is_null() && point.json()["levels"][0].get("sample").is_none());
    }
}
