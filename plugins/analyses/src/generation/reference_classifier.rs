//! A trained classifier that judges the inputs another model makes.

use std::path::Path;

use burn::tensor::Tensor;
use ibhost_framework::analysis::{AnalysisContext, AnalysisError, Sources};
use ibhost_framework::capability::{Classify, Encode};
use ibhost_framework::dataset::{Scaling, Split};
use ibhost_framework::engine::Session;
use ibhost_framework::finished::{FinishedRun, Look};
use ibhost_framework::identity::OtherDataPolicy;
use ibhost_framework::noise::{Draws, Noise};
use ibhost_framework::objective::BoxedObjective;
use ibhost_framework::parameters;
use ibhost_framework::storage::Label;

use crate::model::log_probabilities;
use crate::reference_run::{find, identity};

/// The model of a finished run that classifies, fed with the inputs of another run's data set.
pub(crate) struct ReferenceClassifier {
    name: String,
    model: BoxedObjective,
    /// From the scaled values of the analysed run to those of the classifier.
    scaling: Scaling,
}

impl ReferenceClassifier {
    /// The classifier of the run that `name` means, see [`find`]; its newest weights.
    pub(crate) fn open(analysis: &str, name: &str, context: &AnalysisContext<'_>) -> Result<Self, AnalysisError> {
        let refuse = |problem: String| AnalysisError::Request(format!("`{analysis}/classifier:{name}`: {problem}"));
        let path = find(context.run_dir, name).map_err(&refuse)?;
        // Of a judge only its weights are used, not the data it was trained on.
        let read = |look: &Look<'_>| {
            let data = &look.session.data;
            (Session::evaluation_model(look.state, false), data.info().shape, data.split(Split::Test).scaling().clone())
        };
        let run = FinishedRun::open(&path, OtherDataPolicy::Accept).map_err(|error| refuse(error.to_string()))?;
        let (model, shape, scaling) = run.with_weights(context.library, Label::Last, read).map_err(|error| refuse(error.to_string()))?;
        let own = context.data.info();
        if own.shape != shape {
            return Err(refuse(format!("it was trained on inputs of shape {shape:?}, this run's have {:?}", own.shape)));
        }
        let (own, other) = (context.data.split(Split::Test).scaling(), &scaling);
        // other = raw other_gain + other_offset with raw = (own - own_offset) / own_gain.
        let gain: Vec<f32> = other.gain.iter().zip(&own.gain).map(|(other, own)| other / own).collect();
        let offset = other.offset.iter().zip(own.offset.iter().zip(&gain)).map(|(other, (own, gain))| other - own * gain).collect();
        if let Some(path) = parameters::first_non_finite(&model) {
            return Err(refuse(format!("its parameter `{path}` is not finite\n  hint: train it anew with a lower `--lr`")));
        }
        if model.capability::<Classify>().is_none() {
            return Err(refuse("its model does not classify".to_owned()));
        }
        Ok(Self {
            name: path.file_name().map_or_else(|| name.to_owned(), |n| n.to_string_lossy().into_owned()),
            model,
            scaling: Scaling { gain, offset },
        })
    }

    /// Which run and weights judge, for [`ibhost_framework::analysis::AnalysisConfig::sources`].
    pub(crate) fn sources(analysis: &str, name: &str, run_dir: &Path) -> Result<Sources, AnalysisError> {
        let refuse = |problem: String| AnalysisError::Request(format!("`{analysis}/classifier:{name}`: {problem}"));
        let path = find(run_dir, name).map_err(refuse)?;
        Ok(Sources::from([("judge".to_owned(), identity(&path)?)]))
    }

    /// Folder name of its run.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// ln p(l|x) of each input, scaled as the analysed run scales.
    pub(crate) fn log_probabilities(&self, inputs: Tensor<4>, context: &AnalysisContext<'_>) -> Vec<Vec<f64>> {
        let mut draws = Draws::seeded(Noise::new(context.seed), 0, "reference classifier");
        match self.model.capability::<Classify>() {
            Some(model) => log_probabilities(model, self.rescaled(inputs), 1, &mut draws),
            None => Vec::new(),
        }
    }

    /// The classifier's code of each input, one row each: the features a distance of distributions is taken in.
    pub(crate) fn features(&self, inputs: Tensor<4>) -> Option<Tensor<2>> {
        self.model.capability::<Encode>().map(|model| model.posterior(self.rescaled(inputs)).point())
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
