//! Densities of the toy program on their own: `toy_layers` and `circle_prior_init`.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use ibhost_framework::build::BuildContext;
use ibhost_framework::distributions::{Bernoulli, BoxedDistribution, Distribution, Normal, normal_log_prob, one_sample};
use ibhost_mim::packing::pack;
use ibhost_mim::prior::{BINARY_MARGIN, LearnedMixture, LearnedNormal, Marginal};
use ibhost_nets::pseudo_inputs::{PseudoInputs, Start};
use ibhost_nets::vector_mlp::{BernoulliNet, Layers, NormalNet};
use serde_json::Value;

use super::model::arrays;
use super::{Outcome, inputs, number, outputs};
use crate::golden::{
    Array, close, close_tensor, device, float, load_parameters, member, parameter_gradients, permuted, tensor, text, tolerance,
};

/// Gradients of sum(ln p) with respect to the named leaves and the parameters of `module`.
fn gradients<M: Module>(
    file: &Value,
    log_prob: Tensor<1>,
    leaves: &[(&str, &Tensor<2>)],
    module: &M,
    path_of: impl Fn(&str) -> Option<String>,
) -> Outcome {
    let (output, tolerance) = (outputs(file)?, tolerance(file));
    close_tensor("log density", log_prob.clone(), member(output, "log_prob")?, tolerance)?;
    let gradients = log_prob.sum().backward();
    let found = parameter_gradients(module, &gradients);
    for (name, array) in arrays(output, "grad:")? {
        if let Some((_, leaf)) = leaves.iter().find(|(leaf, _)| *leaf == name) {
            let gradient = leaf.grad(&gradients).ok_or_else(|| format!("`{name}` has no gradient"))?;
            close_tensor(&format!("gradient of {name}"), gradient, member(output, &format!("grad:{name}"))?, tolerance)?;
            continue;
        }
        let path = path_of(&name).ok_or_else(|| format!("`{name}` is not a known parameter"))?;
        let want = if path.ends_with("weight") { permuted(&array, &[1, 0])? } else { array };
        let found = found.get(&path).ok_or_else(|| format!("there is no parameter `{path}`"))?;
        close(&format!("gradient of {name}"), found, &want.1, tolerance.0, tolerance.1)?;
    }
    Ok(())
}

fn transposed(array: &Array) -> Result<Array, String> {
    permuted(array, &[1, 0])
}

/// Weights of a head or of a network with one, by path.
fn net_weights(recorded: &BTreeMap<String, Array>) -> Result<BTreeMap<String, Array>, String> {
    let mut all = BTreeMap::new();
    for (name, array) in recorded {
        if let Some(path) = net_path(name) {
            all.insert(path.clone(), if path.ends_with("weight") { transposed(array)? } else { array.clone() });
        }
    }
    Ok(all)
}

fn net_path(name: &str) -> Option<String> {
    let (layer, part) = name.rsplit_once('.')?;
    let layer = match layer.rsplit('.').next()? {
        "fc_loc" => "loc".to_owned(),
        "fc_logscale" => "logscale".to_owned(),
        "fc_logprobs" => "logits".to_owned(),
        number => format!("hidden.{}", number.parse::<usize>().ok()? / 2),
    };
    Some(format!("{layer}.{part}"))
}

fn leaf(value: &Value) -> Result<Tensor<2>, String> {
    Ok(float::<2>(value, &device())?.require_grad())
}

pub(super) fn toy_layers(file: &Value) -> Outcome {
    let (input, output, tolerance) = (inputs(file)?, outputs(file)?, tolerance(file));
    let context = BuildContext::new(device(), 1);
    let recorded = arrays(input, "")?;
    let has = |key: &str| recorded.contains_key(key);
    if has("logcoefs_raw") {
        return mixture(file, &context);
    }
    if has("loc") {
        return learned_normal(file, &context);
    }
    if has("pseudo_input") {
        return pseudo_inputs(file, &context, &recorded);
    }
    let min_scale = number(input, "min_scale")?;
    let layers = |inputs_of: &str| -> Result<(Layers, usize, usize), String> {
        let shape = &recorded.get(inputs_of).ok_or("the head has no weight")?.0;
        Ok((Layers { mid: shape[1], layers: 1, min_logvar: -min_scale.log10(), ..Layers::default() }, shape[1], shape[0]))
    };
    let (h, value) = (leaf(member(input, "h")?)?, leaf(member(input, "value")?)?);
    if has("fc_logprobs.weight") {
        let (net, from, to) = layers("fc_logprobs.weight")?;
        let head = load_parameters(BernoulliNet::new(&net, from, to, &context), &net_weights(&recorded)?)?;
        let density = Bernoulli::new(head.forward(h.clone())).boxed();
        close_tensor("probabilities", density.mean(), member(output, "probs")?, tolerance)?;
        // The relaxation of the published code: a Bernoulli variable's sample is its probability.
        close_tensor("sample", density.mean(), member(output, "rsample")?, tolerance)?;
        let x = value.clone().detach().clamp(BINARY_MARGIN, 1.0 - BINARY_MARGIN);
        return gradients(file, density.log_prob(x).map_err(|e| e.to_string())?, &[("h", &h)], &head, net_path);
    }
    let (net, from, to) = layers("fc_loc.weight")?;
    let head = load_parameters(NormalNet::new(&net, from, to, &context), &net_weights(&recorded)?)?;
    let (mean, learned) = head.forward(h.clone());
    let scale = if number(input, "delta")? > 0.0 { learned.clone().mul_scalar(0.0).add_scalar(min_scale) } else { learned };
    close_tensor("loc", mean.clone(), member(output, "loc")?, tolerance)?;
    close_tensor("scale", scale.clone(), member(output, "scale")?, tolerance)?;
    let density = Normal { mean: mean.clone(), scale: scale.clone() }.boxed();
    close_tensor(
        "sample",
        one_sample(&*density, float(member(input, "eps")?, &device())?).map_err(|e| e.to_string())?,
        member(output, "sample")?,
        tolerance,
    )?;
    let log_prob = normal_log_prob(value.clone(), mean, scale);
    gradients(file, log_prob, &[("h", &h), ("value", &value)], &head, net_path)
}

fn scored(prior: &Marginal, x: &Tensor<2>, components: impl Fn(Tensor<2>) -> BoxedDistribution) -> Result<Tensor<1>, String> {
    let density = prior.distribution(x, components).ok_or("the prior has no density")?;
    density.log_prob(x.clone()).map_err(|error| error.to_string())
}

fn learned_normal(file: &Value, context: &BuildContext) -> Outcome {
    let (input, output, tolerance) = (inputs(file)?, outputs(file)?, tolerance(file));
    let value = leaf(member(input, "value")?)?;
    let [batch, dim] = value.dims();
    let recorded = arrays(input, "")?;
    let kept: BTreeMap<String, Array> =
        ["loc", "logscale"].iter().filter_map(|k| recorded.get(*k).map(|a| ((*k).to_owned(), a.clone()))).collect();
    let normal = load_parameters(LearnedNormal::new(dim, number(input, "min_scale")?, context), &kept)?;
    close_tensor("scale", normal.parameters().1.expand([batch, dim]), member(output, "scale")?, tolerance)?;
    let prior = Marginal { normal: Some(normal), ..Marginal::fixed() };
    let log_prob = scored(&prior, &value, |u| Bernoulli::new(u).boxed())?;
    gradients(file, log_prob, &[("value", &value)], &prior, |name| Some(format!("normal.{name}")))
}

fn mixture(file: &Value, context: &BuildContext) -> Outcome {
    let (input, output, tolerance) = (inputs(file)?, outputs(file)?, tolerance(file));
    let value = leaf(member(input, "value")?)?;
    let recorded = arrays(input, "")?;
    let min_scale = if input.get("min_scale").is_some() { number(input, "min_scale")? } else { 1e-6 };
    let read = |key: &str| recorded.get(key).cloned().ok_or_else(|| format!("`{key}` is missing"));
    let (weights, locs, logscales) = (read("logcoefs_raw")?, read("locs")?, read("logscales")?);
    let mut mixture = LearnedMixture::random(locs.0[0], locs.0[1], min_scale, context);
    let given = |(shape, values): &Array| -> Param<Tensor<2>> { context.given([shape[0], shape[1]], values.clone()) };
    (mixture.logcoefs, mixture.locs, mixture.logscales) = (given(&weights), given(&locs), given(&logscales));
    close_tensor("log weights", mixture.log_weights(), member(output, "log_weights_after_truncation")?, tolerance)?;
    let prior = Marginal { mixture: Some(mixture), ..Marginal::fixed() };
    let log_prob = scored(&prior, &value, |u| Bernoulli::new(u).boxed())?;
    gradients(file, log_prob, &[("value", &value)], &prior, |name| Some(format!("mixture.{}", name.trim_end_matches("_raw"))))
}

fn pseudo_inputs(file: &Value, context: &BuildContext, recorded: &BTreeMap<String, Array>) -> Outcome {
    let value = leaf(member(inputs(file)?, "value")?)?;
    let (shape, data) = recorded.get("pseudo_input").cloned().ok_or("`pseudo_input` is missing")?;
    let weights = net_weights(recorded)?;
    let size = |path: &str, axis: usize| weights.get(path).map(|(shape, _)| shape[axis]).ok_or_else(|| format!("`{path}` is missing"));
    let hidden = weights.keys().filter(|k| k.starts_with("hidden") && k.ends_with("weight")).count();
    let net = Layers { mid: size("loc.weight", 0)?, layers: hidden + 1, min_logvar: 6.0, ..Layers::default() };
    let net = load_parameters(NormalNet::new(&net, shape[1], size("loc.weight", 1)?, context), &weights)?;
    let mut pseudo = PseudoInputs::new(shape[0], shape[1], Start::Normal { mean: 0.0, std: 1.0 }, context);
    pseudo.inputs = Param::from_tensor(Tensor::from_data(TensorData::new(data, [shape[0], shape[1]]), &device()));
    let leaf = pseudo.inputs.val();
    let prior = Marginal { pseudo: Some(pseudo), ..Marginal::fixed() };
    let components = |u| {
        let (mean, scale) = net.forward(u);
        Normal { mean, scale }.boxed()
    };
    let log_prob = scored(&prior, &value, components)?;
    gradients(file, log_prob, &[("value", &value), ("pseudo_input", &leaf)], &net, net_path)
}

pub(super) fn circles(file: &Value) -> Outcome {
    let count = number(inputs(file)?, "K")? as usize;
    let (abs, rel) = tolerance(file);
    let found: Vec<f64> = pack(count).iter().flat_map(|c| [c.centre[0], c.centre[1], c.radius]).collect();
    close("circles", &found, &tensor(member(outputs(file)?, "xyr")?)?.1, abs, rel)
        .map_err(|e| format!("{}: {e}", text(file, "case").unwrap_or("")))
}
