//! `ibhost plot`: one figure from many runs.

use std::path::{Path, PathBuf};

use ibhost_analyses::figures::axis_figure::{Measured, against_axis, read_measured};
use ibhost_analyses::figures::batch_figures::{Robustness, RunRows, against_setting, latent_plane, mean_curves, robustness};
use ibhost_analyses::figures::plot::{Figure, panels_png};
use ibhost_framework::storage::{inside, write_atomic};
use serde_json::Value;

use super::runs::{Run, read_results_from, split_of};
use crate::cli::{FigureKind, PlotArgs};
use crate::exit::Failure;
use crate::paths::show;
use crate::results::Document;
use crate::table;
use crate::together::{LeftOut, check_same_analysis, check_same_settings, grouped, open_runs};

/// Width and height of one panel in pixels.
const PANEL: (u32, u32) = (620, 460);

pub fn plot(arguments: &PlotArgs) -> Result<u8, Failure> {
    inside::check_outside(&arguments.output).map_err(Failure::usage)?;
    let (mut runs, mut left_out) = match &arguments.runs[..] {
        [] => (Vec::new(), LeftOut::default()),
        paths => open_runs(paths, arguments.unfinished)?,
    };
    read_results_from(&mut runs, arguments.results.as_deref());
    let (figures, columns) = {
        let mut drawing = Drawing { runs: &runs, left_out: &mut left_out, arguments };
        match arguments.figure {
            FigureKind::Setting => (drawing.setting()?, 2),
            FigureKind::Curves => (drawing.curves()?, 2),
            FigureKind::Axis => (drawing.axis()?, 2),
            FigureKind::SaltPepper => (robustness(&drawing.salt_pepper()?, "share of corrupted entries"), 3),
            FigureKind::Cifar10c => (robustness(&drawing.cifar10c()?, "severity"), 3),
            FigureKind::LatentGrid => drawing.latent_grid()?,
        }
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
    left_out.end()
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

fn table_of(path: &Path, reference: bool) -> Result<Vec<Measured>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::usage(format!("`{}` cannot be read: {e}", show(path))))?;
    read_measured(&text, reference).map_err(|reason| Failure::usage(format!("`{}`: {reason}", show(path))))
}

/// Accuracy of the entry with the wanted number of codes.
fn accuracy(entries: &Value, codes: u64) -> Option<f64> {
    entries.as_array()?.iter().find(|entry| entry["L"].as_u64() == Some(codes))?["accuracy"].as_f64()
}

/// Runs on their way into a figure.
struct Drawing<'a> {
    runs: &'a [Run],
    left_out: &'a mut LeftOut,
    arguments: &'a PlotArgs,
}

impl<'a> Drawing<'a> {
    /// What `of` finds in each run; runs that lack it are left out.
    fn each<T>(&mut self, of: impl Fn(&Run) -> Result<T, Failure>) -> Result<Vec<(&'a Run, T)>, Failure> {
        let mut found = Vec::new();
        for run in self.runs {
            found.extend(self.left_out.take(&run.path, of(run)).map(|value| (run, value)));
        }
        if found.is_empty() && !self.runs.is_empty() {
            return Err(std::mem::take(self.left_out).nothing_left());
        }
        Ok(found)
    }

    /// Refuses means over runs of one `key` that differ in more than the seed.
    fn check<K: PartialEq>(&self, members: impl Iterator<Item = (K, &'a Run)>, name: impl Fn(&K) -> String) -> Result<(), Failure> {
        let mut groups = grouped(members).into_iter();
        groups.try_for_each(|(key, runs)| check_same_settings(&name(&key), &runs, &self.arguments.over))
    }

    fn setting(&mut self) -> Result<Vec<Figure>, Failure> {
        let arguments = self.arguments;
        let of = |run: &Run| Ok(RunRows { series: series(run, arguments)?, x: place(run, &arguments.x)?, rows: run.rows()? });
        let found = self.each(of)?;
        let key = |(run, rows): &(&'a Run, RunRows)| ((rows.series.clone(), rows.x), *run);
        self.check(found.iter().map(key), |(series, x)| format!("the place {} = {x} of `{series}`", arguments.x))?;
        let rows: Vec<RunRows> = found.into_iter().map(|(_, rows)| rows).collect();
        Ok(against_setting(&rows, &arguments.x, &arguments.metrics, arguments.last))
    }

    fn curves(&mut self) -> Result<Vec<Figure>, Failure> {
        let arguments = self.arguments;
        let found = self.each(|run| Ok(RunRows { series: series(run, arguments)?, x: 0.0, rows: run.rows()? }))?;
        self.check(found.iter().map(|(run, rows)| (rows.series.clone(), *run)), |series| format!("the curve of `{series}`"))?;
        Ok(mean_curves(&found.into_iter().map(|(_, rows)| rows).collect::<Vec<_>>(), &arguments.metrics))
    }

    /// Values of runs and tables, and the dashed ones beside them.
    fn axis(&mut self) -> Result<Vec<Figure>, Failure> {
        let arguments = self.arguments;
        let of = |run: &Run| {
            let (line, x) = (run.label(&arguments.lines)?, place(run, &arguments.x)?);
            let mut values = Vec::new();
            for metric in &arguments.metrics {
                let is_logged = metric.split_once('.').is_none_or(|(split, _)| split_of(split).is_some());
                let (value, document) = if is_logged {
                    (run.value(metric, arguments.last)?, None)
                } else {
                    run.number(metric).map(|(value, document)| (value, Some(document)))?
                };
                let measured = Measured { line: line.clone(), x, metric: metric.clone(), value, spread: None, reference: false };
                values.push((measured, document));
            }
            Ok((line, x, values))
        };
        let found = self.each(of)?;
        let place = |line: &str, x: f64| format!("the place {} = {x} of `{line}`", arguments.x);
        self.check(found.iter().map(|(run, (line, x, _))| ((line.clone(), *x), *run)), |(line, x)| place(line, *x))?;
        let documents = found.iter().flat_map(|(run, (line, x, values))| {
            let of = |(measured, document): &'_ (Measured, Option<Document>)| {
                Some(((line.clone(), *x, measured.metric.clone()), (*run, document.clone()?)))
            };
            values.iter().filter_map(of).collect::<Vec<_>>()
        });
        for ((line, x, metric), results) in grouped(documents) {
            let results: Vec<(&Run, &Document)> = results.iter().map(|(run, document)| (*run, document)).collect();
            check_same_analysis(&format!("`{metric}` at {}", place(&line, x)), &results)?;
        }
        let mut measured: Vec<Measured> = found.into_iter().flat_map(|(_, (_, _, values))| values).map(|(measured, _)| measured).collect();
        for (paths, reference) in [(&arguments.values, false), (&arguments.reference, true)] {
            for path in paths {
                measured.extend(table_of(path, reference)?);
            }
        }
        Ok(against_axis(&measured, &arguments.x, &arguments.metrics))
    }

    /// The curves of each run that `of` reads from its result of an analysis, those of one curve made alike.
    fn analysed(
        &mut self,
        analysis: &str,
        of: impl Fn(&Run, &Document) -> Result<Vec<Robustness>, Failure>,
    ) -> Result<Vec<Robustness>, Failure> {
        let selector = self.arguments.analysis.clone().unwrap_or_else(|| analysis.to_owned());
        let found = self.each(|run| {
            let document = run.document(&selector)?;
            Ok((of(run, &document)?, document))
        })?;
        let curves = || {
            let of_run = |(run, (curves, document)): &'_ (&'a Run, (Vec<Robustness>, Document))| {
                let key = |curve: &Robustness| ((curve.panel.clone(), curve.series.clone()), (*run, document.clone()));
                curves.iter().map(key).collect::<Vec<_>>()
            };
            found.iter().flat_map(of_run).collect::<Vec<_>>()
        };
        let name = |(panel, series): &(String, String)| format!("the curve `{series}` of `{panel}`");
        self.check(curves().into_iter().map(|(key, (run, _))| (key, run)), name)?;
        for (key, results) in grouped(curves()) {
            let results: Vec<(&Run, &Document)> = results.iter().map(|(run, document)| (*run, document)).collect();
            check_same_analysis(&name(&key), &results)?;
        }
        Ok(found.into_iter().flat_map(|(_, (curves, _))| curves).collect())
    }

    fn salt_pepper(&mut self) -> Result<Vec<Robustness>, Failure> {
        let arguments = self.arguments;
        self.analysed("salt_pepper", |run, document| {
            let settings = document.value["result"]["settings"].as_array().map_or(&[][..], Vec::as_slice);
            let of_codes = settings.iter().filter(|entry| entry["L"].as_u64() == Some(arguments.codes));
            let points: Vec<[f64; 2]> = of_codes.filter_map(|entry| Some([entry["p"].as_f64()?, entry["accuracy"].as_f64()?])).collect();
            if points.is_empty() {
                return Err(run.lacks(&document.path, "salt_pepper", &format!("has no accuracy with {} codes", arguments.codes)));
            }
            let panel = run.setting(&arguments.rows)?;
            // The runs without deficiency are a reference beside the others.
            let reference = run.setting("objective.class_loss").is_ok_and(|loss| loss == "vib") || run.config.objective.name == "vib";
            let label = run.label(&arguments.columns).unwrap_or_else(|_| run.config.objective.name.clone());
            let series = if reference { format!("vib {label}") } else { label };
            Ok(vec![Robustness { panel, series, dashed: reference, points }])
        })
    }

    fn cifar10c(&mut self) -> Result<Vec<Robustness>, Failure> {
        let arguments = self.arguments;
        self.analysed("cifar10c", |run, document| {
            let lacks = |what: &str| run.lacks(&document.path, "cifar10c", what);
            let mut curves = Vec::new();
            for (category, levels) in document.value["result"]["categories"].as_object().ok_or_else(|| lacks("has no categories"))? {
                let level = |entry: &Value| Some([entry["severity"].as_f64()?, accuracy(&entry["metrics"], arguments.codes)?]);
                let points: Option<Vec<[f64; 2]>> = levels.as_array().and_then(|levels| levels.iter().map(level).collect());
                let points = points.ok_or_else(|| lacks(&format!("has no accuracy with {} codes for `{category}`", arguments.codes)))?;
                curves.push(Robustness { panel: category.clone(), series: series(run, arguments)?, dashed: false, points });
            }
            Ok(curves)
        })
    }

    /// One plane for each pair of settings; of several runs of a pair, which must differ in the seed alone, the first is shown and named.
    fn latent_grid(&mut self) -> Result<(Vec<Figure>, usize), Failure> {
        let arguments = self.arguments;
        let found = self.each(|run| {
            let (row, column) = (run.label(&arguments.rows)?, run.label(&arguments.columns)?);
            Ok((row, column, plane(run, arguments.analysis.as_deref(), arguments.noisy)?))
        })?;
        self.check(found.iter().map(|(run, (row, column, _))| ((row.clone(), column.clone()), *run)), |(row, column)| {
            format!("the plane of {row}, {column}")
        })?;
        let rows = distinct(found.iter().map(|(_, (row, ..))| row));
        let columns = distinct(found.iter().map(|(_, (_, column, _))| column));
        let mut figures = Vec::new();
        for row in &rows {
            for column in &columns {
                let members: Vec<_> = found.iter().filter(|(_, (r, c, _))| r == *row && c == *column).collect();
                let Some((run, (_, _, (path, accuracies)))) = members.first() else {
                    figures.push(Figure::new(format!("{row}, {column}: no run"), "z 1", "z 2"));
                    continue;
                };
                if members.len() > 1 {
                    tracing::warn!("{row}, {column}: the plane of {} is shown, the first of {} runs", show(&run.path), members.len());
                }
                let mut title = format!("{row}, {column}");
                if let Some([clean, noisy]) = accuracies {
                    title += &format!(": {:.2} to {:.2} %", 100.0 * clean, 100.0 * noisy);
                }
                figures.push(latent_plane(path, &title, arguments.limit).map_err(Failure::failed)?);
            }
        }
        Ok((figures, columns.len()))
    }
}

/// Every label once, in order of first appearance.
fn distinct<'a>(labels: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
    grouped(labels.map(|label| (label, ()))).into_iter().map(|(label, _)| label).collect()
}

/// The file of a run's plane, and its accuracies without and with noise. Without a `selector` it is that of the only plane with noise, or without.
fn plane(run: &Run, selector: Option<&str>, noisy: bool) -> Result<(PathBuf, Option<[f64; 2]>), Failure> {
    let file = if noisy { "plots/latent-representation-noisy.npy" } else { "plots/latent-representation.npy" };
    let plain = run.results.join(file);
    let lacks = || run.lacks(&plain, if noisy { "latent_plot/salt_pepper:0.4" } else { "latent_plot" }, "is missing");
    let is_noisy = |document: &Document| document.value["analysis"]["salt_pepper"].as_f64().is_some_and(|share| share > 0.0);
    match run.find(selector.unwrap_or("latent_plot"), |document| selector.is_some() || is_noisy(document) == noisy)? {
        Some(document) => {
            let path = document.file(&run.results, file).filter(|path| path.is_file()).ok_or_else(lacks)?;
            let accuracy = |i: usize| document.value["result"]["accuracy"][i].as_f64().filter(|_| noisy);
            Ok((path, accuracy(0).zip(accuracy(1)).map(|(clean, noisy)| [clean, noisy])))
        }
        // Earlier versions replaced the document of one by that of the other, but kept both pictures.
        None if plain.is_file() => Ok((plain, None)),
        None => Err(lacks()),
    }
}
