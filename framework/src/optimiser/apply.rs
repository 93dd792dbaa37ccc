//! One walk over a model's parameters: gradients in, updated parameters and moving average out.

use std::collections::BTreeMap;

use burn::module::{ModuleMapper, Param};
use burn::tensor::{DType, Device, Gradients, Tensor};

use super::state::average_into;
use super::{Buffer, Moments, OptimiserState, Rule};
use crate::strategy::OptimiserSlot;

/// Exponential moving average of the weights: a = decay a + (1 - decay) p after every step, starting from the initial weights.
#[derive(Clone, Debug)]
pub struct WeightAverage {
    /// Share of the old average kept each step.
    pub decay: f64,
    /// Average by parameter path.
    pub weights: BTreeMap<String, Buffer>,
}

/// Mapper that applies one step to every parameter an optimiser moves.
pub struct ParameterUpdate<'a> {
    path: Vec<String>,
    gradients: Option<Gradients>,
    slots: &'a [OptimiserSlot],
    states: &'a mut [OptimiserState],
    rules: Vec<Option<Rule>>,
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
        rules: Vec<Option<Rule>>,
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
        let rule = slot.and_then(|slot| self.rules.get(slot).copied().flatten().map(|rule| (slot, rule)));
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
                let moments = self.states[slot].moments.entry(path.to_owned());
                let moments = moments.or_insert_with(|| Moments {
                    first: Buffer::zeros(&flat, host),
                    second: rule.has_second_moment().then(|| Buffer::zeros(&flat, host)),
                });
                let (flat, finite) = apply_rule(&rule, flat, gradient.reshape([-1]), moments, average);
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
    rule: &Rule,
    parameter: Tensor<1>,
    gradient: Tensor<1>,
    moments: &mut Moments,
    average: Option<(&mut Buffer, f64)>,
) -> (Tensor<1>, bool) {
    let Moments { first, second } = moments;
    let device = parameter.device();
    match first {
        Buffer::F32(m) => {
            let s: &mut [f32] = match second {
                Some(Buffer::F32(s)) => s,
                _ => &mut [],
            };
            let average = average.and_then(|(buffer, decay)| match buffer {
                Buffer::F32(a) => Some((a.as_mut_slice(), decay)),
                _ => None,
            });
            update_in_place(parameter, gradient, DType::F32, &device, |p, g| rule.update::<f32>(p, g, m, s, average))
        }
        Buffer::F64(m) => {
            let s: &mut [f64] = match second {
                Some(Buffer::F64(s)) => s,
                _ => &mut [],
            };
            let average = average.and_then(|(buffer, decay)| match buffer {
                Buffer::F64(a) => Some((a.as_mut_slice(), decay)),
                _ => None,
            });
            update_in_place(parameter, gradient, DType::F64, &device, |p, g| rule.update::<f64>(p, g, m, s, average))
        }
        Buffer::Device(m) => {
            // A rule without a second moment hands back what stands in for it.
            let s = match second {
                Some(Buffer::Device(s)) => s.clone(),
                _ => m.clone(),
            };
            let (parameter, new_m, new_s) = rule.update_tensors(parameter, gradient, m.clone(), s);
            *m = new_m;
            if let Some(second) = second {
                *second = Buffer::Device(new_s);
            }
            let parameter = match average {
                Some((buffer, decay)) => apply_average(parameter, buffer, decay),
                None => parameter,
            };
            (parameter, true)
        }
    }
}

/// Runs `update` on the memory of `parameter`, which is not copied when nothing else holds the tensor.
fn update_in_place<T: burn::tensor::Element>(
    parameter: Tensor<1>,
    gradient: Tensor<1>,
    dtype: DType,
    device: &Device,
    update: impl FnOnce(&mut [T], &[T]) -> bool,
) -> (Tensor<1>, bool) {
    let (mut p, g) = (parameter.into_data(), gradient.into_data());
    let finite = match (p.as_mut_slice::<T>(), g.as_slice::<T>()) {
        (Ok(p), Ok(g)) => update(p, g),
        _ => unreachable!("the moments were created in the parameter's own precision"),
    };
    (Tensor::from_data(p, (device, dtype)), finite)
}

fn apply_average(parameter: Tensor<1>, buffer: &mut Buffer, decay: f64) -> Tensor<1> {
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
