//! Analysis `inception_score`: how sure and how diverse a classifier finds generated inputs.

use std::path::Path;

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Direction, Measured, Results, Sources};
use ibhost_framework::dataset::DataRoot;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::generation::decoding::Decoding;
use crate::generation::generated::generated;
use crate::generation::reference_classifier::ReferenceClassifier;

const NAME: &str = "inception_score";

/// The score of one or more equal parts of a set of inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Mean over parts of exp(mean KL(p(l|x) || p(l))).
    pub mean: f64,
    /// Population standard deviation over parts of the same.
    pub deviation: f64,
    /// Mean over parts of exp(H(p(l))), from 1 to the number of classes.
    pub diversity: f64,
    /// Mean over parts of exp(-mean H(p(l|x))), at most 1.
    pub sharpness: f64,
}

fn entropy(probabilities: impl Iterator<Item = f64>) -> f64 {
    probabilities.map(|p| if p > 0.0 { -p * p.ln() } else { 0.0 }).sum()
}

/// The score of `rows` of ln class probabilities in `splits` consecutive parts of equal size; what is left over is not used. In every part
/// the score is diversity times sharpness. NaN when a part would be empty.
pub fn score(rows: &[Vec<f64>], splits: usize) -> Score {
    let size = rows.len() / splits.max(1);
    let parts: Vec<[f64; 2]> = rows
        .chunks_exact(size.max(1))
        .take(splits.max(1))
        .map(|part| {
            let n = part.len() as f64;
            let mut marginal = vec![0.0; part[0].len()];
            for row in part {
                marginal.iter_mut().zip(row).for_each(|(m, p)| *m += p.exp() / n);
            }
            let within = part.iter().map(|row| entropy(row.iter().map(|p| p.exp()))).sum::<f64>() / n;
            [entropy(marginal.into_iter()).exp(), (-within).exp()]
        })
        .collect();
    let n = if size == 0 { f64::NAN } else { parts.len() as f64 };
    let mean_of = |value: fn(&[f64; 2]) -> f64| parts.iter().map(value).sum::<f64>() / n;
    let mean = mean_of(|[diversity, sharpness]| diversity * sharpness);
    let variance = parts.iter().map(|[diversity, sharpness]| (diversity * sharpness - mean).powi(2)).sum::<f64>() / n;
    Score { mean, deviation: variance.sqrt(), diversity: mean_of(|p| p[0]), sharpness: mean_of(|p| p[1]) }
}

/// Inception score of generated inputs by a trained classifier, with its two factors, diversity and sharpness.
///
/// IS = exp(mean KL(p(l|x) || p(l))) = exp(H(p(l))) exp(-mean H(p(l|x))), p(l) the mean of p(l|x) over the `samples / splits` inputs of a
/// part; mean and population standard deviation over parts. Codes are independent draws of the prior, inputs the means of p(x|z), or
/// draws from it with `decode:sample`, as published for mixtures of logistics. `classifier` is the name (or folder name) of a finished run of a classifier, beside the analysed run or beside a folder that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct InceptionScore {
    /// Run of the classifier.
    pub classifier: String,
    /// Inputs generated.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub samples: usize,
    /// Parts the score is averaged over.
    #[schemars(range(min = 1, max = 1000))]
    pub splits: usize,
    /// Whether generated inputs are means of p(x|z) or draws from it.
    pub decode: Decoding,
}

impl Default for InceptionScore {
    fn default() -> Self {
        Self { classifier: "classifier".to_owned(), samples: 10_000, splits: 5, decode: Decoding::Mean }
    }
}

#[typetag::serde(name = "inception_score")]
impl AnalysisConfig for InceptionScore {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        if self.splits > self.samples {
            return Err(AnalysisError::Request(format!("`{NAME}`: splits:{} is more than samples:{}", self.splits, self.samples)));
        }
        let classifier = ReferenceClassifier::open(NAME, &self.classifier, context)?;
        let mut rows = Vec::with_capacity(self.samples);
        generated(NAME, context, self.samples, self.decode, |images, _| {
            rows.extend(classifier.log_probabilities(images, context));
            Ok(())
        })?;
        let score = score(&rows, self.splits);
        let results = Results::of([
            Measured::new("inception_score", score.mean, "1", Direction::Maximise),
            Measured::plain("deviation", score.deviation),
            Measured::new("diversity", score.diversity, "nats", Direction::Maximise),
            Measured::new("sharpness", score.sharpness, "nats", Direction::Minimise),
        ]);
        let results = results.fact("samples", self.samples).fact("splits", self.splits).fact("classifier", classifier.name());
        Ok(results.fact("decoding", self.decode.name()))
    }

    fn sources(&self, run_dir: &Path, _root: &DataRoot) -> Result<Option<Sources>, AnalysisError> {
        ReferenceClassifier::sources(NAME, &self.classifier, run_dir).map(Some)
    }
}

ibhost_framework::register! {
    Analysis: InceptionScore as AnalysisConfig, aliases: [], paper: "Salimans et al. 2016, arXiv:1606.03498; Xiao & Bamler 2023, arXiv:2302.04855",
    example: "inception_score/classifier:mnist-cnn", needs: [Sample],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sure_and_even_predictions_give_the_number_of_classes_and_unsure_ones_1() {
        let sure: Vec<Vec<f64>> = (0..40).map(|i| (0..4).map(|c| if c == i % 4 { 0.0 } else { f64::NEG_INFINITY }).collect()).collect();
        let best = score(&sure, 5);
        assert!((best.mean - 4.0).abs() < 1e-12 && best.deviation < 1e-12 && (best.sharpness - 1.0).abs() < 1e-12);
        let unsure = score(&vec![vec![0.25f64.ln(); 4]; 7], 2);
        assert!((unsure.mean - 1.0).abs() < 1e-12 && (unsure.diversity - 4.0).abs() < 1e-12 && (unsure.sharpness - 0.25).abs() < 1e-12);
        assert!(score(&sure[..3], 5).mean.is_nan());
        // The first half holds one class only.
        let halves: Vec<Vec<f64>> = (0..4).map(|i| if i < 2 { vec![0.0, f64::NEG_INFINITY] } else { vec![0.5f64.ln(); 2] }).collect();
        assert!((score(&halves, 2).mean - 1.0).abs() < 1e-12);
    }
}
