//! `ibhost resume`: continue an interrupted run to its planned end.

use ibhost_framework::engine::Trainer;
use ibhost_framework::finished::DataLibrary;
use ibhost_framework::storage::RunDir;

use super::check_run_folder;
use super::run::{StopOnSignal, complete, drive, print_result};
use crate::cli::{Format, ResumeArgs};
use crate::exit::Failure;
use crate::logging::RunLog;
use crate::messages::say;
use crate::paths::{data_root, show};
use crate::program;

pub fn resume(arguments: &ResumeArgs, quiet: bool, log: &RunLog) -> Result<u8, Failure> {
    check_run_folder(&arguments.run_dir)?;
    let root = data_root(&arguments.data)?;
    let stop = StopOnSignal::listen();
    match Trainer::resume(&arguments.run_dir, &root, arguments.skip_damaged, &program::this())? {
        None => {
            let drawn = complete(&arguments.run_dir, &DataLibrary::new(root), stop.flag())?;
            let done = if drawn.is_empty() { "nothing to do".to_owned() } else { format!("drew what was missing: {}", drawn.join(", ")) };
            say!("{} is complete; {done}", show(&arguments.run_dir));
            if arguments.format == Format::Json {
                let run = RunDir::open_read_only(&arguments.run_dir)?;
                print_result(run.path(), &run.read_summary()?)?;
            }
            Ok(0)
        }
        Some(mut trainer) => drive(&mut trainer, &root, arguments.format, quiet, log, &stop),
    }
}
