//! Comparison `latent_grid`: planes of two-dimensional codes by two settings.

use std::path::PathBuf;

use ibhost_analyses::figures::batch_figures::latent_plane;
use ibhost_analyses::figures::plot::Figure;
use ibhost_framework::comparison::{Compared, Comparison, ComparisonConfig};
use ibhost_framework::engine::EngineError;
use ibhost_framework::finished::{Document, FinishedRun};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::group::grouped;
use crate::reading::{check, drawn, each, series};

/// Analysis that saves planes.
const ANALYSIS: &str = "latent_plot";

/// Planes of two-dimensional codes that `latent_plot` saved, `rows` by `columns`.
///
/// Of several runs of a pair of settings, which may differ in their seed alone, the first is shown and named.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LatentGrid {
    /// Settings of the rows.
    pub rows: Vec<String>,
    /// Settings of the columns.
    pub columns: Vec<String>,
    /// Planes under noise (`latent_plot/salt_pepper:P`).
    pub noisy: bool,
    /// Axes from minus to plus this value; as wide as the codes without it.
    pub limit: Option<f64>,
}

impl LatentGrid {
    /// The file of a run's plane, and its accuracies without and with noise. Unless one was asked for it is the only plane with noise, or without.
    fn plane(&self, run: &FinishedRun, selector: &str) -> Result<(PathBuf, Option<[f64; 2]>), EngineError> {
        let file = if self.noisy { "plots/latent-representation-noisy.npy" } else { "plots/latent-representation.npy" };
        let plain = run.results.join(file);
        let lacks = || run.lacks(&plain, if self.noisy { "latent_plot/salt_pepper:0.4" } else { ANALYSIS }, "is missing");
        let is_noisy = |document: &Document| document.value["analysis"]["salt_pepper"].as_f64().is_some_and(|share| share > 0.0);
        match run.find(selector, |document| selector != ANALYSIS || is_noisy(document) == self.noisy)? {
            Some(document) => {
                let path = document.file(&run.results, file).filter(|path| path.is_file()).ok_or_else(lacks)?;
                let accuracy = |i: usize| document.value["result"]["accuracy"][i].as_f64().filter(|_| self.noisy);
                Ok((path, accuracy(0).zip(accuracy(1)).map(|(clean, noisy)| [clean, noisy])))
            }
            // Earlier versions replaced the document of one by that of the other, but kept both pictures.
            None if plain.is_file() => Ok((plain, None)),
            None => Err(lacks()),
        }
    }
}

/// Every label once, in order of first appearance.
fn distinct<'a>(labels: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
    grouped(labels.map(|label| (label, ()))).into_iter().map(|(label, _)| label).collect()
}

#[typetag::serde(name = "latent_grid")]
impl ComparisonConfig for LatentGrid {
    fn compare(&self, compared: &Compared<'_>) -> Result<Comparison, EngineError> {
        let (found, left_out) = each(compared.runs, |run| {
            Ok((series(run, &self.rows)?, series(run, &self.columns)?, self.plane(run, compared.selector(ANALYSIS))?))
        });
        let title = |row: &str, column: &str| [row, column].into_iter().filter(|l| !l.is_empty()).collect::<Vec<_>>().join(", ");
        check(compared, found.iter().map(|(run, (row, column, _))| ((row.clone(), column.clone()), *run)), |(row, column)| {
            format!("the plane of {}", title(row, column))
        })?;
        let rows = distinct(found.iter().map(|(_, (row, ..))| row));
        let columns = distinct(found.iter().map(|(_, (_, column, _))| column));
        let mut figures = Vec::new();
        for row in &rows {
            for column in &columns {
                let members: Vec<_> = found.iter().filter(|(_, (r, c, _))| r == *row && c == *column).collect();
                let mut title = title(row, column);
                let Some((run, (_, _, (path, accuracies)))) = members.first() else {
                    figures.push(Figure::new(format!("{title}: no run"), "z 1", "z 2"));
                    continue;
                };
                if members.len() > 1 {
                    tracing::warn!("{title}: the plane of {} is shown, the first of {} runs", run.path.display(), members.len());
                }
                if let Some([clean, noisy]) = accuracies {
                    title += &format!(": {:.2} to {:.2} %", 100.0 * clean, 100.0 * noisy);
                }
                figures.push(latent_plane(path, &title, self.limit)?);
            }
        }
        let width = columns.len().max(1);
        drawn("latent-grid", &figures, width, &["a plane of codes".to_owned()], left_out)
    }
}

ibhost_framework::register! {
    Comparison: LatentGrid as ComparisonConfig, aliases: [], paper: "", example: "latent_grid/rows:[strategy]|columns:[objective.name]",
}
