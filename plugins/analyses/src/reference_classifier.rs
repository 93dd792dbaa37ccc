//! A trained classifier that judges the inputs another model makes.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use ibhost_framework::analysis::{AnalysisContext, AnalysisError};
use ibhost_framework::dataset::{Scaling, Split};
use ibhost_framework::engine::{Session, open_finished};
use ibhost_framework::identity::OtherDataPolicy;
use ibhost_framework::noise::{Draws, Noise};
use ibhost_framework::objective::BoxedObjective;
use ibhost_framework::parameters;
use ibhost_framework::storage::{Label, RunDir, RunStatus};

use crate::model::log_probabilities;

/// Folders above the analysed run that are searched; a sweep's trials lie five below the folder of runs.
const LEVELS: usize = 5;

/// The model of a finished run that classifies, fed with the inputs of another run's data set.
pub(crate) struct ReferenceClassifier {
    name: String,
    model: BoxedObjective,
    /// From the scaled values of the analysed run to those of the classifier.
    scaling: Scaling,
}

impl ReferenceClassifier {
    /// The classifier of the run called `name`, or in the folder `name`, beside the analysed run or beside a folder above it; its newest
    /// weights.
    pub(crate) fn open(analysis: &str, name: &str, context: &AnalysisContext<'_>) -> Result<Self, AnalysisError> {
        let refuse = |problem: String| AnalysisError::Request(format!("`{analysis}/classifier:{name}`: {problem}"));
        let path = find(context.run_dir, name).ok_or_else(|| {
            let runs = context.run_dir.parent().unwrap_or(context.run_dir).display();
            refuse(format!(
                "no finished run of that name in `{runs}` or the folders above\n  hint: train one, e.g. `ibhost run --preset mnist-cnn --name \
                 {name} --output-dir {runs}`"
            ))
        })?;
        // Of a judge only its weights are used, not the data it was trained on.
        let (_, session, state) =
            open_finished(&path, context.root, Label::Last, OtherDataPolicy::Accept).map_err(|error| refuse(error.to_string()))?;
        let (own, other) = (context.data.info(), session.data.info());
        if own.shape != other.shape {
            return Err(refuse(format!("it was trained on inputs of shape {:?}, this run's have {:?}", other.shape, own.shape)));
        }
        let (own, other) = (context.data.split(Split::Test).scaling(), session.data.split(Split::Test).scaling());
        // other = raw other_gain + other_offset with raw = (own - own_offset) / own_gain.
        let gain: Vec<f32> = other.gain.iter().zip(&own.gain).map(|(other, own)| other / own).collect();
        let offset = other.offset.iter().zip(own.offset.iter().zip(&gain)).map(|(other, (own, gain))| other - own * gain).collect();
        let model = Session::evaluation_model(&state, false);
        if let Some(path) = parameters::first_non_finite(&model) {
            return Err(refuse(format!("its parameter `{path}` is not finite\n  hint: train it anew with a lower `--lr`")));
        }
        if model.as_classifier().is_none() {
            return Err(refuse("its model does not classify".to_owned()));
        }
        Ok(Self {
            name: path.file_name().map_or_else(|| name.to_owned(), |n| n.to_string_lossy().into_owned()),
            model,
            scaling: Scaling { gain, offset },
        })
    }

    /// Folder name of its run.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// ln p(l|x) of each input, scaled as the analysed run scales.
    pub(crate) fn log_probabilities(&self, inputs: Tensor<4>, context: &AnalysisContext<'_>) -> Vec<Vec<f64>> {
        let mut draws = Draws::seeded(Noise::new(context.seed), 0, "reference classifier");
        match self.model.as_classifier() {
            Some(model) => log_probabilities(model, self.rescaled(inputs), 1, &mut draws),
            None => Vec::new(),
        }
    }

    /// The classifier's code of each input, one row each: the features a distance of distributions is taken in.
    pub(crate) fn features(&self, inputs: Tensor<4>) -> Option<Tensor<2>> {
        self.model.as_posterior().map(|model| model.posterior(self.rescaled(inputs)).mean())
    }

    fn rescaled(&self, inputs: Tensor<4>) -> Tensor<4> {
        if self.scaling == Scaling::uniform(self.scaling.gain.len(), 1.0, 0.0) {
            return inputs;
        }
        let device = inputs.device();
        let channel = |values: &[f32]| Tensor::<1>::from_floats(values, &device).reshape([1, values.len(), 1, 1]);
        inputs * channel(&self.scaling.gain) + channel(&self.scaling.offset)
    }
}

/// The folder `name`, or that of the newest finished run given this name, in the nearest folder that has one.
fn find(run: &Path, name: &str) -> Option<PathBuf> {
    // A relative path such as `.` has no parents to speak of until it is made absolute.
    let run = std::path::absolute(run).ok()?;
    run.ancestors().skip(1).take(LEVELS).find_map(|folder| {
        let exact = folder.join(name);
        if exact.is_dir() { Some(exact) } else { newest_called(folder, name) }
    })
}

/// The newest finished run in `folder` that was given `name`.
fn newest_called(folder: &Path, name: &str) -> Option<PathBuf> {
    let called = |path: &PathBuf| {
        // Folders are `<what is trained>-<name>--<time>-<id>`; only those that fit are opened.
        let file = path.file_name().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
        let fits = file.rsplit_once("--").is_some_and(|(stem, _)| stem.ends_with(name));
        let summary = || RunDir::open_read_only(path).and_then(|run| run.read_summary()).ok();
        fits && summary().is_some_and(|summary| summary.status == RunStatus::Completed && summary.name.as_deref() == Some(name))
    };
    let time = |path: &PathBuf| path.to_string_lossy().rsplit_once("--").map(|(_, time)| time.to_owned());
    fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).filter(called).max_by_key(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(folder: &Path, name: &str, status: &str) -> PathBuf {
        let run = RunDir::create(folder, "mnist_cnn-classifier-digits", Some(name)).unwrap();
        let summary = serde_json::json!({
            "status": status, "run_id": "1", "name": name, "objective": "classifier", "encoder": "mnist_cnn", "dataset": "digits", "seed": 0,
            "device": "flex", "epochs": 1, "steps": 1, "started": "", "elapsed_time_s": 0.0, "command": [], "parameters": 1,
            "versions": {"ibhost": "", "burn": ""},
        });
        run.write_summary(&serde_json::from_value(summary).unwrap()).unwrap();
        run.path().to_path_buf()
    }

    #[test]
    fn a_classifier_is_found_by_name_or_folder_up_to_the_folder_of_runs() {
        let runs = tempfile::tempdir().unwrap();
        let trial = runs.path().join("sweeps/grid/trials/000003/hvae-hit--x");
        std::fs::create_dir_all(&trial).unwrap();
        assert_eq!(find(&trial, "cnn"), None);
        let unfinished = run(runs.path(), "cnn", "running");
        let other = run(runs.path(), "mnist-cnn", "completed");
        assert_eq!(find(&trial, "cnn"), None, "neither an unfinished run nor one whose name only ends like it");
        let finished = run(runs.path(), "cnn", "completed");
        assert_eq!((find(&trial, "cnn"), find(&trial, "mnist-cnn")), (Some(finished), Some(other)));
        let folder = unfinished.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(find(&trial, &folder), Some(unfinished));
        assert_eq!(find(&trial.join("deeper"), "cnn"), None);
    }
}
