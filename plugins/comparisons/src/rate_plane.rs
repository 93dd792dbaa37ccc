//! Comparison `rate_plane`: a grid of generative models with two weights of rates, over the plane of their two rates.

use std::collections::BTreeMap;

use ibhost_analyses::figures::rate_plane::{BetaGrid, Evaluated, page, pictures};
use ibhost_analyses::information::accuracy_bound::AccuracyBound;
use ibhost_framework::comparison::{Compared, Comparison, ComparisonConfig, ComparisonTable, Picture};
use ibhost_framework::component::text_of;
use ibhost_framework::engine::EngineError;
use ibhost_framework::finished::FinishedRun;
use ibhost_framework::result::{Measured, values_of};
use ibhost_framework::text::show;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::group::grouped;
use crate::reading::{each, number_at};

/// Analyses whose numbers are shown as they are called, those of two levels with `_lower` and `_top`.
const ANALYSES: [&str; 6] = ["psnr", "fid", "inception_score", "reconstruction_accuracy", "label_information", "probes"];

/// Numbers of these that are shown.
const SHOWN: [&str; 16] = [
    "psnr",
    "distortion",
    "fid",
    "inception_score",
    "deviation",
    "diversity",
    "sharpness",
    "reconstruction_accuracy",
    "recons_entropy",
    "classifier_accuracy",
    "information",
    "accuracy_bound",
    "logistic",
    "svm_rbf",
    "svm_linear",
    "knn",
];

/// A grid of generative models with two weights of rates: matrices of what was measured, and its figures over the plane of the two rates.
///
/// Reads the results of `rates` and, where they are there, of psnr, fid, inception_score, reconstruction_accuracy, label_information and
/// probes. A plain code counts as the lower level of a hierarchy without a top.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RatePlane {
    /// Setting with the weight of the lower levels' rate.
    pub lower: String,
    /// Setting with the weight of the top level's rate.
    pub top: String,
}

impl Default for RatePlane {
    fn default() -> Self {
        Self { lower: "objective.beta_y".to_owned(), top: "objective.beta_z".to_owned() }
    }
}

/// What a run has, the bound of its labels, and the judges behind it.
struct Found {
    model: Evaluated,
    bound: Option<AccuracyBound>,
    judges: Vec<String>,
}

impl RatePlane {
    fn weight(run: &FinishedRun, setting: &str) -> Result<f64, EngineError> {
        let weight = number_at(run, setting)?;
        if weight > 0.0 {
            return Ok(weight);
        }
        Err(EngineError::Request(format!("{}: the setting `{setting}` is {weight}, a weight of a rate must be above 0", show(&run.path))))
    }

    fn read(&self, run: &FinishedRun, compared: &Compared<'_>) -> Result<Found, EngineError> {
        let beta = [Self::weight(run, &self.lower)?, Self::weight(run, &self.top)?];
        let rates = run.find(compared.selector("rates"), |_| true)?.map(|document| values_of(&document.value));
        let rates: Vec<f64> = rates.iter().flatten().filter(|measured| measured.name == "rate").map(|measured| measured.value).collect();
        let rate = match &rates[..] {
            [] => [f64::NAN; 2],
            [only] => [*only, 0.0],
            [lower @ .., top] => [lower.iter().sum(), *top],
        };
        let (mut values, mut bound, mut judges) = (BTreeMap::new(), None, Vec::new());
        for analysis in ANALYSES {
            let Some(document) = run.find(compared.selector(analysis), |_| true)? else { continue };
            judges.extend(document.sources().into_values());
            let measured = values_of(&document.value);
            let levels: Vec<String> =
                grouped(measured.iter().filter_map(|m| Some((text_of(m.axes.get("level")?), ())))).into_iter().map(|g| g.0).collect();
            for one in &measured {
                if let Some(name) = name_in_grid(one, &levels) {
                    // What probes say of the information of a level is what `label_information` says.
                    values.entry(name).or_insert(one.value);
                }
            }
            let result = &document.value["result"];
            if let (Some(entropy), Some(classes)) = (result["label_entropy"].as_f64(), result["classes"].as_u64()) {
                bound = Some(AccuracyBound { entropy, classes: classes as usize });
            }
        }
        if rates.is_empty() && values.is_empty() {
            return Err(run.lacks(&run.results.join("analyses/rates.json"), "rates", "is missing, and so is every other result of a grid"));
        }
        Ok(Found { model: Evaluated { run: show(&run.path), beta, rate, values }, bound, judges })
    }
}

/// What a number is called in the grid: the last level is the top one, the next below it the lower one; others are not shown.
fn name_in_grid(measured: &Measured, levels: &[String]) -> Option<String> {
    let name = measured.name.as_str();
    if !SHOWN.contains(&name) {
        return None;
    }
    let mut name = if name == "deviation" { "inception_deviation".to_owned() } else { name.to_owned() };
    if let Some(level) = measured.axes.get("level") {
        let from_top = levels.iter().rev().position(|known| *known == text_of(level))?;
        name = format!("{name}_{}", ["top", "lower"].get(from_top)?);
        // A probe stands in the list of the codes that it looked at.
        if let Some(codes) = measured.place.rsplit('/').nth(1).filter(|list| matches!(*list, "mean" | "sample")) {
            name = format!("{name}_{codes}");
        }
    }
    Some(name)
}

#[typetag::serde(name = "rate_plane")]
impl ComparisonConfig for RatePlane {
    fn compare(&self, compared: &Compared<'_>) -> Result<Comparison, EngineError> {
        let (found, mut left_out) = each(compared.runs, |run| self.read(run, compared));
        // A judge that lies beside the runs is none of them.
        let is_judge =
            |run: &FinishedRun| found.iter().any(|(_, f)| f.judges.iter().any(|judge| judge.starts_with(&format!("run {} ", run.id))));
        let judges: Vec<_> = compared.runs.iter().filter(|run| is_judge(run)).map(|run| run.path.clone()).collect();
        left_out.retain(|(path, _)| !judges.contains(path));
        let data = grouped(found.iter().map(|(run, _)| (run.config.dataset.to_string(), ())));
        if data.len() > 1 {
            let names = data.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            tracing::warn!("the runs of this grid are on {} data sets: {names}", data.len());
        }
        let Some(bound) = found.first().map(|_| found.iter().find_map(|(_, f)| f.bound)) else {
            return Ok(Comparison { left_out, ..Comparison::default() });
        };
        let models: Vec<Evaluated> = found.into_iter().map(|(_, f)| f.model).collect();
        let missing = left_out.iter().map(|(path, error)| json!({ "run": show(path), "reason": error.to_string() }));
        let (document, table) = matrices(&models, missing.collect());
        let drawn = pictures(&models, bound).map_err(|error| EngineError::Request(error.to_string()))?;
        let pictures = drawn.into_iter().map(|p| Picture { name: p.name.trim_end_matches(".png").to_owned(), png: p.bytes }).collect();
        let files = vec![("grid.json".to_owned(), format!("{document:#}")), ("rate-space.html".to_owned(), page(&models))];
        Ok(Comparison { pictures, tables: vec![table], files, left_out })
    }
}

/// A document with a matrix for each number, and a row for each model.
fn matrices(models: &[Evaluated], missing: Vec<Value>) -> (Value, ComparisonTable) {
    let grid = BetaGrid::new(&models.iter().map(|m| m.beta).collect::<Vec<_>>());
    let mut cells: Vec<_> = models.iter().filter_map(|m| grid.cell(m.beta)).collect();
    cells.sort_unstable();
    if let Some(pair) = cells.windows(2).find(|pair| pair[0] == pair[1]) {
        let same: Vec<&str> = models.iter().filter(|m| grid.cell(m.beta) == Some(pair[0])).map(|m| m.run.as_str()).collect();
        tracing::warn!("several runs have the same weights; matrices and heat maps show the last of them: {}", same.join(", "));
    }
    let mut names: Vec<&String> = models.iter().flat_map(|m| m.values.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let rows_of = |matrix: Vec<f64>| matrix.chunks(grid.top.len().max(1)).map(|row| json!(row)).collect::<Vec<_>>();
    let mut matrices = Map::new();
    matrices.insert("rate_lower".to_owned(), rows_of(grid.matrix(models, |m| m.rate[0])).into());
    matrices.insert("rate_top".to_owned(), rows_of(grid.matrix(models, |m| m.rate[1])).into());
    for name in &names {
        matrices.insert((*name).clone(), rows_of(grid.matrix(models, |m| m.value(name))).into());
    }
    let document = json!({
        "betas_lower": grid.lower.iter().rev().collect::<Vec<_>>(),
        "betas_top": grid.top,
        "runs": models.iter().map(|m| json!({"run": m.run, "beta_lower": m.beta[0], "beta_top": m.beta[1]})).collect::<Vec<_>>(),
        "failed": missing,
        "matrices": matrices,
    });
    let fixed = ["run", "beta_lower", "beta_top", "rate_lower", "rate_top"].into_iter();
    let header: Vec<String> = fixed.map(str::to_owned).chain(names.iter().map(|name| (*name).clone())).collect();
    let cell = |value: f64| if value.is_finite() { format!("{value:.5}") } else { String::new() };
    let row = |m: &Evaluated| {
        let numbers = m.rate.into_iter().chain(names.iter().map(|name| m.value(name)));
        [m.run.clone(), m.beta[0].to_string(), m.beta[1].to_string()].into_iter().chain(numbers.map(cell)).collect::<Vec<String>>()
    };
    (document, ComparisonTable { name: "grid".to_owned(), cells: std::iter::once(header).chain(models.iter().map(row)).collect() })
}

ibhost_framework::register! {
    Comparison: RatePlane as ComparisonConfig, aliases: [], paper: "van Rozendaal et al. 2022", example: "rate_plane/lower:objective.beta_y|top:objective.beta_z",
}
