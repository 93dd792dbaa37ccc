//! Analysis `image_grids`: real, reconstructed and generated images of a generative model, and its pseudo-inputs.

use burn::tensor::Tensor;
use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, AnalysisReport};
use ibhost_framework::dataset::Split;
use ibhost_framework::noise::{Draws, Noise};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::model::{generative, not_empty};
use crate::output::picture;
use crate::plot::{Mosaic, Tile};

const NAME: &str = "image_grids";

/// Grids of test images with their reconstructions below them, of generated images and of pseudo-inputs.
///
/// Writes `plots/real-reconstructed.png` (rows of test images alternating with rows of their reconstructions: the decoder's mean, or the
/// conditional means along an ancestral sample of an autoregressive decoder) and `plots/generations.png` (codes of the prior through the
/// decoder). Models whose prior is made of pseudo-inputs also get `plots/pseudo-inputs.png` with the first of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ImageGrids {
    /// Images in a row.
    #[schemars(range(min = 1, max = 64))]
    pub columns: usize,
    /// Rows of generations, and of real images with their reconstructions.
    #[schemars(range(min = 1, max = 64))]
    pub rows: usize,
}

impl Default for ImageGrids {
    fn default() -> Self {
        Self { columns: 8, rows: 8 }
    }
}

#[typetag::serde(name = "image_grids")]
impl AnalysisConfig for ImageGrids {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<AnalysisReport, AnalysisError> {
        let model = generative(context, NAME)?;
        let test = context.data.official_test().unwrap_or_else(|| context.data.split(Split::Test));
        not_empty(test, NAME)?;
        let shape = context.data.info().shape;
        if shape[1] < 2 || !matches!(shape[0], 1 | 3) {
            return Err(AnalysisError::Request(format!("`{NAME}` draws images, but samples of this data set have shape {shape:?}")));
        }
        let mut draws = Draws::seeded(Noise::new(context.seed), 0, NAME);
        let pairs = (self.columns * self.rows.div_ceil(2)).min(test.len());
        let inputs = test.batch(&(0..pairs).collect::<Vec<_>>(), context.device).inputs;
        let codes = model.sample_codes(inputs.clone(), &mut draws);
        let reconstructed = tiles(model.reconstruct(codes, &mut draws), shape);
        let size: usize = shape.iter().product();
        let real = tiles(inputs.reshape([pairs, size]), shape);
        let alternating =
            real.chunks(self.columns).zip(reconstructed.chunks(self.columns)).flat_map(|(a, b)| [a.to_vec(), b.to_vec()].concat());
        let title = |text: &str| format!("{text}: {}", context.label);
        let mosaic = |text: &str, tiles: Vec<Tile>| Mosaic { title: title(text), shape, columns: self.columns, zoom: 2, tiles };
        let prior = model.sample_prior(self.columns * self.rows, &mut draws);
        let generated = tiles(model.reconstruct(prior, &mut draws), shape);
        let count = generated.len();
        let mut files = vec![
            picture(context.run_dir, "plots/real-reconstructed.png", mosaic("Real and reconstructed", alternating.collect()).png())?,
            picture(context.run_dir, "plots/generations.png", mosaic("Generated", generated).png())?,
        ];
        let mut pseudo = model.pseudo_inputs().map(|inputs| tiles(inputs, shape)).unwrap_or_default();
        pseudo.truncate(self.columns * self.rows);
        let shown = pseudo.len();
        if shown > 0 {
            files.push(picture(context.run_dir, "plots/pseudo-inputs.png", mosaic("Pseudo-inputs", pseudo).png())?);
        }
        let table = vec![
            ["pairs", "generated", "pseudo-inputs"].map(str::to_owned).to_vec(),
            [pairs, count, shown].map(|n| n.to_string()).to_vec(),
        ];
        Ok(AnalysisReport { result: json!({"pairs": pairs, "generated": count, "pseudo_inputs": shown}), table, files })
    }
}

fn tiles(images: Tensor<2>, shape: [usize; 3]) -> Vec<Tile> {
    let values: Vec<f32> = images.into_data().iter::<f32>().collect();
    values.chunks_exact(shape.iter().product()).map(|image| Tile { values: image.to_vec(), caption: String::new() }).collect()
}

ibhost_framework::register! {
    Analysis: ImageGrids as AnalysisConfig, aliases: [], paper: "Tomczak & Welling 2018, arXiv:1705.07120; Livne et al. 2019, arXiv:1910.03175",
    example: "image_grids/columns:8|rows:8", needs: [Reconstruct, Sample],
}
