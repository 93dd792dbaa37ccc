//! A run's state as checkpoint content and back, exactly.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::accumulate::Accumulator;
use super::error::EngineError;
use super::session::{Session, State};
use super::watch::Watch;
use crate::dataset::Split;
use crate::identity::{DataIdentity, Identity};
use crate::optimiser::{Buffer, is_host};
use crate::parameters;
use crate::storage::{CheckpointContent, CheckpointEntry, HostTensor, Label, Metrics, MetricsLog, RunDir, StorageError};

/// Everything but tensors. Sums are kept as bits, because JSON has no NaN and must not round.
#[derive(Debug, Serialize, Deserialize)]
struct SavedState {
    step: u64,
    elapsed_s: f64,
    train_samples: u64,
    test_samples: u64,
    optimiser_steps: Vec<u64>,
    sums: Vec<(String, u64, u64)>,
    watch: Watch,
    latest: [Option<Metrics>; 3],
    metrics_bytes: u64,
    metrics_digest: String,
    /// Absent in checkpoints of versions that did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<Identity>,
}

/// Names of tensor files in a checkpoint.
const WEIGHTS: &str = "weights";
const AVERAGE: &str = "average";
const OPTIMISER: &str = "optimiser";

/// Content of a `last` checkpoint; `metrics` is the length and digest of the metrics log at this point.
pub fn save_state(
    session: &Session,
    state: &State,
    metrics: (u64, String),
    identity: Option<&Identity>,
) -> Result<CheckpointContent, StorageError> {
    let saved = SavedState {
        step: state.step,
        elapsed_s: state.elapsed_s,
        train_samples: session.train.len() as u64,
        test_samples: session.data.split(Split::Test).len() as u64,
        optimiser_steps: state.optimisers.iter().map(|o| o.step).collect(),
        sums: state.sums.totals().into_iter().map(|(name, sum, weight)| (name, sum.to_bits(), weight.to_bits())).collect(),
        watch: state.watch.clone(),
        latest: state.latest.clone(),
        metrics_bytes: metrics.0,
        metrics_digest: metrics.1,
        identity: identity.cloned(),
    };
    let mut tensors = weights(state);
    let mut kept = BTreeMap::new();
    for (slot, optimiser) in state.optimisers.iter().enumerate() {
        for (path, buffers) in &optimiser.buffers {
            for (order, buffer) in buffers.iter().enumerate() {
                kept.insert(format!("{slot}.{}.{path}", order + 1), in_shape_of(tensors[WEIGHTS].get(path), buffer.to_host()));
            }
        }
    }
    tensors.insert(OPTIMISER.to_owned(), kept);
    let state = serde_json::to_value(&saved).map_err(|e| StorageError::encode(Path::new("state.json"), e.to_string()))?;
    Ok(CheckpointContent { state, tensors })
}

/// Content of a `best` checkpoint: weights and, where kept, their average.
pub fn save_best(state: &State) -> CheckpointContent {
    let watch = serde_json::json!({ "metric": state.watch.metric, "epoch": state.watch.best_epoch, "step": state.watch.best_step });
    CheckpointContent { state: watch, tensors: weights(state) }
}

fn weights(state: &State) -> BTreeMap<String, BTreeMap<String, HostTensor>> {
    // `valid` brings pending running statistics up to date before they are read.
    let weights = parameters::to_host(&state.model.valid());
    let mut tensors = BTreeMap::new();
    if let Some(average) = &state.average {
        // With the shapes and all names of the weights, running statistics too, so that a run can begin with this file as well.
        let averaged = |(path, weight): (&String, &HostTensor)| {
            let value = average.weights.get(path).map_or_else(|| weight.clone(), |buffer| in_shape_of(Some(weight), buffer.to_host()));
            (path.clone(), value)
        };
        tensors.insert(AVERAGE.to_owned(), weights.iter().map(averaged).collect());
    }
    tensors.insert(WEIGHTS.to_owned(), weights);
    tensors
}

/// The values of a flat buffer in the shape of the parameter they belong to.
fn in_shape_of(parameter: Option<&HostTensor>, flat: HostTensor) -> HostTensor {
    match parameter {
        Some(parameter) if parameter.data.len() == flat.data.len() => HostTensor { shape: parameter.shape.clone(), data: flat.data },
        _ => flat,
    }
}

/// Length and digest of the metrics log that a `last` checkpoint belongs to; `None` for other content.
pub fn metrics_mark(content: &CheckpointContent) -> Option<(u64, String)> {
    let bytes = content.state.get("metrics_bytes")?.as_u64()?;
    Some((bytes, content.state.get("metrics_digest")?.as_str()?.to_owned()))
}

/// Puts the newest `last` checkpoint of `run` into `state`; returns the length of the metrics log it belongs to, or `None` when the run
/// has no checkpoint yet. With `skip_damaged`, checkpoints that are not what was written are removed, and the newest sound one is taken.
///
/// # Errors
/// [`EngineError`] when the checkpoint is damaged or belongs to another model.
pub fn restore_last(session: &Session, state: State, run: &RunDir, skip_damaged: bool) -> Result<(State, Option<u64>), EngineError> {
    if skip_damaged {
        drop_damaged(run)?;
    }
    match run.checkpoints().load(Label::Last)? {
        None => Ok((state, None)),
        Some((step, content)) => {
            let misfit = |reason: String| EngineError::Inconsistent { path: run.checkpoints_dir(), reason };
            let saved: SavedState =
                serde_json::from_value(content.state.clone()).map_err(|e| misfit(format!("the checkpoint's state cannot be read: {e}")))?;
            if saved.step != step {
                return Err(misfit(format!("the manifest of the newest checkpoint says step {step}, its state says step {}", saved.step)));
            }
            MetricsLog::check(&run.metrics_path(), saved.metrics_bytes, &saved.metrics_digest)?;
            let samples = (session.train.len() as u64, session.data.split(Split::Test).len() as u64);
            if (saved.train_samples, saved.test_samples) != samples {
                return Err(misfit(format!(
                    "it was taken with {} training and {} test samples, now there are {} and {}: the data folder has changed",
                    saved.train_samples, saved.test_samples, samples.0, samples.1
                )));
            }
            if let Some(identity) = &saved.identity {
                expect_data(session, run.path(), &identity.data, START_OVER)?;
            }
            let mut state = restore_weights(state, &content).map_err(misfit)?;
            if saved.optimiser_steps.len() != state.optimisers.len() {
                return Err(misfit("it has another number of optimisers than the plan".to_owned()));
            }
            let buffers = session.optimiser.rule(1, 0.0).buffers();
            restore_buffers(&mut state, content.tensors.get(OPTIMISER), &saved.optimiser_steps, buffers).map_err(misfit)?;
            let sums: Vec<_> = saved.sums.into_iter().map(|(n, s, w)| (n, f64::from_bits(s), f64::from_bits(w))).collect();
            state.sums = Accumulator::from_totals(&sums, &session.device);
            (state.step, state.elapsed_s, state.watch, state.latest) = (saved.step, saved.elapsed_s, saved.watch, saved.latest);
            Ok((state, Some(saved.metrics_bytes)))
        }
    }
}

/// What to do when a run that goes on finds other data.
pub const START_OVER: &str = "name the folder of the right data with --data-dir, or train a new run on these";

/// Refuses the data of `session` when they are not those `before` that the run in `path` was trained on.
pub fn expect_data(session: &Session, path: &Path, before: &DataIdentity, hint: &'static str) -> Result<(), EngineError> {
    let found = session.loaded.expect(before, &session.config.dataset.to_string());
    found.map_err(|source| EngineError::OtherData { run: path.to_path_buf(), source, hint })
}

/// Removes the `last` checkpoints that are newer than the newest sound one.
fn drop_damaged(run: &RunDir) -> Result<(), EngineError> {
    let store = run.checkpoints();
    let entries: Vec<_> = store.list()?.into_iter().filter(|entry| entry.label == Label::Last).collect();
    let mut damaged = Vec::new();
    for entry in entries.iter().rev() {
        let sound = store.load_own(&entry.path).and_then(|content| match metrics_mark(&content) {
            Some((bytes, digest)) => MetricsLog::check(&run.metrics_path(), bytes, &digest),
            None => Ok(()),
        });
        match sound {
            Ok(()) => break,
            Err(error @ StorageError::Damaged { .. }) => damaged.push((entry, error)),
            // A disk that cannot be read, another version's or another run's checkpoint: that is no reason to remove it.
            Err(error) => return Err(error.into()),
        }
    }
    if !entries.is_empty() && damaged.len() == entries.len() {
        let reason = format!(
            "none of its {} `last` checkpoints is sound, the newest because {}\n  hint: start anew with `ibhost run --config {}`",
            damaged.len(),
            damaged[0].1,
            run.config_path().display()
        );
        return Err(EngineError::Inconsistent { path: run.checkpoints_dir(), reason });
    }
    for (entry, error) in damaged {
        tracing::warn!("the checkpoint of step {} is skipped and removed: {error}", entry.step);
        store.remove(entry)?;
    }
    Ok(())
}

/// `state` with the weights of the newest checkpoint called `label`; for evaluation only. `None` when there is none.
///
/// # Errors
/// [`EngineError`] when the checkpoint is damaged or belongs to another model.
pub fn restore_weights_of(state: State, run: &RunDir, label: Label) -> Result<Option<State>, EngineError> {
    match run.checkpoints().load(label)? {
        None => Ok(None),
        Some((step, content)) => {
            let mut state =
                restore_weights(state, &content).map_err(|reason| EngineError::Inconsistent { path: run.checkpoints_dir(), reason })?;
            state.step = step;
            Ok(Some(state))
        }
    }
}

/// `state` with the weights of one checkpoint of `run`; for evaluation only.
///
/// # Errors
/// [`EngineError`] when the checkpoint is damaged or belongs to another model.
pub fn restore_weights_at(state: State, run: &RunDir, entry: &CheckpointEntry) -> Result<State, EngineError> {
    let content = run.checkpoints().load_own(&entry.path)?;
    let mut state = restore_weights(state, &content).map_err(|reason| EngineError::Inconsistent { path: entry.path.clone(), reason })?;
    state.step = entry.step;
    Ok(state)
}

fn restore_weights(mut state: State, content: &CheckpointContent) -> Result<State, String> {
    let weights = content.tensors.get(WEIGHTS).ok_or("it holds no weights")?;
    state.model = parameters::from_host(state.model, weights, false).map_err(|e| format!("its weights do not fit this model: {e}"))?;
    if let Some(average) = &mut state.average {
        let saved = content.tensors.get(AVERAGE).ok_or("it holds no averaged weights, but the run keeps them")?;
        for (path, buffer) in &mut average.weights {
            let value = saved.get(path).ok_or_else(|| format!("it lacks the average of `{path}`"))?;
            let (like, host) = like(buffer);
            *buffer = Buffer::from_host(value, &like, host).ok_or_else(|| format!("the average of `{path}` has another size"))?;
        }
    }
    Ok(state)
}

/// A tensor of the buffer's length and precision, and whether the buffer is in host memory.
fn like(buffer: &Buffer) -> (Tensor<1>, bool) {
    match buffer {
        Buffer::F32(v) => (Tensor::zeros([v.len()], (&burn::tensor::Device::flex(), burn::tensor::DType::F32)), true),
        Buffer::F64(v) => (Tensor::zeros([v.len()], (&burn::tensor::Device::flex(), burn::tensor::DType::F64)), true),
        Buffer::Device(t) => (t.clone(), false),
    }
}

/// Reads what the rule keeps of every parameter, `buffers` tensors numbered from 1.
fn restore_buffers(state: &mut State, saved: Option<&BTreeMap<String, HostTensor>>, steps: &[u64], buffers: usize) -> Result<(), String> {
    let mut flat = BTreeMap::new();
    parameters::for_each(&state.model, |seen| {
        flat.insert(seen.path.to_owned(), seen.flat);
    });
    for (optimiser, step) in state.optimisers.iter_mut().zip(steps) {
        optimiser.step = *step;
        optimiser.buffers.clear();
    }
    let empty = BTreeMap::new();
    let saved = saved.unwrap_or(&empty);
    for name in saved.keys().filter(|name| name.split('.').nth(1) == Some("1")) {
        let mut parts = name.splitn(3, '.');
        let (Some(slot), Some(_), Some(path)) = (parts.next().and_then(|s| s.parse::<usize>().ok()), parts.next(), parts.next()) else {
            return Err(format!("`{name}` is not the name of an optimiser's buffer"));
        };
        let parameter =
            flat.get(path).ok_or_else(|| format!("it has an optimiser's buffer for `{path}`, which the model does not have"))?;
        let host = is_host(&parameter.device());
        let buffer = |order: usize| {
            let key = format!("{slot}.{order}.{path}");
            saved
                .get(&key)
                .and_then(|value| Buffer::from_host(value, parameter, host))
                .ok_or_else(|| format!("`{key}` is missing or has another size"))
        };
        let kept = (1..=buffers).map(buffer).collect::<Result<Vec<_>, _>>()?;
        let optimiser =
            state.optimisers.get_mut(slot).ok_or_else(|| format!("`{name}` belongs to optimiser {slot}, which the plan lacks"))?;
        optimiser.buffers.insert(path.to_owned(), kept);
    }
    Ok(())
}
