//! Analysis `image_grids`: real, reconstructed and generated images of a generative model, images between codes, and its pseudo-inputs.

use burn::tensor::{Tensor, TensorData};
use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Results};
use ibhost_framework::capability::Reconstruct;
use ibhost_framework::dataset::Split;
use ibhost_framework::noise::{Draws, Noise};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::figures::plot::{Mosaic, Tile};
use crate::generation::decoding::Decoding;
use crate::model::{not_empty, prior_codes, undefined};
use crate::output::picture;

const NAME: &str = "image_grids";
/// Codes between which others are mixed.
const CORNERS: usize = 4;
/// Half-width of the plane of codes.
const PLANE: f32 = 3.0;

/// Grids of test images with their reconstructions below them, of generated images and of pseudo-inputs.
///
/// Writes `plots/real-reconstructed.png` (rows of test images alternating with rows of their reconstructions from one sampled code each) and
/// `plots/generations.png` (independent codes of the prior through the decoder). All images are means of p(x|z) (`decode:mean`; the
/// conditional means along an ancestral sample of an autoregressive decoder) or draws from it (`decode:sample`).
/// `plots/interpolations.png` has the codes of four test images in its corners and bilinear mixtures of them between.
/// Models with a code of two dimensions also get `plots/code-plane.png`, the images of a square lattice of codes from -3 to 3, the second
/// dimension upwards, and models whose prior is made of pseudo-inputs `plots/pseudo-inputs.png` with the first of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ImageGrids {
    /// Images in a row.
    #[schemars(range(min = 1, max = 64))]
    pub columns: usize,
    /// Rows of generations, and of real images with their reconstructions.
    #[schemars(range(min = 1, max = 64))]
    pub rows: usize,
    /// Images along a side of the square of interpolations; 0 leaves it out.
    #[schemars(range(min = 0, max = 64))]
    pub interpolations: usize,
    /// Images along a side of the plane of a two-dimensional code; 0 leaves it out.
    #[schemars(range(min = 0, max = 64))]
    pub plane: usize,
    /// Whether images are means of p(x|z) or draws from it.
    pub decode: Decoding,
}

impl Default for ImageGrids {
    fn default() -> Self {
        Self { columns: 8, rows: 8, interpolations: 10, plane: 30, decode: Decoding::Mean }
    }
}

#[typetag::serde(name = "image_grids")]
impl AnalysisConfig for ImageGrids {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let model = context.require::<Reconstruct>(NAME)?;
        let test = context.data.official_test().unwrap_or_else(|| context.data.split(Split::Test));
        not_empty(test, NAME)?;
        let shape = context.data.info().shape;
        if shape[1] < 2 || !matches!(shape[0], 1 | 3) {
            return Err(AnalysisError::Request(format!("`{NAME}` draws images, but samples of this data set have shape {shape:?}")));
        }
        let mut draws = Draws::seeded(Noise::new(context.seed), 0, NAME);
        let pairs = (self.columns * self.rows.div_ceil(2)).min(test.len());
        let inputs = test.batch(&(0..pairs).collect::<Vec<_>>(), context.device).inputs;
        let codes = model.sample_codes(inputs.clone(), &mut draws).map_err(undefined(NAME))?;
        let reconstructed = tiles(self.decode.decode(model, codes.clone(), &mut draws), shape);
        let size: usize = shape.iter().product();
        let real = tiles(inputs.reshape([pairs, size]), shape);
        let alternating =
            real.chunks(self.columns).zip(reconstructed.chunks(self.columns)).flat_map(|(a, b)| [a.to_vec(), b.to_vec()].concat());
        let title = |text: &str| format!("{text}: {}", context.label);
        let grid = |text: &str, columns: usize, tiles: Vec<Tile>| Mosaic { title: title(text), shape, columns, zoom: 2, tiles };
        let mosaic = |text: &str, tiles: Vec<Tile>| grid(text, self.columns, tiles);
        let prior = prior_codes(NAME, model, self.columns * self.rows, &mut draws)?;
        let generated = tiles(self.decode.decode(model, prior, &mut draws), shape);
        let count = generated.len();
        let mut files = vec![
            picture(context.output, "plots/real-reconstructed.png", mosaic("Real and reconstructed", alternating.collect()).png())?,
            picture(context.output, "plots/generations.png", mosaic("Generated", generated).png())?,
        ];
        let mut pseudo = model.pseudo_inputs().map(|inputs| tiles(inputs, shape)).unwrap_or_default();
        pseudo.truncate(self.columns * self.rows);
        let shown = pseudo.len();
        if shown > 0 {
            files.push(picture(context.output, "plots/pseudo-inputs.png", mosaic("Pseudo-inputs", pseudo).png())?);
        }
        if self.interpolations > 0 && pairs >= CORNERS {
            let between = mixed(codes.clone().narrow(0, 0, CORNERS), self.interpolations);
            let images = tiles(self.decode.decode(model, between, &mut draws), shape);
            files.push(picture(context.output, "plots/interpolations.png", grid("Between four codes", self.interpolations, images).png())?);
        }
        if self.plane > 0 && codes.dims()[1] == 2 {
            let lattice = Tensor::from_data(TensorData::new(lattice(self.plane), [self.plane * self.plane, 2]), context.device);
            let images = tiles(self.decode.decode(model, lattice, &mut draws), shape);
            files.push(picture(context.output, "plots/code-plane.png", grid("Codes from -3 to 3", self.plane, images).png())?);
        }
        let results = Results::default().fact("pairs", pairs).fact("generated", count).fact("pseudo_inputs", shown);
        Ok(results.fact("decoding", self.decode.name()).with_files(files))
    }
}

/// The codes in the corners of a square, `[4, latent]` (upper left, upper right, lower left, lower right), and `side` x `side` bilinear
/// mixtures of them, row by row, `[side * side, latent]`.
fn mixed(corners: Tensor<2>, side: usize) -> Tensor<2> {
    let at = |i: usize| i as f32 / side.saturating_sub(1).max(1) as f32;
    let weights: Vec<f32> = (0..side * side)
        .flat_map(|i| {
            let (right, down) = (at(i % side), at(i / side));
            [(1.0 - right) * (1.0 - down), right * (1.0 - down), (1.0 - right) * down, right * down]
        })
        .collect();
    let weights = Tensor::<2>::from_data(TensorData::new(weights, [side * side, CORNERS]), &corners.device());
    weights.matmul(corners)
}

/// `side` x `side` points of the square from -`PLANE` to `PLANE`, row by row from the top, coordinates side by side.
fn lattice(side: usize) -> Vec<f32> {
    let at = |i: usize| -PLANE + 2.0 * PLANE * i as f32 / side.saturating_sub(1).max(1) as f32;
    (0..side * side).flat_map(|i| [at(i % side), -at(i / side)]).collect()
}

fn tiles(images: Tensor<2>, shape: [usize; 3]) -> Vec<Tile> {
    let values: Vec<f32> = images.into_data().iter::<f32>().collect();
    values.chunks_exact(shape.iter().product()).map(|image| Tile { values: image.to_vec(), caption: String::new() }).collect()
}

ibhost_framework::register! {
    Analysis: ImageGrids as AnalysisConfig, aliases: [], paper: "Tomczak & Welling 2018, arXiv:1705.07120; Livne et al. 2019, arXiv:1910.03175",
    example: "image_grids/columns:10", needs: [Reconstruct, Sample],
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn mixtures_have_the_codes_in_their_corners_and_the_mean_in_the_middle() {
        let corners = Tensor::from_floats([[0.0, 1.0], [4.0, 1.0], [0.0, -3.0], [8.0, 5.0]], &Device::flex());
        let codes: Vec<f32> = mixed(corners.clone(), 3).into_data().iter::<f32>().collect();
        let row = |i: usize| [codes[2 * i], codes[2 * i + 1]];
        assert_eq!([row(0), row(2), row(6), row(8)], [[0.0, 1.0], [4.0, 1.0], [0.0, -3.0], [8.0, 5.0]]);
        assert_eq!([row(1), row(4)], [[2.0, 1.0], [3.0, 1.0]]);
        let one: Vec<f32> = mixed(corners, 1).into_data().iter::<f32>().collect();
        assert_eq!(one, [0.0, 1.0]);
    }

    #[test]
    fn the_plane_runs_from_the_upper_left_to_the_lower_right() {
        let points = lattice(4);
        assert_eq!(points.len(), 32);
        assert_eq!((&points[..4], &points[30..]), (&[-3.0, 3.0, -1.0, 3.0][..], &[3.0, -3.0][..]));
    }
}
