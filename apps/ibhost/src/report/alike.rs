//! What tells runs apart that must not be averaged: only seeds are repetitions, and results of an analysis only when they were made alike.

use std::collections::{BTreeMap, HashMap};

use ibhost_framework::component::text_of;
use serde_json::Value;

use super::value::Trial;
use crate::exit::Failure;
use crate::results::Document;
use crate::together::FREE;

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

/// Everything that must agree behind one mean of `quantities` with the run's own, first what names components.
fn traits_of(trial: &Trial, quantities: &[&str]) -> Vec<(String, String)> {
    let (names, others): (Vec<_>, Vec<_>) = trial.settings.iter().cloned().partition(|(name, _)| name.ends_with(".name"));
    let mut traits: Vec<(String, String)> = names.into_iter().chain(others).collect();
    for of in quantities {
        if let Ok(Some(measured)) = trial.measured(of) {
            traits.extend(measured.made_with.clone());
        }
    }
    traits
}

/// The names, beyond the settings `by`, that the runs have to be told apart by so that groups differ in nothing but the seed; as few as do. A
/// setting that a run does not have is another value.
pub fn told_apart_by(trials: &[(usize, &Trial)], by: &[String], quantities: &[&str]) -> Vec<String> {
    let traits: Vec<Vec<(String, String)>> = trials.iter().map(|(_, trial)| traits_of(trial, quantities)).collect();
    let known: Vec<HashMap<&str, &str>> =
        traits.iter().map(|traits| traits.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()).collect();
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in traits.iter().flatten() {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let mut groups: Vec<usize> = numbered(trials.iter().map(|(_, trial)| by.iter().map(|name| trial.setting(name)).collect::<Vec<_>>()));
    let mut chosen = Vec::new();
    for name in names {
        let finer = numbered(groups.iter().zip(&known).map(|(group, traits)| (*group, traits.get(name))));
        if finer.iter().max() > groups.iter().max() {
            chosen.push(name.to_owned());
            groups = finer;
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
        self.run.setting(name).ok()
    }

    /// The value of a setting, of the run's configuration or of what a result was made with, as it is shown.
    pub fn shown(&self, name: &str, quantities: &[&str]) -> String {
        let made = || traits_of(self, quantities).into_iter().find(|(known, _)| known == name).map(|(_, value)| value);
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
        Some(name) => first.run.setting(name).map(|_| ()),
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
}
