//! `ibhost run`: settings from preset, file and flags, then training, analyses that come for free, and the result.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ibhost_framework::dataset::DataRoot;
use ibhost_framework::engine::{Job, Outcome};
use ibhost_framework::objective::Quantity;
use ibhost_framework::preset;
use ibhost_framework::run::{ConfigError, RunConfig, Settings};
use ibhost_framework::storage::run_dir::{read_yaml, yaml_from_str};
use ibhost_framework::storage::{FileList, Label, LogFile, RunDir, StorageError, Summary, inside};
use ibhost_sweep::folder::check_outside_of_trials;
use ibhost_sweep::values::scalar;
use serde_json::{Map, Value, json};

use super::{analyze, seeds};
use crate::cli::{Format, RunArgs};
use crate::exit::{Failure, INTERRUPTED};
use crate::logging::RunLog;
use crate::panics;
use crate::paths::{absolute, data_root, show};
use crate::progress::Progress;
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
    let command = std::env::args().collect();
    inside::check_outside(&arguments.output_dir).map_err(Failure::usage)?;
    check_outside_of_trials(&arguments.output_dir)?;
    let mut job = Job::create(config, &root, &arguments.output_dir, command)?;
    drive(&mut job, &root, arguments.format, quiet, log)
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
        settings.overlay(read_yaml(path).map_err(Failure::usage)?).map_err(|error| match error {
            ConfigError::Setting(message) => Failure::usage(format!("`{}`: {message}", show(path))),
            ConfigError::Component { key, source } => Failure::component(&format!("{key} in {}", show(path)), &source),
        })?;
    }
    for (path, value) in assignments(arguments, seed)? {
        settings.set(&path, value)?;
    }
    Ok(settings.resolve()?)
}

/// What the flags set, `seed` among them, in the order in which it counts.
pub fn assignments(arguments: &RunArgs, seed: Option<u64>) -> Result<Vec<(String, Value)>, Failure> {
    let components = [
        ("objective", &arguments.objective),
        ("encoder", &arguments.encoder),
        ("decoder", &arguments.decoder),
        ("dataset", &arguments.dataset),
        ("strategy", &arguments.strategy),
        ("optimiser", &arguments.optimiser),
        ("schedule", &arguments.schedule),
    ];
    let values = [
        ("epochs", arguments.epochs.map(Value::from)),
        ("steps", arguments.steps.map(Value::from)),
        ("batch_size", arguments.batch_size.map(Value::from)),
        ("lr", arguments.lr.map(Value::from)),
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
    text.parse::<f64>().map(Value::from).map_err(|_| Failure::usage(format!("--average takes a number or `none`, got `{text}`")))
}

/// Trains `job` to its end, runs the plots that cost nothing, prints the result.
pub fn drive(job: &mut Job, root: &DataRoot, format: Format, quiet: bool, log: &RunLog) -> Result<u8, Failure> {
    drive_until(job, root, format, quiet, log, &stop_on_signal())
}

/// The same until `stop` is set by whatever the caller listens to.
pub fn drive_until(job: &mut Job, root: &DataRoot, format: Format, quiet: bool, log: &RunLog, stop: &AtomicBool) -> Result<u8, Failure> {
    log.open(LogFile::open(&job.run.log_path())?);
    let mut progress = Progress::new(job.session.total_steps(), job.steps_done(), quiet);
    let (outcome, summary) = conduct(job, root, &mut progress, stop)?;
    report(job.run.path(), &job.session.quantities, &summary, format)?;
    if outcome == Outcome::EarlyStopped && !quiet {
        eprintln!("{}", early_end(&summary));
    }
    if outcome == Outcome::Interrupted {
        eprintln!("{}", how_to_continue(job.run.path(), &summary, root));
        return Ok(INTERRUPTED);
    }
    Ok(0)
}

/// Trains `job` to its end and runs the plots that cost nothing; a panic is recorded in the run before it goes on.
fn conduct(job: &mut Job, root: &DataRoot, progress: &mut Progress, stop: &AtomicBool) -> Result<(Outcome, Summary), Failure> {
    if let Some(note) = &job.session.data.info().note {
        tracing::warn!("{note}");
    }
    tracing::info!("{} in {}", std::env::args().collect::<Vec<_>>().join(" "), show(job.run.path()));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job.train(progress, stop)));
    progress.finish();
    let (outcome, summary) = match result {
        Ok(result) => result?,
        Err(panic) => {
            let what = panics::last().unwrap_or_else(|| "it panicked without a message".to_owned());
            tracing::error!("a bug: {what}");
            job.fail(&format!("a bug in ibhost: {what}"));
            std::panic::resume_unwind(panic);
        }
    };
    if outcome != Outcome::Interrupted {
        let plots = plots_of(&job.session.config);
        let drawn = analyze::while_results_change(&job.run, || Ok(draw(&job.run, root, &plots, stop)));
        if let Err(failure) = drawn {
            tracing::warn!("the plots are not listed among the run's files: {}", failure.reason());
        }
    }
    Ok((outcome, summary))
}

/// What is said of a run that stopped early.
fn early_end(summary: &Summary) -> String {
    let best = summary.best.as_ref().map_or(String::new(), |b| format!("; best {} {:.4} after epoch {}", b.metric, b.value, b.epoch));
    format!("stopped early after epoch {}: the watched metric stopped improving{best}", summary.epochs)
}

/// What is said of a run that was interrupted.
fn how_to_continue(run: &Path, summary: &Summary, root: &DataRoot) -> String {
    format!("interrupted after step {}; continue with\n  ibhost resume {} --data-dir {}", summary.steps, show(run), show(&root.0))
}

/// A flag that the first Ctrl-C or termination signal sets; the second one ends the process at once.
fn stop_on_signal() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let handler = ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        eprintln!("finishing the step and saving; press Ctrl-C again to stop at once");
    });
    if let Err(error) = handler {
        tracing::warn!("Ctrl-C will stop at once, without saving: {error}");
    }
    stop
}

/// The plots that every run of `config` gets: its curves, and the latent plane when the code has two dimensions.
fn plots_of(config: &RunConfig) -> Vec<&'static str> {
    let plane = config.encoder.get("z").and_then(Value::as_u64) == Some(2);
    if plane { vec!["curves", "latent_plot"] } else { vec!["curves"] }
}

/// Draws `plots` and returns those that were drawn. Weights and summary are already safe, so a plot that fails costs a warning, nothing more.
fn draw(run: &RunDir, root: &DataRoot, plots: &[&'static str], stop: &AtomicBool) -> Vec<&'static str> {
    let mut drawn = Vec::new();
    for name in plots {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        match analyze::one(run.path(), root, name, Label::Last, false, None) {
            Ok(_) => drawn.push(*name),
            Err(failure) => tracing::warn!("plot `{name}` was not drawn: {}", failure.reason()),
        }
    }
    drawn
}

/// Makes good what the end of the completed run in `path` lacks because its process was killed there: draws the plots that are missing, and
/// closes the list of the run's files. Returns what was drawn; a run that lacks nothing is not touched, nor one that another process works on.
pub fn complete(path: &Path, root: &DataRoot, stop: &AtomicBool) -> Result<Vec<&'static str>, Failure> {
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
    analyze::while_results_change(&run, || Ok(draw(&run, root, &missing, stop)))
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
