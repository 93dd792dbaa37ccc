//! Information, attacks, detection and swap grids on recorded models and scores.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use ibhost_analyses::generation::swap_grid::{Grid, byte};
use ibhost_analyses::information::aggregate::{Scales, aggregated_information, label_entropy, prediction_entropy};
use ibhost_analyses::robustness::attack::{Attack, Target, hits};
use ibhost_analyses::robustness::detection::{Detection, Scores};
use ibhost_analyses::robustness::out_of_distribution::scores;
use ibhost_framework::capability::Classify;
use ibhost_framework::noise::{Draws, Noise};
use ibhost_framework::objective::BoxedObjective;
use serde_json::Value;
use std::collections::BTreeMap;

use super::Outcome;
use super::data::{images, matches, own_layout, tolerance};
use super::steps::build;
use crate::golden::{self, Array, at, close, device, member, number, object, scalar, values};

fn input(file: &Value, key: &str) -> Result<Array, String> {
    golden::tensor(at(file, &["inputs", key])?)
}

/// rows * matrix^T + offset, all row-major.
fn affine(rows: &[f64], matrix: &Array, offset: &Array) -> Vec<f64> {
    let (outputs, inputs) = (matrix.0[0], matrix.0[1]);
    rows.chunks_exact(inputs)
        .flat_map(|row| {
            (0..outputs).map(move |o| offset.1[o] + matrix.1[o * inputs..(o + 1) * inputs].iter().zip(row).map(|(a, b)| a * b).sum::<f64>())
        })
        .collect()
}

/// ln softmax of rows of `classes` numbers.
fn log_softmax(rows: &[f64], classes: usize) -> Vec<Vec<f64>> {
    let row = |logits: &[f64]| {
        let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = logits.iter().map(|l| (l - top).exp()).sum::<f64>().ln() + top;
        logits.iter().map(|l| l - total).collect()
    };
    rows.chunks_exact(classes).map(row).collect()
}

pub(super) fn mutual_information(file: &Value) -> Outcome {
    let (output, (abs, rel)) = (member(file, "outputs")?, tolerance(file));
    let (weights, offset) = (input(file, "W")?, input(file, "b")?);
    let (decoder, decoder_offset) = (input(file, "V")?, input(file, "c")?);
    let means = affine(&input(file, "x")?.1, &weights, &offset);
    let (latent, classes) = (weights.0[0], scalar(at(file, &["inputs", "num_classes"])?)? as usize);
    let labels: Vec<u8> = input(file, "label")?.1.into_iter().map(|l| l as u8).collect();
    let entropy = label_entropy(&labels);
    close("H_y", &[entropy], &[number(output, "H_y")?], abs, rel)?;
    for (key, want) in object(output)? {
        let Some((variant, std)) = key.split_once("_std_") else { continue };
        let std: f64 = std.parse().map_err(|_| format!("`{key}` names no standard deviation"))?;
        let codes = |eps: &str| -> Result<Vec<f64>, String> {
            if variant == "mean" {
                return Ok(means.clone());
            }
            Ok(means.iter().zip(&golden::tensor(member(want, eps)?)?.1).map(|(m, e)| m + std * e).collect())
        };
        let found = aggregated_information(&codes("eps_for_z_in_I_x_z")?, &means, Scales::Shared(std), latent);
        close(&format!("{key}: I(X;Z)"), &[found], &[number(want, "I_x_z")?], abs, rel)?;
        let each = vec![std; means.len()];
        let found = aggregated_information(&codes("eps_for_z_in_I_x_z")?, &means, Scales::Each(&each), latent);
        close(&format!("{key}: I(X;Z), scales of each"), &[found], &[number(want, "I_x_z")?], abs, rel)?;
        let logits = affine(&codes("eps_for_z_in_I_y_z")?, &decoder, &decoder_offset);
        let rows = log_softmax(&logits, classes);
        let uncertainty = rows.iter().map(|row| prediction_entropy(row)).sum::<f64>() / rows.len() as f64;
        close(&format!("{key}: I(Y;Z)"), &[entropy - uncertainty], &[number(want, "I_y_z")?], abs, rel)?;
    }
    Ok(())
}

/// The recorded network (dense, rectified, dense, then the decoder) as an objective with a deterministic code.
fn network(file: &Value) -> Result<BoxedObjective, String> {
    let (first, second, decoder) = (input(file, "enc1.weight")?, input(file, "enc2.weight")?, input(file, "dec.weight")?);
    let (hidden, inputs, latent, classes) = (first.0[0], first.0[1], second.0[0], decoder.0[0]);
    let encoder = format!("dense/hidden:[{hidden}]|z:{latent}|cov:point");
    let model = build("lagrangian/lambda_kl:0", &encoder, "dense_classifier", [1, 1, inputs], classes)?;
    let mut recorded = BTreeMap::new();
    for (name, path) in [("enc1", "encoder.stack.layers.0"), ("enc2", "encoder.stack.layers.1"), ("dec", "decoder.stack.layers.0")] {
        for part in ["weight", "bias"] {
            recorded.insert(format!("model.{path}.{part}"), own_layout(part, input(file, &format!("{name}.{part}"))?)?);
        }
    }
    golden::load_parameters(model, &recorded)
}

fn no_noise() -> Draws {
    Draws::seeded(Noise::new(0), 0, "golden")
}

pub(super) fn accuracy_fgsm(file: &Value) -> Outcome {
    let (output, (abs, rel)) = (member(file, "outputs")?, tolerance(file));
    let model = network(file)?;
    let frozen = model.valid();
    let autodiff = device();
    let plain = autodiff.clone().without_autodiff();
    let x = images(at(file, &["inputs", "x"])?, &plain)?;
    let labels = golden::labels(at(file, &["inputs", "label"])?, &plain)?;
    let target = Target {
        model: frozen.capability::<Classify>().ok_or("no classifier")?,
        gradient_model: model.capability::<Classify>().ok_or("no classifier")?,
        autodiff: &autodiff,
        range: (-1.0, 1.0),
    };
    let right = hits(target.model, x.clone(), &labels, &mut no_noise());
    let count = right.iter().filter(|hit| **hit).count();
    close("accuracy", &[count as f64 / right.len() as f64], &[number(output, "accuracy")?], abs, rel)?;
    let as_numbers: Vec<f64> = right.iter().map(|hit| f64::from(u8::from(*hit))).collect();
    close("correct_before", &as_numbers, &golden::tensor(member(output, "correct_before")?)?.1, 0.0, 0.0)?;
    let kept: Vec<i64> = right.iter().enumerate().filter(|(_, hit)| **hit).map(|(i, _)| i as i64).collect();
    let kept = Tensor::<1, Int>::from_data(burn::tensor::TensorData::new(kept, [count]), &plain);
    let (rows, row_labels) = (x.clone().select(0, kept.clone()), labels.clone().select(0, kept));
    let attack = Attack { eps: input(file, "eps")?.1, ..Attack::default() };
    let autodiff_labels = Tensor::<1, Int>::from_data(row_labels.clone().into_data(), &autodiff);
    let gradient = ibhost_analyses::robustness::attack::input_gradient(
        target.gradient_model,
        Tensor::from_inner(rows.clone()),
        &autodiff_labels,
        attack.loss,
        &mut no_noise(),
    )
    .map_err(|error| error.to_string())?;
    let found = attack.withstood(&target, x, &labels, &mut no_noise()).map_err(|error| error.to_string())?;
    let counted = found.counted;
    for (eps, withstood) in attack.eps.iter().zip(found.withstood) {
        let key = format!("eps_{eps}");
        let moved = attack.perturbed(&target, &rows, &row_labels, &gradient, *eps, &mut no_noise()).map_err(|error| error.to_string())?;
        matches(&key, &values(moved), at(output, &["perturbed_correct_rows", &key])?, (abs, rel))?;
        close(&key, &[withstood as f64 / counted as f64], &[number(member(output, "accuracy_after")?, &key)?], abs, rel)?;
    }
    Ok(())
}

fn compare(name: &str, found: &Detection, want: &Value, (abs, rel): (f64, f64)) -> Outcome {
    let all = [
        ("tpr95", found.fpr_at_tpr95),
        ("auroc", found.auroc),
        ("aupr_in", found.aupr_in),
        ("aupr_out", found.aupr_out),
        ("detect_err", found.detection_error),
    ];
    for (key, value) in all {
        if let Some(want) = want.get(key).and_then(Value::as_f64) {
            close(&format!("{name}: {key}"), &[value], &[want], abs, rel)?;
        }
    }
    Ok(())
}

/// The number of thresholds a key such as `num_delta_100` ends in.
fn steps_of(key: &str) -> Option<usize> {
    key.split_once("num_delta_").and_then(|(_, n)| n.parse().ok())
}

pub(super) fn odin_scores(file: &Value) -> Outcome {
    let (output, tolerance) = (member(file, "outputs")?, tolerance(file));
    let model = network(file)?;
    let frozen = model.valid();
    let autodiff = device();
    let plain = autodiff.clone().without_autodiff();
    let target = Target {
        model: frozen.capability::<Classify>().ok_or("no classifier")?,
        gradient_model: model.capability::<Classify>().ok_or("no classifier")?,
        autodiff: &autodiff,
        range: (-1.0, 1.0),
    };
    let number_of = |key: &str| scalar(at(file, &["inputs", key])?);
    let score = |key: &str, temper: &str, size: &str| -> Result<Vec<f64>, String> {
        let x = images(at(file, &["inputs", key])?, &plain)?;
        scores(&target, x, number_of(temper)?, number_of(size)?, &mut no_noise()).map_err(|error| error.to_string())
    };
    let (inside, outside) = (score("x", "T", "m")?, score("noise_clamped", "T", "m")?);
    matches("score_in", &inside, member(output, "score_in")?, tolerance)?;
    matches("score_out", &outside, member(output, "score_out")?, tolerance)?;
    matches("score_in_T2_m2", &score("x", "T2", "m2")?, member(output, "score_in_T2_m2")?, tolerance)?;
    let found = Scores::new(inside, outside).ok_or("scores are not finite")?;
    for (key, want) in object(output)? {
        if let Some(steps) = steps_of(key) {
            compare(key, &found.on_grid(steps), want, (tolerance.0.max(1e-9), 1e-9))?;
        }
    }
    Ok(())
}

pub(super) fn ood_metrics(file: &Value) -> Outcome {
    let tolerance = tolerance(file);
    for (name, sides) in object(member(file, "inputs")?)? {
        let side = |key: &str| golden::tensor(member(sides, key)?).map(|(_, scores)| scores);
        let found = Scores::new(side("in")?, side("out")?).ok_or_else(|| format!("{name}: scores are not finite"))?;
        let want = at(file, &["outputs", name])?;
        close(&format!("{name}: fpr_at_tpr95"), &[found.fpr_at_tpr95()], &[number(want, "fpr_at_tpr95")?], tolerance.0, tolerance.1)?;
        for (key, want) in object(want)? {
            if let Some(steps) = steps_of(key) {
                compare(&format!("{name}, {key}"), &found.on_grid(steps), want, tolerance)?;
            }
        }
    }
    Ok(())
}

pub(super) fn swap_grid(file: &Value) -> Outcome {
    let (output, (abs, rel)) = (member(file, "outputs")?, tolerance(file));
    let (shape, x) = input(file, "x")?;
    let [n, channels, height, width] = shape[..] else { return Err(format!("x has shape {shape:?}")) };
    let pixels = channels * height * width;
    let (a, b, c) = (input(file, "A")?, input(file, "B")?, input(file, "C")?);
    let transposed = |m: &Array| golden::permuted(m, &[1, 0]);
    let zero = |n: usize| (vec![n], vec![0.0; n]);
    let styles = affine(&x, &transposed(&a)?, &zero(a.0[1]));
    let labels: Vec<usize> = input(file, "label")?.1.into_iter().map(|l| l as usize).collect();
    let made = affine(&styles, &transposed(&b)?, &zero(pixels));
    let cell = |i: usize, j: usize| -> Vec<f64> {
        (0..pixels).map(|p| (1.0 + (-(made[i * pixels + p] + c.1[labels[j] * pixels + p])).exp()).recip()).collect()
    };
    let grid = Grid {
        shape: [channels, height, width],
        gap: scalar(at(file, &["inputs", "gap"])?)? as usize,
        sources: x.chunks_exact(pixels).map(<[f64]>::to_vec).collect(),
        cells: (0..n * n).map(|at| cell(at / n, at % n)).collect(),
    };
    let found = grid.values();
    close("grid", &found, &golden::tensor(member(output, "grid")?)?.1, abs, rel)?;
    let bytes: Vec<f64> = found.iter().map(|v| f64::from(byte(*v))).collect();
    close("grid_u8", &bytes, &golden::tensor(member(output, "grid_u8")?)?.1, 0.0, 0.0)
}
