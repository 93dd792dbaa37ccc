//! Reading golden vectors, comparing numbers, and putting recorded weights and gradients in touch with modules.

use std::collections::BTreeMap;
use std::sync::Once;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, FloatDType, Gradients, Int, Tensor, TensorData};
use ibhost_framework::parameters;
use ibhost_framework::storage::checkpoint::{HostData, HostTensor};
use serde_json::Value;

/// Shape and row-major values of a recorded tensor.
pub type Array = (Vec<usize>, Vec<f64>);

/// The CPU device with autodiff, its tensors in double precision.
pub fn device() -> Device {
    static CONFIGURED: Once = Once::new();
    let mut device = Device::flex();
    CONFIGURED.call_once(|| {
        let configured = device.configure(FloatDType::F64);
        assert!(configured.is_ok(), "double precision must be set before the first tensor is made: {configured:?}");
    });
    Device::flex().autodiff()
}

/// The member `key` of an object.
pub fn member<'a>(value: &'a Value, key: &str) -> Result<&'a Value, String> {
    value.get(key).ok_or_else(|| format!("`{key}` is missing"))
}

/// The member at the end of `path`.
pub fn at<'a>(value: &'a Value, path: &[&str]) -> Result<&'a Value, String> {
    path.iter().try_fold(value, |value, key| member(value, key))
}

/// The elements of a list.
pub fn list(value: &Value) -> Result<&[Value], String> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| format!("expected a list, found {value}"))
}

/// The members of an object.
pub fn object(value: &Value) -> Result<&serde_json::Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("expected an object, found {value}"))
}

/// The number `key` of an object.
pub fn number(value: &Value, key: &str) -> Result<f64, String> {
    member(value, key)?.as_f64().ok_or_else(|| format!("`{key}` is not a number"))
}

/// The count `key` of an object.
pub fn count(value: &Value, key: &str) -> Result<usize, String> {
    member(value, key)?.as_u64().map(|n| n as usize).ok_or_else(|| format!("`{key}` is not a count"))
}

/// The text `key` of an object.
pub fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, String> {
    member(value, key)?.as_str().ok_or_else(|| format!("`{key}` is not text"))
}

/// A plain list of numbers.
pub fn numbers(value: &Value) -> Result<Vec<f64>, String> {
    list(value)?.iter().map(|x| x.as_f64().ok_or_else(|| format!("{x} is not a number"))).collect()
}

/// A recorded tensor `{"shape": [...], "data": [...]}`.
pub fn tensor(value: &Value) -> Result<Array, String> {
    let shape: Vec<usize> = numbers(member(value, "shape")?)?.into_iter().map(|n| n as usize).collect();
    let data = numbers(member(value, "data")?)?;
    let size: usize = shape.iter().product();
    if data.len() == size { Ok((shape, data)) } else { Err(format!("{} values cannot have shape {shape:?}", data.len())) }
}

/// A recorded tensor of no dimension.
pub fn scalar(value: &Value) -> Result<f64, String> {
    match (tensor(value)?.1.as_slice(), value) {
        ([x], _) => Ok(*x),
        _ => Err(format!("expected one number, found {value}")),
    }
}

/// A recorded tensor as burn's, of rank `D`.
pub fn float<const D: usize>(value: &Value, device: &Device) -> Result<Tensor<D>, String> {
    let (shape, data) = tensor(value)?;
    let shape: [usize; D] = shape.try_into().map_err(|shape| format!("expected {D} dimensions, found shape {shape:?}"))?;
    Ok(Tensor::from_data(TensorData::new(data, shape), device))
}

/// Recorded class numbers, flattened.
pub fn labels(value: &Value, device: &Device) -> Result<Tensor<1, Int>, String> {
    let data: Vec<i64> = tensor(value)?.1.into_iter().map(|x| x as i64).collect();
    let size = data.len();
    Ok(Tensor::from_data(TensorData::new(data, [size]), device))
}

/// Recorded images `[batch, height, width, channels]` as `[batch, channels, height, width]`.
pub fn images(value: &Value, device: &Device) -> Result<Tensor<4>, String> {
    Ok(float::<4>(value, device)?.permute([0, 3, 1, 2]))
}

/// The values of a tensor in row-major order.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Axes of `array` in the order `axes`.
pub fn permuted(array: &Array, axes: &[usize]) -> Result<Array, String> {
    let (shape, data) = array;
    if shape.len() != axes.len() {
        return Err(format!("cannot reorder the axes of shape {shape:?} as {axes:?}"));
    }
    let stride_of = |axis: usize| shape[axis + 1..].iter().product::<usize>();
    let new_shape: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
    let strides: Vec<usize> = axes.iter().map(|&axis| stride_of(axis)).collect();
    let mut out = Vec::with_capacity(data.len());
    for index in 0..data.len() {
        let (mut rest, mut position) = (index, 0);
        for (size, stride) in new_shape.iter().zip(&strides).rev() {
            position += rest % size * stride;
            rest /= size;
        }
        out.push(data[position]);
    }
    Ok((new_shape, out))
}

/// Absolute and relative tolerance of a vector (or of its member `tolerance`); a missing one is 0.
pub fn tolerance(value: &Value) -> (f64, f64) {
    let tolerance = value.get("tolerance").unwrap_or(value);
    let part = |key| tolerance.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    (part("abs"), part("rel"))
}

/// Whether all of |got - want| <= abs + rel |want|, and as many.
///
/// # Errors
/// `name`, the first place that differs too much (NaN always does) and both values there.
pub fn close(name: &str, got: &[f64], want: &[f64], abs: f64, rel: f64) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{name}: {} values, expected {}", got.len(), want.len()));
    }
    let fits = |g: f64, w: f64| (g - w).abs() <= abs + rel * w.abs();
    match got.iter().zip(want).position(|(&g, &w)| !fits(g, w)) {
        None => Ok(()),
        Some(i) => Err(format!("{name}[{i}] is {:e}, expected {:e} (tolerance {abs:e} + {rel:e} relative)", got[i], want[i])),
    }
}

/// [`close`] of a tensor and a recorded one, shapes included.
pub fn close_tensor<const D: usize>(name: &str, got: Tensor<D>, want: &Value, (abs, rel): (f64, f64)) -> Result<(), String> {
    let (shape, want) = tensor(want).map_err(|reason| format!("{name}: {reason}"))?;
    let dims = got.dims();
    // A recorded scalar has no dimension, burn's has one of size 1.
    if dims != shape.as_slice() && !(shape.is_empty() && dims.iter().product::<usize>() == 1) {
        return Err(format!("{name}: shape {dims:?}, expected {shape:?}"));
    }
    close(name, &values(got), &want, abs, rel)
}

/// `module` with every parameter and running statistic replaced by the recorded value at its path.
///
/// # Errors
/// The first path without value, value without path, or differing shape.
pub fn load_parameters<M: Module>(module: M, recorded: &BTreeMap<String, Array>) -> Result<M, String> {
    let tensors = recorded
        .iter()
        .map(|(path, (shape, data))| (path.clone(), HostTensor { shape: shape.clone(), data: HostData::F64(data.clone()) }))
        .collect();
    parameters::from_host(module, &tensors, false).map_err(|error| error.to_string())
}

/// Paths of the parameters and running statistics of `module` in declaration order.
pub fn paths<M: Module>(module: &M) -> Vec<String> {
    let mut paths = Vec::new();
    parameters::for_each(module, |seen| paths.push(seen.path.to_owned()));
    paths
}

/// Value of every parameter and running statistic by path.
pub fn parameter_values<M: Module>(module: &M) -> BTreeMap<String, Vec<f64>> {
    let mut all = BTreeMap::new();
    parameters::for_each(module, |seen| {
        all.insert(seen.path.to_owned(), values(seen.flat));
    });
    all
}

/// Gradient of every trainable parameter of `module` by path; zeros where the loss does not depend on it.
pub fn parameter_gradients<M: Module>(module: &M, gradients: &Gradients) -> BTreeMap<String, Vec<f64>> {
    struct Reader<'a> {
        path: Vec<String>,
        gradients: &'a Gradients,
        found: BTreeMap<String, Vec<f64>>,
    }
    impl ModuleVisitor for Reader<'_> {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            if value.is_require_grad() {
                let size = value.dims().iter().product();
                let gradient = value.grad(self.gradients).map_or_else(|| vec![0.0; size], values);
                self.found.insert(self.path.join("."), gradient);
            }
        }
    }
    let mut reader = Reader { path: Vec::new(), gradients, found: BTreeMap::new() };
    module.visit(&mut reader);
    reader.found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn close_allows_the_sum_of_both_tolerances_and_never_nan() {
        assert!(close("x", &[1.0, 10.2], &[1.05, 10.0], 0.06, 0.0).unwrap_err().starts_with("x[1] is 1.02e1, expected 1e1"));
        assert!(close("x", &[1.0, 10.2], &[1.05, 10.0], 0.06, 0.02).is_ok());
        assert!(close("x", &[f64::NAN], &[f64::NAN], 1e9, 1e9).is_err());
        assert!(close("x", &[f64::INFINITY], &[1.0], 1e9, 0.0).is_err());
        assert!(close("x", &[1.0], &[1.0, 1.0], 1.0, 0.0).unwrap_err().contains("1 values, expected 2"));
        assert!(close("x", &[0.1], &[0.1], 0.0, 0.0).is_ok());
    }

    #[test]
    fn tensors_are_read_with_their_shape() {
        assert_eq!(tensor(&json!({"shape": [2, 1], "data": [1, 2.5]})).unwrap(), (vec![2, 1], vec![1.0, 2.5]));
        assert_eq!(scalar(&json!({"shape": [], "data": [4]})).unwrap(), 4.0);
        assert!(tensor(&json!({"shape": [3], "data": [1, 2]})).unwrap_err().contains("2 values cannot have shape [3]"));
        assert!(tensor(&json!({"shape": [1], "data": ["a"]})).is_err());
        assert_eq!(tolerance(&json!({"tolerance": {"abs": 0.5}})), (0.5, 0.0));
        assert_eq!(tolerance(&json!({"rel": 0.25})), (0.0, 0.25));
        assert!(at(&json!({"a": {"b": 1}}), &["a", "c"]).unwrap_err().contains("`c` is missing"));
    }

    #[test]
    fn axes_are_reordered_as_numpy_does() {
        let array = (vec![1, 2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(permuted(&array, &[2, 0, 1]).unwrap(), (vec![3, 1, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
        assert!(permuted(&array, &[0, 1]).is_err());
    }

    #[test]
    fn the_device_computes_in_double_precision() {
        let third = Tensor::<1>::from_data([1.0f64], &device()).div_scalar(3.0);
        assert_eq!(values(third), [1.0 / 3.0]);
    }
}
