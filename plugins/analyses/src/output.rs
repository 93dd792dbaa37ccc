//! Results on disk: whole files below the folder of results, written atomically, folders made on the way.

use std::path::PathBuf;

use ibhost_framework::analysis::{AnalysisError, Output};
use ibhost_framework::storage::{create_folders, write_atomic};

use crate::figures::plot::PlotError;

/// Writes `bytes` to where `output` puts the file `relative`, and returns the path.
///
/// # Errors
/// [`AnalysisError::Storage`] naming the path that cannot be written.
pub fn write(output: &Output, relative: &str, bytes: &[u8]) -> Result<PathBuf, AnalysisError> {
    let path = output.path(relative);
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
pub fn picture(output: &Output, relative: &str, drawn: Result<Vec<u8>, PlotError>) -> Result<PathBuf, AnalysisError> {
    let failed = |e: PlotError| AnalysisError::Plot { path: output.path(relative).display().to_string(), reason: e.to_string() };
    write(output, relative, &drawn.map_err(failed)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_and_failures_name_the_file() {
        let run = tempfile::tempdir().unwrap();
        let output = Output::of_run(run.path());
        let path = write(&output, "plots/a.txt", b"x").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
        let best = write(&Output { suffix: "-best".to_owned(), ..output.clone() }, "plots/a.txt", b"y").unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), best), (b"x".to_vec(), run.path().join("plots/a-best.txt")));
        let error = picture(&output, "plots/b.png", Err(PlotError("no room".to_owned()))).unwrap_err().to_string();
        assert!(error.contains("b.png") && error.contains("no room"), "{error}");
        assert!(write(&output, "plots/a.txt/inside", b"x").is_err());
    }
}
