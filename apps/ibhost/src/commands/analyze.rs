//! `ibhost analyze`: any analysis on any finished run whose model offers what it needs.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Output, Results, Sources};
use ibhost_framework::capability::{Classify, Encode};
use ibhost_framework::component::{Component, resolve};
use ibhost_framework::dataset::Split;
use ibhost_framework::engine::Session;
use ibhost_framework::finished::documents::{Settings, documents, place, start_of_hash};
use ibhost_framework::finished::{DataLibrary, Document, FinishedRun, Look, Origin};
use ibhost_framework::identity::{Identity, OtherDataPolicy};
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{BoxedObjective, Objective};
use ibhost_framework::parameters;
use ibhost_framework::registry::{Kind, Registry};
use ibhost_framework::result::values_of;
use ibhost_framework::run::RunConfig;
use ibhost_framework::storage::{Label, RunDir, StorageError, create_folders, inside, write_atomic};
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::{check_run_folder, open_run};
use crate::cli::{AnalyzeArgs, Format, LookArgs};
use crate::exit::{Failure, INTERRUPTED};
use crate::paths::{absolute, data_root, show};
use crate::program;
use crate::report::run_folders;
use crate::signals::stop_flag;
use crate::table;
use crate::together::{LeftOut, distinct_folders};

pub fn analyze(arguments: &AnalyzeArgs) -> Result<u8, Failure> {
    let look = &arguments.look;
    let library = DataLibrary::new(data_root(&look.data)?);
    let view = View::of(look)?;
    // Everything asked for is checked before anything is computed.
    let asked = asked(arguments)?;
    let (stop, mut left_out) = (stop_between_analyses(), LeftOut::default());
    let mut elsewhere = Elsewhere::default();
    // What is no run is named with the others that are.
    let folders: Vec<PathBuf> = arguments.runs.iter().flat_map(|path| run_folders(path).unwrap_or_else(|_| vec![path.clone()])).collect();
    let mut runs = Vec::new();
    for run in distinct_folders(&folders) {
        let opened = open_run(&run, view.other_data).and_then(|opened| {
            let folder = arguments.output.as_ref().map(|output| elsewhere.place(&run, output)).transpose()?;
            Ok((opened, folder))
        });
        runs.extend(left_out.take(&run, opened));
    }
    if arguments.classifier.is_some() {
        check_same_judges(&runs, &asked, &library)?;
    }
    let work = Work { arguments, asked: &asked, library: &library, view, stop: &stop };
    let left_out = Mutex::new(left_out);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(usize::from(arguments.jobs)).build();
    let pool = pool.map_err(|e| Failure::failed(format!("cannot start threads: {e}")))?;
    // A single job computes on all threads of the program, several have one each.
    let outcomes: Vec<Result<Outcome, Failure>> = if arguments.jobs == 1 {
        runs.iter().map(|(run, folder)| work.on(run, folder.as_deref(), &left_out)).collect()
    } else {
        pool.install(|| runs.par_iter().with_max_len(1).map(|(run, folder)| work.on(run, folder.as_deref(), &left_out)).collect())
    };
    let outcomes = outcomes.into_iter().collect::<Result<Vec<_>, _>>()?;
    let left_out = left_out.into_inner().unwrap_or_else(PoisonError::into_inner);
    let stopped = outcomes.iter().any(|outcome| outcome.stopped);
    if outcomes.iter().all(|outcome| outcome.done == 0) && !stopped {
        return Err(left_out.nothing_left());
    }
    if look.format == Format::Json {
        table::print_json(&outcomes.into_iter().flat_map(|outcome| outcome.documents).collect())?;
    }
    let code = left_out.end()?;
    Ok(if stopped { INTERRUPTED } else { code })
}

/// What came of the analyses of a run.
#[derive(Default)]
struct Outcome {
    /// How many have a result.
    done: usize,
    /// Whether a signal came before the last one.
    stopped: bool,
    /// Results for programs.
    documents: Vec<Value>,
}

/// The analyses of a command.
struct Work<'a> {
    arguments: &'a AnalyzeArgs,
    asked: &'a [Asked],
    library: &'a DataLibrary,
    view: View,
    /// Set once a signal came: the analyses at hand are finished, and no other begins.
    stop: &'a AtomicBool,
}

impl Work<'_> {
    /// Analyses a run with results in `folder`, or in the run itself.
    fn on(&self, run: &FinishedRun, folder: Option<&Path>, left_out: &Mutex<LeftOut>) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::default();
        let format = self.arguments.look.format;
        for asked in self.asked {
            if self.stop.load(Ordering::Relaxed) {
                outcome.stopped = true;
                break;
            }
            let text = &asked.text;
            let result = self.one(run, folder, asked);
            let name = if self.asked.len() > 1 { format!("{}, {text}", show(&run.path)) } else { show(&run.path) };
            // One at a time, so that what is printed stays together.
            let mut left_out = left_out.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(made) = left_out.take_named(&name, result) else { continue };
            outcome.done += 1;
            match made {
                Made::Anew(results) if format == Format::Json => {
                    let files: Vec<String> = results.files.iter().map(|file| show(file)).collect();
                    let (run, result, values) = (show(&run.path), results.json(), results.values_json());
                    outcome.documents.push(json!({ "run_dir": run, "analysis": text, "result": result, "values": values, "files": files }));
                }
                Made::Anew(results) => show_report(&run.path, text, &results, format)?,
                Made::Kept(document) if format == Format::Json => {
                    let (run, result, values) = (show(&run.path), document.value["result"].clone(), values_of(&document.value));
                    let file = show(&document.path);
                    outcome.documents.push(json!({ "run_dir": run, "analysis": text, "result": result, "values": values, "kept": file }));
                }
                Made::Kept(document) => table::print(&format!("{text} of {}: kept {}", show(&run.path), show(&document.path)))?,
            }
        }
        run.forget_weights();
        Ok(outcome)
    }

    fn one(&self, run: &FinishedRun, folder: Option<&Path>, asked: &Asked) -> Result<Made, Failure> {
        let place = folder.unwrap_or(&run.path);
        if self.arguments.missing {
            check_fit(&asked.component, &run.config.objective.name)?;
            if let Some(document) = kept(run, place, asked, self.library, self.view)? {
                return Ok(Made::Kept(document));
            }
        }
        let work = || one_into(run, place, self.library, asked, self.view);
        if folder.is_some() { work() } else { recorded(&run.path, work) }.map(Made::Anew)
    }
}

/// Where a result comes from.
enum Made {
    Anew(Results),
    Kept(Document),
}

/// The result in `folder` that would come out the same if it was made now.
fn kept(run: &FinishedRun, folder: &Path, asked: &Asked, library: &DataLibrary, view: View) -> Result<Option<Document>, Failure> {
    let own_seed = run.config.training.seed;
    let seed = view.seed.unwrap_or(own_seed);
    let sources = asked.sources(run, library)?;
    let identity =
        Identity::new(library.get(&run.config.dataset, run.config.training.seed)?.identity().clone(), &program::this(), &run.config);
    let other_data = run.recorded_identity()?.is_some_and(|trained| trained.data != identity.data);
    // Other data are refused where a result would be made anew, so that one that is kept is none to take either.
    if other_data && view.other_data == OtherDataPolicy::Refuse {
        return Ok(None);
    }
    let Some(origin) = Origin::of(run.folder(), view.label, seed, &identity, sources)? else { return Ok(None) };
    let settings = Settings {
        name: asked.component.name.clone(),
        analysis: asked.component.to_string(),
        checkpoint: view.label.as_str().to_owned(),
        average: view.average,
        seed: (seed != own_seed).then_some(seed),
        other_data: other_data.then(|| start_of_hash(&origin.data)),
    };
    let same =
        |document: &Document| document.settings == settings && document.origin().is_some_and(|theirs| origin.gives_the_same_as(&theirs));
    Ok(documents(folder, &settings.name, own_seed).documents.into_iter().find(same))
}

/// The analyses that were asked for, with the judge of the command where they take one and name none.
fn asked(arguments: &AnalyzeArgs) -> Result<Vec<Asked>, Failure> {
    let judge = arguments.classifier.as_deref().map(named).transpose()?;
    let with_judge = |text: &String| {
        let asked = Asked::read(text)?;
        let Some(judge) = judge.as_ref().filter(|_| asked.component.get("classifier").is_some()) else { return Ok(asked) };
        if asked.component.params.contains_key("classifier") {
            return Ok(asked);
        }
        let joint = if asked.component.params.is_empty() { '/' } else { '|' };
        Ok(Asked { text: text.clone(), ..Asked::read(&format!("{}{joint}classifier:{judge}", asked.component))? })
    };
    arguments.analysis.iter().map(with_judge).collect()
}

/// A classifier's run as a parameter of an analysis names it: the id of the one in a folder, where a path is given.
fn named(classifier: &str) -> Result<String, Failure> {
    if !classifier.contains(std::path::MAIN_SEPARATOR) {
        return Ok(classifier.to_owned());
    }
    check_run_folder(Path::new(classifier))?;
    Ok(RunDir::open_read_only(Path::new(classifier))?.run_id().to_owned())
}

/// Refuses runs for which the name of a judge means different runs, as their numbers could not be compared.
fn check_same_judges(runs: &[(FinishedRun, Option<PathBuf>)], asked: &[Asked], library: &DataLibrary) -> Result<(), Failure> {
    for asked in asked {
        // A judge that is not found is told with the run it is not found for.
        let judged: Vec<_> = runs.iter().filter_map(|(run, _)| Some((run, asked.sources(run, library).ok()??))).collect();
        let Some(((first, ours), others)) = judged.split_first() else { continue };
        if let Some((other, _)) = others.iter().find(|(_, theirs)| theirs != ours) {
            return Err(Failure::usage(format!(
                "`{}` would use other judges for {} and {}, so that their rows could not be compared\n  \
                 hint: name the one that is meant by its id or its folder, e.g. --classifier runs/...",
                asked.component,
                show(&first.path),
                show(&other.path)
            )));
        }
    }
    Ok(())
}

/// A flag that a signal sets: the analysis at hand is finished, and no other begins.
fn stop_between_analyses() -> Arc<AtomicBool> {
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
    fn of(look: &LookArgs) -> Result<Self, Failure> {
        let label = look.checkpoint.parse().map_err(|e: String| Failure::usage(format!("--checkpoint: {e}")))?;
        let other_data = if look.other_data { OtherDataPolicy::Accept } else { OtherDataPolicy::Refuse };
        Ok(Self { label, average: look.average, seed: look.seed, other_data })
    }
}

/// Folders of results that are not the runs' own: one for each run, called as the run's, below a folder that was asked for.
#[derive(Default)]
struct Elsewhere {
    /// Each with the run it belongs to.
    taken: Vec<(PathBuf, PathBuf)>,
}

impl Elsewhere {
    /// The folder of the results of `run` below `output`, made when it is not there. Nothing in a run is written.
    ///
    /// # Errors
    /// When it lies in a run, belongs to another run of this command, or cannot be made.
    fn place(&mut self, run: &Path, output: &Path) -> Result<PathBuf, Failure> {
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

fn show_report(run: &Path, text: &str, report: &Results, format: Format) -> Result<(), Failure> {
    table::print(&format!("{text} of {}", show(run)))?;
    if let Some((header, rows)) = report.table().split_first() {
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        table::print(&if format == Format::Markdown { table::markdown(&header, rows) } else { table::plain(&header, rows) })?;
    }
    for file in &report.files {
        table::print(&format!("wrote {}", show(file)))?;
    }
    Ok(())
}

/// An analysis as it was asked for.
pub struct Asked {
    /// As it was written.
    text: String,
    /// In canonical form.
    component: Component,
    config: Box<dyn AnalysisConfig>,
}

impl Asked {
    /// Reads `salt_pepper/p:[0.1]`.
    ///
    /// # Errors
    /// When it is no analysis, with the place.
    pub fn read(text: &str) -> Result<Self, Failure> {
        let (component, config) =
            resolve::<dyn AnalysisConfig>(Kind::Analysis, text).map_err(|error| Failure::component("--analysis", &error))?;
        Ok(Self { text: text.to_owned(), component, config })
    }

    /// What its result depends on besides the run and its data.
    fn sources(&self, run: &FinishedRun, library: &DataLibrary) -> Result<Option<Sources>, Failure> {
        self.config.sources(&run.path, library.root()).map_err(failure)
    }
}

/// Runs one analysis and writes its result to `analyses/<name>.json` and, when it has a table, `.csv`; where settings differ from the defaults,
/// the names say so, see [`Settings::stem`].
pub fn one(run: &FinishedRun, library: &DataLibrary, asked: &Asked, view: View) -> Result<Results, Failure> {
    one_into(run, &run.path, library, asked, view)
}

/// The same with the results below `folder` instead of the run.
fn one_into(run: &FinishedRun, folder: &Path, library: &DataLibrary, asked: &Asked, view: View) -> Result<Results, Failure> {
    run.with_weights(library, view.label, |look| look_at(run, look, folder, library, asked, view))?
}

fn look_at(
    run: &FinishedRun,
    look: &Look<'_>,
    folder: &Path,
    library: &DataLibrary,
    asked: &Asked,
    view: View,
) -> Result<Results, Failure> {
    let View { label, average, .. } = view;
    let (component, session) = (&asked.component, look.session);
    if average && look.state.average.is_none() {
        return Err(Failure::usage(format!(
            "{} keeps no averaged weights\n  hint: leave --average out, or train with e.g. `--average 0.999`",
            show(&run.path)
        )));
    }
    let model = Session::evaluation_model(look.state, average);
    if uses_model(component, &*model)? {
        check_numbers(&model, session).map_err(|problem| {
            Failure::failed(format!(
                "{}: {problem}, so no analysis of it means anything\n  hint: choose an earlier checkpoint with `--checkpoint best`, or train it \
                 anew with a lower `--lr`",
                show(&run.path)
            ))
        })?;
    }
    let own_seed = run.config.training.seed;
    let seed = view.seed.unwrap_or(own_seed);
    let identity = session.identity(&program::this());
    let origin = Origin::new(&run.id, (look.state.step, look.hash.to_owned()), seed, &identity, asked.sources(run, library)?);
    // What the model was trained on, where this result is about other data.
    let trained_on = run.recorded_identity()?.map(|trained| trained.data).filter(|trained| *trained != identity.data);
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
        library,
        device: &session.device,
        run_dir: run.folder().path(),
        output: &output,
        label: &label_of(&run.config),
        seed,
    };
    let mut report = asked.config.run(&context).map_err(failure)?;
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
        tracing::warn!("{}: the result of `{component}` is about data that the run was not trained on, and says so", show(&run.path));
    }
    document.insert("files".to_owned(), files.into());
    document.insert("result".to_owned(), report.json());
    document.insert("values".to_owned(), report.values_json());
    let bytes = serde_json::to_vec_pretty(&document).map_err(Failure::failed)?;
    let analyses = folder.join("analyses");
    create_folders(&analyses)?;
    let path = stem.with_extension("json");
    write_atomic(&path, &bytes)?;
    report.files.push(path);
    if let Some(csv) = report.csv() {
        let path = stem.with_extension("csv");
        write_atomic(&path, csv.as_bytes())?;
        report.files.push(path);
    }
    Ok(report)
}

/// What the titles of a run's figures name: `vdb/beta:0.001|m:12, oneshot`.
fn label_of(config: &RunConfig) -> String {
    format!("{}, {}", config.objective, config.strategy)
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
