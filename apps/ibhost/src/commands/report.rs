//! `ibhost report`: runs or sweeps on one page, with tables as CSV and LaTeX beside it.

use std::path::Path;

use ibhost_framework::plain::plain;
use ibhost_framework::storage::run_dir::read_yaml;
use ibhost_framework::storage::{inside, write_atomic};
use ibhost_sweep::SweepFolder;
use serde_json::{Map, Value};

use crate::cli::ReportArgs;
use crate::exit::Failure;
use crate::paths::show;
use crate::report::{Template, Trial, default_template, report, run_folders};
use crate::table;

pub fn report_command(arguments: &ReportArgs) -> Result<u8, Failure> {
    let mut trials = Vec::new();
    for path in &arguments.runs {
        for folder in run_folders(path)? {
            trials.push(Trial::open(&folder)?);
        }
    }
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
    let finished = report(&template, &trials, folder, &stem)?;
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

/// The template that comes with the sweep in `path`; none when that is no sweep or has none.
fn template_of(path: &Path) -> Result<Option<Template>, Failure> {
    let Ok(definition) = SweepFolder::definition(path) else { return Ok(None) };
    definition.report.as_ref().map(sweep_template).transpose()
}

/// The key `report` of a sweep's file.
pub fn sweep_template(value: &Value) -> Result<Template, Failure> {
    let template: Template =
        serde_json::from_value(value.clone()).map_err(|e| Failure::usage(format!("report: {}", plain(&e.to_string()))))?;
    template.check().map_err(|problem| Failure::usage(format!("report: {problem}")))?;
    Ok(template)
}

/// A template from a file of its own, or from the file of a sweep.
fn read_template(path: &Path) -> Result<Template, Failure> {
    let content: Map<String, Value> = read_yaml(path).map_err(Failure::usage)?;
    let template = content.get("report").filter(|_| !content.contains_key("sections")).cloned().unwrap_or(Value::Object(content));
    let template: Template = serde_json::from_value(template).map_err(|e| {
        let hint = "a template has `sections`, each with a title and one of table, against, curves, plane, robustness, pictures";
        Failure::usage(format!("`{}`: {}\n  hint: {hint}", show(path), plain(&e.to_string())))
    })?;
    template.check().map_err(|problem| Failure::usage(format!("`{}`: {problem}", show(path))))?;
    Ok(template)
}
