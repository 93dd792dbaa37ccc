//! Runs that are looked at together: their configurations, logs and analyses.

use std::path::{Path, PathBuf};

use ibhost_analyses::figures::batch_table::last_epochs_mean;
use ibhost_framework::component::text_of;
use ibhost_framework::run::RunConfig;
use ibhost_framework::storage::{MetricsLog, MetricsSplit, Row, RunDir, RunStatus, inside, write_atomic};
use ibhost_sweep::folder::axes_of;
use serde_json::Value;

use super::check_run_folder;
use crate::exit::Failure;
use crate::paths::show;
use crate::results::{Document, Found, Selector, documents, select};
use crate::table;

/// A document about weights that the run no longer has, and the newest step there is.
type Stale = (Document, u64);

/// One of several runs.
pub struct Run {
    /// Its folder.
    pub path: PathBuf,
    /// Its id, which copies of its folder share.
    pub id: String,
    /// What it was configured to do.
    pub config: RunConfig,
    /// Value of each axis of the sweep it belongs to.
    pub axes: Vec<(String, Value)>,
    /// Where results of analyses are read: its folder, or one elsewhere.
    pub results: PathBuf,
}

impl Run {
    /// Opens the run in `path`.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        check_run_folder(path)?;
        let folder = RunDir::open_read_only(path)?;
        let config = RunConfig::from_json(folder.read_config()?)?;
        let id = folder.run_id().to_owned();
        Ok(Self { path: path.to_path_buf(), id, config, axes: axes_of(path), results: path.to_path_buf() })
    }

    /// How far it got; a run whose process is gone is interrupted.
    pub fn status(&self) -> Result<RunStatus, Failure> {
        Ok(RunDir::open_read_only(&self.path)?.status()?)
    }

    /// The rows of its metrics log.
    pub fn rows(&self) -> Result<Vec<Row>, Failure> {
        Ok(MetricsLog::read(&RunDir::open_read_only(&self.path)?.metrics_path())?)
    }

    /// File and content of the result of an analysis that `selector` means, see [`Selector::read`].
    pub fn analysis(&self, selector: &str) -> Result<(PathBuf, Value), Failure> {
        self.document(selector).map(|document| (document.path, document.value))
    }

    /// The result of an analysis that `selector` means: the only one of `ksg`, or the one of `ksg/k:3`. Refused when there are several.
    pub fn document(&self, selector: &str) -> Result<Document, Failure> {
        self.find(selector, |_| true)?.ok_or_else(|| {
            let name = selector.split(['/', '-']).next().unwrap_or(selector);
            self.lacks(&self.results.join("analyses").join(name).with_extension("json"), name, "is missing")
        })
    }

    /// The same among the results that `keep` accepts; nothing when there is no result of the analysis.
    pub fn find(&self, selector: &str, keep: impl Fn(&Document) -> bool) -> Result<Option<Document>, Failure> {
        let selector = Selector::read(selector)?;
        let name = selector.name();
        let Found { documents, damaged } = documents(&self.results, name, self.config.training.seed);
        // Results can be copied from one folder to another.
        let is_own = |document: &Document| document.value["run"].as_str().is_none_or(|run| run == self.id);
        let (documents, foreign): (Vec<Document>, Vec<Document>) = documents.into_iter().filter(keep).partition(is_own);
        let (documents, stale) = self.current(documents)?;
        let found = select(documents, &selector).map_err(|problem| Failure::usage(format!("{}: {problem}", show(&self.path))))?;
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
    fn current(&self, documents: Vec<Document>) -> Result<(Vec<Document>, Vec<Stale>), Failure> {
        let entries = RunDir::open_read_only(&self.path)?.checkpoints().list()?;
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
    pub fn value(&self, name: &str, last: usize) -> Result<f64, Failure> {
        let (source, path) = name.split_once('.').unwrap_or((name, ""));
        if path.is_empty() {
            return Err(Failure::usage(format!("`{name}` is no metric: write e.g. test.loss, or nll.nll for a number of an analysis")));
        }
        if let Some(split) = split_of(source) {
            let found = last_epochs_mean(&self.rows()?, split, path, last);
            return found.ok_or_else(|| Failure::usage(format!("{} never measured `{name}`", show(&self.path))));
        }
        self.number(name).map(|(value, _)| value)
    }

    /// A number in the result of an analysis and the document it stands in: `ksg.mutual_information`, or `ksg/k:3.mutual_information`.
    pub fn number(&self, name: &str) -> Result<(f64, Document), Failure> {
        let mut first = None;
        for (selector, path) in readings(name) {
            let found = self.document(selector).and_then(|document| {
                let value = entry(&document.value["result"], path).and_then(Value::as_f64);
                let lacks = || self.lacks(&document.path, &document.settings.name, &format!("its result has no number `{path}`"));
                Ok((value.ok_or_else(lacks)?, document))
            });
            match found {
                Ok(found) => return Ok(found),
                Err(failure) => first = first.or(Some(failure)),
            }
        }
        Err(first.unwrap_or_else(|| Failure::usage(format!("`{name}` is no number of an analysis: write e.g. nll.nll"))))
    }

    /// `path`, which `analysis` writes, does not hold what is needed.
    pub fn lacks(&self, path: &Path, analysis: &str, what: &str) -> Failure {
        Failure::usage(format!("`{}`: {what}\n  hint: run `ibhost analyze {} --analysis {analysis}`", show(path), show(&self.path)))
    }

    /// Every path to one value that [`Self::setting`] knows: names and parameters of the components, and the settings of training.
    pub fn settings(&self) -> Vec<String> {
        let config = &self.config;
        let components = [
            ("objective", &config.objective),
            ("encoder", &config.encoder),
            ("decoder", &config.decoder),
            ("dataset", &config.dataset),
            ("strategy", &config.strategy),
            ("optimiser", &config.optimiser),
            ("schedule", &config.schedule),
        ];
        let mut paths = Vec::new();
        for (kind, component) in components {
            if let Value::Object(full) = component.to_json_full() {
                paths.extend(full.keys().map(|name| format!("{kind}.{name}")));
            }
        }
        if let Ok(Value::Object(training)) = serde_json::to_value(&config.training) {
            paths.extend(training.keys().cloned());
        }
        paths
    }

    /// Value of `path` in the run's configuration: a component (`strategy`), its name alone
    /// (`strategy.name`), one of its parameters (`objective.m`), a number (`lr`), or the label of an axis of its sweep.
    pub fn setting(&self, path: &str) -> Result<String, Failure> {
        let config = &self.config;
        let component = |name: &str| match name {
            "objective" => Some(&config.objective),
            "encoder" => Some(&config.encoder),
            "decoder" => Some(&config.decoder),
            "dataset" => Some(&config.dataset),
            "strategy" => Some(&config.strategy),
            "optimiser" => Some(&config.optimiser),
            "schedule" => Some(&config.schedule),
            _ => None,
        };
        let found = match path.split_once('.') {
            Some((name, "name")) => component(name).map(|c| c.name.clone()),
            Some((name, parameter)) => component(name).and_then(|c| c.get(parameter)).map(text_of),
            None => component(path)
                .map(ToString::to_string)
                .or_else(|| serde_json::to_value(&config.training).ok().and_then(|v| v.get(path).map(text_of))),
        };
        let label = || self.axes.iter().find(|(axis, _)| axis == path).map(|(_, label)| text_of(label));
        found.or_else(label).ok_or_else(|| {
            let hint = "name one such as strategy, objective.m or lr, or an axis of the run's sweep";
            Failure::usage(format!("{}: there is no setting `{path}`\n  hint: {hint}", show(&self.path)))
        })
    }

    /// `path` = value as a label, with the last part of the path as its name: `m=12`.
    pub fn label(&self, path: &str) -> Result<String, Failure> {
        let value = self.setting(path)?;
        Ok(path.rsplit_once('.').map_or_else(|| value.clone(), |(_, name)| format!("{name}={value}")))
    }
}

/// Lets results of analyses be read in folders of the runs' names below `folder`, where one is given.
pub fn read_results_from(runs: &mut [Run], folder: Option<&Path>) {
    let Some(folder) = folder else { return };
    for run in runs {
        let real = std::fs::canonicalize(&run.path).unwrap_or_else(|_| run.path.clone());
        run.results = folder.join(real.file_name().unwrap_or_default());
    }
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

/// Writes `files` (name and text) into `folder`.
pub fn save(folder: &Path, files: &[(&str, String)]) -> Result<(), Failure> {
    inside::check_outside(folder).map_err(Failure::usage)?;
    std::fs::create_dir_all(folder).map_err(|e| Failure::failed(format!("cannot create `{}`: {e}", show(folder))))?;
    for (name, text) in files {
        write_atomic(&folder.join(name), text.as_bytes())?;
        table::print(&format!("wrote {}", show(&folder.join(name))))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn analyses_with_parameters_are_cut_off_where_they_end() {
        assert_eq!(readings("nll.a.b"), [("nll", "a.b")]);
        assert_eq!(readings("salt_pepper/p:[0.1].settings.0.accuracy"), [("salt_pepper/p:[0.1]", "settings.0.accuracy")]);
        assert_eq!(readings("ood/temper:0.5.grid.auroc")[0], ("ood/temper:0.5", "grid.auroc"));
        assert_eq!(readings("ksg/.mutual_information"), [("ksg/", "mutual_information")]);
        assert_eq!(readings("ksg-1a2b3c4d.mutual_information"), [("ksg-1a2b3c4d", "mutual_information")]);
        assert_eq!(readings("ksg/q:1.x"), [("ksg/q:1", "x")], "what cannot be read is named by the error");
        assert!(readings("ksg").is_empty() && readings("ksg.").is_empty());
    }

    #[test]
    fn entries_are_found_by_keys_with_dots_and_by_positions() {
        let value = json!({"test_eps_0.1": 1, "splits": [{"mi": 2}, {"mi": 3}], "a": {"b.c": {"d": 4}}});
        let number = |path: &str| entry(&value, path).and_then(Value::as_i64);
        assert_eq!(["test_eps_0.1", "splits.1.mi", "a.b.c.d"].map(number), [Some(1), Some(3), Some(4)]);
        assert_eq!(["test_eps_0.2", "splits.2.mi", "splits.x", "a.b"].map(number), [None; 4]);
    }
}
