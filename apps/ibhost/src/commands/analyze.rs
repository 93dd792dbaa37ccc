//! `ibhost analyze`: any analysis on any finished run whose model offers what it needs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, AnalysisReport};
use ibhost_framework::component::{Component, resolve, text_of};
use ibhost_framework::dataset::{DataRoot, Split};
use ibhost_framework::engine::{Session, open_finished};
use ibhost_framework::identity::OtherDataPolicy;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{BoxedObjective, Objective};
use ibhost_framework::parameters;
use ibhost_framework::registry::{Kind, Registry};
use ibhost_framework::run::RunConfig;
use ibhost_framework::storage::{Label, RunDir, StorageError, write_atomic};
use serde_json::json;

use super::check_run_folder;
use crate::cli::{AnalyzeArgs, Format};
use crate::exit::{Failure, INTERRUPTED};
use crate::paths::{data_root, show};
use crate::signals::stop_flag;
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
    let stop = stop_between_analyses();
    let (mut results, mut made) = (Vec::new(), 0);
    for run in &arguments.runs {
        for text in arguments.analysis.iter().take_while(|_| !stop.load(Ordering::Relaxed)) {
            made += 1;
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
    Ok(if made < arguments.runs.len() * arguments.analysis.len() { INTERRUPTED } else { 0 })
}

/// A flag that a signal sets: the analysis at hand is finished, and no other begins.
pub fn stop_between_analyses() -> Arc<AtomicBool> {
    stop_flag("finishing the analysis at hand", || "the analysis at hand is lost, those before it are kept".to_owned())
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
    let (folder, session, state) = open_finished(run, root, label, OtherDataPolicy::Refuse)?;
    if averaged && state.average.is_none() {
        return Err(Failure::usage(format!(
            "{} keeps no averaged weights\n  hint: leave --average out, or train with e.g. `--average 0.999`",
            show(run)
        )));
    }
    let model = Session::evaluation_model(&state, averaged);
    if uses_model(&component, &*model)? {
        check_numbers(&model, &session).map_err(|problem| {
            Failure::failed(format!(
                "{}: {problem}, so no analysis of it means anything\n  hint: choose an earlier checkpoint with `--checkpoint best`, or train it \
                 anew with a lower `--lr`",
                show(run)
            ))
        })?;
    }
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
    let mut report = analysis.run(&context).map_err(failure)?.without_nan();
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

/// Whether an analysis needs anything of `model`; refuses one that needs what it cannot do.
fn uses_model(component: &Component, model: &dyn Objective) -> Result<bool, Failure> {
    let registry = Registry::global().map_err(Failure::failed)?;
    let needs = registry.get(Kind::Analysis, &component.name).map_or(&[][..], |analysis| analysis.needs);
    match needs.iter().find(|need| !need.held_by(model)) {
        Some(&capability) => Err(Failure::usage(AnalysisError::Unfit { analysis: component.name.clone(), capability })),
        None => Ok(!needs.is_empty()),
    }
}

/// Inputs that a model is tried on before it is analysed.
const TRIED: usize = 16;

/// What of `model` is no number: a weight, or what it makes of the first test samples.
fn check_numbers(model: &BoxedObjective, session: &Session) -> Result<(), String> {
    if let Some(path) = parameters::first_non_finite(model) {
        return Err(format!("parameter `{path}` of the model is not finite"));
    }
    let test = session.data.split(Split::Test);
    let indices: Vec<usize> = (0..test.len().min(TRIED)).collect();
    if indices.is_empty() {
        return Ok(());
    }
    let inputs = test.batch(&indices, &session.device).inputs;
    if inputs.clone().into_data().iter::<f64>().any(f64::is_nan) {
        return Ok(());
    }
    let mut draws = Draws::seeded(session.noise, 0, "trial before an analysis");
    let scores = model.as_classifier().map(|model| ("class probabilities", model.class_log_probabilities(inputs.clone(), 1, &mut draws)));
    let codes = model.as_posterior().map(|model| ("codes", model.posterior(inputs).mean()));
    for (what, found) in [scores, codes].into_iter().flatten() {
        if found.into_data().iter::<f64>().any(f64::is_nan) {
            return Err(format!("the model's {what} of test samples are not numbers"));
        }
    }
    Ok(())
}

/// Refuses an analysis that needs what `objective` is not registered to offer, before there is a model.
pub fn check_fit(component: &Component, objective: &str) -> Result<(), Failure> {
    let registry = Registry::global().map_err(Failure::failed)?;
    let objective = registry.get(Kind::Objective, objective);
    let analysis = registry.get(Kind::Analysis, &component.name);
    if let (Some(objective), Some(analysis)) = (objective, analysis)
        && let Some(missing) = analysis.needs.iter().find(|need| !objective.offers.contains(need))
    {
        let error = AnalysisError::Unfit { analysis: component.name.clone(), capability: *missing };
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
