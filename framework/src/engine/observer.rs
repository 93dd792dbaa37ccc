//! What the engine tells whoever watches a run.

use crate::storage::Row;

/// Where training stands.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Steps done.
    pub step: u64,
    /// Steps planned.
    pub total_steps: u64,
    /// Epoch, from 1.
    pub epoch: u64,
    /// Epochs planned.
    pub epochs: u64,
    /// Samples in the step.
    pub samples: usize,
}

/// What an epoch ended with.
#[derive(Clone, Debug)]
pub struct EpochReport {
    /// Epoch, from 1.
    pub epoch: u64,
    /// Epochs planned.
    pub epochs: u64,
    /// Rows as logged: train, then test and averaged test where evaluated.
    pub rows: Vec<Row>,
    /// Seconds the epoch took, evaluation included.
    pub seconds: f64,
}

/// Receives reports; every method may be left out.
pub trait Observer {
    /// After every step. `means` reads the running means of the epoch from the device: call it only when the values are shown.
    fn step(&mut self, _report: &StepReport, _means: &mut dyn FnMut() -> Vec<(String, f64)>) {}
    /// After every epoch.
    fn epoch(&mut self, _report: &EpochReport) {}
    /// When a checkpoint was written.
    fn checkpoint(&mut self, _step: u64) {}
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Observer for Quiet {}
