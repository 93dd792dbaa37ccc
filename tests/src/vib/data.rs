//! Weights, batches and noise as the VIB vectors store them.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use ibhost_framework::dataset::Batch;
use ibhost_vib::config::VibConfig;
use serde_json::Value;

use super::Outcome;
use crate::golden::{self, Array};

/// Path in the objective of the parameter a notebook calls `name`.
pub(super) fn path_of(name: &str) -> Result<String, String> {
    let unknown = || format!("`{name}` is not a parameter of the notebooks");
    let mut parts = name.split('/');
    let (Some(scope), Some(layer), Some(parameter), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(unknown());
    };
    let (part, layer) = match (scope, layer) {
        ("encoder", "fully_connected" | "Dense_0") => ("encoder", "dense1"),
        ("encoder", "fully_connected_1" | "Dense_1") => ("encoder", "dense2"),
        ("encoder", "fully_connected_2" | "Dense_2") => ("encoder", "head"),
        ("encoder", "Dense_3") => ("encoder", "spread"),
        ("encoder", "LayerNorm_0") => ("encoder", "norm1"),
        ("encoder", "LayerNorm_1") => ("encoder", "norm2"),
        ("decoder", "fully_connected" | "Dense_0") => ("decoder", "dense"),
        ("classifier", "Dense_0") => ("decoder", "dense1"),
        ("classifier", "LayerNorm_0") => ("decoder", "norm1"),
        ("classifier", "Dense_1") => ("decoder", "dense2"),
        _ => return Err(unknown()),
    };
    let parameter = match parameter {
        "weights" | "kernel" => "weight",
        "bias" if layer.starts_with("norm") => "beta",
        "biases" | "bias" => "bias",
        "scale" => "gamma",
        _ => return Err(unknown()),
    };
    Ok(format!("model.{part}.{layer}.{parameter}"))
}

/// Recorded tensors under the paths of the objective's parameters.
pub(super) fn by_path(recorded: &Value) -> Result<BTreeMap<String, Array>, String> {
    golden::object(recorded)?.iter().map(|(name, value)| Ok((path_of(name)?, golden::tensor(value)?))).collect()
}

pub(super) fn compare_all(what: &str, found: &BTreeMap<String, Vec<f64>>, recorded: &Value, (abs, rel): (f64, f64)) -> Outcome {
    let recorded = by_path(recorded)?;
    if !found.keys().eq(recorded.keys()) {
        return Err(format!("{what} of {:?} found, of {:?} recorded", found.keys(), recorded.keys()));
    }
    recorded.iter().try_for_each(|(path, (_, want))| golden::close(&format!("{what} of {path}"), &found[path], want, abs, rel))
}

/// Images of any rank as rows, `[batch, 1, 1, features]`: one row of pixels is flattened in the order the notebooks flatten it.
pub(super) fn rows(images: &Array, scale: f64) -> Result<(Tensor<4>, usize), String> {
    let (shape, values) = images;
    let batch = *shape.first().ok_or("images have no dimension")?;
    let features = shape[1..].iter().product();
    let scaled: Vec<f64> = values.iter().map(|x| x * scale - 1.0).collect();
    Ok((Tensor::from_data(TensorData::new(scaled, [batch, 1, 1, features]), &golden::device()), features))
}

pub(super) fn batch_of(images: &Array, labels: &Value, scale: f64) -> Result<Batch, String> {
    let inputs = rows(images, scale)?.0;
    let labels = golden::labels(labels, &golden::device())?;
    let indices = (0..labels.dims()[0]).collect();
    Ok(Batch { inputs, labels, indices })
}

/// The same batch for a model without autodiff.
pub(super) fn held_out(batch: &Batch) -> Batch {
    Batch { inputs: batch.inputs.clone().inner(), labels: batch.labels.clone().inner(), indices: batch.indices.clone() }
}

/// Recorded noise of `[batch, latent]` or `[samples, batch, latent]` under `purpose`.
pub(super) fn noise((shape, values): &Array, purpose: &str) -> (String, TensorData) {
    let mut shape = shape.clone();
    if shape.len() == 2 {
        shape.insert(0, 1);
    }
    (purpose.to_owned(), TensorData::new(values.clone(), shape))
}

/// Compares scalars by name with recorded ones.
pub(super) fn scalars(found: &[(&str, f64)], outputs: &Value, (abs, rel): (f64, f64)) -> Outcome {
    found.iter().try_for_each(|(name, value)| golden::close(name, &[*value], &[golden::scalar(golden::member(outputs, name)?)?], abs, rel))
}

pub(super) fn measure(measures: &BTreeMap<String, f64>, name: &str) -> Result<f64, String> {
    measures.get(name).copied().ok_or_else(|| format!("the objective does not report `{name}`"))
}

pub(super) fn beta(inputs: &Value) -> f64 {
    inputs.get("beta").and_then(Value::as_f64).unwrap_or(VibConfig::default().beta)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_notebooks_have_a_path() {
        for (name, path) in [
            ("encoder/fully_connected_2/biases", "model.encoder.head.bias"),
            ("decoder/fully_connected/weights", "model.decoder.dense.weight"),
            ("encoder/Dense_3/kernel", "model.encoder.spread.weight"),
            ("classifier/LayerNorm_0/bias", "model.decoder.norm1.beta"),
            ("encoder/LayerNorm_1/scale", "model.encoder.norm2.gamma"),
        ] {
            assert_eq!(path_of(name).unwrap(), path);
        }
        for name in ["encoder/Dense_9/kernel", "encoder/Dense_0", "encoder/Dense_0/kernel/x", "encoder/Dense_0/step"] {
            assert!(path_of(name).unwrap_err().contains(name));
        }
    }
}
