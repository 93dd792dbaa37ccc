//! How a sweep is launched through Slurm: from the key `slurm` of its file, and from `--slurm key=value`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::SweepError;
use crate::values::scalar;

/// Options of `sbatch` and of the launcher. Those that are not given are left to the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Partition or partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// Account that is charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Quality of service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// Time limit of one attempt at a trial, e.g. `4:00:00`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// GPUs a trial, a number or `type:number`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "word")]
    pub gpus: Option<String>,
    /// Processors a trial; it computes with as many threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Memory a trial, e.g. `4G`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "word")]
    pub memory: Option<String>,
    /// Most trials at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle: Option<u32>,
    /// Seconds before the time limit at which a trial saves and goes back into the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<u32>,
    /// How often a trial that was killed from outside goes back into the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Shell lines before each trial, e.g. `module load cuda`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub setup: Vec<String>,
    /// Further options of `sbatch`, e.g. `--constraint=a100`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra: Vec<String>,
}

/// A word, or a number that stands for one.
fn word<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Option::<Value>::deserialize(deserializer)? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(word)) => Ok(Some(word)),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(other) => Err(serde::de::Error::custom(format!("`{other}` is neither a word nor a number"))),
    }
}

impl Options {
    /// Whether nothing is given.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The same with `assignments`, `key=value` each; `setup` and `extra` are added to.
    ///
    /// # Errors
    /// Naming the key or value that is wrong.
    pub fn with(&self, assignments: &[String]) -> Result<Self, SweepError> {
        let place = |assignment: &str| format!("--slurm {assignment}");
        let mut options = self.clone();
        for assignment in assignments {
            let Some((key, text)) = assignment.split_once('=') else {
                let problem = "there is no `=`\n  hint: write e.g. --slurm partition=gpu or --slurm time=4:00:00";
                return Err(SweepError::definition(place(assignment), problem));
            };
            match key {
                "setup" => options.setup.push(text.to_owned()),
                "extra" => options.extra.push(text.to_owned()),
                _ => {
                    let counts = matches!(key, "cpus" | "throttle" | "signal" | "retries");
                    let value = if counts { scalar(text) } else { Value::String(text.to_owned()) };
                    let mut map: Map<String, Value> = match serde_json::to_value(&options) {
                        Ok(Value::Object(map)) => map,
                        _ => Map::new(),
                    };
                    map.insert(key.to_owned(), value);
                    options = serde_json::from_value(map.into()).map_err(|e| SweepError::definition(place(assignment), e.to_string()))?;
                }
            }
        }
        options.check()?;
        Ok(options)
    }

    /// Checks what does not need a cluster.
    ///
    /// # Errors
    /// Naming the key that is wrong.
    pub fn check(&self) -> Result<(), SweepError> {
        for (key, value) in [("throttle", self.throttle), ("cpus", self.cpus)] {
            if value == Some(0) {
                return Err(SweepError::definition(format!("slurm.{key}"), "it must be at least 1"));
            }
        }
        let words = [&self.partition, &self.account, &self.qos, &self.time, &self.gpus, &self.memory];
        for text in words.into_iter().flatten().chain(&self.extra) {
            if text.is_empty() || text.contains(|c: char| c.is_control()) {
                return Err(SweepError::definition("slurm", format!("{text:?} is no value of an option: it is empty or has a line break")));
            }
        }
        if let Some(option) = self.extra.iter().find(|option| !option.starts_with('-')) {
            let problem = format!("`{option}` does not begin with `-`\n  hint: write an option of sbatch, e.g. --constraint=a100");
            return Err(SweepError::definition("slurm.extra", problem));
        }
        Ok(())
    }

    /// The options of `sbatch` that a trial gets.
    pub(super) fn arguments(&self) -> Vec<String> {
        let pair = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("--{name}={value}"));
        let given = [
            pair("partition", &self.partition),
            pair("account", &self.account),
            pair("qos", &self.qos),
            pair("time", &self.time),
            pair("gpus", &self.gpus),
            pair("mem", &self.memory),
            self.cpus.map(|cpus| format!("--cpus-per-task={cpus}")),
        ];
        given.into_iter().flatten().chain(self.extra.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_file_and_flags_add_up_and_mistakes_are_named() {
        let file: Options = serde_json::from_str(r#"{"partition": "cpu", "gpus": 2, "extra": ["--nice=10"]}"#).unwrap();
        let all = ["partition=gpu", "time=4:00:00", "cpus=3", "extra=--constraint=a100"].map(str::to_owned);
        let options = file.with(&all).unwrap();
        let expected = ["--partition=gpu", "--time=4:00:00", "--gpus=2", "--cpus-per-task=3", "--nice=10", "--constraint=a100"];
        assert_eq!(options.arguments(), expected);
        for (flag, words) in [
            ("partition", "no `=`"),
            ("colour=red", "colour"),
            ("cpus=many", "many"),
            ("throttle=0", "at least 1"),
            ("extra=constraint", "does not begin"),
            ("time=", "empty"),
        ] {
            let error = Options::default().with(&[flag.to_owned()]).unwrap_err().to_string();
            assert!(error.contains(words), "{flag}: {error}");
        }
    }
}
