//! Data sets: samples in one contiguous buffer, how raw values become model inputs, and the errors a data folder can cause.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

use ibhost_kernels::{filled, vectorised};

use crate::component::Configured;
use crate::room::NoRoom;
use crate::run::config::RunConfig;

/// About this many values are scaled by one thread at a time.
const SCALED_TOGETHER: usize = 1 << 17;

/// Which part of a data set is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Samples the parameters are fitted to.
    Train,
    /// Held-out samples every reported test quantity is measured on.
    Test,
}

/// Raw values of all samples, one contiguous buffer, sample-major and channels first.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Stored bytes, 0 to 255 (images).
    U8(Arc<Vec<u8>>),
    /// Stored floats (procedural and transformed data).
    F32(Arc<Vec<f32>>),
}

impl Values {
    /// Number of scalars held.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::F32(v) => v.len(),
        }
    }

    /// Whether no scalar is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Affine map from raw to model values, one pair per channel: `x = raw * gain + offset`.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaling {
    /// Factor per channel.
    pub gain: Vec<f32>,
    /// Summand per channel.
    pub offset: Vec<f32>,
}

impl Scaling {
    /// The same gain and offset for each of `channels` channels.
    pub fn uniform(channels: usize, gain: f32, offset: f32) -> Self {
        Self { gain: vec![gain; channels], offset: vec![offset; channels] }
    }
}

/// Samples of one split with their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    values: Values,
    labels: Arc<Vec<u8>>,
    shape: [usize; 3],
    scaling: Scaling,
    /// Sample number to position in the buffers; a subset shares its parent's buffers.
    order: Option<Arc<Vec<u32>>>,
}

impl Samples {
    /// Builds a split from raw `values` of `shape` = `[channels, height, width]` and one label per sample.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] when the buffer lengths, the shape and the scaling do not fit together.
    pub fn new(values: Values, labels: Vec<u8>, shape: [usize; 3], scaling: Scaling) -> Result<Self, DataError> {
        let per_sample: usize = shape.iter().product();
        if per_sample == 0 || values.len() != labels.len() * per_sample {
            return Err(DataError::Inconsistent(format!("{} values cannot be {} samples of shape {shape:?}", values.len(), labels.len())));
        }
        if scaling.gain.len() != shape[0] || scaling.offset.len() != shape[0] {
            return Err(DataError::Inconsistent(format!("scaling must have one pair for each of {} channels", shape[0])));
        }
        Ok(Self { values, labels: Arc::new(labels), shape, scaling, order: None })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.order.as_ref().map_or(self.labels.len(), |o| o.len())
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `[channels, height, width]` of one sample.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Scaling applied by [`Samples::gather`].
    pub fn scaling(&self) -> &Scaling {
        &self.scaling
    }

    /// The same samples under another scaling.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] when the number of channels differs.
    pub fn with_scaling(mut self, scaling: Scaling) -> Result<Self, DataError> {
        if scaling.gain.len() != self.shape[0] || scaling.offset.len() != self.shape[0] {
            return Err(DataError::Inconsistent(format!("scaling must have one pair for each of {} channels", self.shape[0])));
        }
        self.scaling = scaling;
        Ok(self)
    }

    /// Label of sample `index`.
    pub fn label(&self, index: usize) -> u8 {
        self.labels[self.position(index)]
    }

    /// All labels in order.
    pub fn labels(&self) -> Vec<u8> {
        (0..self.len()).map(|i| self.label(i)).collect()
    }

    /// H(Y) in nats of the labels' frequencies; 0 without samples.
    pub fn class_entropy(&self) -> f64 {
        let mut counts = [0usize; 256];
        for label in self.labels() {
            counts[usize::from(label)] += 1;
        }
        let shares = counts.iter().filter(|count| **count > 0).map(|&count| count as f64 / self.len() as f64);
        shares.map(|share| -share * share.ln()).sum::<f64>().max(0.0)
    }

    /// The samples at `indices` (repetition allowed) as a split of its own; the buffers are shared, not copied.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] when an index is out of range.
    pub fn select(&self, indices: &[usize]) -> Result<Self, DataError> {
        if let Some(bad) = indices.iter().find(|&&i| i >= self.len()) {
            return Err(DataError::Inconsistent(format!("sample {bad} asked for, but there are {}", self.len())));
        }
        let order = indices.iter().map(|&i| self.position(i) as u32).collect();
        Ok(Self { order: Some(Arc::new(order)), ..self.clone() })
    }

    /// Appends the scaled values of the samples at `indices` to `out`, sample-major, channels first.
    pub fn gather(&self, indices: &[usize], out: &mut Vec<f32>) {
        let per_sample: usize = self.shape.iter().product();
        if per_sample == 0 {
            return;
        }
        let part = SCALED_TOGETHER.div_ceil(per_sample) * per_sample;
        let count = indices.len() * per_sample;
        if count <= part {
            let start = out.len();
            out.resize(start + count, 0.0);
            self.scale(indices, &mut out[start..]);
            return;
        }
        let values = filled(
            count,
            part,
            || (),
            |(), number, values| {
                let first = number * part / per_sample;
                self.scale(&indices[first..first + values.len() / per_sample], values);
            },
        );
        if out.is_empty() { *out = values } else { out.extend_from_slice(&values) }
    }

    /// The scaled values of the samples at `indices`, which fill `out`.
    fn scale(&self, indices: &[usize], out: &mut [f32]) {
        let per_sample: usize = self.shape.iter().product();
        let plane = per_sample / self.shape[0];
        vectorised!(|| {
            for (&index, out) in indices.iter().zip(out.chunks_exact_mut(per_sample)) {
                let start = self.position(index) * per_sample;
                for (channel, out) in out.chunks_exact_mut(plane).enumerate() {
                    let (gain, offset) = (self.scaling.gain[channel], self.scaling.offset[channel]);
                    let range = start + channel * plane..start + (channel + 1) * plane;
                    match &self.values {
                        Values::U8(v) => out.iter_mut().zip(&v[range]).for_each(|(y, &x)| *y = f32::from(x) * gain + offset),
                        Values::F32(v) => out.iter_mut().zip(&v[range]).for_each(|(y, &x)| *y = x * gain + offset),
                    }
                }
            }
        });
    }

    /// The samples at `indices` as a batch on `device`.
    pub fn batch(&self, indices: &[usize], device: &Device) -> Batch {
        self.batch_with(indices, device, |_| ())
    }

    /// As [`Samples::batch`], with the scaled values changed by `edit` on the way.
    pub fn batch_with(&self, indices: &[usize], device: &Device, edit: impl FnOnce(&mut [f32])) -> Batch {
        let mut values = Vec::new();
        self.gather(indices, &mut values);
        edit(&mut values);
        let [c, h, w] = self.shape;
        let labels: Vec<i64> = indices.iter().map(|&i| i64::from(self.label(i))).collect();
        Batch {
            inputs: Tensor::from_data(TensorData::new(values, [indices.len(), c, h, w]), device),
            labels: Tensor::from_data(TensorData::new(labels, [indices.len()]), device),
            indices: indices.to_vec(),
        }
    }

    /// Smallest and largest scaled value over all samples; NaN for both when any value is.
    pub fn value_range(&self) -> (f32, f32) {
        let mut range = (f32::INFINITY, f32::NEG_INFINITY);
        let mut buffer = Vec::new();
        for index in 0..self.len() {
            buffer.clear();
            self.gather(&[index], &mut buffer);
            for &x in &buffer {
                if x.is_nan() {
                    return (x, x);
                }
                range = (range.0.min(x), range.1.max(x));
            }
        }
        range
    }

    /// Raw values of all samples that the buffers hold, which a subset shares.
    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    /// Whether the samples are all that the buffers hold, in their order.
    pub(crate) fn is_whole(&self) -> bool {
        self.order.is_none()
    }

    /// Where sample `index` lies in the buffers, in samples.
    pub(crate) fn position(&self, index: usize) -> usize {
        self.order.as_ref().map_or(index, |o| o[index] as usize)
    }
}

/// Inputs and labels of one step.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Model inputs, `[batch, channels, height, width]`.
    pub inputs: Tensor<4>,
    /// Class numbers, `[batch]`.
    pub labels: Tensor<1, Int>,
    /// Positions of the samples in their split.
    pub indices: Vec<usize>,
}

impl Batch {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether the batch holds no sample.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }
}

/// What is known of a data set before looking at its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct DataInfo {
    /// Registered name.
    pub name: String,
    /// Class names in label order.
    pub classes: Vec<String>,
    /// `[channels, height, width]` of one sample.
    pub shape: [usize; 3],
    /// What was found on disk, when less than the whole set (e.g. two of six files).
    pub note: Option<String>,
    /// H(Y) of the training labels in nats, once they have been counted.
    pub class_entropy: Option<f64>,
}

/// Known generating factors of the samples of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factors {
    /// Name of each factor, e.g. `orientation`.
    pub names: Vec<String>,
    /// Number of values of each factor.
    pub sizes: Vec<usize>,
    /// Value number of each factor, sample-major, in the order of the training split.
    pub values: Vec<u16>,
}

impl Factors {
    /// Value numbers of sample `index`, one per factor.
    pub fn of(&self, index: usize) -> &[u16] {
        &self.values[index * self.sizes.len()..(index + 1) * self.sizes.len()]
    }
}

/// A loaded data set.
pub trait Dataset: Send + Sync + std::fmt::Debug {
    /// Names and shapes.
    fn info(&self) -> &DataInfo;
    /// The samples of one split.
    fn split(&self, split: Split) -> &Samples;
    /// The whole test set before any view replaced it by held-out training samples, if it still exists.
    fn official_test(&self) -> Option<&Samples> {
        None
    }
    /// Generating factors of the training samples, where they are known.
    fn factors(&self) -> Option<&Factors> {
        None
    }
    /// On-the-fly augmentation of training batches, if the configuration asks for it.
    fn augmentation(&self) -> Option<&dyn Augmentation> {
        None
    }
    /// Samples made for one training step in place of the stored ones at `indices`, in the same number: fresh draws of a known
    /// distribution, or the stored samples seen through a random transform that changes more than the scaled values. Nothing where the stored
    /// samples are what a step trains on.
    ///
    /// # Errors
    /// [`DataError`] when they cannot be made; the stored samples never stand for them.
    fn fresh_batch(&self, _indices: &[usize], _noise: &mut crate::noise::Stream) -> Result<Option<Samples>, DataError> {
        Ok(None)
    }
    /// A test split drawn anew for one evaluation, where the data are a known distribution.
    ///
    /// # Errors
    /// [`DataError`] when it cannot be drawn; the stored split never stands for it.
    fn fresh_test(&self, _noise: &mut crate::noise::Stream) -> Result<Option<Samples>, DataError> {
        Ok(None)
    }
    /// The distribution the samples come from, when it is known.
    fn known_density(&self) -> Option<&dyn KnownDensity> {
        None
    }
}

/// A distribution with a density that can be computed.
pub trait KnownDensity: Send + Sync {
    /// Values in one sample.
    fn dimensions(&self) -> usize;
    /// ln P(x) in nats for samples `x`, sample-major; one value each.
    fn log_prob(&self, x: &[f64]) -> Vec<f64>;
    /// Means and standard deviations of its components, component-major, where it is an equal mixture of axis-aligned normals.
    fn normal_components(&self) -> Option<[&[f64]; 2]> {
        None
    }
}

/// Random change of training inputs, applied to one batch at a time.
pub trait Augmentation: Send + Sync {
    /// Changes `values` (scaled, sample-major, channels first, samples of `shape`) in place with draws from `noise`.
    fn apply(&self, values: &mut [f32], shape: [usize; 3], noise: &mut crate::noise::Stream);
}

/// Configuration of a data set, found by name in the registry.
#[typetag::serde(tag = "name")]
pub trait DatasetConfig: Configured + Send + Sync {
    /// Reads the data set from below `root`.
    ///
    /// # Errors
    /// [`DataError`] naming the missing or damaged file.
    fn load(&self, root: &DataRoot) -> Result<Box<dyn Dataset>, DataError>;

    /// The same for a run with `seed`. A data set that draws its samples once, from the run's seed, draws them here, and says so in
    /// [`Self::draws_from_seed`].
    ///
    /// # Errors
    /// As [`Self::load`].
    fn load_with_seed(&self, root: &DataRoot, _seed: u64) -> Result<Box<dyn Dataset>, DataError> {
        self.load(root)
    }

    /// Whether [`Self::load_with_seed`] gives other samples for another seed, so that trials of one sweep are not held to the same data.
    fn draws_from_seed(&self) -> bool {
        false
    }

    /// Whether this configuration can be part of `run`, see [`ObjectiveConfig::check`](crate::objective::ObjectiveConfig::check).
    ///
    /// # Errors
    /// What is wrong.
    fn check(&self, _run: &RunConfig) -> Result<(), String> {
        Ok(())
    }

    /// Files this data set reads, so that it can be fetched and verified; empty for embedded data.
    fn files(&self) -> Vec<DataFile> {
        Vec::new()
    }

    /// Parameters of this configuration whose value the contents of `root` decide, e.g. which of two sources is read, with that value. A new
    /// run records them in place of what was asked for, so that it never goes on with other data because a file came or went.
    fn decided(&self, _root: &DataRoot) -> serde_json::Map<String, serde_json::Value> {
        serde_json::Map::new()
    }
}

/// The folder all data sets live below (`--data-dir`, `IBHOST_DATA` or the platform's cache folder).
#[derive(Clone, Debug)]
pub struct DataRoot(pub PathBuf);

impl DataRoot {
    /// `relative` below the root.
    pub fn join(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.0.join(relative)
    }
}

/// One published file of a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataFile {
    /// Path below the data root, e.g. `set/train-images.gz`.
    pub path: String,
    /// Size in bytes, when published.
    pub bytes: Option<u64>,
    /// Published md5 in hexadecimal, when there is one.
    pub md5: Option<String>,
    /// Git's name of the file's content (the SHA-1 of a blob) in the repository that publishes it, where there is one.
    pub git_blob: Option<String>,
    /// md5 of what the file holds, however it is packed: of the unpacked bytes of a `.gz`, of the pictures of an archive in order of path.
    pub contents: Option<String>,
    /// Addresses to try in order.
    pub mirrors: Vec<String>,
    /// Member of a `.tar.gz` at the mirror that holds this file, when the mirror serves an archive.
    pub archive_member: Option<String>,
    /// Whether the data set can be loaded without this file.
    pub optional: bool,
}

/// The command that fetches data set `name` into the data folder `root`, to be pasted into a shell.
pub fn fetch_command(name: &str, root: &Path) -> String {
    let root = root.display().to_string();
    let plain = !root.is_empty() && root.chars().all(|c| c.is_alphanumeric() || "/\\:._-+,@%".contains(c));
    let root = if plain { root } else { format!("'{}'", root.replace('\'', r"'\''")) };
    format!("ibhost data fetch {name} --data-dir {root}")
}

/// What can be wrong with data on disk or with a request for a part of it.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Files that are not there.
    #[error("data set `{name}` is not complete: `{}` is missing{there}\n  hint: run `{}` or point --data-dir at a folder that has it", .path.display(), fetch_command(name, root))]
    Missing {
        /// Data set.
        name: String,
        /// First missing file.
        path: PathBuf,
        /// Folder it was looked for in.
        root: PathBuf,
        /// What lies there instead, as further lines of the message; empty when there is nothing to say.
        there: String,
    },
    /// A file that is not what its format promises.
    #[error("`{}` is damaged at byte {offset}: expected {expected}, found {found}\n  hint: delete it and run `{}`", .path.display(), fetch_command(name, root))]
    Damaged {
        /// Data set.
        name: Box<str>,
        /// Data folder the file belongs to.
        root: PathBuf,
        /// Damaged file.
        path: PathBuf,
        /// Byte position in the (decompressed) file.
        offset: u64,
        /// What the format demands there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The operating system refused.
    #[error("cannot {action} `{}`: {source}", .path.display())]
    Io {
        /// What was tried, e.g. `read`.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Samples that do not fit into memory.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// A subset, fold or shape that the data cannot give.
    #[error("{0}")]
    Inconsistent(String),
}
