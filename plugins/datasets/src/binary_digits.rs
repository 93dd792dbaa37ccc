//! Data set `binary_digits`: the embedded digits enlarged to the size of MNIST and rounded to black or white.

use std::sync::Arc;

use ibhost_framework::dataset::{DataError, DataInfo, DataRoot, Dataset, DatasetConfig, Samples, Scaling, Values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digits::{SIDE, unpack};
use crate::image::{ImageDataset, names};
use crate::numpy::LegacyRandom;
use crate::view::View;

/// Edge of the enlarged images.
const EDGE: usize = 28;
/// Training samples; the other 600 are for tests.
const TRAIN: usize = 1197;
/// Largest value of a stored pixel.
const LEVELS: f64 = 16.0;

/// Binary digits: the 1,797 embedded digits enlarged to 28x28 and rounded, x = 1 where the enlarged grey value is at least half.
///
/// Bilinear with half-pixel centres from 8x8. Samples in the order of NumPy's legacy permutation with seed 0; the first 1,197 are for
/// training and the last 600 for tests. A stand-in for MNIST that needs no download.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BinaryDigitsConfig {
    /// Which samples are used.
    #[serde(flatten)]
    pub view: View,
}

/// For every pixel of an edge of `to` the two pixels of an edge of `from` around it and the share of the second.
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f64)> {
    let tap = |i: usize| {
        let centre = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, (from - 1) as f64);
        let first = centre.floor() as usize;
        (first, (first + 1).min(from - 1), centre - first as f64)
    };
    (0..to).map(tap).collect()
}

/// Bits of one stored digit.
fn enlarged(pixels: &[u8], taps: &[(usize, usize, f64)], out: &mut Vec<u8>) {
    let at = |row: usize, column: usize| f64::from(pixels[row * SIDE + column]) / LEVELS;
    for &(top, bottom, down) in taps {
        for &(left, right, across) in taps {
            let upper = at(top, left) * (1.0 - across) + at(top, right) * across;
            let lower = at(bottom, left) * (1.0 - across) + at(bottom, right) * across;
            out.push(u8::from(upper * (1.0 - down) + lower * down >= 0.5));
        }
    }
}

#[typetag::serde(name = "binary_digits")]
impl DatasetConfig for BinaryDigitsConfig {
    fn load(&self, _root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
        let (pixels, labels) = unpack()?;
        let taps = taps(SIDE, EDGE);
        let mut bits = Vec::with_capacity(labels.len() * EDGE * EDGE);
        pixels.chunks_exact(SIDE * SIDE).for_each(|digit| enlarged(digit, &taps, &mut bits));
        let order = LegacyRandom::new(0).permutation(labels.len());
        let all = Samples::new(Values::U8(Arc::new(bits)), labels, [1, EDGE, EDGE], Scaling::uniform(1, 1.0, 0.0))?;
        let info = DataInfo {
            name: "binary_digits".to_owned(),
            classes: names(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]),
            shape: [1, EDGE, EDGE],
            note: None,
            class_entropy: None,
        };
        Ok(Box::new(ImageDataset::new(info, all.select(&order[..TRAIN])?, all.select(&order[TRAIN..])?, &self.view)?))
    }
}

ibhost_framework::register! {
    Dataset: BinaryDigitsConfig as DatasetConfig, aliases: [], paper: "Alpaydin and Kaynak 1998", example: "binary_digits/first:500"
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_framework::dataset::Split;

    #[test]
    fn enlarging_keeps_corners_and_blends_between_centres() {
        assert_eq!(taps(8, 28)[0], (0, 1, 0.0));
        assert_eq!(taps(8, 28)[27], (7, 7, 0.0));
        let (first, second, share) = taps(2, 4)[1];
        assert_eq!((first, second), (0, 1));
        assert!((share - 0.25).abs() < 1e-12);
        let mut out = Vec::new();
        let half: Vec<u8> = (0..64).map(|i| if i % 8 < 4 { 16 } else { 0 }).collect();
        enlarged(&half, &taps(8, 28), &mut out);
        assert_eq!(out[..28].iter().map(|&bit| usize::from(bit)).sum::<usize>(), 14);
    }

    #[test]
    fn splits_have_the_stated_sizes_and_hold_bits() {
        let data = BinaryDigitsConfig::default().load(&DataRoot("/nowhere".into())).unwrap();
        let (train, test) = (data.split(Split::Train), data.split(Split::Test));
        assert_eq!((train.len(), test.len(), train.shape()), (1197, 600, [1, 28, 28]));
        assert_eq!((train.value_range(), test.value_range()), ((0.0, 1.0), (0.0, 1.0)));
        let mut values = Vec::new();
        train.gather(&(0..train.len()).collect::<Vec<_>>(), &mut values);
        assert!(values.iter().all(|&bit| bit == 0.0 || bit == 1.0));
    }
}
