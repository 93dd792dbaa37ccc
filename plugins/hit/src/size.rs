//! Image and code sizes of the networks, and the options encoders share.

use ibhost_framework::build::BuildError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::layers::{HALVE, TRIM, Window};

/// Distribution of the top code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TopCode {
    /// Independent normals.
    #[default]
    DiagonalGaussian,
    /// One of `z` classes as a relaxed one-hot vector.
    GumbelSoftmax,
}

/// Sizes of the codes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CodeOptions {
    /// Channels of the convolutions.
    #[schemars(range(min = 1, max = 4096))]
    pub c: usize,
    /// Numbers in each code above the bottom one.
    #[schemars(range(min = 1, max = 65_536))]
    pub z: usize,
    /// Numbers in the bottom code as a row; a map of `c` channels when left out.
    #[schemars(range(min = 1, max = 65_536))]
    pub y: Option<usize>,
    /// Make the upper code a map of `c` channels too; `z` is then not used.
    pub conv_z: bool,
    /// Levels of the code. Two in the paper; more are ibhost's own generalisation.
    #[schemars(range(min = 1, max = 16))]
    pub layers: usize,
    /// Distribution of the top code.
    pub qz: TopCode,
    /// Smallest standard deviation (variance, for the bottom-up estimates of a ladder).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub floor: f64,
}

impl Default for CodeOptions {
    fn default() -> Self {
        Self { c: 16, z: 10, y: None, conv_z: false, layers: 2, qz: TopCode::DiagonalGaussian, floor: 0.0 }
    }
}

impl CodeOptions {
    /// Refuses options that exclude each other.
    ///
    /// # Errors
    /// [`BuildError`] in the name of `component`.
    pub fn check(&self, component: &str) -> Result<(), BuildError> {
        let maps_and_class = self.qz == TopCode::GumbelSoftmax && self.conv_z;
        let only_class = self.qz == TopCode::GumbelSoftmax && self.layers == 1;
        let problem = if self.conv_z && self.layers != 2 {
            "maps at both levels (conv_z:true) have exactly two levels; leave `layers` out"
        } else if self.conv_z && self.y.is_some() {
            "with conv_z:true the bottom code is a map; leave `y` out"
        } else if maps_and_class {
            "a Gumbel-softmax code is one class for the image and cannot be a map; leave out conv_z or qz"
        } else if only_class {
            "the only level is a map of normals; use at least two `layers` with qz:gumbel_softmax"
        } else {
            return Ok(());
        };
        Err(BuildError::new(component, problem))
    }

    /// Sizes of the levels for images of `shape`, bottom first; those of 32 x 32 pixels where the networks do not take such images.
    pub fn latents(&self, shape: [usize; 3]) -> Vec<usize> {
        if self.conv_z {
            let MapSizes { bottom, top, .. } = MapSizes::of("", shape).unwrap_or_else(|_| MapSizes::smallest());
            return vec![self.c * bottom * bottom, self.c * top * top];
        }
        let last = Sizes::of("", shape).map_or(4, |sizes| sizes.last);
        let mut latents = vec![self.y.unwrap_or(self.c * last * last)];
        latents.resize(self.layers, self.z);
        latents
    }
}

/// Edges of the maps a 4x4 network of three convolutions makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// After two convolutions that halve.
    pub middle: usize,
    /// After the third.
    pub last: usize,
    /// The third convolution.
    pub third: Window,
}

impl Sizes {
    /// Sizes for square images of `shape` = `[channels, height, width]`: the third convolution halves where the edge is a multiple of 8 (32
    /// pixels: 16, 8, 4) and trims otherwise (28 pixels: 14, 7, 4).
    ///
    /// # Errors
    /// [`BuildError`] in the name of `component` for other images.
    pub fn of(component: &str, shape: [usize; 3]) -> Result<Self, BuildError> {
        let [channels, height, width] = shape;
        let middle = height / 4;
        let third = if height.is_multiple_of(8) { HALVE } else { TRIM };
        if channels == 0 || height != width || !height.is_multiple_of(4) || third.output(middle) == 0 {
            let problem = format!(
                "takes square images whose edge is a multiple of 4 and at least 8 (such as 28 or 32), not samples of shape {shape:?}"
            );
            return Err(BuildError::new(component, problem));
        }
        Ok(Self { middle, last: third.output(middle), third })
    }
}

/// Edges of the maps of networks with maps at both levels, for images of 32 2^n pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSizes {
    /// Edge of the bottom code.
    pub bottom: usize,
    /// Edge of the top code.
    pub top: usize,
    /// How much deeper than for 32 pixels the path from the image to the top code is.
    pub image_extra: usize,
    /// How much deeper the path between the codes is.
    pub code_extra: usize,
}

impl MapSizes {
    fn smallest() -> Self {
        Self { bottom: 8, top: 4, image_extra: 0, code_extra: 0 }
    }

    /// Sizes for square images of `shape`: top code 4 x 4, bottom code 8 x 8 for 32 and 64 pixels, 16 x 16 for 128 and 256.
    ///
    /// # Errors
    /// [`BuildError`] in the name of `component` for images whose edge is not 32, 64, 128, ...
    pub fn of(component: &str, shape: [usize; 3]) -> Result<Self, BuildError> {
        let [channels, height, width] = shape;
        if channels == 0 || height != width || height < 32 || !height.is_power_of_two() {
            let problem = format!(
                "with conv_z:true takes square images of 32, 64, 128 ... pixels, not samples of shape {shape:?}; leave conv_z out for others"
            );
            return Err(BuildError::new(component, problem));
        }
        let image_extra = (height / 32).ilog2() as usize;
        let code_extra = image_extra / 2;
        Ok(Self { bottom: 8 << code_extra, top: 4, image_extra, code_extra })
    }

    /// How much deeper than for 32 pixels the path between image and bottom code is.
    pub fn bottom_extra(&self) -> usize {
        self.image_extra - self.code_extra
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_paper() {
        let sizes = |side| Sizes::of("hvae", [1, side, side]).map(|s| (s.middle, s.last, s.third)).ok();
        assert_eq!(sizes(28), Some((7, 4, TRIM)));
        assert_eq!(sizes(32), Some((8, 4, HALVE)));
        assert_eq!(sizes(8), Some((2, 1, HALVE)));
        assert_eq!((sizes(4), sizes(12), sizes(30)), (None, None, None));
        let maps = |side| MapSizes::of("hvae", [3, side, side]).map(|s| (s.bottom, s.top, s.bottom_extra(), s.code_extra)).ok();
        assert_eq!(maps(32), Some((8, 4, 0, 0)));
        assert_eq!(maps(256), Some((16, 4, 2, 1)));
        assert_eq!(maps(28), None);
    }

    #[test]
    fn latents_follow_the_options_and_the_image() {
        let options = CodeOptions { c: 16, z: 20, layers: 3, ..CodeOptions::default() };
        assert_eq!(options.latents([1, 28, 28]), [256, 20, 20]);
        assert_eq!(CodeOptions { y: Some(64), ..options.clone() }.latents([3, 32, 32]), [64, 20, 20]);
        assert_eq!(CodeOptions { conv_z: true, layers: 2, ..options }.latents([3, 256, 256]), [16 * 256, 16 * 16]);
    }

    #[test]
    fn contradictions_are_refused() {
        let base = CodeOptions::default();
        for bad in [
            CodeOptions { conv_z: true, layers: 3, ..base.clone() },
            CodeOptions { conv_z: true, y: Some(3), ..base.clone() },
            CodeOptions { conv_z: true, qz: TopCode::GumbelSoftmax, ..base.clone() },
            CodeOptions { layers: 1, qz: TopCode::GumbelSoftmax, ..base.clone() },
        ] {
            assert!(bad.check("hvae").is_err(), "{bad:?}");
        }
        assert!(base.check("hvae").is_ok());
    }
}
