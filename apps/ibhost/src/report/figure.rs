//! Figures of a report as data; the plotting of the analyses draws them.

use ibhost_analyses::figures::batch_figures::{Robustness, RunRows, colours, mean_curves, robustness, value_of};
use ibhost_analyses::figures::plot::colour::tab10;
use ibhost_analyses::figures::plot::means::{Series, counted, curve, means_against};
use ibhost_analyses::figures::plot::{Figure, Layer, Mark, Stroke};
use ibhost_framework::result::titled_by_units;

use super::alike::{check_known, told_apart_by};
use super::template::{AgainstTemplate, CurvesTemplate, PlaneTemplate, Published, Quantity, RobustnessTemplate, Section};
use super::unmeasured;
use super::value::{Trial, heading, metric_of};
use crate::exit::Failure;
use crate::paths::show;

/// Values against a setting, a panel a value.
pub fn against(section: &Section, template: &AgainstTemplate, trials: &[(usize, &Trial)]) -> Result<Vec<Figure>, Failure> {
    let mut placed = Vec::new();
    let by = [&template.series[..], std::slice::from_ref(&template.x)].concat();
    check_known(&by, trials)?;
    let quantities: Vec<&str> = template.values.iter().map(Quantity::of).collect();
    let series = [template.series.clone(), told_apart_by(trials, &by, &quantities)].concat();
    for (_, trial) in trials {
        let text = trial.shown(&template.x, &quantities);
        let x: f64 = text.parse().map_err(|_| {
            Failure::usage(format!(
                "section `{}`: `x: {}` is `{text}` in {}, expected a setting that is a number",
                section.title,
                template.x,
                show(&trial.run.path)
            ))
        })?;
        placed.push((trial.label(&series, &quantities), x, *trial));
    }
    let mut figures = Vec::new();
    for quantity in &template.values {
        let points_of = |name: &str| -> Vec<(f64, f64)> {
            let members = placed.iter().filter(|(label, ..)| label == name);
            members.filter_map(|(_, x, trial)| Some((*x, quantity.factor() * trial.value(quantity.of())?))).collect()
        };
        let colours = colours(placed.iter().map(|(label, ..)| label.as_str()));
        let ours = colours.iter().map(|(label, colour)| {
            let points = points_of(label);
            let label = counted(label, points.iter().map(|point| point.0)).trim().to_owned();
            Series { label, colour: *colour, stroke: Stroke::Solid, points }
        });
        let mut series: Vec<Series> = ours.collect();
        if !trials.is_empty() && series.iter().all(|s| s.points.is_empty()) {
            return Err(unmeasured(section, quantity.of(), trials));
        }
        let theirs = colours.iter().filter_map(|(label, colour)| {
            let (_, _, member) = placed.iter().find(|(of, ..)| of == label)?;
            let label =
                [*label, template.reference.0.as_str()].map(str::to_owned).into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>();
            Some(Series {
                label: label.join(" "),
                colour: *colour,
                stroke: Stroke::Dashed,
                points: published(template, member, quantity.of()),
            })
        });
        series.extend(theirs.filter(|series| !series.points.is_empty()));
        let x_name = template.x_name.as_deref().unwrap_or(&template.x);
        let mut figure = means_against(quantity.name(), x_name, &heading(quantity, trials), &series);
        without_nameless(&mut figure);
        figures.push(figure);
    }
    Ok(figures)
}

/// Published figures of the curve that `trial` belongs to, by the value of `x`.
fn published(template: &AgainstTemplate, trial: &Trial, of: &str) -> Vec<(f64, f64)> {
    let there = template.published.iter().filter(|entry| trial.is_at(entry, Some(&template.x)));
    let point = |entry: &Published| {
        // `2.2 ± .1` is drawn at 2.2.
        let value = entry.values.get(of)?;
        let value = value.as_f64().or_else(|| value.as_str()?.split_whitespace().next()?.parse().ok())?;
        Some((entry.at.get(&template.x)?.as_f64()?, value))
    };
    there.filter_map(point).collect()
}

/// One series without settings needs no legend.
fn without_nameless(figure: &mut Figure) {
    figure.legend.retain(|(label, ..)| !label.is_empty());
}

/// Metrics per epoch.
pub fn curves(section: &Section, template: &CurvesTemplate, trials: &[(usize, &Trial)]) -> Result<Vec<Figure>, Failure> {
    check_known(&template.series, trials)?;
    let series = [template.series.clone(), told_apart_by(trials, &template.series, &[])].concat();
    let rows = |trial: &Trial| RunRows { series: trial.label(&series, &[]), x: 0.0, rows: trial.rows().to_vec() };
    let runs: Vec<RunRows> = trials.iter().map(|(_, trial)| rows(trial)).collect();
    for metric in &template.metrics {
        let measured = |run: &RunRows| run.rows.iter().any(|row| value_of(metric, |m| row.metrics.get(m)).is_some());
        if !runs.is_empty() && !runs.iter().any(measured) {
            return Err(unmeasured(section, metric, trials));
        }
    }
    let mut figures = mean_curves(&runs, &template.metrics);
    for (figure, metric) in figures.iter_mut().zip(&template.metrics) {
        figure.y_label = titled_by_units(metric, trials.iter().filter_map(|(_, trial)| trial.run.unit_of_metric(metric)));
    }
    Ok(figures)
}

/// One quantity against another.
pub fn plane(section: &Section, template: &PlaneTemplate, trials: &[(usize, &Trial)]) -> Result<Figure, Failure> {
    let mut figure = Figure::new(section.title.as_str(), heading(&template.x, trials), heading(&template.y, trials));
    check_known(&template.series, trials)?;
    let labels: Vec<String> = trials.iter().map(|(_, trial)| trial.label(&template.series, &[])).collect();
    let colours = colours(labels.iter().map(String::as_str));
    for ((_, trial), label) in trials.iter().zip(&labels) {
        let colour = colours.iter().find(|(name, _)| name == label).map_or_else(|| tab10(0), |(_, colour)| *colour);
        let points = if template.training { way(template, trial) } else { end(template, trial).into_iter().collect() };
        let Some(&last) = points.last() else { continue };
        if points.len() > 1 {
            figure.layers.push(curve(points, colour, Stroke::Solid));
        }
        figure.layers.push(Layer::Points { points: vec![last], colour, opacity: 1.0, radius: 5 });
    }
    if !trials.is_empty() && figure.layers.is_empty() {
        return Err(unmeasured(section, &format!("{}` and `{}", template.x.of(), template.y.of()), trials));
    }
    for (label, colour) in colours {
        figure.entry(label, colour, Mark::Swatch);
    }
    without_nameless(&mut figure);
    Ok(figure)
}

fn end(template: &PlaneTemplate, trial: &Trial) -> Option<[f64; 2]> {
    Some([template.x.factor() * trial.value(template.x.of())?, template.y.factor() * trial.value(template.y.of())?])
}

/// Both quantities at every evaluation that has them.
fn way(template: &PlaneTemplate, trial: &Trial) -> Vec<[f64; 2]> {
    let at = |epoch: u64, of: &str| {
        let (split, metric) = metric_of(of)?;
        let mut rows = trial.rows().iter().rev().filter(|row| row.epoch == epoch && row.split == split);
        rows.find_map(|row| value_of(metric, |name| row.metrics.get(name)))
    };
    let mut epochs: Vec<u64> = trial.rows().iter().map(|row| row.epoch).collect();
    epochs.dedup();
    let point = |epoch| Some([template.x.factor() * at(epoch, template.x.of())?, template.y.factor() * at(epoch, template.y.of())?]);
    epochs.into_iter().filter_map(point).collect()
}

/// Accuracy under growing corruption.
pub fn corruption(section: &Section, template: &RobustnessTemplate, trials: &[(usize, &Trial)]) -> Result<Vec<Figure>, Failure> {
    check_known(&template.series, trials)?;
    // Any number of the result says what all of it was made with.
    let of = format!("{}.settings.0.accuracy", template.analysis);
    let series = [template.series.clone(), told_apart_by(trials, &template.series, &[&of])].concat();
    let mut all = Vec::new();
    for (_, trial) in trials {
        let Ok((_, document)) = trial.run.analysis(&template.analysis) else { continue };
        let entries = document["result"]["settings"].as_array().cloned().unwrap_or_default();
        let wanted = entries.iter().filter(|entry| entry["L"].as_u64().is_none_or(|codes| codes == template.codes));
        let points: Vec<[f64; 2]> =
            wanted.filter_map(|entry| Some([entry[template.strength.as_str()].as_f64()?, entry["accuracy"].as_f64()?])).collect();
        if !points.is_empty() {
            let series = trial.label(&series, &[&of]);
            all.push(Robustness { panel: section.title.clone(), series, dashed: false, points });
        }
    }
    if !trials.is_empty() && all.is_empty() {
        let (_, first) = trials[0];
        return Err(Failure::usage(format!(
            "section `{}`: no run has results of `{}` with {} codes\n  hint: run `ibhost analyze {} --analysis {}`",
            section.title,
            template.analysis,
            template.codes,
            show(&first.run.path),
            template.analysis
        )));
    }
    Ok(robustness(&all, &template.strength))
}
