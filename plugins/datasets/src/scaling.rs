//! How stored bytes become model inputs: the affine maps of the papers, one enum per kind of image.

use ibhost_framework::dataset::Scaling;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Per-channel mean of the CIFAR-10 training images scaled to 0..1 (red, green, blue).
pub const CIFAR10_MEAN: [f64; 3] = [0.491_400_9, 0.482_158_96, 0.446_530_8];
/// Per-channel standard deviation of the CIFAR-10 training images scaled to 0..1 (red, green, blue).
pub const CIFAR10_STD: [f64; 3] = [0.247_032_79, 0.243_484_23, 0.261_587_53];

/// Gain and offset of `x = raw * gain + offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Factor.
    pub gain: f64,
    /// Summand.
    pub offset: f64,
}

impl Affine {
    /// Maps one raw value.
    pub fn apply(self, raw: f64) -> f64 {
        raw.mul_add(self.gain, self.offset)
    }
}

/// `2 x / levels - 1`: raw 0..levels to -1..1.
pub fn symmetric(levels: f64) -> Affine {
    Affine { gain: 2.0 / levels, offset: -1.0 }
}

/// `x / levels`: raw 0..levels to 0..1.
pub fn unit(levels: f64) -> Affine {
    Affine { gain: levels.recip(), offset: 0.0 }
}

/// `x / 128 - 1`: raw 0..255 to -1..0.9921875.
pub fn x128() -> Affine {
    Affine { gain: 1.0 / 128.0, offset: -1.0 }
}

/// `(x / 255 - mean) / std`.
pub fn standard(mean: f64, std: f64) -> Affine {
    Affine { gain: 1.0 / (255.0 * std), offset: -mean / std }
}

/// One map per channel, in the form samples carry.
pub fn to_scaling(channels: &[Affine]) -> Scaling {
    Scaling { gain: channels.iter().map(|a| a.gain as f32).collect(), offset: channels.iter().map(|a| a.offset as f32).collect() }
}

/// Scaling of the 8x8 digits (raw values 0..16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DigitsScale {
    /// `2 x / 16 - 1`, range -1..1.
    #[default]
    Symmetric,
    /// `x / 16`, range 0..1.
    Unit,
}

impl DigitsScale {
    /// The map of the only channel.
    pub fn affine(self) -> Affine {
        match self {
            Self::Symmetric => symmetric(16.0),
            Self::Unit => unit(16.0),
        }
    }
}

/// Scaling of grey byte images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GreyScale {
    /// `2 x / 255 - 1`, range -1..1.
    #[default]
    Symmetric,
    /// `x / 255`, range 0..1.
    Unit,
    /// `x / 128 - 1`, range -1..0.992: the JAX notebooks of VIB.
    X128,
}

impl GreyScale {
    /// The map of the only channel.
    pub fn affine(self) -> Affine {
        match self {
            Self::Symmetric => symmetric(255.0),
            Self::Unit => unit(255.0),
            Self::X128 => x128(),
        }
    }
}

/// Scaling of CIFAR-10 images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColourScale {
    /// `(x / 255 - mean) / std` with the training set's mean and standard deviation of each channel.
    #[default]
    Standard,
    /// `2 x / 255 - 1`, range -1..1.
    Symmetric,
    /// `x / 255`, range 0..1.
    Unit,
}

impl ColourScale {
    /// The maps of the red, green and blue channel.
    pub fn affine(self) -> [Affine; 3] {
        match self {
            Self::Standard => [0, 1, 2].map(|c| standard(CIFAR10_MEAN[c], CIFAR10_STD[c])),
            Self::Symmetric => [symmetric(255.0); 3],
            Self::Unit => [unit(255.0); 3],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-6, "{a} is not {b}");
    }

    #[test]
    fn ends_of_every_range() {
        close(symmetric(255.0).apply(0.0), -1.0);
        close(symmetric(255.0).apply(255.0), 1.0);
        close(symmetric(16.0).apply(16.0), 1.0);
        close(unit(255.0).apply(255.0), 1.0);
        close(x128().apply(255.0), 0.992_187_5);
        assert_eq!(DigitsScale::default().affine(), symmetric(16.0));
        assert_eq!(GreyScale::default().affine(), symmetric(255.0));
    }

    #[test]
    fn standard_maps_the_mean_to_zero_and_one_deviation_to_one() {
        let maps = ColourScale::Standard.affine();
        for (channel, map) in maps.into_iter().enumerate() {
            close(map.apply(255.0 * CIFAR10_MEAN[channel]), 0.0);
            close(map.apply(255.0 * (CIFAR10_MEAN[channel] + CIFAR10_STD[channel])), 1.0);
        }
        let scaling = to_scaling(&maps);
        assert_eq!(scaling.gain.len(), 3);
        assert!((70.0 * scaling.gain[0] + scaling.offset[0] + 0.877_985).abs() < 1e-5);
    }
}
