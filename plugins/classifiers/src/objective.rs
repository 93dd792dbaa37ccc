//! Objective `classifier`: plain cross-entropy.

use burn::module::Module;
use burn::tensor::{Int, Tensor, activation};
use ibhost_framework::build::BuildError;
use ibhost_framework::dataset::Batch;
use ibhost_framework::distributions::{BoxedDistribution, Distribution};
use ibhost_framework::latent_classifier::{LatentClassifier, checked};
use ibhost_framework::math::accuracy;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{
    Classifier, Direction, Loss, Measure, Objective, ObjectiveConfig, ParameterGroup, Parts, PosteriorModel, Progress, Quantity, Recipe,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Cross-entropy of class probabilities: an ordinary classifier, without a rate.
///
/// loss = -mean over the batch of ln p(l|x) in nats, p the softmax of the decoder's logits at the mean code. Encoders with dropout use it in
/// training only. Finished runs are what `inception_score`, `fid` and `reconstruction_accuracy` judge other models' inputs with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClassifierConfig {}

/// Encoder and decoder of [`ClassifierConfig`].
#[derive(Module, Debug)]
pub struct ClassifierObjective {
    /// Code and logits.
    pub model: LatentClassifier,
}

impl ClassifierObjective {
    fn logits_of(&self, posterior: &dyn Distribution) -> Tensor<2> {
        checked(self.model.decoder.decode(&[posterior.mean()], None).logits())
    }

    fn measured(logits: Tensor<2>, labels: &Tensor<1, Int>) -> Loss {
        let right = accuracy(logits.clone().detach(), labels);
        let total = activation::log_softmax(logits, 1).gather(1, labels.clone().reshape([-1, 1])).mean().neg();
        Loss { measures: vec![Measure::new("loss", total.clone()), Measure::new("accuracy", right)], total }
    }
}

impl Objective for ClassifierObjective {
    fn groups(&self) -> Vec<ParameterGroup> {
        LatentClassifier::groups("model")
    }

    fn loss(&self, _phase: &str, _at: Progress, batch: &Batch, draws: &mut Draws) -> Loss {
        let posterior = self.model.encoder.encode_training(batch.inputs.clone(), draws);
        let mut loss = Self::measured(self.logits_of(&*posterior), &batch.labels);
        loss.total = self.model.penalised(loss.total);
        loss
    }

    fn evaluate(&self, _at: Progress, batch: &Batch, _draws: &mut Draws) -> Vec<Measure> {
        Self::measured(self.logits_of(&*self.model.encoder.encode(batch.inputs.clone())), &batch.labels).measures
    }
}

impl Classifier for ClassifierObjective {
    fn class_log_probabilities(&self, inputs: Tensor<4>, _samples: usize, draws: &mut Draws) -> Tensor<2> {
        activation::log_softmax(self.logits(inputs, draws), 1)
    }

    fn logits(&self, inputs: Tensor<4>, _draws: &mut Draws) -> Tensor<2> {
        self.logits_of(&*self.model.encoder.encode(inputs))
    }
}

impl PosteriorModel for ClassifierObjective {
    fn posterior(&self, inputs: Tensor<4>) -> BoxedDistribution {
        self.model.encoder.encode(inputs)
    }
}

impl ClassifierConfig {
    /// Builds the objective as its own type.
    ///
    /// # Errors
    /// [`BuildError`] when encoder or decoder cannot be built.
    pub fn objective(&self, parts: &Parts<'_>) -> Result<ClassifierObjective, BuildError> {
        Ok(ClassifierObjective { model: LatentClassifier::new(parts)? })
    }
}

#[typetag::serde(name = "classifier")]
impl ObjectiveConfig for ClassifierConfig {
    fn build(&self, parts: &Parts<'_>) -> Result<Box<dyn Objective>, BuildError> {
        Ok(Box::new(self.objective(parts)?))
    }

    fn recipe(&self) -> Recipe {
        Recipe {
            decoder: "linear",
            optimiser: "adam",
            schedule: "exponential/decay:0.7|epochs:1",
            strategy: "oneshot",
            learning_rate: 1e-3,
            epochs: 14,
            batch_size: 64,
            average: None,
        }
    }

    fn quantities(&self) -> Vec<Quantity> {
        vec![
            Quantity::new("loss", "nats", "cross-entropy: mean over inputs of -ln p(label), at least 0", Direction::Minimise),
            Quantity::new("accuracy", "share", "inputs whose most probable class is the label", Direction::Maximise),
        ]
    }
}

ibhost_framework::register! {
    Objective: ClassifierConfig as ObjectiveConfig, aliases: ["cross_entropy"], paper: "", example: "classifier",
    model: ClassifierObjective, offers: [Classify, Encode]
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};
    use ibhost_framework::build::BuildContext;
    use ibhost_framework::component::resolve;
    use ibhost_framework::dataset::DataInfo;
    use ibhost_framework::decoder::DecoderConfig;
    use ibhost_framework::encoder::EncoderConfig;
    use ibhost_framework::noise::Noise;
    use ibhost_framework::registry::Kind;

    #[test]
    fn the_loss_is_the_cross_entropy_and_probabilities_sum_to_one() {
        let context = BuildContext::new(Device::flex().autodiff(), 1);
        let encoder = resolve::<dyn EncoderConfig>(Kind::Encoder, "mnist_cnn/z:8").unwrap().1;
        let decoder = resolve::<dyn DecoderConfig>(Kind::Decoder, "linear").unwrap().1;
        let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
        let data = DataInfo { name: "fixture".to_owned(), classes, shape: [1, 8, 8], note: None, class_entropy: None };
        let objective =
            ClassifierConfig {}.objective(&Parts { encoder: &*encoder, decoder: &*decoder, data: &data, context: &context }).unwrap();
        let objective = objective.valid();
        let inputs = Tensor::<1, Int>::arange(0..4 * 64, &Device::flex()).float().cos().reshape([4, 1, 8, 8]);
        let labels = Tensor::from_data(TensorData::new(vec![0i64, 1, 2, 1], [4]), &Device::flex());
        let mut draws = Draws::seeded(Noise::new(1), 0, "test");
        let rows: Vec<f32> = objective.class_log_probabilities(inputs.clone(), 1, &mut draws).into_data().try_to_vec().unwrap();
        assert!(rows.chunks(3).all(|row| (row.iter().map(|p| p.exp()).sum::<f32>() - 1.0).abs() < 1e-5));
        let expected = -(rows[0] + rows[4] + rows[8] + rows[10]) / 4.0;
        let measures = objective.evaluate(Progress::at(1, 0), &Batch { inputs, labels, indices: vec![0, 1, 2, 3] }, &mut draws);
        let found: f32 = measures[0].value.clone().into_scalar();
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        assert_eq!(measures.len(), ClassifierConfig {}.quantities().len());
    }
}
