//! Results on disk: whole files below the run directory, written atomically, folders made on the way.

use std::path::{Path, PathBuf};

use ibhost_framework::analysis::AnalysisError;
use ibhost_framework::storage::{create_folders, write_atomic};

use crate::plot::PlotError;

/// Writes `bytes` to `relative` below `run_dir` and returns the path.
///
/// # Errors
/// [`AnalysisError::Storage`] naming the path that cannot be written.
pub fn write(run_dir: &Path, relative: &str, bytes: &[u8]) -> Result<PathBuf, AnalysisError> {
    let path = run_dir.join(relative);
    if let Some(folder) = path.parent() {
        create_folders(folder)?;
    }
    write_atomic(&path, bytes)?;
    Ok(path)
}

/// Writes a picture that may have failed to draw.
///
/// # Errors
/// [`AnalysisError::Plot`] when it failed to draw, [`AnalysisError::Storage`] when it cannot be written.
pub fn picture(run_dir: &Path, relative: &str, drawn: Result<Vec<u8>, PlotError>) -> Result<PathBuf, AnalysisError> {
    let failed = |e: PlotError| AnalysisError::Plot { path: run_dir.join(relative).display().to_string(), reason: e.to_string() };
    write(run_dir, relative, &drawn.map_err(failed)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_and_failures_name_the_file() {
        let run = tempfile::tempdir().unwrap();
        let path = write(run.path(), "plots/a.txt", b"x").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
        let error = picture(run.path(), "plots/b.png", Err(PlotError("no room".to_owned()))).unwrap_err().to_string();
        assert!(error.contains("b.png") && error.contains("no room"), "{error}");
        assert!(write(run.path(), "plots/a.txt/inside", b"x").is_err());
    }
}
