//! One optimisation step: the due phases of a plan, each with its loss, backward pass and parameter update.

use burn::module::Module;

use super::error::EngineError;
use super::session::Session;
use crate::dataset::Batch;
use crate::noise::Draws;
use crate::objective::{BoxedObjective, Measure, Progress, read_measures};
use crate::optimiser::{ParameterUpdate, Rule};
use crate::parameters;
use crate::schedule::ScheduleContext;
use crate::strategy::Cadence;

/// Runs the phases due at `step` of `epoch` (from 1) on `batch` and on further random batches for repeated phases.
///
/// Returns the model and the batch means of the first phase. Takes and returns the model by value so that the update finds its
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
    for (index, phase) in session.plan.phases.iter().enumerate() {
        if !phase.when.is_due(epoch, step) {
            continue;
        }
        for repeat in 0..phase.repeats {
            pending -= 1;
            let rules = due_rules(session, state, phase.updates.as_slice(), epoch, step);
            let extra = if index == 0 && repeat == 0 { None } else { Some(random_batch(session, &phase.name, step, repeat)) };
            let batch = extra.as_ref().unwrap_or(batch);
            let mut draws = Draws::seeded(session.noise, step, &format!("train/{}/{repeat}", phase.name));
            let moving: Vec<bool> = rules.iter().map(Option::is_some).collect();
            if *state.moving != moving {
                let slots = &session.plan.optimisers;
                model = parameters::with_gradients_for(model, |path| {
                    slots.iter().position(|slot| slot.contains(path)).is_some_and(|slot| moving[slot])
                });
                *state.moving = moving;
            }
            let loss = model.loss_at(&phase.name, Progress { epoch, step }, batch, &mut draws);
            let gradients = rules.iter().any(Option::is_some).then(|| loss.total.backward());
            drop(loss.total);
            // The average moves once a step, with the last update.
            let average = if pending == 0 { state.average.as_deref_mut() } else { None };
            let mut update = ParameterUpdate::new(gradients, &session.plan.optimisers, state.optimisers, rules, average);
            model = model.map(&mut update);
            if let Some(path) = update.non_finite() {
                return Err(non_finite(step, epoch, &phase.name, format!("the gradient of `{path}`"), &read_measures(loss.measures)));
            }
            let mut measures = loss.measures;
            measures.extend(model.after_update(batch, &mut draws));
            if index == 0 && repeat == 0 {
                logged = measures;
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
}

fn due_rules(session: &Session, state: &mut StepState<'_>, updates: &[(usize, Cadence)], epoch: u64, step: u64) -> Vec<Option<Rule>> {
    let mut rules = vec![None; session.plan.optimisers.len()];
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
    let total = session.total_steps();
    let share = |cadence: Cadence| match cadence {
        Cadence::Always => total,
        Cadence::EpochsDivisibleBy(n) => total / n.max(1),
        Cadence::Cycle { period, from, to } => (total * to.saturating_sub(from)) / period.max(1),
    };
    let phases = session.plan.phases.iter();
    phases.flat_map(|p| p.updates.iter().filter(|(s, _)| *s == slot).map(|(_, cadence)| share(*cadence) * p.repeats)).sum()
}

fn random_batch(session: &Session, phase: &str, step: u64, repeat: u64) -> Batch {
    let mut stream = session.noise.stream(&format!("batch/{phase}/{repeat}"), step);
    let size = session.config.training.batch_size.min(session.train.len());
    let indices: Vec<usize> = (0..size).map(|_| stream.below(session.train.len())).collect();
    session.training_batch(&indices, step, &format!("{phase}/{repeat}"))
}

pub(super) fn non_finite(step: u64, epoch: u64, phase: &str, what: String, means: &[(String, f64)]) -> EngineError {
    let terms = means.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", ");
    EngineError::NonFinite { step, epoch, phase: phase.to_owned(), what, terms, kept: String::new() }
}
