//! Exponential moving average of the weights.

use std::collections::BTreeMap;

use burn::tensor::{DType, Tensor};
use ibhost_kernels::vectorised;
use num_traits::Float;
use rayon::prelude::*;

use super::Buffer;
use super::rule::{PARALLEL_FROM, real};

/// Exponential moving average of the weights: a = decay a + (1 - decay) p after every step, starting from the initial weights.
#[derive(Clone, Debug)]
pub struct WeightAverage {
    /// Share of the old average kept each step.
    pub decay: f64,
    /// Average by parameter path.
    pub weights: BTreeMap<String, Buffer>,
}

/// Folds `parameter` into `buffer` and gives it back.
pub(super) fn apply_average(parameter: Tensor<1>, buffer: &mut Buffer, decay: f64) -> Tensor<1> {
    let device = parameter.device();
    match buffer {
        Buffer::Device(a) => {
            *a = a.clone().mul_scalar(decay) + parameter.clone().mul_scalar(1.0 - decay);
            parameter
        }
        Buffer::F32(a) => {
            let data = parameter.into_data();
            if let Ok(p) = data.as_slice::<f32>() {
                average_into(a, p, decay);
            }
            Tensor::from_data(data, (&device, DType::F32))
        }
        Buffer::F64(a) => {
            let data = parameter.into_data();
            if let Ok(p) = data.as_slice::<f64>() {
                average_into(a, p, decay);
            }
            Tensor::from_data(data, (&device, DType::F64))
        }
    }
}

/// a = decay a + (1 - decay) p.
pub(super) fn average_into<T: Float + Send + Sync>(a: &mut [T], p: &[T], decay: f64) {
    let chunk = PARALLEL_FROM / 4;
    if a.len() < PARALLEL_FROM {
        vectorised!(|| average_chunk(a, p, decay));
    } else {
        a.par_chunks_mut(chunk).zip(p.par_chunks(chunk)).for_each(|(a, p)| vectorised!(|| average_chunk(a, p, decay)));
    }
}

#[allow(clippy::inline_always)] // Only what is inlined is compiled for wide vectors.
#[inline(always)]
pub(super) fn average_chunk<T: Float>(a: &mut [T], p: &[T], decay: f64) {
    let (keep, take): (T, T) = (real(decay), real(1.0 - decay));
    for (a, &p) in a.iter_mut().zip(p) {
        *a = keep * *a + take * p;
    }
}
