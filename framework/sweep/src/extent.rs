//! How large a grid is, from its definition alone: a few hundred bytes can stand for more trials than any machine holds.

use serde_json::Value;

use crate::definition::Definition;
use crate::error::SweepError;
use crate::values::{MAX_VALUES, count};

/// Most bytes that the axes of all trials may take.
pub const MAX_BYTES: u128 = 1 << 30;

/// What a value costs besides its text: its place and its axis's in the two lists of a trial, and their allocations.
const EACH: u128 = 160;

/// What one axis, or several that move together, are made of.
struct Group {
    points: usize,
    /// Bytes of all its points.
    bytes: u128,
}

/// Refuses a grid that has too many trials, or whose trials would not fit into [`MAX_BYTES`].
///
/// # Errors
/// The place and the number there.
pub fn check(definition: &Definition) -> Result<(), SweepError> {
    let mut groups = Vec::new();
    for (axis, value) in &definition.axes {
        groups.push(group(axis, value, &format!("axes.{axis}"))?);
    }
    for (place, axes) in definition.zip.iter().enumerate() {
        let mut together = Group { points: 1, bytes: 0 };
        for (axis, value) in axes {
            let one = group(axis, value, &format!("zip, group {}, {axis}", place + 1))?;
            together = Group { points: together.points.max(one.points), bytes: together.bytes.saturating_add(one.bytes) };
        }
        groups.push(together);
    }
    let trials = groups.iter().fold(1u128, |trials, group| trials.saturating_mul(group.points as u128));
    if trials > MAX_VALUES as u128 {
        let number = if trials == u128::MAX { "the grid's trials".to_owned() } else { format!("{trials} trials") };
        let problem = format!("{number} are more than {MAX_VALUES}\n  hint: shorten axes, or let some move together in `zip`");
        return Err(SweepError::definition("axes", problem));
    }
    // Each point of a group stands in as many trials as the other groups have combinations.
    let bytes = groups.iter().fold(0u128, |sum, group| sum.saturating_add(group.bytes.saturating_mul(trials / group.points as u128)));
    if bytes > MAX_BYTES {
        let problem = format!(
            "the axes of {trials} trials would take {} MiB of memory, more than {} MiB\n  hint: take fewer trials or axes at a time",
            bytes >> 20,
            MAX_BYTES >> 20
        );
        return Err(SweepError::definition("axes", problem));
    }
    Ok(())
}

fn group(axis: &str, value: &Value, place: &str) -> Result<Group, SweepError> {
    let name = axis.len() as u128;
    if let Value::Object(variants) = value {
        let cost = |(label, settings): (&String, &Value)| EACH + name + label.len() as u128 + size(settings);
        return Ok(Group { points: variants.len().max(1), bytes: variants.iter().map(cost).sum() });
    }
    let points = count(value).map_err(|problem| SweepError::definition(place, problem))?;
    // Ranges are numbers, so that only what stands there as text has a size of its own; it is in both lists, as is the axis's name.
    let bytes = (points as u128).saturating_mul(EACH + 2 * name).saturating_add(2 * size(value));
    Ok(Group { points, bytes })
}

/// Bytes of a value's text, and of the places of its items.
fn size(value: &Value) -> u128 {
    match value {
        Value::String(text) => text.len() as u128,
        Value::Array(items) => items.iter().map(|item| EACH / 2 + size(item)).sum(),
        Value::Object(map) => map.iter().map(|(key, value)| EACH / 2 + key.len() as u128 + size(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::{Map, json};

    use super::*;
    use crate::plan::{Plan, labels};

    fn definition(value: Value) -> Definition {
        serde_json::from_value(value).unwrap()
    }

    fn refused(value: Value, words: &str) {
        let begin = Instant::now();
        let definition = definition(value);
        // The axes of one run of a sweep are asked for in another way.
        let errors = [labels(&definition, 0).unwrap_err().to_string(), Plan::new(definition).unwrap_err().to_string()];
        assert!(errors.iter().all(|error| error.starts_with("axes") && error.contains(words)), "{errors:?}");
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    }

    #[test]
    fn a_few_lines_that_stand_for_more_than_a_machine_holds_are_refused_before_anything_is_made() {
        let axes = |number: usize, value: Value| (0..number).map(|i| (format!("k{i}"), value.clone())).collect::<Map<_, _>>();
        let grid = |axes: Map<String, Value>| json!({"name": "a", "axes": axes});
        refused(grid(axes(40, "0..999999".into())), "more than 1000000");
        refused(grid(axes(200, "0..999999".into())), "the grid's trials are more than 1000000");
        refused(grid(axes(40, "log10(-3, 0, 1000000)".into())), "more than 1000000");
        refused(grid(axes(40, json!([1, 2]))), "1099511627776 trials are more than 1000000");
        refused(json!({"name": "a", "zip": [axes(40, "0..999999".into())]}), "1000000 trials would take");
        refused(json!({"name": "a", "axes": {"seed": "0..999999", "name": ["x".repeat(2000)]}}), "MiB of memory, more than 1024 MiB");
        refused(json!({"name": "a", "axes": {"seed": "0..999999", ("x".repeat(2000)): [1]}}), "MiB of memory");
        refused(json!({"name": "a", "axes": {"seed": "0..999999", "m": {"x": {"name": "x".repeat(2000)}}}}), "MiB of memory");
        check(&definition(json!({"name": "a", "axes": {"seed": "0..999999", "lr": [0.1]}, "zip": [{"epochs": [1]}]}))).unwrap();
    }

    #[test]
    fn an_exclusion_of_many_values_takes_no_longer_than_the_trials() {
        let begin = Instant::now();
        let plan = Plan::new(definition(json!({"name": "a", "axes": {"seed": "0..99999"}, "exclude": [{"seed": "1..99999"}]}))).unwrap();
        assert_eq!(plan.trials.len(), 1);
        let axes: Map<String, Value> = (0..40).map(|i| (format!("k{i}"), json!([0]))).collect();
        let rule: Map<String, Value> = (0..40).map(|i| (format!("k{i}"), json!("0..999999"))).collect();
        let error = Plan::new(definition(json!({"name": "a", "axes": axes, "exclude": [rule]}))).unwrap_err().to_string();
        assert!(error.contains("exclude, item 1") && error.contains("more than 1000000 values"), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    }
}
