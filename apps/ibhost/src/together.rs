//! Runs that are shown together: which of those named are, why the others are not, and whether those behind one mean belong together.

use std::fs;
use std::path::{Path, PathBuf};

use ibhost_framework::finished::FinishedRun;
use ibhost_framework::identity::OtherDataPolicy;
use ibhost_framework::storage::RunStatus;

use crate::commands::open_run;
use crate::exit::Failure;
use crate::messages::say;
use crate::paths::show;

/// Most lines of a list in a message.
const SHOWN: usize = 12;

/// What cannot be shown of the runs that were named, with the reason.
#[derive(Debug, Default)]
pub struct LeftOut {
    failures: Vec<(String, Failure)>,
    /// Runs that are not completed, with the word for their state.
    unfinished: Vec<(PathBuf, &'static str)>,
}

impl LeftOut {
    /// The value of `result`; a failure is kept with the name of `run` and said at once.
    pub fn take<T>(&mut self, run: &Path, result: Result<T, Failure>) -> Option<T> {
        self.take_named(&show(run), result)
    }

    /// As [`Self::take`], of anything with a name.
    pub fn take_named<T>(&mut self, name: &str, result: Result<T, Failure>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(failure) => {
                self.failures.push((name.to_owned(), failure));
                None
            }
        }
    }

    /// Why nothing is left to show: the failure itself when it is the same mistake for all.
    pub fn nothing_left(mut self) -> Failure {
        if self.failures.is_empty() {
            let hint = "finish them with `ibhost resume`, or show them as they are with --unfinished";
            return Failure::usage(format!("none of the runs is completed: {}\n  hint: {hint}", self.unfinished_words()));
        }
        let (name, first) = self.failures.remove(0);
        let reason = if first.reason().contains(&name) { first.reason().to_owned() } else { format!("{name}: {}", first.reason()) };
        let more = match self.failures.first() {
            Some((next, _)) => format!("\n  and {} more for this or another reason, the first of which is {next}", self.failures.len()),
            None => String::new(),
        };
        let unfinished = if self.unfinished.is_empty() { String::new() } else { format!("\n  besides, {}", self.unfinished_words()) };
        Failure::with_code(format!("{reason}{more}{unfinished}"), first.code())
    }

    /// The end of a command that showed the others: 0, or a failure that lists what was left out.
    pub fn end(self) -> Result<u8, Failure> {
        if self.failures.is_empty() {
            return Ok(0);
        }
        let line = |(name, failure): &(String, Failure)| {
            let reason = failure.reason();
            if reason.contains(name.as_str()) { format!("\n  {reason}") } else { format!("\n  {name}: {reason}") }
        };
        let mut lines: String = self.failures.iter().take(SHOWN).map(line).collect();
        if self.failures.len() > SHOWN {
            lines += &format!("\n  and {} more", self.failures.len() - SHOWN);
        }
        Err(Failure::failed(format!("{} left out, everything else is done:{lines}", self.failures.len())))
    }

    fn unfinished_words(&self) -> String {
        let words = self.unfinished.iter().take(SHOWN).map(|(path, word)| format!("{} is {word}", show(path)));
        words.collect::<Vec<_>>().join(", ") + if self.unfinished.len() > SHOWN { ", and others" } else { "" }
    }
}

/// Says which runs a number is not made of, even where messages were asked to be few. One that cannot be written is lost.
fn note(line: &str) {
    say!("{line}");
}

/// The word for a state.
pub fn status_word(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Running => "running",
        RunStatus::Completed => "completed",
        RunStatus::Interrupted => "interrupted",
        RunStatus::Failed => "failed",
    }
}

/// `paths` without those that lead to a folder named before, by links or by another spelling.
pub fn distinct_folders(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut seen = Vec::new();
    let mut distinct = Vec::new();
    for path in paths {
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        if seen.contains(&real) {
            note(&format!("{} was named before and counts once", show(path)));
        } else {
            seen.push(real);
            distinct.push(path.clone());
        }
    }
    distinct
}

/// Opens the runs in `paths`, each once. Runs that are not completed are named and left out unless `unfinished`; so are copies of a run, which are
/// no repetition of it.
///
/// # Errors
/// When no run is left.
pub fn open_runs(paths: &[PathBuf], unfinished: bool, policy: OtherDataPolicy) -> Result<(Vec<FinishedRun>, LeftOut), Failure> {
    let mut left_out = LeftOut::default();
    let mut runs: Vec<FinishedRun> = Vec::new();
    for path in distinct_folders(paths) {
        let opened = open_run(&path, policy).and_then(|run| Ok((run.status()?, run)));
        let Some((status, run)) = left_out.take(&path, opened) else { continue };
        if status != RunStatus::Completed && !unfinished {
            left_out.unfinished.push((path, status_word(status)));
        } else if let Some(other) = runs.iter().find(|other| other.id == run.id) {
            note(&format!("{} is a copy of {} and left out: it is no run of its own", show(&path), show(&other.path)));
        } else {
            runs.push(run);
        }
    }
    if runs.is_empty() {
        return Err(left_out.nothing_left());
    }
    for (path, word) in &left_out.unfinished {
        note(&format!("{} is {word} and left out", show(path)));
    }
    Ok((runs, left_out))
}

/// Lets results of analyses be read in folders of the runs' names below `folder`, where one is given.
pub fn read_results_from(runs: &mut [FinishedRun], folder: Option<&Path>) {
    let Some(folder) = folder else { return };
    for run in runs {
        let real = fs::canonicalize(&run.path).unwrap_or_else(|_| run.path.clone());
        run.results = folder.join(real.file_name().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_listed_and_the_rest_goes_on() {
        let mut left_out = LeftOut::default();
        assert_eq!(left_out.take(Path::new("a"), Ok(1)), Some(1));
        assert_eq!(left_out.take::<u8>(Path::new("b"), Err(Failure::usage("a weight of 0"))), None);
        let failure = left_out.end().unwrap_err();
        assert_eq!(failure.code(), crate::exit::FAILED);
        assert!(failure.to_string().contains("1 left out") && failure.to_string().contains("b: a weight of 0"), "{failure}");
        assert_eq!(LeftOut::default().end().unwrap(), 0);
        let mut all = LeftOut::default();
        all.take::<u8>(Path::new("b"), Err(Failure::usage("a weight of 0")));
        assert_eq!(all.nothing_left().code(), crate::exit::USAGE);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_counts_once_whatever_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let (a, link) = (folder.path().join("a"), folder.path().join("link"));
        fs::create_dir(&a).unwrap();
        std::os::unix::fs::symlink(&a, &link).unwrap();
        assert_eq!(distinct_folders(&[a.clone(), link, a.join("../a"), a.join("absent")]), [a.clone(), a.join("absent")]);
    }
}
