//! SVHN, the house numbers of street view photographs.

use std::path::Path;
use std::sync::Arc;

use ibhost_framework::dataset::{DataError, DataFile, DataInfo, DataRoot, Dataset, DatasetConfig, Samples, Values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::file::Place;
use crate::image::{ImageDataset, names};
use crate::locate::all_located;
use crate::mat::{MatValues, read_mat};
use crate::scaling::{symmetric, to_scaling, unit};
use crate::view::View;

const NAME: &str = "svhn";
const SIZE: usize = 32;
const CHANNELS: usize = 3;
const MIRROR: &str = "http://ufldl.stanford.edu/housenumbers/";
/// Name, size in bytes and published md5 of the training and the test file.
const PUBLISHED: [(&str, u64, &str); 2] = [
    ("train_32x32.mat", 182_040_794, "e26dedcc434d2e4c54c9b2d4a06d8373"),
    ("test_32x32.mat", 64_275_384, "eb5a983be6a315427106f1b164d9cef3"),
];

/// Scaling of the photographs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SvhnScale {
    /// `x / 255`, range 0..1.
    #[default]
    Unit,
    /// `2 x / 255 - 1`, range -1..1.
    Symmetric,
}

/// SVHN: 99,289 cropped house numbers, 32x32 colour, ten classes.
///
/// 73,257 training and 26,032 test images in the published order, read from `train_32x32.mat` and `test_32x32.mat` in the folder `svhn`;
/// the digit 0, which the files call class 10, is class 0. The extra training images are not used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SvhnConfig {
    /// How bytes become model inputs.
    pub scale: SvhnScale,
    /// Which samples are used.
    #[serde(flatten)]
    pub view: View,
}

#[typetag::serde(name = "svhn")]
impl DatasetConfig for SvhnConfig {
    fn load(&self, root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
        let paths = all_located(NAME, &self.files(), root)?;
        let [train, test] = [0, 1].map(|file| self.samples(root, &paths[file]));
        let classes = names(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
        let info = DataInfo { name: NAME.to_owned(), classes, shape: [CHANNELS, SIZE, SIZE], note: None, class_entropy: None };
        Ok(Box::new(ImageDataset::new(info, train?, test?, &self.view)?))
    }

    fn files(&self) -> Vec<DataFile> {
        let file = |(file, bytes, md5): &(&str, u64, &str)| DataFile {
            path: in_folder(file),
            bytes: Some(*bytes),
            md5: Some((*md5).to_owned()),
            mirrors: vec![format!("{MIRROR}{file}")],
            ..DataFile::default()
        };
        PUBLISHED.iter().map(file).collect()
    }
}

impl SvhnConfig {
    fn samples(&self, root: &DataRoot, path: &Path) -> Result<Samples, DataError> {
        let place = Place::new(NAME, root, path);
        let mut arrays = read_mat(place, &["X", "y"])?.into_iter();
        let (Some(images), Some(labels)) = (arrays.next(), arrays.next()) else {
            return Err(DataError::Inconsistent(format!("`{}` gave no arrays", path.display())));
        };
        // A last dimension of size 1 is not written.
        let count = images.len() / (CHANNELS * SIZE * SIZE);
        let (MatValues::U8(pixels), true) = (&images.values, images.dims[..].starts_with(&[SIZE, SIZE, CHANNELS])) else {
            let expected = format!("bytes of {SIZE} x {SIZE} x {CHANNELS} x images in `X`");
            let found =
                format!("{} values of sizes {:?}", if matches!(images.values, MatValues::U8(_)) { "byte" } else { "other" }, images.dims);
            return Err(place.damaged(0, expected, found));
        };
        if labels.len() != count {
            return Err(place.damaged(0, format!("{count} labels in `y`, one for each image"), labels.len().to_string()));
        }
        let mut classes = Vec::with_capacity(count);
        for at in 0..count {
            match labels.at(at) {
                label if (1.0..=10.0).contains(&label) && label.fract() == 0.0 => classes.push((label as u8) % 10),
                label => return Err(place.damaged(0, "labels from 1 to 10 in `y`", label.to_string())),
            }
        }
        let map = match self.scale {
            SvhnScale::Unit => unit(255.0),
            SvhnScale::Symmetric => symmetric(255.0),
        };
        Samples::new(Values::U8(Arc::new(channels_first(pixels))), classes, [CHANNELS, SIZE, SIZE], to_scaling(&[map; CHANNELS]))
    }
}

/// Images stored row index first, `[row, column, channel, image]`, as `[image, channel, row, column]` with columns next to each other.
fn channels_first(pixels: &[u8]) -> Vec<u8> {
    let mut out = vec![0; pixels.len()];
    for (plane, target) in pixels.chunks_exact(SIZE * SIZE).zip(out.chunks_exact_mut(SIZE * SIZE)) {
        for (column, pixels) in plane.chunks_exact(SIZE).enumerate() {
            pixels.iter().enumerate().for_each(|(row, &pixel)| target[row * SIZE + column] = pixel);
        }
    }
    out
}

fn in_folder(file: &str) -> String {
    format!("svhn/{file}")
}

ibhost_framework::register! { Dataset: SvhnConfig as DatasetConfig, aliases: [], paper: "Netzer et al. 2011", example: "svhn/scale:symmetric" }

#[cfg(test)]
mod tests {
    use std::fs;

    use ibhost_framework::dataset::Split;

    use super::*;
    use crate::image::real_data;
    use crate::mat::write;

    /// The pixel of an image at a channel, row and column.
    fn pixel(image: usize, channel: usize, row: usize, column: usize) -> u8 {
        ((image * 97 + channel * 71 + row * 5 + column * 3) % 256) as u8
    }

    fn folder(count: usize, labels: &[u8]) -> tempfile::TempDir {
        let mut pixels = Vec::new();
        for image in 0..count {
            for channel in 0..3 {
                for column in 0..32 {
                    pixels.extend((0..32).map(|row| pixel(image, channel, row, column)));
                }
            }
        }
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("svhn")).unwrap();
        let images = write::matrix(9, "X", &[32, 32, 3, count as i32], write::UINT8, &pixels);
        let labels = write::matrix(9, "y", &[labels.len() as i32, 1], write::UINT8, labels);
        let bytes = write::file(&[write::compressed(&images), write::compressed(&labels)]);
        for (file, ..) in PUBLISHED {
            fs::write(folder.path().join(in_folder(file)), &bytes).unwrap();
        }
        folder
    }

    #[test]
    fn images_stand_upright_and_ten_is_zero() {
        let folder = folder(3, &[10, 1, 9]);
        let data = SvhnConfig::default().load(&DataRoot(folder.path().to_owned())).unwrap();
        let test = data.split(Split::Test);
        assert_eq!((test.len(), test.shape(), test.labels()), (3, [3, 32, 32], vec![0, 1, 9]));
        let mut values = Vec::new();
        test.gather(&[2], &mut values);
        for (channel, row, column) in [(0, 0, 0), (1, 4, 31), (2, 31, 7)] {
            let expected = f32::from(pixel(2, channel, row, column)) / 255.0;
            assert!((values[channel * 1024 + row * 32 + column] - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn labels_that_do_not_fit_are_refused() {
        for (labels, part) in [(&[1, 2][..], "2 labels in `y`"), (&[1, 11, 2], "labels from 1 to 10"), (&[0, 1, 2], "labels from 1 to 10")]
        {
            let folder = folder(if labels.len() == 2 { 2 } else { 3 }, labels);
            if labels.len() == 2 {
                let three = write::matrix(9, "y", &[1, 3], write::UINT8, &[1, 2, 3]);
                let images = write::matrix(9, "X", &[32, 32, 3, 2], write::UINT8, &[0; 2 * 3072]);
                fs::write(folder.path().join(in_folder("train_32x32.mat")), write::file(&[images, three])).unwrap();
            }
            let error = SvhnConfig::default().load(&DataRoot(folder.path().to_owned())).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_published_files_are_read() {
        let Some(root) = real_data("svhn") else { return };
        let data = SvhnConfig::default().load(&root).unwrap();
        let test = data.split(Split::Test);
        assert_eq!((data.split(Split::Train).len(), test.len()), (73_257, 26_032));
        let mut counts = [0; 10];
        test.labels().into_iter().for_each(|label| counts[usize::from(label)] += 1);
        assert_eq!(counts, [1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595]);
    }
}
