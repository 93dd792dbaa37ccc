//! Where data lives by default.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use ibhost_framework::component::ParameterKind;
use ibhost_framework::component::quoted::literal;
use ibhost_framework::dataset::DataRoot;
use ibhost_framework::registry::{Item, Kind, Registry};
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

/// The component string of the data set that `text` means: `text` itself, or the data set that reads paths where it is one. A path begins with
/// `/`, `./` or `../`, or else begins with no name of a data set and is there or has an ending.
pub fn as_dataset(text: &str) -> Result<String, Failure> {
    let registry = Registry::global().map_err(Failure::failed)?;
    let begins = ["/", "./", "../"].iter().any(|start| text.starts_with(start)) || matches!(text, "." | "..");
    let name = text.split('/').next().unwrap_or(text);
    let is_path = || Path::new(text).exists() || (name.contains('.') && !text.contains(':'));
    if !begins && (registry.get(Kind::Dataset, name).is_some() || !is_path()) {
        return Ok(text.to_owned());
    }
    let item = registry.items(Kind::Dataset).iter().find(|item| reads_paths(item));
    Ok(item.map_or_else(|| text.to_owned(), |item| format!("{}/path:{}", item.name, literal(text))))
}

/// Whether a data set reads the path that it is given.
pub fn reads_paths(item: &Item) -> bool {
    item.parameter("path").is_some_and(|parameter| parameter.kind == ParameterKind::Path)
}

/// `path` made absolute when the current folder is known.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
