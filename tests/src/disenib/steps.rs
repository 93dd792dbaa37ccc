//! Updates of the Lagrangian objective, its schedule, and the counters around training.

use ibhost_disenib::lagrangian::CODE_NOISE;
use ibhost_framework::build::BuildContext;
use ibhost_framework::capability::Encode;
use ibhost_framework::component::resolve;
use ibhost_framework::dataset::DataInfo;
use ibhost_framework::decoder::DecoderConfig;
use ibhost_framework::encoder::EncoderConfig;
use ibhost_framework::engine::Watch;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{BoxedObjective, Direction, ObjectiveConfig, Parts, Progress, read_measures};
use ibhost_framework::optimiser::{OptimiserConfig, OptimiserState, ParameterUpdate};
use ibhost_framework::plan::{Cadence, MAIN, Plan};
use ibhost_framework::registry::Kind;
use ibhost_framework::run::EarlyStopping;
use ibhost_framework::schedule::{ScheduleConfig, ScheduleContext};
use serde_json::{Map, Value, json};

use super::Outcome;
use super::data::{batch, load, matches, original_layout, path_of, tolerance};
use crate::golden::{self, at, close, device, member, number, object, parameter_gradients, parameter_values};
use burn::module::Module;
use burn::tensor::TensorData;

/// Learning rate of every trainer of the paper.
pub(super) const RATE: f64 = 1e-4;

/// Objective, encoder and decoder of a component string each, for inputs of `shape`.
pub(super) fn build(objective: &str, encoder: &str, decoder: &str, shape: [usize; 3], classes: usize) -> Result<BoxedObjective, String> {
    let text = |e: ibhost_framework::component::ComponentError| e.to_string();
    let (_, objective) = resolve::<dyn ObjectiveConfig>(Kind::Objective, objective).map_err(text)?;
    let (_, encoder) = resolve::<dyn EncoderConfig>(Kind::Encoder, encoder).map_err(text)?;
    let (_, decoder) = resolve::<dyn DecoderConfig>(Kind::Decoder, decoder).map_err(text)?;
    let data = DataInfo {
        name: "golden".to_owned(),
        classes: (0..classes).map(|c| c.to_string()).collect(),
        shape,
        note: None,
        class_entropy: None,
    };
    let context = BuildContext::new(device(), 0);
    let parts = Parts { encoder: &*encoder, decoder: &*decoder, data: &data, context: &context };
    objective.build(&parts).map(BoxedObjective::new).map_err(|e| e.to_string())
}

/// Sizes of the hidden layers of a dense network whose weights are called `<stem>.<2k>.weight`, and its number of outputs.
pub(super) fn hidden_of(stem: &str, shape_of: impl Fn(&str) -> Option<Vec<usize>>) -> (Vec<usize>, usize) {
    let mut sizes: Vec<usize> = Vec::new();
    while let Some(shape) = shape_of(&format!("{stem}.{}.weight", 2 * sizes.len())) {
        sizes.push(shape[0]);
    }
    let outputs = sizes.pop().unwrap_or(0);
    (sizes, outputs)
}

/// A list as component strings write it.
pub(super) fn listed(sizes: &[usize]) -> String {
    format!("[{}]", sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(";"))
}

pub(super) fn lagrangian(file: &Value, term: &str) -> Outcome {
    let (input, tolerance) = (member(file, "inputs")?, tolerance(file));
    let mut params = Map::new();
    for (name, value) in object(input)? {
        if let Some(name) = name.strip_prefix("param.") {
            params.insert(name.to_owned(), value.clone());
        }
    }
    let shape_of = |name: &str| params.get(name).and_then(|v| golden::tensor(v).ok()).map(|(shape, _)| shape);
    let stem = if term == "vib" { "enc.fc.seq" } else { "enc.seq" };
    let (hidden, outputs) = hidden_of(stem, shape_of);
    let classes = hidden_of("dec.fc.seq", shape_of).1;
    let (latent, cov) = if term == "vib" { (outputs / 2, "diag") } else { (outputs, "shared") };
    let data = batch(input)?;
    let [_, c, h, w] = data.inputs.dims();
    let objective = format!("lagrangian/term:{term}|hfunc:pow|p:1|lambda_kl:0.01");
    let encoder = format!("dense/hidden:{}|z:{latent}|cov:{cov}", listed(&hidden));
    let mut model = build(&objective, &encoder, "dense_classifier", [c, h, w], classes)?;
    // Names of the original know no `model` around encoder and decoder.
    let path = |name: &str| path_of(name, false).map(|p| format!("model.{p}"));
    let mut recorded = std::collections::BTreeMap::new();
    for (name, value) in &params {
        recorded.insert(path(name)?, super::data::own_layout(name, golden::tensor(value)?)?);
    }
    model = golden::load_parameters(model, &recorded)?;
    let optimiser =
        resolve::<dyn OptimiserConfig>(Kind::Optimiser, "adam/beta1:0.5|beta2:0.999|epsilon:1e-8").map_err(|e| e.to_string())?.1;
    let plan = Plan::together(&model.groups());
    let mut states = vec![OptimiserState::default(); plan.optimisers.len()];
    let mut step = 0;
    while let Some(want) = file["outputs"].get(format!("step{}", step + 1)) {
        step += 1;
        let (shape, eps) = golden::tensor(member(input, &format!("eps_step{step}"))?)?;
        let mut draws = Draws::recorded([(CODE_NOISE.to_owned(), TensorData::new(eps, [1, shape[0], shape[1]]))]);
        let loss = model.loss(MAIN, Progress::at(1, 0), &data, &mut draws);
        let measures: std::collections::BTreeMap<_, _> = read_measures(loss.measures).into_iter().collect();
        for (ours, theirs) in [("loss_dec", "loss_dec"), ("loss_kl", "loss_kl_raw")] {
            let found = measures.get(ours).copied().ok_or_else(|| format!("`{ours}` is not reported"))?;
            close(&format!("{ours} of step {step}"), &[found], &[number(want, theirs)?], tolerance.0, tolerance.1)?;
        }
        let posterior = model.capability::<Encode>().ok_or("no posterior")?.posterior(data.inputs.clone());
        matches("mu", &golden::values(posterior.mean()), member(want, "mu")?, tolerance)?;
        let (_, scale) = posterior.as_normal().ok_or("not diagonal")?;
        matches("std", &golden::values(scale), member(want, "std")?, tolerance)?;
        let gradients = loss.total.backward();
        let found = parameter_gradients(&model, &gradients);
        let compare = |what: &str, found: &std::collections::BTreeMap<String, Vec<f64>>, key: &str| -> Outcome {
            for (name, value) in object(member(want, key)?)? {
                let own = found.get(&path(name)?).ok_or_else(|| format!("no {what} of {name}"))?;
                let shape = golden::tensor(value)?.0;
                matches(&format!("{what} of {name}, step {step}"), &original_layout(name, &shape, own)?, value, tolerance)?;
            }
            Ok(())
        };
        compare("gradient", &found, "grad")?;
        states[0].step += 1;
        let rules = vec![Some(optimiser.rule(states[0].step, RATE))];
        model = model.map(&mut ParameterUpdate::new(Some(gradients), &plan.optimisers, &mut states, rules, None));
        compare("parameter", &parameter_values(&model), "param_after")?;
    }
    if step == 0 { Err("no step is recorded".to_owned()) } else { Ok(()) }
}

pub(super) fn meters_schedule(file: &Value) -> Outcome {
    let (output, (abs, rel)) = (member(file, "outputs")?, tolerance(file));
    let count = |key: &str| golden::scalar(at(file, &["inputs", key])?).map(|x| x as u64);
    // The trigger of the encoders' toggle is a cadence.
    let (period, area) = (count("period")?, count("area")?);
    let cadence = Cadence::Cycle { period, from: 0, to: area };
    let (_, sequence) = golden::tensor(member(output, "trigger_sequence")?)?;
    let found: Vec<f64> = (0..sequence.len() as u64).map(|step| f64::from(u8::from(cadence.is_due(1, step)))).collect();
    close("trigger_sequence", &found, &sequence, 0.0, 0.0)?;
    // Steps at which a checkpoint or an evaluation every f steps falls, counted from 0.
    let every = count("step_freq")?;
    let (_, steps) = golden::tensor(member(output, "steps_that_fire")?)?;
    let found: Vec<f64> = (1..=steps.len() as u64).map(|k| (k * every - 1) as f64).collect();
    close("steps_that_fire", &found, &steps, 0.0, 0.0)?;
    // Sample counters at which a log every f samples falls: the first at or beyond each multiple.
    let (freq, batch) = (count("freq")?, count("batch")?);
    let (_, logged) = golden::tensor(member(output, "sample_counter_values_that_log")?)?;
    let found: Vec<f64> = (1..=logged.len() as u64).map(|k| ((k * freq).div_ceil(batch) * batch - 1) as f64).collect();
    close("sample_counter_values_that_log", &found, &logged, 0.0, 0.0)?;
    let early = EarlyStopping { patience: count("patience")?, min_delta: 0.0, from: 0 };
    let mut watch = Watch::new("test.accuracy", Direction::Maximise);
    for row in golden::list(member(output, "best_meter")?)? {
        let epoch = golden::count(row, "epoch")? as u64;
        let saved = watch.observe(number(row, "acc")?, epoch, epoch, 0.0);
        let found = json!([saved, watch.best_epoch, watch.should_stop(Some(&early))]);
        let want = json!([row["save_checkpoint"], row["best_epoch"], row["early_stop"]]);
        if found != want {
            return Err(format!("epoch {epoch}: saved, best and stop are {found}, expected {want}"));
        }
    }
    let schedule = resolve::<dyn ScheduleConfig>(Kind::Schedule, "exponential/decay:0.97|epochs:2").map_err(|e| e.to_string())?.1;
    let rates = golden::numbers(member(output, "lr_per_epoch")?)?;
    let context = |epoch: u64| ScheduleContext { base: RATE, step: epoch * 7, steps_per_epoch: 7, updates: 0, step_factor: 1 };
    let found: Vec<f64> = (0..rates.len() as u64).map(|epoch| schedule.rate(&context(epoch))).collect();
    // The schedule holds its factor in single precision.
    close("lr_per_epoch", &found, &rates, abs, rel.max(1e-6))
}

/// The module under `prefix` names with recorded parameters, for the trainers.
pub(super) fn load_all<M: Module>(module: M, recorded: &Value, conv: bool) -> Result<M, String> {
    load(module, recorded, "", "", conv)
}
