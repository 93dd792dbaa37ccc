//! What all comparisons do: read something of each run, tell which belong together, and draw.

use std::path::PathBuf;

use ibhost_analyses::figures::plot::{Figure, panels_png};
use ibhost_framework::comparison::{Compared, Comparison, Picture};
use ibhost_framework::engine::EngineError;
use ibhost_framework::finished::FinishedRun;
use ibhost_framework::result::titled_by_units;
use ibhost_framework::text::show;

use crate::group::{check_same_settings, grouped};

/// Width and height of one panel in pixels.
const PANEL: (u32, u32) = (620, 460);

/// Runs that lack what is shown, with the reason.
pub type LeftOut = Vec<(PathBuf, EngineError)>;

/// What `of` finds in each run, and the runs that lack it.
pub fn each<T>(runs: &[FinishedRun], of: impl Fn(&FinishedRun) -> Result<T, EngineError>) -> (Vec<(&FinishedRun, T)>, LeftOut) {
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    for run in runs {
        match of(run) {
            Ok(value) => found.push((run, value)),
            Err(error) => left_out.push((run.path.clone(), error)),
        }
    }
    (found, left_out)
}

/// Refuses means over runs of one `key` that differ in more than the seed and what may differ besides.
///
/// # Errors
/// Naming the settings and two runs.
pub fn check<'a, K: PartialEq>(
    compared: &Compared<'_>,
    members: impl Iterator<Item = (K, &'a FinishedRun)>,
    name: impl Fn(&K) -> String,
) -> Result<(), EngineError> {
    grouped(members).into_iter().try_for_each(|(key, runs)| check_same_settings(&name(&key), &runs, compared.over))
}

/// What the runs of one curve share: `oneshot, m=12`.
///
/// # Errors
/// A setting that the run does not have, with those it has.
pub fn series(run: &FinishedRun, settings: &[String]) -> Result<String, EngineError> {
    Ok(settings.iter().map(|setting| run.label(setting)).collect::<Result<Vec<_>, _>>()?.join(", "))
}

/// The values of settings.
///
/// # Errors
/// As [`series`].
pub fn values(run: &FinishedRun, settings: &[String]) -> Result<Vec<String>, EngineError> {
    settings.iter().map(|setting| run.setting(setting)).collect()
}

/// The setting on the horizontal axis as a number.
///
/// # Errors
/// One that the run does not have, or that is no number.
pub fn number_at(run: &FinishedRun, setting: &str) -> Result<f64, EngineError> {
    let text = run.setting(setting)?;
    text.parse().map_err(|_| {
        EngineError::Request(format!("{}: x:{setting} is `{text}`, expected a setting that is a number, e.g. lr", show(&run.path)))
    })
}

/// Names the vertical axis of each figure after its metric and the unit that it has in `runs`.
pub fn with_units(mut figures: Vec<Figure>, metrics: &[String], runs: &[FinishedRun]) -> Vec<Figure> {
    for (figure, metric) in figures.iter_mut().zip(metrics) {
        figure.y_label = titled_by_units(metric, runs.iter().filter_map(|run| run.unit_of_metric(metric)));
    }
    figures
}

/// One picture called `name` with `figures` in so many columns. `wanted` names what should have been measured.
///
/// # Errors
/// When there is nothing to draw, or it cannot be drawn.
pub fn drawn(name: &str, figures: &[Figure], columns: usize, wanted: &[String], left_out: LeftOut) -> Result<Comparison, EngineError> {
    if figures.iter().all(|figure| figure.layers.is_empty()) {
        if !left_out.is_empty() {
            return Ok(Comparison { left_out, ..Comparison::default() });
        }
        return Err(EngineError::Request(format!("none of the runs has measured any of {}", wanted.join(", "))));
    }
    let columns = columns.min(figures.len()).max(1);
    let size = (PANEL.0 * columns as u32, PANEL.1 * figures.len().div_ceil(columns) as u32);
    let png = panels_png(figures, columns, size).map_err(|e| EngineError::Request(format!("`{name}` cannot be drawn: {e}")))?;
    Ok(Comparison { pictures: vec![Picture { name: name.to_owned(), png }], left_out, ..Comparison::default() })
}
