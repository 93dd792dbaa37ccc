//! One walk over a model's parameters: gradients in, updated parameters and moving average out.

use burn::module::{ModuleMapper, Param};
use burn::tensor::{DType, Device, Gradients, Tensor};

use super::average::{apply_average, average_into};
use super::{Buffer, HostParameter, OptimiserState, Rule, WeightAverage};
use crate::plan::OptimiserSlot;

/// Mapper that applies one step to every parameter an optimiser moves.
pub struct ParameterUpdate<'a> {
    path: Vec<String>,
    gradients: Option<Gradients>,
    slots: &'a [OptimiserSlot],
    states: &'a mut [OptimiserState],
    rules: Vec<Option<Box<dyn Rule>>>,
    average: Option<&'a mut WeightAverage>,
    non_finite: Option<String>,
}

/// Whether tensors of `device` live in host memory, where a pass over slices beats a chain of tensor operations.
pub fn is_host(device: &Device) -> bool {
    device.clone().without_autodiff() == Device::flex()
}

impl<'a> ParameterUpdate<'a> {
    /// An update by `rules` (one per slot; `None` leaves the slot's parameters alone) following `gradients`.
    pub fn new(
        gradients: Option<Gradients>,
        slots: &'a [OptimiserSlot],
        states: &'a mut [OptimiserState],
        rules: Vec<Option<Box<dyn Rule>>>,
        average: Option<&'a mut WeightAverage>,
    ) -> Self {
        Self { path: Vec::new(), gradients, slots, states, rules, average, non_finite: None }
    }

    /// Path of the first parameter whose gradient was not finite.
    pub fn non_finite(self) -> Option<String> {
        self.non_finite
    }

    fn step<const D: usize>(&mut self, path: &str, tensor: Tensor<D>) -> Tensor<D> {
        let slot = self.slots.iter().position(|s| s.contains(path));
        let rule = slot.and_then(|slot| Some((slot, self.rules.get(slot)?.as_deref()?)));
        let gradient = match (&mut self.gradients, rule) {
            (Some(gradients), Some(_)) => tensor.grad_remove(gradients),
            _ => None,
        };
        let mut average = self.average.as_deref_mut().and_then(|a| a.weights.get_mut(path).map(|buffer| (buffer, a.decay)));
        let (shape, trained) = (tensor.dims(), tensor.is_require_grad());
        if gradient.is_none() && average.is_none() {
            return tensor;
        }
        let flat: Tensor<1> = tensor.inner().reshape([-1]);
        let flat = match (gradient, rule) {
            (Some(gradient), Some((slot, rule))) => {
                let host = is_host(&flat.device());
                let buffers = self.states[slot].buffers.entry(path.to_owned());
                let buffers = buffers.or_insert_with(|| (0..rule.buffers()).map(|_| Buffer::zeros(&flat, host)).collect());
                let (flat, finite) = apply_rule(rule, flat, gradient.reshape([-1]), &shape, buffers, average);
                if !finite && self.non_finite.is_none() {
                    self.non_finite = Some(path.to_owned());
                }
                flat
            }
            _ => match average.take() {
                Some((buffer, decay)) => apply_average(flat, buffer, decay),
                None => flat,
            },
        };
        flat.reshape(shape).autodiff().set_require_grad(trained)
    }
}

impl ModuleMapper for ParameterUpdate<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let (id, tensor, mapper) = param.consume();
        let tensor = self.step(&path, tensor);
        Param::from_mapped_value(id, tensor, mapper)
    }
}

fn apply_rule(
    rule: &dyn Rule,
    parameter: Tensor<1>,
    gradient: Tensor<1>,
    shape: &[usize],
    buffers: &mut [Buffer],
    average: Option<(&mut Buffer, f64)>,
) -> (Tensor<1>, bool) {
    if is_host(&parameter.device()) {
        return match parameter.dtype() {
            DType::F64 => on_host::<f64>(rule, parameter, gradient, shape, buffers, average),
            _ => on_host::<f32>(rule, parameter, gradient, shape, buffers, average),
        };
    }
    let mut kept: Vec<Tensor<1>> = buffers
        .iter()
        .filter_map(|buffer| match buffer {
            Buffer::Device(tensor) => Some(tensor.clone()),
            Buffer::F32(_) | Buffer::F64(_) => None,
        })
        .collect();
    let parameter = rule.update_tensors(parameter, gradient, shape, &mut kept);
    for (buffer, kept) in buffers.iter_mut().zip(kept) {
        *buffer = Buffer::Device(kept);
    }
    match average {
        Some((buffer, decay)) => (apply_average(parameter, buffer, decay), true),
        None => (parameter, true),
    }
}

/// A precision of parameters in host memory.
trait Precision: burn::tensor::Element + num_traits::Float + Send + Sync {
    const DTYPE: DType;
    fn slice(buffer: &mut Buffer) -> Option<&mut [Self]>;
    fn update(rule: &dyn Rule, parameter: &mut HostParameter<'_, Self>) -> bool;
}

impl Precision for f32 {
    const DTYPE: DType = DType::F32;
    fn slice(buffer: &mut Buffer) -> Option<&mut [Self]> {
        match buffer {
            Buffer::F32(values) => Some(values),
            _ => None,
        }
    }
    fn update(rule: &dyn Rule, parameter: &mut HostParameter<'_, Self>) -> bool {
        rule.update_f32(parameter)
    }
}

impl Precision for f64 {
    const DTYPE: DType = DType::F64;
    fn slice(buffer: &mut Buffer) -> Option<&mut [Self]> {
        match buffer {
            Buffer::F64(values) => Some(values),
            _ => None,
        }
    }
    fn update(rule: &dyn Rule, parameter: &mut HostParameter<'_, Self>) -> bool {
        rule.update_f64(parameter)
    }
}

/// Runs `rule` on the memory of `parameter`, which is not copied when nothing else holds the tensor.
fn on_host<T: Precision>(
    rule: &dyn Rule,
    parameter: Tensor<1>,
    gradient: Tensor<1>,
    shape: &[usize],
    buffers: &mut [Buffer],
    average: Option<(&mut Buffer, f64)>,
) -> (Tensor<1>, bool) {
    let device = parameter.device();
    let (mut values, gradient) = (parameter.into_data(), gradient.into_data());
    let buffers = buffers.iter_mut().map(T::slice).collect::<Option<Vec<_>>>();
    let average = average.and_then(|(buffer, decay)| Some((T::slice(buffer)?, decay)));
    let finite = match (values.as_mut_slice::<T>(), gradient.as_slice::<T>(), buffers) {
        (Ok(values), Ok(gradient), Some(buffers)) => {
            let mut parameter = HostParameter { shape, values, gradient, buffers, average };
            let finite = T::update(rule, &mut parameter);
            if let Some((average, decay)) = parameter.average.take() {
                average_into(average, parameter.values, decay);
            }
            finite
        }
        _ => unreachable!("the buffers were created in the parameter's own precision"),
    };
    (Tensor::from_data(values, (&device, T::DTYPE)), finite)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn::module::Module;

    use super::*;
    use crate::plan::ParameterGroup;

    /// A step against the gradient divided by its largest element, which no element knows alone; it keeps nothing and leaves the average.
    #[derive(Debug)]
    struct Largest(f64);

    impl Largest {
        fn update<T: num_traits::Float>(&self, parameter: &mut HostParameter<'_, T>) -> bool {
            let largest = parameter.gradient.iter().fold(T::zero(), |a, g| a.max(g.abs()));
            parameter.values.iter_mut().zip(parameter.gradient).for_each(|(p, &g)| *p = *p - super::super::real::<T>(self.0) * g / largest);
            assert_eq!(parameter.shape, [2, 2]);
            largest.is_finite()
        }
    }

    impl Rule for Largest {
        fn buffers(&self) -> usize {
            0
        }
        fn update_f32(&self, parameter: &mut HostParameter<'_, f32>) -> bool {
            self.update(parameter)
        }
        fn update_f64(&self, parameter: &mut HostParameter<'_, f64>) -> bool {
            self.update(parameter)
        }
        fn update_tensors(&self, parameter: Tensor<1>, gradient: Tensor<1>, _shape: &[usize], _buffers: &mut [Tensor<1>]) -> Tensor<1> {
            parameter - gradient.clone().mul_scalar(self.0) / gradient.abs().max()
        }
    }

    #[derive(Module, Debug)]
    struct Single {
        matrix: Param<Tensor<2>>,
    }

    #[test]
    fn a_rule_may_see_whole_parameters_and_the_average_follows_it() {
        let device = Device::flex().autodiff();
        let model = Single { matrix: Param::from_tensor(Tensor::from_floats([[1.0, 2.0], [3.0, 4.0]], &device)) };
        let gradients = (model.matrix.val() * Tensor::from_floats([[1.0, 0.0], [-4.0, 2.0]], &device)).sum().backward();
        let slots = [OptimiserSlot { name: "all".to_owned(), groups: vec![ParameterGroup::field("matrix")], step_factor: 1 }];
        let mut states = [OptimiserState::default()];
        let weights = BTreeMap::from([("matrix".to_owned(), Buffer::F32(vec![1.0, 2.0, 3.0, 4.0]))]);
        let mut average = WeightAverage { decay: 0.5, weights };
        let rules: Vec<Option<Box<dyn Rule>>> = vec![Some(Box::new(Largest(0.4)))];
        let mut update = ParameterUpdate::new(Some(gradients), &slots, &mut states, rules, Some(&mut average));
        let model = model.map(&mut update);
        assert_eq!(update.non_finite(), None);
        let close = |found: &[f32], wanted: [f32; 4]| found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6);
        let values: Vec<f32> = model.matrix.val().inner().into_data().iter::<f32>().collect();
        assert!(close(&values, [0.9, 2.0, 3.4, 3.8]), "{values:?}");
        assert!(matches!(&average.weights["matrix"], Buffer::F32(a) if close(a, [0.95, 2.0, 3.2, 3.9])), "{average:?}");
        assert!(states[0].buffers["matrix"].is_empty());
    }
}
