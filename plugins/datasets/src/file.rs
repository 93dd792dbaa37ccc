//! A file of a data set: opening it, and the errors that name it.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use ibhost_framework::dataset::{DataError, DataRoot};

/// A file of a data set below its root.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Name of the data set, which `ibhost data fetch` knows.
    pub name: &'a str,
    /// The data folder.
    pub root: &'a DataRoot,
    /// The file, not relative to the root.
    pub path: &'a Path,
}

impl<'a> Place<'a> {
    /// The file `path` of data set `name`, which is kept below `root`.
    pub fn new(name: &'a str, root: &'a DataRoot, path: &'a Path) -> Self {
        Self { name, root, path }
    }

    /// The file and its length in bytes.
    ///
    /// # Errors
    /// [`DataError::Missing`] or [`DataError::Io`].
    pub(crate) fn open(self) -> Result<(File, u64), DataError> {
        let file = File::open(self.path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => DataError::Missing {
                name: self.name.to_owned(),
                path: self.path.to_owned(),
                root: self.root.0.clone(),
                there: String::new(),
            },
            _ => DataError::Io { action: "open", path: self.path.to_owned(), source },
        })?;
        let length = file.metadata().map_err(self.unread())?.len();
        Ok((file, length))
    }

    /// Makes the error of reading the file out of what the system says.
    pub(crate) fn unread(self) -> impl FnOnce(io::Error) -> DataError + use<> {
        let path: PathBuf = self.path.to_owned();
        move |source| DataError::Io { action: "read", path, source }
    }

    /// The error of a file that is not what its format promises.
    pub(crate) fn damaged(self, offset: u64, expected: impl Into<String>, found: impl Into<String>) -> DataError {
        DataError::Damaged {
            name: self.name.into(),
            root: self.root.0.clone(),
            path: self.path.to_owned(),
            offset,
            expected: expected.into(),
            found: found.into(),
        }
    }
}
