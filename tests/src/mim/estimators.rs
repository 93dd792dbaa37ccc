//! Estimators and optimiser: `ksg`, `knn_nmi`, `adam_norm_grad`.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use ibhost_analyses::information::kd_tree::Norm;
use ibhost_analyses::information::kraskov::{Rows, entropy, kernel_entropy, kraskov, revised};
use ibhost_analyses::probes::neighbour_accuracy::{neighbour_accuracies, normalised_mutual_information};
use ibhost_framework::optimiser::{OptimiserConfig, OptimiserState, ParameterUpdate};
use ibhost_framework::plan::{OptimiserSlot, ParameterGroup};
use ibhost_training::optimisers::AdamNormGrad;
use serde_json::Value;

use super::{Outcome, inputs, number, outputs};
use crate::golden::{Array, close, device, member, object, scalar, tensor, tolerance, values};

fn rows(array: &Array) -> Rows<'_> {
    Rows::new(&array.1, array.0.get(1).copied().unwrap_or(1))
}

/// The number after `prefix` in a name such as `revised_k5_l2`.
fn neighbours(name: &str) -> Result<usize, String> {
    let part = name.split('_').find_map(|part| part.strip_prefix('k').and_then(|k| k.parse().ok()));
    part.ok_or_else(|| format!("`{name}` does not say which neighbour"))
}

pub(super) fn ksg(file: &Value) -> Outcome {
    let (input, (abs, rel)) = (inputs(file)?, tolerance(file));
    let read = |key: &str| tensor(member(input, key)?);
    let (x, y) = (read("x")?, read("y")?);
    let z = input.get("z").map(tensor).transpose()?;
    for (name, want) in object(outputs(file)?)? {
        let norm = if name.ends_with("_l2") { Norm::Euclidean } else { Norm::Max };
        let third = || z.as_ref().map(rows).ok_or_else(|| format!("`{name}` needs a third variable"));
        let found = match name.split("_k").next().unwrap_or_default() {
            "kraskov" => kraskov(&[rows(&x), rows(&y)], neighbours(name)?),
            "kraskov_multi" => kraskov(&[rows(&x), rows(&y), third()?], neighbours(name)?),
            "revised" => revised(&[rows(&x), rows(&y)], neighbours(name)?, norm),
            "revised_multi" => revised(&[rows(&x), rows(&y), third()?], neighbours(name)?, norm),
            "entropy" => entropy(rows(&x), neighbours(name)?, norm),
            "kde_entropy" => kernel_entropy(rows(&x)),
            _ => return Err(format!("`{name}` is not a known estimator")),
        };
        let found = found.map_err(|error| error.to_string())?;
        close(name, &[found], &[scalar(want)?], abs, rel)?;
    }
    Ok(())
}

pub(super) fn knn_nmi(file: &Value) -> Outcome {
    let (input, output, (abs, rel)) = (inputs(file)?, outputs(file)?, tolerance(file));
    let read = |key: &str| tensor(member(input, key)?);
    let (train, test) = (read("train_z")?, read("test_z")?);
    let labels = |key: &str| -> Result<Vec<u8>, String> { Ok(read(key)?.1.into_iter().map(|label| label as u8).collect()) };
    let (train_y, test_y) = (labels("train_y")?, labels("test_y")?);
    for (name, want) in object(output)? {
        if name == "NMI_max" {
            let parts = |labels: &[u8]| labels.iter().map(|&l| usize::from(l)).collect::<Vec<_>>();
            let found = normalised_mutual_information(&parts(&test_y), &parts(&labels("clusters")?));
            close(name, &[found], &[scalar(want)?], abs, rel)?;
            continue;
        }
        let k = name.rsplit("KNN").next().and_then(|k| k.parse().ok()).ok_or_else(|| format!("`{name}` is not a known output"))?;
        let found = neighbour_accuracies((&train.1, &train_y), (&test.1, &test_y), train.0[1], &[k]).swap_remove(0);
        let found = if name.starts_with("acc") { vec![found.0] } else { found.1.into_iter().map(f64::from).collect() };
        close(name, &found, &tensor(want)?.1, abs, rel)?;
    }
    Ok(())
}

/// Parameters flattened, in order.
#[derive(Module, Debug)]
struct Several {
    p: Vec<Param<Tensor<1>>>,
}

pub(super) fn adam_norm_grad(file: &Value) -> Outcome {
    let (input, output, (abs, rel)) = (inputs(file)?, outputs(file)?, tolerance(file));
    let optimiser = AdamNormGrad {
        beta1: number(input, "beta1")?,
        beta2: number(input, "beta2")?,
        epsilon: number(input, "eps")?,
        weight_decay: number(input, "weight_decay")?,
    };
    let rate = number(input, "lr")?;
    let names: Vec<&str> = object(input)?.keys().filter_map(|key| key.strip_prefix("grads:")).collect();
    let vector = |values: &[f64]| Tensor::<1>::from_data(TensorData::new(values.to_vec(), [values.len()]), &device());
    let mut gradients = Vec::new();
    let mut model = Several { p: Vec::new() };
    for name in &names {
        model.p.push(Param::from_tensor(vector(&tensor(member(input, name)?)?.1)));
        gradients.push(tensor(member(input, &format!("grads:{name}"))?)?);
    }
    let slots = [OptimiserSlot { name: "all".to_owned(), groups: vec![ParameterGroup::field("p")], step_factor: 1 }];
    let mut states = [OptimiserState::default()];
    let steps = gradients.first().map_or(0, |(shape, _)| shape[0]);
    if steps == 0 {
        return Err("no step is recorded".to_owned());
    }
    for step in 1..=steps {
        let parts = model.p.iter().zip(&gradients).map(|(p, (shape, values))| {
            let size: usize = shape[1..].iter().product();
            // The gradient of a linear loss is the recorded one.
            (p.val() * vector(&values[(step - 1) * size..step * size])).sum()
        });
        let loss = parts.reduce(|a, b| a + b).ok_or("no gradient is recorded")?;
        let rule = optimiser.rule(step as u64, rate);
        let mut update = ParameterUpdate::new(Some(loss.backward()), &slots, &mut states, vec![Some(rule)], None);
        model = model.map(&mut update);
        for (name, p) in names.iter().zip(&model.p) {
            let want = tensor(member(output, &format!("after_step_{step}:{name}"))?)?.1;
            close(&format!("{name} after step {step}"), &values(p.val()), &want, abs, rel)?;
        }
    }
    Ok(())
}
