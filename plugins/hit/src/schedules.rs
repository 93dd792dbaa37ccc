//! What changes while a model trains: the weight of the rates and the temperature of Gumbel-softmax codes.

use ibhost_framework::objective::Progress;

/// Temperature Gumbel-softmax codes start at, and what it falls to.
const FIRST_TEMPERATURE: f64 = 1.0;
const LAST_TEMPERATURE: f64 = 0.4;
/// Decay of the temperature per epoch.
const TEMPERATURE_DECAY: f64 = 0.007;

/// Epoch, from 0, of the step before this one; values are worked out after a step and used from the next step on, as in the original.
fn epoch_of_last_step(progress: Progress) -> Option<u64> {
    progress.epoch_before().checked_sub(1)
}

/// Weight of the rates with a warm-up of `epochs` epochs: 0 at the first step, then e/epochs with e the epoch of the step before, from 0, and
/// at most 1.
pub fn warm_up(progress: Progress, epochs: u64) -> f64 {
    match epoch_of_last_step(progress) {
        None => 0.0,
        Some(epoch) if epoch < epochs => epoch as f64 / epochs as f64,
        Some(_) => 1.0,
    }
}

/// Epochs of warm-up a ladder has unless told otherwise: a fifth of the run, rounded down.
pub fn ladder_warm_up(progress: Progress) -> u64 {
    progress.epochs / 5
}

/// Temperature of Gumbel-softmax codes in training: 1 at the first step, then max(exp(-0.007 e), 0.4) with e the epoch of the step before,
/// from 0.
pub fn temperature(progress: Progress) -> f64 {
    epoch_of_last_step(progress).map_or(FIRST_TEMPERATURE, |epoch| (-TEMPERATURE_DECAY * epoch as f64).exp().max(LAST_TEMPERATURE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: u64, steps_per_epoch: u64, epochs: u64) -> Progress {
        Progress { epoch: step / steps_per_epoch + 1, step, steps_per_epoch, epochs }
    }

    #[test]
    fn the_first_step_of_an_epoch_still_has_the_value_of_the_one_before() {
        let found: Vec<f64> = (0..8).map(|step| warm_up(at(step, 2, 10), ladder_warm_up(at(step, 2, 10)))).collect();
        assert_eq!(found, [0.0, 0.0, 0.0, 0.5, 0.5, 1.0, 1.0, 1.0]);
        assert_eq!([0, 1].map(|step| warm_up(at(step, 5, 10), 0)), [0.0, 1.0]);
    }

    #[test]
    fn the_temperature_falls_to_its_floor() {
        assert_eq!([0, 1].map(|step| temperature(at(step, 1, 200))), [1.0, 1.0]);
        assert!((temperature(at(11, 1, 200)) - (-0.07f64).exp()).abs() < 1e-12);
        assert_eq!(temperature(at(132, 1, 200)), 0.4);
    }
}
