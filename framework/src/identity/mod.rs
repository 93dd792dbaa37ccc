//! What a run's numbers depend on beside its settings: the data that was loaded, the program, and the machine. It is made once a run, and stands in
//! its summary, its checkpoints, and whatever is computed from it, so that a change of any of them is seen instead of believed away.

mod data;
mod machine;
mod program;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::run::RunConfig;

pub use data::{DataIdentity, SplitIdentity};
pub use machine::Machine;
pub use program::{Program, prepare};

/// Data, program and machine of one process that worked on a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// What was loaded.
    pub data: DataIdentity,
    /// What computed.
    pub program: Program,
    /// Where it computed.
    pub machine: Machine,
}

/// One process that trained a run, as the summary lists them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Local time of its start, with the offset from UTC.
    pub started: String,
    /// Steps that were done when it began.
    pub from_step: u64,
    /// Version and commit of the program.
    pub version: String,
    /// Hash of the executable, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<String>,
    /// Where it computed.
    #[serde(flatten)]
    pub machine: Machine,
}

impl Attempt {
    /// The process that `identity` stands for, which began at local time `started` with `from_step` steps done.
    pub fn new(identity: &Identity, started: String, from_step: u64) -> Self {
        let (version, executable) = (identity.program.version(), identity.program.executable.clone());
        Self { started, from_step, version, executable, machine: identity.machine.clone() }
    }
}

/// What is done about a finished run whose data are not those that it was trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtherDataPolicy {
    /// The run is refused.
    #[default]
    Refuse,
    /// The run is opened; what is computed from it says so.
    Accept,
}

/// The data of a run are not those that it was trained on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct OtherData {
    /// The data set in canonical form.
    pub dataset: String,
    /// What was trained on.
    pub before: DataIdentity,
    /// What was loaded now.
    pub now: DataIdentity,
}

impl fmt::Display for OtherData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, now) = (&self.before, &self.now);
        let mut splits = Vec::new();
        for (name, before, now) in [
            ("training", Some(&before.train), Some(&now.train)),
            ("test", Some(&before.test), Some(&now.test)),
            ("published test", before.official_test.as_ref(), now.official_test.as_ref()),
        ] {
            let words = |split: Option<&SplitIdentity>| split.map_or_else(|| "not there".to_owned(), ToString::to_string);
            if before != now {
                splits.push(format!("the {name} split was {} and is {}", words(before), words(now)));
            }
        }
        write!(f, "the data of `{}` are not those of the run: {}", self.dataset, splits.join(", "))
    }
}

impl Identity {
    /// The identity of a run of `config` on `data` in this process, which is `program`.
    pub fn new(data: DataIdentity, program: &Program, config: &RunConfig) -> Self {
        let components =
            [&config.objective, &config.encoder, &config.decoder, &config.dataset, &config.strategy, &config.optimiser, &config.schedule];
        Self { data, program: program.clone().with_components(components), machine: Machine::this(&config.training.device) }
    }

    /// What differs from `before` and may change results, in words; nothing when a result can be expected to be the same. The data are not looked
    /// at: other data are refused ([`DataIdentity::expect`]), not warned of.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let mut changes = self.program.changes_since(&before.program);
        changes.extend(self.machine.changes_since(&before.machine));
        changes
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An identity with every field set.
    pub(crate) fn example() -> Identity {
        let split = |samples, hash: &str| SplitIdentity { samples, hash: hash.repeat(16) };
        let program = Program {
            name: "ibhost".into(),
            version: "0.1.0".into(),
            commit: Some("0123abcd".into()),
            executable: Some("77".repeat(16)),
            crates: [("ibhost-vib".to_owned(), "0.1.0".to_owned())].into(),
        };
        let machine = Machine { host: "tower".into(), instructions: "avx2".into(), threads: 2, device: "flex".into() };
        Identity { data: DataIdentity { train: split(300, "ab"), test: split(120, "cd"), official_test: None }, program, machine }
    }

    #[test]
    fn what_may_change_results_is_named_and_the_rest_is_not() {
        let before = example();
        assert!(before.changes_since(&before).is_empty());
        let mut now = before.clone();
        (now.machine.host, now.machine.threads) = ("laptop".into(), 16);
        assert!(now.changes_since(&before).is_empty(), "neither host nor threads change a number");
        now.machine.instructions = "avx512".into();
        now.program.executable = Some("88".repeat(16));
        now.program.crates.insert("ibhost-vib".into(), "0.2.0".into());
        let changes = now.changes_since(&before).join("; ");
        assert!(
            changes.contains("avx2") && changes.contains("avx512") && changes.contains("ibhost-vib 0.1.0") && changes.contains("0.2.0")
        );
        now = before.clone();
        now.program.executable = Some("88".repeat(16));
        assert_eq!(now.changes_since(&before).len(), 1);
        now.program.executable = None;
        assert!(now.changes_since(&before)[0].contains("cannot be told"), "{:?}", now.changes_since(&before));
    }

    #[test]
    fn other_data_are_named_by_split() {
        let (before, mut now) = (example().data, example().data);
        assert!(now.expect(&before, "mnist").is_ok());
        now.test.samples = 7;
        let words = now.expect(&before, "mnist").unwrap_err().to_string();
        assert!(words.contains("`mnist`") && words.contains("test split was 120 samples") && words.contains("is 7 samples"), "{words}");
        assert!(!words.contains("training"), "{words}");
    }
}
