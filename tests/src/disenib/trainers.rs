//! Whole steps of the DisenIB trainers with recorded batches, noise and permutations, in the order the objective's plan gives.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::TensorData;
use ibhost_disenib::objective::noise;
use ibhost_disenib::plan::Update;
use ibhost_framework::component::resolve;
use ibhost_framework::dataset::Batch;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{BoxedObjective, Progress, read_measures};
use ibhost_framework::optimiser::{OptimiserConfig, OptimiserState, ParameterUpdate};
use ibhost_framework::parameters::with_gradients_for;
use ibhost_framework::registry::Kind;
use serde_json::Value;

use super::Outcome;
use super::data::{array, batch, matches, original_layout, path_of, tolerance};
use super::steps::{RATE, build, hidden_of, listed, load_all};
use crate::golden::{self, at, close, list, member, object, parameter_gradients, parameter_values, text};

/// Recorded tensors handed out one after the other.
struct Queue<'a> {
    values: &'a [Value],
    next: usize,
    cycle: bool,
}

impl<'a> Queue<'a> {
    fn new(file: &'a Value, key: &str, cycle: bool) -> Result<Self, String> {
        Ok(Self { values: list(at(file, &["inputs", key])?)?, next: 0, cycle })
    }

    fn take(&mut self) -> Result<&'a Value, String> {
        let place = if self.cycle && !self.values.is_empty() { self.next % self.values.len() } else { self.next };
        self.next += 1;
        self.values.get(place).ok_or_else(|| format!("more than the recorded {} tensors are needed", self.values.len()))
    }

    fn all_used(&self, what: &str) -> Outcome {
        if self.cycle || self.next == self.values.len() {
            return Ok(());
        }
        Err(format!("{} of {} recorded {what} were used", self.next, self.values.len()))
    }
}

/// Noise of the given purposes in the recorded order.
fn draws<'a>(noises: &mut Queue<'a>, orders: &mut Queue<'a>, purposes: &[&str]) -> Result<Draws, String> {
    let mut recorded = Vec::new();
    for &purpose in purposes {
        let queue = if purpose.ends_with("order") { &mut *orders } else { &mut *noises };
        let (shape, data) = golden::tensor(queue.take()?)?;
        recorded.push((purpose.to_owned(), TensorData::new(data, shape)));
    }
    Ok(Draws::recorded(recorded))
}

const MAIN: [&str; 4] = [noise::DECODE, noise::RECONSTRUCT, noise::STYLE, noise::CLASS];
const PRODUCT: [&str; 4] = [noise::PRODUCT_STYLE, noise::PRODUCT_CLASS, noise::STYLE_ORDER, noise::CLASS_ORDER];
const DISCRIMINATOR: [&str; 1] = [noise::RECONSTRUCT];

/// Name of a measure in the log records of the original.
const LOGGED: [(&str, &str); 11] = [
    ("loss_dec", "loss_dec"),
    ("loss_rec", "loss_rec"),
    ("loss_est", "loss_est_NO_DISPLAY"),
    ("est", "est"),
    ("loss_est_real", "loss_est_real_NO_DISPLAY"),
    ("est_real", "est_real"),
    ("loss_est_fake", "loss_est_fake_NO_DISPLAY"),
    ("est_fake", "est_fake"),
    ("loss_disc_real", "loss_disc_real"),
    ("loss_disc_fake", "loss_disc_fake"),
    ("disc_acc", "disc_acc"),
];

/// Runs the plan over the recorded updates and compares losses, gradient norms and the final parameters.
fn run(file: &Value, mut model: BoxedObjective, conv: bool) -> Outcome {
    let (abs, rel) = tolerance(file);
    let recorded = list(at(file, &["outputs", "updates"])?)?;
    let logs = list(at(file, &["outputs", "log_records"])?)?;
    if logs.len() != recorded.len() {
        return Err(format!("{} log records for {} updates", logs.len(), recorded.len()));
    }
    let (mut batches, mut other) = (Queue::new(file, "batches", true)?, Queue::new(file, "estimator_batches", true)?);
    let (mut noises, mut orders) = (Queue::new(file, "noise", false)?, Queue::new(file, "permutations", false)?);
    let optimiser =
        resolve::<dyn OptimiserConfig>(Kind::Optimiser, "adam/beta1:0.5|beta2:0.999|epsilon:1e-8").map_err(|e| e.to_string())?.1;
    let plan = model.plan().ok_or("the objective has no plan")?;
    let mut states = vec![OptimiserState::default(); plan.optimisers.len()];
    let (mut done, mut step) = (0, 0);
    while done < recorded.len() {
        for phase in plan.phases.iter().filter(|phase| phase.when.is_due(1, step)) {
            for _ in 0..phase.repeats {
                let update = Update::of(&phase.name);
                let (want, log) = (recorded.get(done).ok_or("more updates than recorded")?, &logs[done]);
                let what = format!("update {done}, {}", phase.name);
                done += 1;
                let (name, data, mut draws): (_, Batch, Draws) = match update {
                    Update::Main { .. } => ("main", batch(batches.take()?)?, draws(&mut noises, &mut orders, &MAIN)?),
                    Update::Estimator => {
                        let purposes: Vec<&str> = PRODUCT.into_iter().chain([noise::STYLE, noise::CLASS]).collect();
                        ("est", batch(other.take()?)?, draws(&mut noises, &mut orders, &purposes)?)
                    }
                    Update::Discriminator => ("disc", batch(batches.take()?)?, draws(&mut noises, &mut orders, &DISCRIMINATOR)?),
                };
                if text(want, "optimiser")? != name {
                    return Err(format!("{what}: the original moves `{}`", text(want, "optimiser")?));
                }
                let slot = phase.updates[0].0;
                model = with_gradients_for(model, |path| plan.optimisers[slot].contains(path));
                let loss = model.loss(&phase.name, Progress::at(1, 0), &data, &mut draws);
                let measures: BTreeMap<String, f64> = read_measures(loss.measures).into_iter().collect();
                for (ours, theirs) in LOGGED {
                    if let Some(want) = log.get(theirs).and_then(Value::as_f64) {
                        let found = measures.get(ours).copied().ok_or_else(|| format!("{what}: `{ours}` is not reported"))?;
                        close(&format!("{what}: {ours}"), &[found], &[want], abs, rel)?;
                    }
                }
                let gradients = loss.total.backward();
                let found = parameter_gradients(&model, &gradients);
                for (name, norm) in object(member(want, "grad_l2")?)? {
                    let gradient = found.get(&path_of(name, conv)?).ok_or_else(|| format!("{what}: no gradient of {name}"))?;
                    let own = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
                    close(&format!("{what}: gradient of {name}"), &[own], &[norm.as_f64().ok_or("not a number")?], abs, rel)?;
                }
                states[slot].step += 1;
                let mut rules: Vec<_> = plan.optimisers.iter().map(|_| None).collect();
                rules[slot] = Some(optimiser.rule(states[slot].step, RATE));
                model = model.map(&mut ParameterUpdate::new(Some(gradients), &plan.optimisers, &mut states, rules, None));
            }
        }
        step += 1;
    }
    noises.all_used("noise tensors")?;
    orders.all_used("permutations")?;
    let found = parameter_values(&model);
    for (name, want) in object(at(file, &["outputs", "params_after"])?)? {
        // A bias in front of an instance norm has no gradient but rounding errors, which Adam blows up.
        if conv && is_before_norm(file, name)? {
            continue;
        }
        let own = found.get(&path_of(name, conv)?).ok_or_else(|| format!("no parameter {name}"))?;
        let shape = array(at(file, &["inputs", "params", name])?)?.0;
        matches(&format!("{name} at the end"), &original_layout(name, &shape, own)?, want, (abs, rel))?;
    }
    Ok(())
}

/// Whether `name` is the bias of a convolution that an instance norm follows: all of them but the last transposed one.
fn is_before_norm(file: &Value, name: &str) -> Result<bool, String> {
    let parts: Vec<&str> = name.split('.').collect();
    let [net, stack @ ("conv" | "deconv"), layer, "bias"] = parts[..] else { return Ok(false) };
    let layer: usize = layer.parse().map_err(|_| format!("`{name}` has no layer number"))?;
    let next = format!("{net}.{stack}.{}.bias", layer + 3);
    Ok(stack == "conv" || at(file, &["inputs", "params"])?.get(next).is_some())
}

/// Number of the settings the description of a vector gives as `<name> <number>`; 0 when it does not name it.
fn setting(file: &Value, name: &str) -> Option<f64> {
    let formula = file.get("formula")?.as_str()?;
    let rest = formula.split_once(&format!("{name} "))?.1;
    rest.split(|c: char| !(c.is_ascii_digit() || c == '.')).next()?.trim_end_matches('.').parse().ok()
}

/// Main updates before the first estimator update, and estimator updates in a row.
fn rhythm(file: &Value) -> Result<(usize, usize), String> {
    let updates = list(at(file, &["outputs", "updates"])?)?;
    let names: Vec<&str> = updates.iter().map(|u| text(u, "optimiser")).collect::<Result<_, _>>()?;
    let main = names.iter().take_while(|n| **n == "main").count();
    let est = names[main..].iter().take_while(|n| **n == "est").count();
    Ok((main, est))
}

pub(super) fn fully_connected(file: &Value) -> Outcome {
    let params = at(file, &["inputs", "params"])?;
    let shape_of = |name: &str| params.get(name).and_then(|v| array(v).ok()).map(|(shape, _)| shape);
    let (encoder_hidden, latent) = hidden_of("enc_s.fc.seq", shape_of);
    let (decoder_hidden, classes) = hidden_of("dec.fc.seq", shape_of);
    let (rec_hidden, pixels) = hidden_of("rec.fc.seq", shape_of);
    let first = list(at(file, &["inputs", "noise"])?)?.first().ok_or("no noise")?;
    let samples = golden::tensor(first)?.0[1];
    let (main, est) = rhythm(file)?;
    let est_thr = setting(file, "est term on from step index").unwrap_or(0.0);
    let radius = setting(file, "wall radius").unwrap_or(3.0);
    let objective = format!(
        "disenib/n_samples:{samples}|n_times_main:{main}|n_times_est:{est}|est_thr:{est_thr}|emb_radius:{radius}|rec_hidden:{}",
        listed(&rec_hidden)
    );
    let encoder = format!("dense/hidden:{}|z:{latent}|cov:point", listed(&encoder_hidden));
    let decoder = format!("dense_classifier/hidden:{}", listed(&decoder_hidden));
    let model = build(&objective, &encoder, &decoder, [1, 1, pixels], classes)?;
    run(file, load_all(model, params, false)?, false)
}

pub(super) fn convolutional(file: &Value) -> Outcome {
    let params = at(file, &["inputs", "params"])?;
    let shape_of = |name: &str| array(member(params, name)?).map(|(shape, _)| shape);
    let table = shape_of("rec.label_table")?;
    let (main, est) = rhythm(file)?;
    let radius = setting(file, "wall radius").unwrap_or(3.0);
    let limit = setting(file, "limit").unwrap_or(1.1);
    let image = array(at(list(at(file, &["inputs", "batches"])?)?.first().ok_or("no batch")?, &["x"])?)?.0;
    let shape: [usize; 3] = image[1..].try_into().map_err(|_| format!("images of shape {image:?}"))?;
    let objective = format!(
        "disenib/n_samples:1|n_times_main:{main}|n_times_est:{est}|est_thr:0|disc:true|disc_thr:0|disc_limit_acc:{limit}|emb_radius:{radius}\
         |rec:conv|spectral:false|cluster:false|init:normal"
    );
    let encoder = format!("instance_conv/z:{}", table[1]);
    let model = build(&objective, &encoder, "dense_classifier/bias:false|init:normal", shape, table[0])?;
    run(file, load_all(model, params, true)?, true)
}
