//! Whole models on small images: `hvae_*` and `lvae_*`.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use ibhost_framework::distributions::{Relaxation, uniform_from_normal};
use ibhost_framework::latent_model::LatentModel;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::PosteriorModel;
use ibhost_hit::Setting;
use serde_json::Value;

use super::Outcome;
use super::model::{described, in_our_layout, noise, terms};
use crate::golden::{Array, at, close, device, member, object, parameter_gradients, tensor, tolerance, values};

/// The normal number whose quantile is `u`, by bisection through the function the model uses.
fn normal_quantile(u: f64) -> f64 {
    let at = |x: f64| values(uniform_from_normal(Tensor::<1>::from_data([x], &device())))[0];
    let (mut low, mut high) = (-12.0, 12.0);
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if at(middle) < u { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

pub(super) fn check(file: &Value) -> Outcome {
    let (inputs, outputs, meta) = (member(file, "inputs")?, member(file, "outputs")?, member(file, "meta")?);
    let limits = tolerance(file);
    let mut weights: BTreeMap<String, Array> = BTreeMap::new();
    for (name, value) in object(inputs)? {
        if let Some(name) = name.strip_prefix("w.") {
            weights.insert(name.to_owned(), tensor(value)?);
        }
    }
    let described = described(meta)?.with_weights(&weights)?;
    let data = |key: &str| Ok::<_, String>(tensor(member(inputs, key)?)?.1);
    let z = match inputs.get("U_gumbel") {
        Some(uniform) => tensor(uniform)?.1.into_iter().map(normal_quantile).collect(),
        None => data("eps_q_z")?,
    };
    let x = described.inputs(data("x")?);
    let setting = Setting {
        rate_weight: meta.get("wu_temp").and_then(Value::as_f64).unwrap_or(1.0),
        relaxation: Relaxation { temperature: meta.get("gumbel_temp").and_then(Value::as_f64).unwrap_or(1.0), hard: false },
    };
    let pass = described.model.pass(x.clone(), setting, &mut noise(z, data("eps_q_y")?));
    let compare = |name: &str, found: Vec<f64>| match outputs.get(name) {
        Some(want) => close(name, &found, &tensor(want)?.1, limits.0, limits.1),
        None => Ok(()),
    };
    for (name, found) in terms(&pass) {
        compare(name, vec![found])?;
    }
    let [bottom, top] = pass.levels.as_slice() else { return Err("the model has not two levels".to_owned()) };
    for (name, posterior) in [("qz", &top.posterior), ("qy", &bottom.posterior), ("py", &bottom.prior)] {
        if let Some(logits) = posterior.logits() {
            compare(&format!("{name}_pi"), values(burn::tensor::activation::softmax(logits, 1)))?;
            continue;
        }
        let (mean, scale) = (posterior.mean(), posterior.deviation().ok_or("no deviation")?);
        compare(&format!("{name}_mu"), values(mean))?;
        compare(&format!("{name}_std"), values(scale))?;
    }
    compare("z", values(top.code.clone()))?;

    let gradients = parameter_gradients(&described.model, &pass.total.backward());
    let recorded: Vec<&String> = object(outputs)?.keys().filter(|name| name.starts_with("grad.")).collect();
    let mut checked = 0;
    for (path, found) in &gradients {
        let name = format!("grad.{}", described.name(path)?);
        let (_, want) = in_our_layout(&tensor(at(outputs, &[&name])?)?)?;
        close(&name, found, &want, limits.0, limits.1)?;
        checked += 1;
    }
    if checked != recorded.len() {
        return Err(format!("{checked} gradients compared, {} recorded", recorded.len()));
    }
    let mut none = Draws::recorded([]);
    let codes = described.model.posterior(x).point();
    compare("reconstruction", values(described.model.decode_mean(codes, &mut none)))?;
    if let Some(z) = inputs.get("sample_z") {
        let (shape, z) = tensor(z)?;
        let (rows, size) = (shape[0], shape[1..].iter().product::<usize>());
        let top = Tensor::<2>::from_data(TensorData::new(z, [rows, size]), &device());
        let (_, eps) = tensor(member(inputs, "sample_eps_y")?)?;
        let n = eps.len();
        let codes = described
            .model
            .sample_below(top, &mut Draws::recorded([("prior z1".to_owned(), TensorData::new(eps, [n]))]))
            .map_err(|e| e.to_string())?;
        compare("sample_x", values(described.model.decode_mean(codes, &mut none)))?;
    }
    Ok(())
}
