//! The definition of a sweep as it stands in its file: base run, axes, zipped axes, excluded combinations, analyses, report, Slurm options.

use std::path::Path;

use ibhost_framework::storage::run_dir::read_yaml;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::SweepError;
use crate::slurm::Options;

/// Longest name of a sweep, in bytes.
const NAME_BYTES: usize = 100;

/// An analysis that runs on each trial when its training has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct AnalysisRequest {
    /// The component, e.g. `salt_pepper/p:[0.1;0.2]`.
    pub analysis: String,
    /// Which weights: `last` or `best`.
    pub checkpoint: String,
    /// Whether to use the averaged weights.
    pub average: bool,
}

impl TryFrom<Value> for AnalysisRequest {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        const EXPECTED: &str =
            "expected a component such as `curves`, or a map {analysis: mim_statistics, checkpoint: best, average: false}";
        let mut request = Self { analysis: String::new(), checkpoint: "last".to_owned(), average: false };
        match value {
            Value::String(analysis) => request.analysis = analysis,
            Value::Object(map) => {
                for (key, value) in map {
                    match (key.as_str(), value) {
                        ("analysis", Value::String(analysis)) => request.analysis = analysis,
                        ("checkpoint", Value::String(label)) if matches!(label.as_str(), "last" | "best") => request.checkpoint = label,
                        ("average", Value::Bool(average)) => request.average = average,
                        (key, value) => return Err(format!("`{key}: {value}` of an analysis: {EXPECTED}")),
                    }
                }
            }
            other => return Err(format!("`{other}` is no analysis: {EXPECTED}")),
        }
        if request.analysis.is_empty() { Err(format!("an analysis without a name: {EXPECTED}")) } else { Ok(request) }
    }
}

impl AnalysisRequest {
    /// Name of the component, which is the stem of its result's file.
    pub fn name(&self) -> &str {
        self.analysis.split('/').next().unwrap_or_default()
    }
}

/// A sweep as written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Name; the sweep's folder is `<output-dir>/sweeps/<name>`.
    pub name: String,
    /// The base run: keys of `config.yml`, `preset`, and paths such as `objective.beta`.
    #[serde(default)]
    pub run: Map<String, Value>,
    /// Settings given on the command line, which win over `run`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<(String, Value)>,
    /// Axes of the grid, the last one varying fastest. A list or range of values of the setting the axis is called after, or a map from
    /// labels to several settings each.
    #[serde(default)]
    pub axes: Map<String, Value>,
    /// Groups of axes of one length that move together; they vary faster than `axes`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zip: Vec<Map<String, Value>>,
    /// Combinations that are left out: a map of axes to a value or a list of values, all of which must match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Map<String, Value>>,
    /// Analyses on each trial.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub analyses: Vec<AnalysisRequest>,
    /// Template of the report; what it may hold is the report's business.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Value>,
    /// How to launch through Slurm.
    #[serde(default, skip_serializing_if = "Options::is_default")]
    pub slurm: Options,
}

impl Definition {
    /// Reads a sweep file.
    ///
    /// # Errors
    /// Place and cause when it is not a definition.
    pub fn read(path: &Path) -> Result<Self, SweepError> {
        read_yaml(path).map_err(|error| SweepError::Request(error.to_string()))
    }

    /// Checks what can be checked without expanding the axes.
    ///
    /// # Errors
    /// The place and what is wrong there.
    pub fn check(&self) -> Result<(), SweepError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.name.is_empty() {
            return Err(SweepError::definition(
                "name",
                "the sweep has no name\n  hint: write `name: my-sweep` in its file, or give --name",
            ));
        }
        if !self.name.chars().all(plain) || self.name.starts_with('.') || self.name.len() > NAME_BYTES {
            let problem = format!(
                "`{}` cannot be the name of a folder\n  hint: use at most {NAME_BYTES} letters, digits, `.`, `_` and `-`, not beginning with `.`",
                self.name
            );
            return Err(SweepError::definition("name", problem));
        }
        if self.axes.is_empty() && self.zip.is_empty() {
            let problem = "there is nothing to sweep over\n  hint: write e.g. `axes: {seed: 0..9}`, or give --sweep seed=0..9";
            return Err(SweepError::definition("axes", problem));
        }
        for (place, request) in self.analyses.iter().enumerate() {
            if self.analyses[..place].contains(request) {
                let problem = format!("`{}` is asked for twice", request.analysis);
                return Err(SweepError::definition(format!("analyses, item {}", place + 1), problem));
            }
        }
        self.slurm.check()
    }

    /// What decides about the trials; the same trials under another report or launcher are the same sweep.
    pub fn identity(&self) -> Map<String, Value> {
        let mut map = match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        };
        for key in ["report", "slurm"] {
            map.shift_remove(key);
        }
        map
    }

    /// Every change from `self` to `new` that alters the trials, one line each with both values.
    pub fn changes(&self, new: &Self) -> Vec<String> {
        let mut found = Vec::new();
        compare("", &Value::Object(self.identity()), &Value::Object(new.identity()), &mut found);
        if found.is_empty() {
            // Maps are equal whatever the order of their keys, and the order of axes numbers the trials.
            let order = |definition: &Self| {
                let keys = |map: &Map<String, Value>| map.keys().cloned().collect::<Vec<_>>();
                [vec![keys(&definition.axes)], definition.zip.iter().map(keys).collect()].concat()
            };
            if order(self) != order(new) {
                found.push("the order of the axes, which numbers the trials".to_owned());
            }
        }
        found
    }
}

fn compare(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            for (key, value) in old {
                match new.get(key) {
                    Some(other) => compare(&join(key), value, other, found),
                    None => found.push(format!("{} was {value}, is gone", join(key))),
                }
            }
            for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
                found.push(format!("{} is {value}, was not there", join(key)));
            }
        }
        (old, new) if old != new => found.push(format!("{path} was {old}, is {new}")),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(value: Value) -> Definition {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn analyses_are_words_or_maps() {
        let read = |value| serde_json::from_value::<AnalysisRequest>(value);
        let request = read(json!({"analysis": "mim_statistics", "checkpoint": "best"})).unwrap();
        assert_eq!((request.name(), request.checkpoint.as_str(), request.average), ("mim_statistics", "best", false));
        assert_eq!(serde_json::from_value::<AnalysisRequest>(serde_json::to_value(&request).unwrap()).unwrap(), request);
        assert_eq!(read(json!("salt_pepper/p:[0.1;0.2]")).unwrap().name(), "salt_pepper");
        for wrong in [json!(3), json!({}), json!({"analysis": "a", "checkpoint": "first"}), json!({"analyses": "a"})] {
            assert!(read(wrong.clone()).unwrap_err().to_string().contains("expected a component"), "{wrong}");
        }
    }

    #[test]
    fn names_nothing_to_sweep_and_doubled_analyses_are_refused() {
        let good = json!({"name": "a", "axes": {"seed": "0..1"}});
        definition(good.clone()).check().unwrap();
        for (key, value, words) in [
            ("name", json!(""), "has no name"),
            ("name", json!("../up"), "name of a folder"),
            ("axes", json!({}), "--sweep seed=0..9"),
            ("analyses", json!(["ksg", "ksg/points:10", "ksg"]), "item 3: `ksg` is asked for twice"),
            ("slurm", json!({"throttle": 0}), "throttle"),
        ] {
            let mut changed = good.clone();
            changed[key] = value;
            let error = definition(changed).check().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let unknown = serde_json::from_value::<Definition>(json!({"name": "a", "axis": {}})).unwrap_err().to_string();
        assert!(unknown.contains("axis") && unknown.contains("axes"), "{unknown}");
    }

    #[test]
    fn changes_name_the_key_and_both_values_and_leave_launchers_alone() {
        let old = definition(json!({"name": "a", "run": {"objective": "vib", "lr": 0.1}, "axes": {"seed": "0..4", "lr": [1, 2]}}));
        let mut new = old.clone();
        (new.report, new.slurm.partition) = (Some(json!({"tables": []})), Some("gpu".to_owned()));
        assert!(old.changes(&new).is_empty());
        new.axes["seed"] = json!("0..9");
        new.run.shift_remove("lr");
        new.run.insert("epochs".to_owned(), 3.into());
        assert_eq!(old.changes(&new), ["run.lr was 0.1, is gone", "run.epochs is 3, was not there", "axes.seed was \"0..4\", is \"0..9\""]);
        let mut turned = old.clone();
        turned.axes = [("lr", json!([1, 2])), ("seed", json!("0..4"))].map(|(k, v)| (k.to_owned(), v)).into_iter().collect();
        assert_eq!(old.changes(&turned), ["the order of the axes, which numbers the trials"]);
    }
}
