//! The runs of a report and the numbers found in them.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ibhost_analyses::figures::batch_figures::value_of;
use ibhost_framework::engine::EngineError;
use ibhost_framework::finished::{FinishedRun, Selector, entry, readings, split_of};
use ibhost_framework::identity::OtherDataPolicy;
use ibhost_framework::result::{titled_by_units, values_of};
use ibhost_framework::storage::{MetricsSplit, Row, RunDir, RunStatus, Summary};
use ibhost_sweep::store::find_runs;
use serde_json::Value;

use super::alike::{made_with, settings_of};
use super::template::{Published, Quantity, Section, is_value};
use crate::commands::open_run;
use crate::exit::Failure;
use crate::paths::show;

/// A run as a report sees it.
pub struct Trial {
    /// Its folder and configuration.
    pub run: FinishedRun,
    /// Its status, a dead process's run being interrupted.
    pub status: RunStatus,
    /// What it says of itself.
    pub summary: Summary,
    /// What must agree between repetitions, see [`super::alike`].
    pub settings: Vec<(String, String)>,
    /// Numbers of analyses that were looked for.
    measured: RefCell<HashMap<String, Looked>>,
}

/// What came of looking for a number: it, that there is none, or why it cannot be told.
type Looked = Result<Option<Rc<Measured>>, String>;

/// A number of an analysis.
#[derive(Debug)]
pub struct Measured {
    /// The number.
    pub value: f64,
    /// Its unit, where the result says so.
    pub unit: Option<String>,
    /// Whether its result is about other data than the run was trained on.
    pub other_data: bool,
    /// What its result was made with, see [`super::alike`].
    pub made_with: BTreeMap<String, String>,
}

/// Split and metric of `test.accuracy`; nothing for what is no metric.
pub fn metric_of(of: &str) -> Option<(MetricsSplit, &str)> {
    let (split, metric) = of.split_once('.')?;
    Some((split_of(split)?, metric))
}

impl Trial {
    /// Reads the run in `path`.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let run = open_run(path, OtherDataPolicy::Refuse)?;
        let (status, summary) = (run.status()?, run.summary()?);
        run.rows()?;
        let whole = run.folder().read_config()?;
        let mut trial = Self { run, status, summary, settings: Vec::new(), measured: RefCell::default() };
        trial.settings = settings_of(&trial, &whole);
        Ok(trial)
    }

    /// Its log, which was read when it was opened.
    pub fn rows(&self) -> &[Row] {
        self.run.rows().unwrap_or_default()
    }

    /// A number: a final metric (`test.accuracy`, `error...` for 1 - `accuracy...`), a field of the summary, or an entry of an analysis'
    /// result by its keys and positions (`mutual_information.train.ixt`). Nothing when the run does not have it, or it cannot be told which.
    pub fn value(&self, of: &str) -> Option<f64> {
        self.own(of).or_else(|| self.measured(of).ok().flatten().map(|measured| measured.value))
    }

    /// A number of an analysis; nothing for other numbers and where the run does not have it.
    ///
    /// # Errors
    /// Words for a result that is damaged, of weights that the run no longer has, or one of several.
    pub fn measured(&self, of: &str) -> Result<Option<Rc<Measured>>, String> {
        if metric_of(of).is_some() || self.own(of).is_some() {
            return Ok(None);
        }
        if let Some(known) = self.measured.borrow().get(of) {
            return known.clone();
        }
        let found = self.look_up(of).map_err(|error| error.to_string());
        self.measured.borrow_mut().insert(of.to_owned(), found.clone());
        found
    }

    fn look_up(&self, of: &str) -> Result<Option<Rc<Measured>>, EngineError> {
        for (selector, path) in readings(of) {
            if Selector::read(selector).is_ok()
                && let Some(document) = self.run.find(selector, |_| true)?
                && let Some(value) = entry(&document.value["result"], path).and_then(Value::as_f64)
            {
                let place = path.replace('.', "/");
                let unit = values_of(&document.value)
                    .into_iter()
                    .find(|known| known.place == place || known.place == path)
                    .map(|known| known.unit);
                let other_data = document.settings.other_data.is_some();
                return Ok(Some(Rc::new(Measured { value, unit, other_data, made_with: made_with(&document) })));
            }
        }
        Ok(None)
    }

    /// The unit of a number; nothing where that is not known.
    pub fn unit(&self, of: &str) -> Option<String> {
        match metric_of(of) {
            Some((_, metric)) => self.run.unit_of_metric(metric),
            None => self.measured(of).ok().flatten()?.unit.clone(),
        }
    }

    fn own(&self, of: &str) -> Option<f64> {
        if let Some((split, metric)) = metric_of(of) {
            let last = &self.summary.final_metrics;
            let metrics = match split {
                MetricsSplit::Train => &last.train,
                MetricsSplit::Test => &last.test,
                MetricsSplit::TestAverage => last.test_average.as_ref()?,
            };
            return value_of(metric, |name| metrics.get(name));
        }
        match of {
            "elapsed_time_s" => Some(self.summary.elapsed_time_s),
            "parameters" => Some(self.summary.parameters as f64),
            "epochs" => Some(self.summary.epochs as f64),
            "steps" => Some(self.summary.steps as f64),
            "best" => self.summary.best.as_ref().map(|best| best.value),
            _ => None,
        }
    }

    /// Whether the run has the settings a section asks for; one that it does not have is another value.
    pub fn belongs(&self, section: &Section) -> bool {
        section.filter.iter().all(|(setting, wanted)| {
            self.setting(setting).is_some_and(|text| match wanted {
                Value::Array(choices) => choices.iter().any(|choice| is_value(&text, choice)),
                one => is_value(&text, one),
            })
        })
    }

    /// Whether the run is one of the group that published figures are for, the setting `besides` left out.
    pub fn is_at(&self, published: &Published, besides: Option<&str>) -> bool {
        let mut wanted = published.at.iter().filter(|(setting, _)| Some(setting.as_str()) != besides);
        wanted.all(|(setting, wanted)| self.run.setting(setting).is_ok_and(|text| is_value(&text, wanted)))
    }

    /// Name of its folder.
    pub fn name(&self) -> String {
        self.run.path.file_name().map_or_else(|| show(&self.run.path), |name| name.to_string_lossy().into_owned())
    }
}

/// What a quantity is called on a page: by the name that a template gives it, or by where it is found with the unit that it has in `trials`.
pub fn heading(quantity: &Quantity, trials: &[(usize, &Trial)]) -> String {
    match quantity {
        Quantity::Long(long) if long.name.is_some() => quantity.name().to_owned(),
        _ => titled_by_units(quantity.name(), trials.iter().filter_map(|(_, trial)| trial.unit(quantity.of()))),
    }
}

/// Folders of the runs in `path`: itself, or those below it, in the order of their names.
pub fn run_folders(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if RunDir::open_read_only(path).is_ok() {
        return Ok(vec![path.to_path_buf()]);
    }
    let found = find_runs(path).map_err(|e| Failure::usage(format!("cannot list `{}`: {e}", show(path))))?;
    if found.is_empty() {
        return Err(no_run_in(path));
    }
    Ok(found)
}

/// There is nothing in `path` to look at.
pub fn no_run_in(path: &Path) -> Failure {
    Failure::usage(format!(
        "there is no run in `{}`\n  hint: name the folder of a run, of a sweep, or the one given to `ibhost run --output-dir`",
        show(path)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_named_with_their_split() {
        assert_eq!(metric_of("test.accuracy"), Some((MetricsSplit::Test, "accuracy")));
        assert_eq!(metric_of("test_average.a.b"), Some((MetricsSplit::TestAverage, "a.b")));
        assert_eq!([metric_of("attack.x"), metric_of("steps")], [None, None]);
    }

    #[test]
    fn a_folder_without_runs_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("empty")).unwrap();
        let error = run_folders(folder.path()).unwrap_err().to_string();
        assert!(error.contains("there is no run in") && error.contains(&show(folder.path())), "{error}");
    }
}
