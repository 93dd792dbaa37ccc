//! What `summary.yml` says about a run: how it ended, what it reached, and how to run it again.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::identity::{Attempt, Identity};

/// Named numbers in the order they were given.
///
/// Non-finite values are `.nan`, `.inf` and `-.inf` in YAML; JSON has only `null` for them, which reads back as NaN.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(Vec<(String, f64)>);

impl Metrics {
    /// No metrics.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a metric at the end, or gives an existing one a new value in its place.
    pub fn insert(&mut self, name: impl Into<String>, value: f64) {
        let name = name.into();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// The value of a metric.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// Number of metrics.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<S: Into<String>> FromIterator<(S, f64)> for Metrics {
    fn from_iter<I: IntoIterator<Item = (S, f64)>>(pairs: I) -> Self {
        let mut metrics = Self::new();
        for (name, value) in pairs {
            metrics.insert(name, value);
        }
        metrics
    }
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Metrics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Named;
        impl<'de> Visitor<'de> for Named {
            type Value = Metrics;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("metric names with numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metrics, A::Error> {
                let mut seen = BTreeSet::new();
                let mut pairs = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Option<f64>>()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("metric `{name}` is given twice")));
                    }
                    pairs.push((name, value.unwrap_or(f64::NAN)));
                }
                Ok(Metrics(pairs))
            }
        }
        deserializer.deserialize_map(Named)
    }
}

/// How far a run got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Training is under way, or the process died without a word: then nobody holds the run's lock.
    Running,
    /// Training ended as it was meant to: every planned step is done, or early stopping decided so (`reason` then says it).
    Completed,
    /// Stopped on request; can be resumed.
    Interrupted,
    /// Stopped by an error, see `reason`.
    Failed,
}

/// Versions of what computed the result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Version of this program.
    pub ibhost: String,
    /// Version of the tensor library.
    pub burn: String,
}

/// Measurements after the last step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FinalMetrics {
    /// On the training split.
    pub train: Metrics,
    /// On the test split.
    pub test: Metrics,
    /// On the test split with the averaged weights, where the run keeps an average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_average: Option<Metrics>,
}

/// The best value of the watched metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Name of the metric.
    pub metric: String,
    /// Its best value.
    pub value: f64,
    /// Epoch after which it was measured, from 1.
    pub epoch: u64,
    /// Optimiser steps done by then.
    pub step: u64,
}

/// Content of `summary.yml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How far the run got.
    pub status: RunStatus,
    /// Why it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Short id of the run.
    pub run_id: String,
    /// Name given by the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Objective in canonical form.
    pub objective: String,
    /// Encoder in canonical form.
    pub encoder: String,
    /// Decoder in canonical form, where the objective has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<String>,
    /// Data set in canonical form.
    pub dataset: String,
    /// Seed of every random draw.
    pub seed: u64,
    /// Device that computed.
    pub device: String,
    /// Epochs done.
    pub epochs: u64,
    /// Optimiser steps done.
    pub steps: u64,
    /// Local time of the first start, with the offset from UTC.
    pub started: String,
    /// Seconds of training and evaluation, over all interruptions.
    pub elapsed_time_s: f64,
    /// The command line, one argument each.
    pub command: Vec<String>,
    /// What computed the result.
    pub versions: Versions,
    /// Data, program and machine of the latest process that trained; nothing in runs of versions that did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Every process that trained, in order; nothing in runs of versions that did not record them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// Number of trained scalars.
    pub parameters: u64,
    /// Measurements after the last step.
    #[serde(rename = "final", default)]
    pub final_metrics: FinalMetrics,
    /// The best value of the watched metric, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A summary with every field set and text that YAML could mistake for something else.
    pub(crate) fn example() -> Summary {
        let train: Metrics = [("loss", 0.1 + 0.2), ("accuracy", 1.0), ("izx_nats", 1e-7)].into_iter().collect();
        let test: Metrics = [("loss", f64::NAN), ("accuracy", f64::INFINITY), ("izy_nats", f64::NEG_INFINITY)].into_iter().collect();
        let identity = crate::identity::tests::example();
        let attempt = Attempt::new(&identity, "2026-01-01T03:04:05+01:00".into(), 17);
        Summary {
            status: RunStatus::Failed,
            reason: Some("loss is NaN: step 3\nphase `encoder`".into()),
            run_id: "1e5".into(),
            name: Some("no".into()),
            objective: "vdb/beta:0.001|m:4".into(),
            encoder: "mlp/e1:1024|e2:1024|z:256".into(),
            decoder: None,
            dataset: "null".into(),
            seed: u64::MAX,
            device: "flex".into(),
            epochs: 2,
            steps: 1200,
            started: "2026-01-02T03:04:05+01:00".into(),
            elapsed_time_s: 12.5,
            command: ["ibhost", "run", "--name", "", " x # y", "~", "a: b", "- 'q\"", &"long words ".repeat(30)].map(String::from).to_vec(),
            versions: Versions { ibhost: "0.10".into(), burn: "0.22.1".into() },
            identity: Some(identity),
            attempts: vec![attempt],
            parameters: 1_863_690,
            final_metrics: FinalMetrics { train, test, test_average: Some(Metrics::new()) },
            best: Some(Best { metric: "accuracy".into(), value: 0.981_25, epoch: 1, step: 600 }),
        }
    }

    #[test]
    fn metrics_keep_their_order_and_replace_in_place() {
        let mut metrics: Metrics = [("z", 1.0), ("a", 2.0)].into_iter().collect();
        metrics.insert("z", 3.0);
        metrics.insert("m", 4.0);
        assert_eq!(metrics.iter().collect::<Vec<_>>(), [("z", 3.0), ("a", 2.0), ("m", 4.0)]);
        assert_eq!((metrics.get("a"), metrics.get("b"), metrics.len()), (Some(2.0), None, 3));
        assert_eq!(serde_json::to_string(&metrics).unwrap(), r#"{"z":3.0,"a":2.0,"m":4.0}"#);
        assert!(serde_json::from_str::<Metrics>(r#"{"a":1,"a":2}"#).unwrap_err().to_string().contains("twice"));
    }

    #[test]
    fn json_turns_unknown_numbers_into_null() {
        let text = serde_json::to_string(&[("a", f64::NAN), ("b", 1.0)].into_iter().collect::<Metrics>()).unwrap();
        assert_eq!(text, r#"{"a":null,"b":1.0}"#);
        let back: Metrics = serde_json::from_str(&text).unwrap();
        assert!(back.get("a").unwrap().is_nan());
    }
}
