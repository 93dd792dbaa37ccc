//! One run as a row: what its folder says about its state, settings and latest measurements.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ibhost_framework::storage::{Best, Metrics, RunDir, RunStatus, StorageError, Summary};
use ibhost_framework::text::path_text;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::scan::{Shared, scan};
use crate::folder::axes_in;

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
    /// Reads the run in `path`; what is missing or damaged becomes the `reason`.
    pub fn read(path: &Path) -> Self {
        Self::look(path, &Shared::default()).0
    }

    /// Reads the run in `path`, and says whether the row stays as it is until one of its files changes: that of a live run does not, nor one that says
    /// why something cannot be read, which may be readable the next time and names the folder as it was called this time.
    pub(super) fn look(path: &Path, shared: &Shared) -> (Self, bool) {
        let mut record = Self::nameless(path);
        let member = shared.of(path);
        if let Some((sweep, trial)) = &member {
            (record.sweep, record.trial) = (Some(sweep.name.clone()), Some(*trial));
        }
        let run = match RunDir::open_read_only(path) {
            Ok(run) => run,
            Err(error) => {
                record.reason = Some(error.to_string());
                return (record, false);
            }
        };
        let mut settled = match summary_and_holder(&run) {
            Ok((summary, held)) => {
                let ended = summary.status != RunStatus::Running;
                record.fill(held, summary);
                ended
            }
            // Killed while it was created: it has an identity, and nothing else yet.
            Err(StorageError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                (record.status, record.reason) = match RunDir::holder(path) {
                    Ok(Some(_)) => (Some(RunStatus::Running), Some("it is being created".to_owned())),
                    _ => (Some(RunStatus::Interrupted), Some("ended before its first step".to_owned())),
                };
                false
            }
            Err(error) => {
                record.reason = Some(error.to_string());
                false
            }
        };
        match read_config(&run, shared) {
            Ok(Value::Object(config)) => {
                record.settings = flatten(config);
                if let Some((sweep, trial)) = member {
                    for (axis, label) in axes_in(path, &sweep.definition, trial) {
                        record.settings.entry(axis).or_insert(label);
                    }
                }
            }
            Ok(_) => record.reason = record.reason.or_else(|| Some(format!("`{}` holds no settings", run.config_path().display()))),
            Err(error) => {
                settled = false;
                record.reason = record.reason.or_else(|| Some(error.to_string()));
            }
        }
        (record, settled)
    }

    /// A row for a folder that is no run, and why.
    pub(super) fn broken(path: &Path, reason: String, shared: &Shared) -> Self {
        let (sweep, trial) = shared.of(path).map(|(sweep, trial)| (sweep.name.clone(), trial)).unzip();
        Self { reason: Some(reason), sweep, trial, ..Self::nameless(path) }
    }

    /// A row of which only the folder is known.
    pub(super) fn nameless(path: &Path) -> Self {
        Self {
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
            sweep: None,
            trial: None,
            settings: Map::new(),
            metrics: Vec::new(),
        }
    }

    fn fill(&mut self, held: bool, summary: Summary) {
        let died = summary.status == RunStatus::Running && !held;
        let status = if died { RunStatus::Interrupted } else { summary.status };
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
        folder_name(&self.run_dir)
    }

    /// The value of a measurement.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// The word for its status.
    pub fn status_word(&self) -> &'static str {
        status_word(self.status)
    }
}

/// The last name in `path`; that of the folder itself for `.` and the like.
pub(super) fn folder_name(path: &Path) -> String {
    let whole = path.file_name().is_none().then(|| path.canonicalize().ok()).flatten();
    let path = whole.as_deref().unwrap_or(path);
    path_text(path.file_name().map_or(path, Path::new))
}

/// The word for a status.
pub(super) fn status_word(status: Option<RunStatus>) -> &'static str {
    match status {
        Some(RunStatus::Running) => "running",
        Some(RunStatus::Completed) => "completed",
        Some(RunStatus::Interrupted) => "interrupted",
        Some(RunStatus::Failed) => "failed",
        None => "damaged",
    }
}

/// The settings, of which many runs have most in common.
fn read_config(run: &RunDir, shared: &Shared) -> Result<Value, StorageError> {
    let text = run.config_text()?;
    shared.sections.read(&text).map_or_else(|| run.read_config(), |config| Ok(Value::Object(config)))
}

/// The summary, and whether a process is at work on the run. Only a run that says it is running is worth a look at the lock.
fn summary_and_holder(run: &RunDir) -> Result<(Summary, bool), StorageError> {
    let summary = run.read_summary()?;
    if summary.status != RunStatus::Running {
        return Ok((summary, false));
    }
    match RunDir::holder(run.path())? {
        Some(_) => Ok((summary, true)),
        // A process that ended meanwhile has written its last word by now.
        None => Ok((run.read_summary()?, false)),
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

/// The folders of all runs in `folder` and below, sorted, the folder itself where it is a run; links are not followed. What only looks like
/// a run is none, see [`find_all`].
///
/// # Errors
/// When `folder` itself cannot be listed; what cannot be read below it is passed over with a warning.
pub fn find_runs(folder: &Path) -> Result<Vec<PathBuf>, std::io::Error> {
    Ok(find_all(folder)?.into_iter().filter_map(|(path, broken)| broken.is_none().then_some(path)).collect())
}

/// As [`find_runs`], with the folders that were to become runs, or were runs once, each with what is wrong.
///
/// # Errors
/// As [`find_runs`].
pub fn find_all(folder: &Path) -> Result<Vec<(PathBuf, Option<String>)>, std::io::Error> {
    Ok(scan(folder, SystemTime::now(), &Shared::default())?.into_iter().map(|found| (found.path, found.broken)).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

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
        let record = RunRecord::read(&path);
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
        assert_eq!(RunRecord::read(half.path()).status_word(), "running", "its process is alive");
        let path = half.path().to_path_buf();
        drop(half);
        let record = RunRecord::read(&path);
        assert_eq!((record.status_word(), record.reason.as_deref()), ("interrupted", Some("ended before its first step")));
    }
}
