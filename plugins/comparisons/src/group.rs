//! Runs behind one number: which belong together, and what refuses to be averaged.

use std::collections::BTreeMap;

use ibhost_framework::analysis::Sources;
use ibhost_framework::engine::EngineError;
use ibhost_framework::finished::{Document, FinishedRun};
use ibhost_framework::text::show;

/// Settings that change no result, or that repeated runs differ in on purpose: the seed.
pub const FREE: [&str; 6] = ["seed", "name", "device", "checkpoint_every", "checkpoints_kept", "evaluation_batch"];
/// Setting with the hash of the data, which a run has by itself.
pub const DATA_HASH: &str = "data_hash";
/// Most differences that a message lists.
const SHOWN: usize = 12;

/// Refuses a mean over `runs` that differ in more than the seed and the settings `over`. `what` names the mean.
///
/// # Errors
/// Naming the settings and two runs.
pub fn check_same_settings(what: &str, runs: &[&FinishedRun], over: &[String]) -> Result<(), EngineError> {
    let Some((first, others)) = runs.split_first() else { return Ok(()) };
    let is_free = |name: &str| {
        FREE.contains(&name) || over.iter().any(|o| o == name || name.strip_prefix(o.as_str()).is_some_and(|r| r.starts_with('.')))
    };
    let settings = |run: &FinishedRun| -> BTreeMap<String, String> {
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
            return Err(EngineError::Request(format!(
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
pub fn check_same_analysis(what: &str, results: &[(&FinishedRun, &Document)]) -> Result<(), EngineError> {
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
            let of = |sources: &Sources| sources.get(name).cloned().unwrap_or_else(|| "not said".to_owned());
            differs(&format!("the {name}"), &of(&ours), &of(&theirs));
        }
        if first_run.config.dataset == run.config.dataset
            && let (Some(ours), Some(theirs)) = (first.value["data"].as_str(), document.value["data"].as_str())
        {
            differs("the data", ours, theirs);
        }
        if !differences.is_empty() {
            return Err(EngineError::Request(format!(
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
    fn groups_keep_the_order_of_their_members() {
        assert_eq!(grouped([("b", 1), ("a", 2), ("b", 3)]), [("b", vec![1, 3]), ("a", vec![2])]);
    }
}
