//! `ibhost completions` and `ibhost man`, generated from the command line's own definition.

use clap::CommandFactory;

use crate::cli::{Cli, CompletionArgs};
use crate::exit::Failure;
use crate::table;

pub fn completions(arguments: &CompletionArgs) -> Result<u8, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "ibhost", &mut text);
    table::print(String::from_utf8_lossy(&text).trim_end()).map(|()| 0)
}

pub fn man() -> Result<u8, Failure> {
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut text).map_err(|e| Failure::failed(format!("cannot write the man page: {e}")))?;
    table::print(String::from_utf8_lossy(&text).trim_end()).map(|()| 0)
}
