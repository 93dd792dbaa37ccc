//! Data set `omniglot_chardata`: the 28x28 selection of Omniglot that generative models are compared on (Burda et al. 2015).

use std::sync::Arc;

use ibhost_framework::dataset::{DataError, DataFile, DataInfo, DataRoot, Dataset, DatasetConfig, Samples, Values};
use ibhost_framework::noise::Noise;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::file::Place;
use crate::image::ImageDataset;
use crate::locate::all_located;
use crate::mat::{MatArray, read_mat};
use crate::scaling::{GreyScale, to_scaling};
use crate::view::View;

const NAME: &str = "omniglot_chardata";
/// Side of an image.
const SIDE: usize = 28;
const FILE: &str = "omniglot/chardata.mat";
const MIRROR: &str = "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat";
/// Name of the file's content in the repository of the paper's authors, which publishes no other checksum.
const GIT_BLOB: &str = "016a3536ffe5e1d38e42563a18d7a78bfaf643ec";
/// Variables of the file: images and character numbers of both splits.
const VARIABLES: [&str; 4] = ["data", "targetchar", "testdata", "testtargetchar"];

/// Omniglot as `chardata.mat` has it: 24,345 grey 28x28 images to train on and 8,070 to test on, ink bright.
///
/// The selection of Burda et al. 2015 that the published image models use; grey values are stored as numbers from 0 to 1. Training images
/// and their labels are shuffled together, from a fixed stream. Labels are numbers of characters within their alphabets.
/// `binarised/of:omniglot_chardata|holdout:1345` is the published split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ChardataConfig {
    /// How grey values, as bytes, become model inputs.
    pub scale: GreyScale,
    /// Which samples are used.
    #[serde(flatten)]
    pub view: View,
}

#[typetag::serde(name = "omniglot_chardata")]
impl DatasetConfig for ChardataConfig {
    fn load(&self, root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
        let paths = all_located(NAME, &self.files(), root)?;
        let [path] = &paths[..] else {
            return Err(DataError::Inconsistent(format!("data set `{NAME}` has one file, not {}", paths.len())));
        };
        let place = Place::new(NAME, root, path);
        let arrays = read_mat(place, &VARIABLES)?;
        let [images, labels, test_images, test_labels] = <[MatArray; 4]>::try_from(arrays).map_err(|found| {
            DataError::Inconsistent(format!("data set `{NAME}`: {FILE} gave {} of {} variables", found.len(), VARIABLES.len()))
        })?;
        let (mut train, test) = (split(place, &images, &labels)?, split(place, &test_images, &test_labels)?);
        let order = Noise::new(0).stream("chardata order", 0).permutation(train.len());
        train = order.into_iter().map(|i| std::mem::take(&mut train[i])).collect();
        let most = train.iter().chain(&test).map(|(_, label)| *label).max().unwrap_or(0);
        let classes = (1..=u16::from(most) + 1).map(|character| character.to_string()).collect();
        let samples = |rows: Vec<(Vec<f32>, u8)>| {
            let (images, labels): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
            Samples::new(Values::F32(Arc::new(images.concat())), labels, [1, SIDE, SIDE], to_scaling(&[self.scale.affine()]))
        };
        let info = DataInfo { name: NAME.to_owned(), classes, shape: [1, SIDE, SIDE], note: None, class_entropy: None };
        Ok(Box::new(ImageDataset::new(info, samples(train)?, samples(test)?, &self.view)?))
    }

    fn files(&self) -> Vec<DataFile> {
        let (git_blob, mirrors) = (Some(GIT_BLOB.to_owned()), vec![MIRROR.to_owned()]);
        vec![DataFile { path: FILE.to_owned(), git_blob, mirrors, ..DataFile::default() }]
    }
}

ibhost_framework::register! {
    Dataset: ChardataConfig as DatasetConfig, aliases: [], paper: "Lake et al. 2015; Burda et al. 2015, arXiv:1509.00519",
    example: "omniglot_chardata/scale:unit"
}

/// Images as bytes would hold them, 0 to 255 though not whole, each with its character's number from 0.
fn split(place: Place<'_>, images: &MatArray, labels: &MatArray) -> Result<Vec<(Vec<f32>, u8)>, DataError> {
    let pixels = SIDE * SIDE;
    let wrong = |array: &MatArray, expected: String| {
        place.damaged(0, format!("`{}` of sizes {expected}", array.name), format!("sizes {:?}", array.dims))
    };
    if images.dims.len() != 2 || images.dims[0] != pixels {
        return Err(wrong(images, format!("[{pixels}, images]")));
    }
    if labels.len() != images.dims[1] {
        return Err(wrong(labels, format!("one character a column of `{}`, {}", images.name, images.dims[1])));
    }
    let one = |i: usize| {
        // Columns are images, whose own columns follow one another.
        let image: Vec<f32> = (0..pixels).map(|p| (255.0 * images.at(i * pixels + p % SIDE * SIDE + p / SIDE)) as f32).collect();
        let number = labels.at(i);
        if !image.iter().all(|v| (0.0..=255.0).contains(v)) {
            return Err(place.damaged(0, format!("grey values from 0 to 1 in `{}`", images.name), format!("others in image {i}")));
        }
        if number.fract() != 0.0 || !(1.0..=256.0).contains(&number) {
            let expected = format!("whole numbers from 1 to 256 in `{}`", labels.name);
            return Err(place.damaged(0, expected, format!("{number} at {i}")));
        }
        Ok((image, (number - 1.0) as u8))
    };
    (0..images.dims[1]).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::real_data;
    use crate::mat::write;
    use ibhost_framework::dataset::Split;

    fn doubles(values: impl Iterator<Item = f64>) -> Vec<u8> {
        values.flat_map(f64::to_le_bytes).collect()
    }

    /// A file of `train` and `test` images; image i has the value (i + 1) / 100 in row 2, column 5, and the character i % 7 + 1.
    fn folder(train: usize, test: usize, character: f64) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("omniglot")).unwrap();
        let images = |name: &str, n: usize| {
            let values = (0..n * 784).map(|i| if i % 784 == 5 * 28 + 2 { (i / 784 + 1) as f64 / 100.0 } else { 0.0 });
            write::compressed(&write::matrix(6, name, &[784, n as i32], write::DOUBLE, &doubles(values)))
        };
        let characters = |name: &str, n: usize| {
            let values = (0..n).map(|i| if i == 0 { character } else { (i % 7 + 1) as f64 });
            write::matrix(6, name, &[1, n as i32], write::DOUBLE, &doubles(values))
        };
        let variables =
            [images("data", train), characters("targetchar", train), images("testdata", test), characters("testtargetchar", test)];
        std::fs::write(folder.path().join(FILE), write::file(&variables)).unwrap();
        folder
    }

    fn load_from(folder: &tempfile::TempDir) -> Result<Box<dyn Dataset>, DataError> {
        ChardataConfig { scale: GreyScale::Unit, ..ChardataConfig::default() }.load(&DataRoot(folder.path().to_owned()))
    }

    #[test]
    fn images_are_turned_upright_and_shuffled_with_their_labels() {
        let data = load_from(&folder(40, 9, 1.0)).unwrap();
        assert_eq!((data.split(Split::Train).len(), data.split(Split::Test).len(), data.info().classes.len()), (40, 9, 7));
        for split in [Split::Train, Split::Test] {
            let samples = data.split(split);
            let mut values = Vec::new();
            samples.gather(&(0..samples.len()).collect::<Vec<_>>(), &mut values);
            let mut numbers = Vec::new();
            for (i, image) in values.chunks_exact(784).enumerate() {
                assert!(image.iter().enumerate().all(|(p, v)| (*v > 0.0) == (p == 2 * 28 + 5)));
                let number = (image[2 * 28 + 5] * 100.0).round() as usize - 1;
                assert_eq!(usize::from(samples.label(i)), number % 7, "a label stays with its image");
                numbers.push(number);
            }
            assert_eq!(numbers.is_sorted(), split == Split::Test);
        }
    }

    #[test]
    fn labels_and_sizes_that_do_not_fit_are_refused() {
        let error = load_from(&folder(3, 2, 0.5)).unwrap_err().to_string();
        assert!(
            error.contains("whole numbers") && error.contains("0.5 at 0") && error.contains("ibhost data fetch omniglot_chardata"),
            "{error}"
        );
        assert!(load_from(&folder(3, 2, 300.0)).unwrap_err().to_string().contains("targetchar"));
        assert!(load_from(&tempfile::tempdir().unwrap()).unwrap_err().to_string().contains("chardata.mat"));
    }

    #[test]
    fn the_published_file_is_read_where_it_is() {
        let Some(root) = real_data("omniglot") else { return };
        if !root.join(FILE).is_file() {
            println!("skipped: there is no {}", root.join(FILE).display());
            return;
        }
        let data = ChardataConfig::default().load(&root).unwrap();
        assert_eq!((data.info().classes.len(), data.split(Split::Train).len(), data.split(Split::Test).len()), (55, 24_345, 8_070));
    }
}
