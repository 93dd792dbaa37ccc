//! The toy program: `toy_mixtures`, `toy_losses` and its variants, `toy_train_steps`, `toy_stats`, `noam_lr`.

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use ibhost_datasets::mixture::Mixture;
use ibhost_datasets::toy::ToyConfig;
use ibhost_framework::dataset::KnownDensity;
use ibhost_framework::latent_model::LatentModel;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::Objective;
use ibhost_framework::optimiser::{OptimiserConfig, OptimiserState, ParameterUpdate};
use ibhost_framework::plan::OptimiserSlot;
use ibhost_framework::schedule::{ScheduleConfig, ScheduleContext};
use ibhost_mim::objective::SampledMarginal;
use ibhost_mim::statistics::{Passes, PerSample};
use ibhost_mim::terms::Criterion;
use ibhost_mim::{MimConfig, MimObjective};
use ibhost_training::optimisers::Adam;
use ibhost_training::schedules::Noam;
use serde_json::Value;

use super::model::{arrays, build, by_path};
use super::{Outcome, inputs, number, outputs};
use crate::golden::{
    Array, at, close, close_tensor, device, float, member, object, parameter_gradients, parameter_values, tensor, text, tolerance, values,
};

/// `toy4 d=20`, `toy-4 d=2`, `toyMIM d=2`.
fn mixture_of(case: &str) -> Result<Mixture, String> {
    let wrong = || format!("`{case}` names no toy data set");
    let (name, dimensions) = case.split_once(" d=").unwrap_or((case, "2"));
    let name = name.strip_prefix("toy").ok_or_else(wrong)?;
    let d = dimensions.trim().parse().map_err(|_| wrong())?;
    let config = match name.parse() {
        Ok(k) => ToyConfig { k, d, ..ToyConfig::default() },
        Err(_) => ToyConfig { text: Some(name.to_owned()), d, ..ToyConfig::default() },
    };
    config.mixture().map_err(|error| error.to_string())
}

pub(super) fn mixtures(file: &Value) -> Outcome {
    let (input, output) = (inputs(file)?, outputs(file)?);
    let mixture = mixture_of(text(file, "case")?)?;
    let (means, relative) = (at(file, &["tolerance", "means"]), at(file, &["tolerance", "log_prob_rel"]));
    let (means, relative) = (means?.as_f64().unwrap_or(0.0), relative?.as_f64().unwrap_or(0.0));
    close("means", &mixture.means, &tensor(member(output, "means")?)?.1, means, 0.0)?;
    close("scales", &mixture.scales, &tensor(member(output, "scales")?)?.1, means, 0.0)?;
    let log_weight = -(mixture.components() as f64).ln();
    close("log weights", &vec![log_weight; mixture.components()], &tensor(member(output, "log_weights")?)?.1, means, 0.0)?;
    let found = mixture.log_prob(&tensor(member(input, "points")?)?.1);
    close("log density", &found, &tensor(member(output, "log_prob")?)?.1, 1e-12, relative)
}

/// Loss and options a case names.
fn config_of(case: &str, meta: &Value) -> MimConfig {
    let word = case.strip_prefix("reinforce ").unwrap_or(case).split([' ', '/', ',']).next().unwrap_or_default();
    let (loss, entropy) = match word {
        "vae" => (Criterion::Vae, false),
        "vae+H" => (Criterion::Vae, true),
        "ae" => (Criterion::Ae, false),
        "mim-H" => (Criterion::Mim, true),
        _ => (Criterion::Mim, false),
    };
    let decoder = meta.get("q_x_sample_variant").and_then(Value::as_str) == Some("decoder");
    let q_x_sample = if decoder { SampledMarginal::Decoder } else { SampledMarginal::Importance };
    MimConfig { loss, entropy, q_x_sample, beta_in_minus_h: true, warmup: 0, ..MimConfig::default() }
}

fn recorded_draws(input: &Value, purposes: &[(&str, &str)]) -> Result<Draws, String> {
    let mut all = Vec::new();
    for (purpose, key) in purposes {
        if let Some(value) = input.get(*key) {
            let (shape, data) = tensor(value)?;
            all.push(((*purpose).to_owned(), TensorData::new(data, shape)));
        }
    }
    Ok(Draws::recorded(all))
}

fn compare_gradients(model: &MimObjective, gradients: &burn::tensor::Gradients, output: &Value, tolerance: (f64, f64)) -> Outcome {
    let found = parameter_gradients(model, gradients);
    let want = by_path(&arrays(output, "grad:")?)?;
    if want.is_empty() {
        return Err("no gradient is recorded".to_owned());
    }
    for (path, (_, want)) in want {
        let found = found.get(&path).ok_or_else(|| format!("the model has no parameter `{path}`"))?;
        close(&format!("gradient of {path}"), found, &want, tolerance.0, tolerance.1)?;
    }
    Ok(())
}

pub(super) fn losses(file: &Value) -> Outcome {
    let (input, output, case, tolerance) = (inputs(file)?, outputs(file)?, text(file, "case")?, tolerance(file));
    let meta = member(file, "meta")?;
    let model = build(config_of(case, meta), case, &arrays(input, "")?)?;
    let beta = if input.get("beta").is_some() { number(input, "beta")? } else { 1.0 };
    let branch = if let Some(codes) = input.get("z_obs") {
        let purposes = [("sampled inputs", "eps_x"), ("sampled posterior", "eps_z")];
        model.sampled_branch(float(codes, &device())?, &mut recorded_draws(input, &purposes)?)
    } else {
        let x: Tensor<2> = float(member(input, "x_obs")?, &device())?;
        model.data_branch(x.clone(), x, &mut recorded_draws(input, &[("posterior", "eps_z")])?)
    };
    let loss = model.branch_loss(&branch, beta).mean();
    close_tensor("loss", loss.clone(), member(output, "loss")?, tolerance)?;
    let terms = &branch.terms;
    let named = [
        ("log_p_x_given_z", &terms.likelihood),
        ("log_p_z", &terms.prior),
        ("log_q_z_given_x", &terms.posterior),
        ("log_q_x", &terms.marginal),
    ];
    for (name, found) in named {
        if let Some(want) = output.get(name) {
            close_tensor(name, found.clone(), want, tolerance)?;
        }
    }
    if let Some(want) = output.get("z") {
        close_tensor("z", branch.code.clone(), want, tolerance)?;
    }
    if let Some(want) = output.get("x_used") {
        close_tensor("x", branch.input.clone(), want, tolerance)?;
    }
    compare_gradients(&model, &loss.backward(), output, tolerance)
}

pub(super) fn noam(file: &Value) -> Outcome {
    let (input, (abs, rel)) = (inputs(file)?, tolerance(file));
    let (warmup, base) = (number(input, "warmup_steps")?, number(input, "lr")?);
    let schedule = Noam { warmup: warmup as u64 };
    for (key, want) in object(outputs(file)?)? {
        let want = tensor(want)?.1;
        let found: Vec<f64> = (0..want.len() as u64).map(|epoch| base * schedule.factor(epoch)).collect();
        close(key, &found, &want, abs, rel)?;
        // The first epoch of a run is the schedule's second value.
        let context = |step| ScheduleContext { base, step, steps_per_epoch: 3, updates: 9, step_factor: 1 };
        let by_epoch: Vec<f64> = (1..want.len() as u64).map(|epoch| schedule.rate(&context(3 * epoch - 2))).collect();
        close(key, &by_epoch, &want[1..], abs, rel)?;
    }
    Ok(())
}

/// The arrays of one step, `[epoch, step, ...]` before.
fn of_step(array: &Array, epoch: usize, step: usize) -> Array {
    let (shape, values) = array;
    let size: usize = shape[2..].iter().product();
    let from = (epoch * shape[1] + step) * size;
    (shape[2..].to_vec(), values[from..from + size].to_vec())
}

pub(super) fn train_steps(file: &Value) -> Outcome {
    let (input, output, case, (abs, rel)) = (inputs(file)?, outputs(file)?, text(file, "case")?, tolerance(file));
    let (warmup, base) = (number(input, "warmup_steps")? as u64, number(input, "lr")?);
    let mut config = config_of(case, member(file, "meta")?);
    config.warmup = warmup;
    config.sampled = config.loss == Criterion::Mim && !case.starts_with("a-mim");
    let sampled = config.sampled;
    let mut model = build(config, case, &arrays(input, "init:")?)?;
    let names = ["x", "eps_z", "z_prior", "eps_x_samp", "eps_z_samp"];
    let arrays_of: Vec<Array> = names.iter().map(|key| tensor(member(input, key)?)).collect::<Result<_, _>>()?;
    let [epochs, batches] = [arrays_of[0].0[0], arrays_of[0].0[1]];
    let slots = [OptimiserSlot { name: "all".to_owned(), groups: model.groups(), step_factor: 1 }];
    let mut states = [OptimiserState::default()];
    let schedule = Noam { warmup };
    let (mut betas, mut rates) = (Vec::new(), Vec::new());
    for epoch in 1..=epochs {
        let (beta, rate) = (model.beta(epoch as u64), base * schedule.factor(epoch as u64));
        betas.push(beta);
        rates.push(rate);
        let mut reported = 0.0;
        for batch in 0..batches {
            let step: Vec<Array> = arrays_of.iter().map(|array| of_step(array, epoch - 1, batch)).collect();
            let load = |i: usize| -> Tensor<2> {
                let (shape, data) = step[i].clone();
                Tensor::<1>::from_data(TensorData::new(data.clone(), [data.len()]), &device()).reshape([shape[0], shape[1]])
            };
            let purposes = ["", "posterior", "prior codes", "sampled inputs", "sampled posterior"];
            let mut draws =
                Draws::recorded((1..5).map(|i| (purposes[i].to_owned(), TensorData::new(step[i].1.clone(), step[i].0.clone()))));
            let x = load(0);
            let data = model.data_branch(x.clone(), x, &mut draws);
            let mut loss = model.branch_loss(&data, beta).mean();
            if sampled && beta >= 1.0 {
                loss = loss + model.branch_loss(&model.sampled_branch(load(2), &mut draws), beta).mean();
            }
            reported += values(loss.clone())[0];
            states[0].step += 1;
            let rule = Adam::default().rule(states[0].step, rate);
            let mut update = ParameterUpdate::new(Some(loss.backward()), &slots, &mut states, vec![Some(rule)], None);
            model = model.map(&mut update);
        }
        let reported = reported / batches as f64 * if sampled { 0.5 } else { 1.0 };
        let prefix = format!("epoch{epoch}:");
        close("train loss", &[reported], &[number(output, &format!("{prefix}reported_train_loss"))?], abs, rel)?;
        let found = parameter_values(&model);
        for (path, (_, want)) in by_path(&arrays(output, &prefix)?)? {
            close(&format!("{path} after epoch {epoch}"), &found[&path], &want, abs, rel)?;
        }
    }
    close("beta", &betas, &tensor(member(output, "beta_per_epoch")?)?.1, 1e-12, rel)?;
    close("learning rate", &rates, &tensor(member(output, "lr_per_epoch")?)?.1, 0.0, rel)
}

pub(super) fn statistics(file: &Value) -> Outcome {
    let (input, output, case, (abs, rel)) = (inputs(file)?, outputs(file)?, text(file, "case")?, tolerance(file));
    let model = build(MimConfig::default(), case, &arrays(input, "")?)?.valid();
    let device = device().without_autodiff();
    let x: Tensor<2> = float(member(input, "x")?, &device)?;
    let [count, features] = x.dims();
    let images = x.reshape([count, 1, 1, features]);
    let code = |key: &str| -> Result<Tensor<2>, String> {
        model.sample_codes(images.clone(), &mut recorded_draws(input, &[("posterior", key)])?).map_err(|error| error.to_string())
    };
    let (codes, second) = (code("pass1_eps_z")?, code("pass2_eps_z")?);
    let passes = Passes {
        reconstruction: model.decode_sample(codes.clone(), &mut recorded_draws(input, &[("reconstruction", "pass1_eps_x")])?),
        from_posterior: code("eps_kl_q")?,
        from_prior: model
            .sample_prior(count, &mut recorded_draws(input, &[("prior codes", "eps_kl_p")])?)
            .map_err(|error| error.to_string())?,
        codes,
        second,
    };
    let mut found = PerSample::default();
    found.add(&model, images, passes).map_err(|error| error.to_string())?;
    let mixture = mixture_of(&case.replace('_', " d="))?;
    let found = found.statistics(Some(&mixture));
    for (key, want) in object(output)? {
        let value = found.iter().find(|(name, _)| name == key).ok_or_else(|| format!("the statistic `{key}` is not computed"))?.1;
        close(key, &[value], &[crate::golden::scalar(want)?], abs, rel)?;
    }
    Ok(())
}
