//! What tests of update rules share, for plug-in crates as for these.

use burn::tensor::{Device, Tensor, TensorData};

use super::rule::PARALLEL_FROM;
use super::{HostParameter, OptimiserConfig, Rule};

/// Buffers of zeros for a parameter of `n` elements.
pub fn buffers<T: num_traits::Float>(rule: &dyn Rule, n: usize) -> Vec<Vec<T>> {
    vec![vec![T::zero(); n]; rule.buffers()]
}

/// One update of a vector in double precision; whether the gradient was finite.
pub fn update(rule: &dyn Rule, values: &mut [f64], gradient: &[f64], buffers: &mut [Vec<f64>]) -> bool {
    let shape = [values.len()];
    let buffers = buffers.iter_mut().map(Vec::as_mut_slice).collect();
    rule.update_f64(&mut HostParameter { shape: &shape, values, gradient, buffers, average: None })
}

/// Where `config` takes a vector that starts at `start` and has the same gradient on each of `steps` updates, at learning rate `rate`.
pub fn descend(config: &dyn OptimiserConfig, rate: f64, start: &[f64], gradient: &[f64], steps: u64) -> Vec<f64> {
    let mut values = start.to_vec();
    let mut kept = buffers(&*config.rule(1, rate), start.len());
    for step in 1..=steps {
        update(&*config.rule(step, rate), &mut values, gradient, &mut kept);
    }
    values
}

/// Checks that the rule of `config` in host memory equals its tensor formula, for parameters below and above the size that is split over threads,
/// that a gradient which is not finite is reported wherever it sits, and that the average follows.
///
/// # Panics
/// When it does not.
pub fn check(config: &dyn OptimiserConfig) {
    let device = Device::flex();
    let tensor = |v: &[f32]| Tensor::<1>::from_data(TensorData::new(v.to_vec(), [v.len()]), &device);
    for n in [1, 7, PARALLEL_FROM + 13] {
        let shape = [n];
        let mut values: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin()).collect();
        let (mut average, mut expected_average) = (values.clone(), values.clone());
        let mut kept: Vec<Vec<f32>> = buffers(&*config.rule(1, 1e-2), n);
        let (mut p, mut state) = (tensor(&values), kept.iter().map(|buffer| tensor(buffer)).collect::<Vec<_>>());
        for step in 1..=3 {
            let gradient: Vec<f32> = (0..n).map(|i| (i as f32 * 1.7 + step as f32).cos()).collect();
            let rule = config.rule(step, 1e-2);
            let buffers = kept.iter_mut().map(Vec::as_mut_slice).collect();
            let mut parameter =
                HostParameter { shape: &shape, values: &mut values, gradient: &gradient, buffers, average: Some((&mut average, 0.9)) };
            assert!(rule.update_f32(&mut parameter), "{config:?}: the gradient is finite");
            if let Some((average, decay)) = parameter.average.take() {
                super::average::average_into(average, parameter.values, decay);
            }
            p = rule.update_tensors(p, tensor(&gradient), &shape, &mut state);
            let now: Vec<f32> = p.to_data().iter::<f32>().collect();
            expected_average.iter_mut().zip(&now).for_each(|(a, p)| *a = 0.9 * *a + 0.1 * p);
        }
        let expected: Vec<f32> = p.into_data().iter::<f32>().collect();
        let worst = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst(&values, &expected) < 2e-6, "{config:?}, {n} elements: {}", worst(&values, &expected));
        assert!(worst(&average, &expected_average) < 2e-6, "{config:?}, {n} elements, average: {}", worst(&average, &expected_average));
        for bad in [0, n / 2, n - 1] {
            let mut gradient = vec![0.1; n];
            gradient[bad] = f64::NAN;
            let rule = config.rule(1, 0.1);
            assert!(!update(&*rule, &mut vec![0.5; n], &gradient, &mut buffers(&*rule, n)), "{config:?}: element {bad} of {n}");
        }
    }
}
