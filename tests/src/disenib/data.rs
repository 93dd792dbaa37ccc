//! Tensors, parameter names and summaries as the DisenIB vectors store them.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use ibhost_framework::dataset::Batch;
use serde_json::Value;

use super::Outcome;
use crate::golden::{self, Array};

/// Absolute and relative tolerance: the vectors give one number for both.
pub(super) fn tolerance(file: &Value) -> (f64, f64) {
    match file.get("tolerance").and_then(Value::as_f64) {
        Some(t) => (t, t),
        None => golden::tolerance(file),
    }
}

/// A recorded tensor, or one given by the seed of a linear congruential generator.
pub(super) fn array(value: &Value) -> Result<Array, String> {
    if value.get("data").is_some() {
        return golden::tensor(value);
    }
    let shape: Vec<usize> = golden::numbers(golden::member(value, "shape")?)?.into_iter().map(|n| n as usize).collect();
    let mut state = golden::number(value, "seed")? as u32;
    let amplitude = golden::number(value, "amp")?;
    let add = value.get("add").and_then(Value::as_f64).unwrap_or(0.0);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        amplitude * (2.0 * f64::from(state) / 4_294_967_296.0 - 1.0) + add
    };
    let data = (0..shape.iter().product()).map(|_| next()).collect();
    Ok((shape, data))
}

/// As [`array`], as burn's tensor of rank `D`.
pub(super) fn float<const D: usize>(value: &Value, device: &Device) -> Result<Tensor<D>, String> {
    let (shape, data) = array(value)?;
    let shape: [usize; D] = shape.try_into().map_err(|shape| format!("expected {D} dimensions, found shape {shape:?}"))?;
    Ok(Tensor::from_data(TensorData::new(data, shape), device))
}

/// Rows `[batch, features]` or images `[batch, channels, height, width]` as images; rows become one line of pixels.
pub(super) fn images(value: &Value, device: &Device) -> Result<Tensor<4>, String> {
    let (shape, data) = array(value)?;
    let shape = match shape[..] {
        [batch, features] => [batch, 1, 1, features],
        [batch, c, h, w] => [batch, c, h, w],
        _ => return Err(format!("expected rows or images, found shape {shape:?}")),
    };
    Ok(Tensor::from_data(TensorData::new(data, shape), device))
}

/// A recorded batch `{x, label}`.
pub(super) fn batch(value: &Value) -> Result<Batch, String> {
    let device = golden::device();
    let inputs = images(golden::member(value, "x")?, &device)?;
    let labels = golden::labels(golden::member(value, "label")?, &device)?;
    Ok(Batch { indices: (0..inputs.dims()[0]).collect(), inputs, labels })
}

/// Path in ibhost's modules of the parameter the original calls `name`; `conv` says which body the reconstructor has.
///
/// The original counts activations and norms as layers, so weights of dense stacks sit at 0, 2, 4 and those of convolutions at 0, 3, 6.
pub(super) fn path_of(name: &str, conv: bool) -> Result<String, String> {
    let body = if conv { "body.Conv" } else { "body.Dense" };
    let parts: Vec<&str> = name.split('.').collect();
    let layer = |k: &str, every: usize| match k.parse::<usize>() {
        Ok(k) if k.is_multiple_of(every) => Ok((k / every).to_string()),
        _ => Err(format!("`{name}`: layer {k} is not one with weights")),
    };
    let (net, rest) = match parts[0] {
        "enc" => ("encoder", &parts[1..]),
        "enc_s" => ("encoder_style", &parts[1..]),
        "enc_t" => ("encoder_class", &parts[1..]),
        "dec" => ("decoder", &parts[1..]),
        "rec" => ("reconstructor", &parts[1..]),
        "est" => ("estimator", &parts[1..]),
        "disc" => ("discriminator", &parts[1..]),
        _ => ("", &parts[..]),
    };
    let parameter = |p: &str| if p == "u0" { "u".to_owned() } else { p.to_owned() };
    let inner = match *rest {
        ["label_table" | "log_std"] => rest[0].to_owned(),
        ["fc", "seq", k, p] | ["seq", k, p] if net == "reconstructor" => format!("{body}.layers.{}.{}", layer(k, 2)?, parameter(p)),
        ["fc", "seq", k, p] | ["seq", k, p] => format!("stack.layers.{}.{}", layer(k, 2)?, parameter(p)),
        ["conv", k, p] => format!("conv.layers.{}.{}", layer(k, 3)?, parameter(p)),
        ["deconv", k, p] => format!("{body}.deconv.layers.{}.{}", layer(k, 3)?, parameter(p)),
        ["trunk", k, p] => format!("trunk.{}.{}", layer(k, 2)?, parameter(p)),
        ["in_s", p] if net == "reconstructor" => format!("{body}.in_style.{p}"),
        ["in_t", p] if net == "reconstructor" => format!("{body}.in_class.{p}"),
        ["in_s", p] => format!("in_style.{}", parameter(p)),
        ["in_t", p] => format!("in_class.{}", parameter(p)),
        ["fc", p] if net == "decoder" => format!("stack.layers.0.{p}"),
        ["fc", p] => format!("head.{p}"),
        _ => return Err(format!("`{name}` is not a parameter of the original")),
    };
    Ok(if net.is_empty() { inner } else { format!("{net}.{inner}") })
}

/// Whether ibhost keeps the transpose: dense weights are `[inputs, outputs]` here and `[outputs, inputs]` there.
fn is_transposed(name: &str, shape: &[usize]) -> bool {
    shape.len() == 2 && name.ends_with("weight")
}

/// The array as ibhost keeps it.
pub(super) fn own_layout(name: &str, array: Array) -> Result<Array, String> {
    if is_transposed(name, &array.0) { golden::permuted(&array, &[1, 0]) } else { Ok(array) }
}

/// Values of ours in the order of the original, where `shape` is the original's.
pub(super) fn original_layout(name: &str, shape: &[usize], values: &[f64]) -> Result<Vec<f64>, String> {
    if !is_transposed(name, shape) {
        return Ok(values.to_vec());
    }
    Ok(golden::permuted(&(vec![shape[1], shape[0]], values.to_vec()), &[1, 0])?.1)
}

/// `module` with the recorded parameters; `prefix` completes names that leave out the network, `inside` is where the network is in
/// `module`.
pub(super) fn load<M: Module>(module: M, recorded: &Value, prefix: &str, inside: &str, conv: bool) -> Result<M, String> {
    let mut found = BTreeMap::new();
    for (name, value) in golden::object(recorded)? {
        let path = path_of(&format!("{prefix}{name}"), conv)?;
        let path = match path.strip_prefix(inside) {
            Some(rest) => rest.to_owned(),
            None => path,
        };
        found.insert(path, own_layout(name, array(value)?)?);
    }
    golden::load_parameters(module, &found)
}

/// Compares values in the original's order with a recorded tensor or a summary: l2 norm, sum and first elements.
///
/// The sum of many numbers that nearly cancel is judged by the size of the numbers, not of the sum.
pub(super) fn matches(what: &str, values: &[f64], recorded: &Value, (abs, rel): (f64, f64)) -> Outcome {
    if recorded.get("data").is_some() {
        return golden::close(what, values, &golden::tensor(recorded)?.1, abs, rel);
    }
    let norm = values.iter().map(|x| x * x).sum::<f64>().sqrt();
    let size: f64 = values.iter().map(|x| x.abs()).sum();
    golden::close(&format!("{what}: norm"), &[norm], &[golden::number(recorded, "l2")?], abs, rel)?;
    golden::close(&format!("{what}: sum"), &[values.iter().sum()], &[golden::number(recorded, "sum")?], abs + rel * size, rel)?;
    let first = golden::numbers(golden::member(recorded, "first")?)?;
    golden::close(&format!("{what}: first"), &values[..first.len().min(values.len())], &first, abs, rel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn generated_tensors_follow_the_recurrence() {
        let (shape, data) = array(&json!({"shape": [1, 2], "seed": 0, "amp": 2.0, "add": 1.0})).unwrap();
        let first = 2.0 * (2.0 * 1_013_904_223.0 / 4_294_967_296.0 - 1.0) + 1.0;
        assert_eq!((shape, data[0]), (vec![1, 2], first));
        assert!(array(&json!({"shape": [1]})).is_err());
    }

    #[test]
    fn names_become_paths_and_nonsense_is_refused() {
        for (name, conv, path) in [
            ("enc_s.fc.seq.2.weight", false, "encoder_style.stack.layers.1.weight"),
            ("enc_t.conv.6.bias", true, "encoder_class.conv.layers.2.bias"),
            ("rec.deconv.3.weight", true, "reconstructor.body.Conv.deconv.layers.1.weight"),
            ("rec.fc.seq.4.bias", false, "reconstructor.body.Dense.layers.2.bias"),
            ("est.trunk.2.u0", false, "estimator.trunk.1.u"),
            ("in_s.weight", false, "in_style.weight"),
            ("enc.log_std", false, "encoder.log_std"),
        ] {
            assert_eq!(path_of(name, conv).unwrap(), path);
        }
        assert!(path_of("enc_s.conv.1.weight", true).is_err() && path_of("what.ever", false).is_err());
    }

    #[test]
    fn summaries_notice_a_wrong_number() {
        let summary = json!({"l2": 5.0, "sum": 7.0, "first": [3.0, 4.0]});
        assert!(matches("x", &[3.0, 4.0], &summary, (1e-9, 1e-9)).is_ok());
        assert!(matches("x", &[4.0, 3.0], &summary, (1e-9, 1e-9)).unwrap_err().contains("first"));
        assert!(matches("x", &[3.0, 4.1], &summary, (1e-9, 1e-9)).unwrap_err().contains("norm"));
    }
}
