//! Optimiser steps: training of the 2017 notebook with its schedule and average, and `adabelief` on given gradients.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use ibhost_framework::component::{Component, resolve};
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::Progress;
use ibhost_framework::optimiser::{OptimiserConfig, OptimiserState, ParameterUpdate, WeightAverage};
use ibhost_framework::parameters::{average_buffers, with_average};
use ibhost_framework::plan::{MAIN, OptimiserSlot, ParameterGroup};
use ibhost_framework::registry::Kind;
use ibhost_framework::schedule::{ScheduleConfig, ScheduleContext};
use ibhost_framework::strategy::StrategyConfig;
use ibhost_vib::terms::LOSS_NOISE;
use serde_json::Value;

use super::Outcome;
use super::data::{batch_of, beta, by_path, compare_all, noise, rows};
use super::model::Model;
use crate::golden::{self, Array};

/// One parameter, for optimisers on given gradients.
#[derive(Module, Debug)]
pub(super) struct Single {
    value: Param<Tensor<1>>,
}

pub(super) fn adabelief(file: &Value) -> Outcome {
    let (inputs, (abs, rel)) = (golden::member(file, "inputs")?, golden::tolerance(file));
    let start = golden::tensor(golden::member(inputs, "p0")?)?.1;
    let (shape, gradients) = golden::tensor(golden::member(inputs, "grads")?)?;
    let size = start.len();
    if shape.iter().product::<usize>() % size.max(1) != 0 {
        return Err(format!("gradients of shape {shape:?} do not fit {size} parameters"));
    }
    let optimiser = resolve::<dyn OptimiserConfig>(Kind::Optimiser, "adabelief").map_err(|e| e.to_string())?.1;
    let rate = inputs.get("lr").and_then(Value::as_f64).unwrap_or(1e-4);
    let slots = [OptimiserSlot { name: "all".to_owned(), groups: vec![ParameterGroup::field("value")], step_factor: 1 }];
    let mut states = [OptimiserState::default()];
    let vector = |values: &[f64]| Tensor::<1>::from_data(TensorData::new(values.to_vec(), [values.len()]), &golden::device());
    let mut model = Single { value: Param::from_tensor(vector(&start)) };
    let steps = golden::list(golden::at(file, &["outputs", "p_after_each_step"])?)?;
    if steps.len() != gradients.len() / size.max(1) {
        return Err(format!("{} steps recorded for {} gradients", steps.len(), gradients.len() / size.max(1)));
    }
    for (step, (want, gradient)) in steps.iter().zip(gradients.chunks(size)).enumerate() {
        // The gradient of a linear loss is the recorded one.
        let backward = (model.value.val() * vector(gradient)).sum().backward();
        states[0].step += 1;
        let rule = optimiser.rule(states[0].step, rate);
        let mut update = ParameterUpdate::new(Some(backward), &slots, &mut states, vec![Some(rule)], None);
        model = model.map(&mut update);
        let found = golden::values(model.value.val());
        golden::close(&format!("parameters after step {}", step + 1), &found, &golden::tensor(want)?.1, abs, rel)?;
    }
    Ok(())
}

/// Relative spacing of single-precision numbers, in which the vectors were computed.
const SINGLE: f64 = 1.2e-7;

/// Compares values and, to 1 % beyond the rounding of `steps` single-precision additions, how far they are from the start.
pub(super) fn compare_moved(
    what: &str,
    found: &BTreeMap<String, Vec<f64>>,
    want: &Value,
    start: &BTreeMap<String, Array>,
    steps: usize,
    tolerance: (f64, f64),
) -> Outcome {
    compare_all(what, found, want, tolerance)?;
    for (path, (_, want)) in by_path(want)? {
        let start = &start.get(&path).ok_or_else(|| format!("no start of {path}"))?.1;
        for (i, ((got, want), start)) in found[&path].iter().zip(&want).zip(start).enumerate() {
            let slack = steps as f64 * SINGLE * want.abs().max(start.abs());
            golden::close(&format!("move of {what} {path}[{i}]"), &[got - start], &[want - start], slack, 0.01)?;
        }
    }
    Ok(())
}

pub(super) fn tf1_training(file: &Value) -> Outcome {
    let (inputs, tolerance) = (golden::member(file, "inputs")?, golden::tolerance(file));
    let read = |key| golden::tensor(golden::member(inputs, key)?);
    let (images, labels, eps) = (read("images")?, read("labels")?, read("eps")?);
    let weights = by_path(golden::member(inputs, "weights")?)?;
    let recorded = golden::list(golden::at(file, &["outputs", "steps"])?)?;
    if [&images, &labels, &eps].iter().any(|(shape, _)| shape.first() != Some(&recorded.len())) {
        return Err(format!("images, labels and eps must hold one batch for each of {} steps", recorded.len()));
    }
    let of_step = |(shape, values): &Array, step: usize| -> Array {
        let size: usize = shape[1..].iter().product();
        (shape[1..].to_vec(), values[step * size..(step + 1) * size].to_vec())
    };
    let features = rows(&of_step(&images, 0), 2.0)?.1;
    let Model { mut boxed, config, .. } = Model::mlp(&format!("vib/beta:{}", beta(inputs)), "joint", features, &weights)?;

    let recipe = config.recipe();
    let of = |kind, text| Component::parse(kind, text).map_err(|e| e.to_string());
    let optimiser = of(Kind::Optimiser, recipe.optimiser)?.build::<dyn OptimiserConfig>().map_err(|e| e.to_string())?;
    let schedule = of(Kind::Schedule, recipe.schedule)?.build::<dyn ScheduleConfig>().map_err(|e| e.to_string())?;
    let strategy = of(Kind::Strategy, recipe.strategy)?.build::<dyn StrategyConfig>().map_err(|e| e.to_string())?;
    let plan = strategy.plan(&boxed.groups());
    let mut states = vec![OptimiserState::default(); plan.optimisers.len()];
    let decay = recipe.average.ok_or("the recipe keeps no average")?;
    let mut average = WeightAverage { decay, weights: average_buffers(&boxed) };

    for (step, want) in recorded.iter().enumerate() {
        // With one batch an epoch, the stair of two epochs is the vector's boundary of two steps.
        let context = ScheduleContext {
            base: recipe.learning_rate,
            step: states[0].step,
            steps_per_epoch: 1,
            updates: recorded.len() as u64,
            step_factor: plan.optimisers[0].step_factor,
        };
        let rate = schedule.rate(&context);
        golden::close(&format!("rate of step {}", step + 1), &[rate], &[golden::number(want, "lr_used")?], 0.0, 1e-6)?;
        let (label_shape, label_values) = of_step(&labels, step);
        let labels = serde_json::json!({ "shape": label_shape, "data": label_values });
        let batch = batch_of(&of_step(&images, step), &labels, 2.0)?;
        let mut draws = Draws::recorded([noise(&of_step(&eps, step), LOSS_NOISE)]);
        let gradients = boxed.loss(MAIN, Progress::at(1, 0), &batch, &mut draws).total.backward();
        states[0].step += 1;
        let rules = vec![Some(optimiser.rule(states[0].step, rate))];
        let mut update = ParameterUpdate::new(Some(gradients), &plan.optimisers, &mut states, rules, Some(&mut average));
        boxed = boxed.map(&mut update);
        if let Some(path) = update.non_finite() {
            return Err(format!("the gradient of {path} is not finite in step {}", step + 1));
        }
        let found = golden::parameter_values(&boxed);
        compare_moved("parameter", &found, golden::member(want, "params")?, &weights, step + 1, tolerance)?;
        let averaged = golden::parameter_values(&with_average(boxed.clone(), &average.weights));
        compare_moved("average", &averaged, golden::member(want, "ema")?, &weights, step + 1, tolerance)?;
    }
    Ok(())
}
