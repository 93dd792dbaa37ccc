//! `ibhost analyze`: any analysis on any finished run whose model offers what it needs.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, AnalysisReport, Output};
use ibhost_framework::capability::{Classify, Encode};
use ibhost_framework::component::{Component, resolve, text_of};
use ibhost_framework::csv_text::csv_text;
use ibhost_framework::dataset::{DataRoot, Split};
use ibhost_framework::engine::{Session, open_finished};
use ibhost_framework::identity::{Identity, OtherDataPolicy};
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{BoxedObjective, Objective};
use ibhost_framework::parameters;
use ibhost_framework::registry::{Kind, Registry};
use ibhost_framework::run::RunConfig;
use ibhost_framework::storage::{Label, RunDir, StorageError, create_folders, inside, write_atomic};
use serde_json::{Map, Value, json};

use super::check_run_folder;
use crate::cli::{AnalyzeArgs, Format, LookArgs};
use crate::exit::{Failure, INTERRUPTED};
use crate::kept::Origin;
use crate::paths::{absolute, data_root, show};
use crate::program;
use crate::results::{Settings, place, start_of_hash};
use crate::signals::stop_flag;
use crate::table;
use crate::together::{LeftOut, distinct_folders};

pub fn analyze(arguments: &AnalyzeArgs) -> Result<u8, Failure> {
    let look = &arguments.look;
    let root = data_root(&look.data)?;
    let view = View::of(look)?;
    // Everything asked for is checked before anything is computed.
    for text in &arguments.analysis {
        resolve::<dyn AnalysisConfig>(Kind::Analysis, text).map_err(|error| Failure::component("--analysis", &error))?;
    }
    let (stop, mut stopped) = (stop_between_analyses(), false);
    let (mut results, mut left_out, mut done) = (Vec::new(), LeftOut::default(), 0);
    let mut elsewhere = Elsewhere::default();
    for run in &distinct_folders(&arguments.runs) {
        let folder = check_run_folder(run).and_then(|()| match &arguments.output {
            None => Ok(None),
            Some(output) => elsewhere.place(run, output).map(Some),
        });
        let Some(folder) = left_out.take(run, folder) else { continue };
        for text in &arguments.analysis {
            if stop.load(Ordering::Relaxed) {
                stopped = true;
                break;
            }
            let work = || one_into(run, folder.as_deref().unwrap_or(run), &root, text, view);
            let report = if folder.is_some() { work() } else { recorded(run, work) };
            let name = if arguments.analysis.len() > 1 { format!("{}, {text}", show(run)) } else { show(run) };
            let Some(report) = left_out.take_named(&name, report) else { continue };
            done += 1;
            if look.format == Format::Json {
                let files: Vec<String> = report.files.iter().map(|file| show(file)).collect();
                results.push(json!({ "run_dir": show(run), "analysis": text, "result": report.result, "files": files }));
            } else {
                show_report(run, text, &report, look.format)?;
            }
        }
    }
    if done == 0 && !stopped {
        return Err(left_out.nothing_left());
    }
    if look.format == Format::Json {
        table::print_json(&results.into())?;
    }
    let code = left_out.end()?;
    Ok(if stopped { INTERRUPTED } else { code })
}

/// A flag that a signal sets: the analysis at hand is finished, and no other begins.
pub fn stop_between_analyses() -> Arc<AtomicBool> {
    stop_flag("finishing the analysis at hand", || "the analysis at hand is lost, those before it are kept".to_owned())
}

/// What an analysis looks at besides the run.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Which weights.
    pub label: Label,
    /// Whether they are the averaged ones.
    pub average: bool,
    /// Seed of the draws; the run's own without it.
    pub seed: Option<u64>,
    /// What is done about data that the run was not trained on.
    pub other_data: OtherDataPolicy,
}

impl View {
    /// The newest weights of `label`, averaged or not, under the run's own seed and data.
    pub const fn new(label: Label, average: bool) -> Self {
        Self { label, average, seed: None, other_data: OtherDataPolicy::Refuse }
    }

    /// The one that flags ask for.
    pub fn of(look: &LookArgs) -> Result<Self, Failure> {
        let label = look.checkpoint.parse().map_err(|e: String| Failure::usage(format!("--checkpoint: {e}")))?;
        let other_data = if look.other_data { OtherDataPolicy::Accept } else { OtherDataPolicy::Refuse };
        Ok(Self { label, average: look.average, seed: look.seed, other_data })
    }
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
        inside::check_outside(&place).map_err(|error| Failure::usage(format!("--output: {error}")))?;
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

/// Runs one analysis and writes its result to `analyses/<name>.json` and, when it has a table, `.csv`; where settings differ from the defaults,
/// the names say so, see [`Settings::stem`].
pub fn one(run: &Path, root: &DataRoot, text: &str, view: View) -> Result<AnalysisReport, Failure> {
    one_into(run, run, root, text, view)
}

/// The same with the results below `folder` instead of `run`.
pub fn one_into(run: &Path, folder: &Path, root: &DataRoot, text: &str, view: View) -> Result<AnalysisReport, Failure> {
    let View { label, average, .. } = view;
    let (component, analysis) =
        resolve::<dyn AnalysisConfig>(Kind::Analysis, text).map_err(|error| Failure::component("--analysis", &error))?;
    let (opened, session, state) = open_finished(run, root, label, view.other_data)?;
    if average && state.average.is_none() {
        return Err(Failure::usage(format!(
            "{} keeps no averaged weights\n  hint: leave --average out, or train with e.g. `--average 0.999`",
            show(run)
        )));
    }
    let (model, config) = (Session::evaluation_model(&state, average), &session.config);
    if uses_model(&component, &*model)? {
        check_numbers(&model, &session).map_err(|problem| {
            Failure::failed(format!(
                "{}: {problem}, so no analysis of it means anything\n  hint: choose an earlier checkpoint with `--checkpoint best`, or train it \
                 anew with a lower `--lr`",
                show(run)
            ))
        })?;
    }
    let own_seed = config.training.seed;
    let seed = view.seed.unwrap_or(own_seed);
    let identity = session.identity(&program::this());
    let sources = analysis.sources(opened.path(), root).map_err(failure)?;
    let origin = Origin::of(&opened, label, seed, &identity, sources)?
        .ok_or_else(|| Failure::failed(format!("{} has no `{label}` checkpoint any more", show(run))))?;
    // What the model was trained on, where this result is about other data.
    let trained_on = recorded_identity(&opened)?.map(|trained| trained.data).filter(|trained| *trained != identity.data);
    let settings = Settings {
        name: component.name.clone(),
        analysis: component.to_string(),
        checkpoint: label.as_str().to_owned(),
        average,
        seed: (seed != own_seed).then_some(seed),
        other_data: trained_on.as_ref().map(|_| start_of_hash(&origin.data)),
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
    let mut report = analysis.run(&context).map_err(failure)?.without_nan();
    let files: Vec<String> = report.files.iter().map(|path| show(path.strip_prefix(folder).unwrap_or(path))).collect();
    let mut document = Map::new();
    document.insert("analysis".to_owned(), component.to_json_full());
    document.insert("checkpoint".to_owned(), label.as_str().into());
    document.insert("average".to_owned(), average.into());
    if let Value::Object(origin) = serde_json::to_value(&origin).map_err(Failure::failed)? {
        document.extend(origin);
    }
    document.insert("identity".to_owned(), serde_json::to_value(&identity).map_err(Failure::failed)?);
    if let Some(trained) = &trained_on {
        document.insert("trained_on".to_owned(), serde_json::to_value(trained).map_err(Failure::failed)?);
        tracing::warn!("{}: the result of `{text}` is about data that the run was not trained on, and says so", show(run));
    }
    document.insert("files".to_owned(), files.into());
    document.insert("result".to_owned(), report.result.clone());
    let bytes = serde_json::to_vec_pretty(&document).map_err(Failure::failed)?;
    let analyses = folder.join("analyses");
    create_folders(&analyses)?;
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

/// What the summary of a run says about its data, program and machine.
pub fn recorded_identity(run: &RunDir) -> Result<Option<Identity>, Failure> {
    if run.summary_path().exists() { Ok(run.read_summary()?.identity) } else { Ok(None) }
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

/// Whether an analysis needs anything of `model`; refuses one that needs what it cannot do.
fn uses_model(component: &Component, model: &dyn Objective) -> Result<bool, Failure> {
    let registry = Registry::global().map_err(Failure::failed)?;
    let needs = registry.get(Kind::Analysis, &component.name).map_or(&[][..], |analysis| analysis.needs);
    match needs.iter().find(|need| !(need.held_by)(model)) {
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
    let scores =
        model.capability::<Classify>().map(|model| ("class probabilities", model.class_log_probabilities(inputs.clone(), 1, &mut draws)));
    let codes = model.capability::<Encode>().map(|model| ("codes", model.posterior(inputs).point()));
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
        let error = AnalysisError::Unfit { analysis: component.name.clone(), capability: missing };
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
