//! The `ibhost` program: links the plugins of this repository and hands over to the library.

use std::process::ExitCode;

use ibhost_all as _;

fn main() -> ExitCode {
    ibhost::main()
}
