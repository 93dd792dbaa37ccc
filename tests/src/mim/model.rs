//! Toy models built to the sizes a vector records, with its weights.

use std::collections::BTreeMap;

use ibhost_framework::build::BuildContext;
use ibhost_framework::dataset::DataInfo;
use ibhost_framework::objective::Parts;
use ibhost_mim::objective::{CodePrior, InputMarginal};
use ibhost_mim::{MimConfig, MimObjective};
use ibhost_nets::vector_mlp::{Activation, DenseDecoderConfig, DenseEncoderConfig, Layers, Output};
use serde_json::Value;

use crate::golden::{Array, device, load_parameters, object, permuted, tensor};

/// Recorded arrays below `prefix`, by the name after it.
pub(super) fn arrays(value: &Value, prefix: &str) -> Result<BTreeMap<String, Array>, String> {
    let mut all = BTreeMap::new();
    for (name, value) in object(value)? {
        if let Some(rest) = name.strip_prefix(prefix) {
            all.insert(rest.to_owned(), tensor(value)?);
        }
    }
    Ok(all)
}

/// Recorded weights or gradients of a toy model by path in ours; other arrays are left out. Mixture components are gathered into one tensor.
pub(super) fn by_path(recorded: &BTreeMap<String, Array>) -> Result<BTreeMap<String, Array>, String> {
    let mut all: BTreeMap<String, Array> = BTreeMap::new();
    let mut components: BTreeMap<String, BTreeMap<usize, Array>> = BTreeMap::new();
    for (name, array) in recorded {
        let path = if let Some(rest) = name.strip_prefix("q_z_given_x.") {
            net_path("encoder", rest)?
        } else if let Some(rest) = name.strip_prefix("p_x_given_z.") {
            net_path("decoder", rest)?
        } else if let Some((side, rest)) = name.split_once('.').filter(|(side, _)| matches!(*side, "q_x" | "p_z")) {
            if let Some((index, part)) = rest.strip_prefix("comps.").and_then(|rest| rest.split_once('.')) {
                let index = index.parse().map_err(|_| format!("`{name}` has no component number"))?;
                components.entry(format!("{side}.mixture.{part}s")).or_default().insert(index, array.clone());
                continue;
            }
            let part = match rest {
                "loc" | "logscale" => format!("normal.{rest}"),
                "logcoefs" => "mixture.logcoefs".to_owned(),
                "logprobs" => "bernoulli.logits".to_owned(),
                "pseudo_input" => "pseudo.inputs".to_owned(),
                _ => return Err(format!("`{name}` is not a known parameter")),
            };
            format!("{side}.{part}")
        } else {
            continue;
        };
        let array = if path.ends_with("weight") { permuted(array, &[1, 0])? } else { array.clone() };
        all.insert(path, array);
    }
    for (path, rows) in components {
        let width = rows.values().next().map_or(0, |(_, values)| values.len());
        let values: Vec<f64> = rows.values().flat_map(|(_, values)| values.iter().copied()).collect();
        all.insert(path, (vec![rows.len(), width], values));
    }
    Ok(all)
}

/// `0.weight`, `2.fc_loc.bias` ... of a sequence of layers and activations.
fn net_path(side: &str, rest: &str) -> Result<String, String> {
    let (index, part) = rest.split_once('.').ok_or_else(|| format!("`{rest}` is not a layer's parameter"))?;
    let index: usize = index.parse().map_err(|_| format!("`{rest}` has no layer number"))?;
    Ok(match part.split_once('.') {
        None => format!("{side}.net.hidden.{}.{part}", index / 2),
        Some(("fc_loc", part)) => format!("{side}.net.loc.{part}"),
        Some(("fc_logscale", part)) => format!("{side}.net.logscale.{part}"),
        Some(("fc_logprobs", part)) => format!("{side}.net.logits.{part}"),
        Some(_) => return Err(format!("`{rest}` is not a known layer")),
    })
}

/// Exponent of the smallest scale: named in the case, otherwise that of the published runs.
pub(super) fn min_logvar(case: &str) -> f64 {
    let stated = case.split_once("min-logvar ").and_then(|(_, rest)| rest.split([')', ' ', ',']).next()).and_then(|v| v.parse().ok());
    stated.unwrap_or(6.0)
}

/// The model of `config` with the recorded weights; the sizes, the number of layers and the densities are read off them.
pub(super) fn build(mut config: MimConfig, case: &str, recorded: &BTreeMap<String, Array>) -> Result<MimObjective, String> {
    let weights = by_path(recorded)?;
    let size = |path: &str, axis: usize| weights.get(path).and_then(|(shape, _)| shape.get(axis)).copied();
    let need = |path: &str, axis| size(path, axis).ok_or_else(|| format!("the vector has no `{path}`"));
    let latent = need("encoder.net.loc.weight", 1)?;
    let bernoulli = weights.contains_key("decoder.net.logits.weight");
    let inputs = need(if bernoulli { "decoder.net.logits.weight" } else { "decoder.net.loc.weight" }, 1)?;
    let hidden = (0..weights.len()).take_while(|i| weights.contains_key(&format!("encoder.net.hidden.{i}.weight"))).count();
    let act = match case {
        case if case.contains("swish") => Activation::Swish,
        case if case.contains("relu") => Activation::Relu,
        _ => Activation::Tanh,
    };
    let net = Layers { mid: size("encoder.net.hidden.0.weight", 1).unwrap_or(1), layers: hidden + 1, act, min_logvar: min_logvar(case) };
    config.min_logvar = net.min_logvar;
    if let Some(rows) = size("q_x.mixture.locs", 0).or(size("q_x.pseudo.inputs", 0)) {
        config.q_x_gmm = rows;
    }
    if let Some(rows) = size("p_z.mixture.locs", 0).or(size("p_z.pseudo.inputs", 0)) {
        config.p_z_gmm = rows;
    }
    let has = |prefix: &str| weights.keys().any(|path| path.starts_with(prefix));
    if has("q_x.pseudo") {
        config.q_x = InputMarginal::GmmMarginal;
    } else if has("q_x.") {
        config.q_x = InputMarginal::Prior;
    }
    if has("p_z.pseudo") {
        config.p_z = CodePrior::GmmMarginal;
    } else if has("p_z.") {
        config.p_z = CodePrior::Prior;
    } else if case.contains("p-z marginal") {
        config.p_z = CodePrior::Marginal;
    }
    let context = BuildContext::new(device(), 1);
    let data =
        DataInfo { name: "golden".to_owned(), classes: vec!["0".to_owned()], shape: [1, 1, inputs], note: None, class_entropy: None };
    let encoder = DenseEncoderConfig { z: latent, net: net.clone() };
    let decoder = DenseDecoderConfig { output: if bernoulli { Output::Bernoulli } else { Output::Normal }, net };
    let parts = Parts { encoder: &encoder, decoder: &decoder, data: &data, context: &context };
    let model = config.model(&parts).map_err(|error| error.to_string())?;
    load_parameters(model, &weights)
}
