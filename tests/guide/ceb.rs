//! Objective `ceb`: a bottleneck whose rate is measured from a prior of its own for each class.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor};
use ibhost_framework::build::BuildError;
use ibhost_framework::dataset::Batch;
use ibhost_framework::distributions::{BoxedDistribution, Distribution, Normal, Undefined, kl};
use ibhost_framework::latent_classifier::{LatentClassifier, averaged_log_likelihood_loss};
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{
    Classifier, Direction, Loss, Measure, Objective, ObjectiveConfig, ParameterGroup, Parts, PosteriorModel, Progress, Quantity, Recipe,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Conditional entropy bottleneck: keep of the input what the class explains, drop the rest.
///
/// loss = -E[ln q(y|z)] + beta E[KL(q(z|x) || b(z|y))], in nats, mean over the batch, one code an input. b(z|y) is normal with a learned
/// mean for each class and unit scale; the divergence bounds I(X;Z|Y) from above.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CebConfig {
    /// Weight of the divergence from the class's prior.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub beta: f64,
}

impl Default for CebConfig {
    fn default() -> Self {
        Self { beta: 0.1 }
    }
}

/// The model and its loss.
#[derive(Module, Debug)]
pub struct Ceb {
    model: LatentClassifier,
    /// Means of b(z|y), `[classes, latent]`.
    centres: Param<Tensor<2>>,
    beta: f64,
}

impl Ceb {
    /// KL(q(z|x) || b(z|y)) in nats, `[batch]`.
    fn residual(&self, posterior: &dyn Distribution, labels: &Tensor<1, Int>) -> Result<Tensor<1>, Undefined> {
        let mean = self.centres.val().select(0, labels.clone());
        let scale = mean.ones_like();
        kl(posterior, &Normal { mean, scale })
    }

    fn measure(&self, posterior: &dyn Distribution, batch: &Batch, draws: &mut Draws) -> Loss {
        let logits = self.model.sampled_logits(posterior, 1, "posterior", draws);
        let classes = logits.dims()[2] as f64;
        let class = averaged_log_likelihood_loss(logits, &batch.labels);
        // `build` refuses posteriors without the divergence; a NaN would end the run.
        let residual = self.residual(posterior, &batch.labels).map_or_else(|_| class.full_like(f64::NAN), Tensor::mean);
        let total = class.clone() + residual.clone().mul_scalar(self.beta);
        let measures = vec![
            Measure::new("loss", total.clone()),
            Measure::new("residual_nats", residual),
            Measure::new("izy_nats", class.neg().add_scalar(classes.ln())),
        ];
        Loss { total, measures }
    }
}

impl Objective for Ceb {
    fn groups(&self) -> Vec<ParameterGroup> {
        let mut groups = LatentClassifier::groups("model"); // the fields model.encoder and model.decoder
        groups.push(ParameterGroup::field("centres"));
        groups
    }

    fn loss(&self, _phase: &str, _at: Progress, batch: &Batch, draws: &mut Draws) -> Loss {
        let posterior = self.model.encoder.encode_training(batch.inputs.clone(), draws);
        let loss = self.measure(&*posterior, batch, draws);
        Loss { total: self.model.penalised(loss.total), ..loss }
    }

    fn evaluate(&self, _at: Progress, batch: &Batch, draws: &mut Draws) -> Vec<Measure> {
        let posterior = self.model.encoder.encode(batch.inputs.clone());
        let mut measures = self.measure(&*posterior, batch, draws).measures;
        let [single, averaged] = self.model.accuracies_of(&*posterior, &batch.labels, 12, draws);
        measures.push(Measure::new("accuracy", single));
        measures.push(Measure::new("accuracy_l12", averaged));
        measures
    }
}

impl Classifier for Ceb {
    fn class_log_probabilities(&self, inputs: Tensor<4>, samples: usize, draws: &mut Draws) -> Tensor<2> {
        self.model.predict(inputs, samples, "prediction", draws)
    }
}

impl PosteriorModel for Ceb {
    fn posterior(&self, inputs: Tensor<4>) -> BoxedDistribution {
        self.model.encoder.encode(inputs)
    }
}

#[typetag::serde(name = "ceb")]
impl ObjectiveConfig for CebConfig {
    fn build(&self, parts: &Parts<'_>) -> Result<Box<dyn Objective>, BuildError> {
        let model = LatentClassifier::new(parts)?;
        let latent: usize = parts.encoder.latents_for(parts.data.shape).iter().sum();
        let centres = parts.context.normal([parts.data.classes.len(), latent], 0.0, 1.0);
        let built = Ceb { model, centres, beta: self.beta };
        let [channels, height, width] = parts.data.shape;
        let blank = Tensor::zeros([1, channels, height, width], &parts.context.device);
        let label = Tensor::zeros([1], &parts.context.device);
        match built.residual(&*built.model.encoder.encode(blank), &label) {
            Ok(_) => Ok(Box::new(built)),
            Err(problem) => Err(BuildError::new("ceb", problem.to_string())),
        }
    }

    fn recipe(&self) -> Recipe {
        Recipe {
            decoder: "linear",
            optimiser: "adam",
            schedule: "constant",
            strategy: "oneshot",
            learning_rate: 1e-3,
            epochs: 20,
            batch_size: 100,
            average: None,
        }
    }

    fn quantities(&self) -> Vec<Quantity> {
        let information = "ln of the number of classes minus the class term, lower bound on I(Y;Z) for equally frequent classes";
        vec![
            Quantity::new("loss", "nats", "class term + beta * residual", Direction::Minimise),
            Quantity::new("residual_nats", "nats", "KL(q(z|x) || b(z|y)), upper bound on I(X;Z|Y)", Direction::Neutral),
            Quantity::new("izy_nats", "nats", information, Direction::Maximise),
            Quantity::new("accuracy", "share", "inputs classified right with one code", Direction::Maximise),
            Quantity::new("accuracy_l12", "share", "inputs classified right by the mean over 12 codes", Direction::Maximise),
        ]
    }
}

ibhost_framework::register! {
    Objective: CebConfig as ObjectiveConfig, aliases: [], paper: "Fischer 2020, arXiv:2002.05379", example: "ceb/beta:0.01",
    model: Ceb, offers: [Classify, Encode],
}
