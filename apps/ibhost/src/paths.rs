//! Where data lives by default.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use ibhost_framework::component::ParameterKind;
use ibhost_framework::component::quoted::literal;
use ibhost_framework::dataset::DataRoot;
use ibhost_framework::registry::{Item, Kind, Registry};
use ibhost_framework::storage::path_text;

use crate::cli::DataDir;
use crate::exit::Failure;
use crate::text::one_line;

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

/// Text of `path` for messages and tables: on one line, with what would steer a terminal and what is no text shown as escapes.
pub fn show(path: &Path) -> String {
    one_line(&path_text(path)).into_owned()
}

/// `path` made absolute when the current folder is known.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_text_or_steer_a_terminal_are_shown_as_escapes() {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::OsStr::from_bytes(b"runs/\x1b[31m\xff\n\xc3\xa9");
        assert_eq!(show(Path::new(name)), "runs/\\u001b[31m\\xff\\n\u{e9}");
    }
}
