//! A run from its folder's creation to its summary, and a finished run opened again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::error::EngineError;
use super::initial::with_initial_weights;
use super::observer::Observer;
use super::session::{Session, State};
use super::snapshot::{START_OVER, expect_data, restore_last};
use super::stepper::Stepper;
use super::train::{Outcome, kept};
use crate::dataset::DataRoot;
use crate::finished::DataLibrary;
use crate::identity::{Attempt, DataIdentity, Program};
use crate::optimiser::WeightAverage;
use crate::parameters;
use crate::run::RunConfig;
use crate::storage::run_dir::local_time;
use crate::storage::{Best, CheckpointContent, FinalMetrics, RunDir, RunStatus, StorageError, Summary, Versions};
use crate::tensorboard::EventWriter;

/// A run with its folder, ready to train.
pub struct Trainer {
    /// The run's folder, locked by this process.
    pub run: RunDir,
    /// What stays the same.
    pub session: Session,
    /// What changes; nothing once it was trained, or an error took it.
    state: Option<State>,
    pub(super) stepper: Stepper,
    /// How far training got, also when it ended with an error or a panic.
    pub(super) summary: Summary,
    /// Length of the metrics log when resuming; without it a new one is begun.
    pub(super) keep_bytes: Option<u64>,
    /// Weights at the best value of the watched metric, not yet written.
    pub(super) best: Option<(u64, CheckpointContent)>,
    /// When this process began to train.
    begun: Option<Instant>,
    /// Seconds spent by earlier processes.
    spent_s: f64,
}

/// Who starts a run.
#[derive(Clone, Debug)]
pub struct Start {
    /// The command line, one argument each.
    pub command: Vec<String>,
    /// The program.
    pub program: Program,
    /// The data that are expected, where something is known of them; others are refused before anything is written.
    pub data: Option<DataIdentity>,
}

/// A program that is no host of ibhost's command line, such as a test or an example.
impl From<Vec<String>> for Start {
    fn from(command: Vec<String>) -> Self {
        Self { command, program: Program::this(env!("CARGO_PKG_VERSION"), None), data: None }
    }
}

/// Whether training writes the file `name` of a run; event files are written once and never continued, and results are noted down when they are
/// written.
fn changes_while_training(name: &str) -> bool {
    matches!(name, "metrics.jsonl" | "summary.yml") || name.starts_with("checkpoints/")
}

impl Trainer {
    /// Checks everything by building it, then creates the run's folder with `config.yml` and a first `summary.yml`.
    ///
    /// # Errors
    /// [`EngineError`]; nothing is left on disk then, as far as the disk allows.
    pub fn create(config: RunConfig, root: &DataRoot, output_dir: &Path, start: impl Into<Start>) -> Result<Self, EngineError> {
        let Start { command, program, data } = start.into();
        config.check()?;
        let (mut session, mut state) = Session::open(config.decided(root)?, root)?;
        if let Some(data) = data {
            expect_data(&session, output_dir, &data, START_OVER)?;
        }
        let key = session.loaded.key();
        let expected = session.config.training.data_hash.replace(key.clone()).filter(|expected| *expected != key);
        if let Some(expected) = expected {
            return Err(EngineError::Request(format!(
                "the configuration is of a run on `{}` with the data hash {expected}, but what was loaded has the hash {key}\n  \
                 hint: name the folder of the right data with --data-dir, or pass `--set data_hash=null` to train on these",
                session.config.dataset
            )));
        }
        let config = &session.config;
        if let Some(path) = &config.training.initial_weights {
            state.model = with_initial_weights(state.model, Path::new(path))?;
            state.average =
                config.training.average.map(|decay| WeightAverage { decay, weights: parameters::average_buffers(&state.model) });
        }
        let run = RunDir::create(output_dir, &config.stem(), config.training.name.as_deref())?;
        let (identity, started) = (session.identity(&program), local_time());
        let summary = Summary {
            status: RunStatus::Running,
            reason: None,
            run_id: run.run_id().to_owned(),
            name: config.training.name.clone(),
            objective: config.objective.to_string(),
            encoder: config.encoder.to_string(),
            decoder: Some(config.decoder.to_string()),
            dataset: config.dataset.to_string(),
            seed: config.training.seed,
            device: config.training.device.clone(),
            epochs: 0,
            steps: 0,
            started: started.clone(),
            elapsed_time_s: 0.0,
            command,
            versions: versions(&program),
            attempts: vec![Attempt::new(&identity, started, 0)],
            identity: Some(identity),
            parameters: Session::parameter_count(&state),
            final_metrics: FinalMetrics::default(),
            best: None,
        };
        let begin = |run: &RunDir| -> Result<(), StorageError> {
            run.write_config(config)?;
            run.open_files(changes_while_training)?;
            run.write_summary(&summary)
        };
        if let Err(error) = begin(&run) {
            if let Err(error) = run.abandon() {
                tracing::warn!("an unfinished run folder stays behind: {error}");
            }
            return Err(error.into());
        }
        Ok(Self::new(run, session, state, summary, None))
    }

    fn new(run: RunDir, session: Session, state: State, summary: Summary, keep_bytes: Option<u64>) -> Self {
        let spent_s = state.elapsed_s;
        let mut trainer =
            Self { run, session, state: None, stepper: Stepper::default(), summary, keep_bytes, best: None, begun: None, spent_s };
        trainer.note(&state);
        trainer.state = Some(state);
        trainer
    }

    /// Opens the run at `path` where its newest checkpoint left it. `None` when it is already complete. With `skip_damaged`, the newest
    /// checkpoint that is sound is taken instead, and the damaged ones are removed. Warns when `program` or the machine are not those before.
    ///
    /// # Errors
    /// [`EngineError`] naming the damaged file, or what no longer fits: [`EngineError::OtherData`] where the data do not.
    pub fn resume(path: &Path, root: &DataRoot, skip_damaged: bool, program: &Program) -> Result<Option<Self>, EngineError> {
        let run = RunDir::open(path)?;
        if !run.summary_path().exists() && run.checkpoints().list()?.is_empty() {
            let reason = "the run ended before its first step; nothing was computed\n  hint: remove the folder and start the run again";
            return Err(EngineError::Inconsistent { path: path.to_path_buf(), reason: reason.to_owned() });
        }
        let mut summary = run.read_summary()?;
        if summary.status == RunStatus::Completed {
            return Ok(None);
        }
        let (session, state) = Session::open(RunConfig::from_json(run.read_config()?)?, root)?;
        let identity = session.identity(program);
        match &summary.identity {
            Some(before) => {
                expect_data(&session, path, &before.data, START_OVER)?;
                for change in identity.changes_since(before) {
                    tracing::warn!("since this run was begun, {change}; the end may not be that of an uninterrupted run");
                }
            }
            None => unrecorded(path),
        }
        let (state, keep) = restore_last(&session, state, &run, skip_damaged)?;
        summary.attempts.push(Attempt::new(&identity, local_time(), state.step));
        (summary.versions, summary.identity) = (versions(program), Some(identity));
        run.open_files(changes_while_training)?;
        (summary.status, summary.reason) = (RunStatus::Running, None);
        run.write_summary(&summary)?;
        // Without a checkpoint the run starts over, and its log with it.
        Ok(Some(Self::new(run, session, state, summary, Some(keep.unwrap_or(0)))))
    }

    /// A library of the data below `root` that holds those this run was trained on, for whoever looks at it afterwards.
    pub fn library(&self, root: &DataRoot) -> DataLibrary {
        let Session { config, data, loaded, .. } = &self.session;
        DataLibrary::new(root.clone()).with(&config.dataset, config.training.seed, Arc::clone(data), loaded.clone())
    }

    /// Steps done so far.
    pub fn steps_done(&self) -> u64 {
        self.state.as_ref().map_or(0, |s| s.step)
    }

    /// Trains to the planned end and writes the summary, whatever happens.
    ///
    /// # Errors
    /// [`EngineError`]; the summary then says `failed` and why.
    pub fn train(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<(Outcome, Summary), EngineError> {
        let Some(state) = self.state.take() else {
            return Err(EngineError::Request("this run was already trained".to_owned()));
        };
        self.begun = Some(Instant::now());
        let (state, outcome) = self.run_epochs(state, observer, stop).map_err(|error| self.failed(error))?;
        self.summary.status = if outcome == Outcome::Interrupted { RunStatus::Interrupted } else { RunStatus::Completed };
        self.summary.reason = match outcome {
            Outcome::Completed => None,
            Outcome::EarlyStopped => Some("the watched metric stopped improving".to_owned()),
            Outcome::Interrupted => Some("interrupted on request".to_owned()),
        };
        self.note(&state);
        self.summary.elapsed_time_s = state.elapsed_s;
        self.run.write_summary(&self.summary)?;
        if outcome != Outcome::Interrupted {
            self.show_summary()?;
        }
        self.run.close_files()?;
        Ok((outcome, self.summary.clone()))
    }

    /// `error` with what is kept, after the best weights were written and the run was marked as failed.
    fn failed(&mut self, error: EngineError) -> EngineError {
        if let Err(lost) = self.save_best() {
            tracing::error!("the best weights cannot be written: {lost}");
        }
        let error = kept(error, &self.run);
        self.fail(&error.to_string());
        error
    }

    /// The summary as a text beside the training curves, keys sorted.
    fn show_summary(&self) -> Result<(), EngineError> {
        let mut document = serde_json::to_value(&self.summary).unwrap_or_default();
        document.sort_all_objects();
        let mut board = EventWriter::create(&self.run.tensorboard_dir().join("train"))?;
        board.text("setting", &format!("```json\n{document:#}\n```"), 0)?;
        board.flush()?;
        Ok(())
    }

    /// Marks the run as failed because of `reason`, with what is known of how far it got.
    pub fn fail(&mut self, reason: &str) {
        (self.summary.status, self.summary.reason) = (RunStatus::Failed, Some(reason.to_owned()));
        self.summary.epochs = self.summary.steps / self.session.batches_per_epoch().max(1);
        self.summary.elapsed_time_s = self.spent_s + self.begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        if let Err(error) = self.run.write_summary(&self.summary).and_then(|()| self.run.close_files()) {
            tracing::error!("the end of the run cannot be recorded: {error}");
        }
    }

    /// Takes what `state` has reached into the summary.
    pub(super) fn note(&mut self, state: &State) {
        self.summary.steps = state.step;
        self.summary.epochs = state.step / self.session.batches_per_epoch().max(1);
        let [train, test, test_average] = state.latest.clone();
        self.summary.final_metrics = FinalMetrics { train: train.unwrap_or_default(), test: test.unwrap_or_default(), test_average };
        self.summary.best = state.watch.best().map(|value| {
            let (metric, epoch, step) = (state.watch.metric.clone(), state.watch.best_epoch, state.watch.best_step);
            Best { metric, value, epoch, step }
        });
    }
}

/// The version of burn that this crate is built with; the workspace pins it.
pub const BURN: &str = "0.22.1";

/// Versions that go into every summary.
fn versions(program: &Program) -> Versions {
    Versions { ibhost: program.version(), burn: BURN.to_owned() }
}

/// Says what cannot be checked of a run that an older version wrote.
pub fn unrecorded(path: &Path) {
    tracing::warn!(
        "`{}` was written by a version that did not record data, program and machine: whether they are the same now cannot be checked",
        path.display()
    );
}
