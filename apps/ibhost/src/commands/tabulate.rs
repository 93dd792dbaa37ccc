//! `ibhost tabulate`: one table from many runs, as the papers print them.

use ibhost_analyses::figures::batch_table::{CellFormat, RunValue, batch_table, last_epochs_mean};
use ibhost_analyses::figures::tables::{CorruptionCell, RunCorruption, corruption_table, folder_name, key};
use ibhost_analyses::robustness::{cifar10c, mnistc};
use ibhost_framework::component::text_of;
use ibhost_framework::storage::RunDir;
use serde_json::Value;

use super::runs::{Run, read_results_from, save, split_of};
use crate::cli::{Format, TableKind, TabulateArgs};
use crate::exit::Failure;
use crate::paths::show;
use crate::results::Document;
use crate::table;
use crate::together::{LeftOut, check_same_analysis, check_same_settings, grouped, open_runs};

/// Codes averaged for the accuracies of corruption tables.
const CODES: u64 = 12;

pub fn tabulate(arguments: &TabulateArgs) -> Result<u8, Failure> {
    let (mut runs, mut left_out) = open_runs(&arguments.runs, arguments.unfinished)?;
    read_results_from(&mut runs, arguments.results.as_deref());
    match arguments.table {
        TableKind::Batch => batch(&runs, &mut left_out, arguments)?,
        TableKind::Mnistc => corruption(&runs, &mut left_out, arguments, "mnistc", &mnistc::CATEGORIES)?,
        TableKind::Cifar10c => corruption(&runs, &mut left_out, arguments, "cifar10c", &cifar10c::CATEGORIES)?,
    }
    left_out.end()
}

/// Mean and sample standard deviation of a metric over runs, by two settings.
fn batch(runs: &[Run], left_out: &mut LeftOut, arguments: &TabulateArgs) -> Result<(), Failure> {
    let (split, metric) =
        arguments.metric.split_once('.').and_then(|(split, metric)| Some((split_of(split)?, metric))).ok_or_else(|| {
            let what = &arguments.metric;
            Failure::usage(format!("--metric is `{what}`, expected `<split>.<metric>` with the split train, test or test_average"))
        })?;
    let value_of = |run: &Run| {
        let rows = run.rows()?;
        let value = last_epochs_mean(&rows, split, metric, arguments.last).ok_or_else(|| {
            let names: Vec<&str> = rows.iter().filter(|r| r.split == split).flat_map(|r| r.metrics.iter().map(|(n, _)| n)).collect();
            let known = names.iter().enumerate().filter(|(i, n)| !names[..*i].contains(n)).map(|(_, n)| *n).collect::<Vec<_>>();
            Failure::usage(format!("{} never measured `{}`; it has {}", show(&run.path), arguments.metric, known.join(", ")))
        })?;
        let value = if arguments.error { 1.0 - value } else { value };
        Ok(RunValue { row: run.setting(&arguments.rows)?, column: run.setting(&arguments.columns)?, value })
    };
    let measured: Vec<(&Run, RunValue)> = runs.iter().filter_map(|run| Some((run, left_out.take(&run.path, value_of(run))?))).collect();
    if measured.is_empty() {
        return Err(std::mem::take(left_out).nothing_left());
    }
    for ((row, column), members) in grouped(measured.iter().map(|(run, value)| ((&value.row, &value.column), *run))) {
        check_same_settings(&format!("`{}` at {row}, {column}", arguments.metric), &members, &arguments.over)?;
    }
    let values: Vec<RunValue> = measured.into_iter().map(|(_, value)| value).collect();
    let format = if arguments.percent { CellFormat::Percent } else { CellFormat::Plain };
    let corner = format!("{} \\ {}", arguments.rows, arguments.columns);
    let result = batch_table(&corner, &values, format);
    if let Some(folder) = &arguments.output {
        save(folder, &[("table.csv", result.csv()), ("table.tex", result.latex())])?;
    }
    print(&result.cells(), arguments.format)
}

fn print(cells: &[Vec<String>], format: Format) -> Result<(), Failure> {
    let Some((header, rows)) = cells.split_first() else { return Ok(()) };
    if format == Format::Json {
        let values: Vec<Value> = rows
            .iter()
            .map(|row| header.iter().cloned().zip(row.iter().cloned().map(Value::from)).collect::<serde_json::Map<_, _>>().into())
            .collect();
        return table::print_json(&values.into());
    }
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    table::print(&if format == Format::Markdown { table::markdown(&header, rows) } else { table::plain(&header, rows) })
}

/// CE and relative CE of runs that were analysed on corrupted images.
fn corruption(runs: &[Run], left_out: &mut LeftOut, arguments: &TabulateArgs, analysis: &str, categories: &[&str]) -> Result<(), Failure> {
    let selector = arguments.analysis.as_deref().unwrap_or(analysis);
    let mut found = Vec::new();
    for run in runs {
        let result = run.document(selector).and_then(|document| Ok((measured_corruption(run, &document, analysis)?, document)));
        found.extend(left_out.take(&run.path, result).map(|(measured, document)| (run, document, measured)));
    }
    if found.is_empty() {
        return Err(std::mem::take(left_out).nothing_left());
    }
    // Every row is given relative to one of them, so that all have to be comparable.
    check_same_analysis(&format!("table of `{analysis}`"), &found.iter().map(|(run, document, _)| (*run, document)).collect::<Vec<_>>())?;
    for (key, members) in grouped(found.iter().map(|(run, _, measured)| (&measured.key, *run))) {
        check_same_settings(&format!("`{analysis}` of {key}"), &members, &arguments.over)?;
    }
    let runs: Vec<&Run> = found.iter().map(|(run, ..)| *run).collect();
    let measured: Vec<RunCorruption> = found.iter().map(|(_, _, measured)| measured.clone()).collect();
    let mut strategies: Vec<String> = measured.iter().map(|run| run.strategy.clone()).collect();
    strategies.sort();
    strategies.dedup();
    let categories: Vec<String> = categories.iter().map(|c| (*c).to_owned()).collect();
    let first = runs.first().map(|run| format!("{}-oneshot-vdb-diag-M1", run.config.encoder.name)).unwrap_or_default();
    let reference = arguments.reference.clone().unwrap_or(first);
    let result = corruption_table(&measured, &reference, &strategies, &categories).map_err(Failure::usage)?;
    if let Some(folder) = &arguments.output {
        let beta = runs.first().and_then(|run| run.config.objective.get("beta")).and_then(Value::as_f64).unwrap_or(0.0);
        let folder = folder.join(folder_name(&runs[0].config.dataset.name, beta));
        let files = [
            ("latex-table.txt", result.latex()),
            ("per-category-errors.csv", result.errors_csv()),
            ("per-category-relative-errors.csv", result.relative_errors_csv()),
        ];
        save(&folder, &files)?;
    }
    let header = ["key", "runs", "clean error %", "mCE", "rel mCE", "rel mCE standard"].map(str::to_owned).to_vec();
    let rows = result.rows.iter().map(|row| {
        vec![
            row.key.clone(),
            row.runs.to_string(),
            format!("{:.2}±{:.2}", row.clean_error[0], row.clean_error[1]),
            format!("{:.2}", row.mce),
            format!("{:.2}", row.rel_mce),
            format!("{:.2}", row.rel_mce_standard),
        ]
    });
    print(&std::iter::once(header).chain(rows).collect::<Vec<_>>(), arguments.format)
}

fn measured_corruption(run: &Run, document: &Document, analysis: &str) -> Result<RunCorruption, Failure> {
    let missing = |what: &str| run.lacks(&document.path, analysis, what);
    let accuracy = |entries: &Value| {
        let entry = entries.as_array()?.iter().find(|e| e["L"].as_u64() == Some(CODES))?;
        entry["accuracy"].as_f64()
    };
    let mut cells = Vec::new();
    for (category, value) in document.value["result"]["categories"].as_object().ok_or_else(|| missing("has no categories"))? {
        let severities: Vec<(u8, Option<f64>)> = match value.as_array() {
            Some(list) if list.iter().any(|e| e.get("severity").is_some()) => {
                list.iter().map(|e| (e["severity"].as_u64().unwrap_or(0) as u8, accuracy(&e["metrics"]))).collect()
            }
            _ => vec![(1, accuracy(value))],
        };
        for (severity, accuracy) in severities {
            let accuracy = accuracy.ok_or_else(|| missing(&format!("has no accuracy with {CODES} codes for `{category}`")))?;
            cells.push(CorruptionCell { category: category.clone(), severity, accuracy });
        }
    }
    let config = &run.config;
    let strategy = config.strategy.to_string();
    let word = |component: &ibhost_framework::component::Component, name: &str| component.get(name).map(text_of).unwrap_or_default();
    let m = config.objective.get("m").and_then(Value::as_u64).unwrap_or(1) as usize;
    // The clean accuracy has to be that of the same weights.
    let last = RunDir::open_read_only(&run.path)?.read_summary()?.final_metrics;
    let clean = match (document.settings.checkpoint.as_str(), document.settings.average) {
        ("last", false) => Some(last.test),
        ("last", true) => last.test_average,
        _ => return Err(missing("is about the best checkpoint, whose clean accuracy is not known; analyse the last one")),
    };
    let clean = clean.and_then(|metrics| metrics.get("accuracy_l12"));
    let clean = clean.ok_or_else(|| missing("the run has no clean accuracy_l12 of these weights on its test split"))?;
    Ok(RunCorruption {
        name: show(&run.path),
        key: key(&config.encoder.name, &strategy, &word(&config.objective, "class_loss"), &word(&config.encoder, "cov"), m),
        strategy,
        clean_accuracy: clean,
        cells,
    })
}
