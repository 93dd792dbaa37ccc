//! Runs that are looked at together: their configurations, logs and analyses.

use std::path::{Path, PathBuf};

use ibhost_analyses::batch_table::last_epochs_mean;
use ibhost_framework::component::text_of;
use ibhost_framework::run::RunConfig;
use ibhost_framework::storage::{MetricsLog, MetricsSplit, Row, RunDir, inside, write_atomic};
use ibhost_sweep::folder::axes_of;
use serde_json::Value;

use super::check_run_folder;
use crate::exit::Failure;
use crate::paths::show;
use crate::table;

/// One of several runs.
pub struct Run {
    /// Its folder.
    pub path: PathBuf,
    /// What it was configured to do.
    pub config: RunConfig,
    /// Value of each axis of the sweep it belongs to.
    pub axes: Vec<(String, Value)>,
}

impl Run {
    /// Opens the runs in `paths`.
    pub fn open_all(paths: &[PathBuf]) -> Result<Vec<Self>, Failure> {
        paths.iter().map(|path| Self::open(path)).collect()
    }

    /// Opens the run in `path`.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        check_run_folder(path)?;
        let folder = RunDir::open_read_only(path)?;
        let config = RunConfig::from_json(folder.read_config()?)?;
        Ok(Self { path: path.to_path_buf(), config, axes: axes_of(path) })
    }

    /// The rows of its metrics log.
    pub fn rows(&self) -> Result<Vec<Row>, Failure> {
        Ok(MetricsLog::read(&RunDir::open_read_only(&self.path)?.metrics_path())?)
    }

    /// What `analyses/<analysis>.json` holds, and its path.
    pub fn analysis(&self, analysis: &str) -> Result<(PathBuf, Value), Failure> {
        let path = self.path.join("analyses").join(analysis).with_extension("json");
        inside::check_file(&path)?;
        let text = inside::read_text(&path).map_err(|e| self.lacks(&path, analysis, &format!("cannot be read: {e}")))?;
        let document = serde_json::from_str(&text).map_err(|e| self.lacks(&path, analysis, &format!("is not valid JSON: {e}")))?;
        Ok((path, document))
    }

    /// `<split>.<metric>`, the mean of the log's `last` evaluations, or `<analysis>.<path>`, a number in an analysis's result.
    pub fn value(&self, name: &str, last: usize) -> Result<f64, Failure> {
        let (source, path) = name.split_once('.').unwrap_or((name, ""));
        let split = match source {
            "train" => Some(MetricsSplit::Train),
            "test" => Some(MetricsSplit::Test),
            "test_average" => Some(MetricsSplit::TestAverage),
            _ => None,
        };
        if path.is_empty() {
            return Err(Failure::usage(format!("`{name}` is no metric: write e.g. test.loss, or nll.nll for a number of an analysis")));
        }
        if let Some(split) = split {
            let found = last_epochs_mean(&self.rows()?, split, path, last);
            return found.ok_or_else(|| Failure::usage(format!("{} never measured `{name}`", show(&self.path))));
        }
        let (file, document) = self.analysis(source)?;
        let found = entry(&document["result"], path).and_then(Value::as_f64);
        found.ok_or_else(|| self.lacks(&file, source, &format!("its result has no number `{path}`")))
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
    fn entries_are_found_by_keys_with_dots_and_by_positions() {
        let value = json!({"test_eps_0.1": 1, "splits": [{"mi": 2}, {"mi": 3}], "a": {"b.c": {"d": 4}}});
        let number = |path: &str| entry(&value, path).and_then(Value::as_i64);
        assert_eq!(["test_eps_0.1", "splits.1.mi", "a.b.c.d"].map(number), [Some(1), Some(3), Some(4)]);
        assert_eq!(["test_eps_0.2", "splits.2.mi", "splits.x", "a.b"].map(number), [None; 4]);
    }
}
