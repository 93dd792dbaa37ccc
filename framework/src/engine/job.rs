//! A run from its folder's creation to its summary, and a finished run opened again.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::error::EngineError;
use super::observer::Observer;
use super::session::{Session, State};
use super::snapshot::{restore_last, restore_weights_of};
use super::train::{Outcome, train};
use crate::dataset::DataRoot;
use crate::run::RunConfig;
use crate::storage::run_dir::local_time;
use crate::storage::{Best, FinalMetrics, Label, MetricsLog, MetricsSplit, RunDir, RunStatus, Summary, Versions};
use crate::tensorboard::EventWriter;

/// A run with its folder, ready to train.
pub struct Job {
    /// The run's folder, locked by this process.
    pub run: RunDir,
    /// What stays the same.
    pub session: Session,
    state: Option<State>,
    summary: Summary,
    keep_bytes: Option<u64>,
}

impl Job {
    /// Checks everything by building it, then creates the run's folder with `config.yml` and a first `summary.yml`.
    ///
    /// # Errors
    /// [`EngineError`]; nothing is left on disk when the configuration itself cannot work.
    pub fn create(config: RunConfig, root: &DataRoot, output_dir: &Path, command: Vec<String>) -> Result<Self, EngineError> {
        let (session, state) = Session::open(config, root)?;
        let config = &session.config;
        let run = RunDir::create(output_dir, &config.stem(), config.training.name.as_deref())?;
        run.write_config(config)?;
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
            started: local_time(),
            elapsed_time_s: 0.0,
            command,
            versions: versions(),
            parameters: Session::parameter_count(&state),
            final_metrics: FinalMetrics::default(),
            best: None,
        };
        run.write_summary(&summary)?;
        Ok(Self { run, session, state: Some(state), summary, keep_bytes: None })
    }

    /// Opens the run at `path` where its newest checkpoint left it. `None` when it is already complete.
    ///
    /// # Errors
    /// [`EngineError`] naming the damaged file, or what no longer fits.
    pub fn resume(path: &Path, root: &DataRoot) -> Result<Option<Self>, EngineError> {
        let run = RunDir::open(path)?;
        let mut summary = run.read_summary()?;
        if summary.status == RunStatus::Completed {
            return Ok(None);
        }
        let (session, state) = Session::open(RunConfig::from_json(run.read_config()?)?, root)?;
        let (state, keep) = restore_last(&session, state, &run)?;
        (summary.status, summary.reason) = (RunStatus::Running, None);
        run.write_summary(&summary)?;
        // Without a checkpoint the run starts over, and its log with it.
        Ok(Some(Self { run, session, state: Some(state), summary, keep_bytes: Some(keep.unwrap_or(0)) }))
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
        match train(&self.session, state, &self.run, self.keep_bytes, observer, stop) {
            Ok((state, outcome)) => {
                self.summary.status = if outcome == Outcome::Interrupted { RunStatus::Interrupted } else { RunStatus::Completed };
                self.summary.reason = match outcome {
                    Outcome::Completed => None,
                    Outcome::EarlyStopped => Some("the watched metric stopped improving".to_owned()),
                    Outcome::Interrupted => Some("interrupted on request".to_owned()),
                };
                self.summarise(&state);
                self.run.write_summary(&self.summary)?;
                if outcome != Outcome::Interrupted {
                    self.show_summary()?;
                }
                Ok((outcome, self.summary.clone()))
            }
            Err(error) => {
                self.summarise_log();
                if let EngineError::NonFinite { step, .. } = &error {
                    self.summary.steps = *step;
                }
                self.fail(&error.to_string());
                Err(error)
            }
        }
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

    /// Takes over what the log of a failed run says; the state itself is gone with the error.
    fn summarise_log(&mut self) {
        for row in MetricsLog::read(&self.run.metrics_path()).unwrap_or_default() {
            (self.summary.steps, self.summary.epochs, self.summary.elapsed_time_s) = (row.step, row.epoch, row.time_s);
            let last = &mut self.summary.final_metrics;
            match row.split {
                MetricsSplit::Train => last.train = row.metrics,
                MetricsSplit::Test => last.test = row.metrics,
                MetricsSplit::TestAverage => last.test_average = Some(row.metrics),
            }
        }
    }

    /// Marks the run as failed because of `reason`.
    pub fn fail(&mut self, reason: &str) {
        (self.summary.status, self.summary.reason) = (RunStatus::Failed, Some(reason.to_owned()));
        if let Err(error) = self.run.write_summary(&self.summary) {
            tracing::error!("the summary cannot be written: {error}");
        }
    }

    fn summarise(&mut self, state: &State) {
        self.summary.steps = state.step;
        self.summary.epochs = state.step / self.session.batches_per_epoch().max(1);
        self.summary.elapsed_time_s = state.elapsed_s;
        let [train, test, test_average] = state.latest.clone();
        self.summary.final_metrics = FinalMetrics { train: train.unwrap_or_default(), test: test.unwrap_or_default(), test_average };
        self.summary.best = state.watch.best().map(|value| Best {
            metric: state.watch.metric.clone(),
            value,
            epoch: state.watch.best_epoch,
            step: state.watch.best_step,
        });
    }
}

/// Versions that go into every summary.
pub fn versions() -> Versions {
    Versions { ibhost: env!("CARGO_PKG_VERSION").to_owned(), burn: "0.22.1".to_owned() }
}

/// The run at `path` with the weights of its newest checkpoint called `label`, for analyses.
///
/// # Errors
/// [`EngineError`] naming what is missing or damaged.
pub fn open_finished(path: &Path, root: &DataRoot, label: Label) -> Result<(RunDir, Session, State), EngineError> {
    let run = RunDir::open_read_only(path)?;
    let (session, state) = Session::open(RunConfig::from_json(run.read_config()?)?, root)?;
    match restore_weights_of(state, &run, label)? {
        Some(state) => Ok((run, session, state)),
        None => Err(EngineError::Inconsistent {
            path: run.checkpoints_dir(),
            reason: format!("the run has no `{label}` checkpoint\n  hint: finish it with `ibhost resume {}`", path.display()),
        }),
    }
}
