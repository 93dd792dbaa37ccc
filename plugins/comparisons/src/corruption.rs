//! Comparison `corruption`: errors on corrupted images relative to a reference.

use ibhost_analyses::figures::tables::{CorruptionCell, RunCorruption, corruption_table};
use ibhost_analyses::robustness::{cifar10c, mnistc};
use ibhost_framework::comparison::{Compared, Comparison, ComparisonConfig, ComparisonTable};
use ibhost_framework::component::text_of;
use ibhost_framework::engine::EngineError;
use ibhost_framework::finished::{Document, FinishedRun};
use ibhost_framework::result::values_of;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::group::{check_same_analysis, grouped};
use crate::reading::{check, each, values};

/// Mean corruption errors of runs that were analysed on corrupted images, relative to those of a reference.
///
/// mCE and relative mCE: means over categories of 100 times the error summed over runs and severities over the same sum of the reference;
/// relative errors have each run's clean error subtracted. Only the standard categories of the set count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Corruption {
    /// Analysis whose results are read: `mnistc`, `cifar10c` or another one with accuracies by category.
    pub analysis: String,
    /// Settings that make rows.
    pub rows: Vec<String>,
    /// Row that errors are relative to, the values of its settings joined by `-`; that of the first run without it.
    pub reference: Option<String>,
    /// Codes averaged.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub codes: u64,
    /// Metric of the test split with the accuracy on clean images.
    pub clean: String,
}

impl Default for Corruption {
    fn default() -> Self {
        Self {
            analysis: "mnistc".to_owned(),
            rows: vec!["objective.name".to_owned()],
            reference: None,
            codes: 12,
            clean: "accuracy_l12".to_owned(),
        }
    }
}

impl Corruption {
    fn measured(&self, run: &FinishedRun, document: &Document) -> Result<RunCorruption, EngineError> {
        let missing = |what: &str| run.lacks(&document.path, &self.analysis, what);
        let mut cells = Vec::new();
        for measured in values_of(&document.value).into_iter().filter(|measured| measured.name == "accuracy") {
            let Some(category) = measured.axes.get("category").map(text_of).filter(|category| category != "clean") else { continue };
            if measured.axes.get("L").and_then(serde_json::Value::as_u64).is_some_and(|codes| codes == self.codes) {
                let severity = measured.axes.get("severity").and_then(serde_json::Value::as_u64).unwrap_or(1) as u8;
                cells.push(CorruptionCell { category, severity, accuracy: measured.value });
            }
        }
        if cells.is_empty() {
            return Err(missing(&format!("has no accuracy with {} codes by category", self.codes)));
        }
        // The clean accuracy has to be that of the same weights.
        let last = run.summary()?.final_metrics;
        let clean = match (document.settings.checkpoint.as_str(), document.settings.average) {
            ("last", false) => Some(last.test),
            ("last", true) => last.test_average,
            _ => return Err(missing("is about the best checkpoint, whose clean accuracy is not known; analyse the last one")),
        };
        let clean_accuracy = clean
            .and_then(|metrics| metrics.get(&self.clean))
            .ok_or_else(|| missing(&format!("the run has no clean {} of these weights on its test split", self.clean)))?;
        let key = values(run, &self.rows)?.join("-");
        Ok(RunCorruption { name: run.path.display().to_string(), key, strategy: String::new(), clean_accuracy, cells })
    }
}

#[typetag::serde(name = "corruption")]
impl ComparisonConfig for Corruption {
    fn compare(&self, compared: &Compared<'_>) -> Result<Comparison, EngineError> {
        let (found, left_out) = each(compared.runs, |run| {
            let document = run.document(compared.selector(&self.analysis))?;
            Ok((self.measured(run, &document)?, document))
        });
        let Some((_, (first, _))) = found.first() else { return Ok(Comparison { left_out, ..Comparison::default() }) };
        let reference = self.reference.clone().unwrap_or_else(|| first.key.clone());
        // Every row is given relative to one of them, so that all have to be comparable.
        let results: Vec<_> = found.iter().map(|(run, (_, document))| (*run, document)).collect();
        check_same_analysis(&format!("table of `{}`", self.analysis), &results)?;
        check(compared, found.iter().map(|(run, (measured, _))| (&measured.key, *run)), |key| format!("`{}` of {key}", self.analysis))?;
        let measured: Vec<RunCorruption> = found.into_iter().map(|(_, (measured, _))| measured).collect();
        let known: &[&str] = match self.analysis.as_str() {
            "mnistc" => &mnistc::CATEGORIES,
            "cifar10c" => &cifar10c::CATEGORIES,
            _ => &[],
        };
        let mut categories: Vec<String> = known.iter().map(|category| (*category).to_owned()).collect();
        if categories.is_empty() {
            let all = measured.iter().flat_map(|run| &run.cells).map(|cell| (cell.category.clone(), ()));
            categories = grouped(all).into_iter().map(|(category, _)| category).collect();
        }
        let result = corruption_table(&measured, &reference, &[String::new()], &categories)
            .map_err(|error| EngineError::Request(error.to_string()))?;
        let header = ["key", "runs", "clean error / %", "mCE", "rel mCE", "rel mCE standard"].map(str::to_owned).to_vec();
        let rows = result.rows.iter().map(|row| {
            let [mean, std] = row.clean_error;
            let clean = if row.runs > 1 { format!("{mean:.2}±{std:.2}") } else { format!("{mean:.2}") };
            let numbers = [row.mce, row.rel_mce, row.rel_mce_standard].map(|number| format!("{number:.2}"));
            [vec![row.key.clone(), row.runs.to_string(), clean], numbers.to_vec()].concat()
        });
        let table = ComparisonTable { name: self.analysis.clone(), cells: std::iter::once(header).chain(rows).collect() };
        let name = |what: &str| format!("{}-{what}.csv", self.analysis);
        let files = vec![(name("errors"), result.errors_csv()), (name("relative-errors"), result.relative_errors_csv())];
        Ok(Comparison { tables: vec![table], files, left_out, ..Comparison::default() })
    }
}

ibhost_framework::register! {
    Comparison: Corruption as ComparisonConfig, aliases: [], paper: "Hendrycks & Dietterich 2019", example: "corruption/analysis:cifar10c|rows:[objective.name;strategy]",
}
