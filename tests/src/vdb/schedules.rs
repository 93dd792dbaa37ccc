//! Learning rates at given steps: `lr_schedules`.

use ibhost_framework::component::resolve;
use ibhost_framework::registry::Kind;
use ibhost_framework::schedule::{ScheduleConfig, ScheduleContext};
use serde_json::Value;

use crate::golden::{close, list, member, number, tolerance};

pub(super) fn lr_schedules(file: &Value) -> Result<(), String> {
    let (abs, rel) = tolerance(file);
    let base = number(member(file, "inputs")?, "base_lr")?;
    for row in list(member(member(file, "outputs")?, "rows")?)? {
        let [dataset, batch, schedule, factor, step, want] = list(row)? else { return Err(format!("{row} has not six columns")) };
        let words = (dataset.as_str(), schedule.as_str(), want.as_f64());
        let counts = (batch.as_u64(), factor.as_u64(), step.as_u64());
        let ((Some(dataset), Some(schedule), Some(want)), (Some(batch), Some(step_factor), Some(step))) = (words, counts) else {
            return Err(format!("{row} has a column of the wrong type"));
        };
        let steps_per_epoch = training_images(dataset)? / batch.max(1);
        let (_, config) = resolve::<dyn ScheduleConfig>(Kind::Schedule, schedule).map_err(|e| e.to_string())?;
        let context = ScheduleContext { base, step, steps_per_epoch, updates: 200 * steps_per_epoch, step_factor };
        close(&format!("rate of {row}"), &[config.rate(&context)], &[want], abs, rel)?;
    }
    Ok(())
}

/// Training images of a data set of the original, of its subsets (which count as the whole set there) and of its folds.
fn training_images(dataset: &str) -> Result<u64, String> {
    let (name, rest) = dataset.split_once('-').unwrap_or((dataset, ""));
    let whole = match name {
        "mnist" | "fashion_mnist" => 60_000,
        "cifar10" => 50_000,
        _ => return Err(format!("`{dataset}` is not a known data set")),
    };
    let folds = rest.strip_prefix("cv").and_then(|rest| rest.split('-').next()).and_then(|k| k.parse::<u64>().ok());
    Ok(folds.filter(|&k| k > 0).map_or(whole, |k| whole - whole / k))
}
