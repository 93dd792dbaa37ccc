//! Where data lives by default.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use ibhost_framework::dataset::DataRoot;
pub use ibhost_framework::text::show;

use crate::cli::DataDir;
use crate::exit::Failure;

/// The data folder: the flag or environment variable, else `ibhost` below the platform's cache folder.
pub fn data_root(arguments: &DataDir) -> Result<DataRoot, Failure> {
    if let Some(folder) = &arguments.data_dir {
        return Ok(DataRoot(folder.clone()));
    }
    let base = etcetera::choose_base_strategy()
        .map_err(|_| Failure::usage("the home folder is unknown, so there is no default data folder\n  hint: give one with --data-dir"))?;
    Ok(DataRoot(base.cache_dir().join("ibhost")))
}

/// `path` made absolute when the current folder is known.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
