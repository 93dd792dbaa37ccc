//! Analysis `latent_gallery`: digits in the plane of a two-dimensional code and the images a model finds hardest.

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Direction, Measured, Results};
use ibhost_framework::capability::{Classify, Encode};
use ibhost_framework::dataset::{Samples, Split};
use ibhost_framework::noise::{Draws, Noise};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::figures::latent_figures::{Images, density_figure, digits_figure, means_figure, mosaic_of, samples_figure};
use crate::figures::latent_plot::{small_set, title};
use crate::figures::plot::{Figure, Mosaic, Tile, panels_png, png};
use crate::model::{BATCH, encode, log_probabilities, not_empty};
use crate::numbers::class_of;
use crate::output::picture;

const NAME: &str = "latent_gallery";
/// Images drawn over their densities.
const DENSITIES: usize = 10;
/// Images in the square mosaic.
const SQUARE: usize = 100;

/// Test images drawn at their codes, densities and samples of some of them, means of many, and the images that are hardest to classify.
///
/// Writes `plots/latent-digits.png` (ellipses with full axis lengths sqrt(5.991 eigenvalue), every tenth image drawn at its mean),
/// `plots/latent-densities.png` (the density of ten test images over the plane with the image at its mean),
/// `plots/latent-samples.png` (128 codes of two images with their ellipses), `plots/latent-means.png` (means of every tenth test image, of
/// all below 1,000), `plots/test-images.png` (the first 100 test images) and `plots/hardest-images.png` (the test images with the largest -ln mean_s q(y|z_s) in nats, captioned with label and prediction).
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

#[typetag::serde(name = "latent_gallery")]
impl AnalysisConfig for LatentGallery {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let model = context.require::<Classify>(NAME)?;
        let (samples, indices) = small_set(context);
        not_empty(samples, NAME)?;
        let codes = encode(NAME, context.require::<Encode>(NAME)?, samples, &indices, context)?;
        codes.need_plane(NAME)?;
        let images = Images::new(samples);
        let title = title(context);

        let digits = digits_figure(&title, context, &images, &indices, &codes);
        let densities: Vec<Figure> = (0..DENSITIES.min(indices.len())).map(|i| density_figure(&images, indices[i], i, &codes)).collect();

        let test = context.data.split(Split::Test);
        not_empty(test, NAME)?;
        let mut errors = self.class_errors(context, model, test);
        let wrong = errors.iter().filter(|e| e.predicted != Some(usize::from(test.label(e.index)))).count();
        errors.sort_by(|a, b| b.error.total_cmp(&a.error).then(a.index.cmp(&b.index)));
        errors.truncate(self.hardest);
        let classes = &context.data.info().classes;
        let test_images = Images::new(test);
        let [channels, height, width] = test.shape();
        let caption = |e: &ClassError| {
            let name = |class: usize| classes.get(class).map_or_else(|| class.to_string(), Clone::clone);
            format!("{} as {}", name(usize::from(test.label(e.index))), e.predicted.map_or_else(|| "no class".to_owned(), name))
        };
        let tiles = errors.iter().map(|e| Tile { values: test_images.unit(e.index), caption: caption(e) }).collect();
        let zoom = (96 / height.max(width).max(1)).max(1);
        let heading = format!("{title}: hardest test images (label as prediction), {wrong} of {} wrong", test.len());
        let mosaic = Mosaic { title: heading, shape: [channels, height, width], columns: 8, zoom, tiles };

        let step = if test.len() < 1000 { 1 } else { 10 };
        let spread: Vec<usize> = (0..test.len()).step_by(step).collect();
        let spread_codes = encode(NAME, context.require::<Encode>(NAME)?, test, &spread, context)?;
        spread_codes.need_plane(NAME)?;
        let means = means_figure(&title, context, &test_images, &spread, &spread_codes);
        let drawn = samples_figure(&title, &images, &indices, &codes, context.seed);
        let square = mosaic_of("first test images", &test_images, 0..test.len().min(SQUARE));

        let files = vec![
            picture(context.output, "plots/latent-digits.png", png(&digits, (1000, 850)))?,
            picture(context.output, "plots/latent-densities.png", panels_png(&densities, 5, (1900, 800)))?,
            picture(context.output, "plots/latent-samples.png", png(&drawn, (900, 800)))?,
            picture(context.output, "plots/latent-means.png", png(&means, (1000, 850)))?,
            picture(context.output, "plots/test-images.png", square.png())?,
            picture(context.output, "plots/hardest-images.png", mosaic.png())?,
        ];
        let mut results = Results::default().fact("test_images", test.len()).fact("wrong", wrong).fact("samples", self.samples);
        for (at, error) in errors.iter().enumerate() {
            let place = |key: &str| format!("hardest/{at}/{key}");
            let (index, label) = (error.index, test.label(error.index));
            let measured = Measured::new("error", error.error, "nats", Direction::Minimise).along("index", index).along("label", label);
            results = results.and(measured.along("predicted", error.predicted).at(place("error_nats")));
            results = results.fact(place("index"), index).fact(place("label"), label).fact(place("predicted"), error.predicted);
        }
        Ok(results.with_files(files))
    }
}

/// How badly one test image is classified.
struct ClassError {
    index: usize,
    /// -ln of the averaged probability of the label, in nats.
    error: f64,
    /// Class, where the probabilities are numbers.
    predicted: Option<usize>,
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
                let predicted = class_of(&row);
                let error = row.get(usize::from(test.label(index))).map_or(f64::INFINITY, |p| -p);
                errors.push(ClassError { index, error, predicted });
            }
        }
        errors
    }
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
    use crate::figures::plot::{decode_png, show};
    use crate::fixture::{Fixture, Shape};

    #[test]
    fn pictures_and_the_hardest_images_first() {
        let fixture = Fixture::new(Shape::Full, 600);
        let report = LatentGallery::default().run(&fixture.context()).unwrap();
        assert_eq!(report.files.len(), 6);
        for path in &report.files {
            let bytes = std::fs::read(path).unwrap();
            show(&path.file_name().unwrap().to_string_lossy(), &bytes);
            assert!(decode_png(&bytes).0.0 > 300);
        }
        let errors: Vec<f64> = report.json()["hardest"].as_array().unwrap().iter().map(|h| h["error_nats"].as_f64().unwrap()).collect();
        assert_eq!(errors.len(), 40);
        assert!(errors.windows(2).all(|w| w[0] >= w[1]));
        let wrong = report.json()["wrong"].as_u64().unwrap();
        assert!(wrong < 300, "{wrong}");
    }
}
