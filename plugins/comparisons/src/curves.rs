//! Comparison `mean_curves`: metrics over the epochs, mean over seeds.

use ibhost_analyses::figures::batch_figures::{RunRows, mean_curves};
use ibhost_framework::comparison::{Compared, Comparison, ComparisonConfig};
use ibhost_framework::engine::EngineError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reading::{check, drawn, each, series, with_units};

/// Metrics over the epochs, mean over seeds with a band of one standard deviation; train dashed, test solid.
///
/// A panel a metric and a curve for each value of the settings in `series`. Runs of a curve may differ in their seed and the settings of
/// `--over` alone. `error...` is 1 - `accuracy...`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MeanCurves {
    /// Metrics of the log, without their split; all that were measured without it.
    pub metrics: Vec<String>,
    /// Settings that make curves.
    pub series: Vec<String>,
}

#[typetag::serde(name = "mean_curves")]
impl ComparisonConfig for MeanCurves {
    fn compare(&self, compared: &Compared<'_>) -> Result<Comparison, EngineError> {
        let (found, left_out) =
            each(compared.runs, |run| Ok(RunRows { series: series(run, &self.series)?, x: 0.0, rows: run.rows()?.to_vec() }));
        let members = found.iter().map(|(run, rows)| (rows.series.clone(), *run));
        check(compared, members, |series| format!("the curve of `{series}`"))?;
        let rows: Vec<RunRows> = found.into_iter().map(|(_, rows)| rows).collect();
        let mut metrics = self.metrics.clone();
        if metrics.is_empty() {
            for name in rows.iter().flat_map(|run| &run.rows).flat_map(|row| row.metrics.iter().map(|(name, _)| name)) {
                if !metrics.iter().any(|known| known == name) {
                    metrics.push(name.to_owned());
                }
            }
        }
        drawn("curves", &with_units(mean_curves(&rows, &metrics), &metrics, compared.runs), 2, &metrics, left_out)
    }
}

ibhost_framework::register! {
    Comparison: MeanCurves as ComparisonConfig, aliases: [], paper: "", example: "mean_curves/metrics:[loss;error]|series:[strategy]",
}
