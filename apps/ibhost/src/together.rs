//! Runs that are shown together: which of those named are, why the others are not, and whether those behind one mean belong together.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ibhost_framework::storage::RunStatus;

use crate::commands::runs::Run;
use crate::exit::Failure;
use crate::messages::say;
use crate::paths::show;
use crate::results::Document;

/// Settings that change no result, or that repeated runs differ in on purpose: the seed.
pub const FREE: [&str; 6] = ["seed", "name", "device", "checkpoint_every", "checkpoints_kept", "evaluation_batch"];
/// Setting with the hash of the data, which a run has by itself.
const DATA_HASH: &str = "data_hash";
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

    /// Failures by name, for documents.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.failures.iter().map(|(name, failure)| (name.as_str(), failure.reason()))
    }

    /// Runs that are not completed, with the word for their state.
    pub fn unfinished(&self) -> &[(PathBuf, &'static str)] {
        &self.unfinished
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
pub fn open_runs(paths: &[PathBuf], unfinished: bool) -> Result<(Vec<Run>, LeftOut), Failure> {
    let mut left_out = LeftOut::default();
    let mut runs: Vec<Run> = Vec::new();
    for path in distinct_folders(paths) {
        let opened = Run::open(&path).and_then(|run| Ok((run.status()?, run)));
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

/// Refuses a mean over `runs` that differ in more than the seed and the settings `over`. `what` names the mean.
///
/// # Errors
/// Naming the settings and two runs.
pub fn check_same_settings(what: &str, runs: &[&Run], over: &[String]) -> Result<(), Failure> {
    let Some((first, others)) = runs.split_first() else { return Ok(()) };
    let is_free = |name: &str| {
        FREE.contains(&name) || over.iter().any(|o| o == name || name.strip_prefix(o.as_str()).is_some_and(|r| r.starts_with('.')))
    };
    let settings = |run: &Run| -> BTreeMap<String, String> {
        let named = run.settings().into_iter().filter(|name| !is_free(name));
        named.filter_map(|name| Some((name.clone(), run.setting(&name).ok()?))).collect()
    };
    let over_data = over.iter().any(|o| o == "dataset" || o.starts_with("dataset."));
    let ours = settings(first);
    for other in others {
        let theirs = settings(other);
        let missing = "not there".to_owned();
        let mut names: Vec<&String> = ours.keys().chain(theirs.keys()).filter(|name| ours.get(*name) != theirs.get(*name)).collect();
        // Other settings of the data set mean other data; runs of older versions do not say on which data they were trained.
        if over_data && first.config.dataset != other.config.dataset {
            names.retain(|name| *name != DATA_HASH);
        } else if ours.contains_key(DATA_HASH) != theirs.contains_key(DATA_HASH) {
            names.retain(|name| *name != DATA_HASH);
            tracing::warn!(
                "{what}: whether {} and {} were trained on the same data cannot be checked",
                show(&first.path),
                show(&other.path)
            );
        }
        names.sort();
        names.dedup();
        // A component's own name says enough where that differs.
        let kinds: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(".name")).collect();
        let told = names
            .iter()
            .filter(|name| name.strip_suffix(".name").is_some() || !kinds.iter().any(|kind| name.starts_with(&format!("{kind}."))));
        let mut differences: Vec<String> = told
            .map(|name| format!("{name} ({}, {})", ours.get(*name).unwrap_or(&missing), theirs.get(*name).unwrap_or(&missing)))
            .collect();
        if !differences.is_empty() {
            let total = differences.len();
            differences.truncate(SHOWN);
            let more = if total > SHOWN { ", ..." } else { "" };
            return Err(Failure::usage(format!(
                "{what} would be a mean over runs that differ in {}{more}: {} and {}\n  hint: leave some runs out, tell them apart by one of these \
                 settings, or average over it with --over SETTING",
                differences.join(", "),
                show(&first.path),
                show(&other.path)
            )));
        }
    }
    let mut seeds = BTreeMap::new();
    for run in runs {
        if let Some(other) = seeds.insert(run.config.training.seed, *run)
            && over.is_empty()
        {
            tracing::warn!(
                "{what}: {} and {} have the same settings and seed; they are no repetitions",
                show(&other.path),
                show(&run.path)
            );
        }
    }
    Ok(())
}

/// Refuses a mean over results of one analysis that were made with other settings, of other kinds of weights, by other judges or, of one data set,
/// on other data.
///
/// # Errors
/// Naming what differs and two runs.
pub fn check_same_analysis(what: &str, results: &[(&Run, &Document)]) -> Result<(), Failure> {
    let Some(((first_run, first), others)) = results.split_first() else { return Ok(()) };
    for (run, document) in others {
        let (a, b) = (&first.settings, &document.settings);
        let mut differences = Vec::new();
        let mut differs = |name: &str, ours: &str, theirs: &str| {
            if ours != theirs {
                differences.push(format!("{name} ({ours}, {theirs})"));
            }
        };
        differs("the analysis", &a.analysis, &b.analysis);
        differs("the checkpoint", &a.checkpoint, &b.checkpoint);
        differs("averaged weights", &a.average.to_string(), &b.average.to_string());
        let (ours, theirs) = (first.sources(), document.sources());
        for name in ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name))) {
            let of = |sources: &ibhost_framework::analysis::Sources| sources.get(name).cloned().unwrap_or_else(|| "not said".to_owned());
            differs(&format!("the {name}"), &of(&ours), &of(&theirs));
        }
        if first_run.config.dataset == run.config.dataset
            && let (Some(ours), Some(theirs)) = (first.value["data"].as_str(), document.value["data"].as_str())
        {
            differs("the data", ours, theirs);
        }
        if !differences.is_empty() {
            return Err(Failure::usage(format!(
                "{what}: the results of {} and {} differ in {}\n  hint: analyse both alike, or name one result by its parameters, e.g. `{}`",
                show(&first_run.path),
                show(&run.path),
                differences.join(", "),
                if a.analysis.contains('/') { &a.analysis } else { &b.analysis }
            )));
        }
    }
    Ok(())
}

/// Members by key, keys in order of first appearance.
pub fn grouped<K: PartialEq, T>(members: impl IntoIterator<Item = (K, T)>) -> Vec<(K, Vec<T>)> {
    let mut groups: Vec<(K, Vec<T>)> = Vec::new();
    for (key, member) in members {
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, group)) => group.push(member),
            None => groups.push((key, vec![member])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_listed_and_the_rest_goes_on() {
        let mut left_out = LeftOut::default();
        assert_eq!(left_out.take(Path::new("a"), Ok(1)), Some(1));
        assert_eq!(left_out.take::<u8>(Path::new("b"), Err(Failure::usage("a weight of 0"))), None);
        assert_eq!(left_out.failures().collect::<Vec<_>>(), [("b", "a weight of 0")]);
        let failure = left_out.end().unwrap_err();
        assert_eq!(failure.code(), crate::exit::FAILED);
        assert!(failure.to_string().contains("1 left out") && failure.to_string().contains("b: a weight of 0"), "{failure}");
        assert_eq!(LeftOut::default().end().unwrap(), 0);
        let mut all = LeftOut::default();
        all.take::<u8>(Path::new("b"), Err(Failure::usage("a weight of 0")));
        assert_eq!(all.nothing_left().code(), crate::exit::USAGE);
    }

    #[test]
    fn groups_keep_the_order_of_their_members() {
        assert_eq!(grouped([("b", 1), ("a", 2), ("b", 3)]), [("b", vec![1, 3]), ("a", vec![2])]);
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
