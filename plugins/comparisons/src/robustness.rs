//! Comparison `robustness`: a number of an analysis along an axis of its result, such as the strength of a corruption.

use ibhost_analyses::figures::batch_figures::{Robustness as Curve, robustness};
use ibhost_framework::comparison::{Compared, Comparison, ComparisonConfig};
use ibhost_framework::component::text_of;
use ibhost_framework::engine::EngineError;
use ibhost_framework::finished::{Document, FinishedRun};
use ibhost_framework::result::{Measured, values_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::group::{check_same_analysis, grouped};
use crate::reading::{check, drawn, each, series};

/// A number of an analysis along an axis of its result: accuracy against the strength of salt and pepper, or against severity.
///
/// A panel for each value of `panel` (an axis of the result such as `category`, or a setting), a curve for each value of the settings
/// in `series`; mean over seeds with a band of one standard deviation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Robustness {
    /// Analysis whose result is read.
    pub analysis: String,
    /// Name of the number in its result.
    pub value: String,
    /// Axis of the result along which it is drawn.
    pub along: String,
    /// Another axis of the result, at one place of which the number is taken.
    pub axis: String,
    /// The place on that axis.
    pub at: String,
    /// Axis of the result, or setting, that makes panels; one panel without it.
    pub panel: String,
    /// Settings that make curves.
    pub series: Vec<String>,
    /// Setting that tells a reference beside the others apart.
    pub reference: String,
    /// Its value for runs that are drawn dashed.
    pub dashed: String,
}

impl Default for Robustness {
    fn default() -> Self {
        let word = |text: &str| text.to_owned();
        Self {
            analysis: word("salt_pepper"),
            value: word("accuracy"),
            along: word("p"),
            axis: word("L"),
            at: word("12"),
            panel: String::new(),
            series: Vec::new(),
            reference: word("objective.name"),
            dashed: String::new(),
        }
    }
}

impl Robustness {
    fn curves(&self, run: &FinishedRun, document: &Document) -> Result<Vec<Curve>, EngineError> {
        let values = values_of(&document.value);
        let is_there = |m: &&Measured| m.name == self.value && m.axes.get(&self.axis).is_none_or(|at| text_of(at) == self.at);
        let dashed = !self.dashed.is_empty() && run.setting(&self.reference).is_ok_and(|value| value == self.dashed);
        let series = series(run, &self.series)?;
        let mut panels: Vec<(String, Vec<[f64; 2]>)> = Vec::new();
        for measured in values.iter().filter(is_there) {
            let Some(along) = measured.axes.get(&self.along).and_then(serde_json::Value::as_f64) else { continue };
            let panel = match measured.axes.get(&self.panel) {
                Some(panel) => text_of(panel),
                None if self.panel.is_empty() => self.analysis.clone(),
                None => run.setting(&self.panel)?,
            };
            match panels.iter_mut().find(|(known, _)| *known == panel) {
                Some((_, points)) => points.push([along, measured.value]),
                None => panels.push((panel, vec![[along, measured.value]])),
            }
        }
        if panels.is_empty() {
            let what = format!("its result has no `{}` along `{}` with {} {}", self.value, self.along, self.axis, self.at);
            return Err(run.lacks(&document.path, &self.analysis, &what));
        }
        let curve = |(panel, points)| Curve { panel, series: series.clone(), dashed, points };
        Ok(panels.into_iter().map(curve).collect())
    }
}

#[typetag::serde(name = "robustness")]
impl ComparisonConfig for Robustness {
    fn compare(&self, compared: &Compared<'_>) -> Result<Comparison, EngineError> {
        let (found, left_out) = each(compared.runs, |run| {
            let document = run.document(compared.selector(&self.analysis))?;
            Ok((self.curves(run, &document)?, document))
        });
        let curves = || {
            found.iter().flat_map(|(run, (curves, document))| {
                curves.iter().map(move |curve| ((curve.panel.clone(), curve.series.clone()), (*run, document)))
            })
        };
        let name = |(panel, series): &(String, String)| format!("the curve `{series}` of `{panel}`");
        check(compared, curves().map(|(key, (run, _))| (key, run)), name)?;
        for (key, results) in grouped(curves()) {
            check_same_analysis(&name(&key), &results)?;
        }
        let curves: Vec<Curve> = found.into_iter().flat_map(|(_, (curves, _))| curves).collect();
        drawn("robustness", &robustness(&curves, &self.along), 3, std::slice::from_ref(&self.value), left_out)
    }
}

ibhost_framework::register! {
    Comparison: Robustness as ComparisonConfig, aliases: [], paper: "", example: "robustness/analysis:cifar10c|along:severity|panel:category|series:[objective.name]",
}
