//! `ibhost analyze`: any analysis on any finished run whose model offers what it needs.

use std::path::Path;

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, AnalysisReport};
use ibhost_framework::component::{Component, resolve, text_of};
use ibhost_framework::dataset::DataRoot;
use ibhost_framework::engine::{Session, open_finished};
use ibhost_framework::registry::{Kind, Registry};
use ibhost_framework::run::RunConfig;
use ibhost_framework::storage::{Label, RunDir, StorageError, write_atomic};
use serde_json::json;

use super::check_run_folder;
use crate::cli::{AnalyzeArgs, Format};
use crate::exit::Failure;
use crate::paths::{data_root, show};
use crate::table;

pub fn analyze(arguments: &AnalyzeArgs) -> Result<u8, Failure> {
    let root = data_root(&arguments.look.data)?;
    let label: Label = arguments.look.checkpoint.parse().map_err(|e: String| Failure::usage(format!("--checkpoint: {e}")))?;
    // Everything asked for is checked before anything is computed.
    for text in &arguments.analysis {
        resolve::<dyn AnalysisConfig>(Kind::Analysis, text).map_err(|error| Failure::component("--analysis", &error))?;
    }
    for run in &arguments.runs {
        check_run_folder(run)?;
    }
    let mut results = Vec::new();
    for run in &arguments.runs {
        for text in &arguments.analysis {
            let report = recorded(run, || one(run, &root, text, label, arguments.look.average, arguments.look.seed))?;
            if arguments.look.format == Format::Json {
                results.push(json!({ "run_dir": show(run), "analysis": text, "result": report.result, "files": report.files }));
            } else {
                show_report(run, text, &report, arguments.look.format)?;
            }
        }
    }
    if arguments.look.format == Format::Json {
        table::print_json(&results.into())?;
    }
    Ok(0)
}

/// Runs `work`, which writes results into the folder of a finished run, and lists these among the run's files.
pub fn recorded<T>(run: &Path, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    match RunDir::open(run) {
        Ok(folder) => while_results_change(&folder, work),
        // The process that holds the run lists all files when it ends; if it has ended by now, this one has to.
        Err(StorageError::Locked { .. }) => {
            let result = work()?;
            match RunDir::open(run) {
                Ok(folder) => while_results_change(&folder, || Ok(result)),
                Err(StorageError::Locked { .. }) => Ok(result),
                Err(error) => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Runs `work` while the run's list of files says that results may change, and closes the list, also one that a process left open which was
/// killed.
pub fn while_results_change<T>(run: &RunDir, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    run.open_files(|_| false)?;
    let result = work();
    run.close_files()?;
    result
}

fn show_report(run: &Path, text: &str, report: &AnalysisReport, format: Format) -> Result<(), Failure> {
    table::print(&format!("{text} of {}", show(run)))?;
    if let Some((header, rows)) = report.table.split_first() {
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        table::print(&if format == Format::Markdown { table::markdown(&header, rows) } else { table::plain(&header, rows) })?;
    }
    for file in &report.files {
        table::print(&format!("wrote {}", show(file)))?;
    }
    Ok(())
}

/// Runs one analysis and writes its result to `analyses/<name>.json` and, when it has a table, `.csv`.
pub fn one(run: &Path, root: &DataRoot, text: &str, label: Label, averaged: bool, seed: Option<u64>) -> Result<AnalysisReport, Failure> {
    let (component, analysis) =
        resolve::<dyn AnalysisConfig>(Kind::Analysis, text).map_err(|error| Failure::component("--analysis", &error))?;
    let (folder, session, state) = open_finished(run, root, label)?;
    check_fit(&component, &session.config.objective.name)?;
    if averaged && state.average.is_none() {
        return Err(Failure::usage(format!(
            "{} keeps no averaged weights\n  hint: leave --average out, or train with e.g. `--average 0.999`",
            show(run)
        )));
    }
    let model = Session::evaluation_model(&state, averaged);
    let config = &session.config;
    let context = AnalysisContext {
        model: &*model,
        data: &*session.data,
        root,
        device: &session.device,
        run_dir: folder.path(),
        label: &label_of(config),
        seed: seed.unwrap_or(config.training.seed),
    };
    let mut report = analysis.run(&context).map_err(failure)?;
    let stem = folder.analyses_dir().join(&component.name);
    let document = json!({
        "analysis": component.to_json_full(),
        "checkpoint": label.as_str(),
        "average": averaged,
        "step": state.step,
        "result": report.result,
    });
    let path = stem.with_extension("json");
    let bytes = serde_json::to_vec_pretty(&document).map_err(Failure::failed)?;
    write_atomic(&path, &bytes)?;
    report.files.push(path);
    if !report.table.is_empty() {
        let csv: String = report.table.iter().map(|row| row.iter().map(|c| quote(c)).collect::<Vec<_>>().join(",") + "\n").collect();
        let path = stem.with_extension("csv");
        write_atomic(&path, csv.as_bytes())?;
        report.files.push(path);
    }
    Ok(report)
}

/// `Strategy=oneshot  Beta=0.001 M=12`: what the titles of a paper's figures name.
fn label_of(config: &RunConfig) -> String {
    let mut label = format!("Strategy={} ", config.strategy);
    for (key, name) in [("beta", "Beta"), ("m", "M"), ("samples", "M")] {
        if let Some(value) = config.objective.get(key) {
            label.push_str(&format!(" {name}={}", text_of(value)));
        }
    }
    label
}

fn quote(cell: &str) -> String {
    if cell.contains([',', '"', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

/// Refuses an analysis that needs what models of `objective` do not offer.
pub fn check_fit(component: &Component, objective: &str) -> Result<(), Failure> {
    let registry = Registry::global().map_err(Failure::failed)?;
    let objective = registry.get(Kind::Objective, objective);
    let analysis = registry.get(Kind::Analysis, &component.name);
    if let (Some(objective), Some(analysis)) = (objective, analysis)
        && let Some(missing) = analysis.needs.iter().find(|need| !objective.offers.contains(need))
    {
        let error = AnalysisError::Unfit { analysis: component.name.clone(), capability: missing.to_string() };
        return Err(Failure::usage(error));
    }
    Ok(())
}

fn failure(error: AnalysisError) -> Failure {
    match error {
        AnalysisError::Unfit { .. } | AnalysisError::Request(_) | AnalysisError::Data(_) => Failure::usage(error),
        AnalysisError::Storage(_) | AnalysisError::Plot { .. } => Failure::failed(error),
    }
}
