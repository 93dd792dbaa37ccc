//! What a result was made from, so that one on disk is only taken for one that would be made now when it would come out the same.

use std::path::Path;
use std::sync::OnceLock;

use ibhost_analyses::reference_run::weights_hash;
use ibhost_framework::analysis::Sources;
use ibhost_framework::dataset::{Dataset, Samples, Split};
use ibhost_framework::storage::{Label, Manifest, RunDir, StorageError};
use serde::{Deserialize, Serialize};

/// Samples hashed at a time.
const PIECE: usize = 1000;
/// Digits of a hash that are kept.
const DIGITS: usize = 32;

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
    /// What computed.
    pub program: String,
    /// What else it depends on, such as the run of a judge; `None` when that is not known before the result is there.
    #[serde(default)]
    pub sources: Option<Sources>,
}

impl Origin {
    /// That of a result about the newest `label` checkpoint of `run`; `None` when there is no such checkpoint.
    pub fn of(run: &RunDir, label: Label, seed: u64, data: String, sources: Option<Sources>) -> Result<Option<Self>, StorageError> {
        let Some(entry) = run.checkpoints().list()?.into_iter().rfind(|entry| entry.label == label) else { return Ok(None) };
        let weights = weights_hash(&Manifest::read(&entry.path)?);
        Ok(Some(Self { run: run.run_id().to_owned(), step: entry.step, weights, seed, data, program: program_key(), sources }))
    }

    /// Whether a result made from `other` would be the same as one made from this.
    pub fn gives_the_same_as(&self, other: &Self) -> bool {
        self == other && self.sources.is_some()
    }
}

/// Hash of the scaled inputs and the labels of all splits.
pub fn data_key(data: &dyn Dataset) -> String {
    let mut hasher = blake3::Hasher::new();
    for samples in [Some(data.split(Split::Train)), Some(data.split(Split::Test)), data.official_test()] {
        hasher.update(&[u8::from(samples.is_some())]);
        if let Some(samples) = samples {
            add(&mut hasher, samples);
        }
    }
    short(&hasher)
}

fn add(hasher: &mut blake3::Hasher, samples: &Samples) {
    for number in samples.shape().into_iter().chain([samples.len()]) {
        hasher.update(&(number as u64).to_le_bytes());
    }
    let order: Vec<usize> = (0..samples.len()).collect();
    let mut values = Vec::new();
    for indices in order.chunks(PIECE) {
        values.clear();
        samples.gather(indices, &mut values);
        hasher.update(bytemuck::cast_slice(&values));
    }
    hasher.update(&samples.labels());
}

/// Version of this program and hash of its executable.
pub fn program_key() -> String {
    static KEY: OnceLock<String> = OnceLock::new();
    let hash = |path: &Path| std::fs::read(path).ok().map(|bytes| blake3::hash(&bytes).to_hex()[..DIGITS].to_owned());
    KEY.get_or_init(|| {
        let executable = std::env::current_exe().ok().and_then(|path| hash(&path)).unwrap_or_else(|| "unknown".to_owned());
        format!("ibhost {} {executable}", env!("CARGO_PKG_VERSION"))
    })
    .clone()
}

fn short(hasher: &blake3::Hasher) -> String {
    hasher.finalize().to_hex()[..DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ibhost_framework::dataset::{DataInfo, Scaling, Values};

    use super::*;

    #[derive(Debug)]
    struct Pair(DataInfo, Samples, Samples);

    impl Dataset for Pair {
        fn info(&self) -> &DataInfo {
            &self.0
        }

        fn split(&self, split: Split) -> &Samples {
            if split == Split::Train { &self.1 } else { &self.2 }
        }
    }

    fn pair(values: [Vec<u8>; 2], labels: [Vec<u8>; 2]) -> Pair {
        let samples = |values: Vec<u8>, labels: Vec<u8>| {
            Samples::new(Values::U8(Arc::new(values)), labels, [1, 1, 2], Scaling::uniform(1, 0.5, 0.0)).unwrap()
        };
        let info = DataInfo { name: "pair".into(), classes: Vec::new(), shape: [1, 1, 2], note: None, class_entropy: None };
        let ([a, b], [c, d]) = (values, labels);
        Pair(info, samples(a, c), samples(b, d))
    }

    #[test]
    fn any_input_and_label_changes_the_key_of_data() {
        let train: Vec<u8> = (0..2 * 1500).map(|i| (i % 200) as u8).collect();
        let key = |train: &[u8], test: [u8; 2], label: u8| {
            data_key(&pair([train.to_vec(), test.to_vec()], [vec![1; train.len() / 2], vec![label]]))
        };
        let known = key(&train, [1, 2], 0);
        assert_eq!(known, key(&train, [1, 2], 0));
        let mut other = train.clone();
        other[2999] ^= 1;
        for changed in [key(&other, [1, 2], 0), key(&train, [1, 3], 0), key(&train, [1, 2], 1), key(&train[..2998], [1, 2], 0)] {
            assert_ne!(changed, known);
        }
    }

    #[test]
    fn a_result_counts_for_another_only_when_all_it_depends_on_is_known_and_equal() {
        let origin = Origin {
            run: "a".into(),
            step: 3,
            weights: "w".into(),
            seed: 0,
            data: "d".into(),
            program: program_key(),
            sources: Some(Sources::from([("judge".into(), "b".into())])),
        };
        assert!(origin.gives_the_same_as(&origin.clone()));
        let changed = [
            Origin { run: "b".into(), ..origin.clone() },
            Origin { step: 4, ..origin.clone() },
            Origin { weights: "v".into(), ..origin.clone() },
            Origin { seed: 1, ..origin.clone() },
            Origin { data: "e".into(), ..origin.clone() },
            Origin { program: "ibhost 0".into(), ..origin.clone() },
            Origin { sources: Some(Sources::new()), ..origin.clone() },
        ];
        assert!(changed.iter().all(|other| !origin.gives_the_same_as(other)));
        let unknown = Origin { sources: None, ..origin };
        assert!(!unknown.gives_the_same_as(&unknown.clone()));
        assert_eq!(serde_json::from_value::<Origin>(serde_json::to_value(&unknown).unwrap()).unwrap(), unknown);
    }
}
