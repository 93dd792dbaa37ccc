//! Analysis `latent_gallery`: digits in the plane of a two-dimensional code and the images a model finds hardest.

use std::f64::consts::TAU;

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, AnalysisReport};
use ibhost_framework::dataset::{Samples, Split};
use ibhost_framework::noise::{Draws, Noise};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::ellipse::tutorial_axes;
use crate::latent_plot::{small_set, title};
use crate::model::{BATCH, Codes, classifier, encode, encoder, log_probabilities, not_empty};
use crate::output::picture;
use crate::plot::colour::{blues, tab10};
use crate::plot::{Colour, Figure, Layer, Mark, Mosaic, Stroke, Tile, panels_png, png};

const NAME: &str = "latent_gallery";
/// Images drawn over their densities.
const DENSITIES: usize = 10;
/// Cells per axis of a density.
const GRID: usize = 150;

/// Test digits drawn at their codes, densities p(z|x) of ten of them, and a mosaic of the images that are hardest to classify.
///
/// Writes `plots/latent-digits.png` (ellipses with full axis lengths sqrt(5.991 eigenvalue), every tenth image drawn at its mean),
/// `plots/latent-densities.png` (the density of ten test images over the plane with the image at its mean) and
/// `plots/hardest-images.png` (the test images with the largest -ln mean_s q(y|z_s) in nats, captioned with label and prediction).
/// Needs a code of two dimensions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LatentGallery {
    /// Codes per image for the class probabilities.
    #[schemars(range(min = 1, max = 10_000))]
    pub samples: usize,
    /// Images in the mosaic.
    #[schemars(range(min = 1, max = 400))]
    pub hardest: usize,
}

impl Default for LatentGallery {
    fn default() -> Self {
        Self { samples: 16, hardest: 40 }
    }
}

/// Raw images mapped to `[0, 1]` by the range of the split.
struct Images<'a> {
    samples: &'a Samples,
    low: f32,
    span: f32,
}

impl<'a> Images<'a> {
    fn new(samples: &'a Samples) -> Self {
        let (low, high) = samples.value_range();
        Self { samples, low, span: if high > low { high - low } else { 1.0 } }
    }

    fn unit(&self, index: usize) -> Vec<f32> {
        let mut values = Vec::new();
        self.samples.gather(&[index], &mut values);
        values.iter().map(|v| (v - self.low) / self.span).collect()
    }

    /// The image at `centre` with the given size; brightness becomes opacity, so that the paper shines through dark pixels.
    fn layer(&self, index: usize, centre: [f64; 2], size: [f64; 2], colour: Colour, opacity: f64) -> Layer {
        let [channels, height, width] = self.samples.shape();
        let values = self.unit(index);
        let plane = height * width;
        let grey = |i: usize| (0..channels).map(|c| f64::from(values[c * plane + i])).sum::<f64>() / channels as f64;
        let extent = [centre[0] - size[0] / 2.0, centre[0] + size[0] / 2.0, centre[1] - size[1] / 2.0, centre[1] + size[1] / 2.0];
        Layer::Cells { cells: (0..plane).map(|i| (colour, opacity * grey(i))).collect(), columns: width, extent }
    }
}

#[typetag::serde(name = "latent_gallery")]
impl AnalysisConfig for LatentGallery {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<AnalysisReport, AnalysisError> {
        let model = classifier(context, NAME)?;
        let (samples, indices) = small_set(context);
        not_empty(samples, NAME)?;
        let codes = encode(encoder(context, NAME)?, samples, &indices, context);
        codes.need_plane(NAME)?;
        let images = Images::new(samples);
        let title = title(context);

        let digits = digits_figure(&title, context, &images, &indices, &codes);
        let densities: Vec<Figure> = (0..DENSITIES.min(indices.len())).map(|i| density_figure(&images, indices[i], i, &codes)).collect();

        let test = context.data.split(Split::Test);
        not_empty(test, NAME)?;
        let mut errors = self.class_errors(context, model, test);
        let wrong = errors.iter().filter(|e| e.predicted != usize::from(test.label(e.index))).count();
        errors.sort_by(|a, b| b.error.total_cmp(&a.error).then(a.index.cmp(&b.index)));
        errors.truncate(self.hardest);
        let classes = &context.data.info().classes;
        let test_images = Images::new(test);
        let [channels, height, width] = test.shape();
        let caption = |e: &ClassError| {
            let name = |class: usize| classes.get(class).map_or_else(|| class.to_string(), Clone::clone);
            format!("{} as {}", name(usize::from(test.label(e.index))), name(e.predicted))
        };
        let tiles = errors.iter().map(|e| Tile { values: test_images.unit(e.index), caption: caption(e) }).collect();
        let zoom = (96 / height.max(width).max(1)).max(1);
        let heading = format!("{title}: hardest test images (label as prediction), {wrong} of {} wrong", test.len());
        let mosaic = Mosaic { title: heading, shape: [channels, height, width], columns: 8, zoom, tiles };

        let files = vec![
            picture(context.run_dir, "plots/latent-digits.png", png(&digits, (1000, 850)))?,
            picture(context.run_dir, "plots/latent-densities.png", panels_png(&densities, 5, (1900, 800)))?,
            picture(context.run_dir, "plots/hardest-images.png", mosaic.png())?,
        ];
        let hardest: Vec<_> = errors
            .iter()
            .map(|e| json!({"index": e.index, "label": test.label(e.index), "predicted": e.predicted, "error_nats": e.error}))
            .collect();
        let mut table = vec![["index", "label", "predicted", "error / nats"].map(str::to_owned).to_vec()];
        table.extend(
            errors
                .iter()
                .map(|e| vec![e.index.to_string(), test.label(e.index).to_string(), e.predicted.to_string(), format!("{:.3}", e.error)]),
        );
        let result = json!({"test_images": test.len(), "wrong": wrong, "samples": self.samples, "hardest": hardest});
        Ok(AnalysisReport { result, table, files })
    }
}

/// How badly one test image is classified.
struct ClassError {
    index: usize,
    /// -ln of the averaged probability of the label, in nats.
    error: f64,
    predicted: usize,
}

impl LatentGallery {
    fn class_errors(
        &self,
        context: &AnalysisContext<'_>,
        model: &dyn ibhost_framework::objective::Classifier,
        test: &Samples,
    ) -> Vec<ClassError> {
        let order: Vec<usize> = (0..test.len()).collect();
        let mut errors = Vec::with_capacity(order.len());
        for (step, indices) in order.chunks(BATCH).enumerate() {
            let mut draws = Draws::seeded(Noise::new(context.seed), step as u64, NAME);
            let inputs = test.batch(indices, context.device).inputs;
            for (&index, row) in indices.iter().zip(log_probabilities(model, inputs, self.samples, &mut draws)) {
                let predicted = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a))).unwrap_or(0);
                let error = row.get(usize::from(test.label(index))).map_or(f64::INFINITY, |p| -p);
                errors.push(ClassError { index, error, predicted });
            }
        }
        errors
    }
}

fn tutorial_ellipse(mean: [f64; 2], covariance: [[f64; 2]; 2]) -> Vec<[f64; 2]> {
    let axes = tutorial_axes(covariance);
    let (sin, cos) = axes.angle.sin_cos();
    (0..=64)
        .map(|i| {
            let t = TAU * f64::from(i) / 64.0;
            let (u, v) = (0.5 * axes.width * t.cos(), 0.5 * axes.height * t.sin());
            [mean[0] + cos * u - sin * v, mean[1] + sin * u + cos * v]
        })
        .collect()
}

fn digits_figure(title: &str, context: &AnalysisContext<'_>, images: &Images<'_>, indices: &[usize], codes: &Codes) -> Figure {
    let limit = codes.means.iter().fold(1e-6f64, |limit, x| limit.max(x.abs()));
    let mut figure = Figure::new(title, "z 1", "z 2").within(1.05 * limit);
    for (i, &index) in indices.iter().enumerate() {
        let colour = tab10(usize::from(images.samples.label(index)));
        let points = tutorial_ellipse(codes.point(i), codes.covariances[i]);
        figure.layers.push(Layer::Curve { points, colour, opacity: 0.4, width: 2, stroke: Stroke::Solid });
    }
    // The published figure has digits of size 0.2 on axes of about 2.5.
    let size = 0.08 * limit;
    for (i, &index) in indices.iter().enumerate().step_by(10) {
        figure.layers.push(images.layer(index, codes.point(i), [size, size], [0, 0, 0], 0.6));
    }
    for (class, name) in context.data.info().classes.iter().enumerate() {
        figure.entry(name.as_str(), tab10(class), Mark::Swatch);
    }
    figure
}

fn density_figure(images: &Images<'_>, index: usize, i: usize, codes: &Codes) -> Figure {
    let limit = codes.means.iter().fold(2.0f64, |limit, x| limit.max(1.05 * x.abs()));
    let (mean, c) = (codes.point(i), codes.covariances[i]);
    let mut figure = Figure::new(format!("p(z|x), class {}", images.samples.label(index)), "z 1", "z 2").within(limit);
    let det = c[0][0] * c[1][1] - c[0][1] * c[1][0];
    let step = 2.0 * limit / GRID as f64;
    let height = |cell: usize| {
        let d = [(cell % GRID) as f64 * step + step / 2.0 - limit - mean[0], limit - step / 2.0 - (cell / GRID) as f64 * step - mean[1]];
        // Relative to the peak; a point has no density.
        if det > 0.0 { (-(c[1][1] * d[0] * d[0] - 2.0 * c[0][1] * d[0] * d[1] + c[0][0] * d[1] * d[1]) / (2.0 * det)).exp() } else { 0.0 }
    };
    let cells = (0..GRID * GRID).map(height).map(|h| (blues(h), if h > 1e-3 { (20.0 * h).min(1.0) } else { 0.0 })).collect();
    figure.layers.push(Layer::Cells { cells, columns: GRID, extent: [-limit, limit, -limit, limit] });
    figure.layers.push(images.layer(index, mean, [0.25 * limit, 0.25 * limit], [180, 30, 30], 0.8));
    figure
}

ibhost_framework::register! {
    Analysis: LatentGallery as AnalysisConfig,
    paper: "Alemi et al. 2017, arXiv:1612.00410 (two-dimensional tutorial of 2021)",
    example: "latent_gallery/samples:16|hardest:40",
    needs: [Classify, Encode],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, Shape};
    use crate::plot::{decode_png, show};

    #[test]
    fn three_pictures_and_the_hardest_images_first() {
        let fixture = Fixture::new(Shape::Full, 600);
        let report = LatentGallery::default().run(&fixture.context()).unwrap();
        for path in &report.files {
            let bytes = std::fs::read(path).unwrap();
            show(&path.file_name().unwrap().to_string_lossy(), &bytes);
            assert!(decode_png(&bytes).0.0 > 300);
        }
        let errors: Vec<f64> = report.result["hardest"].as_array().unwrap().iter().map(|h| h["error_nats"].as_f64().unwrap()).collect();
        assert_eq!(errors.len(), 40);
        assert!(errors.windows(2).all(|w| w[0] >= w[1]));
        let wrong = report.result["wrong"].as_u64().unwrap();
        assert!(wrong < 300, "{wrong}");
    }

    #[test]
    fn the_tutorial_ellipse_has_its_axes() {
        let points = tutorial_ellipse([1.0, 1.0], [[4.0, 0.0], [0.0, 1.0]]);
        let far = points.iter().map(|p| (p[0] - 1.0).abs()).fold(0.0, f64::max);
        let high = points.iter().map(|p| (p[1] - 1.0).abs()).fold(0.0, f64::max);
        assert!((far - 5.991f64.sqrt()).abs() < 1e-9 && (high - 0.5 * 5.991f64.sqrt()).abs() < 1e-9);
    }
}
