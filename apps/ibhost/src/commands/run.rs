//! `ibhost run`: settings from preset, file and flags, then training, analyses that come for free, and the result.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use ibhost_framework::dataset::DataRoot;
use ibhost_framework::engine::{Outcome, Start, Trainer};
use ibhost_framework::finished::{DataLibrary, FinishedRun};
use ibhost_framework::identity::OtherDataPolicy;
use ibhost_framework::objective::Quantity;
use ibhost_framework::preset;
use ibhost_framework::run::{ConfigError, RunConfig, Settings};
use ibhost_framework::storage::run_dir::{line_of, read_yaml, yaml_from_str};
use ibhost_framework::storage::{FileList, Label, LogFile, RunDir, StorageError, Summary, inside};
use ibhost_sweep::folder::check_place;
use ibhost_sweep::plan::shell_line;
use ibhost_sweep::values::scalar;
use serde_json::{Map, Value, json};

use super::analyze::{Asked, View};
use super::{analyze, open_run, seeds};
use crate::cli::{Format, RunArgs};
use crate::exit::{Failure, INTERRUPTED};
use crate::logging::RunLog;
use crate::messages::say;
use crate::panics;
use crate::paths::{absolute, as_dataset, data_root, show};
use crate::program;
use crate::progress::Progress;
use crate::signals::stop_flag;
use crate::table;

pub fn run(arguments: &RunArgs, quiet: bool, log: &RunLog) -> Result<u8, Failure> {
    if let Some(seeds) = &arguments.seeds {
        return seeds::run(seeds, arguments);
    }
    seeds::end_with_parent()?;
    let config = configure(arguments, arguments.seed)?;
    if arguments.dry_run {
        let value = serde_json::to_value(&config).map_err(Failure::failed)?;
        return table::print_json(&value).map(|()| 0);
    }
    let root = data_root(&arguments.data)?;
    check_place(&arguments.output_dir)?;
    // A request that comes while data are read is obeyed after the first step, so that a run there is can be continued.
    let stop = StopOnSignal::listen();
    let start = Start { command: command_line(), program: program::this(), data: None };
    let mut trainer = Trainer::create(config, &root, &arguments.output_dir, start)?;
    drive(&mut trainer, &root, arguments.format, quiet, log, &stop)
}

/// Layers preset, file and flags, `seed` among them.
pub fn configure(arguments: &RunArgs, seed: Option<u64>) -> Result<RunConfig, Failure> {
    let mut settings = Settings::new();
    if let Some(name) = &arguments.preset {
        let preset = preset::find(name).map_err(Failure::usage)?;
        let layer: Map<String, Value> =
            yaml_from_str(preset.yaml).map_err(|reason| Failure::failed(format!("preset `{name}` is not valid: {reason}")))?;
        settings.overlay(layer)?;
    }
    if let Some(path) = &arguments.config {
        overlay_file(&mut settings, path)?;
    }
    for (path, value) in assignments(arguments, seed)? {
        settings.set(&path, value)?;
    }
    Ok(settings.resolve()?)
}

/// Lays the settings of the file `path` over `settings`.
fn overlay_file(settings: &mut Settings, path: &Path) -> Result<(), Failure> {
    let layer: Map<String, Value> = read_yaml(path).map_err(Failure::usage)?;
    let mut before = settings.clone();
    settings.overlay(layer.clone()).map_err(|error| {
        let wrong = layer.into_iter().find(|(key, value)| before.overlay(Map::from_iter([(key.clone(), value.clone())])).is_err());
        let line = wrong.and_then(|(key, _)| line_of(path, &key)).map_or_else(String::new, |line| format!(", line {line}"));
        match error {
            ConfigError::Setting(message) => Failure::usage(format!("`{}`{line}: {message}", show(path))),
            ConfigError::Component { key, source } => Failure::component(&format!("{key} in {}{line}", show(path)), &source),
        }
    })
}

/// What the flags set, `seed` among them, in the order in which it counts.
pub fn assignments(arguments: &RunArgs, seed: Option<u64>) -> Result<Vec<(String, Value)>, Failure> {
    let dataset = arguments.dataset.as_deref().map(as_dataset).transpose()?;
    let components = [
        ("objective", &arguments.objective),
        ("encoder", &arguments.encoder),
        ("decoder", &arguments.decoder),
        ("dataset", &dataset),
        ("strategy", &arguments.strategy),
        ("optimiser", &arguments.optimiser),
        ("schedule", &arguments.schedule),
    ];
    let values = [
        ("epochs", arguments.epochs.map(Value::from)),
        ("steps", arguments.steps.map(Value::from)),
        ("batch_size", arguments.batch_size.map(Value::from)),
        ("lr", arguments.lr.map(|lr| finite("--lr", lr)).transpose()?),
        ("seed", seed.map(Value::from)),
        ("limit_train", arguments.limit_train.map(Value::from)),
        ("device", arguments.device.clone().map(Value::from)),
        ("evaluate_every", arguments.evaluate_every.map(Value::from)),
        ("watch", arguments.watch.clone().map(Value::from)),
        ("early_stopping", arguments.patience.map(|patience| json!({ "patience": patience }))),
        ("checkpoint_every", arguments.checkpoint_every.clone().map(Value::from)),
        ("name", arguments.name.clone().map(Value::from)),
        ("average", arguments.average.as_deref().map(average).transpose()?),
    ];
    let named = components.into_iter().map(|(key, text)| (key, text.clone().map(Value::from))).chain(values);
    let mut found: Vec<(String, Value)> = named.filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
    for assignment in &arguments.set {
        let (path, text) = assignment.split_once('=').ok_or_else(|| {
            Failure::usage(format!("--set {assignment}: there is no `=`\n  hint: write --set key=value, e.g. --set objective.beta=0.01"))
        })?;
        found.push((path.to_owned(), scalar(text)));
    }
    Ok(found)
}

fn average(text: &str) -> Result<Value, Failure> {
    if text == "none" {
        return Ok(Value::Null);
    }
    let number = text.parse::<f64>().map_err(|_| Failure::usage(format!("--average takes a number or `none`, got `{text}`")))?;
    finite("--average", number)
}

/// `number` as a setting; one that is none would become nothing on the way.
fn finite(flag: &str, number: f64) -> Result<Value, Failure> {
    if number.is_finite() { Ok(number.into()) } else { Err(Failure::usage(format!("{flag} takes a finite number, got {number}"))) }
}

/// Trains `trainer` to its end, runs the plots that cost nothing, prints the result.
pub fn drive(
    trainer: &mut Trainer,
    root: &DataRoot,
    format: Format,
    quiet: bool,
    log: &RunLog,
    stop: &StopOnSignal,
) -> Result<u8, Failure> {
    // Only the first run of a process is told of, and there is no second.
    let _ = stop.run.set(trainer.run.path().to_path_buf());
    let library = trainer.library(root);
    drive_until(trainer, &library, format, quiet, log, &stop.flag).map(|(code, _)| code)
}

/// The same until `stop` is set by whatever the caller listens to, with the run opened again for whoever analyses it further.
pub fn drive_until(
    trainer: &mut Trainer,
    library: &DataLibrary,
    format: Format,
    quiet: bool,
    log: &RunLog,
    stop: &AtomicBool,
) -> Result<(u8, Option<FinishedRun>), Failure> {
    log.open(LogFile::open(&trainer.run.log_path())?);
    let mut progress = Progress::new(trainer.session.total_steps(), trainer.steps_done(), quiet);
    let (outcome, summary, finished) = conduct(trainer, library, &mut progress, stop)?;
    report(trainer.run.path(), &trainer.session.quantities, &summary, format)?;
    if outcome == Outcome::EarlyStopped && !quiet {
        say!("{}", early_end(&summary));
    }
    if outcome == Outcome::Interrupted {
        say!("{}", how_to_continue(trainer.run.path(), &summary, library.root()));
        return Ok((INTERRUPTED, finished));
    }
    Ok((0, finished))
}

/// Trains `trainer` to its end and runs the plots that cost nothing; a panic is recorded in the run before it goes on.
fn conduct(
    trainer: &mut Trainer,
    library: &DataLibrary,
    progress: &mut Progress,
    stop: &AtomicBool,
) -> Result<(Outcome, Summary, Option<FinishedRun>), Failure> {
    if let Some(note) = &trainer.session.data.info().note {
        tracing::warn!("{note}");
    }
    tracing::info!("{} in {}", command_line().join(" "), show(trainer.run.path()));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| trainer.train(progress, stop)));
    progress.finish();
    let (outcome, summary) = match result {
        Ok(result) => result?,
        Err(panic) => {
            let what = panics::last().unwrap_or_else(|| "it panicked without a message".to_owned());
            tracing::error!("a bug: {what}");
            trainer.fail(&format!("a bug in ibhost: {what}"));
            std::panic::resume_unwind(panic);
        }
    };
    if outcome == Outcome::Interrupted {
        return Ok((outcome, summary, None));
    }
    let plots = plots_of(&trainer.session.config);
    let finished = match open_run(trainer.run.path(), OtherDataPolicy::Refuse) {
        Ok(finished) => finished,
        Err(failure) => {
            tracing::warn!("no plot was drawn: {}", failure.reason());
            return Ok((outcome, summary, None));
        }
    };
    let drawn = analyze::while_results_change(&trainer.run, || Ok(draw(&finished, library, &plots, stop)));
    if let Err(failure) = drawn {
        tracing::warn!("the plots are not listed among the run's files: {}", failure.reason());
    }
    Ok((outcome, summary, Some(finished)))
}

/// What is said of a run that stopped early.
fn early_end(summary: &Summary) -> String {
    let best = summary.best.as_ref().map_or(String::new(), |b| format!("; best {} {:.4} after epoch {}", b.metric, b.value, b.epoch));
    format!("stopped early after epoch {}: the watched metric stopped improving{best}", summary.epochs)
}

/// What is said of a run that was interrupted.
fn how_to_continue(run: &Path, summary: &Summary, root: &DataRoot) -> String {
    let words = ["ibhost", "resume", &show(run), "--data-dir", &show(&root.0)].map(str::to_owned);
    format!("interrupted after step {}; continue with\n  {}", summary.steps, shell_line(&words))
}

/// The words this process was started with; what is no text in them is kept as far as text can show it.
fn command_line() -> Vec<String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// A flag that a signal sets, and the run it is for once there is one.
pub struct StopOnSignal {
    flag: Arc<AtomicBool>,
    run: Arc<OnceLock<PathBuf>>,
}

impl StopOnSignal {
    /// Listens from now on. The process that is insisted on ends at once and says what is lost.
    pub fn listen() -> Self {
        let run = Arc::new(OnceLock::new());
        let known: Arc<OnceLock<PathBuf>> = Arc::clone(&run);
        let flag =
            stop_flag("finishing the step and saving", move || known.get().map_or("nothing was computed".to_owned(), |run| lost(run)));
        Self { flag, run }
    }

    /// Set once a signal came.
    pub fn flag(&self) -> &AtomicBool {
        &self.flag
    }
}

/// What the run in `path` loses when its process ends now.
fn lost(path: &Path) -> String {
    let saved = RunDir::open_read_only(path).and_then(|run| run.checkpoints().list());
    match saved.ok().and_then(|saved| saved.iter().map(|entry| entry.step).max()) {
        Some(step) => {
            let words = ["ibhost", "resume", &show(path)].map(str::to_owned);
            format!("what was computed after step {step} is lost; `{}` goes on from there", shell_line(&words))
        }
        None => format!("there is no checkpoint in {} yet, so all that was computed is lost", show(path)),
    }
}

/// The plots that every run of `config` gets: its curves, and the latent plane when the code has two dimensions.
fn plots_of(config: &RunConfig) -> Vec<&'static str> {
    let plane = config.encoder.get("z").and_then(Value::as_u64) == Some(2);
    if plane { vec!["curves", "latent_plot"] } else { vec!["curves"] }
}

/// Draws `plots` and returns those that were drawn. Weights and summary are already safe, so a plot that fails costs a warning, nothing more.
fn draw(run: &FinishedRun, library: &DataLibrary, plots: &[&'static str], stop: &AtomicBool) -> Vec<&'static str> {
    let mut drawn = Vec::new();
    for name in plots {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        match Asked::read(name).and_then(|asked| analyze::one(run, library, &asked, View::new(Label::Last, false))) {
            Ok(_) => drawn.push(*name),
            Err(failure) => tracing::warn!("plot `{name}` was not drawn: {}", failure.reason()),
        }
    }
    drawn
}

/// Makes good what the end of the completed run in `path` lacks because its process was killed there: draws the plots that are missing, and
/// closes the list of the run's files. Returns what was drawn; a run that lacks nothing is not touched, nor one that another process works on.
pub fn complete(path: &Path, library: &DataLibrary, stop: &AtomicBool) -> Result<Vec<&'static str>, Failure> {
    let run = match RunDir::open(path) {
        Err(StorageError::Locked { .. }) => return Ok(Vec::new()),
        opened => opened?,
    };
    let list = match run.files() {
        Ok(list) => list,
        // The run itself is complete; `ibhost verify` says the same of its list.
        Err(error) => {
            tracing::warn!("{error}");
            return Ok(Vec::new());
        }
    };
    let mut missing = plots_of(&RunConfig::from_json(run.read_config()?)?);
    missing.retain(|name| !is_drawn(&run, &list, name));
    if missing.is_empty() && !list.open {
        return Ok(missing);
    }
    let finished = open_run(path, OtherDataPolicy::Refuse)?;
    analyze::while_results_change(&run, || Ok(draw(&finished, library, &missing, stop)))
}

/// How the names of the pictures begin that the analysis `name` draws.
fn pictures_of(name: &str) -> &'static [&'static str] {
    match name {
        "curves" => &["plots/curves", "plots/information-plane"],
        "latent_plot" => &["plots/latent-representation"],
        _ => &[],
    }
}

/// Whether the plot `name` of `run` was drawn to its end, which its document tells, and none of its listed pictures is gone.
fn is_drawn(run: &RunDir, list: &FileList, name: &str) -> bool {
    let is_json = |file: &str| Path::new(file).extension().is_some_and(|extension| extension == "json");
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let is_document =
        |file: &str| is_json(file) && file.strip_prefix("analyses/").and_then(|file| file.strip_prefix(name)).is_some_and(ends);
    let is_there = |file: &String| inside::is_file(&run.path().join(file));
    list.files.keys().any(|file| is_document(file) && is_there(file))
        && list.files.keys().filter(|file| pictures_of(name).iter().any(|start| file.starts_with(start))).all(is_there)
}

/// The one line that `--format json` ends stdout with.
pub fn print_result(run: &Path, summary: &Summary) -> Result<(), Failure> {
    let value = json!({ "run_dir": show(&absolute(run)), "status": summary.status, "final": summary.final_metrics });
    table::print(&value.to_string())
}

/// Prints what the run in the folder `run` ended with.
fn report(run: &Path, quantities: &[Quantity], summary: &Summary, format: Format) -> Result<(), Failure> {
    let splits = [
        ("train", Some(&summary.final_metrics.train)),
        ("test", Some(&summary.final_metrics.test)),
        ("test_average", summary.final_metrics.test_average.as_ref()),
    ];
    if format == Format::Json {
        return print_result(run, summary);
    }
    let present: Vec<_> = splits.into_iter().filter_map(|(name, metrics)| metrics.map(|m| (name, m))).collect();
    let mut header = vec!["quantity", "unit"];
    header.extend(present.iter().map(|(name, _)| *name));
    let rows: Vec<Vec<String>> = quantities
        .iter()
        .map(|quantity| {
            let mut row = vec![quantity.name.clone(), quantity.unit.to_owned()];
            row.extend(present.iter().map(|(_, m)| m.get(&quantity.name).map_or("-".to_owned(), |v| format!("{v:.4}"))));
            row
        })
        .collect();
    let text = if format == Format::Markdown { table::markdown(&header, &rows) } else { table::plain(&header, &rows) };
    table::print(&text)?;
    table::print(&format!("run {}", show(run)))
}
