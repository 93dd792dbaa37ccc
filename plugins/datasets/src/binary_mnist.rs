//! Data set `binary_mnist`: MNIST with every pixel rounded to black or white.

use std::sync::Arc;

use ibhost_framework::dataset::{DataError, DataFile, DataRoot, Dataset, DatasetConfig, Samples, Scaling, Split, Values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::image::ImageDataset;
use crate::mnist::MNIST;
use crate::scaling::GreyScale;
use crate::view::View;

/// 1 for the upper half of the grey levels, 0 for the lower.
pub fn rounded(level: u8) -> u8 {
    u8::from(level >= 128)
}

/// Binary MNIST: MNIST with each pixel rounded, x = 1 where the grey level is at least 128 of 255, in both splits.
///
/// The same pixels in every epoch, unlike `binarised/of:mnist`, which draws them. The files are those of `mnist`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BinaryMnistConfig {
    /// Which samples are used.
    #[serde(flatten)]
    pub view: View,
}

#[typetag::serde(name = "binary_mnist")]
impl DatasetConfig for BinaryMnistConfig {
    fn load(&self, root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
        let grey = MNIST.load(root, GreyScale::Unit, &View::default())?;
        let mut info = grey.info().clone();
        "binary_mnist".clone_into(&mut info.name);
        let binary = |split| {
            let levels: &Samples = grey.split(split);
            let mut values = Vec::new();
            levels.gather(&(0..levels.len()).collect::<Vec<_>>(), &mut values);
            let bits = values.iter().map(|&x| rounded((x * 255.0).round() as u8)).collect();
            Samples::new(Values::U8(Arc::new(bits)), levels.labels(), levels.shape(), Scaling::uniform(1, 1.0, 0.0))
        };
        Ok(Box::new(ImageDataset::new(info, binary(Split::Train)?, binary(Split::Test)?, &self.view)?))
    }

    fn files(&self) -> Vec<DataFile> {
        MNIST.files()
    }
}

ibhost_framework::register! {
    Dataset: BinaryMnistConfig as DatasetConfig, aliases: [], paper: "Xiao & Bamler 2023, arXiv:2302.04855", example: "binary_mnist/first:1000"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::real_data;

    #[test]
    fn the_middle_of_the_grey_levels_decides() {
        assert_eq!([0, 127, 128, 255].map(rounded), [0, 0, 1, 1]);
    }

    #[test]
    fn pixels_are_bits_of_the_published_images() {
        let Some(root) = real_data("mnist") else { return };
        let data = BinaryMnistConfig { view: View { first: Some(100), ..View::default() } }.load(&root).unwrap();
        let grey = MNIST.load(&root, GreyScale::Unit, &View::default()).unwrap();
        let (mut bits, mut levels) = (Vec::new(), Vec::new());
        data.split(Split::Test).gather(&[4321], &mut bits);
        grey.split(Split::Test).gather(&[4321], &mut levels);
        assert!(bits.iter().zip(&levels).all(|(&bit, &level)| bit == f32::from(u8::from(level > 0.5))));
        assert_eq!(
            (data.split(Split::Train).len(), data.split(Split::Test).len(), data.info().name.as_str()),
            (100, 10_000, "binary_mnist")
        );
    }
}
