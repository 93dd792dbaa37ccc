//! CIFAR-10, small colour photographs.

use std::path::PathBuf;
use std::sync::Arc;

use ibhost_framework::dataset::{DataError, DataFile, DataInfo, DataRoot, Dataset, DatasetConfig, Samples, Split, Values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::augmentation::ShiftAndFlip;
use crate::cifar::{IMAGE_BYTES, RECORD_BYTES, RECORDS, Records, read_batch};
use crate::crop::CropAndFlip;
use crate::file::Place;
use crate::image::{ImageDataset, names};
use crate::locate::{located, missing};
use crate::scaling::{ColourScale, to_scaling};
use crate::view::View;

/// Class names in label order.
pub const CLASSES: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

const FOLDER: &str = "cifar-10-batches-bin";
const TEST_BATCH: &str = "test_batch.bin";
const ARCHIVE: &str = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz";
const TRAIN_BATCHES: usize = 5;

/// Name in the folder and published md5 of the training batches, then of the test batch.
const PUBLISHED: [(&str, &str); TRAIN_BATCHES + 1] = [
    ("data_batch_1.bin", "5dd7e06a14cb22eb9f671a540d1b7c25"),
    ("data_batch_2.bin", "5ea93a67294ea407fff1d09f752e9692"),
    ("data_batch_3.bin", "942cd6a4bcdd0dd3c604fbe906cb4421"),
    ("data_batch_4.bin", "ae636b3ba5c66a11e91e8cb52e771fcb"),
    ("data_batch_5.bin", "53f37980c15c3d472c316c40844f3f0d"),
    (TEST_BATCH, "803d5f7f4d78ea53de84dbe85f74fb6d"),
];

/// CIFAR-10: 60,000 photographs, 32x32 colour, ten classes.
///
/// 50,000 training and 10,000 test images in the published order, read from the binary version in the folder
/// `cifar-10-batches-bin`. Any one of the five training batches is enough; how many images were found is said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Cifar10Config {
    /// How bytes become model inputs.
    pub scale: ColourScale,
    /// Shift training images by up to a tenth of their size and mirror half of them.
    pub augment: bool,
    /// Pad training images by N black pixels on each side, cut them at a random place to their own size and mirror half of them; not
    /// together with `augment`.
    #[schemars(range(min = 1, max = 32))]
    pub crop: Option<usize>,
    /// Which samples are used.
    #[serde(flatten)]
    pub view: View,
}

#[typetag::serde(name = "cifar10")]
impl DatasetConfig for Cifar10Config {
    fn load(&self, root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
        let files = self.files();
        let mut paths = located("cifar10", &files, root)?;
        let test_path = paths.pop().flatten();
        let there: Vec<PathBuf> = paths.into_iter().flatten().collect();
        let mut train = Records::default();
        for path in &there {
            read_batch(Place::new("cifar10", root, path), RECORDS, &mut train)?;
        }
        if there.is_empty() {
            return Err(missing("cifar10", &files[0], root));
        }
        let test_path = test_path.ok_or_else(|| missing("cifar10", &files[TRAIN_BATCHES], root))?;
        let mut test = Records::default();
        read_batch(Place::new("cifar10", root, &test_path), RECORDS, &mut test)?;
        let note = (there.len() < TRAIN_BATCHES)
            .then(|| format!("{},000 of 50,000 training images ({} of 5 batches)", 10 * there.len(), there.len()));
        let info = DataInfo { name: "cifar10".to_owned(), classes: names(&CLASSES), shape: [3, 32, 32], note, class_entropy: None };
        let data = ImageDataset::new(info, self.samples(train)?, self.samples(test)?, &self.view)?;
        Ok(Box::new(match (self.augment, self.crop) {
            (false, None) => data,
            (true, None) => data.augmented(ShiftAndFlip),
            (false, Some(padding)) => {
                let blank = data.split(Split::Train).scaling().offset.clone();
                data.augmented(CropAndFlip { padding, blank })
            }
            (true, Some(_)) => {
                return Err(DataError::Inconsistent(
                    "data set `cifar10`: `augment:true` and `crop` are two ways of changing the training images; choose one".to_owned(),
                ));
            }
        }))
    }

    fn files(&self) -> Vec<DataFile> {
        PUBLISHED
            .iter()
            .map(|(file, md5)| DataFile {
                path: in_folder(file),
                bytes: Some((RECORDS * RECORD_BYTES) as u64),
                md5: Some((*md5).to_owned()),
                mirrors: vec![ARCHIVE.to_owned()],
                archive_member: Some(in_folder(file)),
                // Loading needs one training batch; the first stands for it.
                optional: *file != TEST_BATCH && *file != PUBLISHED[0].0,
                ..DataFile::default()
            })
            .collect()
    }
}

impl Cifar10Config {
    fn samples(&self, records: Records) -> Result<Samples, DataError> {
        debug_assert_eq!(records.pixels.len(), records.labels.len() * IMAGE_BYTES);
        Samples::new(Values::U8(Arc::new(records.pixels)), records.labels, [3, 32, 32], to_scaling(&self.scale.affine()))
    }
}

fn in_folder(file: &str) -> String {
    format!("{FOLDER}/{file}")
}

ibhost_framework::register! { Dataset: Cifar10Config as DatasetConfig, aliases: [], paper: "Krizhevsky 2009", example: "cifar10/augment:true" }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::real_data;

    #[test]
    fn a_partial_set_says_what_was_found() {
        let Some(root) = real_data(FOLDER) else { return };
        let there = (1..=5).filter(|i| root.join(format!("{FOLDER}/data_batch_{i}.bin")).exists()).count();
        let data = Cifar10Config { augment: true, ..Cifar10Config::default() }.load(&root).unwrap();
        assert_eq!((data.split(Split::Train).len(), data.split(Split::Test).len()), (there * RECORDS, RECORDS));
        if there == 1 {
            assert_eq!(data.info().note.as_deref(), Some("10,000 of 50,000 training images (1 of 5 batches)"));
        }
        assert!(data.augmentation().is_some());
        let mut first = Vec::new();
        data.split(Split::Train).gather(&[0], &mut first);
        // First pixel of the first training image is (59, 62, 63), a frog.
        let scaling = data.split(Split::Train).scaling();
        for (channel, raw) in [59.0, 62.0, 63.0].into_iter().enumerate() {
            assert!((first[channel * 1024] - (raw * scaling.gain[channel] + scaling.offset[channel])).abs() < 1e-6);
        }
        assert_eq!(data.split(Split::Train).label(0), 6);
    }

    #[test]
    fn no_batch_at_all_is_a_missing_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = Cifar10Config::default().load(&DataRoot(folder.path().to_owned())).unwrap_err();
        assert!(matches!(&error, DataError::Missing { path, .. } if path.ends_with("data_batch_1.bin")), "{error}");
    }

    #[test]
    fn six_files_come_from_one_archive() {
        let files = Cifar10Config::default().files();
        assert_eq!(files.len(), 6);
        assert!(files.iter().all(|file| file.mirrors == [ARCHIVE] && file.archive_member.as_ref() == Some(&file.path)));
        assert_eq!(files.iter().filter(|file| !file.optional).count(), 2);
    }
}
