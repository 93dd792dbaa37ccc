//! Every golden vector below `IBHOST_GOLDEN` (default: the copies next to this crate) recomputed: a test a vector, named `<paper>/<file>`.

use std::path::PathBuf;

use ibhost_tests::run::{check_of, trials};
use ibhost_tests::shared;
use libtest_mimic::Arguments;

fn main() {
    let folder = std::env::var_os("IBHOST_GOLDEN")
        .filter(|folder| !folder.is_empty())
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden"), PathBuf::from);
    libtest_mimic::run(&Arguments::from_args(), trials(&folder, check_of, shared::check)).exit();
}
