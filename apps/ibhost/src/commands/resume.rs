//! `ibhost resume`: continue an interrupted run to its planned end.

use ibhost_framework::engine::Job;

use super::check_run_folder;
use super::run::drive;
use crate::cli::ResumeArgs;
use crate::exit::Failure;
use crate::logging::RunLog;
use crate::paths::{data_root, show};

pub fn resume(arguments: &ResumeArgs, quiet: bool, log: &RunLog) -> Result<u8, Failure> {
    check_run_folder(&arguments.run_dir)?;
    let root = data_root(&arguments.data)?;
    match Job::resume(&arguments.run_dir, &root)? {
        None => {
            eprintln!("{} is complete; nothing to do", show(&arguments.run_dir));
            Ok(0)
        }
        Some(mut job) => drive(&mut job, &root, arguments.format, quiet, log),
    }
}
