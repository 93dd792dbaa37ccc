//! Analysis `latent_plot`: posteriors of a two-dimensional code as ellipses coloured by class.

use std::sync::Arc;

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Measured, Results};
use ibhost_framework::capability::{Classify, Encode};
use ibhost_framework::dataset::{Samples, Scaling, Split, Values};
use ibhost_framework::noise::{Draws, Noise};
use ibhost_framework::objective::Classifier;
use ibhost_framework::storage::{MetricsLog, StorageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::figures::ellipse::contour;
use crate::figures::plot::colour::gist_rainbow;
use crate::figures::plot::{Figure, Layer, Mark, Stroke, png};
use crate::model::{BATCH, count_correct, encode, not_empty};
use crate::npy::encode_rows;
use crate::numbers::share;
use crate::output::{picture, write};
use crate::robustness::salt_pepper::add_salt_pepper;

const NAME: &str = "latent_plot";

/// Samples shown when the fixed set does not fit the test split.
const SHOWN: usize = 1000;

/// One-sigma ellipses of q(z|x) for 1,000 test samples, coloured by class; needs a code of two dimensions.
///
/// Shows the fixed set of 1,000 positions in the official test set, or the first 1,000 test samples when the set does not fit. Writes
/// `plots/latent-representation.png` and `plots/latent-representation.npy` (float64 rows: label, mean 0, mean 1, covariance 00, 01, 10,
/// 11). Diagonal posteriors are drawn with diag(sigma^2). With `salt_pepper` the images are corrupted as by the analysis of that name, the
/// file names end in `-noisy`, and the title has the accuracy of the shown samples (12 codes) without and with noise, when the model can
/// classify.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LatentPlot {
    /// Size of the ellipses in standard deviations.
    #[schemars(range(min = 0.01, max = 10.0))]
    pub n_std: f64,
    /// Axes from minus to plus this value instead of around the data.
    #[schemars(range(min = 1e-6, max = 1e6))]
    pub limit: Option<f64>,
    /// Probability that an entry of an image becomes the smallest or the largest value.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub salt_pepper: f64,
}

impl Default for LatentPlot {
    fn default() -> Self {
        Self { n_std: 1.0, limit: None, salt_pepper: 0.0 }
    }
}

/// The samples of latent plots: the fixed set of the official test set when it exists, otherwise the first ones.
pub(crate) fn small_set<'a>(context: &AnalysisContext<'a>) -> (&'a Samples, Vec<usize>) {
    let test = context.data.official_test().unwrap_or_else(|| context.data.split(Split::Test));
    let fixed = ibhost_datasets::two_d_samples();
    if fixed.iter().all(|&i| i < test.len()) { (test, fixed) } else { (test, (0..test.len().min(SHOWN)).collect()) }
}

/// `Epoch=12 <label>`, or the label alone when the run has no metrics yet.
pub(crate) fn title(context: &AnalysisContext<'_>) -> String {
    // A title is not worth failing for: `curves` is where a damaged log is reported.
    let rows = MetricsLog::read(&context.run_dir.join("metrics.jsonl")).unwrap_or_default();
    match rows.last() {
        Some(row) => format!("Epoch={} {}", row.epoch, context.label),
        None => context.label.to_owned(),
    }
}

/// The samples at `indices` under salt-and-pepper noise, as samples of their own.
fn corrupted(samples: &Samples, indices: &[usize], p: f64, seed: u64) -> Result<Samples, AnalysisError> {
    let mut values = Vec::new();
    samples.gather(indices, &mut values);
    let shape = samples.shape();
    add_salt_pepper(&mut values, shape.iter().product(), indices, p, samples.value_range(), Noise::new(seed));
    let labels = indices.iter().map(|&index| samples.label(index)).collect();
    Ok(Samples::new(Values::F32(Arc::new(values)), labels, shape, Scaling::uniform(shape[0], 1.0, 0.0))?)
}

/// Share of the samples at `indices` classified right with 12 codes.
fn accuracy(model: &dyn Classifier, samples: &Samples, indices: &[usize], context: &AnalysisContext<'_>) -> f64 {
    let mut correct = 0;
    for (step, chunk) in indices.chunks(BATCH).enumerate() {
        let labels: Vec<u8> = chunk.iter().map(|&index| samples.label(index)).collect();
        let mut draws = Draws::seeded(Noise::new(context.seed), step as u64, NAME);
        correct += count_correct(model, samples.batch(chunk, context.device).inputs, &labels, 12, &mut draws);
    }
    share(correct, indices.len())
}

#[typetag::serde(name = "latent_plot")]
impl AnalysisConfig for LatentPlot {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let (samples, indices) = small_set(context);
        not_empty(samples, NAME)?;
        let noisy = (self.salt_pepper > 0.0).then(|| corrupted(samples, &indices, self.salt_pepper, context.seed)).transpose()?;
        let clean = (samples, indices);
        let (samples, indices) = match &noisy {
            Some(noisy) => (noisy, (0..noisy.len()).collect()),
            None => clean.clone(),
        };
        let codes = encode(NAME, context.require::<Encode>(NAME)?, samples, &indices, context)?;
        codes.need_plane(NAME)?;
        let mut heading = title(context);
        let accuracies = match (&noisy, context.model.capability::<Classify>()) {
            (Some(_), Some(model)) => {
                let pair = [(clean.0, &clean.1), (samples, &indices)].map(|(samples, indices)| accuracy(model, samples, indices, context));
                heading += &format!(": accuracy {:.4} to {:.4} with noise on {} of the entries", pair[0], pair[1], self.salt_pepper);
                Some(pair)
            }
            _ => None,
        };
        let mut figure = Figure::new(heading, "z 1", "z 2");
        let mut rows = Vec::with_capacity(7 * indices.len());
        for (i, &index) in indices.iter().enumerate() {
            let (mean, c, label) = (codes.point(i), codes.covariances[i], samples.label(index));
            rows.extend([f64::from(label), mean[0], mean[1], c[0][0], c[0][1], c[1][0], c[1][1]]);
            let colour = gist_rainbow(f64::from(label) / 10.0);
            let points = contour(mean, c, self.n_std, 64);
            figure.layers.push(Layer::Curve { points, colour, opacity: 0.5, width: 1, stroke: Stroke::Solid });
        }
        for (label, class) in context.data.info().classes.iter().enumerate() {
            figure.entry(class.as_str(), gist_rainbow(label as f64 / 10.0), Mark::Swatch);
        }
        if let Some(limit) = self.limit {
            figure = figure.within(limit);
        }
        let stem = if noisy.is_some() { "plots/latent-representation-noisy" } else { "plots/latent-representation" };
        let (picture_name, npy) = (format!("{stem}.png"), format!("{stem}.npy"));
        let png_path = picture(context.output, &picture_name, png(&figure, (900, 700)))?;
        let bytes = encode_rows(&rows, 7).map_err(|e| StorageError::Encode { path: context.output.path(&npy), reason: e.to_string() })?;
        let npy_path = write(context.output, &npy, &bytes)?;
        let results = Results::default().fact("samples", indices.len()).fact("n_std", self.n_std).fact("seed", context.seed);
        let results = match accuracies {
            Some([clean, noisy]) => {
                let of = |at: usize, inputs: &str, value: f64| {
                    Measured::share("accuracy", value).along("inputs", inputs).at(format!("accuracy/{at}"))
                };
                results.and(of(0, "clean", clean)).and(of(1, "noisy", noisy))
            }
            None => results.fact("accuracy", Value::Null),
        };
        Ok(results.with_files([png_path, npy_path]))
    }
}

ibhost_framework::register! {
    Analysis: LatentPlot as AnalysisConfig,
    paper: "Banerjee & Montúfar 2020, arXiv:1810.11677",
    example: "latent_plot",
    needs: [Encode],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::plot::{decode_png, show};
    use crate::fixture::{Bars, Fixture, Shape};
    use crate::npy::Array;

    #[test]
    fn picture_and_array_are_written_for_every_posterior() {
        for (shape, n) in [(Shape::Full, 400), (Shape::Diagonal, 10_000), (Shape::Point, 30)] {
            let fixture = Fixture::new(shape, n);
            let report = LatentPlot::default().run(&fixture.context()).unwrap();
            let bytes = std::fs::read(&report.files[0]).unwrap();
            show(&format!("latent-{n}.png"), &bytes);
            assert_eq!(decode_png(&bytes).0, (900, 700));
            let mut array = Array::open(&report.files[1]).unwrap();
            assert_eq!(array.shape, [n.min(1000), 7]);
            let label = array.next_bytes(8).unwrap();
            // Classes come in turn, and the fixed set starts with position 6967.
            assert_eq!(label, if n == 10_000 { 7f64 } else { 0f64 }.to_le_bytes());
        }
    }

    #[test]
    fn noise_moves_the_codes_and_costs_accuracy() {
        let fixture = Fixture::new(Shape::Diagonal, 600);
        let report = LatentPlot { salt_pepper: 0.5, ..LatentPlot::default() }.run(&fixture.context()).unwrap();
        let accuracy = |i: usize| report.json()["accuracy"][i].as_f64().unwrap();
        assert!(accuracy(0) > accuracy(1) + 0.1, "{}", report.json());
        LatentPlot::default().run(&fixture.context()).unwrap();
        let [noisy, clean] = ["-noisy", ""].map(|end| {
            let path = fixture.run_dir().join(format!("plots/latent-representation{end}.npy"));
            Array::open(&path).unwrap().next_bytes(24).unwrap()
        });
        assert_eq!(noisy[..8], clean[..8], "the label");
        assert_ne!(noisy[8..], clean[8..], "the mean");
    }

    #[test]
    fn other_sizes_are_refused() {
        let fixture = Fixture::on(Shape::Full, Bars::new("bars", [1, 8, 8], 20), 3);
        let error = LatentPlot::default().run(&fixture.context()).unwrap_err().to_string();
        assert!(error.contains("this model has 3") && error.contains("z:2"), "{error}");
        let empty = Fixture::on(Shape::Full, Bars::new("bars", [1, 8, 8], 0), 2);
        assert!(LatentPlot::default().run(&empty.context()).unwrap_err().to_string().contains("empty"));
    }
}
