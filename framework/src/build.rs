//! What a component needs to be built: device, seed of the initial parameters, and the initialisers of the field.

use std::cell::Cell;

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};

use crate::dataset::{KnownDensity, Samples};
use crate::noise::{Noise, Stream};

/// How fresh weights are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initial {
    /// Uniform on ±sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010).
    GlorotUniform,
    /// Normal with variance 1/fan_in, truncated at two standard deviations (JAX's `lecun_normal`).
    LecunNormal,
    /// Normal with variance 2/fan_in, truncated at two standard deviations (Keras' `he_normal`).
    HeNormal,
    /// Uniform on ±sqrt(12 / (fan_in + fan_out)): Glorot's bound times sqrt(2), the gain of rectified linear units.
    GlorotUniformRelu,
    /// Uniform on ±the given bound.
    Uniform(f64),
    /// Normal with mean 0 and the given standard deviation.
    Normal(f64),
}

/// Device and seed a component is built with. Parameters are drawn in construction order from one counter.
#[derive(Debug)]
pub struct BuildContext {
    /// Device parameters live on (with autodiff).
    pub device: Device,
    noise: Noise,
    drawn: Cell<u64>,
    examples: Option<Samples>,
    density: Option<[Vec<f64>; 2]>,
    /// Parameters so far, of a context that only counts them.
    counted: Option<Cell<u64>>,
}

/// Standard deviation of a standard normal truncated at ±2.
const TRUNCATED_STD: f64 = 0.879_625_661_034_239_8;

impl BuildContext {
    /// Context of a run with `seed` on `device`.
    pub fn new(device: Device, seed: u64) -> Self {
        Self { device, noise: Noise::new(seed), drawn: Cell::new(0), examples: None, density: None, counted: None }
    }

    /// A context whose parameters take no memory, whatever their shapes: what is built from it is good for [`Self::counted`] alone.
    #[must_use]
    pub fn counting(self) -> Self {
        Self { device: self.device.without_autodiff(), counted: Some(Cell::new(0)), ..self }
    }

    /// Scalars of all parameters built from a context made by [`Self::counting`].
    pub fn counted(&self) -> u64 {
        self.counted.as_ref().map_or(0, Cell::get)
    }

    /// Counts a parameter of `shape` where that is all that is wanted, and lets one zero stand for all of it.
    fn count<const D: usize>(&self, shape: [usize; D]) -> Option<Param<Tensor<D>>> {
        let counted = self.counted.as_ref()?;
        let size = shape.iter().fold(1u64, |product, &n| product.saturating_mul(n as u64));
        counted.set(counted.get().saturating_add(size));
        Some(Param::from_tensor(Tensor::<D>::zeros([1; D], &self.device).expand(shape)))
    }

    /// The same with training samples that components may start from (pseudo-inputs).
    #[must_use]
    pub fn with_examples(self, examples: Samples) -> Self {
        Self { examples: Some(examples), ..self }
    }

    /// The training samples, when there are any to start from.
    pub fn examples(&self) -> Option<&Samples> {
        self.examples.as_ref()
    }

    /// The same with the density of the data, where it is known, for components that refer to it.
    #[must_use]
    pub fn with_density(self, known: Option<&dyn KnownDensity>) -> Self {
        Self { density: known.and_then(KnownDensity::normal_components).map(|parts| parts.map(<[f64]>::to_vec)), ..self }
    }

    /// Means and standard deviations, component-major, of the equal mixture of axis-aligned normals that the data are known to come from.
    pub fn density(&self) -> Option<&[Vec<f64>; 2]> {
        self.density.as_ref()
    }

    fn stream(&self) -> Stream {
        let index = self.drawn.get();
        self.drawn.set(index + 1);
        self.noise.stream("initial parameters", index)
    }

    /// A weight of `shape` with the given fans.
    pub fn weight<const D: usize>(&self, shape: [usize; D], fan_in: usize, fan_out: usize, initial: Initial) -> Param<Tensor<D>> {
        if let Some(counted) = self.count(shape) {
            return counted;
        }
        let mut stream = self.stream();
        let size = shape.iter().product();
        let uniform =
            |stream: &mut Stream, limit: f64| (0..size).map(|_| ((stream.uniform() * 2.0 - 1.0) * limit) as f32).collect::<Vec<f32>>();
        let truncated = |stream: &mut Stream, variance: f64| {
            let std = variance.sqrt() / TRUNCATED_STD;
            let mut next = || {
                loop {
                    let x = stream.normal();
                    if x.abs() <= 2.0 {
                        return (x * std) as f32;
                    }
                }
            };
            (0..size).map(|_| next()).collect::<Vec<f32>>()
        };
        let values = match initial {
            Initial::LecunNormal => truncated(&mut stream, 1.0 / fan_in as f64),
            Initial::HeNormal => truncated(&mut stream, 2.0 / fan_in as f64),
            Initial::GlorotUniform => uniform(&mut stream, (6.0 / (fan_in + fan_out) as f64).sqrt()),
            Initial::GlorotUniformRelu => uniform(&mut stream, (12.0 / (fan_in + fan_out) as f64).sqrt()),
            Initial::Uniform(bound) => uniform(&mut stream, bound),
            Initial::Normal(std) => (0..size).map(|_| (stream.normal() * std) as f32).collect(),
        };
        Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), &self.device))
    }

    /// A parameter of `shape` from `values`, row by row.
    pub fn given<const D: usize>(&self, shape: [usize; D], values: Vec<f64>) -> Param<Tensor<D>> {
        if let Some(counted) = self.count(shape) {
            return counted;
        }
        Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), &self.device))
    }

    /// A parameter uniform on ±`limit`.
    pub fn uniform<const D: usize>(&self, shape: [usize; D], limit: f64) -> Param<Tensor<D>> {
        if let Some(counted) = self.count(shape) {
            return counted;
        }
        let mut stream = self.stream();
        self.given(shape, (0..shape.iter().product()).map(|_| (stream.uniform() * 2.0 - 1.0) * limit).collect())
    }

    /// A parameter normal with `mean` and standard deviation `std`.
    pub fn normal<const D: usize>(&self, shape: [usize; D], mean: f64, std: f64) -> Param<Tensor<D>> {
        if let Some(counted) = self.count(shape) {
            return counted;
        }
        let mut stream = self.stream();
        self.given(shape, (0..shape.iter().product()).map(|_| mean + std * stream.normal()).collect())
    }

    /// Dense layer whose weight `[inputs, outputs]` and bias are uniform on ±1/sqrt(inputs) (PyTorch's default).
    pub fn torch_linear(&self, inputs: usize, outputs: usize) -> Linear {
        let limit = (inputs.max(1) as f64).sqrt().recip();
        Linear { weight: self.uniform([inputs, outputs], limit), bias: Some(self.uniform([outputs], limit)) }
    }

    /// A parameter of `shape` filled with `value`.
    pub fn constant<const D: usize>(&self, shape: [usize; D], value: f64) -> Param<Tensor<D>> {
        if let Some(counted) = self.count(shape) {
            return counted;
        }
        Param::from_tensor(Tensor::full(shape, value, &self.device))
    }

    /// Dense layer with bias 0; weight `[inputs, outputs]`.
    pub fn linear(&self, inputs: usize, outputs: usize, initial: Initial) -> Linear {
        Linear { weight: self.weight([inputs, outputs], inputs, outputs, initial), bias: Some(self.constant([outputs], 0.0)) }
    }
}

/// Why a component cannot be built from an otherwise valid configuration.
#[derive(Debug, thiserror::Error)]
#[error("{component}: {problem}")]
pub struct BuildError {
    /// Component that refused.
    pub component: String,
    /// What does not fit and what would.
    pub problem: String,
}

impl BuildError {
    /// `component` refuses because of `problem`.
    pub fn new(component: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { component: component.into(), problem: problem.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_seed_and_have_the_stated_spread() {
        let context = BuildContext::new(Device::flex(), 5);
        let glorot: Vec<f32> = context.weight([200, 100], 200, 100, Initial::GlorotUniform).val().into_data().try_to_vec().unwrap();
        let limit = (6.0f32 / 300.0).sqrt();
        assert!(glorot.iter().all(|w| w.abs() <= limit));
        assert!(glorot.iter().any(|w| w.abs() > 0.99 * limit));
        for (initial, variance) in [(Initial::LecunNormal, 1.0 / 200.0), (Initial::HeNormal, 2.0 / 200.0)] {
            let w: Vec<f32> = context.weight([200, 100], 200, 100, initial).val().into_data().try_to_vec().unwrap();
            let found = w.iter().map(|x| x * x).sum::<f32>() / w.len() as f32;
            assert!((found / variance - 1.0).abs() < 0.05, "{initial:?}: {found} for {variance}");
        }
        let relu: Vec<f32> = context.weight([200, 100], 200, 100, Initial::GlorotUniformRelu).val().into_data().try_to_vec().unwrap();
        let largest = relu.iter().fold(0f32, |m, w| m.max(w.abs()));
        assert!(largest <= limit * 2f32.sqrt() && largest > 0.99 * limit * 2f32.sqrt());
        let normal: Vec<f32> = context.weight([200, 100], 200, 100, Initial::Normal(0.05)).val().into_data().try_to_vec().unwrap();
        let std = (normal.iter().map(|x| x * x).sum::<f32>() / normal.len() as f32).sqrt();
        assert!((std / 0.05 - 1.0).abs() < 0.05 && normal.iter().any(|w| w.abs() > 0.12), "{std}");
        let again: Vec<f32> = BuildContext::new(Device::flex(), 5)
            .weight([200, 100], 200, 100, Initial::GlorotUniform)
            .val()
            .into_data()
            .try_to_vec()
            .unwrap();
        assert_eq!(glorot, again);
    }

    #[test]
    fn networks_beyond_any_memory_can_be_counted() {
        let context = BuildContext::new(Device::flex().autodiff(), 5).counting();
        let layer = context.linear(1 << 30, 1 << 30, Initial::LecunNormal);
        assert_eq!((context.counted(), layer.weight.val().dims()), ((1 << 60) + (1 << 30), [1 << 30, 1 << 30]));
        context.torch_linear(2, 3);
        context.normal([4, 5], 0.0, 1.0);
        context.given([2], vec![0.0; 2]);
        assert_eq!(context.counted(), (1 << 60) + (1 << 30) + 9 + 20 + 2);
        assert_eq!(BuildContext::new(Device::flex(), 5).counted(), 0);
    }
}
