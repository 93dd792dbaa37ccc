//! Comparison `axis`: numbers of logs and of results against a setting, beside those of others.

use std::path::Path;

use ibhost_analyses::figures::axis_figure::{Measured, against_axis, read_measured};
use ibhost_framework::comparison::{Compared, Comparison, ComparisonConfig};
use ibhost_framework::engine::EngineError;
use ibhost_framework::finished::split_of;
use ibhost_framework::text::show;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::group::{check_same_analysis, grouped};
use crate::reading::{check, drawn, each, number_at};

/// Numbers of logs and results against a setting: a line for each value of `line`, error bars over the runs at a place.
///
/// `metrics` are `<split>.<metric>` of the log or `<analysis>.<path in its result>` of runs. Tables given with `--values` stand beside
/// the runs, those of `--reference` are drawn dashed; both have the columns line, x, metric, value and perhaps spread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Axis {
    /// Setting on the horizontal axis, a number.
    pub x: String,
    /// Setting that makes lines.
    pub line: String,
    /// What is drawn, a panel each.
    pub metrics: Vec<String>,
    /// Last evaluations of the log that are averaged.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub last: usize,
}

impl Default for Axis {
    fn default() -> Self {
        Self { x: "lr".to_owned(), line: "objective".to_owned(), metrics: vec!["test.loss".to_owned()], last: 1 }
    }
}

fn table_of(path: &Path, reference: bool) -> Result<Vec<Measured>, EngineError> {
    let text = std::fs::read_to_string(path).map_err(|e| EngineError::Request(format!("`{}` cannot be read: {e}", show(path))))?;
    read_measured(&text, reference).map_err(|reason| EngineError::Request(format!("`{}`: {reason}", show(path))))
}

#[typetag::serde(name = "axis")]
impl ComparisonConfig for Axis {
    fn compare(&self, compared: &Compared<'_>) -> Result<Comparison, EngineError> {
        let (found, left_out) = each(compared.runs, |run| {
            let (line, x) = (run.label(&self.line)?, number_at(run, &self.x)?);
            let mut values = Vec::new();
            for metric in &self.metrics {
                let is_logged = metric.split_once('.').is_none_or(|(split, _)| split_of(split).is_some());
                let (value, document) = if is_logged {
                    (run.value(metric, self.last)?, None)
                } else {
                    run.number_by(metric, |analysis| compared.selector(analysis).to_owned())
                        .map(|(value, document)| (value, Some(document)))?
                };
                let measured = Measured { line: line.clone(), x, metric: metric.clone(), value, spread: None, reference: false };
                values.push((measured, document));
            }
            Ok((line, x, values))
        });
        let place = |line: &str, x: f64| format!("the place {} = {x} of `{line}`", self.x);
        check(compared, found.iter().map(|(run, (line, x, _))| ((line.clone(), *x), *run)), |(line, x)| place(line, *x))?;
        let documents = found.iter().flat_map(|(run, (line, x, values))| {
            values.iter().filter_map(move |(measured, document)| Some(((line, *x, &measured.metric), (*run, document.as_ref()?))))
        });
        for ((line, x, metric), results) in grouped(documents) {
            check_same_analysis(&format!("`{metric}` at {}", place(line, x)), &results)?;
        }
        let mut measured: Vec<Measured> = found.into_iter().flat_map(|(_, (_, _, values))| values).map(|(measured, _)| measured).collect();
        for (paths, reference) in [(compared.values, false), (compared.references, true)] {
            for path in paths {
                measured.extend(table_of(path, reference)?);
            }
        }
        drawn("axis", &against_axis(&measured, &self.x, &self.metrics), 2, &self.metrics, left_out)
    }
}

ibhost_framework::register! {
    Comparison: Axis as ComparisonConfig, aliases: [], paper: "", example: "axis/x:objective.beta|line:objective.name|metrics:[test.loss;nll.nll]",
}
