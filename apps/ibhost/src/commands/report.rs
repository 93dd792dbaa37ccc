//! `ibhost report`: runs or sweeps on one page, with tables as CSV and LaTeX beside it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use ibhost_framework::storage::run_dir::read_yaml;
use ibhost_framework::storage::{RunDir, RunStatus, inside, write_atomic};
use ibhost_sweep::SweepFolder;
use ibhost_sweep::store::find_all;
use serde_json::{Map, Value};

use crate::cli::ReportArgs;
use crate::exit::Failure;
use crate::paths::show;
use crate::report::{Template, Trial, default_template, no_run_in, report};
use crate::table;
use crate::together::status_word;

pub fn report_command(arguments: &ReportArgs) -> Result<u8, Failure> {
    let (trials, left_out) = open_all(&arguments.runs)?;
    let mut template = match &arguments.template {
        Some(path) => read_template(path)?,
        None => match &arguments.runs[..] {
            [sweep] => template_of(sweep)?.unwrap_or_else(|| default_template(&trials)),
            _ => default_template(&trials),
        },
    };
    if let Some(title) = &arguments.title {
        template.title = Some(title.clone());
    }
    let output = &arguments.output;
    inside::check_outside(output).map_err(Failure::usage)?;
    let folder = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let stem = output.file_stem().map_or_else(|| "report".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let finished = report(&template, &trials, &left_out, folder, &stem)?;
    std::fs::create_dir_all(folder).map_err(|e| Failure::failed(format!("cannot create `{}`: {e}", show(folder))))?;
    write_atomic(output, finished.html.as_bytes())?;
    table::print(&format!("wrote {}", show(output)))?;
    for (name, text) in &finished.tables {
        let path = folder.join(name);
        write_atomic(&path, text.as_bytes())?;
        table::print(&format!("wrote {}", show(&path)))?;
    }
    Ok(0)
}

/// A folder that is left out, and why.
type Reason = (PathBuf, String);

/// The runs in `paths` and below, each once, and what cannot be shown with the reason, which is said as well. Copies of a run are no
/// repetitions of it.
fn open_all(paths: &[PathBuf]) -> Result<(Vec<Trial>, Vec<Reason>), Failure> {
    let mut left_out: Vec<Reason> = Vec::new();
    let mut opened: Vec<Trial> = Vec::new();
    let mut seen = HashSet::new();
    for path in paths {
        let found = match find_all(path) {
            Ok(found) => found,
            Err(error) => return Err(Failure::usage(format!("cannot list `{}`: {error}", show(path)))),
        };
        if found.is_empty() {
            return Err(no_run_in(path));
        }
        for (folder, broken) in found {
            if !seen.insert(folder.canonicalize().unwrap_or_else(|_| folder.clone())) {
                continue;
            }
            match broken.map_or_else(|| Trial::open(&folder).map_err(|failure| reason_of(&folder, &failure)), Err) {
                Ok(trial) => opened.push(trial),
                Err(reason) => left_out.push((folder, reason)),
            }
        }
    }
    let mut trials: Vec<Trial> = Vec::new();
    for trial in opened {
        let far = |trial: &Trial| (trial.status == RunStatus::Completed, trial.summary.steps);
        match trials.iter_mut().find(|known| known.run.id == trial.run.id) {
            Some(known) => {
                // The one that got furthest stands for all.
                let other = if far(&trial) > far(known) { std::mem::replace(known, trial) } else { trial };
                left_out.push((other.run.path, format!("it is a copy of {} and no run of its own", show(&known.run.path))));
            }
            None => trials.push(trial),
        }
    }
    if let Some((path, reason)) = left_out.first().filter(|_| trials.is_empty()) {
        let more = if left_out.len() > 1 { format!("\n  and {} more", left_out.len() - 1) } else { String::new() };
        return Err(Failure::failed(format!("no run can be shown: `{}`: {reason}{more}", show(path))));
    }
    for (path, reason) in &left_out {
        tracing::warn!("`{}` is left out: {reason}", show(path));
    }
    let recorded = |trial: &&Trial| trial.run.config.training.data_hash.is_some();
    if let (Some(with), Some(without)) = (trials.iter().find(recorded), trials.iter().find(|trial| !recorded(trial))) {
        let pair = [with, without].map(|trial| show(&trial.run.path));
        tracing::warn!("whether {} and {} were trained on the same data cannot be checked; they count as if they were", pair[0], pair[1]);
    }
    for trial in trials.iter().filter(|trial| trial.status != RunStatus::Completed) {
        tracing::warn!("{} is {} and in no number of the report", show(&trial.run.path), status_word(trial.status));
    }
    Ok((trials, left_out))
}

/// Why the run in `path` cannot be shown, with the program that made it where that is another one, which may know more components.
fn reason_of(path: &Path, failure: &Failure) -> String {
    let name = |program: &Path| program.file_name().map(|name| name.to_string_lossy().into_owned());
    let made_by = RunDir::open_read_only(path).and_then(|run| run.read_summary()).ok();
    let made_by = made_by.and_then(|summary| name(Path::new(summary.command.first()?)));
    let ours = std::env::current_exe().ok().and_then(|program| name(&program));
    match made_by.filter(|made_by| Some(made_by) != ours.as_ref()) {
        Some(program) => format!("{} (it was made by `{program}`)", failure.reason()),
        None => failure.reason().to_owned(),
    }
}

/// The template that comes with the sweep in `path`; none when that is no sweep or has none.
fn template_of(path: &Path) -> Result<Option<Template>, Failure> {
    let Ok(definition) = SweepFolder::definition(path) else { return Ok(None) };
    definition.report.as_ref().map(sweep_template).transpose()
}

/// The key `report` of a sweep's file.
pub fn sweep_template(value: &Value) -> Result<Template, Failure> {
    Template::read(value, None).map_err(|problem| Failure::usage(format!("report: {problem}")))
}

/// A template from a file of its own, or from the file of a sweep.
fn read_template(path: &Path) -> Result<Template, Failure> {
    let content: Map<String, Value> = read_yaml(path).map_err(Failure::usage)?;
    let text = std::fs::read_to_string(path).ok();
    let template = content.get("report").filter(|_| !content.contains_key("sections")).cloned().unwrap_or(Value::Object(content));
    Template::read(&template, text.as_deref()).map_err(|problem| {
        let hint =
            "a template has `sections`, each with a title and one of table, against, curves, plane, robustness, pictures, comparison";
        Failure::usage(format!("`{}`: {problem}\n  hint: {hint}", show(path)))
    })
}
