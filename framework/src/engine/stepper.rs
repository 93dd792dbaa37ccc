//! One optimisation step: the due phases of a plan, each with its loss, backward pass and parameter update.

use std::collections::BTreeMap;

use burn::module::Module;

use super::error::EngineError;
use super::session::{Session, State};
use crate::dataset::Batch;
use crate::noise::Draws;
use crate::objective::{Measure, read_measures};
use crate::optimiser::{OptimiserState, ParameterUpdate, Rule};
use crate::parameters;
use crate::plan::{Cadence, Phase};
use crate::schedule::ScheduleContext;

/// Name of the span around a loss.
pub const FORWARD: &str = "forward";
/// Name of the span around its gradients.
pub const BACKWARD: &str = "backward";
/// Name of the span around the parameter update and the moving average.
pub const UPDATE: &str = "update";

/// Takes steps: the next batch, the due phases with their losses, the updates. What it keeps follows from the counters, so that nothing of it is
/// saved.
#[derive(Default)]
pub struct Stepper {
    /// Which optimisers' parameters currently require gradients; empty before the first step.
    moving: Vec<bool>,
    /// Number and order of the current pass over the training samples, by stream of shuffles.
    orders: BTreeMap<String, (u64, Vec<usize>)>,
}

impl Stepper {
    /// The next step of a run, on the batch that the counters of `state` name: the state afterwards, the batch means of the last repetition of
    /// every phase, and the samples of the batch.
    ///
    /// # Errors
    /// As [`Self::step_on`], or the data set cannot make the batch.
    pub fn step(&mut self, session: &Session, state: State) -> Result<(State, Vec<Measure>, usize), EngineError> {
        let (batches, size) = (session.batches_per_epoch(), session.config.training.batch_size);
        let epoch = state.step / batches + 1;
        let order = self.order(session, "data order".to_owned(), epoch);
        let from = (state.step % batches) as usize * size;
        let batch = session.training_batch(&order[from..order.len().min(from + size)], state.step, "main")?;
        let (state, measures) = self.step_on(session, state, epoch, &batch)?;
        Ok((state, measures, batch.len()))
    }

    /// Runs the phases due at the step of `state` in `epoch` (from 1), the first of them on `batch`, repetitions and the others on batches of
    /// their own shuffled streams. Takes and returns the state by value so that the update finds its parameters unshared and can work in place.
    ///
    /// # Errors
    /// [`EngineError::NonFinite`] when a gradient is not finite, and a phase that is held at what its loss does not measure.
    pub fn step_on(
        &mut self,
        session: &Session,
        mut state: State,
        epoch: u64,
        batch: &Batch,
    ) -> Result<(State, Vec<Measure>), EngineError> {
        let (step, slots) = (state.step, &session.plan.optimisers);
        let progress = session.progress(epoch, step);
        let mut logged = Vec::new();
        let mut pending: u64 = session.plan.phases.iter().filter(|p| p.when.is_due(epoch, step)).map(|p| p.repeats).sum();
        let mut taken = false;
        for phase in session.plan.phases.iter().filter(|phase| phase.when.is_due(epoch, step)) {
            for repeat in 0..phase.repeats {
                pending -= 1;
                let extra = taken.then(|| self.phase_batch(session, phase, step, repeat)).transpose()?;
                taken = true;
                let batch = extra.as_ref().unwrap_or(batch);
                let mut draws = Draws::seeded(session.noise, step, &format!("train/{}/{repeat}", phase.name));
                let due = |slot| phase.updates.iter().any(|(s, cadence)| *s == slot && cadence.is_due(epoch, step));
                let moving: Vec<bool> = (0..slots.len()).map(due).collect();
                if self.moving != moving {
                    state.model = parameters::with_gradients_for(state.model, |path| {
                        let slot = slots.iter().position(|slot| slot.contains(path));
                        slot.is_some_and(|slot| moving[slot]) && !session.fixed.contains(path)
                    });
                    self.moving = moving;
                }
                let loss = tracing::trace_span!(FORWARD).in_scope(|| state.model.loss(&phase.name, progress, batch, &mut draws));
                let held = match phase.hold_at {
                    Some((name, limit)) => reached(&phase.name, &loss.measures, name, limit)?,
                    None => false,
                };
                let rules = if held { Vec::new() } else { due_rules(session, &mut state.optimisers, &phase.updates, epoch, step) };
                let needed = rules.iter().any(Option::is_some);
                let gradients = needed.then(|| tracing::trace_span!(BACKWARD).in_scope(|| loss.total.backward()));
                drop(loss.total);
                // The average moves once a step, with the last update.
                let average = if pending == 0 { state.average.as_mut() } else { None };
                let mut update = ParameterUpdate::new(gradients, slots, &mut state.optimisers, rules, average);
                state.model = tracing::trace_span!(UPDATE).in_scope(|| state.model.map(&mut update));
                if let Some(path) = update.non_finite() {
                    return Err(non_finite(step, epoch, &phase.name, format!("the gradient of `{path}`"), &read_measures(loss.measures)));
                }
                let mut measures = loss.measures;
                measures.extend(state.model.after_update(batch, &mut draws));
                if repeat + 1 == phase.repeats {
                    logged.extend(measures);
                }
            }
        }
        state.step += 1;
        Ok((state, logged))
    }

    /// Order of the training samples in a pass over them, the pass number `pass` of the stream of shuffles called `stream`.
    fn order(&mut self, session: &Session, stream: String, pass: u64) -> &[usize] {
        let samples = session.train.len();
        let shuffled = || session.noise.stream(&stream, pass).permutation(samples);
        let (known, order) = self.orders.entry(stream.clone()).or_default();
        if order.len() != samples || *known != pass {
            (*known, *order) = (pass, shuffled());
        }
        order
    }

    /// The next batch of the phase's own stream: every pass over the training samples is shuffled anew and gives whole batches only. Which
    /// batch is next follows from the counters alone.
    fn phase_batch(&mut self, session: &Session, phase: &Phase, step: u64, repeat: u64) -> Result<Batch, EngineError> {
        let samples = session.train.len();
        let size = phase.batch_size.unwrap_or(session.config.training.batch_size).clamp(1, samples);
        let number = phase.when.count_before(step, session.batches_per_epoch()) * phase.repeats + repeat;
        let in_pass = (samples / size) as u64;
        let order = self.order(session, format!("data order/{}", phase.name), number / in_pass);
        let from = (number % in_pass) as usize * size;
        session.training_batch(&order[from..from + size], step, &format!("{}/{repeat}", phase.name))
    }
}

/// Whether the measure `name` of `phase` has reached `limit`.
fn reached(phase: &str, measures: &[Measure], name: &str, limit: f64) -> Result<bool, EngineError> {
    let Some(measure) = measures.iter().find(|measure| measure.name == name) else {
        let measured = measures.iter().map(|measure| format!("`{}`", measure.name)).collect::<Vec<_>>().join(", ");
        return Err(EngineError::Request(format!(
            "phase `{phase}` is held at `{name}`, which its loss does not measure; it measures {measured}\n  \
             hint: `hold_at` names a measure of the phase's own loss"
        )));
    };
    Ok(read_measures(vec![measure.clone()]).iter().any(|(_, value)| *value >= limit))
}

fn due_rules(
    session: &Session,
    states: &mut [OptimiserState],
    updates: &[(usize, Cadence)],
    epoch: u64,
    step: u64,
) -> Vec<Option<Box<dyn Rule>>> {
    let mut rules: Vec<Option<Box<dyn Rule>>> = session.plan.optimisers.iter().map(|_| None).collect();
    for (slot, cadence) in updates {
        if cadence.is_due(epoch, step) {
            let rate = rate_of(session, *slot, states[*slot].step);
            states[*slot].step += 1;
            rules[*slot] = Some(session.optimiser.rule(states[*slot].step, rate));
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

pub(super) fn non_finite(step: u64, epoch: u64, phase: &str, what: String, means: &[(String, f64)]) -> EngineError {
    let terms = means.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", ").into();
    let term = means.iter().find(|(_, value)| !value.is_finite()).map(|(name, _)| name.as_str().into());
    EngineError::NonFinite { step, epoch, phase: phase.into(), what: what.into(), term, terms, kept: "".into() }
}
