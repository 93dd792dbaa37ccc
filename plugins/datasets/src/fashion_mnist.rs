//! Fashion-MNIST, articles of clothing in the format of MNIST.

use ibhost_framework::dataset::{DataError, DataFile, DataRoot, Dataset, DatasetConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::idx_set::IdxSet;
use crate::scaling::GreyScale;
use crate::view::View;

/// The published files.
pub const FASHION_MNIST: IdxSet = IdxSet {
    name: "fashion_mnist",
    folder: "fashion-mnist",
    classes: ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"],
    mirrors: &["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"],
    published: [
        (26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
        (29_515, "25c81989df183df01b3e8a0aad5dffbe", "9018921c3c673c538a1fc5bad174d6f9"),
        (4_422_102, "bef4ecab320f06d8554ea6380940ec79", "8181f5470baa50b63fa0f6fddb340f0a"),
        (5_148, "bb300cfdad3c16e7a12a480ee83cd310", "15d484375f8d13e6eb1aabb0c3f46965"),
    ],
};

/// Fashion-MNIST: 70,000 articles of clothing, 28x28 grey, ten classes.
///
/// 60,000 training and 10,000 test images in the published order, read from the IDX files in the folder `fashion-mnist`, plain or
/// `.gz`, or where other programs put them (`FashionMNIST/raw`). Two forms of a file must hold the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FashionMnistConfig {
    /// How bytes become model inputs.
    pub scale: GreyScale,
    /// Which samples are used.
    #[serde(flatten)]
    pub view: View,
}

#[typetag::serde(name = "fashion_mnist")]
impl DatasetConfig for FashionMnistConfig {
    fn load(&self, root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
        Ok(Box::new(FASHION_MNIST.load(root, self.scale, &self.view)?))
    }

    fn files(&self) -> Vec<DataFile> {
        FASHION_MNIST.files()
    }
}

ibhost_framework::register! { Dataset: FashionMnistConfig as DatasetConfig, aliases: [], paper: "Xiao et al. 2017", example: "fashion_mnist/subset:10000" }

#[cfg(test)]
mod tests {
    use ibhost_framework::dataset::Split;

    use super::*;
    use crate::image::real_data;
    use crate::same::contents_md5;

    #[test]
    fn the_published_files_are_read_and_a_subset_is_drawn() {
        let Some(root) = real_data("fashion-mnist") else { return };
        let view = View { subset: Some(10_000), ..View::default() };
        let data = FashionMnistConfig { scale: GreyScale::Unit, view }.load(&root).unwrap();
        assert_eq!((data.split(Split::Train).len(), data.split(Split::Test).len()), (10_000, 10_000));
        assert_eq!(data.split(Split::Test).value_range(), (0.0, 1.0));
        let labels = data.split(Split::Test).labels();
        for class in 0..10 {
            assert_eq!((0..labels.len()).filter(|&i| labels[i] == class).count(), 1000);
        }
        assert_eq!(data.info().classes[9], "Ankle boot");
        for file in FASHION_MNIST.files() {
            assert_eq!(contents_md5(&root.join(&file.path)).ok(), file.contents, "{}", file.path);
        }
    }
}
