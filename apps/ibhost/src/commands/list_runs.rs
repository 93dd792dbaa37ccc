//! `ibhost runs`: the runs in a folder and below, how far each got, and what they measured.

use std::path::{Path, PathBuf};

use ibhost_framework::component::text_of;
use ibhost_sweep::store::{Filter, Index, RunRecord};
use serde_json::{Value, json};

use crate::cli::{Format, RunsArgs};
use crate::exit::Failure;
use crate::paths::show;
use crate::table;

pub fn list_runs(arguments: &RunsArgs) -> Result<u8, Failure> {
    let (filters, folders): (Vec<&String>, Vec<&String>) = arguments.wanted.iter().partition(|text| Filter::is_one(text));
    let filters = filters.into_iter().map(|text| text.parse()).collect::<Result<Vec<Filter>, _>>()?;
    let folders = if folders.is_empty() { vec![PathBuf::from("runs")] } else { folders.into_iter().map(PathBuf::from).collect() };
    let (mut runs, mut keys) = (Vec::new(), Vec::new());
    for folder in &folders {
        let index = Index::open(folder)?;
        runs.extend(index.query(&filters, arguments.sort.as_deref())?);
        keys.extend(index.keys()?);
    }
    keys.sort();
    keys.dedup();
    if arguments.columns.iter().any(|column| column == "all") {
        return table::print(&keys.join("\n")).map(|()| 0);
    }
    if let Some(unknown) = arguments.columns.iter().find(|column| !runs.is_empty() && !keys.contains(column)) {
        return Err(Failure::usage(format!("--columns {unknown}: no run has it\n  hint: `--columns all` lists the fields there are")));
    }
    runs.truncate(arguments.limit.unwrap_or(usize::MAX));
    if arguments.format == Format::Json {
        let documents = runs.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>().map_err(Failure::failed)?;
        return table::print_json(&documents.into()).map(|()| 0);
    }
    let fixed = ["run", "status", "objective", "data set", "epochs", "steps", "best", "started"];
    let extra: Vec<&str> = arguments.columns.iter().map(String::as_str).collect();
    let header = [&fixed[..], &extra, &["reason"]].concat();
    let rows: Vec<Vec<String>> = runs.iter().map(|run| row(run, &extra)).collect();
    table::print(&if arguments.format == Format::Markdown { table::markdown(&header, &rows) } else { table::plain(&header, &rows) })?;
    Ok(0)
}

fn row(run: &RunRecord, columns: &[&str]) -> Vec<String> {
    let word = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let mut cells = vec![
        place(run),
        run.status_word().to_owned(),
        word(run.objective.clone()),
        word(run.dataset.clone()),
        word(run.epochs.map(|n| n.to_string())),
        word(run.steps.map(|n| n.to_string())),
        word(run.best.as_ref().map(|best| format!("{} {:.4}", best.metric, best.value))),
        word(run.started.clone()),
    ];
    let fields = run.fields();
    cells.extend(columns.iter().map(|column| word(fields.iter().find(|(key, _)| key == column).map(|(_, value)| cell(value)))));
    cells.push(run.reason.as_deref().and_then(|text| text.lines().next()).unwrap_or_default().to_owned());
    cells
}

/// The run's folder, and the sweep it belongs to.
fn place(run: &RunRecord) -> String {
    match (&run.sweep, run.trial) {
        (Some(sweep), Some(trial)) => format!("{sweep} {trial}: {}", run.folder_name()),
        _ => run.folder_name(),
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
