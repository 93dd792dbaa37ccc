//! Analysis `fid`: Fréchet distance of generated and test inputs in the features of a trained classifier or of Inception-v3.

use std::path::Path;

use burn::tensor::Tensor;
use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Direction, Measured, Results, Sources};
use ibhost_framework::dataset::{DataRoot, Split};
use ibhost_framework::storage::FileHash;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::generation::decoding::Decoding;
use crate::generation::frechet::{FeatureMoments, frechet_distance};
use crate::generation::generated::generated;
use crate::generation::inception::Inception;
use crate::generation::reference_classifier::ReferenceClassifier;
use crate::model::not_empty;

const NAME: &str = "fid";
const BATCH: usize = 250;

/// A value in `[0, 1]` as one of 256 levels: trunc(255 x), clamped first, so that nothing wraps around. NaN is 0.
pub fn level(x: f64) -> u8 {
    // Conversion truncates, and takes NaN to 0.
    (x.clamp(0.0, 1.0) * 255.0) as u8
}

/// An image `[channels, pixels]` in `[0, 1]` as three planes of 256 levels, grey repeated.
pub fn rgb_levels(image: &[f64], channels: usize) -> Vec<u8> {
    let levels: Vec<u8> = image.iter().map(|&x| level(x)).collect();
    if channels == 1 { levels.repeat(3) } else { levels }
}

/// Fréchet distance of `samples` generated inputs and all test inputs in the features of a trained classifier (its code, before the last
/// layer) or of Inception-v3.
///
/// |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), covariances with n - 1. Codes are independent draws of the prior, inputs the means of
/// p(x|z), or draws from it with `decode:sample`, as published for mixtures of logistics; `quantise` puts both sets on 256 levels between 0 and 1 first, clamped and truncated, as published scores do. Distances in different
/// features do not compare. `classifier` is the name (or folder name) of a finished run of a classifier, beside the analysed run or beside
/// a folder that holds it. `inception` takes its place: a safetensors file in the folder `inception` of the data folder, with the tensors of
/// PyTorch's `inception_v3` as published for this distance (`safetensors.torch.save_file(model.state_dict(), ...)`); inputs are put on 256
/// levels, resized to 299 x 299 and grey is repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Fid {
    /// Run of the classifier.
    pub classifier: String,
    /// File with weights of Inception-v3, e.g. inception.safetensors.
    pub inception: Option<String>,
    /// Inputs generated.
    #[schemars(range(min = 2, max = 10_000_000))]
    pub samples: usize,
    /// Put inputs on 256 levels first; needs a data set between 0 and 1.
    pub quantise: bool,
    /// Whether generated inputs are means of p(x|z) or draws from it.
    pub decode: Decoding,
}

impl Default for Fid {
    fn default() -> Self {
        Self { classifier: "classifier".to_owned(), inception: None, samples: 10_000, quantise: true, decode: Decoding::Mean }
    }
}

/// What turns inputs into features.
enum Extractor {
    Classifier(ReferenceClassifier),
    Inception(Box<Inception>),
}

impl Extractor {
    /// Features of inputs, `[batch, features]`; nothing where the model has none.
    fn features(&self, images: Tensor<4>) -> Option<Tensor<2>> {
        match self {
            Self::Classifier(classifier) => classifier.features(images),
            // Levels divided by 255 may have come out a little below a whole number.
            Self::Inception(network) => Some(network.features(images.mul_scalar(255.0).round())),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Classifier(classifier) => format!("code of {}", classifier.name()),
            Self::Inception(_) => "Inception-v3".to_owned(),
        }
    }
}

impl Fid {
    fn extractor(&self, context: &AnalysisContext<'_>) -> Result<Extractor, AnalysisError> {
        let Some(file) = &self.inception else {
            return Ok(Extractor::Classifier(ReferenceClassifier::open(NAME, &self.classifier, context)?));
        };
        let network = Inception::open(&context.library.root().join("inception").join(file), context.device)
            .map_err(|error| AnalysisError::Request(format!("`{NAME}/inception:{file}`: {error}")))?;
        Ok(Extractor::Inception(Box::new(network)))
    }

    fn prepared(&self, images: Tensor<4>) -> Tensor<4> {
        if self.quantise || self.inception.is_some() {
            // A stored byte keeps its level although 1/255 is rounded in single precision.
            images.clamp(0.0, 1.0).mul_scalar(255.0).add_scalar(1e-3).floor().div_scalar(255.0)
        } else {
            images
        }
    }
}

#[typetag::serde(name = "fid")]
impl AnalysisConfig for Fid {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let test = context.data.split(Split::Test);
        not_empty(test, NAME)?;
        let scaling = test.scaling();
        // Stored bytes times 1/255, or values that are levels already, stay where they are.
        if (self.quantise || self.inception.is_some()) && scaling.offset.iter().any(|&offset| offset != 0.0) {
            return Err(AnalysisError::Request(format!(
                "`{NAME}` puts inputs on 256 levels between 0 and 1, but this run's data set has another range; use {NAME}/quantise:false with a \
                 classifier"
            )));
        }
        let extractor = self.extractor(context)?;
        let features = |images: Tensor<4>, moments: &mut Option<FeatureMoments>| {
            let rows = extractor.features(self.prepared(images)).ok_or_else(|| {
                AnalysisError::Request(format!("`{NAME}`: there is no code to take features from in the {}", extractor.name()))
            })?;
            let dim = rows.dims()[1];
            let values: Vec<f64> = rows.into_data().iter::<f64>().collect();
            moments.get_or_insert_with(|| FeatureMoments::new(dim)).add(&values);
            Ok::<(), AnalysisError>(())
        };
        let (mut real, mut made) = (None, None);
        let indices: Vec<usize> = (0..test.len()).collect();
        for chunk in indices.chunks(BATCH) {
            features(test.batch(chunk, context.device).inputs, &mut real)?;
        }
        generated(NAME, context, self.samples, self.decode, |images, _| features(images, &mut made))?;
        let distance = real.zip(made).map_or(f64::NAN, |(real, made)| frechet_distance(&real, &made));
        let results = Results::of([Measured::new("fid", distance, "1", Direction::Minimise)]).fact("samples", self.samples);
        Ok(results.fact("test_samples", test.len()).fact("features", extractor.name()).fact("decoding", self.decode.name()))
    }

    fn sources(&self, run_dir: &Path, root: &DataRoot) -> Result<Option<Sources>, AnalysisError> {
        let Some(file) = &self.inception else {
            return ReferenceClassifier::sources(NAME, &self.classifier, run_dir).map(Some);
        };
        let path = root.join("inception").join(file);
        let bytes = std::fs::read(&path)
            .map_err(|error| AnalysisError::Request(format!("`{NAME}/inception:{file}`: `{}` cannot be read: {error}", path.display())))?;
        Ok(Some(Sources::from([("inception".to_owned(), FileHash::of(&bytes).blake3)])))
    }
}

ibhost_framework::register! {
    Analysis: Fid as AnalysisConfig, aliases: [], paper: "Heusel et al. 2017, arXiv:1706.08500; Xiao & Bamler 2023, arXiv:2302.04855",
    example: "fid/classifier:mnist-cnn", needs: [Sample],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_truncated_and_clamped_and_grey_is_repeated() {
        assert_eq!([-0.1, 0.0, 0.0039, 0.004, 0.999, 1.0, 1.7, f64::NAN].map(level), [0, 0, 0, 1, 254, 255, 255, 0]);
        assert_eq!(rgb_levels(&[0.0, 1.0], 1), [0, 255, 0, 255, 0, 255]);
        assert_eq!(rgb_levels(&[0.0, 0.5, 1.0], 3), [0, 127, 255]);
    }
}
