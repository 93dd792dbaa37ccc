//! MNIST, the handwritten digits of NIST.

use ibhost_framework::dataset::{DataError, DataFile, DataRoot, Dataset, DatasetConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::idx_set::IdxSet;
use crate::scaling::GreyScale;
use crate::view::View;

/// The published files.
pub const MNIST: IdxSet = IdxSet {
    name: "mnist",
    folder: "mnist",
    classes: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    mirrors: &["https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"],
    published: [
        (9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"),
        (28_881, "d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"),
        (1_648_877, "9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"),
        (4_542, "ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"),
    ],
};

/// MNIST: 70,000 handwritten digits, 28x28 grey, ten classes.
///
/// 60,000 training and 10,000 test images in the published order, read from the IDX files in the folder `mnist`, plain or `.gz`, or where
/// other programs put them (`MNIST/raw`, `train-images.idx3-ubyte`). Two forms of a file must hold the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MnistConfig {
    /// How bytes become model inputs.
    pub scale: GreyScale,
    /// Which samples are used.
    #[serde(flatten)]
    pub view: View,
}

#[typetag::serde(name = "mnist")]
impl DatasetConfig for MnistConfig {
    fn load(&self, root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
        Ok(Box::new(MNIST.load(root, self.scale, &self.view)?))
    }

    fn files(&self) -> Vec<DataFile> {
        MNIST.files()
    }
}

ibhost_framework::register! { Dataset: MnistConfig as DatasetConfig, aliases: [], paper: "LeCun et al. 1998", example: "mnist/scale:unit" }

#[cfg(test)]
mod tests {
    use ibhost_framework::dataset::Split;

    use super::*;
    use crate::image::real_data;
    use crate::kfold::stratified_folds;
    use crate::same::contents_md5;
    use crate::verify::{Verdict, verify};

    #[test]
    fn the_published_files_are_read() {
        let Some(root) = real_data("mnist") else { return };
        let data = MnistConfig::default().load(&root).unwrap();
        let (train, test) = (data.split(Split::Train), data.split(Split::Test));
        assert_eq!((train.len(), test.len(), train.shape()), (60_000, 10_000, [1, 28, 28]));
        assert_eq!(train.value_range(), (-1.0, 1.0));
        let mut counts = [0; 10];
        for label in train.labels() {
            counts[usize::from(label)] += 1;
        }
        assert_eq!(counts, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]);
        let mut values = Vec::new();
        train.gather(&(0..train.len()).collect::<Vec<_>>(), &mut values);
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / values.len() as f64;
        assert!((0.5 * mean + 0.5 - 0.1307).abs() < 1e-4, "mean {mean}");
        assert!(verify(&MNIST.files(), &root.0).iter().all(|(_, verdict)| *verdict == Verdict::Ok));
        for file in MNIST.files() {
            assert_eq!(contents_md5(&root.join(&file.path)).ok(), file.contents, "{}", file.path);
        }
    }

    #[test]
    fn folds_equal_the_published_ones() {
        let Some(root) = real_data("mnist") else { return };
        let labels = MnistConfig::default().load(&root).unwrap().split(Split::Train).labels();
        let folds = stratified_folds(&labels, 5);
        let sums: Vec<usize> = folds.iter().map(|fold| fold.iter().sum()).collect();
        assert_eq!(sums, [72_022_583, 216_002_910, 360_022_729, 503_975_915, 647_945_863]);
        assert_eq!(folds[1][..5], [11_763, 11_766, 11_768, 11_771, 11_778]);
        assert_eq!(folds[3][11_995..], [48_308, 48_315, 48_333, 48_341, 48_343]);
        let view = View { folds: Some(5), fold: 4, ..View::default() };
        let data = MnistConfig { scale: GreyScale::X128, view }.load(&root).unwrap();
        assert_eq!((data.split(Split::Train).len(), data.split(Split::Test).len()), (48_000, 12_000));
        assert_eq!(data.official_test().map(ibhost_framework::dataset::Samples::len), Some(10_000));
    }

    #[test]
    fn a_missing_folder_names_the_fetch_command() {
        let folder = tempfile::tempdir().unwrap();
        let error = MnistConfig::default().load(&DataRoot(folder.path().to_owned())).unwrap_err();
        assert!(error.to_string().contains("ibhost data fetch mnist"), "{error}");
    }
}
