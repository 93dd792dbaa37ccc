//! Opening the files of data sets below their root.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use ibhost_framework::dataset::{DataError, DataRoot};

/// The file at `path` of data set `name` and its length in bytes.
///
/// # Errors
/// [`DataError::Missing`] or [`DataError::Io`].
pub(crate) fn open(name: &str, root: &DataRoot, path: &Path) -> Result<(File, u64), DataError> {
    let file = File::open(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => DataError::Missing { name: name.to_owned(), path: path.to_owned(), root: root.0.clone() },
        _ => DataError::Io { action: "open", path: path.to_owned(), source },
    })?;
    let length = file.metadata().map_err(unread(path))?.len();
    Ok((file, length))
}

/// Makes the error of reading `path` out of what the system says.
pub(crate) fn unread(path: &Path) -> impl FnOnce(io::Error) -> DataError + use<> {
    let path: PathBuf = path.to_owned();
    move |source| DataError::Io { action: "read", path, source }
}
