//! The `ibhost` program as the tests of the command line run it: every plugin of this repository, and nothing else.

use std::process::ExitCode;

use ibhost_all as _;

fn main() -> ExitCode {
    ibhost_tests::fault_plan::install_from_environment();
    ibhost::main()
}
