//! Comparison `setting`: metrics of the logs against a setting that is a number.

use ibhost_analyses::figures::batch_figures::{RunRows, against_setting};
use ibhost_framework::comparison::{Compared, Comparison, ComparisonConfig};
use ibhost_framework::engine::EngineError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reading::{check, drawn, each, number_at, series, with_units};

/// Metrics against a setting, mean over seeds with error bars of one standard deviation; train dashed, test solid.
///
/// A panel a metric and a curve for each value of the settings in `series`. Runs at one place of a curve may differ in their seed and the
/// settings of `--over` alone. `error...` is 1 - `accuracy...`; settings over decades are drawn logarithmically.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Setting {
    /// Setting on the horizontal axis, a number.
    pub x: String,
    /// Settings that make curves.
    pub series: Vec<String>,
    /// Metrics of the log, without their split.
    pub metrics: Vec<String>,
    /// Last evaluations that are averaged.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub last: usize,
}

impl Default for Setting {
    fn default() -> Self {
        Self { x: "lr".to_owned(), series: Vec::new(), metrics: vec!["loss".to_owned()], last: 1 }
    }
}

#[typetag::serde(name = "setting")]
impl ComparisonConfig for Setting {
    fn compare(&self, compared: &Compared<'_>) -> Result<Comparison, EngineError> {
        let (found, left_out) = each(compared.runs, |run| {
            Ok(RunRows { series: series(run, &self.series)?, x: number_at(run, &self.x)?, rows: run.rows()?.to_vec() })
        });
        let members = found.iter().map(|(run, rows)| ((rows.series.clone(), rows.x), *run));
        check(compared, members, |(series, x)| format!("the place {} = {x} of `{series}`", self.x))?;
        let rows: Vec<RunRows> = found.into_iter().map(|(_, rows)| rows).collect();
        let figures = with_units(against_setting(&rows, &self.x, &self.metrics, self.last), &self.metrics, compared.runs);
        drawn("setting", &figures, 2, &self.metrics, left_out)
    }
}

ibhost_framework::register! {
    Comparison: Setting as ComparisonConfig, aliases: [], paper: "", example: "setting/x:objective.beta|series:[strategy;encoder.name]|metrics:[error;loss]",
}
