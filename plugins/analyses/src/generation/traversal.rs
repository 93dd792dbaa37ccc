//! Analysis `traversal`: images along each dimension of the style code.

use burn::tensor::{Int, Tensor, TensorData};
use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Measured, Results};
use ibhost_framework::capability::Restyle;
use ibhost_framework::dataset::Split;
use ibhost_framework::noise::Noise;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::figures::plot::mosaic::{Mosaic, Tile};
use crate::generation::decoding::Decoding;
use crate::generation::swap_grid::unit_rows;
use crate::model::{BATCH, not_empty};
use crate::output::picture;

const NAME: &str = "traversal";

/// Latent traversal: one row a style dimension, the dimension moved over the range the training codes take, everything else fixed.
///
/// Values run from the mean - `spread` to the mean + `spread` standard deviations of the dimension over up to 2,000 training images; the
/// other dimensions and the class are those of one training image. Images are the decoder's means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Traversal {
    /// Images in a row.
    #[schemars(range(min = 2, max = 64))]
    pub steps: usize,
    /// Standard deviations to either side.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub spread: f64,
    /// Dimensions shown, from the first.
    #[schemars(range(min = 1, max = 512))]
    pub dims: usize,
    /// Position of the fixed image in the training split; a random one without it.
    pub index: Option<usize>,
}

impl Default for Traversal {
    fn default() -> Self {
        Self { steps: 9, spread: 2.0, dims: 16, index: None }
    }
}

/// Training images the range of the codes is measured on.
const MEASURED: usize = 2000;

#[typetag::serde(name = "traversal")]
impl AnalysisConfig for Traversal {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let model = context.require::<Restyle>(NAME)?;
        let samples = context.data.split(Split::Train);
        not_empty(samples, NAME)?;
        let chosen = self.index.unwrap_or_else(|| Noise::new(context.seed).stream("traversal", 0).below(samples.len()));
        if chosen >= samples.len() {
            return Err(AnalysisError::Request(format!(
                "`{NAME}` is to start from training image {chosen}, but there are {}",
                samples.len()
            )));
        }
        let mut order = Noise::new(context.seed).stream("traversal/measured", 0).permutation(samples.len());
        order.truncate(MEASURED);
        let mut codes: Vec<f64> = Vec::new();
        for indices in order.chunks(BATCH) {
            codes.extend(model.style(samples.batch(indices, context.device).inputs).point().into_data().iter::<f64>());
        }
        let start: Vec<f64> = model.style(samples.batch(&[chosen], context.device).inputs).point().into_data().iter::<f64>().collect();
        let (latent, count) = (start.len(), order.len() as f64);
        let dims = self.dims.min(latent);
        let mut rows = Vec::with_capacity(dims * self.steps * latent);
        let mut ranges = Vec::with_capacity(dims);
        for k in 0..dims {
            let column = || codes.iter().skip(k).step_by(latent);
            let mean = column().sum::<f64>() / count;
            let std = (column().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
            ranges.push((mean - self.spread * std, mean + self.spread * std));
            for step in 0..self.steps {
                let mut code = start.clone();
                code[k] = mean + self.spread * std * (2.0 * step as f64 / (self.steps - 1) as f64 - 1.0);
                rows.extend(code);
            }
        }
        let n = dims * self.steps;
        let styles = Tensor::<2>::from_data(TensorData::new(rows, [n, latent]), context.device);
        let labels = Tensor::<1, Int>::from_data(TensorData::new(vec![i64::from(samples.label(chosen)); n], [n]), context.device);
        let images = unit_rows(model.restyle(styles, labels), samples.value_range());
        let caption = |index: usize| if index.is_multiple_of(self.steps) { format!("s{}", index / self.steps) } else { String::new() };
        let tiles = images
            .iter()
            .enumerate()
            .map(|(index, image)| Tile { values: image.iter().map(|v| *v as f32).collect(), caption: caption(index) })
            .collect();
        let zoom = (56 / samples.shape()[1].max(1)).max(1);
        let mosaic =
            Mosaic { title: format!("Style dimensions, {}", context.label), shape: samples.shape(), columns: self.steps, zoom, tiles };
        let file = picture(context.output, "plots/traversal.png", mosaic.png())?;
        // How much a dimension changes the image: mean over pixels of the standard deviation along its row.
        let effect: Vec<f64> = images.chunks_exact(self.steps).map(row_effect).collect();
        let mut results = Results::default();
        for (k, (&(low, high), effect)) in ranges.iter().zip(&effect).enumerate() {
            let of = |name: &str, value: f64, place: String| Measured::plain(name, value).along("dimension", k).at(place);
            let ends = [of("from", low, format!("ranges/{k}/0")), of("to", high, format!("ranges/{k}/1"))];
            results.values.extend(ends.into_iter().chain([of("effect", *effect, format!("effect/{k}"))]));
        }
        Ok(results.fact("image", chosen).fact("decoding", Decoding::Mean.name()).with_files([file]))
    }
}

/// Mean over pixels of the standard deviation over `images`.
fn row_effect(images: &[Vec<f64>]) -> f64 {
    let (n, pixels) = (images.len() as f64, images.first().map_or(0, Vec::len));
    let spread = |at: usize| {
        let mean = images.iter().map(|image| image[at]).sum::<f64>() / n;
        (images.iter().map(|image| (image[at] - mean).powi(2)).sum::<f64>() / n).sqrt()
    };
    (0..pixels).map(spread).sum::<f64>() / pixels.max(1) as f64
}

ibhost_framework::register! {
    Analysis: Traversal as AnalysisConfig, aliases: [], paper: "", example: "traversal/steps:9|dims:8", needs: [Restyle],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effect_is_the_spread_of_the_pixels() {
        assert_eq!(row_effect(&[vec![0.0, 1.0], vec![1.0, 1.0]]), 0.25);
        assert_eq!(row_effect(&[vec![0.5; 4], vec![0.5; 4]]), 0.0);
    }
}
