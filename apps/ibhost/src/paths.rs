//! Where data lives by default.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use ibhost_framework::dataset::DataRoot;

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

/// Text of `path` for messages and tables: on one line, with what would steer a terminal and what is no text shown as escapes.
pub fn show(path: &Path) -> String {
    let mut shown = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        shown.push_str(&one_line(chunk.valid()));
        shown.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    shown
}

/// Refuses to write to `path` where that lies in the folder of a run: looking at runs changes none.
pub fn outside_of_runs(path: &Path) -> Result<(), Failure> {
    let absolute = absolute(path);
    // What is to be created does not exist yet.
    let there = absolute.ancestors().find_map(|ancestor| ancestor.canonicalize().ok());
    match there.iter().flat_map(|path| path.ancestors()).find(|ancestor| ancestor.join(".run.json").exists()) {
        Some(run) => Err(Failure::usage(format!(
            "`{}` lies in the run `{}`, whose files would no longer be what the run wrote\n  hint: name a place outside of runs",
            show(path),
            show(run)
        ))),
        None => Ok(()),
    }
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

    #[test]
    fn nothing_is_written_into_runs() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run/plots");
        std::fs::create_dir_all(&run).unwrap();
        assert!(outside_of_runs(&run.join("new/page.html")).is_ok());
        std::fs::write(folder.path().join("run/.run.json"), "").unwrap();
        for inside in ["run/page.html", "run/plots/new/page.html", "run/plots/../page.html"] {
            assert!(outside_of_runs(&folder.path().join(inside)).unwrap_err().to_string().contains("lies in the run"), "{inside}");
        }
        assert!(outside_of_runs(&folder.path().join("page.html")).is_ok());
    }
}
