//! What a result was made from, so that one on disk is only taken for one that would be made now when it would come out the same.

use serde::{Deserialize, Serialize};

use crate::analysis::Sources;
use crate::identity::Identity;
use crate::storage::{Label, Manifest, RunDir, StorageError};

/// Everything a result depends on besides the analysis, the kind of checkpoint and averaging. It stands in the result's document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Id of the run.
    pub run: String,
    /// Optimiser steps of its weights.
    pub step: u64,
    /// Hash of its weights.
    pub weights: String,
    /// Seed of every draw.
    pub seed: u64,
    /// Hash of the data.
    pub data: String,
    /// Hash of the program.
    pub program: String,
    /// Instruction set and device, which decide about last digits.
    #[serde(default)]
    pub arithmetic: String,
    /// What else it depends on, such as the run of a judge; `None` when that is not known before the result is there.
    #[serde(default)]
    pub sources: Option<Sources>,
}

impl Origin {
    /// That of a result about the newest `label` checkpoint of `run`; `None` when there is no such checkpoint.
    ///
    /// # Errors
    /// [`StorageError`] when the manifest of the weights cannot be read.
    pub fn of(run: &RunDir, label: Label, seed: u64, identity: &Identity, sources: Option<Sources>) -> Result<Option<Self>, StorageError> {
        let Some(entry) = run.checkpoints().list()?.into_iter().rfind(|entry| entry.label == label) else { return Ok(None) };
        let weights = Manifest::read(&entry.path)?.weights_hash();
        Ok(Some(Self::new(run.run_id(), (entry.step, weights), seed, identity, sources)))
    }

    /// That of a result about the weights of the run `run`, given by their step and their hash.
    pub fn new(run: &str, (step, weights): (u64, String), seed: u64, identity: &Identity, sources: Option<Sources>) -> Self {
        let (data, program) = (identity.data.key(), identity.program.key());
        let arithmetic = format!("{} on {}", identity.machine.instructions, identity.machine.device);
        Self { run: run.to_owned(), step, weights, seed, data, program, arithmetic, sources }
    }

    /// Whether a result made from `other` would be the same as one made from this.
    pub fn gives_the_same_as(&self, other: &Self) -> bool {
        self == other && self.sources.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_counts_for_another_only_when_all_it_depends_on_is_known_and_equal() {
        let origin = Origin {
            run: "a".into(),
            step: 3,
            weights: "w".into(),
            seed: 0,
            data: "d".into(),
            program: "p".into(),
            arithmetic: "avx2 on flex".into(),
            sources: Some(Sources::from([("judge".into(), "b".into())])),
        };
        assert!(origin.gives_the_same_as(&origin.clone()));
        let changed = [
            Origin { run: "b".into(), ..origin.clone() },
            Origin { step: 4, ..origin.clone() },
            Origin { weights: "v".into(), ..origin.clone() },
            Origin { seed: 1, ..origin.clone() },
            Origin { data: "e".into(), ..origin.clone() },
            Origin { program: "q".into(), ..origin.clone() },
            Origin { arithmetic: "avx512 on flex".into(), ..origin.clone() },
            Origin { sources: Some(Sources::new()), ..origin.clone() },
        ];
        assert!(changed.iter().all(|other| !origin.gives_the_same_as(other)));
        let unknown = Origin { sources: None, ..origin };
        assert!(!unknown.gives_the_same_as(&unknown.clone()));
        assert_eq!(serde_json::from_value::<Origin>(serde_json::to_value(&unknown).unwrap()).unwrap(), unknown);
    }
}
