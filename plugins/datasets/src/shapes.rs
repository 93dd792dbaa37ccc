//! Squares, ellipses and hearts with known scale, orientation and position: drawn, or read from dSprites.

use ibhost_framework::dataset::{DataError, DataFile, DataInfo, DataRoot, Dataset, DatasetConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::dsprites;
use crate::factors::{Factor, FactorDataset, ImageRange, Subset};
use crate::file::Place;
use crate::image::names;
use crate::locate::{located, missing};

/// Height and width of an image.
pub const SIDE: usize = 64;

/// Where the images come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// dSprites when its file is there, drawn otherwise; a new run records which.
    #[default]
    Auto,
    /// Drawn by formula; at the largest scale within two pixels of dSprites.
    Drawn,
    /// Read from the dSprites file.
    Dsprites,
}

/// Shapes: white squares, ellipses and hearts on black, 64x64, three classes, with known factors.
///
/// Factors as in dSprites: shape 3, scale 6, orientation 40, x 32, y 32; listed values are kept in the order listed, no list keeps all. The
/// defaults are the 6,144 images of the DisenIB paper. Scales below 5 are drawn with radii in proportion 0.5 + 0.1 scale, which has not
/// been compared with dSprites. There is no test split: test quantities are measured on the training images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ShapesConfig {
    /// Where the images come from.
    pub source: Source,
    /// Shapes kept: 0 square, 1 ellipse, 2 heart.
    #[schemars(length(max = 3))]
    pub shape: Vec<usize>,
    /// Scales kept, 0 to 5.
    #[schemars(length(max = 6))]
    pub size: Vec<usize>,
    /// Orientations kept, 0 to 39.
    #[schemars(length(max = 40))]
    pub orientation: Vec<usize>,
    /// Horizontal positions kept, 0 to 31.
    #[schemars(length(max = 32))]
    pub x: Vec<usize>,
    /// Vertical positions kept, 0 to 31.
    #[schemars(length(max = 32))]
    pub y: Vec<usize>,
    /// Range of the inputs.
    pub range: ImageRange,
}

impl Default for ShapesConfig {
    fn default() -> Self {
        Self {
            source: Source::Auto,
            shape: Vec::new(),
            size: vec![5],
            orientation: vec![3, 36],
            x: Vec::new(),
            y: Vec::new(),
            range: ImageRange::Unit,
        }
    }
}

/// Radius of the heart by the angle from its horizontal axis, -90 to 90 degrees in steps of 7.5; the tip is at 90.
const HEART: [f64; 25] = [
    5.42, 7.13, 8.98, 10.02, 10.77, 11.05, 11.24, 11.17, 10.89, 10.41, 9.71, 8.94, 8.12, 7.40, 6.89, 6.44, 6.19, 6.01, 5.88, 5.94, 6.04,
    6.35, 6.80, 7.64, 9.37,
];

/// Whether the point (u, v) in the shape's own axes, v pointing down, is inside at the largest scale.
fn inside(shape: usize, u: f64, v: f64) -> bool {
    match shape {
        0 => u.abs().max(v.abs()) <= 9.6,
        1 => (u / 12.76).powi(2) + (v / 7.2).powi(2) <= 1.0,
        _ => {
            let place = (v.atan2(u.abs()).to_degrees() + 90.0) / 7.5;
            let knot = (place as usize).min(HEART.len() - 2);
            let radius = HEART[knot] + (place - knot as f64) * (HEART[knot + 1] - HEART[knot]);
            u.hypot(v) <= radius
        }
    }
}

/// Draws an image of 0 and 1, row by row, for the factors [shape, scale, orientation, x, y].
pub fn draw([shape, scale, orientation, x, y]: [usize; 5]) -> Vec<u8> {
    let centre = |place: usize| 15.5 + 32.0 / 31.0 * place as f64;
    let angle = -2.0 * std::f64::consts::PI * orientation as f64 / 39.0;
    let (sin, cos) = angle.sin_cos();
    let grow = 0.5 + 0.1 * scale as f64;
    let mut image = Vec::with_capacity(SIDE * SIDE);
    for row in 0..SIDE {
        for column in 0..SIDE {
            let (dx, dy) = ((column as f64 - centre(x)) / grow, (row as f64 - centre(y)) / grow);
            image.push(u8::from(inside(shape, dx * cos + dy * sin, dy * cos - dx * sin)));
        }
    }
    image
}

impl ShapesConfig {
    /// The factors with their kept values.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] for values that do not exist.
    pub fn factors(&self) -> Result<[Factor; 5], DataError> {
        let factor = |name, size, listed: &[usize]| Factor::new("shapes", name, size, listed);
        Ok([
            factor("shape", 3, &self.shape)?,
            factor("size", 6, &self.size)?,
            factor("orientation", 40, &self.orientation)?,
            factor("x", 32, &self.x)?,
            factor("y", 32, &self.y)?,
        ])
    }
}

#[typetag::serde(name = "shapes")]
impl DatasetConfig for ShapesConfig {
    fn load(&self, root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
        let factors = self.factors()?;
        let subset = Subset::new(&factors);
        let file = [dsprites::file()];
        let found = if self.source == Source::Drawn { None } else { located("shapes", &file, root)?.pop().flatten() };
        if self.source == Source::Dsprites && found.is_none() {
            return Err(missing("shapes", &file[0], root));
        }
        let (bytes, note) = if let Some(path) = found {
            (dsprites::read(Place::new("shapes", root, &path), &subset.positions)?, "read from dSprites")
        } else {
            let draws = subset.values.chunks_exact(5).flat_map(|v| draw([v[0], v[1], v[2], v[3], v[4]]));
            (draws.collect(), "drawn by formula, not read from dSprites")
        };
        let labels = subset.values.chunks_exact(5).map(|v| factors[0].kept.iter().position(|s| *s == v[0]).unwrap_or(0) as u8).collect();
        let all = names(&["square", "ellipse", "heart"]);
        let classes = factors[0].kept.iter().map(|&shape| all[shape].clone()).collect();
        let info =
            DataInfo { name: "shapes".to_owned(), classes, shape: [1, SIDE, SIDE], note: Some(note.to_owned()), class_entropy: None };
        Ok(Box::new(FactorDataset::new(info, bytes, labels, subset.factors, self.range, 1.0)?))
    }

    fn files(&self) -> Vec<DataFile> {
        vec![dsprites::file()]
    }

    fn decided(&self, root: &DataRoot) -> Map<String, Value> {
        // Two files that differ are refused when they are loaded.
        let read = !matches!(located("shapes", &[dsprites::file()], root).as_deref(), Ok([None]));
        let source = if read { "dsprites" } else { "drawn" };
        let decided = (self.source == Source::Auto).then(|| ("source".to_owned(), Value::from(source)));
        decided.into_iter().collect()
    }
}

ibhost_framework::register! {
    Dataset: ShapesConfig as DatasetConfig, aliases: ["dsprites"], paper: "Matthey et al. 2017; Pan et al. 2021, arXiv:2012.07372",
    example: "shapes/size:[4;5]"
}

#[cfg(test)]
mod tests {
    use ibhost_framework::dataset::Split;

    use super::*;

    #[test]
    fn the_default_is_the_papers_subset() {
        let config = ShapesConfig { source: Source::Drawn, ..ShapesConfig::default() };
        let data = config.load(&DataRoot("/nowhere".into())).unwrap();
        let train = data.split(Split::Train);
        assert_eq!((train.len(), train.shape(), train.value_range()), (6144, [1, 64, 64], (0.0, 1.0)));
        let factors = data.factors().unwrap();
        assert_eq!((factors.sizes.clone(), factors.values.len()), (vec![3, 2, 32, 32], 4 * 6144));
        for index in [0, 2048, 6143] {
            assert_eq!(u16::from(train.label(index)), factors.of(index)[0]);
        }
        assert!(data.info().note.as_ref().unwrap().contains("drawn"));
    }

    #[test]
    fn positions_move_the_shape_and_mirrored_orientations_mirror_it() {
        let area = |image: &[u8]| image.iter().map(|&x| usize::from(x)).sum::<usize>();
        let first = draw([0, 5, 3, 8, 8]);
        assert!((area(&first) as i64 - 369).abs() <= 2, "{}", area(&first));
        // Thirty-one positions span thirty-two pixels: position 31 lies 32 pixels beside position 0.
        let (left, right) = (draw([1, 5, 0, 0, 16]), draw([1, 5, 0, 31, 16]));
        for row in 0..SIDE {
            for column in 0..32 {
                assert_eq!(left[row * SIDE + column], right[row * SIDE + column + 32]);
            }
        }
        assert!(area(&draw([2, 0, 0, 16, 16])) < area(&draw([2, 5, 0, 16, 16])) / 3);
    }

    #[test]
    fn the_source_of_a_run_is_decided_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = DataRoot(folder.path().to_owned());
        let source = |config: &ShapesConfig| config.decided(&root).get("source").cloned();
        assert_eq!(source(&ShapesConfig::default()), Some("drawn".into()));
        let path = root.join(dsprites::FILE);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, b"damaged").unwrap();
        assert_eq!(source(&ShapesConfig::default()), Some("dsprites".into()));
        assert_eq!(source(&ShapesConfig { source: Source::Drawn, ..ShapesConfig::default() }), None);
        let error = ShapesConfig::default().load(&root).unwrap_err().to_string();
        let command = format!("ibhost data fetch shapes --data-dir {}", folder.path().display());
        assert!(error.contains("dsprites_ndarray") && error.contains(&command), "{error}");
        assert!(!ShapesConfig::default().files()[0].mirrors.is_empty(), "the command that is named must do something");
    }

    #[test]
    fn a_missing_file_is_named_only_when_it_was_asked_for() {
        let config = ShapesConfig { source: Source::Dsprites, ..ShapesConfig::default() };
        let error = config.load(&DataRoot("/nowhere".into())).unwrap_err().to_string();
        assert!(error.contains("dsprites_ndarray"), "{error}");
        assert!(ShapesConfig { size: vec![9], ..ShapesConfig::default() }.load(&DataRoot("/nowhere".into())).is_err());
    }
}
