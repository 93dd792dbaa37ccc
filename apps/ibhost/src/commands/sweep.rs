//! `ibhost sweep`: a grid of runs from one file or a few flags, launched here or through Slurm, and continued after anything.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use ibhost_framework::analysis::AnalysisConfig;
use ibhost_framework::component::resolve;
use ibhost_framework::registry::Kind;
use ibhost_framework::run::ConfigError;
use ibhost_framework::storage::run_dir::{line_of, read_yaml};
use ibhost_sweep::folder::counts;
use ibhost_sweep::local::{Launch, launch};
use ibhost_sweep::slurm::{self, Queue};
use ibhost_sweep::store::Index;
use ibhost_sweep::{Definition, Plan, SweepError, SweepFolder, TrialFolder, TrialRecord, TrialState, TrialStatus, plan, values};
use serde_json::{Value, json};

use super::analyze::check_fit;
use super::list_runs::shown;
use super::report::sweep_template;
use super::run::assignments;
use crate::accepted;
use crate::cli::{Format, Launcher, SweepArgs};
use crate::exit::{FAILED, Failure, INTERRUPTED};
use crate::messages::say;
use crate::paths::{absolute, data_root, show};
use crate::program;
use crate::signals;
use crate::sweep_progress::SweepProgress;
use crate::table;

pub fn sweep(arguments: &SweepArgs, threads: Option<usize>, quiet: bool) -> Result<u8, Failure> {
    if arguments.jobs == Some(0) {
        return Err(Failure::usage("--jobs must be at least 1"));
    }
    let format = arguments.run.format;
    let (path, definition) = target(arguments)?;
    if path.to_str().is_none() {
        let hint = "rename it, or choose another --output-dir";
        return Err(Failure::usage(format!(
            "the folder of a sweep needs a name that is text in UTF-8, `{}` is none\n  hint: {hint}",
            show(&path)
        )));
    }
    if arguments.status || arguments.collect || arguments.cancel {
        return look(arguments, &SweepFolder::open(&path)?);
    }
    let options = definition.slurm.with(&arguments.slurm)?;
    let plan = Plan::new(definition).map_err(|error| located(error, arguments))?;
    check_analyses(&plan)?;
    plan.definition.report.as_ref().map(sweep_template).transpose()?;
    if arguments.run.dry_run {
        plan.check_trials()?;
        return print_trials(&plan, &path, format).map(|()| 0);
    }
    let memory =
        arguments.memory.as_deref().map(values::bytes).transpose().map_err(|problem| Failure::usage(format!("--memory: {problem}")))?;
    let mut after: Vec<OsString> = vec!["--data-dir".into(), absolute(&data_root(&arguments.run.data)?.0).into()];
    if let Some(bytes) = memory {
        after.extend(["--memory".into(), bytes.to_string().into()]);
    }
    if arguments.launcher == Launcher::Slurm {
        accepted::check(&plan.definition.slurm, arguments.accept_setup)?;
    }
    let sweep = SweepFolder::begin(&path, plan, arguments.resume, &program::this())?;
    if arguments.resume {
        recheck(&sweep)?;
    }
    // Whatever lies at this program's path when a trial begins, the trial is not begun by another one.
    after.extend(["--program".into(), program::this().key().into()]);
    match arguments.launcher {
        Launcher::Slurm => {
            let program = std::env::current_exe().map_err(|e| Failure::failed(format!("this program does not know its own path: {e}")))?;
            let options = slurm::Options { throttle: arguments.jobs.map(|n| n as u32).or(options.throttle), ..options };
            let after = after.into_iter().map(OsString::into_string).collect::<Result<Vec<_>, _>>().map_err(|word| {
                Failure::usage(format!("the scripts of a cluster hold text alone, and `{}` is none\n  hint: rename it", word.display()))
            })?;
            let submission = slurm::submit(&sweep, &sweep.unfinished(), &options, &program, &after, arguments.fail_fast)?;
            report_submission(&sweep, &submission, format).map(|()| 0)
        }
        Launcher::Local => {
            let total = threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
            let jobs = arguments.jobs.unwrap_or(total);
            let share = (total / jobs).max(1);
            let before = ["--threads", &share.to_string(), "trial"].map(str::to_owned).to_vec();
            after.extend(["--parent".into(), std::process::id().to_string().into()]);
            let options = Launch { program: None, done: TrialFolder::check_run, before, after, jobs, fail_fast: arguments.fail_fast };
            run_here(&sweep, &options, format, quiet)
        }
    }
}

/// Takes the word back of trials that are said to be completed and have no completed run to show, as after somebody removed it.
fn recheck(sweep: &SweepFolder) -> Result<(), Failure> {
    for trial in &sweep.plan.trials {
        let folder = sweep.trial(trial.number);
        let said = folder.record().filter(|record| record.status == TrialStatus::Completed && !folder.is_held());
        if let Some(record) = said
            && let Err(reason) = folder.check_run()
        {
            tracing::warn!("trial {} is not taken for completed: {reason}", trial.number);
            folder.write(&TrialRecord { status: TrialStatus::Failed, reason: Some(reason), ..record })?;
        }
    }
    Ok(())
}

/// The folder of the sweep and its definition.
fn target(arguments: &SweepArgs) -> Result<(PathBuf, Definition), Failure> {
    let run = &arguments.run;
    if run.seeds.is_some() {
        return Err(Failure::usage("--seeds is for `ibhost run`\n  hint: write --sweep seed=0..9"));
    }
    let set = assignments(run, run.seed)?.into_iter().filter(|(path, _)| path != "name").collect::<Vec<_>>();
    if let Some(folder) = arguments.target.as_ref().filter(|path| path.is_dir()) {
        if !set.is_empty() || !arguments.axes.is_empty() || run.preset.is_some() || run.config.is_some() || run.name.is_some() {
            return Err(Failure::usage(format!(
                "`{}` is a sweep that was begun, and its trials are fixed\n  hint: leave the flags of the run and its axes out, or give its file",
                show(folder)
            )));
        }
        return Ok((folder.clone(), SweepFolder::definition(folder)?));
    }
    let mut definition = match &arguments.target {
        Some(file) => Definition::read(file).map_err(Failure::usage)?,
        None => Definition::default(),
    };
    if let Some(name) = &run.name {
        definition.name.clone_from(name);
    }
    if let Some(file) = &run.config {
        let layer: serde_json::Map<String, Value> = read_yaml(file).map_err(Failure::usage)?;
        definition.run.extend(layer);
    }
    definition.set.extend(run.preset.iter().map(|name| ("preset".to_owned(), name.clone().into())));
    definition.set.extend(set);
    for (place, text) in arguments.axes.iter().enumerate() {
        let (axis, values) = values::parse_axis(text).map_err(|problem| Failure::usage(format!("--sweep: {problem}")))?;
        // An axis of the file may be replaced, one of the flags may not be given twice.
        if arguments.axes[..place].iter().any(|earlier| earlier.split('=').next().map(str::trim) == Some(axis.as_str())) {
            return Err(Failure::usage(format!("--sweep {text}: `{axis}` is given twice\n  hint: write all its values after one --sweep")));
        }
        definition.axes.insert(axis, values);
    }
    definition.check().map_err(|error| located(error, arguments))?;
    Ok((SweepFolder::place(&run.output_dir, &definition.name), definition))
}

/// What is wrong with a definition, with the line of the sweep's file where nothing but the file can be to blame.
fn located(error: SweepError, arguments: &SweepArgs) -> Failure {
    let flags =
        !arguments.axes.is_empty() || !arguments.run.set.is_empty() || arguments.run.preset.is_some() || arguments.run.config.is_some();
    let file = arguments.target.as_deref().filter(|path| path.is_file() && !flags);
    let place = |key: &str| file.and_then(|file| Some(format!("`{}`, line {}: ", show(file), line_of(file, key)?))).unwrap_or_default();
    match error {
        SweepError::Definition { place: at, problem } => {
            Failure::usage(format!("{}{at}: {problem}", place(at.split(['.', ',']).next().unwrap_or_default())))
        }
        SweepError::Trial { trial, source } if trial == plan::ANY => match *source {
            ConfigError::Setting(message) => Failure::usage(format!("{}{message}", place("run"))),
            ConfigError::Component { key, source } => Failure::component(&format!("{key} of the base run"), &source),
        },
        other => other.into(),
    }
}

/// Every analysis exists, is written right, and fits every objective of the sweep.
fn check_analyses(plan: &Plan) -> Result<(), Failure> {
    let mut components = Vec::new();
    for (place, request) in plan.definition.analyses.iter().enumerate() {
        let origin = format!("analyses, item {}", place + 1);
        let (component, _) =
            resolve::<dyn AnalysisConfig>(Kind::Analysis, &request.analysis).map_err(|error| Failure::component(&origin, &error))?;
        components.push((component, request.average));
    }
    if components.is_empty() {
        return Ok(());
    }
    let mut seen = Vec::new();
    for trial in &plan.trials {
        let config = plan.resolve(trial)?;
        if components.iter().any(|(_, average)| *average) && config.training.average.is_none() {
            let words = "keeps no averaged weights, which an analysis asks for\n  hint: set `average`, e.g. to 0.999";
            return Err(Failure::usage(format!("trial {} {words}", trial.title())));
        }
        if seen.contains(&config.objective.name) {
            continue;
        }
        for (component, _) in &components {
            check_fit(component, &config.objective.name)
                .map_err(|failure| Failure::usage(format!("trial {}: {}", trial.title(), failure.reason())))?;
        }
        seen.push(config.objective.name);
    }
    Ok(())
}

/// The numbered trials with the commands that run each of them alone.
fn print_trials(plan: &Plan, path: &Path, format: Format) -> Result<(), Failure> {
    let mut documents = Vec::new();
    let mut lines = Vec::new();
    for trial in &plan.trials {
        let mut command = [vec!["ibhost".to_owned()], plan::command(&plan.resolve(trial)?)].concat();
        command.extend(["--output-dir".to_owned(), show(&path.join(format!("trials/{:06}", trial.number)))]);
        if format == Format::Json {
            let axes: serde_json::Map<String, Value> = trial.labels.iter().cloned().collect();
            documents.push(json!({ "trial": trial.number, "axes": axes, "command": command }));
        } else {
            lines.push(vec![trial.number.to_string(), trial.label(), plan::shell_line(&command)]);
        }
    }
    match format {
        Format::Json => table::print_json(&documents.into())?,
        Format::Markdown => table::print(&table::markdown(&["trial", "axes", "command"], &lines))?,
        Format::Table => {
            // Commands are to be copied, so that no column wraps them.
            table::print(&lines.iter().map(|line| format!("{}  {}\n    {}", line[0], line[1], line[2])).collect::<Vec<_>>().join("\n"))?;
        }
    }
    if !plan.definition.analyses.is_empty() && format != Format::Json {
        let analyses: Vec<&str> = plan.definition.analyses.iter().map(|request| request.analysis.as_str()).collect();
        say!("each is then analysed with {}", analyses.join(", "));
    }
    say!("{} trials", plan.trials.len());
    Ok(())
}

/// `--status`, `--collect` and `--cancel`.
fn look(arguments: &SweepArgs, sweep: &SweepFolder) -> Result<u8, Failure> {
    if arguments.cancel {
        let jobs = slurm::cancel(sweep)?;
        say!("{}", if jobs.is_empty() { "no job waits or runs".to_owned() } else { format!("cancelled {}", jobs.join(", ")) });
        return Ok(0);
    }
    let states = states(sweep);
    if arguments.collect {
        collect(sweep, &states)?;
    }
    print_states(sweep, &states, arguments.run.format)?;
    Ok(0)
}

/// What the files say about each trial, completed by what Slurm knows where it was asked to run them.
fn states(sweep: &SweepFolder) -> Vec<TrialState> {
    let mut states = sweep.states();
    if sweep.path().join("slurm").is_dir() {
        match Queue::read(sweep) {
            Ok(queue) => states.iter_mut().for_each(|state| queue.amend(state)),
            Err(error) => tracing::warn!("shown without what Slurm knows: {error}"),
        }
    }
    states
}

/// Writes `trials.csv` from the index of the sweep's runs.
fn collect(sweep: &SweepFolder, states: &[TrialState]) -> Result<(), Failure> {
    let runs = Index::open(sweep.path())?.query(&[], None)?;
    let path = sweep.write_table(states, &runs)?;
    tracing::info!("wrote {}", show(&path));
    Ok(())
}

fn run_here(sweep: &SweepFolder, options: &Launch, format: Format, quiet: bool) -> Result<u8, Failure> {
    let _lock = sweep.lock()?;
    let stop = signals::requests("trials");
    let open = sweep.unfinished();
    let mut progress = SweepProgress::new(sweep, open.len(), quiet);
    let result = launch(sweep, &open, options, &mut progress, &stop);
    progress.finish();
    let states = sweep.states();
    let due = !open.is_empty() || !sweep.path().join("trials.csv").exists();
    let collected = if due { collect(sweep, &states) } else { Ok(()) };
    print_states(sweep, &states, format)?;
    result?;
    if stop.load(Ordering::Relaxed) > 0 {
        let words = ["ibhost", "sweep", &show(sweep.path()), "--resume"].map(str::to_owned);
        say!("interrupted; continue with\n  {}", plan::shell_line(&words));
        return Ok(INTERRUPTED);
    }
    collected?;
    Ok(if states.iter().all(|state| state.status == TrialStatus::Completed) { 0 } else { FAILED })
}

fn print_states(sweep: &SweepFolder, states: &[TrialState], format: Format) -> Result<(), Failure> {
    let counted = counts(states);
    if format == Format::Json {
        let counts: serde_json::Map<String, Value> = counted.iter().map(|(status, n)| (status.as_str().to_owned(), (*n).into())).collect();
        let trials = states.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>().map_err(Failure::failed)?;
        return table::print(&json!({ "sweep_dir": shown(Some(&absolute(sweep.path()))), "counts": counts, "trials": trials }).to_string());
    }
    let rows: Vec<Vec<String>> = states
        .iter()
        .map(|state| {
            let reason = state.reason.as_deref().and_then(|reason| reason.lines().next()).unwrap_or_default();
            let trial = sweep.plan.trial(state.trial).map(plan::Trial::label).unwrap_or_default();
            let time = if state.attempts == 0 { "-".to_owned() } else { format!("{:.1}", state.seconds) };
            vec![state.trial.to_string(), trial, state.status.as_str().to_owned(), state.attempts.to_string(), time, reason.to_owned()]
        })
        .collect();
    let header = ["trial", "axes", "status", "attempts", "seconds", "reason"];
    table::print(&if format == Format::Markdown { table::markdown(&header, &rows) } else { table::plain(&header, &rows) })?;
    let summary: Vec<String> = counted.iter().filter(|(_, n)| *n > 0).map(|(status, n)| format!("{n} {}", status.as_str())).collect();
    table::print(&format!("{} trials: {}\nsweep {}", states.len(), summary.join(", "), show(sweep.path())))?;
    for state in states.iter().filter(|state| state.status == TrialStatus::Failed) {
        say!("trial {} failed; its log is {}", state.trial, show(&state.log));
    }
    Ok(())
}

fn report_submission(sweep: &SweepFolder, submission: &slurm::Submission, format: Format) -> Result<(), Failure> {
    let arrays: Vec<Value> = submission.arrays.iter().map(|(job, trials)| json!({ "job": job, "trials": trials })).collect();
    if format == Format::Json {
        let (collect, queued) = (&submission.collect, submission.queued);
        let sweep_dir = shown(Some(&absolute(sweep.path())));
        return table::print(&json!({ "sweep_dir": sweep_dir, "arrays": arrays, "collect": collect, "queued": queued }).to_string());
    }
    for (job, trials) in &submission.arrays {
        table::print(&format!("job array {job}: {trials} trials"))?;
    }
    if submission.queued > 0 {
        table::print(&format!("{} trials were in the queue already", submission.queued))?;
    }
    let path = show(sweep.path());
    table::print(&format!("sweep {path}"))?;
    say!("`ibhost sweep {path} --status` shows how far it is, `--cancel` stops it, `--launcher slurm --resume` adds what is not done");
    Ok(())
}
