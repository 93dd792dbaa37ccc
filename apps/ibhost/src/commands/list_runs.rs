//! `ibhost list-runs`: the runs in a folder, how far each got, and which of them can be resumed.

use std::fs;
use std::path::{Path, PathBuf};

use ibhost_framework::storage::{RunDir, RunStatus, StorageError, Summary};
use serde_json::{Value, json};

use crate::cli::{Format, ListRunsArgs};
use crate::exit::Failure;
use crate::paths::show;
use crate::table;

/// A run as far as its files tell.
struct Listed {
    path: PathBuf,
    status: Option<RunStatus>,
    summary: Option<Summary>,
    problem: Option<String>,
}

pub fn list_runs(arguments: &ListRunsArgs) -> Result<u8, Failure> {
    let folder = &arguments.folder;
    let entries = fs::read_dir(folder).map_err(|e| {
        Failure::usage(format!("cannot list `{}`: {e}\n  hint: name the folder that was given to `ibhost run --output-dir`", show(folder)))
    })?;
    let mut runs = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Failure::failed(format!("cannot list `{}`: {e}", show(folder))))?.path();
        // Whatever else lies there is none of ours.
        if let Ok(run) = RunDir::open_read_only(&path) {
            runs.push(look_at(&run));
        }
    }
    runs.sort_by(|a, b| a.path.cmp(&b.path));
    if arguments.format == Format::Json {
        return table::print_json(&runs.iter().map(to_json).collect::<Vec<_>>().into()).map(|()| 0);
    }
    let header = ["run", "status", "objective", "data set", "epochs", "steps", "best", "started", "reason"];
    let rows: Vec<Vec<String>> = runs.iter().map(row).collect();
    table::print(&if arguments.format == Format::Markdown { table::markdown(&header, &rows) } else { table::plain(&header, &rows) })?;
    Ok(0)
}

fn look_at(run: &RunDir) -> Listed {
    let path = run.path().to_path_buf();
    let summary = run.read_summary();
    match (run.status(), summary) {
        (Ok(status), Ok(summary)) => Listed { path, status: Some(status), summary: Some(summary), problem: None },
        // Killed while it was created: it has an identity, and nothing else yet.
        (Err(StorageError::Io { source, .. }), _) if source.kind() == std::io::ErrorKind::NotFound => {
            let problem = Some("ended before its first step".to_owned());
            Listed { path, status: Some(RunStatus::Interrupted), summary: None, problem }
        }
        (Err(error), _) | (_, Err(error)) => Listed { path, status: None, summary: None, problem: Some(error.to_string()) },
    }
}

/// Why a run is as it is: its own words, else what a look at it gave.
fn reason(run: &Listed) -> Option<&str> {
    let own = run.summary.as_ref().and_then(|summary| summary.reason.as_deref());
    own.or(run.problem.as_deref()).or_else(|| {
        let died = run.status == Some(RunStatus::Interrupted);
        died.then_some("its process ended without a word; `ibhost resume` continues from the last checkpoint")
    })
}

fn to_json(run: &Listed) -> Value {
    json!({
        "run_dir": show(&run.path),
        "status": run.status,
        "reason": reason(run),
        "objective": run.summary.as_ref().map(|s| &s.objective),
        "encoder": run.summary.as_ref().map(|s| &s.encoder),
        "dataset": run.summary.as_ref().map(|s| &s.dataset),
        "seed": run.summary.as_ref().map(|s| s.seed),
        "epochs": run.summary.as_ref().map(|s| s.epochs),
        "steps": run.summary.as_ref().map(|s| s.steps),
        "best": run.summary.as_ref().and_then(|s| s.best.as_ref()),
        "started": run.summary.as_ref().map(|s| &s.started),
    })
}

fn row(run: &Listed) -> Vec<String> {
    let name = |path: &Path| path.file_name().map_or_else(|| show(path), |name| name.to_string_lossy().into_owned());
    let from = |field: &dyn Fn(&Summary) -> String| run.summary.as_ref().map_or_else(|| "-".to_owned(), field);
    let status = run.status.and_then(|status| serde_json::to_value(status).ok()).and_then(|v| v.as_str().map(str::to_owned));
    let best = |s: &Summary| s.best.as_ref().map_or_else(|| "-".to_owned(), |b| format!("{} {:.4}", b.metric, b.value));
    vec![
        name(&run.path),
        status.unwrap_or_else(|| "-".to_owned()),
        from(&|s| s.objective.clone()),
        from(&|s| s.dataset.clone()),
        from(&|s| s.epochs.to_string()),
        from(&|s| s.steps.to_string()),
        from(&best),
        from(&|s| s.started.clone()),
        reason(run).and_then(|text| text.lines().next()).unwrap_or_default().to_owned(),
    ]
}
