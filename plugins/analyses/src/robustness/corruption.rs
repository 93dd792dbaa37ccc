//! Accuracy on sets of corrupted images: what `mnistc` and `cifar10c` share.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use ibhost_framework::analysis::{AnalysisContext, AnalysisError, Measured};
use ibhost_framework::dataset::{DataError, Samples, Split, Values};
use ibhost_framework::noise::{Draws, Noise};
use ibhost_framework::objective::Classifier;
use serde_json::Value;

use crate::model::{BATCH, count_correct};
use crate::npy::Array;
use crate::numbers::share;

/// Refuses runs on other data.
pub(crate) fn need_data_set(context: &AnalysisContext<'_>, analysis: &str, name: &str, shape: [usize; 3]) -> Result<(), AnalysisError> {
    let info = context.data.info();
    // Folds and subsets carry a suffix, `cifar10-cv5-0`.
    let same = info.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    if same && info.shape == shape {
        return Ok(());
    }
    Err(AnalysisError::Request(format!(
        "`{analysis}` is for models trained on `{name}` (images {shape:?}), but this run used `{}` (images {:?})",
        info.name, info.shape
    )))
}

/// The entries of `folder` that are named as `known` ones; `present` tells whether an entry counts. Unknown ones are logged.
///
/// # Errors
/// [`AnalysisError`] naming the folder and its expected contents when nothing is found.
pub(crate) fn find_categories(
    folder: &Path,
    known: &[&'static str],
    layout: &str,
    present: impl Fn(&Path, &str) -> bool,
) -> Result<Vec<&'static str>, AnalysisError> {
    let found: Vec<&'static str> = known.iter().copied().filter(|category| present(folder, category)).collect();
    if found.is_empty() {
        return Err(AnalysisError::Request(format!(
            "no corrupted images in `{}`\n  hint: unpack the published archive so that files like `{layout}` lie there, or point --data-dir at a \
             folder that has it",
            folder.display()
        )));
    }
    let known: HashSet<&str> = known.iter().copied().collect();
    if let Ok(entries) = fs::read_dir(folder) {
        for entry in entries.flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let stem = file.strip_suffix(".npy").unwrap_or(&file);
            if !known.contains(stem) && stem != "labels" {
                tracing::warn!("`{}` is no known category and is left out", entry.path().display());
            }
        }
    }
    Ok(found)
}

/// Right answers of one model on images that are read in batches.
pub(crate) struct Counter<'a> {
    pub(crate) model: &'a dyn Classifier,
    pub(crate) context: &'a AnalysisContext<'a>,
    /// Numbers of codes.
    pub(crate) l: &'a [usize],
}

impl Counter<'_> {
    /// Right answers per L on the next `labels.len()` images of `images`, stored height by width by channel, scaled as the model's data.
    pub(crate) fn file(&self, images: &mut Array, labels: &[u8], scope: &str) -> Result<Vec<usize>, DataError> {
        let test = self.context.data.split(Split::Test);
        let shape @ [channels, height, width] = test.shape();
        let mut correct = vec![0; self.l.len()];
        for (step, labels) in labels.chunks(BATCH).enumerate() {
            let stored = images.next_bytes(labels.len() * channels * height * width)?;
            let planes = channels_first(&stored, channels, height * width);
            let batch = Samples::new(Values::U8(Arc::new(planes)), labels.to_vec(), shape, test.scaling().clone())?;
            self.add(&batch, scope, step, &mut correct);
        }
        Ok(correct)
    }

    /// Right answers per L on whole samples.
    pub(crate) fn samples(&self, samples: &Samples, scope: &str) -> Result<Vec<usize>, DataError> {
        let mut correct = vec![0; self.l.len()];
        let order: Vec<usize> = (0..samples.len()).collect();
        for (step, indices) in order.chunks(BATCH).enumerate() {
            self.add(&samples.select(indices)?, scope, step, &mut correct);
        }
        Ok(correct)
    }

    fn add(&self, batch: &Samples, scope: &str, step: usize, correct: &mut [usize]) {
        let indices: Vec<usize> = (0..batch.len()).collect();
        let inputs = batch.batch(&indices, self.context.device).inputs;
        for (count, &l) in correct.iter_mut().zip(self.l) {
            let mut draws = Draws::seeded(Noise::new(self.context.seed), step as u64, &format!("{scope}/{l}"));
            *count += count_correct(self.model, inputs.clone(), &batch.labels(), l, &mut draws);
        }
    }

    /// The accuracy with each number of codes, `place` being the list of them in the result and `axes` what they were measured at.
    pub(crate) fn measured(&self, correct: &[usize], total: usize, place: &str, axes: &[(&str, Value)]) -> Vec<Measured> {
        let of = |(at, (&l, accuracy)): (usize, (&usize, f64))| {
            let measured = axes.iter().fold(Measured::share("accuracy", accuracy), |measured, (axis, at)| measured.along(axis, at.clone()));
            measured.along("L", l).within(&format!("{place}/{at}"))
        };
        self.l.iter().zip(accuracies(correct, total)).enumerate().map(of).collect()
    }
}

/// Shares of `total`.
pub(crate) fn accuracies(correct: &[usize], total: usize) -> Vec<f64> {
    correct.iter().map(|&count| share(count, total)).collect()
}

fn channels_first(stored: &[u8], channels: usize, plane: usize) -> Vec<u8> {
    if channels == 1 {
        return stored.to_vec();
    }
    let image = |pixels: &[u8]| (0..channels * plane).map(|i| pixels[i % plane * channels + i / plane]).collect::<Vec<u8>>();
    stored.chunks_exact(channels * plane).flat_map(image).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_become_planes() {
        let stored = [1, 2, 3, 11, 12, 13, 21, 22, 23, 31, 32, 33];
        assert_eq!(channels_first(&stored, 3, 2), [1, 11, 2, 12, 3, 13, 21, 31, 22, 32, 23, 33]);
        assert_eq!(channels_first(&stored, 1, 4), stored);
    }

    #[test]
    fn an_empty_folder_says_what_is_expected() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("mnist_c");
        let error = find_categories(&missing, &["fog"], "fog/test_images.npy", |f, c| f.join(c).is_dir()).unwrap_err().to_string();
        assert!(error.contains("mnist_c") && error.contains("fog/test_images.npy") && error.contains("--data-dir"), "{error}");
    }
}
