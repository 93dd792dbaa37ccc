//! Pieces of the image program: `image_densities`, `image_layers`, `vamp_prior_and_ll`.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use ibhost_analyses::information::nll::{mean_nll, samples_used};
use ibhost_framework::build::BuildContext;
use ibhost_framework::distributions::{Bernoulli, DiscretisedLogistic, Distribution, Normal};
use ibhost_mim::hierarchical::{normal_without_constant, vamp_prior};
use ibhost_nets::gated::{Conv, GatedConv, GatedDense, GatedResidual, Mask, MaskedConv, MaskedGatedConv, Window, he_linear};
use ibhost_nets::ladder::PROBABILITY_FLOOR;
use serde_json::Value;

use super::model::arrays;
use super::{Outcome, inputs, number, outputs};
use crate::golden::{
    Array, close, close_tensor, device, float, load_parameters, member, object, parameter_gradients, permuted, tensor, text, tolerance,
};

fn leaf(input: &Value, key: &str) -> Result<Tensor<2>, String> {
    Ok(float::<2>(member(input, key)?, &device())?.require_grad())
}

/// Compares a sum's value and the gradients of its leaves.
fn compare(file: &Value, name: &str, value: Tensor<1>, leaves: &[(&str, &Tensor<2>)]) -> Outcome {
    let (output, tolerance) = (outputs(file)?, tolerance(file));
    close_tensor(name, value.clone(), member(output, name)?, tolerance)?;
    let gradients = value.sum().backward();
    for (key, _) in object(output)?.iter().filter(|(key, _)| key.starts_with("grad:")) {
        let (_, leaf) = leaves.iter().find(|(leaf, _)| key == &format!("grad:{leaf}")).ok_or_else(|| format!("`{key}` is not known"))?;
        let gradient = leaf.grad(&gradients).ok_or_else(|| format!("there is no gradient for `{key}`"))?;
        close_tensor(key, gradient, member(output, key)?, tolerance)?;
    }
    Ok(())
}

pub(super) fn image_densities(file: &Value) -> Outcome {
    let (input, output, case, tolerance) = (inputs(file)?, outputs(file)?, text(file, "case")?, tolerance(file));
    let x = leaf(input, "x")?;
    let features = x.dims()[1] as f64;
    let (value, leaves) = match case.split(' ').next().unwrap_or_default() {
        "log_Normal_diag" => {
            let (mean, log_variance) = (leaf(input, "mean")?, leaf(input, "log_var")?);
            let scale = log_variance.clone().mul_scalar(0.5).exp();
            (normal_without_constant(x.clone(), mean.clone(), scale), vec![("mean", mean), ("log_var", log_variance)])
        }
        "log_Normal_standard" => (normal_without_constant(x.clone(), x.zeros_like().detach(), x.ones_like().detach()), Vec::new()),
        "log_Bernoulli" => {
            let mean = leaf(input, "mean")?;
            let probabilities = mean.clone().clamp(PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR);
            (Bernoulli::new(probabilities).log_prob(x.clone()).map_err(|e| e.to_string())?, vec![("mean", mean)])
        }
        "log_Logistic_256" => {
            let (mean, log_scale) = (leaf(input, "mean")?, leaf(input, "logvar")?);
            let density = DiscretisedLogistic { location: mean.clone(), log_scale: log_scale.clone() };
            close_tensor("elementwise", density.level_log_probs(x.clone()).neg(), member(output, "elementwise")?, tolerance)?;
            (density.log_prob(x.clone()).map_err(|e| e.to_string())?.neg(), vec![("mean", mean), ("logvar", log_scale)])
        }
        other => return Err(format!("`{other}` is not a known density")),
    };
    if let Some(want) = output.get("average") {
        close_tensor("average", value.clone().div_scalar(features), want, tolerance)?;
    }
    let mut leaves: Vec<(&str, &Tensor<2>)> = leaves.iter().map(|(name, leaf)| (*name, leaf)).collect();
    leaves.push(("x", &x));
    compare(file, "sum", value, &leaves)
}

/// Recorded weights by path; dense ones are recorded outputs first.
fn weights(file: &Value, path_of: &dyn Fn(&str) -> String) -> Result<BTreeMap<String, Array>, String> {
    let mut all = BTreeMap::new();
    for (name, array) in arrays(inputs(file)?, "")? {
        if name == "x" || name == "cotangent" {
            continue;
        }
        let array = if array.0.len() == 2 { permuted(&array, &[1, 0])? } else { array };
        all.insert(path_of(&name), array);
    }
    Ok(all)
}

/// Loads the weights, runs the layer and compares output and gradients of sum(y * cotangent).
fn run<M: Module, const D: usize>(
    file: &Value,
    layer: M,
    path_of: &dyn Fn(&str) -> String,
    forward: impl Fn(&M, Tensor<D>) -> Tensor<D>,
) -> Outcome {
    let (input, output, tolerance) = (inputs(file)?, outputs(file)?, tolerance(file));
    let layer = load_parameters(layer, &weights(file, path_of)?)?;
    let x: Tensor<D> = float::<D>(member(input, "x")?, &device())?.require_grad();
    let y = forward(&layer, x.clone());
    close_tensor("y", y.clone(), member(output, "y")?, tolerance)?;
    let gradients = (y * float(member(input, "cotangent")?, &device())?).sum().backward();
    let found = parameter_gradients(&layer, &gradients);
    for (name, array) in arrays(output, "grad:")? {
        if name == "x" {
            let gradient = x.grad(&gradients).ok_or("x has no gradient")?;
            close_tensor("gradient of x", gradient, member(output, "grad:x")?, tolerance)?;
            continue;
        }
        let want = if array.0.len() == 2 { permuted(&array, &[1, 0])? } else { array };
        let found = found.get(&path_of(&name)).ok_or_else(|| format!("the layer has no parameter for `{name}`"))?;
        close(&format!("gradient of {name}"), found, &want.1, tolerance.0, tolerance.1)?;
    }
    Ok(())
}

/// `s2` in `GatedConv2d 2->3 k3 s2 p1`.
fn stated(case: &str, letter: char) -> Option<usize> {
    case.split(' ').find_map(|word| word.strip_prefix(letter)?.parse().ok())
}

pub(super) fn image_layers(file: &Value) -> Outcome {
    let (input, case) = (inputs(file)?, text(file, "case")?);
    let context = BuildContext::new(device(), 1);
    let shape = |key: &str| -> Result<Vec<usize>, String> { Ok(tensor(member(input, key)?)?.0) };
    let window =
        |shape: &[usize], default: usize| Window::new(shape[2], stated(case, 's').unwrap_or(1), stated(case, 'p').unwrap_or(default));
    let gates = |name: &str| name.replace("h.", "value.").replace("g.", "gate.");
    let mask = || if case.split(' ').any(|word| word == "A") { Mask::A } else { Mask::B };
    match case.split(' ').next().unwrap_or_default() {
        "GatedDense" => {
            let size = shape("h.weight")?;
            run::<_, 2>(file, GatedDense::new(size[1], size[0], &context), &gates, GatedDense::forward)
        }
        "GatedConv2d" => {
            let size = shape("h.weight")?;
            let layer = GatedConv::new([size[1], size[0]], window(&size, size[2] / 2), &context);
            run::<_, 4>(file, layer, &gates, GatedConv::forward)
        }
        "MaskedConv2d" => {
            let size = shape("weight")?;
            let layer = MaskedConv::new([size[1], size[0]], size[2], mask(), input.get("bias").is_some(), 0, &context);
            run::<_, 4>(file, layer, &|name| format!("conv.{name}"), MaskedConv::forward)
        }
        "MaskedGatedConv2d" => {
            let size = shape("h.weight")?;
            let layer = MaskedGatedConv::new([size[1], size[0]], size[2], mask(), &context);
            let path = |name: &str| gates(name).replace("value.", "value.conv.").replace("gate.", "gate.conv.");
            run::<_, 4>(file, layer, &path, MaskedGatedConv::forward)
        }
        "NonLinear" => {
            let size = shape("linear.weight")?;
            let range = case.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(range, _)| range).unwrap_or_default();
            let ends: Vec<f64> = range.split(',').filter_map(|end| end.parse().ok()).collect();
            let [low, high] = ends[..] else { return Err(format!("`{case}` states no range")) };
            let path = |name: &str| name.replace("linear.", "");
            run::<_, 2>(file, he_linear(size[1], size[0], &context), &path, |l: &Linear, x| l.forward(x).clamp(low, high))
        }
        "Conv2d" => {
            let size = shape("conv.weight")?;
            let layer = Conv::new([size[1], size[0]], window(&size, size[2] / 2), input.get("conv.bias").is_some(), &context);
            let squash = case.contains("sigmoid");
            let forward = |conv: &Conv, x| if squash { sigmoid(conv.forward(x)) } else { conv.forward(x) };
            run::<_, 4>(file, layer, &|name| name.replace("conv.", ""), forward)
        }
        "GatedResUnit" => {
            let size = shape("conv1.h.weight")?;
            let path = |name: &str| gates(name).replace("conv1.", "first.").replace("conv2.", "second.");
            run::<_, 4>(file, GatedResidual::new(size[1], &context), &path, GatedResidual::forward)
        }
        other => Err(format!("`{other}` is not a known layer")),
    }
}

pub(super) fn vamp_prior_and_ll(file: &Value) -> Outcome {
    let (input, output, (abs, rel)) = (inputs(file)?, outputs(file)?, tolerance(file));
    if input.get("S").is_some() {
        let (samples, group) = (number(input, "S")? as usize, number(input, "MB")? as usize);
        let weights: Vec<Vec<f64>> =
            arrays(input, "neg_log_w_")?.into_values().map(|(_, values)| values.into_iter().map(|w| -w).collect()).collect();
        if let Some(wrong) = weights.iter().find(|w| w.len() != samples_used(samples, group)) {
            return Err(format!("{} weights are recorded, but {} would be used", wrong.len(), samples_used(samples, group)));
        }
        return close("mean nll", &[mean_nll(&weights)], &[number(output, "mean_nll")?], abs, rel);
    }
    let (z, mean, log_variance) = (leaf(input, "z2")?, leaf(input, "component_mean")?, leaf(input, "component_logvar")?);
    let components = Normal { mean: mean.clone(), scale: log_variance.clone().mul_scalar(0.5).exp() };
    let leaves = [("z2", &z), ("component_mean", &mean), ("component_logvar", &log_variance)];
    compare(file, "log_p", vamp_prior(z.clone(), &components), &leaves)
}
