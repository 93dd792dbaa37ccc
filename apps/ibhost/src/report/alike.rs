//! What tells runs apart that must not be averaged: only seeds are repetitions, and results of an analysis only when they were made alike.

use std::collections::{BTreeMap, HashMap, HashSet};

use ibhost_framework::component::text_of;
use serde_json::Value;

use super::value::Trial;
use crate::exit::Failure;
use ibhost_comparisons::group::{DATA_HASH, FREE};
use ibhost_framework::finished::Document;

/// What stands where a run does not have a setting.
pub const MISSING: &str = "–";
/// Digits of a hash that are shown.
const DIGITS: usize = 12;

/// Settings of a run in the order of its configuration, without those that change no result or tell repetitions apart.
pub fn settings_of(trial: &Trial, config: &Value) -> Vec<(String, String)> {
    let known = trial.run.settings();
    let mut settings: Vec<(String, String)> =
        known.into_iter().filter_map(|name| Some((name.clone(), trial.run.setting(&name).ok()?))).collect();
    // What this program does not know as a setting may still tell runs apart.
    for (key, value) in config.as_object().into_iter().flatten() {
        let whole = format!("{key}.");
        if !settings.iter().any(|(name, _)| name == key || name.starts_with(&whole)) {
            settings.push((key.clone(), text_of(value).chars().take(4 * DIGITS).collect()));
        }
    }
    settings.retain(|(name, _)| !FREE.contains(&name.as_str()));
    settings
}

/// What a result was made with, by names that begin with the analysis.
pub fn made_with(document: &Document) -> BTreeMap<String, String> {
    let settings = &document.settings;
    let name = &settings.name;
    let short = |text: &str| text.chars().take(DIGITS).collect::<String>();
    let mut made = BTreeMap::from([
        (name.clone(), settings.analysis.clone()),
        (format!("{name} checkpoint"), settings.checkpoint.clone()),
        (format!("{name} averaged"), settings.average.to_string()),
    ]);
    made.extend(document.value["data"].as_str().map(|data| (format!("{name} data"), short(data))));
    made.extend(document.sources().into_iter().map(|(source, which)| (format!("{name} {source}"), short(&which))));
    made
}

/// Settings of a run, first what names components.
fn own_traits(trial: &Trial) -> Vec<(String, String)> {
    let (names, others): (Vec<_>, Vec<_>) = trial.settings.iter().cloned().partition(|(name, _)| name.rsplit('.').next() == Some("name"));
    names.into_iter().chain(others).collect()
}

/// What the results were made with that `quantities` stand in.
fn result_traits(trial: &Trial, quantities: &[&str]) -> Vec<(String, String)> {
    let measured = quantities.iter().filter_map(|of| trial.measured(of).ok().flatten());
    measured.flat_map(|measured| measured.made_with.clone()).collect()
}

/// The names, beyond the settings `by`, that the runs have to be told apart by so that groups differ in nothing but the seed; as few as do. A
/// setting that a run does not have is another value; a result that it does not have is none.
pub fn told_apart_by(trials: &[(usize, &Trial)], by: &[String], quantities: &[&str]) -> Vec<String> {
    let mut groups: Vec<usize> = numbered(trials.iter().map(|(_, trial)| by.iter().map(|name| trial.setting(name)).collect::<Vec<_>>()));
    let own: Vec<_> = trials.iter().map(|(_, trial)| own_traits(trial)).collect();
    let results: Vec<_> = trials.iter().map(|(_, trial)| result_traits(trial, quantities)).collect();
    [refine(&mut groups, &own, true), refine(&mut groups, &results, false)].concat()
}

/// Divides `groups` until all members of one have the same traits, and returns the names of those that did. `missing` says whether a trait that is
/// not there is another one.
fn refine(groups: &mut Vec<usize>, traits: &[Vec<(String, String)>], missing: bool) -> Vec<String> {
    let known: Vec<HashMap<&str, &str>> =
        traits.iter().map(|traits| traits.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()).collect();
    let mut seen = HashSet::new();
    let names: Vec<&str> = traits.iter().flatten().map(|(name, _)| name.as_str()).filter(|name| seen.insert(*name)).collect();
    let mut chosen = Vec::new();
    for name in names {
        let values = || groups.iter().zip(&known).map(|(group, traits)| (*group, traits.get(name)));
        // A run of an older version does not say on which data it was trained; that is warned of, and tells it from no other.
        let counted = || values().filter(|(_, value)| missing && name != DATA_HASH || value.is_some());
        let distinct: HashSet<_> = counted().collect();
        if distinct.len() > counted().map(|(group, _)| group).collect::<HashSet<usize>>().len() {
            chosen.push(name.to_owned());
            *groups = numbered(values());
        }
    }
    chosen
}

/// For each key the number of the first that equals it among the distinct ones.
fn numbered<K: std::hash::Hash + Eq>(keys: impl Iterator<Item = K>) -> Vec<usize> {
    let mut numbers = HashMap::new();
    keys.map(|key| {
        let next = numbers.len();
        *numbers.entry(key).or_insert(next)
    })
    .collect()
}

impl Trial {
    /// The value of a setting; nothing where the run does not have it.
    pub fn setting(&self, name: &str) -> Option<String> {
        // Those of a program that knows more are in the list alone.
        let listed = || self.settings.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        self.run.setting(name).ok().or_else(listed)
    }

    /// The value of a setting, of the run's configuration or of what a result was made with, as it is shown.
    pub fn shown(&self, name: &str, quantities: &[&str]) -> String {
        let made = || result_traits(self, quantities).into_iter().find(|(known, _)| known == name).map(|(_, value)| value);
        self.setting(name).or_else(made).unwrap_or_else(|| MISSING.to_owned())
    }

    /// Labels of several settings: `m=12, beta=0.01`.
    pub fn label(&self, names: &[String], quantities: &[&str]) -> String {
        let label = |name: &String| {
            let value = self.shown(name, quantities);
            name.rsplit_once(['.', ' ']).map_or_else(|| value.clone(), |(_, last)| format!("{last}={value}"))
        };
        names.iter().map(label).collect::<Vec<_>>().join(", ")
    }
}

/// Refuses settings that no run has.
pub fn check_known<'a>(names: impl IntoIterator<Item = &'a String>, trials: &[(usize, &Trial)]) -> Result<(), Failure> {
    let Some((_, first)) = trials.first() else { return Ok(()) };
    match names.into_iter().find(|name| trials.iter().all(|(_, trial)| trial.setting(name).is_none())) {
        Some(name) => first.run.setting(name).map(|_| ()).map_err(Failure::from),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_numbered_in_the_order_they_come() {
        assert_eq!(numbered(["b", "a", "b", "c"].into_iter()), [0, 1, 0, 2]);
    }

    #[test]
    fn groups_are_divided_by_as_few_traits_as_tell_their_members_apart() {
        let of = |traits: &[(&str, &str)]| traits.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>();
        let traits = [
            of(&[("objective.name", "vib"), ("objective.samples", "1"), ("lr", "1")]),
            of(&[("objective.name", "vib"), ("objective.samples", "2"), ("lr", "2")]),
            of(&[("objective.name", "vdb"), ("lr", "1")]),
            of(&[("objective.name", "vdb"), ("objective.samples", "1"), ("lr", "1")]),
        ];
        let mut groups = vec![0; 4];
        // The rate differs where the number of samples does.
        assert_eq!(refine(&mut groups, &traits, true), ["objective.name", "objective.samples"]);
        assert_eq!(groups, [0, 1, 2, 3]);
        // Without a result there is nothing that was made in another way.
        let results = [of(&[("ksg", "ksg/k:1")]), of(&[]), of(&[("ksg", "ksg/k:1")]), of(&[("ksg", "ksg/k:2")])];
        let mut groups = vec![0, 0, 0, 1];
        assert!(refine(&mut groups, &results, false).is_empty() && groups == [0, 0, 0, 1]);
        assert_eq!(refine(&mut vec![0, 0, 0, 0], &results, false), ["ksg"]);
    }
}
