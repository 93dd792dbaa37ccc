//! Parameters after every step of the training strategies: `strategies`.

use std::collections::BTreeMap;

use burn::module::Module;
use ibhost_framework::component::resolve;
use ibhost_framework::dataset::Batch;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{BoxedObjective, Progress, read_measures};
use ibhost_framework::optimiser::{OptimiserConfig, OptimiserState, ParameterUpdate};
use ibhost_framework::parameters;
use ibhost_framework::plan::Plan;
use ibhost_framework::registry::Kind;
use ibhost_framework::schedule::{ScheduleConfig, ScheduleContext};
use ibhost_framework::strategy::StrategyConfig;
use serde_json::Value;

use super::model::{Built, batch, build, by_path, draws, value};
use crate::golden::{Array, close, count, device, list, member, number, object, parameter_values, tensor, text, tolerance};

pub(super) fn strategies(file: &Value) -> Result<(), String> {
    let tolerance = tolerance(file);
    let inputs = member(file, "inputs")?;
    for case in list(member(file, "cases")?)? {
        let strategy = strategy_string(case)?;
        one_case(case, inputs, &strategy, tolerance).map_err(|e| format!("{strategy}: {e}"))?;
    }
    Ok(())
}

/// `algo1/d:2|e:1` from the recorded name and parameters.
fn strategy_string(case: &Value) -> Result<String, String> {
    let name = text(case, "strategy")?;
    let parameters: Vec<String> = object(member(case, "params")?)?.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    Ok(if parameters.is_empty() { name.to_owned() } else { format!("{name}/{}", parameters.join("|")) })
}

/// One optimisation as the engine does it, with the recorded batches and the same noise at every step.
struct Run<'a> {
    plan: Plan,
    optimiser: Box<dyn OptimiserConfig>,
    schedule: Box<dyn ScheduleConfig>,
    states: Vec<OptimiserState>,
    rate: f64,
    batches: Vec<Batch>,
    inputs: &'a Value,
    step: u64,
}

fn one_case(case: &Value, inputs: &Value, strategy: &str, tolerance: (f64, f64)) -> Result<(), String> {
    let averaged = tensor(member(inputs, "eps_L12")?)?.0[0];
    let objective = format!(
        "vdb/beta:{}|m:{}|class_loss:{}|eval_samples:{averaged}|train_accuracy:updated",
        number(case, "beta")?,
        count(case, "M")?,
        text(case, "class_loss")?
    );
    let (image_shape, _) = tensor(member(inputs, "x")?)?;
    let Built { mut objective, recipe, shape } = build(&objective, text(case, "cov_type")?, &image_shape, member(inputs, "weights")?)?;
    let (_, strategy) = resolve::<dyn StrategyConfig>(Kind::Strategy, strategy).map_err(|e| e.to_string())?;
    let plan = strategy.plan(&objective.groups());
    let mut run = Run {
        states: vec![OptimiserState::default(); plan.optimisers.len()],
        plan,
        optimiser: resolve(Kind::Optimiser, recipe.optimiser).map_err(|e| e.to_string())?.1,
        schedule: resolve(Kind::Schedule, recipe.schedule).map_err(|e| e.to_string())?.1,
        rate: number(case, "lr")?,
        batches: recorded_batches(inputs)?,
        inputs,
        step: 0,
    };
    for (index, epoch) in list(member(case, "epochs")?)?.iter().enumerate() {
        let number = epoch.get("epoch").and_then(Value::as_u64).unwrap_or(index as u64 + 1);
        let place = |e: String| format!("epoch {number}: {e}");
        objective = run.epoch(objective, number, epoch, shape, averaged, tolerance).map_err(place)?;
    }
    Ok(())
}

/// `x` is `[batches, batch, height, width, channels]`, `y` `[batches, batch]`.
fn recorded_batches(inputs: &Value) -> Result<Vec<Batch>, String> {
    let ((x_shape, x), (y_shape, y)) = (tensor(member(inputs, "x")?)?, tensor(member(inputs, "y")?)?);
    let part = |shape: &[usize], data: &[f64]| serde_json::json!({ "shape": shape[1..], "data": data });
    let count = x_shape[0].max(1);
    let slices = x.chunks_exact(x.len() / count).zip(y.chunks_exact(y.len() / count));
    slices.map(|(x, y)| batch(&part(&x_shape, x), &part(&y_shape, y), &device())).collect()
}

impl Run<'_> {
    fn draws(&self) -> Result<Draws, String> {
        draws(self.inputs, &[("posterior", "eps_loss"), ("accuracy", "eps_L1"), ("averaged accuracy", "eps_L12")])
    }

    fn epoch(
        &mut self,
        mut objective: BoxedObjective,
        epoch: u64,
        want: &Value,
        shape: [usize; 3],
        averaged: usize,
        (abs, rel): (f64, f64),
    ) -> Result<BoxedObjective, String> {
        let parameters_after = list(member(want, "params_after_each_step")?)?;
        if parameters_after.len() != self.batches.len() {
            return Err(format!("{} steps are recorded for {} batches", parameters_after.len(), self.batches.len()));
        }
        let names = ["loss", "izy_bits", "izx_bits", "accuracy", &format!("accuracy_l{averaged}")];
        let mut sums = [0.0; 5];
        for (index, recorded) in parameters_after.iter().enumerate() {
            let measures;
            (objective, measures) = self.training_step(objective, epoch, index)?;
            for (sum, name) in sums.iter_mut().zip(names) {
                *sum += value(&measures, name)?;
            }
            compare(&parameter_values(&objective), &by_path(recorded, shape)?, (abs, rel))
                .map_err(|e| format!("step {}: {e}", index + 1))?;
        }
        // Epoch values are plain means over batches.
        let means = sums.map(|sum| sum / parameters_after.len() as f64);
        close("mean loss, I(Y;Z), I(X;Z)", &means[..3], &tensor(member(want, "mean_loss_IYZ_IXZ")?)?.1, abs, rel)?;
        close("mean accuracies", &means[3..], &tensor(member(want, "mean_acc_L1_L12")?)?.1, abs, rel)?;
        Ok(objective)
    }

    fn training_step(
        &mut self,
        mut model: BoxedObjective,
        epoch: u64,
        index: usize,
    ) -> Result<(BoxedObjective, Vec<(String, f64)>), String> {
        let batch = self.batches[index].clone();
        let mut measures = Vec::new();
        for phase in self.plan.phases.clone() {
            if !phase.when.is_due(epoch, self.step) {
                continue;
            }
            let mut rules: Vec<_> = self.plan.optimisers.iter().map(|_| None).collect();
            for (slot, cadence) in &phase.updates {
                if cadence.is_due(epoch, self.step) {
                    let rate = self.schedule.rate(&self.context(*slot));
                    self.states[*slot].step += 1;
                    rules[*slot] = Some(self.optimiser.rule(self.states[*slot].step, rate));
                }
            }
            let moving: Vec<bool> = rules.iter().map(Option::is_some).collect();
            let slots = &self.plan.optimisers;
            model = parameters::with_gradients_for(model, |path| {
                slots.iter().position(|slot| slot.contains(path)).is_some_and(|slot| moving[slot])
            });
            let loss = model.loss(&phase.name, Progress::at(1, 0), &batch, &mut self.draws()?);
            let gradients = moving.contains(&true).then(|| loss.total.backward());
            measures.extend(loss.measures);
            let mut update = ParameterUpdate::new(gradients, &self.plan.optimisers, &mut self.states, rules, None);
            model = model.map(&mut update);
            if let Some(path) = update.non_finite() {
                return Err(format!("the gradient of `{path}` is not finite"));
            }
            measures.extend(model.after_update(&batch, &mut self.draws()?));
        }
        self.step += 1;
        Ok((model, read_measures(measures)))
    }

    fn context(&self, slot: usize) -> ScheduleContext {
        let steps_per_epoch = self.batches.len() as u64;
        let step_factor = self.plan.optimisers[slot].step_factor;
        ScheduleContext { base: self.rate, step: self.states[slot].step, steps_per_epoch, updates: steps_per_epoch, step_factor }
    }
}

fn compare(found: &BTreeMap<String, Vec<f64>>, recorded: &BTreeMap<String, Array>, (abs, rel): (f64, f64)) -> Result<(), String> {
    if found.len() != recorded.len() {
        return Err(format!("{} parameters, {} are recorded", found.len(), recorded.len()));
    }
    for (path, (_, want)) in recorded {
        close(path, found.get(path).ok_or_else(|| format!("there is no `{path}`"))?, want, abs, rel)?;
    }
    Ok(())
}
