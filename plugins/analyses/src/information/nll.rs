//! Analysis `nll`: importance-sampled negative log-likelihood of the test samples.

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Direction, Measured, Results};
use ibhost_framework::capability::LogDensity;
use ibhost_framework::dataset::Split;
use ibhost_framework::noise::{Draws, Noise};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::figures::plot::{Figure, Layer, png};
use crate::model::{not_empty, undefined};
use crate::npy::encode_rows;
use crate::numbers::mean;
use crate::output::{picture, write};

const NAME: &str = "nll";
/// Bins of the histogram.
const BINS: usize = 100;

/// Codes used when `samples` are asked for in groups of `group`: whole groups only, unless there is less than one.
pub fn samples_used(samples: usize, group: usize) -> usize {
    if samples > group { samples / group.max(1) * group } else { samples }
}

/// -mean over inputs of ln(mean over codes of w) from the ln w of each input's codes, in nats.
pub fn mean_nll(log_weights: &[Vec<f64>]) -> f64 {
    let one = |weights: &Vec<f64>| {
        let largest = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = weights.iter().map(|w| (w - largest).exp()).sum();
        largest + sum.ln() - (weights.len() as f64).ln()
    };
    -mean(&log_weights.iter().map(one).collect::<Vec<_>>())
}

/// Negative log-likelihood of test samples, importance-sampled from q(z|x): -mean ln (1/S sum_s p(x|z_s) p(z_s) / q(z_s|x)).
///
/// In nats, an upper bound on -ln p(x) in expectation that tightens with S = `samples`; weights are streamed in groups of `group` and the
/// remainder is left out, as in the published evaluation. What of the posterior does not depend on the codes is computed once per batch of images. Writes
/// `plots/nll-histogram.png` (100 bins, density) and `analyses/nll.npy` (one value a sample).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Nll {
    /// Codes per sample.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub samples: usize,
    /// Codes whose weights are summed at once.
    #[schemars(range(min = 1, max = 100_000))]
    pub group: usize,
    /// Test samples used.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub points: usize,
}

impl Default for Nll {
    fn default() -> Self {
        Self { samples: 5000, group: 100, points: 10_000 }
    }
}

/// Samples decoded at once.
const BATCH: usize = 100;

#[typetag::serde(name = "nll")]
impl AnalysisConfig for Nll {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let model = context.require::<LogDensity>(NAME)?;
        let test = context.data.split(Split::Test);
        not_empty(test, NAME)?;
        let indices: Vec<usize> = (0..test.len().min(self.points)).collect();
        let used = samples_used(self.samples, self.group);
        let mut values: Vec<f64> = Vec::with_capacity(indices.len());
        for (number, chunk) in indices.chunks(BATCH).enumerate() {
            let inputs = test.batch(chunk, context.device).inputs;
            let mut draws = Draws::seeded(Noise::new(context.seed), number as u64, NAME);
            // Groups keep memory bounded whatever the number of codes.
            let mut groups: Vec<Vec<f64>> = vec![Vec::new(); chunk.len()];
            let mut left = used;
            while left > 0 {
                let size = left.min(self.group);
                let group = model.log_evidence(inputs.clone(), size, &mut draws).map_err(undefined(NAME))?;
                let group: Vec<f64> = group.into_data().iter::<f64>().collect();
                groups.iter_mut().zip(group).for_each(|(all, value)| all.push(value + (size as f64 / used as f64).ln()));
                left -= size;
            }
            values.extend(groups.iter().map(|group| mean_nll(std::slice::from_ref(group)) - (group.len() as f64).ln()));
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
        let bytes = encode_rows(&values, 1).map_err(|e| AnalysisError::Request(e.to_string()))?;
        let files = vec![
            picture(context.output, "plots/nll-histogram.png", png(&histogram(&values), (900, 600)))?,
            write(context.output, "analyses/nll.npy", &bytes)?,
        ];
        let nll = Measured::new("nll", mean, "nats", Direction::Minimise);
        let results = Results::of([nll, Measured::nats("deviation", deviation)]).fact("samples", used).fact("points", indices.len());
        Ok(results.with_files(files))
    }
}

fn histogram(values: &[f64]) -> Figure {
    let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)));
    let width = ((high - low) / BINS as f64).max(f64::MIN_POSITIVE);
    let mut counts = vec![0.0; BINS];
    for v in values {
        counts[(((v - low) / width) as usize).min(BINS - 1)] += 1.0 / (values.len() as f64 * width);
    }
    let points = counts.iter().enumerate().flat_map(|(bin, &density)| {
        let left = low + bin as f64 * width;
        [[left, density], [left + width, density]]
    });
    let mut figure = Figure::new("Negative log-likelihood of test samples", "nats", "density");
    let bars = points.collect::<Vec<_>>().chunks(2).map(|pair| [pair[0], pair[1]]).collect::<Vec<_>>();
    for [left, right] in bars {
        figure.layers.push(Layer::Band {
            points: vec![[left[0], 0.0, left[1]], [right[0], 0.0, right[1]]],
            colour: [31, 119, 180],
            opacity: 0.8,
        });
    }
    figure
}

ibhost_framework::register! {
    Analysis: Nll as AnalysisConfig, aliases: [], paper: "Tomczak & Welling 2018, arXiv:1705.07120; Livne et al. 2019, arXiv:1910.03175",
    example: "nll/samples:500", needs: [LogDensity],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_groups_are_used_and_equal_weights_give_their_value() {
        assert_eq!((samples_used(10, 4), samples_used(3, 5), samples_used(8, 4), samples_used(5, 5)), (8, 3, 8, 5));
        assert!((mean_nll(&[vec![-2.0; 7], vec![-4.0; 3]]) - 3.0).abs() < 1e-12);
        assert!((mean_nll(&[vec![-1e5, -1e5 + 2f64.ln()]]) - (1e5 - 1.5f64.ln())).abs() < 1e-9);
    }
}
