//! The training loop: epochs, logging, evaluation, checkpoints, early stopping and interruption.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::error::EngineError;
use super::evaluate::evaluate;
use super::observer::{EpochReport, Observer, StepReport};
use super::session::{Session, State};
use super::snapshot::{save_best, save_state};
use super::step::{StepState, non_finite, rate_of, training_step};
use super::watch::Watch;
use crate::dataset::Split;
use crate::identity::Identity;
use crate::run::CheckpointEvery;
use crate::storage::{CheckpointContent, HostData, HostTensor, Label, Metrics, MetricsLog, MetricsSplit, Row, RunDir};
use crate::tensorboard::EventWriter;

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

/// What is known of a run at any moment, also when it ends with an error or a panic that takes the [`State`] with it.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Steps done.
    pub step: u64,
    /// Latest metrics on the training split, on the test split, and there with averaged weights.
    pub latest: [Option<Metrics>; 3],
    /// The watched metric.
    pub watch: Option<Watch>,
}

impl Standing {
    /// Where `state` stands.
    pub fn of(state: &State) -> Self {
        Self { step: state.step, latest: state.latest.clone(), watch: Some(state.watch.clone()) }
    }
}

/// Where a run's numbers go.
struct Logs<'a> {
    run: &'a RunDir,
    identity: Option<&'a Identity>,
    metrics: MetricsLog,
    boards: [Option<EventWriter>; 3],
    resumed: bool,
    first_step: u64,
}

/// What training writes to.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// The run's folder.
    pub run: &'a RunDir,
    /// What checkpoints say about data, program and machine.
    pub identity: Option<&'a Identity>,
    /// Length of the metrics log when resuming; without it a new one is begun.
    pub keep_bytes: Option<u64>,
}

/// Trains `state` to the planned end. `stop` asks for an orderly end after the current step; `standing` always says how far training got.
///
/// # Errors
/// [`EngineError`]; what was saved before stays valid.
pub fn train(
    session: &Session,
    mut state: State,
    record: Record<'_>,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
    standing: &mut Standing,
) -> Result<(State, Outcome), EngineError> {
    *standing = Standing::of(&state);
    let Record { run, identity, keep_bytes } = record;
    let mut logs = Logs {
        run,
        identity,
        metrics: MetricsLog::open(&run.metrics_path(), keep_bytes)?,
        boards: [None, None, None],
        resumed: keep_bytes.is_some(),
        first_step: state.step,
    };
    let training = &session.config.training;
    let (total, batches) = (session.total_steps(), session.batches_per_epoch());
    let epochs = total.div_ceil(batches.max(1));
    let (mut order, mut order_epoch) = (Vec::new(), 0);
    let (mut moving, mut orders) = (Vec::new(), super::step::Orders::new());
    let (mut clock, mut last_save) = (Clock { mark: Instant::now(), epoch_seconds: 0.0, epoch_samples: 0 }, Instant::now());
    // A run that was killed between its last checkpoint and its summary had already decided.
    let decided = state.watch.should_stop(training.early_stopping.as_ref());
    let mut outcome = if decided { Outcome::EarlyStopped } else { Outcome::Completed };
    while !decided && state.step < total {
        if stop.load(Ordering::Relaxed) {
            outcome = Outcome::Interrupted;
            break;
        }
        let (epoch, index) = (state.step / batches + 1, (state.step % batches) as usize);
        if order_epoch != epoch {
            order = session.noise.stream("data order", epoch).permutation(session.train.len());
            order_epoch = epoch;
        }
        let from = index * training.batch_size;
        let batch = session.training_batch(&order[from..order.len().min(from + training.batch_size)], state.step, "main");
        let step = state.step;
        let mut parts =
            StepState { optimisers: &mut state.optimisers, average: state.average.as_mut(), moving: &mut moving, orders: &mut orders };
        let stepped = batch.and_then(|batch| {
            let (model, measures) = training_step(session, state.model, &mut parts, epoch, step, &batch)?;
            Ok((model, measures, batch.len()))
        });
        let (model, measures, samples) = match stepped {
            Ok(result) => result,
            Err(error) => {
                save_best_of(&mut state.best, run)?;
                return Err(kept(error, run));
            }
        };
        state.model = model;
        state.sums.add(measures, samples);
        state.step += 1;
        standing.step = state.step;
        clock.epoch_samples += samples;
        let report = StepReport { step: state.step, total_steps: total, epoch, epochs, samples };
        observer.step(&report, &mut || state.sums.means());

        let epoch_ended = state.step.is_multiple_of(batches) || state.step == total;
        if epoch_ended {
            let due = epoch.is_multiple_of(training.evaluate_every) || state.step == total;
            let rows = match finish_epoch(session, &mut state, &mut logs, epoch, due, &mut clock) {
                Ok(rows) => rows,
                Err(error) => {
                    save_best_of(&mut state.best, run)?;
                    return Err(kept(error, run));
                }
            };
            if due {
                let value = watched(&state).ok_or_else(|| unmeasured(&state))?;
                let min_delta = training.early_stopping.as_ref().map_or(0.0, |e| e.min_delta);
                let first = training.early_stopping.as_ref().map_or(0, |e| e.from);
                let step = state.step;
                if epoch >= first && state.watch.observe(value, epoch, step, min_delta) {
                    state.best = Some((step, save_best(&state)));
                }
            }
            *standing = Standing::of(&state);
            observer.epoch(&EpochReport { epoch, epochs, rows, seconds: std::mem::take(&mut clock.epoch_seconds) });
            if state.watch.should_stop(training.early_stopping.as_ref()) {
                outcome = Outcome::EarlyStopped;
                break;
            }
        }
        if checkpoint_due(training.checkpoint_every, state.step, epoch, epoch_ended, last_save) && state.step < total {
            clock.spend(&mut state);
            save(session, &mut state, &logs)?;
            observer.checkpoint(state.step);
            last_save = Instant::now();
        }
    }
    clock.spend(&mut state);
    if state.step > logs.first_step || !logs.resumed {
        save(session, &mut state, &logs)?;
        observer.checkpoint(state.step);
    }
    for board in logs.boards.iter_mut().flatten() {
        board.flush()?;
    }
    Ok((state, outcome))
}

/// Time and samples of this process since the epoch began. The running means are no help there: after a resume they hold samples of an
/// earlier process too.
struct Clock {
    mark: Instant,
    epoch_seconds: f64,
    epoch_samples: usize,
}

impl Clock {
    /// Adds the time since the last call to the epoch and the run.
    fn spend(&mut self, state: &mut State) {
        let seconds = self.mark.elapsed().as_secs_f64();
        self.mark = Instant::now();
        state.elapsed_s += seconds;
        self.epoch_seconds += seconds;
    }
}

fn kept(error: EngineError, run: &RunDir) -> EngineError {
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

fn save(session: &Session, state: &mut State, logs: &Logs<'_>) -> Result<(), EngineError> {
    let bytes = logs.metrics.sync()?;
    for board in logs.boards.iter().flatten() {
        board.sync()?;
    }
    let store = logs.run.checkpoints();
    save_best_of(&mut state.best, logs.run)?;
    let content = save_state(session, state, (bytes, logs.metrics.digest()), logs.identity)?;
    // On devices whose gradients the host does not see, this is where bad numbers are stopped from replacing good ones.
    if let Some(path) = non_finite_weight(&content) {
        let epoch = state.step / session.batches_per_epoch().max(1) + 1;
        let what = format!("parameter `{path}`");
        return Err(kept(non_finite(state.step, epoch, &session.plan.phases[0].name, what, &state.sums.means()), logs.run));
    }
    store.save(Label::Last, state.step, &content, session.config.training.checkpoints_kept)?;
    Ok(())
}

/// Writes the best weights seen, if they are not on disk yet.
fn save_best_of(best: &mut Option<(u64, CheckpointContent)>, run: &RunDir) -> Result<(), EngineError> {
    if let Some((step, content)) = best.take() {
        run.checkpoints().save(Label::Best, step, &content, 1)?;
    }
    Ok(())
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

/// Evaluates if `due`, logs the epoch's rows and forgets the running means.
fn finish_epoch(
    session: &Session,
    state: &mut State,
    logs: &mut Logs<'_>,
    epoch: u64,
    due: bool,
    clock: &mut Clock,
) -> Result<Vec<Row>, EngineError> {
    clock.spend(state);
    let trained = std::mem::take(&mut clock.epoch_samples);
    let means = state.sums.means();
    check_means(session, state.step, epoch, MetricsSplit::Train, &means)?;
    let mut rows = vec![row(state, epoch, MetricsSplit::Train, means, trained as f64 / clock.epoch_seconds.max(1e-9))];
    state.sums.clear();
    if due {
        let fresh = session.data.fresh_test(&mut session.noise.stream("fresh test samples", epoch))?;
        let test = fresh.as_ref().unwrap_or_else(|| session.data.split(Split::Test));
        for (split, averaged) in [(MetricsSplit::Test, false), (MetricsSplit::TestAverage, true)] {
            if averaged && state.average.is_none() {
                continue;
            }
            let begin = Instant::now();
            let model = Session::evaluation_model(state, averaged);
            let means = evaluate(&*model, test, session.config.training.evaluation_batch, &session.device, session.noise, epoch);
            clock.spend(state);
            check_means(session, state.step, epoch, split, &means)?;
            rows.push(row(state, epoch, split, means, test.len() as f64 / begin.elapsed().as_secs_f64().max(1e-9)));
        }
    }
    for row in &rows {
        let index = match row.split {
            MetricsSplit::Train => 0,
            MetricsSplit::Test => 1,
            MetricsSplit::TestAverage => 2,
        };
        state.latest[index] = Some(row.metrics.clone());
        logs.metrics.append(row)?;
        write_board(session, state, logs, row, index)?;
    }
    Ok(rows)
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

fn write_board(session: &Session, state: &State, logs: &mut Logs<'_>, row: &Row, index: usize) -> Result<(), EngineError> {
    let folder = logs.run.tensorboard_dir().join(["train", "test", "test_average"][index]);
    let board = match &mut logs.boards[index] {
        Some(board) => board,
        slot => {
            let writer = if logs.resumed { EventWriter::resume(&folder, row.epoch)? } else { EventWriter::create(&folder)? };
            slot.insert(writer)
        }
    };
    for (name, value) in row.metrics.iter() {
        let tag = session.quantities.iter().find(|q| q.name == name).map_or(name, |q| q.tag.as_str());
        board.scalar(tag, value, row.epoch)?;
    }
    if index == 0 {
        for (slot, optimiser) in state.optimisers.iter().enumerate() {
            board.scalar(&format!("lr_{slot}"), rate_of(session, slot, optimiser.step), row.epoch)?;
        }
        if row.epoch == 1 {
            let text = serde_json::to_string_pretty(&session.config).unwrap_or_default();
            board.text("configuration", &format!("```json\n{text}\n```"), 0)?;
        }
    }
    board.flush()?;
    Ok(())
}
