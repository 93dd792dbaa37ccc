//! One run as a row: what its folder says about its state, settings and latest measurements.

use std::fs;
use std::path::{Path, PathBuf};

use ibhost_framework::storage::{Best, Metrics, RunDir, RunStatus, StorageError, Summary};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::folder::{axes_of, membership};

/// Deepest nesting of folders that is searched for runs.
const DEPTH: usize = 8;

/// A run as its files tell. Reading one changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Its folder.
    pub run_dir: PathBuf,
    /// How far it got; `None` when that cannot be read, see `reason`.
    pub status: Option<RunStatus>,
    /// Why it is as it is.
    pub reason: Option<String>,
    /// Objective in canonical form.
    pub objective: Option<String>,
    /// Encoder in canonical form.
    pub encoder: Option<String>,
    /// Data set in canonical form.
    pub dataset: Option<String>,
    /// Seed of every random draw.
    pub seed: Option<u64>,
    /// Epochs done.
    pub epochs: Option<u64>,
    /// Optimiser steps done.
    pub steps: Option<u64>,
    /// Best value of the watched metric.
    pub best: Option<Best>,
    /// Local time of the first start.
    pub started: Option<String>,
    /// Seconds of training and evaluation.
    pub seconds: Option<f64>,
    /// Command line, one argument each.
    #[serde(default)]
    pub command: Vec<String>,
    /// Sweep it belongs to.
    pub sweep: Option<String>,
    /// Its number there.
    pub trial: Option<usize>,
    /// Every setting by its path: a component's name under `objective`, its parameters under `objective.beta`, numbers under `lr`, and the
    /// label of an axis of its sweep that is called after no setting.
    #[serde(default)]
    pub settings: Map<String, Value>,
    /// Latest measurements, `<split>.<metric>`, in the order they were logged.
    #[serde(default, with = "pairs")]
    pub metrics: Vec<(String, f64)>,
}

/// Measurements as a JSON map; `null` stands for what is no finite number.
mod pairs {
    use ibhost_framework::storage::Metrics;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(pairs: &[(String, f64)], serializer: S) -> Result<S::Ok, S::Error> {
        pairs.iter().cloned().collect::<Metrics>().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, f64)>, D::Error> {
        let metrics = Metrics::deserialize(deserializer)?;
        Ok(metrics.iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

impl RunRecord {
    /// Reads the run in `path`; what is damaged becomes the `reason`.
    ///
    /// # Errors
    /// When `path` is not the folder of a run.
    pub fn read(path: &Path) -> Result<Self, StorageError> {
        let run = RunDir::open_read_only(path)?;
        let (sweep, trial) = membership(path).unzip();
        let sweep = sweep.and_then(|folder| Some(folder.file_name()?.to_string_lossy().into_owned()));
        let mut record = Self {
            run_dir: path.to_path_buf(),
            status: None,
            reason: None,
            objective: None,
            encoder: None,
            dataset: None,
            seed: None,
            epochs: None,
            steps: None,
            best: None,
            started: None,
            seconds: None,
            command: Vec::new(),
            sweep,
            trial,
            settings: Map::new(),
            metrics: Vec::new(),
        };
        match (run.status(), run.read_summary()) {
            (Ok(status), Ok(summary)) => record.fill(status, summary),
            // Killed while it was created: it has an identity, and nothing else yet.
            (Err(StorageError::Io { source, .. }), _) if source.kind() == std::io::ErrorKind::NotFound => {
                (record.status, record.reason) = (Some(RunStatus::Interrupted), Some("ended before its first step".to_owned()));
            }
            (Err(error), _) | (_, Err(error)) => record.reason = Some(error.to_string()),
        }
        match run.read_config() {
            Ok(Value::Object(config)) => {
                record.settings = flatten(config);
                for (axis, label) in axes_of(path) {
                    record.settings.entry(axis).or_insert(label);
                }
            }
            Ok(_) => {}
            Err(error) => record.reason = record.reason.or_else(|| Some(error.to_string())),
        }
        Ok(record)
    }

    fn fill(&mut self, status: RunStatus, summary: Summary) {
        let died = status == RunStatus::Interrupted && summary.status == RunStatus::Running;
        let reason = died.then(|| "its process ended without a word; `ibhost resume` continues from the last checkpoint".to_owned());
        (self.status, self.reason) = (Some(status), summary.reason.or(reason));
        (self.objective, self.encoder, self.dataset) = (Some(summary.objective), Some(summary.encoder), Some(summary.dataset));
        (self.seed, self.epochs, self.steps, self.best) = (Some(summary.seed), Some(summary.epochs), Some(summary.steps), summary.best);
        (self.started, self.seconds, self.command) = (Some(summary.started), Some(summary.elapsed_time_s), summary.command);
        let mut add = |split: &str, metrics: &Metrics| {
            self.metrics.extend(metrics.iter().map(|(name, value)| (format!("{split}.{name}"), value)));
        };
        add("train", &summary.final_metrics.train);
        add("test", &summary.final_metrics.test);
        if let Some(average) = &summary.final_metrics.test_average {
            add("test_average", average);
        }
    }

    /// Name of its folder.
    pub fn folder_name(&self) -> String {
        self.run_dir.file_name().map_or_else(|| self.run_dir.display().to_string(), |name| name.to_string_lossy().into_owned())
    }

    /// The value of a measurement.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// The word for its status.
    pub fn status_word(&self) -> &'static str {
        match self.status {
            Some(RunStatus::Running) => "running",
            Some(RunStatus::Completed) => "completed",
            Some(RunStatus::Interrupted) => "interrupted",
            Some(RunStatus::Failed) => "failed",
            None => "damaged",
        }
    }

    /// Everything that can be filtered and sorted by: state, settings and measurements.
    pub fn fields(&self) -> Vec<(String, Value)> {
        let mut fields = vec![("status".to_owned(), Value::from(self.status_word())), ("run".to_owned(), self.folder_name().into())];
        let mut add = |key: &str, value: Option<Value>| fields.extend(value.map(|value| (key.to_owned(), value)));
        add("sweep", self.sweep.clone().map(Value::from));
        add("trial", self.trial.map(Value::from));
        add("steps_done", self.steps.map(Value::from));
        add("epochs_done", self.epochs.map(Value::from));
        add("started", self.started.clone().map(Value::from));
        add("seconds", self.seconds.map(Value::from));
        add("best", self.best.as_ref().map(|best| Value::from(best.value)));
        fields.extend(self.settings.iter().map(|(key, value)| (key.clone(), value.clone())));
        fields.extend(self.metrics.iter().map(|(name, value)| (name.clone(), Value::from(*value))));
        fields
    }
}

/// Components become their name and one entry a parameter.
fn flatten(config: Map<String, Value>) -> Map<String, Value> {
    let mut flat = Map::new();
    for (key, value) in config {
        match value {
            Value::Object(parameters) => {
                for (parameter, value) in parameters {
                    let path = if parameter == "name" { key.clone() } else { format!("{key}.{parameter}") };
                    flat.insert(path, value);
                }
            }
            value => {
                flat.insert(key, value);
            }
        }
    }
    flat
}

/// The folders of all runs in `folder` and below, sorted; links are not followed.
///
/// # Errors
/// When `folder` itself cannot be listed; what cannot be read below it is passed over with a warning.
pub fn find_runs(folder: &Path) -> Result<Vec<PathBuf>, std::io::Error> {
    let mut found = Vec::new();
    let mut open = vec![(folder.to_path_buf(), 0)];
    while let Some((next, depth)) = open.pop() {
        let entries = match fs::read_dir(&next) {
            Ok(entries) => entries,
            Err(error) if depth == 0 => return Err(error),
            Err(error) => {
                tracing::warn!("`{}` is passed over: {error}", next.display());
                continue;
            }
        };
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) || entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let path = entry.path();
            if path.join(".run.json").is_file() {
                found.push(path);
            } else if depth < DEPTH {
                open.push((path, depth + 1));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
pub(crate) mod tests {
    use ibhost_framework::storage::{FinalMetrics, Versions};
    use serde_json::json;

    use super::*;

    /// A run in `folder` with a temperature of its own, completed with `accuracy`.
    pub(crate) fn make_run(folder: &Path, beta: f64, accuracy: f64) -> PathBuf {
        let run = RunDir::create(folder, "mlp-vib-digits", None).unwrap();
        run.write_config(&json!({"objective": {"name": "vib", "beta": beta}, "encoder": {"name": "mlp"}, "lr": 0.1})).unwrap();
        let test: Metrics = [("accuracy", accuracy), ("loss", f64::NAN)].into_iter().collect();
        let summary = Summary {
            status: RunStatus::Completed,
            reason: None,
            run_id: run.run_id().to_owned(),
            name: None,
            objective: format!("vib/beta:{beta}"),
            encoder: "mlp".into(),
            decoder: None,
            dataset: "digits".into(),
            seed: 3,
            device: "flex".into(),
            epochs: 2,
            steps: 10,
            started: "2026-01-02T03:04:05+01:00".into(),
            elapsed_time_s: 1.5,
            command: vec!["ibhost".into(), "run".into()],
            versions: Versions { ibhost: "0".into(), burn: "0".into() },
            identity: None,
            attempts: Vec::new(),
            parameters: 1,
            final_metrics: FinalMetrics { train: Metrics::new(), test, test_average: None },
            best: None,
        };
        run.write_summary(&summary).unwrap();
        run.path().to_path_buf()
    }

    #[test]
    fn a_run_becomes_a_row_and_comes_back_from_json() {
        let folder = tempfile::tempdir().unwrap();
        let trial = folder.path().join("sweeps/grid/trials/000007");
        fs::create_dir_all(&trial).unwrap();
        fs::write(folder.path().join("sweeps/grid/sweep.json"), "{}").unwrap();
        let path = make_run(&trial, 0.5, 0.75);
        let record = RunRecord::read(&path).unwrap();
        assert_eq!((record.status_word(), record.sweep.as_deref(), record.trial), ("completed", Some("grid"), Some(7)));
        assert_eq!((record.settings["objective"].as_str(), record.settings["objective.beta"].as_f64()), (Some("vib"), Some(0.5)));
        assert_eq!(record.metric("test.accuracy"), Some(0.75));
        let back: RunRecord = serde_json::from_value(serde_json::to_value(&record).unwrap()).unwrap();
        assert_eq!((back.metric("test.accuracy"), &back.settings), (Some(0.75), &record.settings));
        assert!(back.metric("test.loss").unwrap().is_nan());
    }

    #[test]
    fn runs_are_found_at_any_depth_and_never_inside_of_runs() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("sweeps/grid/trials/000000");
        let mut expected = vec![make_run(folder.path(), 1.0, 0.5), make_run(&deep, 1.0, 0.5)];
        fs::create_dir_all(expected[0].join("inner")).unwrap();
        fs::write(expected[0].join("inner/.run.json"), "{}").unwrap();
        expected.sort();
        assert_eq!(find_runs(folder.path()).unwrap(), expected);
        assert!(find_runs(&folder.path().join("absent")).is_err());
        let half = RunDir::create(folder.path(), "half", None).unwrap();
        let record = RunRecord::read(half.path()).unwrap();
        assert_eq!((record.status_word(), record.reason.as_deref()), ("interrupted", Some("ended before its first step")));
    }
}
