//! Forward passes and gradients of the networks with recorded weights.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Gradients, Tensor};
use ibhost_disenib::nets::conv_encoder::InstanceConvConfig;
use ibhost_disenib::nets::discriminator::Discriminator;
use ibhost_disenib::nets::estimator::Estimator;
use ibhost_disenib::nets::reconstructor::Reconstructor;
use ibhost_disenib::nets::spectral::SpectralLinear;
use ibhost_framework::build::{BuildContext, Initial};
use ibhost_framework::encoder::{BoxedEncoder, EncoderConfig};
use serde_json::Value;

use super::Outcome;
use super::data::{array, float, images, load, matches, original_layout, path_of, tolerance};
use crate::golden::{self, at, close, device, member, number, object, parameter_gradients, values};

fn context() -> BuildContext {
    BuildContext::new(device(), 0)
}

/// Shape of a recorded parameter.
fn shape_of(file: &Value, name: &str) -> Result<Vec<usize>, String> {
    Ok(array(at(file, &["inputs", "params", name])?)?.0)
}

/// Output, loss sum(out * c), and its gradients by inputs and parameters against the recorded ones.
fn compare<M: Module, const D: usize>(
    file: &Value,
    module: &M,
    prefix: &str,
    conv: bool,
    out: Tensor<D>,
    inputs: &[(&str, Gradient<'_>)],
) -> Outcome {
    let (output, tolerance) = (member(file, "outputs")?, tolerance(file));
    let c = values(float::<D>(at(file, &["inputs", "loss_weights_c"])?, &device())?);
    let found = values(out.clone());
    for key in ["out", "out_summary"] {
        if let Some(want) = output.get(key) {
            matches(key, &found, want, tolerance)?;
        }
    }
    if let Some(want) = output.get("out_every_41st") {
        let thinned: Vec<f64> = found.iter().step_by(41).copied().collect();
        matches("out_every_41st", &thinned, want, tolerance)?;
    }
    let weights = Tensor::from_data(burn::tensor::TensorData::new(c, out.dims()), &device());
    let loss = (out * weights).sum();
    close("loss", &values(loss.clone()), &[number(output, "loss")?], tolerance.0, tolerance.1)?;
    let gradients = loss.backward();
    for (name, gradient) in inputs {
        let want = output.get(format!("grad_{name}")).or_else(|| output.get("grad_inputs").and_then(|g| g.get(name)));
        let want = want.ok_or_else(|| format!("no gradient of `{name}` is recorded"))?;
        matches(&format!("gradient of {name}"), &gradient(&gradients).ok_or_else(|| format!("no gradient of {name}"))?, want, tolerance)?;
    }
    let found: BTreeMap<String, Vec<f64>> = parameter_gradients(module, &gradients);
    let recorded = object(member(output, "grad_params")?)?;
    if found.len() != recorded.len() {
        return Err(format!("gradients of {:?} found, of {:?} recorded", found.keys(), recorded.keys().collect::<Vec<_>>()));
    }
    for (name, want) in recorded {
        let path = path_of(&format!("{prefix}{name}"), conv)?;
        let own = path.split_once('.').filter(|_| !prefix.is_empty()).map_or(path.as_str(), |(_, rest)| rest);
        let gradient = found.get(own).ok_or_else(|| format!("no parameter `{own}` in {:?}", found.keys()))?;
        let gradient = original_layout(name, &shape_of(file, name)?, gradient)?;
        matches(&format!("gradient of {name}"), &gradient, want, tolerance)?;
    }
    Ok(())
}

type Gradient<'a> = Box<dyn Fn(&Gradients) -> Option<Vec<f64>> + 'a>;

fn by<const D: usize>(leaf: &Tensor<D>) -> Gradient<'_> {
    Box::new(move |gradients| leaf.grad(gradients).map(values))
}

pub(super) fn reconstructor(kind: &str, file: &Value) -> Outcome {
    let conv = kind != "net_fc_reconstructor";
    let style = float::<2>(at(file, &["inputs", "s"])?, &device())?.require_grad();
    let labels = golden::labels(at(file, &["inputs", "label"])?, &device())?;
    let table = shape_of(file, "label_table")?;
    let (classes, latent) = (table[0], table[1]);
    let made = array(at(file, &["inputs", "loss_weights_c"])?)?.0;
    let params = at(file, &["inputs", "params"])?;
    let module = if conv {
        let shape: [usize; 3] = made[1..].try_into().map_err(|_| format!("images of shape {made:?}"))?;
        Reconstructor::conv(latent, classes, shape, &context()).map_err(|e| e.to_string())?
    } else {
        let mut hidden = Vec::new();
        while let Ok(shape) = shape_of(file, &format!("fc.seq.{}.weight", 2 * hidden.len())) {
            hidden.push(shape[0]);
        }
        hidden.pop();
        Reconstructor::dense(latent, classes, [1, 1, made[1]], &hidden, &context())
    };
    let module = load(module, params, "rec.", "reconstructor.", conv)?;
    let out = module.forward(style.clone(), labels);
    if conv {
        compare(file, &module, "rec.", conv, out, &[("s", by(&style))])
    } else {
        let [n, _, _, width] = out.dims();
        compare(file, &module, "rec.", conv, out.reshape([n, width]), &[("s", by(&style))])
    }
}

pub(super) fn estimator(file: &Value) -> Outcome {
    let codes = |key: &str| Ok::<_, String>(float::<2>(at(file, &["inputs", key])?, &device())?.require_grad());
    let (s, t) = (codes("s")?, codes("t")?);
    let params = at(file, &["inputs", "params"])?;
    let spectral = params.get("in_s.u0").is_some();
    let module = Estimator::new(s.dims()[1], t.dims()[1], spectral, Initial::Normal(0.05), &context());
    let module = load(module, params, "est.", "estimator.", false)?;
    let out = module.forward(s.clone(), t.clone());
    compare(file, &module, "est.", false, out, &[("s", by(&s)), ("t", by(&t))])
}

pub(super) fn encoder(file: &Value) -> Outcome {
    let x = images(at(file, &["inputs", "x"])?, &device())?.require_grad();
    let [_, channels, height, width] = x.dims();
    let config = InstanceConvConfig { z: shape_of(file, "fc.weight")?[0] };
    let module = BoxedEncoder::new(config.build([channels, height, width], &context()).map_err(|e| e.to_string())?);
    let module = load(module, at(file, &["inputs", "params"])?, "enc.", "encoder.", true)?;
    let out = module.encode(x.clone()).mean();
    compare(file, &module, "enc.", true, out, &[("x", by(&x))])
}

pub(super) fn discriminator(file: &Value) -> Outcome {
    let x = images(at(file, &["inputs", "x"])?, &device())?.require_grad();
    let [_, channels, height, width] = x.dims();
    let module = Discriminator::new([channels, height, width], &context()).map_err(|e| e.to_string())?;
    let module = load(module, at(file, &["inputs", "params"])?, "disc.", "discriminator.", true)?;
    let out = module.forward(x.clone());
    compare(file, &module, "disc.", true, out, &[("x", by(&x))])
}

pub(super) fn spectral_norm(file: &Value) -> Outcome {
    let (input, output, (abs, rel)) = (member(file, "inputs")?, member(file, "outputs")?, tolerance(file));
    let (shape, weight) = golden::tensor(member(input, "W")?)?;
    let [outputs, inputs] = shape[..] else { return Err(format!("W has shape {shape:?}")) };
    let layer = || -> Result<SpectralLinear, String> {
        let mut recorded = BTreeMap::new();
        recorded.insert("weight".to_owned(), golden::permuted(&(shape.clone(), weight.clone()), &[1, 0])?);
        recorded.insert("bias".to_owned(), golden::tensor(member(input, "b")?)?);
        recorded.insert("u".to_owned(), golden::tensor(member(input, "u0")?)?);
        golden::load_parameters(SpectralLinear::new(inputs, outputs, true, Initial::Normal(0.05), &context()), &recorded)
    };
    let rows = |key: String| float::<2>(member(input, &key)?, &device());
    let gradient_of = |layer: &SpectralLinear, loss: Tensor<1>, key: &str| -> Outcome {
        let gradient = parameter_gradients(layer, &loss.backward());
        let gradient = original_layout("weight", &shape, &gradient["weight"])?;
        matches(key, &gradient, member(output, key)?, (abs, rel))
    };
    let layer_of_all = layer()?;
    let (mut total, mut call) = (None, 0);
    while input.get(format!("x{}", call + 1)).is_some() {
        call += 1;
        let want = member(output, &format!("call_{call}"))?;
        let y = layer_of_all.forward(rows(format!("x{call}"))?);
        matches(&format!("y of call {call}"), &values(y.clone()), member(want, "y")?, (abs, rel))?;
        let u = layer_of_all.u.as_ref().map(|u| values(u.value_sync())).unwrap_or_default();
        matches(&format!("u of call {call}"), &u, member(want, "u")?, (abs, rel))?;
        let term = (y * rows(format!("c{call}"))?).sum();
        total = Some(total.map_or_else(|| term.clone(), |sum: Tensor<1>| sum + term.clone()));
    }
    gradient_of(&layer_of_all, total.ok_or("no call is recorded")?, "grad_W_of_sum_k_sum(yk*ck)")?;
    let first = layer()?;
    let loss = (first.forward(rows("x1".to_owned())?) * rows("c1".to_owned())?).sum();
    gradient_of(&first, loss, "grad_W_of_sum(y1*c1)")
}
