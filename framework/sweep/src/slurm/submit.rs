//! Submitting the trials of a sweep as job arrays, and cancelling them.

use std::fs;
use std::path::{Path, PathBuf};

use ibhost_framework::storage::{create_folders, write_atomic};

use super::Options;
use super::queue::{Queue, job_name, scripts_folder, slurm};
use super::script::Scripts;
use crate::error::SweepError;
use crate::folder::SweepFolder;

/// Largest array when the cluster does not say.
const ARRAY: usize = 1000;

/// What was submitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submission {
    /// Number of each array and how many trials it has.
    pub arrays: Vec<(String, usize)>,
    /// The job that aggregates when all arrays have ended.
    pub collect: Option<String>,
    /// Trials that wait or run already.
    pub queued: usize,
}

/// Submits the trials `numbers` that neither wait nor run. An array has at most as many tasks as the cluster allows (`MaxArraySize`); under a
/// throttle, arrays follow each other.
///
/// # Errors
/// When Slurm refuses; arrays that were submitted by then stay, and submitting again adds the rest.
pub fn submit(
    sweep: &SweepFolder,
    numbers: &[usize],
    options: &Options,
    program: &Path,
    after: &[String],
    fail_fast: bool,
) -> Result<Submission, SweepError> {
    let queue = Queue::read(sweep)?;
    let is_free = |number: &&usize| !queue.task(**number).is_some_and(super::Task::is_live);
    let wanted: Vec<usize> = numbers.iter().filter(is_free).copied().collect();
    let mut submission = Submission { queued: numbers.len() - wanted.len(), ..Submission::default() };
    if wanted.is_empty() {
        return Ok(submission);
    }
    let folder = new_folder(&scripts_folder(sweep))?;
    let root = std::path::absolute(sweep.path()).map_err(|e| SweepError::system("find the current folder", e))?;
    let text = |path: &Path| -> Result<String, SweepError> {
        let shown = path.to_str().filter(|text| !text.contains(|c: char| c.is_control() || c == '%' || c.is_whitespace()));
        shown.map(str::to_owned).ok_or_else(|| {
            let problem = format!("`{}` has a space, `%` or another sign that Slurm's options cannot hold", path.display());
            SweepError::Request(format!("{problem}\n  hint: choose another --output-dir"))
        })
    };
    let (job, program, sweep_text, folder_text) = (job_name(sweep), program.to_str(), text(&root)?, text(&folder)?);
    let program = program.ok_or_else(|| SweepError::Request("the program's own path is no text, which a script cannot hold".to_owned()))?;
    let scripts = Scripts { job: &job, program, sweep: &sweep_text, folder: &folder_text, after, options, fail_fast };
    for (place, chunk) in wanted.chunks(max_array_size()).enumerate() {
        let stem = folder.join(format!("array-{place}"));
        let list = stem.with_extension("txt");
        let lines = chunk.iter().map(|&number| format!("{sweep_text}/trials/{number:06}\n")).collect::<Vec<_>>().concat();
        write_atomic(&list, lines.as_bytes())?;
        let script = stem.with_extension("sh");
        write_atomic(&script, scripts.array(&text(&list)?).as_bytes())?;
        let throttle = options.throttle.map_or_else(String::new, |n| format!("%{n}"));
        let mut arguments = vec!["--parsable".to_owned(), format!("--array=0-{}{throttle}", chunk.len() - 1)];
        if let (Some(_), Some((previous, _))) = (options.throttle, submission.arrays.last()) {
            arguments.push(format!("--dependency=afterany:{previous}"));
        }
        arguments.push(script.display().to_string());
        let number = job_number(&slurm("sbatch", &arguments)?);
        write_atomic(&stem.with_extension("job"), number.as_bytes())?;
        submission.arrays.push((number, chunk.len()));
    }
    let script = folder.join("collect.sh");
    write_atomic(&script, scripts.collect().as_bytes())?;
    let after_all = submission.arrays.iter().map(|(job, _)| job.as_str()).collect::<Vec<_>>().join(":");
    let arguments = ["--parsable".to_owned(), format!("--dependency=afterany:{after_all}"), script.display().to_string()];
    submission.collect = Some(job_number(&slurm("sbatch", &arguments)?));
    Ok(submission)
}

/// Cancels every job of `sweep` that waits or runs, and returns them. Trials that run save first.
///
/// # Errors
/// When Slurm refuses.
pub fn cancel(sweep: &SweepFolder) -> Result<Vec<String>, SweepError> {
    let jobs = Queue::read(sweep)?.live_jobs;
    if !jobs.is_empty() {
        // To the batch shells, which pass it on to the trials; what only waits is taken out of the queue by the same call.
        slurm("scancel", &jobs)?;
    }
    Ok(jobs)
}

/// `123` of what `sbatch --parsable` prints, `123` or `123;cluster`.
fn job_number(printed: &str) -> String {
    printed.trim().lines().last().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_owned()
}

/// Most tasks of an array, as the cluster says.
fn max_array_size() -> usize {
    let text = slurm("scontrol", &["show".to_owned(), "config".to_owned()]).unwrap_or_default();
    parse_max_array_size(&text).unwrap_or(ARRAY)
}

fn parse_max_array_size(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("MaxArraySize"))?;
    // Indices are smaller than this number, and begin at 0 here.
    line.split('=').nth(1)?.trim().parse().ok().filter(|&size| size > 0)
}

/// The next free folder `000`, `001` ... in `folder`.
fn new_folder(folder: &Path) -> Result<PathBuf, SweepError> {
    create_folders(folder)?;
    for number in 0..u32::MAX {
        let path = folder.join(format!("{number:03}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(SweepError::system(format!("create `{}`", path.display()), error)),
        }
    }
    Err(SweepError::Request(format!("`{}` is full", folder.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_slurm_prints_is_understood() {
        assert_eq!(["123\n", "123;cluster\n", "sbatch: note\n77"].map(job_number), ["123", "123", "77"]);
        let config = "MaxArrayParents        = 3\nMaxArraySize            = 1001\nMaxBatchRequeue = 5\n";
        assert_eq!(parse_max_array_size(config), Some(1001));
        assert_eq!(parse_max_array_size("nothing of the kind"), None);
    }
}
