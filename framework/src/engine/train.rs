//! The training loop: epochs, evaluation, checkpoints, early stopping and interruption.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::error::EngineError;
use super::evaluate::evaluate;
use super::logs::Logs;
use super::observer::{EpochReport, Observer, StepReport};
use super::session::{Session, State};
use super::snapshot::{save_best, save_state};
use super::stepper::non_finite;
use super::trainer::Trainer;
use crate::dataset::Split;
use crate::objective::{Direction, Quantity};
use crate::run::CheckpointEvery;
use crate::storage::{CheckpointContent, HostData, HostTensor, Label, Metrics, MetricsSplit, Row, RunDir};

/// How training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All planned steps are done.
    Completed,
    /// The watched metric stopped improving.
    EarlyStopped,
    /// Stopped on request; resumable.
    Interrupted,
}

impl Trainer {
    /// Trains `state` to the planned end, or until `stop` asks for an orderly end after the current step.
    pub(super) fn run_epochs(
        &mut self,
        mut state: State,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<(State, Outcome), EngineError> {
        let mut logs = Logs::open(&self.run, self.keep_bytes)?;
        let training = self.session.config.training.clone();
        let (total, batches, first_step) = (self.session.total_steps(), self.session.batches_per_epoch(), state.step);
        let (epochs, mut last_save) = (total.div_ceil(batches.max(1)), Instant::now());
        // A run that was killed between its last checkpoint and its summary had already decided.
        let decided = state.watch.should_stop(training.early_stopping.as_ref());
        let mut outcome = if decided { Outcome::EarlyStopped } else { Outcome::Completed };
        while !decided && state.step < total {
            if stop.load(Ordering::Relaxed) {
                outcome = Outcome::Interrupted;
                break;
            }
            let epoch = state.step / batches + 1;
            let (measures, samples);
            (state, measures, samples) = self.stepper.step(&self.session, state)?;
            state.sums.add(measures, samples);
            self.summary.steps = state.step;
            logs.epoch_samples += samples;
            let report = StepReport { step: state.step, total_steps: total, epoch, epochs, samples };
            observer.step(&report, &mut || state.sums.means());

            let epoch_ended = state.step.is_multiple_of(batches) || state.step == total;
            if epoch_ended {
                let due = epoch.is_multiple_of(training.evaluate_every) || state.step == total;
                let rows = self.finish_epoch(&mut state, &mut logs, epoch, due)?;
                self.note(&state);
                observer.epoch(&EpochReport { epoch, epochs, rows, seconds: logs.take_seconds() });
                if state.watch.should_stop(training.early_stopping.as_ref()) {
                    outcome = Outcome::EarlyStopped;
                    break;
                }
            }
            if checkpoint_due(training.checkpoint_every, state.step, epoch, epoch_ended, last_save) && state.step < total {
                self.save(&mut state, &mut logs)?;
                observer.checkpoint(state.step);
                last_save = Instant::now();
            }
        }
        if state.step > first_step || self.keep_bytes.is_none() {
            self.save(&mut state, &mut logs)?;
            observer.checkpoint(state.step);
        } else {
            logs.spend(&mut state);
        }
        logs.flush()?;
        Ok((state, outcome))
    }

    /// Evaluates if `due`, logs the epoch's rows, forgets the running means and looks at the watched metric.
    fn finish_epoch(&mut self, state: &mut State, logs: &mut Logs, epoch: u64, due: bool) -> Result<Vec<Row>, EngineError> {
        logs.spend(state);
        let means = state.sums.means();
        check_means(&self.session, state.step, epoch, MetricsSplit::Train, &means)?;
        let mut rows = vec![row(state, epoch, MetricsSplit::Train, means, logs.take_speed())];
        state.sums.clear();
        if due {
            let session = &self.session;
            let fresh = session.data.fresh_test(&mut session.noise.stream("fresh test samples", epoch))?;
            let test = fresh.as_ref().unwrap_or_else(|| session.data.split(Split::Test));
            let at = session.progress(epoch, state.step);
            for (split, averaged) in [(MetricsSplit::Test, false), (MetricsSplit::TestAverage, true)] {
                if averaged && state.average.is_none() {
                    continue;
                }
                let begin = Instant::now();
                let model = Session::evaluation_model(state, averaged);
                let means = evaluate(&*model, test, session.config.training.evaluation_batch, &session.device, session.noise, at);
                logs.spend(state);
                check_means(session, state.step, epoch, split, &means)?;
                rows.push(row(state, epoch, split, means, test.len() as f64 / begin.elapsed().as_secs_f64().max(1e-9)));
            }
        }
        for row in &rows {
            self.describe(&row.metrics);
            logs.write(&self.run, &self.session, state, row)?;
        }
        if due {
            self.watch(state, epoch)?;
        }
        Ok(rows)
    }

    /// Shows what the objective measures and does not describe as well, under its bare name.
    fn describe(&mut self, metrics: &Metrics) {
        for (name, _) in metrics.iter() {
            if self.session.quantities.iter().all(|quantity| quantity.name != name) {
                tracing::warn!(
                    "objective `{}` measures `{name}`, which its `quantities` do not describe: it is shown without unit and direction",
                    self.session.config.objective.name
                );
                self.session.quantities.push(Quantity::new(name, "?", "not described by the objective", Direction::Neutral));
            }
        }
    }

    /// Takes note of the watched metric; the weights at its best value are kept to be written with the next checkpoint.
    fn watch(&mut self, state: &mut State, epoch: u64) -> Result<(), EngineError> {
        let early = self.session.config.training.early_stopping.as_ref();
        let (min_delta, first) = early.map_or((0.0, 0), |early| (early.min_delta, early.from));
        let value = watched(state).ok_or_else(|| unmeasured(state))?;
        if epoch >= first && state.watch.observe(value, epoch, state.step, min_delta) {
            self.best = Some((state.step, save_best(state)));
        }
        Ok(())
    }

    /// Writes a resumable checkpoint, after the best weights seen.
    fn save(&mut self, state: &mut State, logs: &mut Logs) -> Result<(), EngineError> {
        logs.spend(state);
        let metrics = logs.sync()?;
        self.save_best()?;
        let content = save_state(&self.session, state, metrics, self.summary.identity.as_ref())?;
        // On devices whose gradients the host does not see, this is where bad numbers are stopped from replacing good ones.
        if let Some(path) = non_finite_weight(&content) {
            let epoch = state.step / self.session.batches_per_epoch().max(1) + 1;
            let what = format!("parameter `{path}`");
            return Err(non_finite(state.step, epoch, &self.session.plan.phases[0].name, what, &state.sums.means()));
        }
        self.run.checkpoints().save(Label::Last, state.step, &content, self.session.config.training.checkpoints_kept)?;
        Ok(())
    }

    /// Writes the best weights seen, if they are not on disk yet.
    pub(super) fn save_best(&mut self) -> Result<(), EngineError> {
        if let Some((step, content)) = self.best.take() {
            self.run.checkpoints().save(Label::Best, step, &content, 1)?;
        }
        Ok(())
    }
}

/// `error` with what `run` still has.
pub(super) fn kept(error: EngineError, run: &RunDir) -> EngineError {
    match error {
        EngineError::NonFinite { step, epoch, phase, what, term, terms, .. } => {
            let kept = match run.checkpoints().list() {
                Ok(list) => list.iter().filter(|c| c.label == Label::Last).max_by_key(|c| c.step).map_or_else(
                    || "no checkpoint was written before".to_owned(),
                    |c| format!("the checkpoint of step {} is kept: `{}`", c.step, c.path.display()),
                ),
                Err(error) => format!("the checkpoints cannot be listed: {error}"),
            };
            EngineError::NonFinite { step, epoch, phase, what, term, terms, kept: kept.into() }
        }
        other => other,
    }
}

fn checkpoint_due(every: CheckpointEvery, step: u64, epoch: u64, epoch_ended: bool, last_save: Instant) -> bool {
    match every {
        CheckpointEvery::Steps(n) => step.is_multiple_of(n),
        CheckpointEvery::Epochs(n) => epoch_ended && epoch.is_multiple_of(n),
        CheckpointEvery::Minutes(n) => last_save.elapsed().as_secs() >= n.saturating_mul(60),
    }
}

/// Path of the first weight of a checkpoint that is not finite.
fn non_finite_weight(content: &CheckpointContent) -> Option<&str> {
    let bad = |tensor: &HostTensor| match &tensor.data {
        HostData::F32(v) => v.iter().any(|x| !x.is_finite()),
        HostData::F64(v) => v.iter().any(|x| !x.is_finite()),
        HostData::I64(_) | HostData::U8(_) => false,
    };
    content.tensors.values().flatten().find(|(_, tensor)| bad(tensor)).map(|(path, _)| path.as_str())
}

fn unmeasured(state: &State) -> EngineError {
    let names: Vec<String> = [("train", &state.latest[0]), ("test", &state.latest[1]), ("test_average", &state.latest[2])]
        .into_iter()
        .flat_map(|(split, metrics)| metrics.iter().flat_map(Metrics::iter).map(move |(name, _)| format!("{split}.{name}")))
        .collect();
    EngineError::Request(format!("`watch` is `{}`, which this run does not measure; it measures {}", state.watch.metric, names.join(", ")))
}

fn watched(state: &State) -> Option<f64> {
    let (split, name) = state.watch.metric.split_once('.')?;
    let index = match split {
        "train" => 0,
        "test" => 1,
        _ => 2,
    };
    state.latest[index].as_ref()?.get(name)
}

/// Refuses means that are no result: NaN, and infinities where the quantity does not say that it may be infinite.
fn check_means(session: &Session, steps: u64, epoch: u64, split: MetricsSplit, means: &[(String, f64)]) -> Result<(), EngineError> {
    let infinite = |name: &str| session.quantities.iter().any(|quantity| quantity.name == name && quantity.may_be_infinite);
    let Some((name, value)) = means.iter().find(|(name, value)| value.is_nan() || (value.is_infinite() && !infinite(name))) else {
        return Ok(());
    };
    let (phase, place) = match split {
        MetricsSplit::Train => (session.plan.phases[0].name.as_str(), "the training split"),
        MetricsSplit::Test => ("evaluation", "the test split"),
        MetricsSplit::TestAverage => ("evaluation", "the test split with averaged weights"),
    };
    let what = format!("the epoch's mean {name} ({value}) on {place}");
    match non_finite(steps.saturating_sub(1), epoch, phase, what, means) {
        // It is named already.
        EngineError::NonFinite { step, epoch, phase, what, terms, kept, .. } => {
            Err(EngineError::NonFinite { step, epoch, phase, what, term: None, terms, kept })
        }
        other => Err(other),
    }
}

fn row(state: &State, epoch: u64, split: MetricsSplit, means: Vec<(String, f64)>, samples_per_s: f64) -> Row {
    Row { step: state.step, epoch, split, metrics: means.into_iter().collect::<Metrics>(), time_s: state.elapsed_s, samples_per_s }
}
