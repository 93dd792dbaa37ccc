//! Mixtures of axis-aligned normals with a known density, and the two families of them that toy data sets are made of.

use ibhost_framework::dataset::KnownDensity;
use ibhost_framework::noise::Stream;

const HALF_LN_2PI: f64 = 0.918_938_533_204_672_7;
/// Pixels of a glyph's cell: the bitmap font is fixed-width.
const CELL: [usize; 2] = [6, 11];
/// Rows of the printable ASCII glyphs, see `assets/README.md`.
static FONT: &[u8] = include_bytes!("../assets/courier-bold-8.bin");

/// Equal-weight mixture of normals with diagonal covariances.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    /// Dimensions.
    pub dimensions: usize,
    /// Component means, component-major.
    pub means: Vec<f64>,
    /// Standard deviations, component-major.
    pub scales: Vec<f64>,
}

impl Mixture {
    /// The mixture of the numbered toy sets: `|k|` components on a circle, and one more at the origin when `k` is not negative.
    ///
    /// With n components, sigma is 1.25 / n. The means are the rows of the n x `dimensions` table of evenly spaced numbers from -10 n to
    /// 10 n, with the first two columns replaced: the origin for the first component (k >= 0), then (cos, sin)(2 pi i / n). The divisor is
    /// n although only |k| points lie on the circle, which leaves a gap when there is a component at the origin; `even` divides by |k|.
    pub fn circle(k: i64, dimensions: usize, even: bool) -> Self {
        let around = k.unsigned_abs() as usize;
        let n = around + usize::from(k >= 0);
        let cells = n * dimensions;
        let step = if cells > 1 { 20.0 * n as f64 / (cells - 1) as f64 } else { 0.0 };
        let mut means: Vec<f64> = (0..cells).map(|i| -10.0 * n as f64 + step * i as f64).collect();
        let divisor = if even { around } else { n } as f64;
        for component in 0..n {
            let point = match (k >= 0, component) {
                (true, 0) => [0.0, 0.0],
                (origin, c) => {
                    let angle = std::f64::consts::TAU * (c - usize::from(origin)) as f64 / divisor;
                    [angle.cos(), angle.sin()]
                }
            };
            for (mean, value) in means[component * dimensions..].iter_mut().zip(point).take(dimensions.min(2)) {
                *mean = value;
            }
        }
        Self { dimensions, means, scales: vec![1.25 / n as f64; cells] }
    }

    /// The mixture that spells `text`: one component for each lit pixel of a bitmap font.
    ///
    /// On a canvas of W x H pixels the pixel in column x and row y from the bottom has mean 3.6 (x/W - 0.45, y/H - 0.45); the standard
    /// deviations are (1/W, 1/H). Components go column by column, each from the bottom. `None` when a character has no glyph or nothing is
    /// lit.
    pub fn text(text: &str) -> Option<Self> {
        let canvas = draw(text)?;
        let [width, height] = [CELL[0] * text.len(), CELL[1]];
        let mut means = Vec::new();
        for x in 0..width {
            for y in 0..height {
                if canvas[(height - 1 - y) * width + x] {
                    means.extend([x as f64 / width as f64, y as f64 / height as f64].map(|at| 3.6 * (at - 0.45)));
                }
            }
        }
        let scales = [1.0 / width as f64, 1.0 / height as f64].repeat(means.len() / 2);
        (!means.is_empty()).then_some(Self { dimensions: 2, means, scales })
    }

    /// Number of components.
    pub fn components(&self) -> usize {
        self.means.len().checked_div(self.dimensions).unwrap_or(0)
    }

    /// One sample appended to `out`, from `component`.
    pub fn draw(&self, component: usize, noise: &mut Stream, out: &mut Vec<f32>) {
        let range = component * self.dimensions..(component + 1) * self.dimensions;
        out.extend(self.means[range.clone()].iter().zip(&self.scales[range]).map(|(mean, scale)| (mean + scale * noise.normal()) as f32));
    }
}

impl KnownDensity for Mixture {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn normal_components(&self) -> Option<[&[f64]; 2]> {
        Some([&self.means, &self.scales])
    }

    fn log_prob(&self, x: &[f64]) -> Vec<f64> {
        let log_weight = -(self.components() as f64).ln();
        let one = |point: &[f64]| {
            let parts = self.means.chunks_exact(self.dimensions).zip(self.scales.chunks_exact(self.dimensions));
            let logs: Vec<f64> = parts
                .map(|(mean, scale)| {
                    let each = point.iter().zip(mean).zip(scale);
                    each.map(|((x, m), s)| -0.5 * ((x - m) / s).powi(2) - s.ln() - HALF_LN_2PI).sum::<f64>()
                })
                .collect();
            let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            largest + logs.iter().map(|l| (l - largest).exp()).sum::<f64>().ln() + log_weight
        };
        x.chunks_exact(self.dimensions.max(1)).map(one).collect()
    }
}

/// Lit pixels of `text`, row by row from the top. A glyph replaces what its neighbour left within its own bounding box, so that
/// overhanging strokes look as in the original drawings.
fn draw(text: &str) -> Option<Vec<bool>> {
    let width = CELL[0] * text.len();
    let mut canvas = vec![false; width * CELL[1]];
    for (cell, character) in text.bytes().enumerate() {
        let from = usize::from(character.checked_sub(b' ')?) * CELL[1];
        let rows = FONT.get(from..from + CELL[1])?;
        let columns = rows.iter().fold(0, |all, row| all | row);
        let (left, right) = (columns.leading_zeros() as usize, 8 - columns.trailing_zeros().min(8) as usize);
        let top = rows.iter().position(|&row| row != 0).unwrap_or(CELL[1]);
        let bottom = rows.iter().rposition(|&row| row != 0).map_or(0, |row| row + 1);
        for (y, row) in rows.iter().enumerate().take(bottom).skip(top) {
            for bit in left..right {
                // The highest bit lies one pixel left of the cell.
                if let Some(x) = (cell * CELL[0] + bit).checked_sub(1).filter(|&x| x < width) {
                    canvas[y * width + x] = row & (0x80 >> bit) != 0;
                }
            }
        }
    }
    Some(canvas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_framework::noise::Noise;

    #[test]
    fn letters_are_drawn_as_published() {
        let canvas = draw("VAE").unwrap();
        let rows: Vec<String> = canvas.chunks_exact(18).map(|row| row.iter().map(|&lit| if lit { '#' } else { '.' }).collect()).collect();
        let lit = [
            "##.##.####.######.",
            "##.##..###..##....",
            ".#.#...#.#..####..",
            ".###..#####.##....",
            ".###..##.##.##.##.",
            "..#..###.########.",
        ];
        assert_eq!(rows[3..9], lit);
        assert!(rows[..3].iter().chain(&rows[9..]).all(|row| !row.contains('#')));
        assert_eq!(Mixture::text("MIM").unwrap().components(), 60);
        assert_eq!(Mixture::text("AE").unwrap().components(), 46);
        assert!(Mixture::text("é").is_none() && Mixture::text(" ").is_none() && Mixture::text("").is_none());
    }

    #[test]
    fn circles_have_the_published_gap_and_spacing() {
        let toy4 = Mixture::circle(4, 2, false);
        assert_eq!((toy4.components(), toy4.scales[0]), (5, 0.25));
        assert!((toy4.means[4] - 0.309_017).abs() < 1e-6 && toy4.means[..2] == [0.0, 0.0]);
        let toy4_20 = Mixture::circle(4, 20, false);
        assert!((toy4_20.means[22] - (-50.0 + 22.0 * 100.0 / 99.0)).abs() < 1e-9);
        let even = Mixture::circle(4, 2, true);
        assert!(even.means[4].abs() < 1e-12);
        assert_eq!(Mixture::circle(-4, 2, false).components(), 4);
        assert_eq!(Mixture::circle(0, 1, false).means, [0.0]);
    }

    #[test]
    fn the_mean_log_density_of_samples_is_minus_the_published_entropy() {
        let toy4 = Mixture::circle(4, 2, false);
        let mut noise = Noise::new(3).stream("entropy", 0);
        let mut values = Vec::new();
        for _ in 0..20_000 {
            let component = noise.below(5);
            toy4.draw(component, &mut noise, &mut values);
        }
        let x: Vec<f64> = values.into_iter().map(f64::from).collect();
        let entropy = -toy4.log_prob(&x).iter().sum::<f64>() / 20_000.0;
        assert!((entropy - 1.556).abs() < 0.02, "{entropy}");
    }
}
