//! Scaling of inputs, fitted on the training records alone.

use ibhost_framework::dataset::Scaling;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::arrays::Buffer;

/// How raw values become model inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileScale {
    /// `symmetric` for pictures, `standard` for vectors.
    #[default]
    Auto,
    /// As they are.
    None,
    /// 0 to 1: from the levels of pictures, else from the smallest and largest training value.
    Unit,
    /// -1 to 1, from the same.
    Symmetric,
    /// Mean 0 and standard deviation 1 of the training records.
    Standard,
}

/// The scaling of values that are pictures of `channels` channels or vectors, fitted on the records `train`. Pictures are scaled by channel;
/// vectors by feature, in place, so that the scaling returned for them changes nothing more. A feature that is constant is only shifted.
pub fn fit(buffer: &mut Buffer, shape: [usize; 3], levels: Option<f32>, train: &[usize], scale: FileScale) -> Scaling {
    let [channels, height, width] = shape;
    let vector = height == 1 && channels == 1;
    let scale = match scale {
        FileScale::Auto if vector => FileScale::Standard,
        FileScale::Auto => FileScale::Symmetric,
        other => other,
    };
    if vector && matches!(buffer, Buffer::U8(_)) {
        let Buffer::U8(bytes) = buffer else { return Scaling::uniform(1, 1.0, 0.0) };
        *buffer = Buffer::F32(bytes.iter().map(|&value| f32::from(value)).collect());
    }
    let (features, length) = if vector { (width, 1) } else { (channels, height * width) };
    let maps: Vec<(f32, f32)> =
        (0..features).map(|feature| map(buffer, features * length, feature * length, length, levels, train, scale)).collect();
    if !vector {
        return Scaling { gain: maps.iter().map(|map| map.0).collect(), offset: maps.iter().map(|map| map.1).collect() };
    }
    if let Buffer::F32(values) = buffer {
        for row in values.chunks_exact_mut(features) {
            row.iter_mut().zip(&maps).for_each(|(value, (gain, offset))| *value = value.mul_add(*gain, *offset));
        }
    }
    Scaling::uniform(1, 1.0, 0.0)
}

/// Gain and offset of the values at `start..start + length` of each record of `size` values.
fn map(buffer: &Buffer, size: usize, start: usize, length: usize, levels: Option<f32>, train: &[usize], scale: FileScale) -> (f32, f32) {
    let at = |index: usize| match buffer {
        Buffer::U8(values) => f64::from(values[index]),
        Buffer::F32(values) => f64::from(values[index]),
        Buffer::F64(_) | Buffer::Words(_) => 0.0,
    };
    let values = || train.iter().flat_map(|&record| record * size + start..record * size + start + length).map(at);
    let count = (train.len() * length).max(1) as f64;
    let range = || match levels {
        Some(levels) => (0.0, f64::from(levels)),
        None => values().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value))),
    };
    // A constant is not divided by its range of 0.
    let divisor = |spread: f64| if spread > 0.0 && spread.is_finite() { spread } else { 1.0 };
    let (shift, spread, below) = match scale {
        FileScale::None | FileScale::Auto => return (1.0, 0.0),
        FileScale::Standard => {
            let mean = values().sum::<f64>() / count;
            (mean, divisor((values().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt()), 0.0)
        }
        FileScale::Unit => (range().0, divisor(range().1 - range().0), 0.0),
        FileScale::Symmetric => (range().0, divisor(range().1 - range().0) / 2.0, 1.0),
    };
    (spread.recip() as f32, (-shift / spread - below) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(buffer: &Buffer, scaling: &Scaling) -> Vec<f32> {
        match buffer {
            Buffer::F32(values) => values.iter().map(|value| value * scaling.gain[0] + scaling.offset[0]).collect(),
            Buffer::U8(values) => values.iter().map(|&value| f32::from(value) * scaling.gain[0] + scaling.offset[0]).collect(),
            _ => Vec::new(),
        }
    }

    fn close(found: &[f32], expected: &[f32]) {
        assert!(found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {expected:?}");
    }

    #[test]
    fn features_are_scaled_by_what_the_training_records_have() {
        // Feature 0 has mean 2 and deviation 1 in training, feature 1 is constant; the third record is tested on.
        let mut buffer = Buffer::F32(vec![1.0, 5.0, 3.0, 5.0, 10.0, 6.0]);
        let scaling = fit(&mut buffer, [1, 1, 2], None, &[0, 1], FileScale::Auto);
        close(&scaled(&buffer, &scaling), &[-1.0, 0.0, 1.0, 0.0, 8.0, 1.0]);
        let mut buffer = Buffer::U8(vec![0, 10, 20]);
        let scaling = fit(&mut buffer, [1, 1, 1], None, &[0, 2], FileScale::Symmetric);
        close(&scaled(&buffer, &scaling), &[-1.0, 0.0, 1.0]);
    }

    #[test]
    fn pictures_are_scaled_by_their_levels_and_stay_bytes() {
        let mut buffer = Buffer::U8(vec![0, 255, 51, 102]);
        let scaling = fit(&mut buffer, [1, 2, 2], Some(255.0), &[0], FileScale::Unit);
        let found = scaled(&buffer, &scaling);
        assert!(matches!(buffer, Buffer::U8(_)) && found.iter().zip([0.0, 1.0, 0.2, 0.4]).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        let scaling = fit(&mut buffer, [1, 2, 2], Some(255.0), &[0], FileScale::Auto);
        assert!((scaled(&buffer, &scaling)[2] + 0.6).abs() < 1e-6);
        assert_eq!(fit(&mut buffer, [1, 2, 2], Some(255.0), &[0], FileScale::None), Scaling::uniform(1, 1.0, 0.0));
        let standard = fit(&mut buffer, [1, 2, 2], Some(255.0), &[0], FileScale::Standard);
        let mean: f32 = scaled(&buffer, &standard).iter().sum::<f32>() / 4.0;
        assert!(mean.abs() < 1e-6, "{mean}");
    }
}
