//! Choosing and sorting the runs of one or several indexes by their fields: state, settings and measurements.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use ibhost_framework::component::suggest::nearest;
use ibhost_framework::component::text_of;
use serde_json::Value;

use super::filter::Filter;
use super::index::{Index, Known};
use super::record::{RunRecord, folder_name};
use super::row::json;
use crate::error::SweepError;

/// Fields that are neither settings nor measurements.
const STATE: [&str; 9] = ["status", "run", "sweep", "trial", "steps_done", "epochs_done", "started", "seconds", "best"];

/// A run of an index; what is asked for is unpacked, the rest is not.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    index: &'a Index,
    /// Place of the index among those that were chosen from.
    place: usize,
    run: &'a Known,
}

impl<'a> Listed<'a> {
    /// Its folder.
    pub fn run_dir(&self) -> PathBuf {
        self.index.folder.join(&self.run.path)
    }

    /// Name of its folder.
    pub fn folder_name(&self) -> String {
        if self.run.path.as_os_str().is_empty() { folder_name(&self.index.folder) } else { folder_name(&self.run.path) }
    }

    /// The word for its status.
    pub fn status_word(&self) -> &'static str {
        self.run.row.status_word()
    }

    /// Why it is as it is.
    pub fn reason(&self) -> Option<&'a str> {
        self.run.row.reason().map(|word| self.index.words.text(word))
    }

    /// Objective in canonical form.
    pub fn objective(&self) -> Option<&'a str> {
        self.run.row.objective.map(|word| self.index.words.text(word))
    }

    /// Data set in canonical form.
    pub fn dataset(&self) -> Option<&'a str> {
        self.run.row.dataset.map(|word| self.index.words.text(word))
    }

    /// Sweep it belongs to, and its number there.
    pub fn sweep(&self) -> Option<(&'a str, usize)> {
        Some((self.index.words.text(self.run.row.sweep?), self.run.row.trial?))
    }

    /// Epochs done.
    pub fn epochs(&self) -> Option<u64> {
        self.run.row.epochs
    }

    /// Optimiser steps done.
    pub fn steps(&self) -> Option<u64> {
        self.run.row.steps
    }

    /// Name and best value of the watched metric.
    pub fn best(&self) -> Option<(&'a str, f64)> {
        self.run.row.best.map(|(metric, value, ..)| (self.index.words.text(metric), value))
    }

    /// Local time of the first start.
    pub fn started(&self) -> Option<&'a str> {
        self.run.row.started.as_deref()
    }

    /// Everything that is known.
    pub fn record(&self) -> RunRecord {
        self.run.row.record(&self.run.details(), self.run_dir(), &self.index.words)
    }

    /// The value of a field; a measurement that is no finite number is a text.
    pub fn field(&self, key: &Key) -> Option<Value> {
        let row = &self.run.row;
        match key.state {
            Some("status") => return Some(self.status_word().into()),
            Some("run") => return Some(self.folder_name().into()),
            Some("sweep") => return row.sweep.map(|word| self.index.words.text(word).into()),
            Some("trial") => return row.trial.map(Value::from),
            Some("steps_done") => return row.steps.map(Value::from),
            Some("epochs_done") => return row.epochs.map(Value::from),
            Some("started") => return row.started.clone().map(Value::from),
            Some("seconds") => return row.seconds.map(number),
            Some("best") => return row.best.map(|(_, value, ..)| number(value)),
            _ => {}
        }
        let word = key.words.get(self.place).copied().flatten()?;
        let details = self.run.details();
        let setting = details.settings.iter().find(|(path, _)| *path == word).map(|(_, value)| json(self.index.words.text(*value)));
        setting.or_else(|| details.metrics.iter().find(|(name, _)| *name == word).map(|(_, value)| number(*value)))
    }
}

/// A field by its name, found once for all runs.
#[derive(Debug)]
pub struct Key {
    state: Option<&'static str>,
    /// In each of the indexes.
    words: Vec<Option<u32>>,
}

impl Key {
    /// The field `name` of the runs in `indexes`.
    pub fn new(name: &str, indexes: &[Index]) -> Self {
        let state = STATE.into_iter().find(|known| *known == name);
        Self { state, words: indexes.iter().map(|index| index.words.find(name)).collect() }
    }
}

fn number(value: f64) -> Value {
    if value.is_finite() { value.into() } else { value.to_string().into() }
}

/// Every field that some run has, sorted.
pub fn keys(indexes: &[Index]) -> Vec<String> {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for index in indexes {
        let mut words = HashSet::new();
        for run in &index.runs {
            let row = &run.row;
            let state = [
                ("status", true),
                ("run", true),
                ("sweep", row.sweep.is_some()),
                ("trial", row.trial.is_some()),
                ("steps_done", row.steps.is_some()),
                ("epochs_done", row.epochs.is_some()),
                ("started", row.started.is_some()),
                ("seconds", row.seconds.is_some()),
                ("best", row.best.is_some()),
            ];
            names.extend(state.into_iter().filter_map(|(name, has)| has.then_some(name)));
            let details = run.details();
            words.extend(details.settings.iter().map(|(path, _)| *path).chain(details.metrics.iter().map(|(name, _)| *name)));
        }
        names.extend(words.into_iter().map(|word| index.words.text(word)));
    }
    names.into_iter().map(str::to_owned).collect()
}

/// The runs of all `indexes` that meet all `filters`, each folder once, sorted by the field `sort` (falling when it begins with `-`), else
/// by index and folder. Runs without that field come last.
///
/// # Errors
/// When a field is none of any run.
pub fn select<'a>(indexes: &'a [Index], filters: &[Filter], sort: Option<&str>) -> Result<Vec<Listed<'a>>, SweepError> {
    let falling = sort.is_some_and(|key| key.starts_with('-'));
    let sort = sort.map(|key| key.trim_start_matches('-'));
    let asked: Vec<&str> = filters.iter().map(|filter| filter.key.as_str()).chain(sort).collect();
    if !asked.is_empty() {
        check(indexes, &asked)?;
    }
    let mut all: Vec<Listed<'a>> = Vec::new();
    let mut seen = HashSet::new();
    for (place, index) in indexes.iter().enumerate() {
        // The same folder by another name, or one inside of another.
        let root = (indexes.len() > 1).then(|| index.folder.canonicalize().unwrap_or_else(|_| index.folder.clone()));
        for run in &index.runs {
            if root
                .as_ref()
                .is_none_or(|root| seen.insert(if run.path.as_os_str().is_empty() { root.clone() } else { root.join(&run.path) }))
            {
                all.push(Listed { index, place, run });
            }
        }
    }
    for filter in filters {
        let key = Key::new(&filter.key, indexes);
        all.retain(|run| filter.accepts(run.field(&key).as_ref()));
    }
    if let Some(sort) = sort {
        let key = Key::new(sort, indexes);
        let mut keyed: Vec<(Option<Value>, Listed<'a>)> = all.into_iter().map(|run| (run.field(&key), run)).collect();
        keyed.sort_by(|(a, _), (b, _)| order(a.as_ref(), b.as_ref(), falling));
        all = keyed.into_iter().map(|(_, run)| run).collect();
    }
    Ok(all)
}

/// Refuses fields that no run has.
fn check(indexes: &[Index], asked: &[&str]) -> Result<(), SweepError> {
    let known = keys(indexes);
    match asked.iter().find(|key| !known.is_empty() && !known.iter().any(|known| known == *key)) {
        Some(key) => {
            let near = nearest(key, known.iter().map(String::as_str));
            let hint = if near.is_empty() { known.join(", ") } else { format!("did you mean {}?", near.join(" or ")) };
            let folders: Vec<String> = indexes.iter().take(3).map(|index| format!("`{}`", index.folder.display())).collect();
            let more = if indexes.len() > 3 { " and others" } else { "" };
            Err(SweepError::Request(format!("no run in {}{more} has `{key}`\n  hint: {hint}", folders.join(", "))))
        }
        None => Ok(()),
    }
}

/// Numbers by size, then texts, then what is missing, whatever the direction.
fn order(a: Option<&Value>, b: Option<&Value>, falling: bool) -> Ordering {
    let directed = |order: Ordering| if falling { order.reverse() } else { order };
    match (a, b) {
        (Some(a), Some(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => directed(a.total_cmp(&b)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => directed(text_of(a).cmp(&text_of(b))),
        },
        (a, b) => a.is_none().cmp(&b.is_none()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::make_run;
    use super::*;

    fn found(indexes: &[Index], filters: &[&str], sort: Option<&str>) -> Vec<f64> {
        let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
        let runs = select(indexes, &filters, sort).unwrap();
        runs.iter().map(|run| run.record().settings["objective.beta"].as_f64().unwrap()).collect()
    }

    #[test]
    fn runs_are_filtered_and_sorted_by_components_settings_and_metrics() {
        let folder = tempfile::tempdir().unwrap();
        for (beta, accuracy) in [(0.1, 0.9), (1.0, 0.5), (0.01, 0.7)] {
            make_run(folder.path(), beta, accuracy);
        }
        let index = [Index::open(folder.path()).unwrap()];
        assert_eq!(found(&index, &[], Some("objective.beta")), [0.01, 0.1, 1.0]);
        assert_eq!(found(&index, &[], Some("-test.accuracy")), [0.1, 0.01, 1.0]);
        assert_eq!(found(&index, &["objective=vib", "objective.beta<0.5", "test.accuracy>=0.8"], None), [0.1]);
        assert_eq!(found(&index, &["objective.beta!=1"], Some("objective.beta")), [0.01, 0.1]);
        assert_eq!(found(&index, &["objective.beta=1.0"], None), [1.0]);
        assert_eq!(found(&index, &["encoder~ml", "status=completed"], Some("-objective.beta")), [1.0, 0.1, 0.01]);
        assert_eq!(found(&index, &["test.loss<1"], None), [0.0; 0], "NaN is below nothing");
        let error = select(&index, &["objective.bet=1".parse().unwrap()], None).unwrap_err().to_string();
        assert!(error.contains("`objective.bet`") && error.contains("did you mean objective.beta"), "{error}");
    }

    #[test]
    fn several_folders_are_one_list_and_no_run_is_listed_twice() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        let run = make_run(&a, 0.1, 0.9);
        make_run(&b, 0.3, 0.5);
        make_run(&a, 0.2, 0.7);
        let mut folders = vec![b.clone(), a.clone(), run, a.join("../b"), folder.path().to_path_buf()];
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&a, folder.path().join("link")).unwrap();
            folders.push(folder.path().join("link"));
        }
        let indexes: Vec<Index> = folders.iter().map(|folder| Index::open(folder).unwrap()).collect();
        assert_eq!(found(&indexes, &[], Some("objective.beta")), [0.1, 0.2, 0.3]);
        assert_eq!(found(&indexes, &[], Some("-test.accuracy")), [0.1, 0.2, 0.3]);
    }
}
