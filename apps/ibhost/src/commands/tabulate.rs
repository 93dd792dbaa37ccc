//! `ibhost tabulate`: one table from many runs, as the papers print them.

use ibhost_analyses::batch_table::{CellFormat, RunValue, batch_table, last_epochs_mean};
use ibhost_analyses::tables::{CorruptionCell, RunCorruption, corruption_table, folder_name, key};
use ibhost_analyses::{cifar10c, mnistc};
use ibhost_framework::component::text_of;
use ibhost_framework::storage::{MetricsSplit, RunDir};
use serde_json::Value;

use super::runs::{Run, save};
use crate::cli::{Format, TableKind, TabulateArgs};
use crate::exit::Failure;
use crate::paths::show;
use crate::table;

/// Codes averaged for the accuracies of corruption tables.
const CODES: u64 = 12;

pub fn tabulate(arguments: &TabulateArgs) -> Result<u8, Failure> {
    let runs = Run::open_all(&arguments.runs)?;
    match arguments.table {
        TableKind::Batch => batch(&runs, arguments),
        TableKind::Mnistc => corruption(&runs, arguments, "mnistc", &mnistc::CATEGORIES),
        TableKind::Cifar10c => corruption(&runs, arguments, "cifar10c", &cifar10c::CATEGORIES),
    }
}

/// Mean and sample standard deviation of a metric over runs, by two settings.
fn batch(runs: &[Run], arguments: &TabulateArgs) -> Result<u8, Failure> {
    let (split, metric) = match arguments.metric.split_once('.') {
        Some(("train", metric)) => (MetricsSplit::Train, metric),
        Some(("test", metric)) => (MetricsSplit::Test, metric),
        Some(("test_average", metric)) => (MetricsSplit::TestAverage, metric),
        _ => {
            return Err(Failure::usage(format!(
                "--metric is `{}`, expected `<split>.<metric>` with the split train, test or test_average",
                arguments.metric
            )));
        }
    };
    let mut values = Vec::new();
    for run in runs {
        let rows = run.rows()?;
        let value = last_epochs_mean(&rows, split, metric, arguments.last).ok_or_else(|| {
            let names: Vec<&str> = rows.iter().filter(|r| r.split == split).flat_map(|r| r.metrics.iter().map(|(n, _)| n)).collect();
            let known = names.iter().enumerate().filter(|(i, n)| !names[..*i].contains(n)).map(|(_, n)| *n).collect::<Vec<_>>();
            Failure::usage(format!("{} never measured `{}`; it has {}", show(&run.path), arguments.metric, known.join(", ")))
        })?;
        let value = if arguments.error { 1.0 - value } else { value };
        values.push(RunValue { row: run.setting(&arguments.rows)?, column: run.setting(&arguments.columns)?, value });
    }
    let format = if arguments.percent { CellFormat::Percent } else { CellFormat::Plain };
    let corner = format!("{} \\ {}", arguments.rows, arguments.columns);
    let result = batch_table(&corner, &values, format);
    if let Some(folder) = &arguments.output {
        save(folder, &[("table.csv", result.csv()), ("table.tex", result.latex())])?;
    }
    print(&result.cells(), arguments.format)
}

fn print(cells: &[Vec<String>], format: Format) -> Result<u8, Failure> {
    let Some((header, rows)) = cells.split_first() else { return Ok(0) };
    if format == Format::Json {
        let values: Vec<Value> = rows
            .iter()
            .map(|row| header.iter().cloned().zip(row.iter().cloned().map(Value::from)).collect::<serde_json::Map<_, _>>().into())
            .collect();
        return table::print_json(&values.into()).map(|()| 0);
    }
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    table::print(&if format == Format::Markdown { table::markdown(&header, rows) } else { table::plain(&header, rows) })?;
    Ok(0)
}

/// CE and relative CE of runs that were analysed on corrupted images.
fn corruption(runs: &[Run], arguments: &TabulateArgs, analysis: &str, categories: &[&str]) -> Result<u8, Failure> {
    let mut measured = Vec::new();
    for run in runs {
        measured.push(measured_corruption(run, analysis)?);
    }
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

fn measured_corruption(run: &Run, analysis: &str) -> Result<RunCorruption, Failure> {
    let (path, document) = run.analysis(analysis)?;
    let missing = |what: &str| run.lacks(&path, analysis, what);
    let accuracy = |entries: &Value| {
        let entry = entries.as_array()?.iter().find(|e| e["L"].as_u64() == Some(CODES))?;
        entry["accuracy"].as_f64()
    };
    let mut cells = Vec::new();
    for (category, value) in document["result"]["categories"].as_object().ok_or_else(|| missing("has no categories"))? {
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
    let summary = RunDir::open_read_only(&run.path)?.read_summary()?;
    let clean =
        summary.final_metrics.test.get("accuracy_l12").ok_or_else(|| missing("the run has no clean accuracy_l12 on its test split"))?;
    Ok(RunCorruption {
        name: show(&run.path),
        key: key(&config.encoder.name, &strategy, &word(&config.objective, "class_loss"), &word(&config.encoder, "cov"), m),
        strategy,
        clean_accuracy: clean,
        cells,
    })
}
