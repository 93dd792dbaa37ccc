//! `ibhost plot`: one figure from many runs.

use std::path::Path;

use ibhost_analyses::axis_figure::{Measured, against_axis, read_measured};
use ibhost_analyses::batch_figures::{Robustness, RunRows, against_setting, latent_plane, mean_curves, robustness};
use ibhost_analyses::plot::{Figure, panels_png};
use ibhost_framework::storage::{inside, write_atomic};
use serde_json::Value;

use super::runs::Run;
use crate::cli::{FigureKind, PlotArgs};
use crate::exit::Failure;
use crate::paths::show;
use crate::table;

/// Width and height of one panel in pixels.
const PANEL: (u32, u32) = (620, 460);

pub fn plot(arguments: &PlotArgs) -> Result<u8, Failure> {
    inside::check_outside(&arguments.output).map_err(Failure::usage)?;
    let runs = Run::open_all(&arguments.runs)?;
    let (figures, columns) = match arguments.figure {
        FigureKind::Setting => (setting(&runs, arguments)?, 2),
        FigureKind::Curves => (curves(&runs, arguments)?, 2),
        FigureKind::Axis => (axis(&runs, arguments)?, 2),
        FigureKind::SaltPepper => (robustness(&salt_pepper(&runs, arguments)?, "share of corrupted entries"), 3),
        FigureKind::Cifar10c => (robustness(&cifar10c(&runs, arguments)?, "severity"), 3),
        FigureKind::LatentGrid => latent_grid(&runs, arguments)?,
    };
    if figures.iter().all(|figure| figure.layers.is_empty()) {
        return Err(Failure::usage(format!("none of the runs has measured any of {}", arguments.metrics.join(", "))));
    }
    let columns = columns.min(figures.len());
    let size = (PANEL.0 * columns as u32, PANEL.1 * figures.len().div_ceil(columns) as u32);
    let bytes =
        panels_png(&figures, columns, size).map_err(|e| Failure::failed(format!("`{}` cannot be drawn: {e}", show(&arguments.output))))?;
    write_atomic(&arguments.output, &bytes)?;
    table::print(&format!("wrote {}", show(&arguments.output)))?;
    Ok(0)
}

/// Curves are told apart by both settings that do not make an axis.
fn series(run: &Run, arguments: &PlotArgs) -> Result<String, Failure> {
    Ok(format!("{} {}", run.label(&arguments.rows)?, run.label(&arguments.columns)?))
}

/// The setting on the horizontal axis as a number.
fn place(run: &Run, path: &str) -> Result<f64, Failure> {
    let text = run.setting(path)?;
    text.parse().map_err(|_| {
        let run = show(&run.path);
        Failure::usage(format!("{run}: --x {path} is `{text}`, expected a setting that is a number, e.g. objective.beta"))
    })
}

fn setting(runs: &[Run], arguments: &PlotArgs) -> Result<Vec<Figure>, Failure> {
    let of = |run: &Run| Ok(RunRows { series: series(run, arguments)?, x: place(run, &arguments.x)?, rows: run.rows()? });
    let runs = runs.iter().map(of).collect::<Result<Vec<_>, Failure>>()?;
    Ok(against_setting(&runs, &arguments.x, &arguments.metrics, arguments.last))
}

/// Values of runs and tables, and the dashed ones beside them.
fn axis(runs: &[Run], arguments: &PlotArgs) -> Result<Vec<Figure>, Failure> {
    let mut measured = Vec::new();
    for run in runs {
        let (line, x) = (run.label(&arguments.lines)?, place(run, &arguments.x)?);
        for metric in &arguments.metrics {
            let value = run.value(metric, arguments.last)?;
            measured.push(Measured { line: line.clone(), x, metric: metric.clone(), value, spread: None, reference: false });
        }
    }
    for (paths, reference) in [(&arguments.values, false), (&arguments.reference, true)] {
        for path in paths {
            measured.extend(table_of(path, reference)?);
        }
    }
    Ok(against_axis(&measured, &arguments.x, &arguments.metrics))
}

fn table_of(path: &Path, reference: bool) -> Result<Vec<Measured>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::usage(format!("`{}` cannot be read: {e}", show(path))))?;
    read_measured(&text, reference).map_err(|reason| Failure::usage(format!("`{}`: {reason}", show(path))))
}

fn curves(runs: &[Run], arguments: &PlotArgs) -> Result<Vec<Figure>, Failure> {
    let of = |run: &Run| Ok(RunRows { series: series(run, arguments)?, x: 0.0, rows: run.rows()? });
    Ok(mean_curves(&runs.iter().map(of).collect::<Result<Vec<_>, Failure>>()?, &arguments.metrics))
}

/// Accuracy of the entry with the wanted number of codes.
fn accuracy(entries: &Value, codes: u64) -> Option<f64> {
    entries.as_array()?.iter().find(|entry| entry["L"].as_u64() == Some(codes))?["accuracy"].as_f64()
}

fn salt_pepper(runs: &[Run], arguments: &PlotArgs) -> Result<Vec<Robustness>, Failure> {
    let mut all = Vec::new();
    for run in runs {
        let (path, document) = run.analysis("salt_pepper")?;
        let settings = document["result"]["settings"].as_array().map_or(&[][..], Vec::as_slice);
        let of_codes = settings.iter().filter(|entry| entry["L"].as_u64() == Some(arguments.codes));
        let points: Vec<[f64; 2]> = of_codes.filter_map(|entry| Some([entry["p"].as_f64()?, entry["accuracy"].as_f64()?])).collect();
        if points.is_empty() {
            return Err(run.lacks(&path, "salt_pepper", &format!("has no accuracy with {} codes", arguments.codes)));
        }
        let panel = run.setting(&arguments.rows)?;
        // The runs without deficiency are a reference beside the others.
        let reference = run.setting("objective.class_loss").is_ok_and(|loss| loss == "vib") || run.config.objective.name == "vib";
        let label = run.label(&arguments.columns).unwrap_or_else(|_| run.config.objective.name.clone());
        let series = if reference { format!("vib {label}") } else { label };
        all.push(Robustness { panel, series, dashed: reference, points });
    }
    Ok(all)
}

fn cifar10c(runs: &[Run], arguments: &PlotArgs) -> Result<Vec<Robustness>, Failure> {
    let mut all = Vec::new();
    for run in runs {
        let (path, document) = run.analysis("cifar10c")?;
        let lacks = |what: &str| run.lacks(&path, "cifar10c", what);
        for (category, levels) in document["result"]["categories"].as_object().ok_or_else(|| lacks("has no categories"))? {
            let level = |entry: &Value| Some([entry["severity"].as_f64()?, accuracy(&entry["metrics"], arguments.codes)?]);
            let points: Option<Vec<[f64; 2]>> = levels.as_array().and_then(|levels| levels.iter().map(level).collect());
            let points = points.ok_or_else(|| lacks(&format!("has no accuracy with {} codes for `{category}`", arguments.codes)))?;
            all.push(Robustness { panel: category.clone(), series: series(run, arguments)?, dashed: false, points });
        }
    }
    Ok(all)
}

/// One plane for each pair of settings, the first run of a pair counts.
fn latent_grid(runs: &[Run], arguments: &PlotArgs) -> Result<(Vec<Figure>, usize), Failure> {
    let labels = |path: &str| {
        let mut distinct: Vec<String> = Vec::new();
        for run in runs {
            let label = run.label(path)?;
            if !distinct.contains(&label) {
                distinct.push(label);
            }
        }
        Ok::<_, Failure>(distinct)
    };
    let (rows, columns) = (labels(&arguments.rows)?, labels(&arguments.columns)?);
    let analysis = if arguments.noisy { "latent_plot/salt_pepper:0.4" } else { "latent_plot" };
    let file = if arguments.noisy { "latent-representation-noisy.npy" } else { "latent-representation.npy" };
    let mut figures = Vec::new();
    for row in &rows {
        for column in &columns {
            let pair = |run: &&Run| {
                run.label(&arguments.rows).is_ok_and(|r| r == *row) && run.label(&arguments.columns).is_ok_and(|c| c == *column)
            };
            let Some(run) = runs.iter().find(pair) else {
                figures.push(Figure::new(format!("{row}, {column}: no run"), "z 1", "z 2"));
                continue;
            };
            let path = run.path.join("plots").join(file);
            if !inside::check_file(&path)? {
                return Err(run.lacks(&path, analysis, "is missing"));
            }
            let mut title = format!("{row}, {column}");
            if arguments.noisy
                && let Ok((_, document)) = run.analysis("latent_plot")
                && let [Some(clean), Some(noisy)] = [0, 1].map(|i| document["result"]["accuracy"][i].as_f64())
            {
                title += &format!(": {:.2} to {:.2} %", 100.0 * clean, 100.0 * noisy);
            }
            figures.push(latent_plane(&path, &title, arguments.limit).map_err(Failure::failed)?);
        }
    }
    Ok((figures, columns.len()))
}
