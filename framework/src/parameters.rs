//! Parameters by path: listing, reading to the host, and putting host values back.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor, TensorData};

use crate::optimiser::{Buffer, is_host};
use crate::storage::{HostData, HostTensor};

struct Reader<F> {
    path: Vec<String>,
    each: F,
}

/// One float parameter or buffer as [`for_each`] shows it.
pub struct Seen<'a> {
    /// Dotted path of fields.
    pub path: &'a str,
    /// Shape.
    pub shape: Vec<usize>,
    /// Value without autodiff, flattened.
    pub flat: Tensor<1>,
    /// Whether an optimiser may move it (running statistics are not moved).
    pub trainable: bool,
}

impl<F: FnMut(Seen<'_>)> ModuleVisitor for Reader<F> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let shape = value.dims().to_vec();
        let trainable = value.is_require_grad();
        (self.each)(Seen { path: &self.path.join("."), shape, flat: value.inner().reshape([-1]), trainable });
    }
}

/// Calls `each` for every float parameter and running statistic of `module`, in declaration order.
pub fn for_each<M: Module>(module: &M, each: impl FnMut(Seen<'_>)) {
    module.visit(&mut Reader { path: Vec::new(), each });
}

/// Dotted paths of every field of `module` and of what it holds, empty ones too.
pub fn fields<M: Module>(module: &M) -> BTreeSet<String> {
    struct Fields(Vec<String>, BTreeSet<String>);
    impl ModuleVisitor for Fields {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.0.push(name.to_owned());
            self.1.insert(self.0.join("."));
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.0.pop();
        }
    }
    let mut visitor = Fields(Vec::new(), BTreeSet::new());
    module.visit(&mut visitor);
    visitor.1
}

/// Paths of the parameters and running statistics of `module` that no optimiser may move.
pub fn fixed<M: Module>(module: &M) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for_each(module, |seen| {
        if !seen.trainable {
            paths.insert(seen.path.to_owned());
        }
    });
    paths
}

/// Path of the first parameter or running statistic of `module` that holds a value which is not finite.
pub fn first_non_finite<M: Module>(module: &M) -> Option<String> {
    let mut found = None;
    for_each(module, |seen| {
        if found.is_none() && seen.flat.into_data().iter::<f64>().any(|value| !value.is_finite()) {
            found = Some(seen.path.to_owned());
        }
    });
    found
}

/// Host copies of every float parameter and running statistic by path.
pub fn to_host<M: Module>(module: &M) -> BTreeMap<String, HostTensor> {
    let mut tensors = BTreeMap::new();
    for_each(module, |seen| {
        let data = match seen.flat.dtype() {
            DType::F64 => HostData::F64(seen.flat.into_data().iter::<f64>().collect()),
            _ => HostData::F32(seen.flat.into_data().iter::<f32>().collect()),
        };
        tensors.insert(seen.path.to_owned(), HostTensor { shape: seen.shape, data });
    });
    tensors
}

/// Moving-average buffers holding the current value of every trainable parameter.
pub fn average_buffers<M: Module>(module: &M) -> BTreeMap<String, Buffer> {
    let mut buffers = BTreeMap::new();
    for_each(module, |seen| {
        if !seen.trainable {
            return;
        }
        let host = is_host(&seen.flat.device());
        let buffer = match (host, seen.flat.dtype()) {
            (false, _) => Buffer::Device(seen.flat),
            (true, DType::F64) => Buffer::F64(seen.flat.into_data().iter::<f64>().collect()),
            (true, _) => Buffer::F32(seen.flat.into_data().iter::<f32>().collect()),
        };
        buffers.insert(seen.path.to_owned(), buffer);
    });
    buffers
}

/// Why host values do not fit a module.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParameterError {
    /// The module has a parameter the values lack.
    #[error("no value for parameter `{0}`")]
    Missing(String),
    /// The values hold a parameter the module lacks.
    #[error("value for `{0}`, which the model does not have")]
    Unexpected(String),
    /// Shapes differ.
    #[error("parameter `{path}` has shape {expected:?}, the value {found:?}")]
    Shape {
        /// Parameter.
        path: String,
        /// Shape in the module.
        expected: Vec<usize>,
        /// Shape of the value.
        found: Vec<usize>,
    },
    /// The value is made of integers.
    #[error("parameter `{0}` is a float, the value holds integers")]
    Kind(String),
}

struct Writer<'a> {
    path: Vec<String>,
    values: &'a BTreeMap<String, HostTensor>,
}

impl ModuleMapper for Writer<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(value) = self.values.get(&self.path.join(".")) else { return param };
        param.map(|old| {
            let shape = old.dims();
            let (autodiff, trained) = (old.is_autodiff(), old.is_require_grad());
            let device = old.device().without_autodiff();
            let new = match &value.data {
                HostData::F32(v) => Tensor::from_data(TensorData::new(v.clone(), shape), (&device, old.dtype())),
                HostData::F64(v) => Tensor::from_data(TensorData::new(v.clone(), shape), (&device, old.dtype())),
                // `from_host` has refused these.
                HostData::I64(_) | HostData::U8(_) => return old,
            };
            if autodiff { new.autodiff().set_require_grad(trained) } else { new }
        })
    }
}

/// `module` with the given values; paths absent from `values` keep theirs when `partial`.
///
/// # Errors
/// [`ParameterError`] naming the first parameter that does not fit; the module is then returned to nobody.
pub fn from_host<M: Module>(module: M, values: &BTreeMap<String, HostTensor>, partial: bool) -> Result<M, ParameterError> {
    let mut problem = None;
    let mut known = BTreeSet::new();
    for_each(&module, |seen| {
        known.insert(seen.path.to_owned());
        match values.get(seen.path) {
            None if !partial => problem = problem.take().or_else(|| Some(ParameterError::Missing(seen.path.to_owned()))),
            Some(value) if value.shape != seen.shape => {
                let (expected, found) = (seen.shape.clone(), value.shape.clone());
                problem = problem.take().or_else(|| Some(ParameterError::Shape { path: seen.path.to_owned(), expected, found }));
            }
            Some(value) if matches!(value.data, HostData::I64(_) | HostData::U8(_)) => {
                problem = problem.take().or_else(|| Some(ParameterError::Kind(seen.path.to_owned())));
            }
            _ => {}
        }
    });
    if let Some(unexpected) = values.keys().find(|path| !known.contains(*path)) {
        problem = problem.or_else(|| Some(ParameterError::Unexpected(unexpected.clone())));
    }
    match problem {
        Some(problem) => Err(problem),
        None => Ok(module.map(&mut Writer { path: Vec::new(), values })),
    }
}

/// `module` with the averaged weights in place of the live ones; running statistics stay.
pub fn with_average<M: Module>(module: M, average: &BTreeMap<String, Buffer>) -> M {
    struct Averaged<'a>(Vec<String>, &'a BTreeMap<String, Buffer>);
    impl ModuleMapper for Averaged<'_> {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.0.push(name.to_owned());
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.0.pop();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(buffer) = self.1.get(&self.0.join(".")) else { return param };
            param.map(|old| {
                let (shape, device, dtype) = (old.dims(), old.device(), old.dtype());
                match buffer {
                    Buffer::F32(v) => Tensor::from_data(TensorData::new(v.clone(), shape), (&device, dtype)),
                    Buffer::F64(v) => Tensor::from_data(TensorData::new(v.clone(), shape), (&device, dtype)),
                    Buffer::Device(t) => t.clone().reshape(shape),
                }
            })
        }
    }
    module.map(&mut Averaged(Vec::new(), average))
}

struct Gate<'a, F> {
    path: Vec<String>,
    moves: &'a F,
}

impl<F: Fn(&str) -> bool> ModuleMapper for Gate<'_, F> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let active = (self.moves)(&self.path.join("."));
        param.set_require_grad(active)
    }
}

/// `module` with gradients required exactly for the parameters `moves` accepts, so that the backward pass skips the rest.
pub fn with_gradients_for<M: Module>(module: M, moves: impl Fn(&str) -> bool) -> M {
    module.map(&mut Gate { path: Vec::new(), moves: &moves })
}

#[cfg(test)]
mod tests {
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn fields_and_weights_that_are_not_finite_are_named() {
        let module: Linear = LinearConfig::new(2, 1).init(&Device::flex());
        assert_eq!(fields(&module).into_iter().collect::<Vec<_>>(), ["bias", "weight"]);
        assert_eq!(first_non_finite(&module), None);
        let mut values = to_host(&module);
        values.insert("weight".to_owned(), HostTensor { shape: vec![2, 1], data: HostData::F32(vec![1.0, f32::INFINITY]) });
        assert_eq!(first_non_finite(&from_host(module, &values, false).unwrap()).as_deref(), Some("weight"));
    }

    #[test]
    fn values_that_do_not_fit_are_named() {
        let module = || -> Linear { LinearConfig::new(2, 1).init(&Device::flex()) };
        let sound = to_host(&module());
        assert!(from_host(module(), &sound, false).is_ok());
        let with = |path: &str, shape: &[usize], data: HostData| {
            let mut values = sound.clone();
            values.insert(path.to_owned(), HostTensor { shape: shape.to_vec(), data });
            from_host(module(), &values, false).map(|_| ()).unwrap_err()
        };
        assert_eq!(with("bias", &[1], HostData::U8(vec![1])), ParameterError::Kind("bias".to_owned()));
        assert_eq!(with("bias", &[1], HostData::I64(vec![1])), ParameterError::Kind("bias".to_owned()));
        assert!(matches!(with("bias", &[2], HostData::F32(vec![0.0; 2])), ParameterError::Shape { .. }));
        assert_eq!(with("gain", &[1], HostData::F32(vec![0.0])), ParameterError::Unexpected("gain".to_owned()));
        let mut missing = sound.clone();
        missing.remove("bias");
        assert_eq!(from_host(module(), &missing, false).map(|_| ()).unwrap_err(), ParameterError::Missing("bias".to_owned()));
    }
}
