//! Optimisers, schedules, run names and the training loop.

use std::collections::BTreeMap;

use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{Objective, Progress};
use ibhost_framework::optimiser::{OptimiserConfig, OptimiserState, ParameterUpdate, testing};
use ibhost_framework::plan::OptimiserSlot;
use ibhost_framework::schedule::{ScheduleConfig, ScheduleContext};
use ibhost_hit::names::PublishedRun;
use ibhost_hit::schedules::{ladder_warm_up, temperature, warm_up};
use ibhost_training::optimisers::{Adadelta, Adam, Sgd};
use ibhost_training::schedules::{Cosine, Step};
use serde_json::Value;

use super::model::{described, noise, terms};
use super::{Outcome, rule};
use crate::golden::{Array, at, close, count, list, member, number, object, parameter_values, tensor, text, tolerance};

fn progress(step: u64, steps_per_epoch: u64, epochs: u64) -> Progress {
    Progress { epoch: step / steps_per_epoch + 1, step, steps_per_epoch, epochs }
}

pub(super) fn schedules(file: &Value) -> Outcome {
    let (abs, rel) = tolerance(file);
    let epochs = crate::golden::scalar(at(file, &["inputs", "epochs"])?)? as u64;
    let outputs = member(file, "outputs")?;
    let full = tensor(member(outputs, "lvae_wu_temp")?)?.1;
    let batches = full.len() as u64 / epochs.max(1);
    for (key, value) in object(outputs)? {
        let (_, want) = tensor(value)?;
        let steps = want.len() as u64;
        let found: Vec<f64> = match key.as_str() {
            "lvae_wu_temp" => (0..steps).map(|s| progress(s, batches, epochs)).map(|p| warm_up(p, ladder_warm_up(p))).collect(),
            "lvae_no_warmup" => (0..steps).map(|s| warm_up(progress(s, batches, steps / batches), 0)).collect(),
            "gumbel_temp" => (0..steps).map(|s| temperature(progress(s, 1, steps))).collect(),
            other => {
                let epochs = other.strip_prefix("lvae_").and_then(|rest| rest.strip_suffix("_epochs")).and_then(|n| n.parse().ok());
                let epochs = epochs.ok_or_else(|| format!("`{other}` is not a known schedule"))?;
                (0..steps).map(|s| progress(s, batches, epochs)).map(|p| warm_up(p, ladder_warm_up(p))).collect()
            }
        };
        close(key, &found, &want, abs, rel)?;
    }
    Ok(())
}

/// `adam_3e-4`, `sgd_1e-2_mom0.9_wd5e-4` ... as a rule and a learning rate.
fn optimiser(key: &str) -> Result<(Box<dyn OptimiserConfig>, f64), String> {
    let wrong = || format!("`{key}` is not a known optimiser");
    let mut parts = key.split('_');
    let name = parts.next().ok_or_else(wrong)?;
    let rate = parts.next().and_then(|rate| rate.parse().ok()).ok_or_else(wrong)?;
    let (mut momentum, mut weight_decay) = (0.0, 0.0);
    for part in parts {
        let value = |prefix: &str| part.strip_prefix(prefix).and_then(|value| value.parse().ok());
        match (value("mom"), value("wd")) {
            (Some(x), _) => momentum = x,
            (_, Some(x)) => weight_decay = x,
            _ => return Err(wrong()),
        }
    }
    Ok(match name {
        "adam" => (Box::new(Adam::default()), rate),
        "adadelta" => (Box::new(Adadelta::default()), rate),
        "sgd" => (Box::new(Sgd { momentum, weight_decay }), rate),
        _ => return Err(wrong()),
    })
}

pub(super) fn optimisers(file: &Value) -> Outcome {
    let (abs, rel) = tolerance(file);
    let (_, start) = tensor(at(file, &["inputs", "w0"])?)?;
    let (_, gradients) = tensor(at(file, &["inputs", "grads"])?)?;
    for (key, value) in object(member(file, "outputs")?)? {
        let (_, want) = tensor(value)?;
        // Rates of the classifiers' training, one an epoch.
        let rates = |schedule: &dyn ScheduleConfig, base: f64| -> Vec<f64> {
            let context = |epoch| ScheduleContext {
                base,
                step: 3 * epoch + epoch % 3,
                steps_per_epoch: 3,
                updates: 3 * want.len() as u64,
                step_factor: 1,
            };
            (0..want.len() as u64).map(|epoch| schedule.rate(&context(epoch))).collect()
        };
        let found = if key.starts_with("cosine_lr") {
            rates(&Cosine { last: 0.0, per_epoch: true }, 1e-2)
        } else if key.starts_with("step_lr") {
            rates(&Step { every: 1, factor: 0.7 }, 1.0)
        } else {
            let (optimiser, rate) = optimiser(key)?;
            let (mut w, mut kept) = (start.clone(), testing::buffers(&*optimiser.rule(1, rate), start.len()));
            let mut trajectory = Vec::new();
            for (step, gradient) in gradients.chunks_exact(start.len()).enumerate() {
                testing::update(&*optimiser.rule(step as u64 + 1, rate), &mut w, gradient, &mut kept);
                trajectory.extend_from_slice(&w);
            }
            trajectory
        };
        close(key, &found, &want, abs, rel)?;
    }
    Ok(())
}

pub(super) fn run_names(file: &Value) -> Outcome {
    let cases = list(at(file, &["meta", "cases"])?)?;
    let [names, folders] = ["run_name", "out_dir"].map(|key| at(file, &["outputs", key]).and_then(list));
    let (names, folders) = (names?, folders?);
    if names.len() != cases.len() || folders.len() != cases.len() || cases.is_empty() {
        return Err(format!("{} cases, {} names, {} folders", cases.len(), names.len(), folders.len()));
    }
    for ((case, name), folder) in cases.iter().zip(names).zip(folders) {
        let defaults = PublishedRun::default();
        let words = |key: &str, default: &str| case.get(key).and_then(Value::as_str).unwrap_or(default).to_owned();
        let whole = |key: &str, default: u64| case.get(key).and_then(Value::as_u64).unwrap_or(default);
        let real = |key: &str, default: f64| case.get(key).and_then(Value::as_f64).unwrap_or(default);
        let flag = |key: &str| case.get(key).and_then(Value::as_bool).unwrap_or(false);
        let run = PublishedRun {
            run_batch_name: words("run_batch_name", &defaults.run_batch_name),
            run_name: words("run_name", ""),
            num_epochs: whole("num_epochs", defaults.num_epochs),
            batch_size: whole("batch_size", defaults.batch_size),
            conv_channels: whole("conv_channels", defaults.conv_channels),
            dataset: words("dataset", &defaults.dataset),
            vae_type: words("vae_type", &defaults.vae_type),
            px_y_family_ll: words("px_y_family_ll", &defaults.px_y_family_ll),
            qz_family: words("qz_family", &defaults.qz_family),
            beta_y: real("beta_y", defaults.beta_y),
            beta_z: real("beta_z", defaults.beta_z),
            sigma: real("sigma", defaults.sigma),
            z_dims: whole("z_dims", defaults.z_dims),
            use_conv_z: flag("use_conv_z"),
            linear_y_with_dims: case.get("linear_y_with_dims").and_then(Value::as_u64),
            no_warmup: flag("no_warmup"),
        };
        for (found, want) in [(run.name(), name), (run.folder(), folder)] {
            if want.as_str() != Some(&found) {
                return Err(format!("`{found}`, expected {want}"));
            }
        }
    }
    Ok(())
}

/// The number after the first `open` of a text, up to what is no digit.
fn number_after(text: &str, open: &str) -> Result<u64, String> {
    let digits: String = text.split_once(open).map_or("", |(_, rest)| rest).chars().take_while(char::is_ascii_digit).collect();
    digits.parse().map_err(|_| format!("`{text}` has no number after `{open}`"))
}

pub(super) fn trajectory(file: &Value) -> Outcome {
    let (abs, rel) = tolerance(file);
    for (run, meta) in object(at(file, &["meta", "runs"])?)? {
        let weights: BTreeMap<String, Array> = rule::tensors(meta)?.into_iter().collect();
        let described = described(meta)?.with_weights(&weights)?;
        let latents = described.latents();
        let (batch, batches, epochs) = (count(meta, "batch")?, count(meta, "batches_per_epoch")? as u64, count(meta, "num_epochs")? as u64);
        let seed_x = number_after(text(meta, "batch_b")?, "u(")?;
        let seed_noise = number_after(text(meta, "noise")?, "gauss(")?;
        let rate = number(meta, "learning_rate")?;
        let slots = [OptimiserSlot { name: "all".to_owned(), groups: described.model.groups(), step_factor: 1 }];
        let mut states = [OptimiserState::default()];
        let mut seen: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let (size, bottom) = (described.shape.iter().product::<usize>(), if described.ladder { 2 } else { 1 });
        let mut current = described;
        for step in 0..batches * epochs {
            let x = current.inputs(rule::images(seed_x + step % batches, batch * size, current.binary));
            let first = seed_noise + 3 * step;
            let mut draws: Draws = noise(rule::gauss(first, batch * latents[1]), rule::gauss(first + bottom, batch * latents[0]));
            let setting = current.model.setting(progress(step, batches, epochs));
            let pass = current.model.pass(x, setting, &mut draws);
            for (name, value) in terms(&pass) {
                seen.entry(name).or_default().push(value);
            }
            seen.entry("wu_temp").or_default().push(setting.rate_weight);
            let gradients = pass.total.backward();
            let rules = vec![Some(Adam::default().rule(step + 1, rate))];
            let mut update = ParameterUpdate::new(Some(gradients), &slots, &mut states, rules, None);
            current.model = burn::module::Module::map(current.model, &mut update);
        }
        let sum: f64 = parameter_values(&current.model).values().flatten().map(|w| w.abs()).sum();
        seen.insert("sum_of_abs_weights_at_end", vec![sum]);
        let mut compared = 0;
        for (key, want) in object(member(file, "outputs")?)? {
            let Some(what) = key.strip_prefix(&format!("{run}.")) else { continue };
            let found = seen.get(what).ok_or_else(|| format!("`{key}` is not recorded here"))?;
            close(key, found, &tensor(want)?.1, abs, rel)?;
            compared += 1;
        }
        if compared == 0 {
            return Err(format!("the vector has no outputs of run `{run}`"));
        }
    }
    Ok(())
}
