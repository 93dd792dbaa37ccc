//! The image models end to end with weights given by a formula: `conv_hvae`, `pixel_hvae`, `mlp_models`.

use burn::module::{Flag, Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use ibhost_framework::build::BuildContext;
use ibhost_framework::dataset::DataInfo;
use ibhost_framework::decoder::DecoderConfig;
use ibhost_framework::encoder::EncoderConfig;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::Parts;
use ibhost_framework::parameters;
use ibhost_framework::storage::checkpoint::{HostData, HostTensor};
use ibhost_mim::hierarchical::{HierarchicalLoss, ImageMarginal, TopPrior};
use ibhost_mim::{HierarchicalConfig, HierarchicalObjective};
use ibhost_nets::image_decoder::{GatedConvDecoderConfig, GatedMlpDecoderConfig, PixelConvConfig};
use ibhost_nets::ladder::{GatedConvConfig, GatedMlpConfig, Levels};
use serde_json::Value;

use super::model::arrays;
use super::{Outcome, inputs, number, outputs};
use crate::golden::{Array, at, close, close_tensor, device, float, list, member, parameter_gradients, permuted, tensor, text, values};

/// A parameter of the recorded model: its name and shape, in the recorded order.
struct Recorded {
    name: String,
    shape: Vec<usize>,
}

/// The value of element `i` of parameter number `t` before scaling.
fn wave(i: usize, t: usize) -> f64 {
    (12.9898 * i as f64 + 78.233 * t as f64 + 0.31).sin()
}

impl Recorded {
    fn values(&self, t: usize) -> Vec<f64> {
        let size: usize = self.shape.iter().product();
        let fan: usize = self.shape[1..].iter().product();
        (0..size)
            .map(|i| match (wave(i, t), self.name.as_str()) {
                (s, name) if name.starts_with("means.") => 0.5 + 0.6 * s,
                (s, name) if name.starts_with("means_z") => 0.05 + 0.3 * s,
                (s, name) if self.shape.len() == 1 && name.starts_with("pixelcnn") && name.ends_with("weight") => 1.0 + 0.1 * s,
                (s, _) if self.shape.len() == 1 => 0.1 * s,
                (s, _) => s * (2.0 / fan as f64).sqrt(),
            })
            .collect()
    }

    /// Where the parameter lives in the model.
    fn path(&self, one_level: bool, dense: bool) -> Result<String, String> {
        let name = self.name.replace(".linear.", ".").replace(".conv.", ".");
        let (layer, part) = name.rsplit_once('.').ok_or("a parameter has no layer")?;
        let wrong = || format!("`{}` is not a known parameter", self.name);
        if let Some(index) = layer.strip_prefix("pixelcnn.") {
            let index: usize = index.parse().map_err(|_| wrong())?;
            return Ok(match (index % 3, part) {
                (0, part) => format!("decoder.layers.{}.conv.{part}", index / 3),
                (1, "weight") => format!("decoder.norms.{}.gamma", index / 3),
                (1, "bias") => format!("decoder.norms.{}.beta", index / 3),
                _ => return Err(wrong()),
            });
        }
        let (block, rest) = layer.split_once('.').unwrap_or((layer, ""));
        // `<index>.h`, `<index>.g`, or nothing for a head.
        let (index, gate) = rest.split_once('.').unwrap_or((rest, ""));
        let gate = if gate == "g" { "gate" } else { "value" };
        Ok(match block {
            "q_z2_layers" | "q_z_layers" => format!("encoder.top.{index}.{gate}.{part}"),
            "q_z2_mean" | "q_z_mean" => format!("encoder.top_heads.mean.{part}"),
            "q_z2_logvar" | "q_z_logvar" => format!("encoder.top_heads.log_variance.{part}"),
            "q_z1_layers_x" if dense => format!("encoder.bottom_input.{gate}.{part}"),
            "q_z1_layers_x" => format!("encoder.bottom_input.{index}.{gate}.{part}"),
            "q_z1_layers_z2" => format!("encoder.bottom.code.{gate}.{part}"),
            "q_z1_layers_joint" => format!("encoder.bottom.joint.{gate}.{part}"),
            "q_z1_mean" => format!("encoder.bottom.heads.mean.{part}"),
            "q_z1_logvar" => format!("encoder.bottom.heads.log_variance.{part}"),
            "p_z1_layers" => format!("decoder.prior.layers.{index}.{gate}.{part}"),
            "p_z1_mean" => format!("decoder.prior.heads.mean.{part}"),
            "p_z1_logvar" => format!("decoder.prior.heads.log_variance.{part}"),
            "p_x_layers_z1" => format!("decoder.codes.levels.0.{gate}.{part}"),
            "p_x_layers_z2" => format!("decoder.codes.levels.1.{gate}.{part}"),
            "p_x_layers" if one_level && index == "0" => format!("decoder.codes.levels.0.{gate}.{part}"),
            "p_x_layers" => format!("decoder.joint.{gate}.{part}"),
            "p_x_layers_joint_pre" => format!("decoder.image.{gate}.{part}"),
            "p_x_layers_joint" if dense => format!("decoder.joint.{gate}.{part}"),
            "p_x_layers_joint" => format!("decoder.layers.{index}.{gate}.{part}"),
            "p_x_mean" => format!("decoder.output.{part}"),
            "means" => "pseudo.inputs".to_owned(),
            "means_z1" => "pseudo_codes.0".to_owned(),
            "means_z2" => "pseudo_codes.1".to_owned(),
            _ => return Err(wrong()),
        })
    }
}

/// The recorded model in ours.
struct Built {
    model: HierarchicalObjective,
    parameters: Vec<Recorded>,
    one_level: bool,
    dense: bool,
    shape: [usize; 3],
}

fn build(file: &Value) -> Result<Built, String> {
    let case = text(file, "case")?;
    let mut parameters = Vec::new();
    for entry in list(at(file, &["meta", "params"])?)? {
        let [_, name, shape] = list(entry)? else { return Err("a parameter is not [index, name, shape]".to_owned()) };
        let shape =
            list(shape)?.iter().map(|n| n.as_u64().map(|n| n as usize).ok_or("a shape is not made of counts")).collect::<Result<_, _>>()?;
        parameters.push(Recorded { name: name.as_str().ok_or("a parameter has no name")?.to_owned(), shape });
    }
    let shape_of = |name: &str| parameters.iter().find(|p| p.name == name).map(|p| p.shape.as_slice());
    let one_level = shape_of("q_z_layers.0.h.weight").is_some();
    let first = shape_of("q_z2_layers.0.h.weight").or(shape_of("q_z_layers.0.h.weight")).ok_or("the model has no encoder")?;
    let dense = first.len() == 2;
    let pixel = parameters.iter().any(|p| p.name.starts_with("pixelcnn"));
    let pixels = if dense {
        first[1]
    } else {
        let name = if pixel { "p_x_layers_z1.0.h.weight" } else { "p_x_layers_joint_pre.0.h.weight" };
        shape_of(name).ok_or("the model has no decoder")?[0]
    };
    let side = (pixels as f64).sqrt().round() as usize;
    let shape = if side * side == pixels { [1, side, side] } else { [1, 28, pixels / 28] };
    let size = |head: &str| shape_of(&format!("{head}.linear.weight")).or(shape_of(&format!("{head}.weight"))).map(|s| s[0]);
    let levels = if one_level {
        Levels { z1: size("q_z_mean").ok_or("the model has no head")?, z2: 0 }
    } else {
        Levels { z1: size("q_z1_mean").ok_or("the model has no z1")?, z2: size("q_z2_mean").ok_or("the model has no z2")? }
    };
    let encoder: Box<dyn EncoderConfig> = if dense { Box::new(GatedMlpConfig { levels }) } else { Box::new(GatedConvConfig { levels }) };
    let decoder: Box<dyn DecoderConfig> = match (dense, pixel) {
        (true, _) => Box::new(GatedMlpDecoderConfig {}),
        (false, true) => Box::new(PixelConvConfig::default()),
        (false, false) => Box::new(GatedConvDecoderConfig {}),
    };
    let loss = match case {
        case if case.contains("S-MIM") => HierarchicalLoss::Smim,
        case if case.contains("A-MIM") => HierarchicalLoss::Amim,
        _ => HierarchicalLoss::Vae,
    };
    let means = shape_of("means.linear.weight");
    let components = means.or(shape_of("means_z1.linear.weight")).map_or(1, |s| s[1]);
    let config = HierarchicalConfig {
        loss,
        prior: if means.is_some() { TopPrior::Vampprior } else { TopPrior::Standard },
        q_x: if shape_of("means_z1.linear.weight").is_some() { ImageMarginal::Vampprior } else { ImageMarginal::Marginal },
        components,
        ..HierarchicalConfig::default()
    };
    let context = BuildContext::new(device(), 1);
    let data = DataInfo { name: "golden".to_owned(), classes: vec!["0".to_owned()], shape, note: None, class_entropy: None };
    let parts = Parts { encoder: &*encoder, decoder: &*decoder, data: &data, context: &context };
    let model = config.model(&parts).map_err(|error| error.to_string())?;
    let mut tensors = std::collections::BTreeMap::new();
    for (t, parameter) in parameters.iter().enumerate() {
        let (shape, data) = in_our_layout((parameter.shape.clone(), parameter.values(t)))?;
        tensors.insert(parameter.path(one_level, dense)?, HostTensor { shape, data: HostData::F64(data) });
    }
    let mut missing = None;
    parameters::for_each(&model, |seen| {
        if seen.trainable && !tensors.contains_key(seen.path) {
            missing = Some(seen.path.to_owned());
        }
    });
    if let Some(path) = missing {
        return Err(format!("no value is recorded for `{path}`"));
    }
    // Running statistics keep their starting values, 0 and 1.
    let model = parameters::from_host(model, &tensors, true).map_err(|error| error.to_string())?;
    Ok(Built { model, parameters, one_level, dense, shape })
}

/// Dense weights are recorded outputs first, pseudo-inputs as columns.
fn in_our_layout(array: Array) -> Result<Array, String> {
    if array.0.len() == 2 { permuted(&array, &[1, 0]) } else { Ok(array) }
}

fn recorded_images(batch: usize, shape: [usize; 3]) -> Tensor<4> {
    let [channels, height, width] = shape;
    let size = batch * channels * height * width;
    let values: Vec<f64> = (0..size).map(|i| if (3.7 * i as f64 + 0.3 + 0.31).sin() > 0.2 { 1.0 } else { 0.0 }).collect();
    Tensor::from_data(TensorData::new(values, [batch, channels, height, width]), &device())
}

pub(super) fn check(file: &Value) -> Outcome {
    let built = build(file)?;
    if outputs(file)?.get("returned_means").is_some() { generation(file, built) } else { losses(file, built) }
}

fn tolerances(file: &Value) -> Result<(f64, f64), String> {
    let part = |key: &str| at(file, &["tolerance", key]).map(|v| v.as_f64().unwrap_or(0.0));
    Ok((part("rel")?, part("grad_rel")?))
}

fn generation(file: &Value, built: Built) -> Outcome {
    let (input, (rel, _)) = (inputs(file)?, tolerances(file)?);
    let bare = device().without_autodiff();
    let mut codes: Vec<Tensor<2>> = Vec::new();
    for level in 1.. {
        match input.get(format!("z{level}")) {
            Some(code) => codes.push(float(code, &bare)?),
            None => break,
        }
    }
    let batch = codes.first().ok_or("no code is recorded")?.dims()[0];
    let pixels: usize = built.shape.iter().product();
    let uniform: Vec<f64> = (0..batch * pixels).map(|i| (0.917 * (i % pixels) as f64 + 0.31).sin().abs()).collect();
    let uniform = Tensor::from_data(TensorData::new(uniform, [batch, pixels]), &bare);
    let (_, means) = built.model.valid().decoder.ancestral(&codes, uniform);
    close("means", &values(means), &tensor(member(outputs(file)?, "returned_means")?)?.1, 0.0, rel)
}

/// Makes batch normalisation use its running statistics while gradients are still followed.
struct Evaluation;

impl ModuleMapper for Evaluation {
    fn map_flag(&mut self, _flag: Param<Flag>) -> Param<Flag> {
        Param::from_bool(false)
    }
}

fn losses(file: &Value, built: Built) -> Outcome {
    let (input, output, (rel, gradient_rel)) = (inputs(file)?, outputs(file)?, tolerances(file)?);
    let Built { model, parameters, one_level, dense, shape } = built;
    let evaluation = input.get("train_mode").is_some() && number(input, "train_mode")? == 0.0;
    let model = if evaluation { model.map(&mut Evaluation) } else { model };
    let batch = number(input, "batch")? as usize;
    let beta = number(input, "beta")?;
    let x = recorded_images(batch, shape);
    let mut noise = Vec::new();
    for (key, purpose) in [
        ("eps_z", "posterior z1"),
        ("eps_z1", "posterior z1"),
        ("eps_z2", "posterior z2"),
        ("samp_eps_z1", "sampled z1"),
        ("samp_eps_z2", "sampled z2"),
    ] {
        if let Some(value) = input.get(key) {
            let (shape, data) = tensor(value)?;
            noise.push((purpose.to_owned(), TensorData::new(data, shape)));
        }
    }
    let mut draws = Draws::recorded(noise);
    let components = model.components();
    let pass = model.pass(x.clone(), components.as_ref(), &mut draws);
    let flat = x.reshape([batch, shape.iter().product()]);
    let mut loss = model.data_loss(flat, &pass.levels, beta).mean();
    if input.get("samp_eps_z1").is_some() {
        loss = loss + model.sampled_loss(batch, components.as_ref(), &device(), &mut draws).mean().mul_scalar(beta);
    }
    // Differences of large terms carry the rounding of the terms.
    let scale = values(pass.levels.likelihood.clone().mean())[0].abs();
    let near = |name: &str, found: Tensor<1>| close_tensor(name, found, member(output, name)?, (scale * 1e-11, rel));
    near("loss", loss.clone())?;
    near("RE", pass.levels.likelihood.clone().mean())?;
    near("KL", pass.levels.rate().mean())?;
    if let Some(want) = output.get("x_mean_first_16") {
        let count = tensor(want)?.0[1];
        close_tensor("first means", pass.density.mean().narrow(1, 0, count), want, (1e-10, rel))?;
        near("x_mean_sum", pass.density.mean().sum())?;
    }
    for (level, code) in pass.codes.iter().enumerate() {
        if let Some(want) = output.get(format!("z{}", level + 1)) {
            close_tensor("code", code.clone(), want, (1e-12, rel))?;
        }
    }
    if let (Some(want), Some((_, scale))) = (output.get("q_z2_logvar"), pass.posteriors.last().and_then(|q| q.as_normal())) {
        close_tensor("q_z2_logvar", scale.log().mul_scalar(2.0), want, (1e-9, rel))?;
    }
    if let Some(want) = output.get("p_z1_mean") {
        let prior = model.decoder.prior(0, &pass.codes[1..]).ok_or("there is no prior of z1")?;
        close_tensor("p_z1_mean", prior.mean(), want, (1e-10, rel))?;
    }
    let probes = arrays(output, "gradprobe:")?;
    if probes.is_empty() {
        return Ok(());
    }
    let gradients = parameter_gradients(&model, &loss.backward());
    for (name, (_, want)) in probes {
        let parameter = parameters.iter().find(|p| p.name == name).ok_or_else(|| format!("`{name}` is not a parameter"))?;
        let path = parameter.path(one_level, dense)?;
        let ours = gradients.get(&path).ok_or_else(|| format!("the model has no parameter `{path}`"))?.clone();
        let found =
            if parameter.shape.len() == 2 { permuted(&(vec![parameter.shape[1], parameter.shape[0]], ours), &[1, 0])?.1 } else { ours };
        let norm = found.iter().map(|g| g * g).sum::<f64>().sqrt();
        let ends = [norm, found[0], found[(found.len() - 1) / 2], found[found.len() - 1]];
        close(&format!("gradient of {name}"), &ends, &want, 1e-9 * norm + 1e-12, gradient_rel)?;
    }
    Ok(())
}
