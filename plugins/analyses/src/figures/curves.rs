//! Analysis `curves`: the quantities of a run per epoch, and its way through the information plane.

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Results};
use ibhost_framework::storage::{MetricsLog, MetricsSplit, Row};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::figures::plot::colour::tab10;
use crate::figures::plot::{Colour, Figure, Layer, Mark, Stroke, panels_png, png};
use crate::output::picture;

/// How each split is drawn.
const SPLITS: [(MetricsSplit, &str, Stroke); 3] = [
    (MetricsSplit::Train, "train", Stroke::Dashed),
    (MetricsSplit::Test, "test", Stroke::Solid),
    (MetricsSplit::TestAverage, "test, averaged weights", Stroke::Solid),
];

/// Loss, accuracy, I(X;Z) and I(Y;Z) per epoch, and the trajectory in the information plane.
///
/// Reads the run's `metrics.jsonl` and writes `plots/curves.png` and, when both information quantities were measured,
/// `plots/information-plane.png` with I(X;Z) to the right, I(Y;Z) upwards and a disc at the last epoch. Train is dashed, test solid.
/// Quantities are in bits where the run has bits, otherwise in nats; the loss is in the unit the objective reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Curves {}

/// Epoch and value of a metric, one point per epoch in which it was measured.
fn series(rows: &[Row], split: MetricsSplit, metric: &str) -> Vec<[f64; 2]> {
    let mut points: Vec<[f64; 2]> = Vec::new();
    for row in rows.iter().filter(|row| row.split == split) {
        if let Some(value) = row.metrics.get(metric) {
            // The log holds several rows of an epoch when it was written during it; the last one counts.
            let epoch = row.epoch as f64;
            if points.last().is_some_and(|p| p[0] == epoch) {
                points.pop();
            }
            points.push([epoch, value]);
        }
    }
    points
}

fn measured(rows: &[Row], metric: &str) -> bool {
    rows.iter().any(|row| row.metrics.get(metric).is_some())
}

/// The metric's name with the first of the units it was measured in.
fn in_unit(rows: &[Row], base: &str) -> Option<(String, &'static str)> {
    ["bits", "nats"].into_iter().map(|unit| (format!("{base}_{unit}"), unit)).find(|(name, _)| measured(rows, name))
}

fn curve(points: Vec<[f64; 2]>, colour: Colour, stroke: Stroke) -> Layer {
    Layer::Curve { points, colour, opacity: 1.0, width: 2, stroke }
}

fn panel(rows: &[Row], title: &str, y_label: &str, metrics: &[(String, String)]) -> Figure {
    let mut figure = Figure::new(title, "epoch", y_label);
    for (at, (metric, name)) in metrics.iter().enumerate() {
        for (split, split_name, stroke) in SPLITS {
            let points = series(rows, split, metric);
            if points.is_empty() {
                continue;
            }
            let colour = tab10(if split == MetricsSplit::TestAverage { at + 4 } else { at });
            // A curve of one epoch is a point.
            if points.len() == 1 {
                figure.layers.push(Layer::Points { points: points.clone(), colour, opacity: 1.0, radius: 4 });
            }
            figure.layers.push(curve(points, colour, stroke));
            let label = if metrics.len() > 1 { format!("{split_name} {name}") } else { split_name.to_owned() };
            figure.entry(label, colour, Mark::Curve(stroke));
        }
    }
    figure
}

/// Panels of everything that was measured.
pub fn curve_panels(rows: &[Row], label: &str) -> Vec<Figure> {
    let mut panels = Vec::new();
    if measured(rows, "loss") {
        panels.push(panel(rows, &format!("{label}: loss"), "loss", &[("loss".to_owned(), "loss".to_owned())]));
    }
    let mut names: Vec<&str> = rows.iter().flat_map(|row| row.metrics.iter().map(|m| m.0)).filter(|n| n.starts_with("accuracy")).collect();
    names.sort_unstable();
    names.dedup();
    let short = |name: &str| name.strip_prefix("accuracy_l").map_or("L=1".to_owned(), |l| format!("L={l}"));
    let accuracies: Vec<(String, String)> = names.iter().map(|name| ((*name).to_owned(), short(name))).collect();
    if !accuracies.is_empty() {
        panels.push(panel(rows, "accuracy", "share classified right", &accuracies));
    }
    for (base, title) in [("izx", "I(X;Z), upper bound"), ("izy", "I(Y;Z), lower bound")] {
        if let Some((name, unit)) = in_unit(rows, base) {
            panels.push(panel(rows, title, unit, &[(name, base.to_owned())]));
        }
    }
    panels
}

/// The trajectory in the information plane, if both quantities were measured.
pub fn information_plane(rows: &[Row], label: &str) -> Option<Figure> {
    let ((x, x_unit), (y, y_unit)) = (in_unit(rows, "izx")?, in_unit(rows, "izy")?);
    let mut figure = Figure::new(label, format!("I(X;Z), upper bound / {x_unit}"), format!("I(Y;Z), lower bound / {y_unit}"));
    for (at, (split, name, stroke)) in SPLITS.into_iter().enumerate() {
        let (xs, ys) = (series(rows, split, &x), series(rows, split, &y));
        let points: Vec<[f64; 2]> = xs.iter().filter_map(|p| ys.iter().find(|q| q[0] == p[0]).map(|q| [p[1], q[1]])).collect();
        let Some(&end) = points.last() else { continue };
        figure.layers.push(curve(points, tab10(at), stroke));
        figure.layers.push(Layer::Points { points: vec![end], colour: tab10(at), opacity: 1.0, radius: 6 });
        figure.entry(name, tab10(at), Mark::Curve(stroke));
    }
    (!figure.layers.is_empty()).then_some(figure)
}

#[typetag::serde(name = "curves")]
impl AnalysisConfig for Curves {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let path = context.run_dir.join("metrics.jsonl");
        let rows = MetricsLog::read(&path)?;
        let panels = curve_panels(&rows, context.label);
        if panels.is_empty() {
            let message = format!("`{}` has no measurement to draw yet; train the run for an epoch first", path.display());
            return Err(AnalysisError::Request(message));
        }
        let size = (1400, 460 * panels.len().div_ceil(2) as u32);
        let mut files = vec![picture(context.output, "plots/curves.png", panels_png(&panels, 2, size))?];
        if let Some(plane) = information_plane(&rows, context.label) {
            files.push(picture(context.output, "plots/information-plane.png", png(&plane, (900, 700)))?);
        }
        let epochs = rows.iter().map(|row| row.epoch).max().unwrap_or(0);
        Ok(Results::default().fact("epochs", epochs).fact("rows", rows.len()).fact("panels", panels.len()).with_files(files))
    }
}

ibhost_framework::register! {
    Analysis: Curves as AnalysisConfig,
    paper: "Banerjee & Montúfar 2020, arXiv:1810.11677",
    example: "curves",
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::plot::{decode_png, show};
    use crate::fixture::{Fixture, Shape};

    fn rows() -> Vec<Row> {
        let mut rows = Vec::new();
        for epoch in 1..=30u64 {
            let t = epoch as f64;
            for (split, shift) in [(MetricsSplit::Train, 0.0), (MetricsSplit::Test, 0.3), (MetricsSplit::TestAverage, 0.2)] {
                let metrics = [
                    ("loss", 1.0 / t + 0.2 * shift),
                    ("accuracy", 0.97 - 0.3 / t - 0.05 * shift),
                    ("accuracy_l12", 0.98 - 0.3 / t - 0.05 * shift),
                    ("izx_bits", 20.0 + 100.0 / t + shift),
                    ("izx_nats", 14.0),
                    ("izy_bits", 3.2 - 0.5 / t - shift * 0.2),
                ];
                rows.push(Row { step: epoch * 100, epoch, split, metrics: metrics.into_iter().collect(), time_s: t, samples_per_s: 1.0 });
            }
        }
        rows
    }

    #[test]
    fn pictures_of_a_run() {
        let fixture = Fixture::new(Shape::Full, 10);
        let text: String = rows().iter().map(|row| serde_json::to_string(row).unwrap() + "\n").collect();
        std::fs::write(fixture.run_dir().join("metrics.jsonl"), text).unwrap();
        let report = Curves {}.run(&fixture.context()).unwrap();
        for path in &report.files {
            let bytes = std::fs::read(path).unwrap();
            show(&path.file_name().unwrap().to_string_lossy(), &bytes);
            assert!(decode_png(&bytes).0.0 >= 900);
        }
        assert_eq!((report.files.len(), report.json()["panels"].as_u64()), (2, Some(4)));
    }

    #[test]
    fn series_follow_epochs_and_units() {
        let mut rows = rows();
        rows.truncate(6);
        rows.push(Row { metrics: [("loss", 7.0)].into_iter().collect(), ..rows[3].clone() });
        assert_eq!(series(&rows, MetricsSplit::Train, "loss"), [[1.0, 1.0], [2.0, 7.0]]);
        assert_eq!(in_unit(&rows, "izx"), Some(("izx_bits".to_owned(), "bits")));
        assert_eq!(in_unit(&rows, "none"), None);
        assert!(information_plane(&[], "x").is_none());
        assert!(information_plane(&rows, "x").is_some_and(|f| f.x_label.contains("bits")));
    }

    #[test]
    fn runs_without_metrics_are_an_error() {
        let fixture = Fixture::new(Shape::Full, 10);
        assert!(Curves {}.run(&fixture.context()).unwrap_err().to_string().contains("metrics.jsonl"));
        std::fs::write(fixture.run_dir().join("metrics.jsonl"), "").unwrap();
        assert!(Curves {}.run(&fixture.context()).unwrap_err().to_string().contains("no measurement"));
    }
}
