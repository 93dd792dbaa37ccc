//! One optimisation step: the due phases of a plan, each with its loss, backward pass and parameter update.

use std::collections::BTreeMap;

use burn::module::Module;

use super::error::EngineError;
use super::session::Session;
use crate::dataset::Batch;
use crate::noise::Draws;
use crate::objective::{BoxedObjective, Measure, Progress, read_measures};
use crate::optimiser::{ParameterUpdate, Rule};
use crate::parameters;
use crate::plan::{Cadence, Phase};
use crate::schedule::ScheduleContext;

/// Name of the span around a loss.
pub const FORWARD: &str = "forward";
/// Name of the span around its gradients.
pub const BACKWARD: &str = "backward";
/// Name of the span around the parameter update and the moving average.
pub const UPDATE: &str = "update";

/// Runs the phases due at `step` of `epoch` (from 1), the first of them on `batch`, repetitions and the others on batches of their own
/// shuffled streams.
///
/// Returns the model and the batch means of the last repetition of every phase. Takes and returns the model by value so that the update finds its
/// parameters unshared and can work in place.
///
/// # Errors
/// [`EngineError::NonFinite`] when a gradient is not finite.
pub fn training_step(
    session: &Session,
    mut model: BoxedObjective,
    state: &mut StepState<'_>,
    epoch: u64,
    step: u64,
    batch: &Batch,
) -> Result<(BoxedObjective, Vec<Measure>), EngineError> {
    let mut logged = Vec::new();
    let mut pending: u64 = session.plan.phases.iter().filter(|p| p.when.is_due(epoch, step)).map(|p| p.repeats).sum();
    let mut taken = false;
    for phase in &session.plan.phases {
        if !phase.when.is_due(epoch, step) {
            continue;
        }
        for repeat in 0..phase.repeats {
            pending -= 1;
            let extra = taken.then(|| phase_batch(session, state.orders, phase, step, repeat)).transpose()?;
            taken = true;
            let batch = extra.as_ref().unwrap_or(batch);
            let mut draws = Draws::seeded(session.noise, step, &format!("train/{}/{repeat}", phase.name));
            let due = |slot| phase.updates.iter().any(|(s, cadence)| *s == slot && cadence.is_due(epoch, step));
            let moving: Vec<bool> = (0..session.plan.optimisers.len()).map(due).collect();
            if *state.moving != moving {
                let slots = &session.plan.optimisers;
                model = parameters::with_gradients_for(model, |path| {
                    let slot = slots.iter().position(|slot| slot.contains(path));
                    slot.is_some_and(|slot| moving[slot]) && !session.fixed.contains(path)
                });
                state.moving.clone_from(&moving);
            }
            let progress = Progress { epoch, step, steps_per_epoch: session.batches_per_epoch(), epochs: session.config.training.epochs };
            let loss = tracing::trace_span!(FORWARD).in_scope(|| model.loss_at(&phase.name, progress, batch, &mut draws));
            let held = phase.hold_at.is_some_and(|(name, limit)| reached(&loss.measures, name, limit));
            let rules = if held { Vec::new() } else { due_rules(session, state, &phase.updates, epoch, step) };
            let needed = rules.iter().any(Option::is_some);
            let gradients = needed.then(|| tracing::trace_span!(BACKWARD).in_scope(|| loss.total.backward()));
            drop(loss.total);
            // The average moves once a step, with the last update.
            let average = if pending == 0 { state.average.as_deref_mut() } else { None };
            let mut update = ParameterUpdate::new(gradients, &session.plan.optimisers, state.optimisers, rules, average);
            model = tracing::trace_span!(UPDATE).in_scope(|| model.map(&mut update));
            if let Some(path) = update.non_finite() {
                return Err(non_finite(step, epoch, &phase.name, format!("the gradient of `{path}`"), &read_measures(loss.measures)));
            }
            let mut measures = loss.measures;
            measures.extend(model.after_update(batch, &mut draws));
            if repeat + 1 == phase.repeats {
                logged.extend(measures);
            }
        }
    }
    Ok((model, logged))
}

/// The parts of a run's state a step changes besides the model.
pub struct StepState<'a> {
    /// One per optimiser of the plan.
    pub optimisers: &'a mut [crate::optimiser::OptimiserState],
    /// Moving average of the weights.
    pub average: Option<&'a mut crate::optimiser::WeightAverage>,
    /// Which optimisers' parameters currently require gradients; empty before the first step.
    pub moving: &'a mut Vec<bool>,
    /// Current order of the training samples in the stream of each phase; starts empty.
    pub orders: &'a mut Orders,
}

/// Pass number and order of the samples in that pass, by phase.
pub type Orders = BTreeMap<String, (u64, Vec<usize>)>;

/// Whether the measure `name` is there and at least `limit`.
fn reached(measures: &[Measure], name: &str, limit: f64) -> bool {
    let measure = measures.iter().find(|m| m.name == name).cloned();
    measure.is_some_and(|measure| read_measures(vec![measure]).iter().any(|(_, value)| *value >= limit))
}

fn due_rules(
    session: &Session,
    state: &mut StepState<'_>,
    updates: &[(usize, Cadence)],
    epoch: u64,
    step: u64,
) -> Vec<Option<Box<dyn Rule>>> {
    let mut rules: Vec<Option<Box<dyn Rule>>> = session.plan.optimisers.iter().map(|_| None).collect();
    for (slot, cadence) in updates {
        if cadence.is_due(epoch, step) {
            let rate = rate_of(session, *slot, state.optimisers[*slot].step);
            state.optimisers[*slot].step += 1;
            rules[*slot] = Some(session.optimiser.rule(state.optimisers[*slot].step, rate));
        }
    }
    rules
}

/// Learning rate of optimiser `slot` after `step` of its own updates.
pub(super) fn rate_of(session: &Session, slot: usize, step: u64) -> f64 {
    let batch_size = session.config.training.batch_size;
    session.schedule.rate(&ScheduleContext {
        base: session.config.training.lr,
        step,
        steps_per_epoch: ((session.train.len() / batch_size) as u64).max(1),
        updates: planned_updates(session, slot),
        step_factor: session.plan.optimisers[slot].step_factor,
    })
}

/// Updates optimiser `slot` will have made at the end of the run.
fn planned_updates(session: &Session, slot: usize) -> u64 {
    let (total, batches) = (session.total_steps(), session.batches_per_epoch());
    let share = |cadence: Cadence| cadence.count_before(total, batches);
    let phases = session.plan.phases.iter();
    phases.flat_map(|p| p.updates.iter().filter(|(s, _)| *s == slot).map(|(_, cadence)| share(*cadence) * p.repeats)).sum()
}

/// The next batch of the phase's own stream: every pass over the training samples is shuffled anew and gives whole batches only. Which
/// batch is next follows from the counters alone.
fn phase_batch(session: &Session, orders: &mut Orders, phase: &Phase, step: u64, repeat: u64) -> Result<Batch, EngineError> {
    let samples = session.train.len();
    let size = phase.batch_size.unwrap_or(session.config.training.batch_size).clamp(1, samples);
    let number = phase.when.count_before(step, session.batches_per_epoch()) * phase.repeats + repeat;
    let in_pass = (samples / size) as u64;
    let pass = number / in_pass;
    let (known, order) = orders.entry(phase.name.clone()).or_default();
    if order.len() != samples || *known != pass {
        *order = session.noise.stream(&format!("data order/{}", phase.name), pass).permutation(samples);
        *known = pass;
    }
    let from = (number % in_pass) as usize * size;
    session.training_batch(&order[from..from + size], step, &format!("{}/{repeat}", phase.name))
}

pub(super) fn non_finite(step: u64, epoch: u64, phase: &str, what: String, means: &[(String, f64)]) -> EngineError {
    let terms = means.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", ").into();
    let term = means.iter().find(|(_, value)| !value.is_finite()).map(|(name, _)| name.as_str().into());
    EngineError::NonFinite { step, epoch, phase: phase.into(), what: what.into(), term, terms, kept: "".into() }
}
