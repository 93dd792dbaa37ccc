//! `ibhost runs`: the runs in a folder and below, how far each got, and what they measured.

use std::path::{Path, PathBuf};

use ibhost_framework::component::text_of;
use ibhost_sweep::store::{Filter, Index, Key, Listed, keys, select};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::cli::{Format, RunsArgs};
use crate::exit::Failure;
use crate::paths::show;
use crate::table;

pub fn list_runs(arguments: &RunsArgs) -> Result<u8, Failure> {
    let mut filters: Vec<Filter> = Vec::new();
    let mut folders: Vec<PathBuf> = Vec::new();
    for wanted in &arguments.wanted {
        match wanted.to_str() {
            Some(text) if Filter::is_one(text) => filters.push(text.parse()?),
            _ => folders.push(wanted.into()),
        }
    }
    if folders.is_empty() {
        folders.push("runs".into());
    }
    let indexes = folders.iter().map(|folder| Index::open(folder)).collect::<Result<Vec<_>, _>>()?;
    let mut runs = select(&indexes, &filters, arguments.sort.as_deref())?;
    if !arguments.columns.is_empty() {
        let keys = keys(&indexes);
        if arguments.columns.iter().any(|column| column == "all") {
            return table::print(&keys.join("\n")).map(|()| 0);
        }
        if let Some(unknown) = arguments.columns.iter().find(|column| !runs.is_empty() && !keys.contains(column)) {
            return Err(Failure::usage(format!("--columns {unknown}: no run has it\n  hint: `--columns all` lists the fields there are")));
        }
    }
    runs.truncate(arguments.limit.unwrap_or(usize::MAX));
    if arguments.format == Format::Json {
        let document = |run: &Listed<'_>| {
            let mut record = run.record();
            // JSON is text: a name that is none is shown as everywhere else, and hides no other run.
            if record.run_dir.to_str().is_none() {
                record.run_dir = show(&record.run_dir).into();
            }
            serde_json::to_value(record)
        };
        let documents = runs.iter().map(document).collect::<Result<Vec<_>, _>>().map_err(Failure::failed)?;
        return table::print_json(&documents.into()).map(|()| 0);
    }
    let fixed = ["run", "status", "objective", "data set", "epochs", "steps", "best", "started"];
    let extra: Vec<&str> = arguments.columns.iter().map(String::as_str).collect();
    let header = [&fixed[..], &extra, &["reason"]].concat();
    let extra: Vec<Key> = extra.into_iter().map(|column| Key::new(column, &indexes)).collect();
    let rows: Vec<Vec<String>> = runs.par_iter().map(|run| row(run, &extra)).collect();
    table::print(&if arguments.format == Format::Markdown { table::markdown(&header, &rows) } else { table::plain(&header, &rows) })?;
    Ok(0)
}

fn row(run: &Listed<'_>, columns: &[Key]) -> Vec<String> {
    let word = |value: Option<&str>| value.unwrap_or("-").to_owned();
    let count = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let mut cells = vec![
        place(run),
        run.status_word().to_owned(),
        word(run.objective()),
        word(run.dataset()),
        count(run.epochs()),
        count(run.steps()),
        run.best().map_or_else(|| "-".to_owned(), |(metric, value)| format!("{metric} {value:.4}")),
        word(run.started()),
    ];
    cells.extend(columns.iter().map(|column| run.field(column).map_or_else(|| "-".to_owned(), |value| cell(&value))));
    cells.push(run.reason().and_then(|text| text.lines().next()).unwrap_or_default().to_owned());
    cells
}

/// The run's folder, and the sweep it belongs to.
fn place(run: &Listed<'_>) -> String {
    match run.sweep() {
        Some((sweep, trial)) => format!("{sweep} {trial}: {}", run.folder_name()),
        None => run.folder_name(),
    }
}

fn cell(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if value.is_f64() && (1e-3..1e6).contains(&number.abs()) => format!("{number:.4}"),
        _ => text_of(value),
    }
}

/// A run's folder as JSON tables name it.
pub fn shown(path: Option<&Path>) -> Value {
    path.map_or(Value::Null, |path| json!(show(path)))
}
