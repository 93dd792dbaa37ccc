//! What MNIST and Fashion-MNIST share: four IDX files of 28x28 grey images in ten classes.

use std::path::Path;
use std::sync::Arc;

use ibhost_framework::dataset::{DataError, DataFile, DataInfo, DataRoot, Samples, Values};

use crate::file::Place;
use crate::idx;
use crate::image::{ImageDataset, names};
use crate::locate::all_located;
use crate::scaling::{GreyScale, to_scaling};
use crate::view::View;

/// A published set of four IDX files.
#[derive(Clone, Copy, Debug)]
pub struct IdxSet {
    /// Registered name.
    pub name: &'static str,
    /// Folder below the data root.
    pub folder: &'static str,
    /// Class names in label order.
    pub classes: [&'static str; 10],
    /// Addresses of the folder at the mirrors, each ending in `/`.
    pub mirrors: &'static [&'static str],
    /// Bytes and md5 of the `.gz` files and md5 of what they hold, in the order of [`FILES`].
    pub published: [(u64, &'static str, &'static str); 4],
}

/// File names without `.gz`: training images and labels, test images and labels.
pub const FILES: [&str; 4] = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

impl IdxSet {
    /// The files to fetch and verify.
    pub fn files(&self) -> Vec<DataFile> {
        FILES
            .iter()
            .zip(self.published)
            .map(|(file, (bytes, md5, contents))| DataFile {
                path: format!("{}/{file}.gz", self.folder),
                bytes: Some(bytes),
                md5: Some(md5.to_owned()),
                contents: Some(contents.to_owned()),
                mirrors: self.mirrors.iter().map(|mirror| format!("{mirror}{file}.gz")).collect(),
                ..DataFile::default()
            })
            .collect()
    }

    /// Reads both splits below `root`.
    ///
    /// # Errors
    /// [`DataError`] naming the missing or damaged file, or the view that asks for too much.
    pub fn load(&self, root: &DataRoot, scale: GreyScale, view: &View) -> Result<ImageDataset, DataError> {
        let paths = all_located(self.name, &self.files(), root)?;
        let split = |images: usize| self.split(root, &paths[images], &paths[images + 1], scale);
        let (train, test) = rayon::join(|| split(0), || split(2));
        let (train, test) = (train?, test?);
        let info =
            DataInfo { name: self.name.to_owned(), classes: names(&self.classes), shape: [1, 28, 28], note: None, class_entropy: None };
        ImageDataset::new(info, train, test, view)
    }

    fn split(&self, root: &DataRoot, images: &Path, labels: &Path, scale: GreyScale) -> Result<Samples, DataError> {
        let place = |path| Place::new(self.name, root, path);
        let read = idx::read_pair(place(images), place(labels), [28, 28], 10)?;
        if read.labels.is_empty() {
            return Err(DataError::Inconsistent(format!("data set `{}`: `{}` holds no image", self.name, images.display())));
        }
        Samples::new(Values::U8(Arc::new(read.pixels)), read.labels, [1, 28, 28], to_scaling(&[scale.affine()]))
    }
}
