//! Analysis `reconstruction_accuracy`: what a classifier still recognises in reconstructions.

use std::path::Path;

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Measured, Results, Sources};
use ibhost_framework::dataset::{DataRoot, Split};
use ibhost_framework::noise::{Draws, Noise};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::generation::decoding::Decoding;
use crate::generation::reference_classifier::ReferenceClassifier;
use crate::model::{not_empty, reconstructions};
use crate::numbers::class_of;

const NAME: &str = "reconstruction_accuracy";
const BATCH: usize = 250;

/// Share of `rows` of ln class probabilities whose largest entry is the label's, and the mean entropy of the rows in nats. NaN without rows.
pub fn accuracy_and_entropy(rows: &[Vec<f64>], labels: &[u8]) -> [f64; 2] {
    let n = rows.len() as f64;
    let right = rows.iter().zip(labels).filter(|(row, label)| class_of(row) == Some(usize::from(**label))).count();
    let entropy = |row: &Vec<f64>| row.iter().map(|&p| if p > f64::NEG_INFINITY { -p.exp() * p } else { 0.0 }).sum::<f64>();
    [right as f64 / n, rows.iter().map(entropy).sum::<f64>() / n]
}

/// Accuracy of a trained classifier on reconstructions of the test samples, beside its accuracy on the samples themselves.
///
/// Reconstructions are the means of p(x|z) at the mean code, or draws from it with `decode:sample`, as published for mixtures of logistics.
/// `recons_entropy` is the mean entropy of the predictions on them in nats. `classifier` is the name (or folder name) of a finished run of a classifier, beside the
/// analysed run or beside a folder that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ReconstructionAccuracy {
    /// Run of the classifier.
    pub classifier: String,
    /// Test samples used at most.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub points: usize,
    /// Whether reconstructions are means of p(x|z) or draws from it.
    pub decode: Decoding,
}

impl Default for ReconstructionAccuracy {
    fn default() -> Self {
        Self { classifier: "classifier".to_owned(), points: 100_000, decode: Decoding::Mean }
    }
}

#[typetag::serde(name = "reconstruction_accuracy")]
impl AnalysisConfig for ReconstructionAccuracy {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let test = context.data.split(Split::Test);
        not_empty(test, NAME)?;
        let classifier = ReferenceClassifier::open(NAME, &self.classifier, context)?;
        let indices: Vec<usize> = (0..test.len().min(self.points)).collect();
        let (mut made, mut real, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        for (number, chunk) in indices.chunks(BATCH).enumerate() {
            let mut draws = Draws::seeded(Noise::new(context.seed), number as u64, NAME);
            let inputs = test.batch(chunk, context.device).inputs;
            made.extend(classifier.log_probabilities(reconstructions(NAME, context, inputs.clone(), self.decode, &mut draws)?, context));
            real.extend(classifier.log_probabilities(inputs, context));
            labels.extend(chunk.iter().map(|&i| test.label(i)));
        }
        let ([accuracy, entropy], [ceiling, _]) = (accuracy_and_entropy(&made, &labels), accuracy_and_entropy(&real, &labels));
        let results = Results::of([
            Measured::share("reconstruction_accuracy", accuracy),
            Measured::nats("recons_entropy", entropy),
            Measured::share("classifier_accuracy", ceiling),
        ]);
        Ok(results.fact("samples", indices.len()).fact("classifier", classifier.name()).fact("decoding", self.decode.name()))
    }

    fn sources(&self, run_dir: &Path, _root: &DataRoot) -> Result<Option<Sources>, AnalysisError> {
        ReferenceClassifier::sources(NAME, &self.classifier, run_dir).map(Some)
    }
}

ibhost_framework::register! {
    Analysis: ReconstructionAccuracy as AnalysisConfig, aliases: ["recons_accuracy"], paper: "Xiao & Bamler 2023, arXiv:2302.04855",
    example: "reconstruction_accuracy/classifier:mnist-cnn", needs: [Reconstruct],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_rows_are_counted_and_entropy_is_in_nats() {
        let rows = vec![vec![0.5f64.ln(), 0.5f64.ln()], vec![f64::NEG_INFINITY, 0.0], vec![0.0, f64::NEG_INFINITY]];
        let [accuracy, entropy] = accuracy_and_entropy(&rows, &[0, 1, 1]);
        assert!((accuracy - 2.0 / 3.0).abs() < 1e-12 && (entropy - 2f64.ln() / 3.0).abs() < 1e-12);
    }
}
