//! The `ibhost` program: links the plugins of this repository and hands over to the library.

use std::process::ExitCode;

use ibhost_analyses as _;
use ibhost_classifiers as _;
use ibhost_comparisons as _;
use ibhost_datasets as _;
use ibhost_disenib as _;
use ibhost_hit as _;
use ibhost_mim as _;
use ibhost_nets as _;
use ibhost_vdb as _;
use ibhost_vib as _;

fn main() -> ExitCode {
    ibhost::main()
}
