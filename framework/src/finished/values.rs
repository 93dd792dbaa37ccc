//! What is read from a finished run: its settings, the numbers of its log, and the results of its analyses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::FinishedRun;
use super::documents::{Document, Found, Selector, documents, select};
use crate::component::suggest::nearest;
use crate::component::{Component, text_of};
use crate::engine::EngineError;
use crate::objective::ObjectiveConfig;
use crate::storage::{MetricsSplit, Row};
use crate::text::show;

/// A document about weights that the run no longer has, and the newest step there is.
type Stale = (Document, u64);
/// Most settings that a message lists.
const SHOWN: usize = 12;

impl FinishedRun {
    /// File and content of the result of an analysis that `selector` means, see [`Selector::read`].
    ///
    /// # Errors
    /// [`EngineError`] where there is no such document, or several.
    pub fn analysis(&self, selector: &str) -> Result<(PathBuf, Value), EngineError> {
        self.document(selector).map(|document| (document.path, document.value))
    }

    /// The result of an analysis that `selector` means: the only one of `ksg`, or the one of `ksg/k:3`. Refused when there are several.
    ///
    /// # Errors
    /// [`EngineError`] where there is no such document, or several.
    pub fn document(&self, selector: &str) -> Result<Document, EngineError> {
        self.find(selector, |_| true)?.ok_or_else(|| {
            let name = selector.split(['/', '-']).next().unwrap_or(selector);
            self.lacks(&self.results.join("analyses").join(name).with_extension("json"), name, "is missing")
        })
    }

    /// The same among the results that `keep` accepts; nothing when there is no result of the analysis.
    ///
    /// # Errors
    /// [`EngineError`] where documents cannot be read, or several are meant.
    pub fn find(&self, selector: &str, keep: impl Fn(&Document) -> bool) -> Result<Option<Document>, EngineError> {
        let selector = Selector::read(selector)?;
        let name = selector.name();
        let Found { documents, damaged } = documents(&self.results, name, self.config.training.seed);
        // Results can be copied from one folder to another.
        let is_own = |document: &Document| document.value["run"].as_str().is_none_or(|run| run == self.id);
        let (documents, foreign): (Vec<Document>, Vec<Document>) = documents.into_iter().filter(keep).partition(is_own);
        let (documents, stale) = self.current(documents)?;
        let found = select(documents, &selector).map_err(|problem| EngineError::Request(format!("{}: {problem}", show(&self.path))))?;
        if let (None, Some(document)) = (&found, foreign.first()) {
            let what = format!("is a result of run {}, this is run {}", document.value["run"], self.id);
            return Err(self.lacks(&document.path, name, &what));
        }
        match (&found, stale.first(), damaged.first()) {
            (None, Some((document, newest)), _) => {
                let what = format!("is about the weights of step {}, the run has those of step {newest}", document.value["step"]);
                Err(self.lacks(&document.path, name, &what))
            }
            (None, None, Some((path, reason))) => Err(self.lacks(path, name, reason)),
            _ => {
                for (path, reason) in damaged {
                    tracing::warn!("`{}` {reason} and is passed over", show(&path));
                }
                Ok(found)
            }
        }
    }

    /// Sets apart the documents about weights that the run no longer has, each with the newest step there is.
    fn current(&self, documents: Vec<Document>) -> Result<(Vec<Document>, Vec<Stale>), EngineError> {
        let entries = self.folder.checkpoints().list()?;
        let newest = |label: &str| entries.iter().filter(|entry| entry.label.as_str() == label).map(|entry| entry.step).max();
        let (mut current, mut stale) = (Vec::new(), Vec::new());
        for document in documents {
            match (document.value["step"].as_u64(), newest(&document.settings.checkpoint)) {
                (Some(step), Some(newest)) if step != newest => stale.push((document, newest)),
                _ => current.push(document),
            }
        }
        Ok((current, stale))
    }

    /// `<split>.<metric>`, the mean of the log's `last` evaluations, or `<analysis>.<path>`, a number in an analysis' result.
    ///
    /// # Errors
    /// [`EngineError`] where the run has no such value.
    pub fn value(&self, name: &str, last: usize) -> Result<f64, EngineError> {
        let (source, path) = name.split_once('.').unwrap_or((name, ""));
        if path.is_empty() {
            return Err(EngineError::Request(format!(
                "`{name}` is no metric: write e.g. test.loss, or nll.nll for a number of an analysis"
            )));
        }
        if let Some(split) = split_of(source) {
            let found = last_epochs_mean(self.rows()?, split, path, last);
            return found.ok_or_else(|| EngineError::Request(format!("{} never measured `{name}`", show(&self.path))));
        }
        self.number(name).map(|(value, _)| value)
    }

    /// A number in the result of an analysis and the document it stands in: `ksg.mutual_information`, or `ksg/k:3.mutual_information`.
    ///
    /// # Errors
    /// [`EngineError`] where the document has no such number.
    pub fn number(&self, name: &str) -> Result<(f64, Document), EngineError> {
        self.number_by(name, str::to_owned)
    }

    /// The same of the result that `selector` makes of the analysis' name.
    ///
    /// # Errors
    /// [`EngineError`] where the document has no such number.
    pub fn number_by(&self, name: &str, selector: impl Fn(&str) -> String) -> Result<(f64, Document), EngineError> {
        let mut first = None;
        for (analysis, path) in readings(name) {
            let found = self.document(&selector(analysis)).and_then(|document| {
                let value = entry(&document.value["result"], path).and_then(Value::as_f64);
                let lacks = || self.lacks(&document.path, &document.settings.name, &format!("its result has no number `{path}`"));
                Ok((value.ok_or_else(lacks)?, document))
            });
            match found {
                Ok(found) => return Ok(found),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| EngineError::Request(format!("`{name}` is no number of an analysis: write e.g. nll.nll"))))
    }

    /// The unit of a metric of its log, as its objective tells; nothing for a metric that is not among those.
    pub fn unit_of_metric(&self, metric: &str) -> Option<String> {
        if metric.starts_with("error") {
            return Some("share".to_owned());
        }
        let objective = self.config.objective.build::<dyn ObjectiveConfig>().ok()?;
        objective.quantities().into_iter().find(|quantity| quantity.name == metric).map(|quantity| quantity.unit.to_owned())
    }

    /// `path`, which `analysis` writes, does not hold what is needed.
    pub fn lacks(&self, path: &Path, analysis: &str, what: &str) -> EngineError {
        EngineError::Request(format!("`{}`: {what}\n  hint: run `ibhost analyze {} --analysis {analysis}`", show(path), show(&self.path)))
    }

    /// Its components by the key they stand under.
    pub fn components(&self) -> [(&'static str, &Component); 7] {
        let config = &self.config;
        [
            ("objective", &config.objective),
            ("encoder", &config.encoder),
            ("decoder", &config.decoder),
            ("dataset", &config.dataset),
            ("strategy", &config.strategy),
            ("optimiser", &config.optimiser),
            ("schedule", &config.schedule),
        ]
    }

    /// Every path to one value that [`Self::setting`] knows: names and parameters of the components, and the settings of training.
    pub fn settings(&self) -> Vec<String> {
        let mut paths = Vec::new();
        for (kind, component) in self.components() {
            if let Value::Object(full) = component.to_json_full() {
                paths.extend(full.keys().map(|name| format!("{kind}.{name}")));
            }
        }
        if let Ok(Value::Object(training)) = serde_json::to_value(&self.config.training) {
            paths.extend(training.keys().cloned());
        }
        paths
    }

    /// Value of `path` in the run's configuration: a component (`strategy`), its name alone
    /// (`strategy.name`), one of its parameters (`objective.m`), a number (`lr`), or the label of an axis of its sweep.
    ///
    /// # Errors
    /// [`EngineError`] where the run has no such setting.
    pub fn setting(&self, path: &str) -> Result<String, EngineError> {
        let component = |name: &str| self.components().into_iter().find(|(kind, _)| *kind == name).map(|(_, component)| component);
        let found = match path.split_once('.') {
            Some((name, "name")) => component(name).map(|c| c.name.clone()),
            Some((name, parameter)) => component(name).and_then(|c| c.get(parameter)).map(text_of),
            None => component(path)
                .map(ToString::to_string)
                .or_else(|| serde_json::to_value(&self.config.training).ok().and_then(|v| v.get(path).map(text_of))),
        };
        let label = || self.axes.iter().find(|(axis, _)| axis == path).map(|(_, label)| text_of(label));
        found.or_else(label).ok_or_else(|| {
            let kind = path.split('.').next().unwrap_or(path);
            let mut known = self.settings();
            known.extend(self.axes.iter().map(|(axis, _)| axis.clone()));
            // Of a component that there is, its parameters; otherwise what comes nearest.
            let own = known.iter().filter(|name| name.strip_prefix(kind).is_some_and(|rest| rest.starts_with('.'))).cloned();
            let own: Vec<String> = own.take(SHOWN).collect();
            let near =
                if own.is_empty() { nearest(path, known.iter().map(String::as_str)).into_iter().map(str::to_owned).collect() } else { own };
            let hint =
                if near.is_empty() { "name one of its configuration, e.g. lr".to_owned() } else { format!("it has {}", near.join(", ")) };
            EngineError::Request(format!("{}: there is no setting `{path}`\n  hint: {hint}", show(&self.path)))
        })
    }

    /// `path` = value as a label, with the last part of the path as its name: `m=12`.
    ///
    /// # Errors
    /// [`EngineError`] where the run has no such setting.
    pub fn label(&self, path: &str) -> Result<String, EngineError> {
        let value = self.setting(path)?;
        Ok(path.rsplit_once('.').map_or_else(|| value.clone(), |(_, name)| format!("{name}={value}")))
    }
}

/// Mean of `metric` on `split` over the last `epochs` epochs in which it was measured; nothing when it never was.
pub fn last_epochs_mean(rows: &[Row], split: MetricsSplit, metric: &str, epochs: usize) -> Option<f64> {
    let by_epoch: BTreeMap<u64, f64> =
        rows.iter().filter(|row| row.split == split).filter_map(|row| Some((row.epoch, row.metrics.get(metric)?))).collect();
    let last: Vec<f64> = by_epoch.values().rev().take(epochs).copied().collect();
    (!last.is_empty()).then(|| last.iter().sum::<f64>() / last.len() as f64)
}

/// The split that a metric's name begins with.
pub fn split_of(word: &str) -> Option<MetricsSplit> {
    match word {
        "train" => Some(MetricsSplit::Train),
        "test" => Some(MetricsSplit::Test),
        "test_average" => Some(MetricsSplit::TestAverage),
        _ => None,
    }
}

/// Every way to read `<analysis>.<path>`: parameters may hold dots, as `salt_pepper/p:[0.1].settings.0.accuracy` does. The longest analysis
/// comes first.
pub fn readings(name: &str) -> Vec<(&str, &str)> {
    let cuts = name.match_indices('.').map(|(at, _)| (&name[..at], &name[at + 1..])).filter(|(_, path)| !path.is_empty());
    match name.find('/') {
        Some(slash) if !name[..slash].contains('.') => {
            let mut readable: Vec<_> = cuts.filter(|(selector, _)| selector.len() > slash && Selector::read(selector).is_ok()).collect();
            readable.reverse();
            if readable.is_empty() {
                name[slash..].find('.').map(|dot| (&name[..slash + dot], &name[slash + dot + 1..])).into_iter().collect()
            } else {
                readable
            }
        }
        _ => cuts.take(1).collect(),
    }
}

/// The entry of `value` at `path`: keys and positions joined by dots. A key may have dots itself, as `test_eps_0.1` has.
pub fn entry<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let child = |key: &str| match value {
        Value::Array(entries) => entries.get(key.parse::<usize>().ok()?),
        other => other.get(key),
    };
    child(path).or_else(|| path.match_indices('.').find_map(|(at, _)| entry(child(&path[..at])?, &path[at + 1..])))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_are_found_by_keys_with_dots_and_by_positions() {
        let value = json!({"test_eps_0.1": 1, "splits": [{"mi": 2}, {"mi": 3}], "a": {"b.c": {"d": 4}}});
        let number = |path: &str| entry(&value, path).and_then(Value::as_i64);
        assert_eq!(["test_eps_0.1", "splits.1.mi", "a.b.c.d"].map(number), [Some(1), Some(3), Some(4)]);
        assert_eq!(["test_eps_0.2", "splits.2.mi", "splits.x", "a.b"].map(number), [None; 4]);
    }

    #[test]
    fn the_last_epochs_are_averaged() {
        let row = |epoch, split, error: f64| Row {
            step: epoch * 10,
            epoch,
            split,
            metrics: [("error", error)].into_iter().collect(),
            time_s: 0.0,
            samples_per_s: 0.0,
        };
        let rows = [
            row(1, MetricsSplit::Test, 9.0),
            row(2, MetricsSplit::Test, 4.0),
            row(2, MetricsSplit::Train, 100.0),
            row(3, MetricsSplit::Test, 2.0),
        ];
        assert_eq!(last_epochs_mean(&rows, MetricsSplit::Test, "error", 2), Some(3.0));
        assert_eq!(last_epochs_mean(&rows, MetricsSplit::Test, "error", 9), Some(5.0));
        assert_eq!(last_epochs_mean(&rows, MetricsSplit::Test, "loss", 2), None);
    }
}
