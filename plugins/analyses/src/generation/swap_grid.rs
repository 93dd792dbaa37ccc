//! Analysis `swap_grid`: images rebuilt from the style of one input and the class of another.

use burn::tensor::{Int, Tensor, TensorData};
use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Direction, Measured, Results};
use ibhost_framework::capability::Restyle;
use ibhost_framework::dataset::{Samples, Split};
use ibhost_framework::noise::Noise;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::figures::plot::{PlotError, encode_png};
use crate::generation::decoding::Decoding;
use crate::model::not_empty;
use crate::output::picture;

const NAME: &str = "swap_grid";

/// Grid of swapped images: row i keeps the style of source i, column j takes the class of source j.
///
/// The sources stand on the left and on top, with white lines of `gap` pixels and a black corner, (n + 1) sides and a gap wide. Bytes are
/// trunc(clamp(255 v + 0.5, 0, 255)) of values scaled to [0, 1]. The numbers: `class_share`, cells whose nearest training image (pixel
/// distance, up to `judges` images) has the column's class; `style_shift`, mean distance in pixels between the centroids of the bright half of a
/// cell and its row's source, beside `random_shift` between a cell and another row's source. Codes are the means of the style, images the
/// decoder's means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SwapGrid {
    /// Sources, drawn from the training split, one of each class first.
    #[schemars(range(min = 1, max = 64))]
    pub n: usize,
    /// Positions in the training split to use instead of random ones.
    #[schemars(length(max = 64))]
    pub indices: Vec<usize>,
    /// Width of the white lines.
    #[schemars(range(min = 0, max = 100))]
    pub gap: usize,
    /// Training images that judge the class of a cell.
    #[schemars(range(min = 1, max = 100_000))]
    pub judges: usize,
}

impl Default for SwapGrid {
    fn default() -> Self {
        Self { n: 10, indices: Vec::new(), gap: 3, judges: 5000 }
    }
}

/// Images of one shape laid out as the grid.
#[derive(Clone, Debug)]
pub struct Grid {
    /// `[channels, height, width]` of an image.
    pub shape: [usize; 3],
    /// White pixels between strips and cells.
    pub gap: usize,
    /// Values of the sources in [0, 1].
    pub sources: Vec<Vec<f64>>,
    /// Values of the cells, row after row.
    pub cells: Vec<Vec<f64>>,
}

impl Grid {
    /// Height and width of the whole.
    pub fn size(&self) -> [usize; 2] {
        let [_, height, width] = self.shape;
        let n = self.sources.len() + 1;
        [n * height + self.gap, n * width + self.gap]
    }

    /// Values `[channels, height, width]` of the whole: 1 on the lines, 0 in the corner.
    pub fn values(&self) -> Vec<f64> {
        let [channels, height, width] = self.shape;
        let [total_h, total_w] = self.size();
        let mut out = vec![1.0; channels * total_h * total_w];
        let mut put = |top: usize, left: usize, image: Option<&[f64]>| {
            for c in 0..channels {
                for y in 0..height {
                    for x in 0..width {
                        let value = image.map_or(0.0, |image| image[(c * height + y) * width + x]);
                        out[(c * total_h + top + y) * total_w + left + x] = value;
                    }
                }
            }
        };
        let place = |i: usize, side: usize| if i == 0 { 0 } else { i * side + self.gap };
        put(0, 0, None);
        for (i, source) in self.sources.iter().enumerate() {
            put(0, place(i + 1, width), Some(source));
            put(place(i + 1, height), 0, Some(source));
        }
        for (index, cell) in self.cells.iter().enumerate() {
            let (i, j) = (index / self.sources.len(), index % self.sources.len());
            put(place(i + 1, height), place(j + 1, width), Some(cell));
        }
        out
    }

    /// The grid as a PNG file; grey is written as colour.
    ///
    /// # Errors
    /// [`PlotError`] when images have neither 1 nor 3 channels.
    pub fn png(&self) -> Result<Vec<u8>, PlotError> {
        let channels = self.shape[0];
        if !matches!(channels, 1 | 3) {
            return Err(PlotError(format!("images have {channels} channels; 1 or 3 can be shown")));
        }
        let ([height, width], values) = (self.size(), self.values());
        let plane = height * width;
        let pixels: Vec<u8> =
            (0..plane).flat_map(|at| [0, 1, 2].map(|c| byte(values[(if channels == 3 { c } else { 0 }) * plane + at]))).collect();
        encode_png(&pixels, width as u32, height as u32)
    }
}

/// trunc(clamp(255 v + 0.5, 0, 255)).
pub fn byte(value: f64) -> u8 {
    (255.0 * value + 0.5).clamp(0.0, 255.0) as u8
}

/// Brightness centroid (x, y) in pixels of what is brighter than half of the brightest; the haze of a reconstruction's background would
/// draw it to the middle.
fn centroid(image: &[f64], [channels, height, width]: [usize; 3]) -> [f64; 2] {
    let (mut total, mut at) = (0.0, [0.0, 0.0]);
    let bright = image.iter().copied().fold(0.0, f64::max) / 2.0;
    for (index, value) in image.iter().take(channels * height * width).enumerate().filter(|(_, value)| **value > bright) {
        let (y, x) = (index / width % height, index % width);
        total += value;
        at[0] += value * x as f64;
        at[1] += value * y as f64;
    }
    if total > 0.0 { at.map(|sum| sum / total) } else { [width as f64 / 2.0, height as f64 / 2.0] }
}

fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// Rows of `values` scaled from `range` to [0, 1].
pub(crate) fn unit_rows(values: Tensor<4>, range: (f32, f32)) -> Vec<Vec<f64>> {
    let [_, c, h, w] = values.dims();
    let (low, span) = (f64::from(range.0), f64::from((range.1 - range.0).max(f32::MIN_POSITIVE)));
    let flat: Vec<f64> = values.into_data().iter::<f64>().map(|v| (v - low) / span).collect();
    flat.chunks_exact((c * h * w).max(1)).map(<[f64]>::to_vec).collect()
}

impl SwapGrid {
    fn sources(&self, samples: &Samples, classes: usize, seed: u64) -> Result<Vec<usize>, AnalysisError> {
        if !self.indices.is_empty() {
            if let Some(bad) = self.indices.iter().find(|&&i| i >= samples.len()) {
                return Err(AnalysisError::Request(format!("`{NAME}` is to use training image {bad}, but there are {}", samples.len())));
            }
            return Ok(self.indices.clone());
        }
        // One of each class first, so that every column differs; further ones as they come.
        let order = Noise::new(seed).stream("swap grid/sources", 0).permutation(samples.len());
        let mut seen = vec![false; classes];
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for index in order {
            match seen.get_mut(usize::from(samples.label(index))) {
                Some(seen) if !*seen => {
                    *seen = true;
                    first.push(index);
                }
                _ => rest.push(index),
            }
        }
        first.sort_by_key(|&index| samples.label(index));
        first.extend(rest);
        first.truncate(self.n);
        Ok(first)
    }
}

/// Label of the nearest of the first `judges` samples, by squared pixel distance.
fn nearest_labels(cells: &[Vec<f64>], samples: &Samples, judges: usize, range: (f32, f32), seed: u64) -> Vec<u8> {
    let mut order = Noise::new(seed).stream("swap grid/judges", 0).permutation(samples.len());
    order.truncate(judges);
    let mut best = vec![(f64::INFINITY, 0u8); cells.len()];
    let (low, span) = (f64::from(range.0), f64::from((range.1 - range.0).max(f32::MIN_POSITIVE)));
    let mut values = Vec::new();
    for index in order {
        values.clear();
        samples.gather(&[index], &mut values);
        for (cell, best) in cells.iter().zip(&mut best) {
            let far: f64 = cell.iter().zip(&values).map(|(a, b)| (a - (f64::from(*b) - low) / span).powi(2)).sum();
            if far < best.0 {
                *best = (far, samples.label(index));
            }
        }
    }
    best.into_iter().map(|(_, label)| label).collect()
}

#[typetag::serde(name = "swap_grid")]
impl AnalysisConfig for SwapGrid {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let model = context.require::<Restyle>(NAME)?;
        let samples = context.data.split(Split::Train);
        not_empty(samples, NAME)?;
        let range = samples.value_range();
        let chosen = self.sources(samples, context.data.info().classes.len(), context.seed)?;
        let n = chosen.len();
        let batch = samples.batch(&chosen, context.device);
        let styles = model.style(batch.inputs.clone()).point();
        let latent = styles.dims()[1];
        let rows = styles.reshape([n, 1, latent]).expand([n, n, latent]).reshape([n * n, latent]);
        let columns: Vec<i64> = (0..n * n).map(|cell| i64::from(samples.label(chosen[cell % n]))).collect();
        let labels = Tensor::<1, Int>::from_data(TensorData::new(columns.clone(), [n * n]), context.device);
        let cells = unit_rows(model.restyle(rows, labels), range);
        let grid = Grid { shape: samples.shape(), gap: self.gap, sources: unit_rows(batch.inputs, range), cells };
        let judged = nearest_labels(&grid.cells, samples, self.judges, range, context.seed);
        let right = judged.iter().zip(&columns).filter(|(found, wanted)| i64::from(**found) == **wanted).count();
        let places: Vec<[f64; 2]> = grid.sources.iter().map(|image| centroid(image, grid.shape)).collect();
        let shift = |offset: usize| {
            let far = |(cell, image): (usize, &Vec<f64>)| distance(centroid(image, grid.shape), places[(cell / n + offset) % n]);
            grid.cells.iter().enumerate().map(far).sum::<f64>() / (n * n) as f64
        };
        let (own, other) = (shift(0), (1..n).map(shift).sum::<f64>() / (n.max(2) - 1) as f64);
        let class_share = right as f64 / (n * n) as f64;
        let file = picture(context.output, "plots/swap_grid.png", grid.png())?;
        let results = Results::of([
            Measured::share("class_share", class_share),
            Measured::new("style_shift", own, "pixels", Direction::Minimise),
            Measured::new("random_shift", other, "pixels", Direction::Neutral),
        ]);
        Ok(results.fact("sources", chosen).fact("decoding", Decoding::Mean.name()).with_files([file]))
    }
}

ibhost_framework::register! {
    Analysis: SwapGrid as AnalysisConfig, aliases: [], paper: "Pan et al. 2021, arXiv:2012.07372", example: "swap_grid/n:10",
    needs: [Restyle],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_cells_lines_and_corner_lie_where_they_should() {
        let image = |v: f64| vec![v; 4];
        let grid =
            Grid { shape: [1, 2, 2], gap: 1, sources: vec![image(0.1), image(0.2)], cells: [0.3, 0.4, 0.5, 0.6].map(image).to_vec() };
        assert_eq!(grid.size(), [7, 7]);
        let values = grid.values();
        let row = |y: usize| &values[7 * y..7 * y + 7];
        assert_eq!(row(0), [0.0, 0.0, 1.0, 0.1, 0.1, 0.2, 0.2]);
        assert_eq!(row(2), [1.0; 7]);
        assert_eq!(row(3), [0.1, 0.1, 1.0, 0.3, 0.3, 0.4, 0.4]);
        assert_eq!(row(6), [0.2, 0.2, 1.0, 0.5, 0.5, 0.6, 0.6]);
        assert!(grid.png().unwrap().starts_with(b"\x89PNG"));
        assert_eq!([byte(-1.0), byte(0.5), byte(2.0)], [0, 128, 255]);
    }

    #[test]
    fn centroids_follow_the_bright_pixel() {
        assert_eq!(centroid(&[0.4, 0.1, 0.0, 0.0, 0.0, 1.0], [1, 2, 3]), [2.0, 1.0]);
        assert_eq!(centroid(&[0.0; 6], [1, 2, 3]), [1.5, 1.0]);
        assert_eq!(distance([0.0, 0.0], [3.0, 4.0]), 5.0);
    }
}
