//! The residual network: `basic_block`, `resnet20_forward`.

use std::collections::BTreeMap;

use burn::module::Module;
use ibhost_framework::build::BuildContext;
use ibhost_framework::component::resolve;
use ibhost_framework::encoder::{BoxedEncoder, EncoderConfig};
use ibhost_framework::parameters;
use ibhost_framework::registry::Kind;
use ibhost_nets::residual_block::BasicBlock;
use serde_json::Value;

use crate::golden::{
    Array, close, close_tensor, count, device, images, list, load_parameters, member, object, parameter_values, permuted, tensor, tolerance,
};

/// Momentum of batch normalisation in the original.
const MOMENTUM: f64 = 0.99;

pub(super) fn basic_block(file: &Value) -> Result<(), String> {
    let tolerance = tolerance(file);
    for (index, case) in list(member(file, "cases")?)?.iter().enumerate() {
        one_block(case, tolerance).map_err(|e| format!("case {index}: {e}"))?;
    }
    Ok(())
}

/// Where variable number `index` of a block lives.
fn block_path(index: usize) -> Option<&'static str> {
    const PATHS: [&str; 10] = [
        "conv1.weight",
        "norm1.gamma",
        "norm1.beta",
        "norm1.moving_mean",
        "norm1.moving_variance",
        "conv2.weight",
        "norm2.gamma",
        "norm2.beta",
        "norm2.moving_mean",
        "norm2.moving_variance",
    ];
    PATHS.get(index).copied()
}

fn one_block(case: &Value, tolerance: (f64, f64)) -> Result<(), String> {
    let device = device();
    let plain = device.clone().without_autodiff();
    let (inputs, outputs, stride) = (count(case, "cin")?, count(case, "cout")?, count(case, "stride")?);
    if outputs < inputs || stride == 0 {
        return Err(format!("no block has {inputs} channels in, {outputs} out and stride {stride}"));
    }
    let mut weights = BTreeMap::new();
    for (name, value) in object(member(case, "weights")?)? {
        let index = name.split(':').next().and_then(|i| i.parse().ok()).and_then(block_path);
        let path = index.ok_or_else(|| format!("`{name}` is not a variable of a block"))?;
        weights.insert(path.to_owned(), channels_first(tensor(value)?)?);
    }
    let block = BasicBlock::new([inputs, outputs], stride, MOMENTUM, &BuildContext::new(device.clone(), 0));
    let block = load_parameters(block, &weights)?;
    let last = |y: burn::tensor::Tensor<4>| y.permute([0, 2, 3, 1]);
    let evaluated = block.valid().forward(images(member(case, "x")?, &plain)?);
    close_tensor("evaluation mode", last(evaluated), member(case, "y_eval")?, tolerance)?;
    let trained = block.forward(images(member(case, "x")?, &device)?);
    close_tensor("training mode", last(trained), member(case, "y_train")?, tolerance)?;
    let after = parameter_values(&block);
    for norm in ["1", "2"] {
        let Some(want) = case.get(format!("bn{norm}_after_one_training_pass")) else { continue };
        for (statistic, want) in object(want)? {
            let path = format!("norm{norm}.{statistic}");
            let found = after.get(&path).ok_or_else(|| format!("there is no `{path}`"))?;
            close(&path, found, &tensor(want)?.1, tolerance.0, tolerance.1)?;
        }
    }
    Ok(())
}

/// Kernels `(height, width, in, out)` become `(out, in, height, width)`; everything else stays.
fn channels_first(array: Array) -> Result<Array, String> {
    if array.0.len() == 4 { permuted(&array, &[3, 2, 0, 1]) } else { Ok(array) }
}

pub(super) fn resnet20_forward(file: &Value) -> Result<(), String> {
    let device = device();
    let plain = device.clone().without_autodiff();
    let tolerance = tolerance(file);
    let (inputs, outputs) = (member(file, "inputs")?, member(file, "outputs")?);
    let (image_shape, _) = tensor(member(inputs, "x")?)?;
    let [_, height, width, channels] = *image_shape else { return Err(format!("images of shape {image_shape:?}")) };
    // A point posterior returns the last layer's outputs as they are.
    let text = format!("resnet20/z:{}|cov:point|bn_momentum:{MOMENTUM}", count(inputs, "output_dim")?);
    let (_, config) = resolve::<dyn EncoderConfig>(Kind::Encoder, &text).map_err(|e| e.to_string())?;
    let encoder = config.build([channels, height, width], &BuildContext::new(device.clone(), 0)).map_err(|e| e.to_string())?;
    let encoder = BoxedEncoder::new(encoder);
    let weights = formula_weights(&encoder)?;
    let trainable_and_moving: usize = weights.values().map(|(_, data)| data.len()).sum();
    for (what, found, key) in [("variables", weights.len(), "n_variables"), ("parameters", trainable_and_moving, "n_params")] {
        if let Some(want) = file.get(key).and_then(Value::as_u64)
            && want != found as u64
        {
            return Err(format!("{found} {what}, expected {want}"));
        }
    }
    let encoder = load_parameters(encoder, &weights)?;
    let evaluated = encoder.valid().encode(images(member(inputs, "x")?, &plain)?).mean();
    close_tensor("evaluation mode", evaluated, member(outputs, "y_eval")?, tolerance)?;
    let trained = encoder.encode(images(member(inputs, "x")?, &device)?).mean();
    close_tensor("training mode", trained, member(outputs, "y_train")?, tolerance)
}

/// Every variable j, in the network's own order, from the formula of the vector: i counts row-major in `(height, width, in, out)`.
fn formula_weights(encoder: &BoxedEncoder) -> Result<BTreeMap<String, Array>, String> {
    let mut shapes = Vec::new();
    parameters::for_each(encoder, |seen| shapes.push((seen.path.to_owned(), seen.shape)));
    let mut weights = BTreeMap::new();
    for (j, (path, shape)) in shapes.into_iter().enumerate() {
        let recorded_shape = if let [out, input, height, width] = *shape { vec![height, width, input, out] } else { shape };
        let fan_in: usize = recorded_shape.iter().rev().skip(1).product();
        let j = j as f64;
        let formula = |i: f64| match path.rsplit('.').next() {
            Some("weight") => Some((4.0 / fan_in as f64).sqrt() * (1.0 + 0.61 * i + 1.7 * j).sin()),
            Some("gamma") => Some(1.0 + 0.1 * (i + j).sin()),
            Some("beta") => Some(0.1 * (i + j).cos()),
            Some("moving_mean") => Some(0.05 * (2.0 * i + j).sin()),
            Some("moving_variance") => Some(1.0 + 0.2 * (i + 2.0 * j).cos()),
            Some("bias") => Some(0.1 * (3.0 * i + j).sin()),
            _ => None,
        };
        let size: usize = recorded_shape.iter().product();
        let data = (0..size).map(|i| formula(i as f64).map(|x| f64::from(x as f32))).collect::<Option<Vec<_>>>();
        let data = data.ok_or_else(|| format!("there is no formula for `{path}`"))?;
        weights.insert(path, channels_first((recorded_shape, data))?);
    }
    Ok(weights)
}
