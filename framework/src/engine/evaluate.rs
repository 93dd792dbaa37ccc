//! Means of an objective's quantities over a split, without autodiff.

use burn::tensor::Device;

use super::accumulate::Accumulator;
use crate::dataset::Samples;
use crate::noise::{Draws, Noise};
use crate::objective::Objective;

/// Means of every quantity of `model` over `samples`, in batches of `batch_size`. The noise depends on `epoch` and the batch alone.
pub fn evaluate(
    model: &dyn Objective,
    samples: &Samples,
    batch_size: usize,
    device: &Device,
    noise: Noise,
    epoch: u64,
) -> Vec<(String, f64)> {
    let mut sums = Accumulator::new();
    let indices: Vec<usize> = (0..samples.len()).collect();
    for (number, chunk) in indices.chunks(batch_size.max(1)).enumerate() {
        let batch = samples.batch(chunk, device);
        let mut draws = Draws::seeded(noise, epoch, &format!("evaluate/{number}"));
        sums.add(model.evaluate(&batch, &mut draws), chunk.len());
    }
    sums.means()
}
