//! Means of an objective's quantities over a split, without autodiff.

use burn::tensor::Device;

use super::accumulate::Accumulator;
use crate::dataset::Samples;
use crate::noise::{Draws, Noise};
use crate::objective::{Objective, Progress};

/// Means of every quantity of `model` over `samples`, in batches of `batch_size`. `at` is where training
/// stands; the noise depends on its epoch and the batch alone.
pub fn evaluate(
    model: &dyn Objective,
    samples: &Samples,
    batch_size: usize,
    device: &Device,
    noise: Noise,
    at: Progress,
) -> Vec<(String, f64)> {
    let mut sums = Accumulator::new();
    let indices: Vec<usize> = (0..samples.len()).collect();
    for (number, chunk) in indices.chunks(batch_size.max(1)).enumerate() {
        let batch = samples.batch(chunk, device);
        let mut draws = Draws::seeded(noise, at.epoch, &format!("evaluate/{number}"));
        sums.add(model.evaluate(at, &batch, &mut draws), chunk.len());
    }
    sums.means()
}
