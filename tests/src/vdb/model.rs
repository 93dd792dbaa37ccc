//! The whole objective on a small perceptron: `mlp_loss`, and what `strategies` shares with it.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use ibhost_framework::build::BuildContext;
use ibhost_framework::capability::{Classify, Encode};
use ibhost_framework::component::resolve;
use ibhost_framework::dataset::{Batch, DataInfo};
use ibhost_framework::decoder::DecoderConfig;
use ibhost_framework::distributions::{Distribution, MultivariateNormal};
use ibhost_framework::encoder::EncoderConfig;
use ibhost_framework::math::log_mean_softmax;
use ibhost_framework::module::Erased;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{BoxedObjective, ObjectiveConfig, Parts, Progress, Recipe, read_measures};
use ibhost_framework::registry::Kind;
use ibhost_framework::strategy::MAIN;
use ibhost_nets::head::{Covariance, ScaleMap, posterior};
use serde_json::Value;

use crate::golden::{
    Array, at, close, close_tensor, count, device, float, images, labels, list, load_parameters, member, number, object,
    parameter_gradients, permuted, scalar, tensor, text, tolerance,
};

/// Where a recorded weight lives in the model.
pub(super) fn path_of(name: &str) -> Result<String, String> {
    let (layer, part) = name.rsplit_once('/').ok_or_else(|| format!("`{name}` is not a weight"))?;
    let layer = match layer {
        "enc/dense1" => "model.encoder.dense1",
        "enc/dense2" => "model.encoder.dense2",
        "enc/out" => "model.encoder.head",
        "dec" => "model.decoder.dense",
        _ => return Err(format!("`{layer}` is not a known layer")),
    };
    match part {
        "w" => Ok(format!("{layer}.weight")),
        "b" => Ok(format!("{layer}.bias")),
        _ => Err(format!("`{name}` is neither a weight nor a bias")),
    }
}

/// Recorded arrays by path. The first layer's rows follow the flattened image, recorded with channels last, here with channels first.
pub(super) fn by_path(recorded: &Value, shape: [usize; 3]) -> Result<BTreeMap<String, Array>, String> {
    let mut all = BTreeMap::new();
    for (name, value) in object(recorded)? {
        let mut array = tensor(value)?;
        if name == "enc/dense1/w" {
            let [channels, height, width] = shape;
            let units = array.1.len() / (channels * height * width).max(1);
            let flat = (vec![height, width, channels, units], array.1);
            array = (array.0, permuted(&flat, &[2, 0, 1, 3])?.1);
        }
        all.insert(path_of(name)?, array);
    }
    Ok(all)
}

/// The registered objective around the registered perceptron, as the component strings name them, with the recorded weights.
pub(super) struct Built {
    pub(super) objective: BoxedObjective,
    pub(super) recipe: Recipe,
    pub(super) shape: [usize; 3],
}

/// `images` gives the recorded image shape `[..., height, width, channels]`; sizes of the layers are read off the weights.
pub(super) fn build(objective: &str, cov: &str, images: &[usize], weights: &Value) -> Result<Built, String> {
    let [.., height, width, channels] = *images else { return Err(format!("images of shape {images:?}")) };
    let shape = [channels, height, width];
    let columns = |name: &str| -> Result<usize, String> {
        let (shape, _) = tensor(member(weights, name)?)?;
        shape.last().copied().ok_or_else(|| format!("`{name}` has no columns"))
    };
    let latent = tensor(member(weights, "dec/w")?)?.0[0];
    let encoder = format!("mlp/e1:{}|e2:{}|z:{latent}|cov:{cov}|scale:softplus", columns("enc/dense1/w")?, columns("enc/dense2/w")?);
    let classes = columns("dec/w")?;
    let (_, objective) = resolve::<dyn ObjectiveConfig>(Kind::Objective, objective).map_err(|e| e.to_string())?;
    let (_, encoder) = resolve::<dyn EncoderConfig>(Kind::Encoder, &encoder).map_err(|e| e.to_string())?;
    let recipe = objective.recipe();
    let (_, decoder) = resolve::<dyn DecoderConfig>(Kind::Decoder, recipe.decoder).map_err(|e| e.to_string())?;
    let data = DataInfo {
        name: "golden".to_owned(),
        classes: (0..classes).map(|c| c.to_string()).collect(),
        shape,
        note: None,
        class_entropy: None,
    };
    let context = BuildContext::new(device(), 0);
    let built = objective.build(&Parts { encoder: &*encoder, decoder: &*decoder, data: &data, context: &context });
    let objective = Erased::new(built.map_err(|e| e.to_string())?);
    Ok(Built { objective: load_parameters(objective, &by_path(weights, shape)?)?, recipe, shape })
}

/// A recorded batch.
pub(super) fn batch(x: &Value, y: &Value, device: &Device) -> Result<Batch, String> {
    let inputs = images(x, device)?;
    let indices = (0..inputs.dims()[0]).collect();
    Ok(Batch { inputs, labels: labels(y, device)?, indices })
}

/// Recorded noise `purpose -> member of inputs`.
pub(super) fn draws(inputs: &Value, purposes: &[(&str, &str)]) -> Result<Draws, String> {
    let recorded = purposes.iter().map(|(purpose, key)| {
        let (shape, data) = tensor(member(inputs, key)?)?;
        Ok(((*purpose).to_owned(), TensorData::new(data, shape)))
    });
    Ok(Draws::recorded(recorded.collect::<Result<Vec<_>, String>>()?))
}

/// The value of one measure.
pub(super) fn value(measures: &[(String, f64)], name: &str) -> Result<f64, String> {
    measures.iter().find(|(n, _)| n == name).map(|(_, v)| *v).ok_or_else(|| format!("`{name}` is not reported"))
}

pub(super) fn mlp_loss(file: &Value) -> Result<(), String> {
    let tolerance = tolerance(file);
    for case in list(member(file, "cases")?)? {
        let cov = text(case, "cov_type")?;
        for class_loss in ["vdb", "vib"].into_iter().filter(|name| case.get(name).is_some()) {
            one_loss(case, cov, class_loss, tolerance).map_err(|e| format!("{cov} {class_loss}: {e}"))?;
        }
    }
    Ok(())
}

fn one_loss(case: &Value, cov: &str, class_loss: &str, tolerance: (f64, f64)) -> Result<(), String> {
    let (abs, rel) = tolerance;
    let (inputs, outputs, want) = (member(case, "inputs")?, member(case, "outputs")?, member(case, class_loss)?);
    let (beta, m) = (number(case, "beta")?, count(case, "M")?);
    let averaged = tensor(member(inputs, "eps_L12")?)?.0[0];
    let text = format!("vdb/beta:{beta}|m:{m}|class_loss:{class_loss}|eval_samples:{averaged}");
    let (image_shape, _) = tensor(member(inputs, "x")?)?;
    let built = build(&text, cov, &image_shape, member(inputs, "weights")?)?;
    let device = device();
    let batch_on = |device: &Device| batch(member(inputs, "x")?, member(inputs, "y")?, device);

    let loss = built.objective.loss(MAIN, Progress::at(1, 0), &batch_on(&device)?, &mut draws(inputs, &[("posterior", "eps_loss")])?);
    let gradients = loss.total.backward();
    close_tensor("loss", loss.total, member(want, "loss_bits")?, tolerance)?;
    let measures = read_measures(loss.measures);
    for (name, key) in [("loss", "loss_bits"), ("izy_bits", "I_YZ_bits"), ("izx_bits", "I_XZ_bits")] {
        close(name, &[value(&measures, name)?], &[scalar(member(want, key)?)?], abs, rel)?;
    }
    let found = parameter_gradients(&built.objective, &gradients);
    let recorded = by_path(member(want, "grads")?, built.shape)?;
    if found.len() != recorded.len() {
        return Err(format!("{} parameters have a gradient, {} are recorded", found.len(), recorded.len()));
    }
    for (path, (_, want)) in &recorded {
        let found = found.get(path).ok_or_else(|| format!("`{path}` has no gradient"))?;
        close(&format!("gradient of {path}"), found, want, abs, rel)?;
    }

    let plain = device.clone().without_autodiff();
    let model = built.objective.valid();
    let inference = batch_on(&plain)?;
    let purposes = [("posterior", "eps_loss"), ("accuracy", "eps_L1"), ("averaged accuracy", "eps_L12")];
    let measures = read_measures(model.evaluate(Progress::at(1, 0), &inference, &mut draws(inputs, &purposes)?));
    close("evaluated loss", &[value(&measures, "loss")?], &[scalar(member(want, "loss_bits")?)?], abs, rel)?;
    for (name, key) in [("accuracy".to_owned(), "accuracy_L1"), (format!("accuracy_l{averaged}"), "accuracy_L12")] {
        close(&name, &[value(&measures, &name)?], &[scalar(member(outputs, key)?)?], abs, rel)?;
    }
    intermediate(case, cov, &model, &inference, tolerance)
}

/// The posterior against the recorded mean and entries, and the averaged softmax against the recorded logits.
fn intermediate(case: &Value, cov: &str, model: &BoxedObjective, batch: &Batch, tolerance: (f64, f64)) -> Result<(), String> {
    let device = batch.inputs.device();
    let outputs = member(case, "outputs")?;
    let q = model.capability::<Encode>().ok_or("the model has no posterior")?.posterior(batch.inputs.clone());
    close_tensor("mean", q.mean(), member(outputs, "mu")?, tolerance)?;
    let (mu, entries): (Tensor<2>, Tensor<2>) = (float(member(outputs, "mu")?, &device)?, float(member(outputs, "cov_entries")?, &device)?);
    let latent = mu.dims()[1];
    let covariance = if cov == "full" { Covariance::Full } else { Covariance::Diag };
    let recorded = posterior(covariance, ScaleMap::Softplus, Tensor::cat(vec![mu, entries], 1), latent);
    let flat = |q: &dyn Distribution| match (q.downcast::<MultivariateNormal>(), q.as_normal()) {
        (Some(full), _) => crate::golden::values(full.cholesky.clone()),
        (None, Some((_, scale))) => crate::golden::values(scale),
        (None, None) => Vec::new(),
    };
    close("scale", &flat(&*q), &flat(&*recorded), tolerance.0, tolerance.1)?;
    let logits: Tensor<3> = float(at(outputs, &["logits"])?, &device)?;
    let samples = logits.dims()[0];
    let mut noise = draws(member(case, "inputs")?, &[("posterior", "eps_loss")])?;
    let classifier = model.capability::<Classify>().ok_or("the model does not classify")?;
    let found = classifier.class_log_probabilities(batch.inputs.clone(), samples, &mut noise);
    let want = crate::golden::values(log_mean_softmax(logits).exp());
    close("mean softmax", &crate::golden::values(found.exp()), &want, tolerance.0, tolerance.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_of_the_first_layer_follow_their_pixels() {
        // One unit per row number, so a row says which recorded position it came from.
        let [channels, height, width] = [2, 2, 3];
        let rows: Vec<usize> = (0..12).collect();
        let weights = json!({ "enc/dense1/w": { "shape": [12, 1], "data": rows }, "dec/b": { "shape": [2], "data": [5, 6] } });
        let found = by_path(&weights, [channels, height, width]).unwrap();
        let mut expected = Vec::new();
        for c in 0..channels {
            for h in 0..height {
                for w in 0..width {
                    expected.push(((h * width + w) * channels + c) as f64);
                }
            }
        }
        assert_eq!(found["model.encoder.dense1.weight"], (vec![12, 1], expected));
        assert_eq!(found["model.decoder.dense.bias"].1, [5.0, 6.0]);
        assert!(by_path(&json!({ "enc/dense9/w": { "shape": [1], "data": [1] } }), [1, 1, 1]).unwrap_err().contains("enc/dense9"));
    }
}
