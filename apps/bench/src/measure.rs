//! Steps a workload as the training loop does and times it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use ibhost_framework::capability::{Classify, LogDensity};
use ibhost_framework::dataset::{DataRoot, Split};
use ibhost_framework::engine::{EngineError, Session, State, Stepper as Steps, evaluate};
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::Progress;
use ibhost_framework::run::RunConfig;

use crate::workload::Evaluation;

/// A workload in the middle of its training.
pub struct Stepper {
    session: Session,
    state: Option<State>,
    order: Vec<usize>,
    at: usize,
    epoch: u64,
    steps: Steps,
}

impl Stepper {
    /// Builds the model.
    ///
    /// # Errors
    /// [`EngineError`] when a part does not work.
    pub fn new(config: RunConfig) -> Result<Self, EngineError> {
        let (session, state) = Session::open(config, &DataRoot(PathBuf::new()))?;
        Ok(Self { session, state: Some(state), order: Vec::new(), at: 0, epoch: 0, steps: Steps::default() })
    }

    /// Trainable numbers of the model.
    pub fn parameters(&self) -> u64 {
        self.state.as_ref().map_or(0, Session::parameter_count)
    }

    /// One step on the next batch of a shuffled pass; a remainder that fills no batch is left out. Nothing is read from the device.
    ///
    /// # Errors
    /// [`EngineError`] when a gradient is not finite.
    pub fn step(&mut self) -> Result<(), EngineError> {
        let Some(state) = self.state.take() else { return Ok(()) };
        let size = self.session.config.training.batch_size;
        if self.epoch == 0 || self.at + size > self.order.len() {
            self.epoch += 1;
            (self.order, self.at) = (self.session.noise.stream("data order", self.epoch).permutation(self.session.train.len()), 0);
        }
        let batch = self.session.training_batch(&self.order[self.at..self.at + size], state.step, "main")?;
        self.at += size;
        let (mut state, measures) = self.steps.step_on(&self.session, state, self.epoch, &batch)?;
        state.sums.add(measures, size);
        self.state = Some(state);
        Ok(())
    }

    /// Milliseconds a step over `steps` steps; one scalar is read at the end.
    ///
    /// # Errors
    /// [`EngineError`] of a step.
    pub fn time_steps(&mut self, steps: usize) -> Result<f64, EngineError> {
        let begin = Instant::now();
        for _ in 0..steps {
            self.step()?;
        }
        self.last_value();
        Ok(1e3 * begin.elapsed().as_secs_f64() / steps.max(1) as f64)
    }

    /// Mean loss since the last call.
    pub fn last_value(&mut self) -> f64 {
        let Some(state) = self.state.as_mut() else { return f64::NAN };
        let means = state.sums.means();
        state.sums.clear();
        means.iter().find(|(name, _)| name == "loss").map_or(f64::NAN, |(_, value)| *value)
    }

    /// Samples a second through the test-time path, over at least `seconds`.
    pub fn evaluation_rate(&self, seconds: f64, evaluation: Evaluation) -> f64 {
        let Some(state) = &self.state else { return f64::NAN };
        let model = Session::evaluation_model(state, false);
        let size = self.session.config.training.evaluation_batch;
        let test = self.session.data.split(Split::Test);
        let pass: Vec<usize> = (0..size.min(test.len())).collect();
        let Ok(batch) = test.select(&pass) else { return f64::NAN };
        let measures = || drop(evaluate(&*model, &batch, size, &self.session.device, self.session.noise, Progress::at(1, 0)));
        let run = || {
            let inputs = || batch.batch(&pass, &self.session.device).inputs;
            let draws = &mut Draws::seeded(self.session.noise, 1, "evaluate");
            // Reading a number waits for the device.
            match (evaluation, model.capability::<Classify>(), model.capability::<LogDensity>()) {
                (Evaluation::Scores, Some(model), _) => drop(model.logits(inputs(), draws).sum().into_data()),
                (Evaluation::Vote(codes), Some(model), _) => drop(model.class_log_probabilities(inputs(), codes, draws).sum().into_data()),
                (Evaluation::Bound, _, Some(model)) => drop(model.log_evidence(inputs(), 1, draws).map(|bound| bound.sum().into_data())),
                _ => measures(),
            }
        };
        // Twice, as the peer does: memory that the first one takes for itself is what the second one finds.
        run();
        run();
        let (begin, mut samples) = (Instant::now(), 0);
        while begin.elapsed().as_secs_f64() < seconds || samples == 0 {
            run();
            samples += batch.len();
        }
        samples as f64 / begin.elapsed().as_secs_f64()
    }
}

/// Smallest, middle and largest of some numbers.
pub fn spread(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let middle = if n % 2 == 1 { sorted[n / 2] } else { f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]) };
    [sorted[0], middle, sorted[n - 1]]
}

/// Milliseconds a step by phase; what no phase covers is `other`.
pub fn per_step(seconds: &BTreeMap<&'static str, f64>, milliseconds: f64, steps: usize) -> BTreeMap<String, f64> {
    let mut phases: BTreeMap<String, f64> = seconds.iter().map(|(name, s)| ((*name).to_owned(), 1e3 * s / steps.max(1) as f64)).collect();
    let covered: f64 = phases.values().sum();
    phases.insert("other".to_owned(), milliseconds - covered);
    phases
}

/// Peak resident memory of this process in megabytes, where the system tells.
pub fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_and_phases_add_up() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), [1.0, 2.0, 3.0]);
        assert_eq!(spread(&[4.0, 1.0]), [1.0, 2.5, 4.0]);
        let phases = per_step(&BTreeMap::from([("forward", 0.02), ("backward", 0.05)]), 10.0, 10);
        assert!((phases["forward"] - 2.0).abs() < 1e-9 && (phases["other"] - 3.0).abs() < 1e-9, "{phases:?}");
    }
}
