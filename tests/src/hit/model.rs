//! Models built as a vector describes them, with its weights; `full_size_models` and `init_bounds`.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use ibhost_framework::build::BuildContext;
use ibhost_framework::dataset::DataInfo;
use ibhost_framework::decoder::DecoderConfig;
use ibhost_framework::encoder::EncoderConfig;
use ibhost_framework::latent_model::LatentModel;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::Parts;
use ibhost_hit::decoder::{HvaeDecoderConfig, LvaeDecoderConfig, PixelOptions};
use ibhost_hit::hvae::HvaeConfig;
use ibhost_hit::lvae::LvaeConfig;
use ibhost_hit::names::published;
use ibhost_hit::objective::Pass;
use ibhost_hit::pixels::PixelFamily;
use ibhost_hit::size::{CodeOptions, TopCode};
use ibhost_hit::{Hit, HitConfig, Setting};
use serde_json::Value;

use super::{Outcome, rule};
use crate::golden::{
    Array, close, count, device, list, load_parameters, member, number, object, parameter_values, permuted, tensor, text, tolerance, values,
};

/// What a vector says about its model.
pub(super) struct Described {
    /// Whether it is a ladder.
    pub(super) ladder: bool,
    /// Images.
    pub(super) shape: [usize; 3],
    /// Whether images are binary.
    pub(super) binary: bool,
    /// The model with weights not loaded yet.
    pub(super) model: Hit,
}

fn optional(value: &Value, key: &str) -> Option<f64> {
    value.get(key).and_then(Value::as_f64)
}

/// Builds the model of a description with members such as `class` (or `vae_type`), `dataset`, `px_y`, `num_c` (or `conv_channels`).
pub(super) fn described(meta: &Value) -> Result<Described, String> {
    let class = text(meta, "class").or_else(|_| text(meta, "vae_type"))?;
    let (ladder, conv_z) = (class.starts_with("LVAE"), class.contains("Conv"));
    let dataset = text(meta, "dataset")?;
    let shape = match dataset {
        "MNIST" | "BinaryMNIST" => [1, 28, 28],
        "CIFAR10" | "SVHN" => [3, 32, 32],
        "ImageNet" => [3, 256, 256],
        other => return Err(format!("`{other}` is not a known data set")),
    };
    let px = match text(meta, "px_y")? {
        "GaussianFixedSigma" => PixelFamily::GaussianFixedSigma,
        "GaussianLearnedSigma" => PixelFamily::GaussianLearnedSigma,
        "Bernoulli" => PixelFamily::Bernoulli,
        "MoL" => PixelFamily::MixtureOfLogistics,
        other => return Err(format!("`{other}` is not a known likelihood")),
    };
    let qz = match meta.get("qz").and_then(Value::as_str) {
        Some("GumbelSoftmax") => TopCode::GumbelSoftmax,
        Some("DiagonalGaussian") | None => TopCode::DiagonalGaussian,
        Some(other) => return Err(format!("`{other}` is not a known code")),
    };
    let c = count(meta, "num_c").or_else(|_| count(meta, "conv_channels"))?;
    let y = optional(meta, "linear_y_with_dims").filter(|&n| n > 0.0).map(|n| n as usize);
    let z = optional(meta, "z_dims").map_or(CodeOptions::default().z, |z| z as usize);
    let codes = CodeOptions { c, z, y, conv_z, qz, ..CodeOptions::default() };
    let sigma = optional(meta, "sigma").unwrap_or(PixelOptions::default().sigma);
    let pixels = PixelOptions { c, linear_y: y.is_some(), conv_z, px, sigma, ..PixelOptions::default() };
    let encoder: Box<dyn EncoderConfig> = if ladder { Box::new(LvaeConfig { codes }) } else { Box::new(HvaeConfig { codes }) };
    let decoder: Box<dyn DecoderConfig> =
        if ladder { Box::new(LvaeDecoderConfig { pixels }) } else { Box::new(HvaeDecoderConfig { pixels }) };
    let beta = |key| optional(meta, key).unwrap_or(1.0);
    let config = HitConfig { beta_y: beta("beta_y"), beta_z: beta("beta_z"), ..HitConfig::default() };
    let context = BuildContext::new(device(), 2);
    let data = DataInfo { name: "golden".to_owned(), classes: vec!["0".to_owned()], shape, note: None, class_entropy: None };
    let parts = Parts { encoder: &*encoder, decoder: &*decoder, data: &data, context: &context };
    let model = config.model(&parts).map_err(|error| error.to_string())?;
    Ok(Described { ladder, shape, binary: dataset == "BinaryMNIST", model })
}

/// A recorded weight in our layout: dense layers transposed, scalars as one number.
pub(super) fn in_our_layout(array: &Array) -> Result<Array, String> {
    match array.0.len() {
        0 => Ok((vec![1], array.1.clone())),
        2 => permuted(array, &[1, 0]),
        _ => Ok(array.clone()),
    }
}

impl Described {
    /// The model with the given weights, and how many numbers they hold.
    pub(super) fn with_weights(mut self, weights: &BTreeMap<String, Array>) -> Result<Self, String> {
        let mut ours = BTreeMap::new();
        for path in parameter_values(&self.model).into_keys() {
            let name = published(&path, self.ladder).ok_or_else(|| format!("`{path}` has no name in the original"))?;
            let array = weights.get(&name).ok_or_else(|| format!("the vector has no weight `{name}` for `{path}`"))?;
            ours.insert(path, in_our_layout(array)?);
        }
        if ours.len() != weights.len() {
            return Err(format!("the vector has {} weights, the model {}", weights.len(), ours.len()));
        }
        self.model = load_parameters(self.model, &ours)?;
        Ok(self)
    }

    /// Name in the original by path.
    pub(super) fn name(&self, path: &str) -> Result<String, String> {
        published(path, self.ladder).ok_or_else(|| format!("`{path}` has no name in the original"))
    }

    /// Inputs of the model's shape.
    pub(super) fn inputs(&self, data: Vec<f64>) -> Tensor<4> {
        let [channels, height, width] = self.shape;
        let batch = data.len() / (channels * height * width);
        Tensor::from_data(TensorData::new(data, [batch, channels, height, width]), &device())
    }

    /// Numbers of the codes of one image, bottom first.
    pub(super) fn latents(&self) -> Vec<usize> {
        self.model.level_sizes()
    }

    /// Number of trainable numbers.
    pub(super) fn parameters(&self) -> usize {
        parameter_values(&self.model).values().map(Vec::len).sum()
    }
}

/// Recorded draws: noise of the top and of the bottom code.
pub(super) fn noise(z: Vec<f64>, y: Vec<f64>) -> Draws {
    let tensor = |values: Vec<f64>| {
        let n = values.len();
        TensorData::new(values, [n])
    };
    Draws::recorded([("posterior z2".to_owned(), tensor(z)), ("posterior z1".to_owned(), tensor(y))])
}

/// The loss terms of a pass by their recorded names.
pub(super) fn terms(pass: &Pass) -> [(&'static str, f64); 4] {
    let mean = |x: &Tensor<1>| values(x.clone().mean())[0];
    [("loss", mean(&pass.total)), ("ll", mean(&pass.likelihood)), ("kl_z", mean(&pass.rates[1])), ("kl_y", mean(&pass.rates[0]))]
}

pub(super) fn full_size(file: &Value) -> Outcome {
    let (abs, rel) = tolerance(file);
    for (name, meta) in object(crate::golden::at(file, &["meta", "models"])?)? {
        let weights: BTreeMap<String, Array> = rule::tensors(meta)?.into_iter().collect();
        let described = described(meta)?.with_weights(&weights)?;
        if described.parameters() != count(meta, "n_params")? {
            return Err(format!("{name}: {} parameters, expected {}", described.parameters(), count(meta, "n_params")?));
        }
        let batch = count(meta, "batch")?;
        let x = rule::images(count(meta, "seed_x")? as u64, batch * described.shape.iter().product::<usize>(), described.binary);
        let latents = described.latents();
        let seed = count(meta, "seed_eps")? as u64;
        // The bottom code's noise is the third drawn of a ladder, whose second is thrown away.
        let bottom = if described.ladder { 2 } else { 1 };
        let mut draws = noise(rule::gauss(seed, batch * latents[1]), rule::gauss(seed + bottom, batch * latents[0]));
        let pass = described.model.pass(described.inputs(x), Setting::EVALUATION, &mut draws);
        let want = |what: &str| tensor(crate::golden::at(file, &["outputs", &format!("{name}.{what}")])?);
        for (what, found) in terms(&pass) {
            close(&format!("{name}.{what}"), &[found], &want(what)?.1, abs, rel)?;
        }
        let (z, y) = (values(pass.levels[1].posterior.point()), values(pass.levels[0].posterior.point()));
        let (_, first) = want("qz_mu_first8")?;
        close(&format!("{name}.qz_mu_first8"), &z[..first.len().min(z.len())], &first, abs, rel)?;
        let sum_and_first: Vec<f64> = std::iter::once(y.iter().sum()).chain(y.iter().copied().take(4)).collect();
        close(&format!("{name}.qy_mu_sum_and_first4"), &sum_and_first, &want("qy_mu_sum_and_first4")?.1, abs, rel)?;
    }
    Ok(())
}

pub(super) fn initial_bounds(file: &Value) -> Outcome {
    let meta = member(file, "meta")?;
    let mut description = meta.clone();
    let entries = list(member(meta, "tensors")?)?;
    let shape_of = |name: &str| -> Result<Option<Vec<usize>>, String> {
        match entries.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some(name)) {
            Some(entry) => Ok(Some(crate::golden::numbers(member(entry, "shape")?)?.into_iter().map(|n| n as usize).collect())),
            None => Ok(None),
        }
    };
    // The file states class and sizes; the images follow from the channels of the first convolution.
    let first =
        ["qz_conv1.weight", "qz_convs.0.weight", "qz_convs_dy.0.weight"].map(shape_of).into_iter().collect::<Result<Vec<_>, _>>()?;
    let channels = first.into_iter().flatten().next().and_then(|shape| shape.get(1).copied()).ok_or("there is no first convolution")?;
    let add = |object: &mut Value, key: &str, value: Value| {
        if let Some(map) = object.as_object_mut()
            && !map.contains_key(key)
        {
            map.insert(key.to_owned(), value);
        }
    };
    add(&mut description, "num_c", meta.get("c").cloned().unwrap_or_default());
    add(&mut description, "z_dims", meta.get("z").cloned().unwrap_or_default());
    add(&mut description, "dataset", if channels == 1 { "BinaryMNIST" } else { "CIFAR10" }.into());
    let mixture = shape_of("px_convs.4.weight")?.is_some();
    add(&mut description, "px_y", if mixture { "MoL" } else { "GaussianFixedSigma" }.into());
    if let Some(shape) = shape_of("px_l1.weight")? {
        add(&mut description, "linear_y_with_dims", shape[1].into());
    }
    if shape_of("qz_logit.weight")?.is_some() {
        add(&mut description, "qz", "GumbelSoftmax".into());
    }
    let described = described(&description)?;
    let (_, bounds) = tensor(crate::golden::at(file, &["outputs", "bounds"])?)?;
    let (abs, _) = tolerance(file);
    let expected: BTreeMap<&str, f64> =
        entries.iter().zip(bounds).map(|(entry, bound)| Ok((text(entry, "name")?, bound))).collect::<Result<_, String>>()?;
    let mut seen = 0;
    for (path, found) in parameter_values(&described.model) {
        let name = described.name(&path)?;
        let bound = *expected.get(name.as_str()).ok_or_else(|| format!("the vector has no `{name}`"))?;
        let stated = entries.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some(&name)).ok_or("no entry")?;
        close(&format!("bound of {name}"), &[number(stated, "uniform_bound")?], &[bound], abs, 0.0)?;
        let largest = found.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        // The largest of n uniform numbers is below (1 - t) of the bound with probability (1 - t)^n.
        let slack = 14.0 / found.len() as f64;
        if largest > bound * (1.0 + 1e-6) + abs || largest < bound * (1.0 - slack) {
            return Err(format!("{name} reaches {largest}, expected close to and not beyond {bound}"));
        }
        seen += 1;
    }
    if seen == expected.len() { Ok(()) } else { Err(format!("{seen} tensors, the vector has {}", expected.len())) }
}
