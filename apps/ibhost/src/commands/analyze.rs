//! `ibhost analyze`: any analysis on any finished run whose model offers what it needs.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, AnalysisReport, Output};
use ibhost_framework::component::{Component, resolve, text_of};
use ibhost_framework::csv_text::csv_text;
use ibhost_framework::dataset::DataRoot;
use ibhost_framework::engine::{Session, open_finished};
use ibhost_framework::registry::{Kind, Registry};
use ibhost_framework::run::RunConfig;
use ibhost_framework::storage::{Label, RunDir, StorageError, write_atomic};
use serde_json::{Map, Value, json};

use super::check_run_folder;
use crate::cli::{AnalyzeArgs, Format};
use crate::exit::Failure;
use crate::kept::{Origin, data_key};
use crate::paths::{absolute, data_root, show};
use crate::results::{Settings, place};
use crate::table;
use crate::together::{LeftOut, distinct_folders};

pub fn analyze(arguments: &AnalyzeArgs) -> Result<u8, Failure> {
    let look = &arguments.look;
    let root = data_root(&look.data)?;
    let label: Label = look.checkpoint.parse().map_err(|e: String| Failure::usage(format!("--checkpoint: {e}")))?;
    // Everything asked for is checked before anything is computed.
    for text in &arguments.analysis {
        resolve::<dyn AnalysisConfig>(Kind::Analysis, text).map_err(|error| Failure::component("--analysis", &error))?;
    }
    let (mut results, mut left_out, mut done) = (Vec::new(), LeftOut::default(), 0);
    let mut elsewhere = Elsewhere::default();
    for run in &distinct_folders(&arguments.runs) {
        let folder = check_run_folder(run).and_then(|()| match &arguments.output {
            None => Ok(None),
            Some(output) => elsewhere.place(run, output).map(Some),
        });
        let Some(folder) = left_out.take(run, folder) else { continue };
        for text in &arguments.analysis {
            let work = || one_into(run, folder.as_deref().unwrap_or(run), &root, text, label, look.average, look.seed);
            let report = if folder.is_some() { work() } else { recorded(run, work) };
            let name = if arguments.analysis.len() > 1 { format!("{}, {text}", show(run)) } else { show(run) };
            let Some(report) = left_out.take_named(&name, report) else { continue };
            done += 1;
            if look.format == Format::Json {
                results.push(json!({ "run_dir": show(run), "analysis": text, "result": report.result, "files": report.files }));
            } else {
                show_report(run, text, &report, look.format)?;
            }
        }
    }
    if done == 0 {
        return Err(left_out.nothing_left());
    }
    if look.format == Format::Json {
        table::print_json(&results.into())?;
    }
    left_out.end()
}

/// Folders of results that are not the runs' own: one for each run, called as the run's, below a folder that was asked for.
#[derive(Default)]
pub struct Elsewhere {
    /// Each with the run it belongs to.
    taken: Vec<(PathBuf, PathBuf)>,
}

impl Elsewhere {
    /// The folder of the results of `run` below `output`, made when it is not there. Nothing in a run is written.
    ///
    /// # Errors
    /// When it lies in a run, belongs to another run of this command, or cannot be made.
    pub fn place(&mut self, run: &Path, output: &Path) -> Result<PathBuf, Failure> {
        let real = fs::canonicalize(run).map_err(|e| Failure::usage(format!("cannot open `{}`: {e}", show(run))))?;
        let place = absolute(output).join(real.file_name().unwrap_or_default());
        let there = place.ancestors().find_map(|folder| fs::canonicalize(folder).ok());
        let is_run = |folder: &Path| fs::symlink_metadata(folder.join(".run.json")).is_ok();
        if let Some(inside) = there.as_deref().into_iter().flat_map(Path::ancestors).find(|folder| is_run(folder)) {
            let problem = format!("--output: `{}` lies in the run `{}`, where results would change it", show(&place), show(inside));
            return Err(Failure::usage(format!("{problem}\n  hint: name a folder outside of all runs")));
        }
        if let Some((_, other)) = self.taken.iter().find(|(taken, _)| *taken == place) {
            let problem = format!("{} and {} have folders of one name, and so would their results", show(other), show(run));
            return Err(Failure::usage(format!("{problem}\n  hint: analyse them one by one, each with an --output of its own")));
        }
        fs::create_dir_all(&place).map_err(|e| Failure::usage(format!("--output: cannot create `{}`: {e}", show(&place))))?;
        self.taken.push((place.clone(), run.to_path_buf()));
        Ok(place)
    }
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
        Err(StorageError::Io { action, path, source })
            if matches!(source.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) =>
        {
            let hint = "a run that cannot be written is analysed with `ibhost analyze --output DIR`";
            Err(Failure::failed(format!("cannot {action} `{}`: {source}\n  hint: {hint}", show(&path))))
        }
        Err(error) => Err(error.into()),
    }
}

/// Runs `work` while the run's list of files says that plots and analyses may change.
pub fn while_results_change<T>(run: &RunDir, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let was_open = run.open_files(may_change)?;
    let result = work();
    if !was_open {
        run.close_files()?;
    }
    result
}

/// Whether analyses write files of this name: results, pictures, and what TensorBoard's projector reads.
fn may_change(name: &str) -> bool {
    ["analyses/", "plots/", "tensorboard/test/embedding-", "tensorboard/test/projector_config.pbtxt"]
        .iter()
        .any(|start| name.starts_with(start))
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

/// Runs one analysis and writes its result to `analyses/<name>.json` and, when it has a table, `.csv`; where settings differ from the defaults,
/// the names say so, see [`Settings::stem`].
pub fn one(run: &Path, root: &DataRoot, text: &str, label: Label, averaged: bool, seed: Option<u64>) -> Result<AnalysisReport, Failure> {
    one_into(run, run, root, text, label, averaged, seed)
}

/// The same with the results below `folder` instead of `run`.
pub fn one_into(
    run: &Path,
    folder: &Path,
    root: &DataRoot,
    text: &str,
    label: Label,
    average: bool,
    seed: Option<u64>,
) -> Result<AnalysisReport, Failure> {
    let (component, analysis) =
        resolve::<dyn AnalysisConfig>(Kind::Analysis, text).map_err(|error| Failure::component("--analysis", &error))?;
    let (opened, session, state) = open_finished(run, root, label)?;
    check_fit(&component, &session.config.objective.name)?;
    if average && state.average.is_none() {
        return Err(Failure::usage(format!(
            "{} keeps no averaged weights\n  hint: leave --average out, or train with e.g. `--average 0.999`",
            show(run)
        )));
    }
    let (model, config) = (Session::evaluation_model(&state, average), &session.config);
    let own_seed = config.training.seed;
    let seed = seed.unwrap_or(own_seed);
    let sources = analysis.sources(opened.path(), root).map_err(failure)?;
    let origin = Origin::of(&opened, label, seed, data_key(&*session.data), sources)?
        .ok_or_else(|| Failure::failed(format!("{} has no `{label}` checkpoint any more", show(run))))?;
    let settings = Settings {
        name: component.name.clone(),
        analysis: component.to_string(),
        checkpoint: label.as_str().to_owned(),
        average,
        seed: (seed != own_seed).then_some(seed),
    };
    let (stem, suffix) = place(folder, &settings, &origin, own_seed).map_err(Failure::usage)?;
    let output = Output { folder: folder.to_path_buf(), suffix };
    let context = AnalysisContext {
        model: &*model,
        data: &*session.data,
        root,
        device: &session.device,
        run_dir: opened.path(),
        output: &output,
        label: &label_of(config),
        seed,
    };
    let mut report = analysis.run(&context).map_err(failure)?;
    let files: Vec<String> = report.files.iter().map(|path| show(path.strip_prefix(folder).unwrap_or(path))).collect();
    let mut document = Map::new();
    document.insert("analysis".to_owned(), component.to_json_full());
    document.insert("checkpoint".to_owned(), label.as_str().into());
    document.insert("average".to_owned(), average.into());
    if let Value::Object(origin) = serde_json::to_value(&origin).map_err(Failure::failed)? {
        document.extend(origin);
    }
    document.insert("files".to_owned(), files.into());
    document.insert("result".to_owned(), report.result.clone());
    let bytes = serde_json::to_vec_pretty(&document).map_err(Failure::failed)?;
    let analyses = folder.join("analyses");
    fs::create_dir_all(&analyses).map_err(|e| Failure::failed(format!("cannot create `{}`: {e}", show(&analyses))))?;
    let path = stem.with_extension("json");
    write_atomic(&path, &bytes)?;
    report.files.push(path);
    if !report.table.is_empty() {
        let path = stem.with_extension("csv");
        write_atomic(&path, csv_text(&report.table).as_bytes())?;
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
