//! The identity of data: a hash of the inputs and labels of every split, after loading and before augmentation.

use std::fmt;

use blake3::Hasher;
use serde::{Deserialize, Serialize};

use super::OtherData;
use crate::dataset::{Dataset, Samples, Split, Values};

/// Bytes that are hashed at a time where the samples are not in one piece.
const PIECE: usize = 1 << 20;
/// Characters of a hash that messages show.
const SHOWN: usize = 12;

/// What was loaded. Equal data have equal identities whatever files they came from (`.gz` and plain, one file or five), and in whatever folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataIdentity {
    /// The training split, whole even where a run uses a part of it.
    pub train: SplitIdentity,
    /// The test split.
    pub test: SplitIdentity,
    /// The published test split, where a part of the training split is held out as the test split instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub official_test: Option<SplitIdentity>,
}

/// One split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitIdentity {
    /// Number of samples.
    pub samples: u64,
    /// First 128 bits of the BLAKE3 hash of shape, scaling, inputs and labels, in hexadecimal digits.
    pub hash: String,
}

impl DataIdentity {
    /// The identity of `data`.
    pub fn of(data: &dyn Dataset) -> Self {
        let [train, test] = [Split::Train, Split::Test].map(|split| SplitIdentity::of(data.split(split)));
        Self { train, test, official_test: data.official_test().map(SplitIdentity::of) }
    }

    /// One word for all splits, for keys and file names.
    pub fn key(&self) -> String {
        let hashes: Vec<&str> = [&self.train, &self.test].into_iter().chain(&self.official_test).map(|split| split.hash.as_str()).collect();
        short(&blake3::hash(hashes.join(" ").as_bytes()))
    }

    /// Refuses data that are not the same as `before`, which `dataset` names in canonical form.
    ///
    /// # Errors
    /// [`OtherData`] naming the splits that differ.
    pub fn expect(&self, before: &Self, dataset: &str) -> Result<(), Box<OtherData>> {
        if self == before {
            return Ok(());
        }
        Err(Box::new(OtherData { dataset: dataset.to_owned(), before: before.clone(), now: self.clone() }))
    }
}

impl SplitIdentity {
    /// The identity of `samples`.
    pub fn of(samples: &Samples) -> Self {
        let mut hasher = Hasher::new();
        let (shape, scaling) = (samples.shape(), samples.scaling());
        for number in shape.into_iter().chain([samples.len()]) {
            hasher.update(&(number as u64).to_le_bytes());
        }
        hasher.update(as_bytes(&scaling.gain)).update(as_bytes(&scaling.offset));
        match samples.values() {
            Values::U8(values) => {
                hasher.update(b"u8");
                update(&mut hasher, samples, values);
            }
            Values::F32(values) => {
                hasher.update(b"f32");
                update(&mut hasher, samples, values);
            }
        }
        hasher.update(&samples.labels());
        Self { samples: samples.len() as u64, hash: short(&hasher.finalize()) }
    }
}

impl fmt::Display for SplitIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} samples with hash {}", self.samples, &self.hash.get(..SHOWN).unwrap_or(&self.hash))
    }
}

/// Hashes the values of `samples` in their order, over all threads where they lie in one piece.
fn update<T: bytemuck::Pod>(hasher: &mut Hasher, samples: &Samples, values: &[T]) {
    if samples.is_whole() {
        hasher.update_rayon(as_bytes(values));
        return;
    }
    let size: usize = samples.shape().iter().product();
    let mut piece = Vec::with_capacity(PIECE);
    for index in 0..samples.len() {
        let start = samples.position(index) * size;
        piece.extend_from_slice(as_bytes(&values[start..start + size]));
        if piece.len() >= PIECE {
            hasher.update_rayon(&piece);
            piece.clear();
        }
    }
    hasher.update_rayon(&piece);
}

/// Little-endian machines only would be a lie elsewhere, but all that the kernels run on are.
fn as_bytes<T: bytemuck::Pod>(values: &[T]) -> &[u8] {
    bytemuck::cast_slice(values)
}

fn short(hash: &blake3::Hash) -> String {
    hash.to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dataset::Scaling;

    fn samples(values: Vec<u8>, labels: Vec<u8>, shape: [usize; 3]) -> Samples {
        Samples::new(Values::U8(Arc::new(values)), labels, shape, Scaling::uniform(1, 1.0 / 255.0, 0.0)).unwrap()
    }

    fn hash(samples: &Samples) -> String {
        SplitIdentity::of(samples).hash
    }

    #[test]
    fn inputs_labels_order_shape_scaling_and_kind_count_and_nothing_else() {
        let values: Vec<u8> = (0..24).collect();
        let whole = samples(values.clone(), vec![0, 1, 2, 3, 4, 5], [1, 2, 2]);
        let known = hash(&whole);
        assert_eq!(known.len(), 32);
        assert_eq!(hash(&whole.select(&[0, 1, 2, 3, 4, 5]).unwrap()), known, "a selection of everything is the same data");
        let mut other = values.clone();
        other[23] = 0;
        let others = [
            samples(other, vec![0, 1, 2, 3, 4, 5], [1, 2, 2]),
            samples(values.clone(), vec![0, 1, 2, 3, 4, 6], [1, 2, 2]),
            samples(values.clone(), vec![0, 1, 2, 3, 4, 5], [1, 1, 4]),
            whole.select(&[1, 0, 2, 3, 4, 5]).unwrap(),
            whole.select(&[0, 1, 2, 3, 4]).unwrap(),
            whole.clone().with_scaling(Scaling::uniform(1, 1.0, 0.0)).unwrap(),
            Samples::new(
                Values::F32(Arc::new(values.iter().map(|v| f32::from(*v)).collect())),
                vec![0, 1, 2, 3, 4, 5],
                [1, 2, 2],
                Scaling::uniform(1, 1.0 / 255.0, 0.0),
            )
            .unwrap(),
        ];
        let mut seen: Vec<String> = others.iter().map(hash).chain([known]).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), others.len() + 1);
    }

    #[test]
    fn pieces_of_a_large_selection_hash_like_the_whole() {
        let count = PIECE / 784 + 37;
        let values: Vec<u8> = (0..count * 784).map(|i| (i * 31 % 251) as u8).collect();
        let whole = samples(values, vec![3; count], [1, 28, 28]);
        let every = whole.select(&(0..count).collect::<Vec<_>>()).unwrap();
        assert_eq!(SplitIdentity::of(&whole), SplitIdentity::of(&every));
    }
}
