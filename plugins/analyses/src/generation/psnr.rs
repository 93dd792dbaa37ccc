//! Analysis `psnr`: distortion and peak signal-to-noise ratio of reconstructed test samples.

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Direction, Measured, Results};
use ibhost_framework::capability::Reconstruct;
use ibhost_framework::dataset::Split;
use ibhost_framework::noise::{Draws, Noise};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::generation::decoding::Decoding;
use crate::model::{not_empty, reconstructions, undefined};

const NAME: &str = "psnr";
const BATCH: usize = 250;

/// Squared error and range of targets, pooled over any number of batches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PooledError {
    sum: f64,
    values: usize,
    low: f64,
    high: f64,
}

impl PooledError {
    /// Adds predictions and targets, value by value.
    pub fn add(&mut self, predictions: impl IntoIterator<Item = f64>, targets: impl IntoIterator<Item = f64>) {
        for (prediction, target) in predictions.into_iter().zip(targets) {
            self.sum += (prediction - target).powi(2);
            self.values += 1;
            // The range always includes 0, so a set of grey images does not look better for having no black.
            self.low = self.low.min(target);
            self.high = self.high.max(target);
        }
    }

    /// max(0, largest target) - min(0, smallest target).
    pub fn range(&self) -> f64 {
        self.high - self.low
    }

    /// Mean squared error; NaN without values.
    pub fn mean(&self) -> f64 {
        self.sum / self.values as f64
    }

    /// 10 log10(range^2 / mean squared error) in dB.
    pub fn psnr(&self) -> f64 {
        10.0 * (self.range().powi(2) / self.mean()).log10()
    }
}

/// Distortion -ln p(x|z) of one sampled code in nats, and peak signal-to-noise ratio of the reconstructions, over the test samples.
///
/// PSNR = 10 log10(range^2 / MSE) in dB, MSE over all values of all samples and range = max(0, max x) - min(0, min x), pooled over the whole
/// set. Reconstructions are the means of p(x|z) at the mean code, and are not clamped; `decode:sample` measures draws from it, which is what
/// the original does for mixtures of logistics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Psnr {
    /// Test samples used at most.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub points: usize,
    /// Whether reconstructions are means of p(x|z) or draws from it.
    pub decode: Decoding,
}

impl Default for Psnr {
    fn default() -> Self {
        Self { points: 100_000, decode: Decoding::Mean }
    }
}

#[typetag::serde(name = "psnr")]
impl AnalysisConfig for Psnr {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let model = context.require::<Reconstruct>(NAME)?;
        let test = context.data.split(Split::Test);
        not_empty(test, NAME)?;
        let indices: Vec<usize> = (0..test.len().min(self.points)).collect();
        let (mut error, mut distortion) = (PooledError::default(), 0.0);
        for (number, chunk) in indices.chunks(BATCH).enumerate() {
            let mut draws = Draws::seeded(Noise::new(context.seed), number as u64, NAME);
            let inputs = test.batch(chunk, context.device).inputs;
            let found = reconstructions(NAME, context, inputs.clone(), self.decode, &mut draws)?;
            error.add(found.into_data().iter::<f64>(), inputs.clone().into_data().iter::<f64>());
            let codes = model.sample_codes(inputs.clone(), &mut draws).map_err(undefined(NAME))?;
            let flat = inputs.clone().reshape([chunk.len() as i32, -1]);
            distortion -=
                model.likelihood(codes, Some(inputs)).log_prob(flat).map_err(undefined(NAME))?.sum().into_data().iter::<f64>().sum::<f64>();
        }
        let distortion = distortion / indices.len() as f64;
        let (psnr, mean, range) = (error.psnr(), error.mean(), error.range());
        let results = Results::of([
            Measured::new("psnr", psnr, "dB", Direction::Maximise),
            Measured::new("mean_squared_error", mean, "1", Direction::Minimise),
            Measured::plain("range", range),
            Measured::new("distortion", distortion, "nats", Direction::Minimise),
        ]);
        Ok(results.fact("samples", indices.len()).fact("decoding", self.decode.name()))
    }
}

ibhost_framework::register! {
    Analysis: Psnr as AnalysisConfig, aliases: ["distortion"], paper: "Xiao & Bamler 2023, arXiv:2302.04855", example: "psnr",
    needs: [Reconstruct],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_pooled_and_the_range_includes_zero() {
        let mut error = PooledError::default();
        error.add([0.5, 1.0], [0.5, 0.8]);
        error.add([0.4], [0.2]);
        assert!((error.mean() - 0.08 / 3.0).abs() < 1e-12 && error.range() == 0.8);
        assert!((error.psnr() - 10.0 * (0.64f64 * 3.0 / 0.08).log10()).abs() < 1e-12);
        error.add([-1.0], [-1.0]);
        assert!((error.range() - 1.8).abs() < 1e-12);
    }
}
