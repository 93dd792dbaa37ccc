//! Figures over many runs: metrics against a setting, mean curves, robustness panels and grids of latent planes.

use std::collections::BTreeMap;
use std::path::Path;

use ibhost_framework::dataset::DataError;
use ibhost_framework::finished::last_epochs_mean;
use ibhost_framework::storage::{MetricsSplit, Row};

use crate::figures::ellipse::contour;
use crate::figures::plot::colour::{gist_rainbow, tab10};
use crate::figures::plot::means::{Series, counted, curve, means_against, statistics};
use crate::figures::plot::{Colour, Figure, Layer, Mark, Stroke};
use crate::npy::Array;

/// The splits of a figure over runs: train dashed, test solid.
const SPLITS: [(MetricsSplit, &str, Stroke); 2] =
    [(MetricsSplit::Train, "train", Stroke::Dashed), (MetricsSplit::Test, "test", Stroke::Solid)];

/// One run among many.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRows {
    /// What it shares with the runs drawn in one colour, e.g. `M=12`.
    pub series: String,
    /// The setting on the horizontal axis.
    pub x: f64,
    /// Its log.
    pub rows: Vec<Row>,
}

/// Value of a metric by its name; `error_...` stands for 1 - `accuracy_...`.
pub fn value_of(name: &str, metric: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    match name.strip_prefix("error") {
        Some(rest) => metric(&format!("accuracy{rest}")).map(|accuracy| 1.0 - accuracy),
        None => metric(name),
    }
}

/// Names in order of first appearance, each with its colour.
pub fn colours<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(&'a str, Colour)> {
    let mut distinct: Vec<&str> = Vec::new();
    for name in names {
        if !distinct.contains(&name) {
            distinct.push(name);
        }
    }
    distinct.into_iter().enumerate().map(|(i, name)| (name, tab10(i))).collect()
}

/// Mean of each metric over the last `last` epochs against the runs' setting, one panel a metric, see [`means_against`].
pub fn against_setting(runs: &[RunRows], setting: &str, metrics: &[String], last: usize) -> Vec<Figure> {
    let colours = colours(runs.iter().map(|run| run.series.as_str()));
    let panel = |metric: &String| {
        let of = |name: &str, split: MetricsSplit| -> Vec<(f64, f64)> {
            let members = runs.iter().filter(|run| run.series == name);
            members.filter_map(|run| Some((run.x, value_of(metric, |metric| last_epochs_mean(&run.rows, split, metric, last))?))).collect()
        };
        let series = colours.iter().flat_map(|&(name, colour)| {
            SPLITS.map(|(split, split_name, stroke)| {
                let points = of(name, split);
                let label = counted(&format!("{name} {split_name}"), points.iter().map(|point| point.0));
                Series { label, colour, stroke, points }
            })
        });
        means_against(metric, setting, metric, &series.collect::<Vec<_>>())
    };
    metrics.iter().map(panel).collect()
}

/// Mean of each metric over the runs of a series by epoch, one panel a metric, with a band of one standard deviation.
pub fn mean_curves(runs: &[RunRows], metrics: &[String]) -> Vec<Figure> {
    let series = colours(runs.iter().map(|run| run.series.as_str()));
    let panel = |metric: &String| {
        let mut figure = Figure::new(metric.as_str(), "epoch", metric.as_str());
        for &(name, colour) in &series {
            for (split, split_name, stroke) in SPLITS {
                let by_epoch = runs.iter().filter(|run| run.series == name).flat_map(|run| {
                    let rows = run.rows.iter().filter(move |row| row.split == split);
                    // The last row of an epoch counts.
                    rows.filter_map(|row| Some((row.epoch, value_of(metric, |m| row.metrics.get(m))?))).collect::<BTreeMap<u64, f64>>()
                });
                let all: Vec<(f64, f64)> = by_epoch.map(|(epoch, value)| (epoch as f64, value)).collect();
                let label = counted(&format!("{name} {split_name}"), all.iter().map(|point| point.0));
                let points = statistics(all.into_iter());
                if points.is_empty() {
                    continue;
                }
                let band = points.iter().map(|&(x, [mean, std])| [x, mean - std, mean + std]).collect();
                figure.layers.push(Layer::Band { points: band, colour, opacity: 0.15 });
                figure.layers.push(curve(points.iter().map(|&(x, [mean, _])| [x, mean]).collect(), colour, stroke));
                figure.entry(label, colour, Mark::Curve(stroke));
            }
        }
        figure
    };
    metrics.iter().map(panel).collect()
}

/// Accuracy of one run under growing corruption.
#[derive(Clone, Debug, PartialEq)]
pub struct Robustness {
    /// Panel, e.g. the strategy or the corruption.
    pub panel: String,
    /// What it shares with the runs drawn as one curve.
    pub series: String,
    /// Drawn dashed: the reference without deficiency.
    pub dashed: bool,
    /// Strength of the corruption and accuracy, a share.
    pub points: Vec<[f64; 2]>,
}

/// Accuracy against the strength of the corruption, one panel a name in order of first appearance; mean over the runs of a series with a band
/// of one standard deviation.
pub fn robustness(runs: &[Robustness], x_label: &str) -> Vec<Figure> {
    let series = colours(runs.iter().map(|run| run.series.as_str()));
    let panel = |(name, _): (&str, Colour)| {
        let mut figure = Figure::new(name, x_label, "share classified right");
        for &(of, colour) in &series {
            let members: Vec<&Robustness> = runs.iter().filter(|run| run.panel == name && run.series == of).collect();
            let points = statistics(members.iter().flat_map(|run| run.points.iter().map(|p| (p[0], p[1]))));
            if points.is_empty() {
                continue;
            }
            let stroke = if members.iter().all(|run| run.dashed) { Stroke::Dashed } else { Stroke::Solid };
            let band = points.iter().map(|&(x, [mean, std])| [x, mean - std, mean + std]).collect();
            figure.layers.push(Layer::Band { points: band, colour, opacity: 0.15 });
            figure.layers.push(curve(points.iter().map(|&(x, [mean, _])| [x, mean]).collect(), colour, stroke));
            let label = counted(of, members.iter().flat_map(|run| run.points.iter().map(|point| point[0])));
            figure.entry(label, colour, Mark::Curve(stroke));
        }
        figure
    };
    colours(runs.iter().map(|run| run.panel.as_str())).into_iter().map(panel).collect()
}

/// The latent plane saved by the analysis `latent_plot` in `path`, axes from minus to plus `limit` when given.
///
/// # Errors
/// [`DataError`] naming the file and what is wrong with it.
pub fn latent_plane(path: &Path, title: &str, limit: Option<f64>) -> Result<Figure, DataError> {
    let mut figure = Figure::new(title, "z 1", "z 2");
    for row in Array::open(path)?.rows_of_f64(7)? {
        let covariance = [[row[3], row[4]], [row[5], row[6]]];
        let points = contour([row[1], row[2]], covariance, 1.0, 48);
        let colour = gist_rainbow(row[0] / 10.0);
        figure.layers.push(Layer::Curve { points, colour, opacity: 0.5, width: 1, stroke: Stroke::Solid });
    }
    Ok(match limit {
        Some(limit) => figure.within(limit),
        None => figure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::plot::{panels_png, show};
    use crate::npy::encode_rows;

    fn run(series: &str, x: f64, error: f64) -> RunRows {
        let row = |epoch, split, error: f64| Row {
            step: epoch * 10,
            epoch,
            split,
            metrics: [("accuracy_l12", 1.0 - error), ("loss", 2.0 * error)].into_iter().collect(),
            time_s: 0.0,
            samples_per_s: 0.0,
        };
        let rows =
            (1..=5).flat_map(|e| [row(e, MetricsSplit::Train, error / e as f64), row(e, MetricsSplit::Test, 2.0 * error / e as f64)]);
        RunRows { series: series.to_owned(), x, rows: rows.collect() }
    }

    fn runs() -> Vec<RunRows> {
        let beta = [1e-5, 1e-3, 1e-1];
        beta.iter().flat_map(|&b| [run("M=1", b, 0.1), run("M=1", b, 0.2), run("M=12", b, 0.05)]).collect()
    }

    fn curves(figure: &Figure) -> Vec<&Vec<[f64; 2]>> {
        let mut found = Vec::new();
        for layer in &figure.layers {
            if let Layer::Curve { points, .. } = layer
                && points.len() > 2
            {
                found.push(points);
            }
        }
        found
    }

    #[test]
    fn settings_over_decades_are_logarithmic_and_errors_are_averaged() {
        let metrics = ["error_l12".to_owned(), "loss".to_owned()];
        let figures = against_setting(&runs(), "objective.beta", &metrics, 1);
        assert_eq!(figures.len(), 2);
        show("against-setting.png", &panels_png(&figures, 2, (1200, 500)).unwrap());
        assert_eq!(figures[0].x_label, "log10 objective.beta");
        let legend: Vec<&str> = figures[0].legend.iter().map(|entry| entry.0.as_str()).collect();
        assert_eq!(legend, ["M=1 train (n=2)", "M=1 test (n=2)", "M=12 train (n=1)", "M=12 test (n=1)"]);
        // M = 1 on test: the mean of 2 * 0.1 / 5 and 2 * 0.2 / 5.
        let test = curves(&figures[0])[1];
        assert!(test.iter().zip([-5.0, -3.0, -1.0]).all(|(p, x)| (p[0] - x).abs() < 1e-9 && (p[1] - 0.06).abs() < 1e-9), "{test:?}");
    }

    #[test]
    fn curves_have_a_point_an_epoch_and_a_band() {
        let figures = mean_curves(&runs(), &["error_l12".to_owned()]);
        show("mean-curves.png", &panels_png(&figures, 1, (900, 600)).unwrap());
        assert_eq!(figures[0].layers.iter().filter(|layer| matches!(layer, Layer::Band { .. })).count(), 4);
        assert_eq!(curves(&figures[0])[0].len(), 5);
    }

    #[test]
    fn robustness_has_one_panel_a_name() {
        let of = |panel: &str, series: &str, dashed, y: f64| Robustness {
            panel: panel.to_owned(),
            series: series.to_owned(),
            dashed,
            points: vec![[0.0, y], [0.2, y - 0.1], [0.4, y - 0.4]],
        };
        let runs = [of("oneshot", "M=1", false, 0.9), of("oneshot", "vib", true, 0.8), of("algo2/k:10", "M=1", false, 0.95)];
        let figures = robustness(&runs, "p");
        show("robustness.png", &panels_png(&figures, 2, (1200, 500)).unwrap());
        assert_eq!(figures.iter().map(|f| f.title.as_str()).collect::<Vec<_>>(), ["oneshot", "algo2/k:10"]);
        assert_eq!((figures[0].legend[1].0.as_str(), figures[0].legend[1].2), ("vib (n=1)", Mark::Curve(Stroke::Dashed)));
    }

    #[test]
    fn planes_are_read_back_from_what_latent_plot_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plane.npy");
        let rows = [[1.0, 0.5, -0.5, 0.04, 0.0, 0.0, 0.01], [2.0, -0.5, 0.5, 0.01, 0.0, 0.0, 0.04]];
        std::fs::write(&path, encode_rows(rows.as_flattened(), 7).unwrap()).unwrap();
        let figure = latent_plane(&path, "oneshot, M=1", Some(20.0)).unwrap();
        assert_eq!((figure.layers.len(), figure.x_range), (2, Some([-20.0, 20.0])));
        let points = curves(&figure)[0];
        let widest = points.iter().map(|p| (p[0] - 0.5).abs()).fold(0.0, f64::max);
        assert!((widest - 0.2).abs() < 1e-3, "one sigma: {widest}");
        std::fs::write(&path, encode_rows(&[1.0; 6], 6).unwrap()).unwrap();
        assert!(latent_plane(&path, "", None).unwrap_err().to_string().contains("plane.npy"));
    }
}
