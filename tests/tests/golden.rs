//! Recomputes every golden vector below `IBHOST_GOLDEN` (default: the copies next to this crate) and prints a summary per paper.
//!
//! An argument that is not a flag keeps only the vectors whose `<paper>/<file>` contains it.

use std::path::PathBuf;
use std::process::ExitCode;

use ibhost_tests::run::{check_of, run};
use ibhost_tests::shared;

fn main() -> ExitCode {
    let folder = std::env::var_os("IBHOST_GOLDEN")
        .filter(|folder| !folder.is_empty())
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden"), PathBuf::from);
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let report = run(&folder, &filter, check_of, shared::check);
    for (paper, passed) in &report.passed {
        println!("golden {paper}: {passed} passed");
    }
    for (path, reason) in &report.failed {
        println!("golden FAILED {}: {reason}", path.display());
    }
    if report.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
