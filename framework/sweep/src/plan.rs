//! A definition expanded into numbered trials, each with its resolved configuration and the command that runs it alone.

use std::collections::HashSet;

use ibhost_framework::component::suggest::nearest;
use ibhost_framework::component::text_of;
use ibhost_framework::preset;
use ibhost_framework::run::{COMPONENT_KEYS, ConfigError, RunConfig, Settings, Training};
use ibhost_framework::storage::run_dir::yaml_from_str;
use serde_json::{Map, Value, json};

use crate::definition::Definition;
use crate::error::SweepError;
use crate::extent;
use crate::values::{MAX_VALUES, count, expand, scalar};

/// Stands for the trial in what is wrong with the base run.
pub const ANY: &str = "any";

/// One value of an axis, or of several that move together.
#[derive(Clone, Debug, PartialEq)]
struct Point {
    labels: Vec<(String, Value)>,
    settings: Vec<(String, Value)>,
}

/// A trial of the grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// Place in the whole grid, from 0; excluded combinations leave gaps, so that excluding more renumbers nothing.
    pub number: usize,
    /// Value of each axis; of an axis with labels, the label.
    pub labels: Vec<(String, Value)>,
    /// What these values set.
    pub settings: Vec<(String, Value)>,
}

impl Trial {
    /// `objective.beta=0.1, seed=3`.
    pub fn label(&self) -> String {
        self.labels.iter().map(|(axis, value)| format!("{axis}={}", text_of(value))).collect::<Vec<_>>().join(", ")
    }

    /// `7 (objective.beta=0.1, seed=3)`.
    pub fn title(&self) -> String {
        format!("{} ({})", self.number, self.label())
    }
}

/// All trials of a sweep.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it was made from.
    pub definition: Definition,
    /// Names of the axes in order.
    pub axes: Vec<String>,
    /// The trials by number.
    pub trials: Vec<Trial>,
    base: Settings,
}

impl Plan {
    /// Expands and checks the axes; nothing is resolved yet.
    ///
    /// # Errors
    /// The place in the definition and what is wrong there.
    pub fn new(definition: Definition) -> Result<Self, SweepError> {
        definition.check()?;
        let groups = groups(&definition)?;
        let axes: Vec<String> = groups.iter().flat_map(|points| points[0].labels.iter().map(|(axis, _)| axis.clone())).collect();
        for (place, axis) in axes.iter().enumerate() {
            if axes[..place].contains(axis) {
                return Err(SweepError::definition(format!("axes.{axis}"), "the axis is given twice, in `axes` and `zip`"));
            }
        }
        let count = groups.iter().map(Vec::len).product();
        let mut trials: Vec<Trial> = (0..count).map(|number| trial(&groups, number)).collect();
        exclude(&definition, &axes, &mut trials)?;
        let base = base(&definition, None).map_err(|source| SweepError::Trial { trial: ANY.to_owned(), source: Box::new(source) })?;
        Ok(Self { definition, axes, trials, base })
    }

    /// The trial called `number`.
    pub fn trial(&self, number: usize) -> Option<&Trial> {
        self.trials.binary_search_by_key(&number, |trial| trial.number).ok().map(|place| &self.trials[place])
    }

    /// The configuration of a trial.
    ///
    /// # Errors
    /// [`SweepError::Trial`] naming trial and setting.
    pub fn resolve(&self, trial: &Trial) -> Result<RunConfig, SweepError> {
        let settle = || {
            let named = trial.settings.iter().find(|(path, _)| path == "preset");
            let mut settings = match named {
                Some((_, preset)) => base(&self.definition, Some(preset))?,
                None => self.base.clone(),
            };
            // A component comes before its parameters, whatever the order of the axes.
            for parameters in [false, true] {
                for (path, value) in trial.settings.iter().filter(|(path, _)| path != "preset" && path.contains('.') == parameters) {
                    apply(&mut settings, path, value)?;
                }
            }
            settings.resolve()
        };
        settle().map_err(|source| SweepError::Trial { trial: trial.title(), source: Box::new(source) })
    }

    /// Resolves every trial and returns a hash of all configurations, 64 hexadecimal digits: equal hashes mean the same trials.
    ///
    /// # Errors
    /// The first trial that cannot be resolved, and two trials that are the same run.
    pub fn check_trials(&self) -> Result<String, SweepError> {
        let mut hasher = blake3::Hasher::new();
        let mut seen = std::collections::HashMap::with_capacity(self.trials.len());
        for trial in &self.trials {
            let config = self.resolve(trial)?;
            let text = serde_json::to_vec(&config).map_err(|e| SweepError::Request(format!("a configuration cannot be written: {e}")))?;
            let hash = blake3::hash(&text);
            if let Some(earlier) = seen.insert(hash, trial.number) {
                let problem = format!(
                    "trials {earlier} and {} are the same run\n  hint: two values of an axis are equal, or another setting hides the axis",
                    trial.title()
                );
                return Err(SweepError::definition("axes", problem));
            }
            hasher.update(&trial.number.to_le_bytes()).update(hash.as_bytes());
        }
        Ok(hasher.finalize().to_hex().to_string())
    }
}

/// The arguments after `ibhost` that run `config` alone, whatever presets and files it came from.
pub fn command(config: &RunConfig) -> Vec<String> {
    let mut words = vec!["run".to_owned()];
    let Ok(Value::Object(map)) = serde_json::to_value(config) else { return words };
    let components =
        [&config.objective, &config.encoder, &config.decoder, &config.dataset, &config.strategy, &config.optimiser, &config.schedule];
    for ((key, _), component) in COMPONENT_KEYS.iter().zip(components) {
        words.extend([format!("--{key}"), component.to_string()]);
    }
    let defaults = serde_json::from_value::<Training>(json!({ "lr": 1, "epochs": 1, "batch_size": 1 }));
    let defaults = defaults.ok().and_then(|training| serde_json::to_value(training).ok()).unwrap_or_default();
    for (key, value) in map.iter().filter(|(key, _)| COMPONENT_KEYS.iter().all(|(component, _)| component != key)) {
        // These four have defaults that the objective gives.
        if defaults[key] == *value && !matches!(key.as_str(), "lr" | "epochs" | "batch_size" | "average") {
            continue;
        }
        let text = match value {
            Value::Null => "none".to_owned(),
            Value::String(word) if scalar(word) == *value => word.clone(),
            other => other.to_string(),
        };
        words.extend(["--set".to_owned(), format!("{key}={text}")]);
    }
    words
}

/// Words as a shell reads them back.
pub fn shell_line(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:=,+-@%".contains(c);
    let quote = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) { word.clone() } else { format!("'{}'", word.replace('\'', "'\\''")) }
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// Axes and zipped groups as lists of points. How many trials they make and how much memory these take is known before.
fn groups(definition: &Definition) -> Result<Vec<Vec<Point>>, SweepError> {
    extent::check(definition)?;
    let mut groups = Vec::new();
    for (axis, value) in &definition.axes {
        groups.push(axis_points(axis, value, &format!("axes.{axis}"))?);
    }
    for (place, group) in definition.zip.iter().enumerate() {
        let place = format!("zip, group {}", place + 1);
        let mut together: Option<(String, Vec<Point>)> = None;
        for (axis, value) in group {
            let points = axis_points(axis, value, &format!("{place}, {axis}"))?;
            match &mut together {
                None => together = Some((axis.clone(), points)),
                Some((first, known)) if known.len() != points.len() => {
                    let problem = format!(
                        "`{first}` has {} values and `{axis}` has {}; axes that move together need the same number",
                        known.len(),
                        points.len()
                    );
                    return Err(SweepError::definition(place, problem));
                }
                Some((_, known)) => {
                    for (all, point) in known.iter_mut().zip(points) {
                        all.labels.extend(point.labels);
                        all.settings.extend(point.settings);
                    }
                }
            }
        }
        let (_, points) = together.ok_or_else(|| SweepError::definition(place, "the group has no axis"))?;
        groups.push(points);
    }
    Ok(groups)
}

fn axis_points(axis: &str, value: &Value, place: &str) -> Result<Vec<Point>, SweepError> {
    let Value::Object(variants) = value else {
        let values = expand(value).map_err(|problem| SweepError::definition(place, problem))?;
        let point = |value: Value| Point { labels: vec![(axis.to_owned(), value.clone())], settings: vec![(axis.to_owned(), value)] };
        return Ok(values.into_iter().map(point).collect());
    };
    if variants.is_empty() {
        return Err(SweepError::definition(
            place,
            "there is no variant\n  hint: write e.g. {small: {batch_size: 10}, large: {batch_size: 100}}",
        ));
    }
    let point = |(label, settings): (&String, &Value)| match settings {
        Value::Object(settings) => Ok(Point {
            labels: vec![(axis.to_owned(), label.clone().into())],
            settings: settings.iter().map(|(path, value)| (path.clone(), value.clone())).collect(),
        }),
        other => Err(SweepError::definition(
            format!("{place}.{label}"),
            format!("`{other}` is no map of settings\n  hint: an axis with labels is a map of maps, {{label: {{setting: value}}}}"),
        )),
    };
    variants.iter().map(point).collect()
}

/// Value of each axis in the trial `number`; of an axis with labels, the label. The grid is not expanded for it.
///
/// # Errors
/// The place in the definition and what is wrong there.
pub fn labels(definition: &Definition, number: usize) -> Result<Vec<(String, Value)>, SweepError> {
    Ok(trial(&groups(definition)?, number).labels)
}

/// The trial `number` of the whole grid: its digits choose the points, the last group varying fastest.
fn trial(groups: &[Vec<Point>], number: usize) -> Trial {
    let mut rest = number;
    let mut chosen = Vec::with_capacity(groups.len());
    for points in groups.iter().rev() {
        chosen.push(&points[rest % points.len()]);
        rest /= points.len();
    }
    let mut trial = Trial { number, labels: Vec::new(), settings: Vec::new() };
    for point in chosen.into_iter().rev() {
        trial.labels.extend(point.labels.iter().cloned());
        trial.settings.extend(point.settings.iter().cloned());
    }
    trial
}

fn exclude(definition: &Definition, axes: &[String], trials: &mut Vec<Trial>) -> Result<(), SweepError> {
    for (place, rule) in definition.exclude.iter().enumerate() {
        let place = format!("exclude, item {}", place + 1);
        if rule.is_empty() {
            return Err(SweepError::definition(place, "it names no axis and would leave out everything"));
        }
        let mut wanted: Vec<(&String, HashSet<Key>)> = Vec::new();
        let mut named = 0usize;
        for (axis, values) in rule {
            if !axes.contains(axis) {
                let near = nearest(axis, axes.iter().map(String::as_str));
                let hint = if near.is_empty() { axes.join(", ") } else { near.join(" or ") };
                return Err(SweepError::definition(place, format!("`{axis}` is no axis of this sweep\n  hint: write {hint}")));
            }
            named = named.saturating_add(if matches!(values, Value::Array(_) | Value::String(_)) { count(values).unwrap_or(1) } else { 1 });
            if named > MAX_VALUES {
                return Err(SweepError::definition(place, format!("it names more than {MAX_VALUES} values")));
            }
            let values = match values {
                Value::Array(_) => expand(values),
                Value::String(_) => expand(values).or_else(|_| Ok(vec![values.clone()])),
                single => Ok(vec![single.clone()]),
            };
            let values = values.map_err(|problem| SweepError::definition(format!("{place}, {axis}"), problem))?;
            wanted.push((axis, values.iter().map(Key::of).collect()));
        }
        let before = trials.len();
        let matches = |trial: &Trial| {
            wanted.iter().all(|(axis, values)| trial.labels.iter().any(|(name, value)| name == *axis && values.contains(&Key::of(value))))
        };
        trials.retain(|trial| !matches(trial));
        if trials.len() == before {
            let problem = "no trial is left out by it\n  hint: its values must be among those of the axes";
            return Err(SweepError::definition(place, problem));
        }
    }
    if trials.is_empty() {
        return Err(SweepError::definition("exclude", "every trial is left out"));
    }
    Ok(())
}

/// What is equal for values that are the same setting; 1 and 1.0 are.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Number(u64),
    Other(String),
}

impl Key {
    fn of(value: &Value) -> Self {
        // The sum makes one zero of both.
        value.as_f64().map_or_else(|| Self::Other(value.to_string()), |number| Self::Number((number + 0.0).to_bits()))
    }
}

/// The base run: preset, `run`, and what the command line sets.
fn base(definition: &Definition, preset: Option<&Value>) -> Result<Settings, ConfigError> {
    let mut settings = Settings::new();
    let given = definition.set.iter().rev().find(|(path, _)| path == "preset").map(|(_, name)| name);
    if let Some(name) = preset.or(given).or_else(|| definition.run.get("preset")) {
        let name = name.as_str().ok_or_else(|| ConfigError::Setting(format!("`preset`: `{name}` is no name")))?;
        let found = preset::find(name).map_err(|error| ConfigError::Setting(error.to_string()))?;
        let layer = yaml_from_str(found.yaml).map_err(|reason| ConfigError::Setting(format!("preset `{name}` is not valid: {reason}")))?;
        settings.overlay(layer)?;
    }
    let (paths, keys): (Map<_, _>, Map<_, _>) =
        definition.run.clone().into_iter().filter(|(key, _)| key != "preset").partition(|(key, _)| key.contains('.'));
    settings.overlay(keys)?;
    for (path, value) in paths.iter().chain(definition.set.iter().map(|(path, value)| (path, value))).filter(|(path, _)| *path != "preset")
    {
        apply(&mut settings, path, value)?;
    }
    Ok(settings)
}

fn apply(settings: &mut Settings, path: &str, value: &Value) -> Result<(), ConfigError> {
    // A map without a name changes parameters of the component that is there.
    if value.is_object() && !path.contains('.') {
        return settings.overlay(Map::from_iter([(path.to_owned(), value.clone())]));
    }
    settings.set(path, value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(value: Value) -> Result<Plan, SweepError> {
        Plan::new(serde_json::from_value(value).unwrap())
    }

    fn labels(plan: &Plan) -> Vec<String> {
        plan.trials.iter().map(Trial::title).collect()
    }

    #[test]
    fn the_last_axis_varies_fastest_and_zipped_axes_move_together() {
        let plan = plan(json!({
            "name": "a",
            "axes": {"lr": [0.1, 1], "size": {"small": {"batch_size": 5, "epochs": 2}, "large": {"batch_size": 50}}},
            "zip": [{"seed": "0..1", "limit_train": [10, 20]}],
        }))
        .unwrap();
        assert_eq!(plan.axes, ["lr", "size", "seed", "limit_train"]);
        assert_eq!(plan.trials.len(), 8);
        assert_eq!(plan.trials[0].title(), "0 (lr=0.1, size=small, seed=0, limit_train=10)");
        assert_eq!(plan.trials[5].title(), "5 (lr=1, size=small, seed=1, limit_train=20)");
        assert_eq!(super::labels(&plan.definition, 5).unwrap(), plan.trials[5].labels);
        let set: Vec<&str> = plan.trials[5].settings.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(set, ["lr", "batch_size", "epochs", "seed", "limit_train"]);
    }

    #[test]
    fn excluded_combinations_leave_gaps_so_that_numbers_are_stable() {
        let whole = json!({"name": "a", "axes": {"lr": [0.1, 1], "seed": "0..2"}});
        let mut less = whole.clone();
        less["exclude"] = json!([{"lr": 1.0, "seed": "1..2"}]);
        let (whole, less) = (plan(whole).unwrap(), plan(less).unwrap());
        assert_eq!(labels(&less), [&labels(&whole)[..4], &[]].concat());
        let mut first = json!({"name": "a", "axes": {"lr": [0.1, 1], "seed": "0..2"}, "exclude": [{"seed": [0]}]});
        let kept = plan(first.clone()).unwrap();
        assert_eq!(kept.trials.iter().map(|trial| trial.number).collect::<Vec<_>>(), [1, 2, 4, 5]);
        assert_eq!(kept.trial(4).unwrap().label(), "lr=1, seed=1");
        assert!(kept.trial(3).is_none());
        for (rule, words) in [
            (json!({"sed": 0}), "`sed` is no axis of this sweep\n  hint: write seed"),
            (json!({"seed": 9}), "no trial is left out"),
            (json!({}), "names no axis"),
            (json!({"seed": "0..2"}), "every trial is left out"),
        ] {
            first["exclude"] = json!([rule]);
            let error = plan(first.clone()).unwrap_err().to_string();
            assert!(error.starts_with("exclude") && error.contains(words), "{error}");
        }
    }

    #[test]
    fn wrong_axes_are_refused_with_their_place() {
        for (definition, words) in [
            (json!({"name": "a", "axes": {"seed": "9..0"}}), "axes.seed: the range `9..0` ends before it begins"),
            (json!({"name": "a", "axes": {"seed": [1]}, "zip": [{"seed": [1]}]}), "axes.seed: the axis is given twice"),
            (json!({"name": "a", "zip": [{"seed": [1, 2], "lr": [1]}]}), "zip, group 1: `seed` has 2 values and `lr` has 1"),
            (json!({"name": "a", "zip": [{}]}), "zip, group 1: the group has no axis"),
            (json!({"name": "a", "axes": {"m": {"x": 3}}}), "axes.m.x: `3` is no map of settings"),
            (json!({"name": "a", "axes": {"m": {}}}), "axes.m: there is no variant"),
            (json!({"name": "a", "axes": {"seed": "0..99999", "lr": "linear(1, 2, 1000)"}}), "100000000 trials are more than 1000000"),
            (json!({"name": "a", "run": {"preset": "absent"}, "axes": {"seed": [1]}}), "unknown preset `absent`"),
            (json!({"name": "a", "run": {"epoch": 3}, "axes": {"seed": [1]}}), "unknown setting `epoch`"),
        ] {
            let error = plan(definition).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn words_with_meaning_to_a_shell_are_quoted() {
        let words = ["run", "--objective", "vdb/beta:0.1|m:4", "it's", ""].map(str::to_owned);
        assert_eq!(shell_line(&words), "run --objective 'vdb/beta:0.1|m:4' 'it'\\''s' ''");
    }
}
