//! Objective `vdb`: the deficiency (or VIB) class term plus beta times the rate, in bits.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use ibhost_framework::build::BuildError;
use ibhost_framework::dataset::Batch;
use ibhost_framework::distributions::{BoxedDistribution, Distribution};
use ibhost_framework::latent_classifier::{LatentClassifier, averaged_likelihood_loss, averaged_log_likelihood_loss, quantities};
use ibhost_framework::math::{NATS_PER_BIT, accuracy, log_mean_softmax};
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{
    Classifier, Loss, Measure, Objective, ObjectiveConfig, ParameterGroup, Parts, PosteriorModel, Progress, Quantity, Recipe,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which class term is minimised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassLoss {
    /// -log2 of the likelihood averaged over the codes: the deficiency.
    #[default]
    Vdb,
    /// The average over the codes of -log2 likelihood: the variational information bottleneck.
    Vib,
}

/// How the accuracy on training batches is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrainAccuracy {
    /// From the loss's own pass and its m codes, with the weights before the update; costs nothing.
    #[default]
    Batch,
    /// With the weights after the update and fresh codes, one and `eval_samples`: two more encoder passes, as the original does.
    Updated,
    /// Not at all.
    None,
}

/// Variational deficiency bottleneck: cross entropy of the averaged likelihood plus beta times the rate.
///
/// loss = class + beta I(X;Z), all in bits. With logits l_mb of code m of input b (m codes of q(z|x_b) by reparameterisation):
/// class_loss:vdb has class = -mean_b log2 [ mean_m softmax(l_mb)[y_b] ], class_loss:vib has class = -mean_b mean_m log2 softmax(l_mb)[y_b];
/// they are equal for m:1, and by Jensen the first is never above the second.
/// I(X;Z) = mean_b KL(q(z|x_b) || N(0, I)) / ln 2, summed over dimensions, at least 0; an upper bound on the mutual information.
/// I(Y;Z) = log2(classes) - class with a uniform class prior, at most log2(classes); a lower bound on the mutual information for
/// class_loss:vib or m:1, and otherwise J(Y;Z), which may exceed I(X;Z).
/// The average of likelihoods is a log-sum-exp of log-softmaxes, finite for all finite logits. Predictions average the softmax over codes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VdbConfig {
    /// Weight of the rate, bits per bit.
    #[schemars(range(min = 0.0, max = 1e9))]
    pub beta: f64,
    /// Codes drawn per input in the loss.
    #[schemars(range(min = 1, max = 100_000))]
    pub m: usize,
    /// Class term.
    pub class_loss: ClassLoss,
    /// Codes whose softmax is averaged for the second reported accuracy.
    #[schemars(range(min = 1, max = 100_000))]
    pub eval_samples: usize,
    /// Accuracy on training batches.
    pub train_accuracy: TrainAccuracy,
}

impl Default for VdbConfig {
    fn default() -> Self {
        Self { beta: 1e-3, m: 1, class_loss: ClassLoss::Vdb, eval_samples: 12, train_accuracy: TrainAccuracy::Batch }
    }
}

#[typetag::serde(name = "vdb")]
impl ObjectiveConfig for VdbConfig {
    fn build(&self, parts: &Parts<'_>) -> Result<Box<dyn Objective>, BuildError> {
        let model = LatentClassifier::with_rate("vdb", self.beta, parts)?;
        Ok(Box::new(VdbObjective { model, classes: parts.data.classes.len(), config: self.clone() }))
    }

    fn recipe(&self) -> Recipe {
        Recipe {
            decoder: "linear",
            optimiser: "adam/beta1:0.5|beta2:0.999|epsilon:1e-7|form:tensorflow",
            schedule: "constant",
            strategy: "oneshot",
            learning_rate: 1e-4,
            epochs: 200,
            batch_size: 100,
            average: None,
        }
    }

    fn quantities(&self) -> Vec<Quantity> {
        let deficiency = self.class_loss == ClassLoss::Vdb && self.m > 1;
        let class = match self.class_loss {
            ClassLoss::Vdb => format!("-mean over inputs of log2 of the likelihood averaged over {} codes", self.m),
            ClassLoss::Vib => format!("-mean over inputs and {} codes of log2 likelihood", self.m),
        };
        let mut all = quantities(self.eval_samples, &class);
        for quantity in &mut all {
            if deficiency && quantity.name.starts_with("izy") {
                "J(Y;Z), no bound on I(Y;Z): ln(classes) minus the class term, uniform class prior; may exceed I(X;Z)"
                    .clone_into(&mut quantity.meaning);
            }
            if quantity.name == "accuracy" && self.train_accuracy == TrainAccuracy::Batch {
                quantity.meaning.push_str("; on training batches with the first code of the loss, before the update");
            }
        }
        all
    }
}

ibhost_framework::register! {
    Objective: VdbConfig as ObjectiveConfig, aliases: [], paper: "Banerjee & Montúfar 2020, arXiv:1810.11677",
    example: "vdb/beta:0.001|m:12", model: VdbObjective, offers: [Classify, Encode]
}

/// The model of [`VdbConfig`] with its losses.
#[derive(Module, Debug)]
pub struct VdbObjective {
    /// Encoder and decoder.
    pub model: LatentClassifier,
    classes: usize,
    #[module(skip)]
    config: VdbConfig,
}

/// Class term and rate of a batch, in nats, and the logits `[samples, batch, classes]` they came from.
struct Terms {
    class: Tensor<1>,
    rate: Option<Tensor<1>>,
    logits: Tensor<3>,
}

impl VdbObjective {
    fn terms(&self, posterior: &dyn Distribution, labels: &Tensor<1, Int>, draws: &mut Draws) -> Terms {
        let logits = self.model.sampled_logits(posterior, codes(posterior, self.config.m), "posterior", draws);
        let class = match self.config.class_loss {
            ClassLoss::Vdb => averaged_likelihood_loss(logits.clone(), labels),
            ClassLoss::Vib => averaged_log_likelihood_loss(logits.clone(), labels),
        };
        Terms { class, rate: posterior.kl_to_standard().map(Tensor::mean), logits }
    }

    fn total(&self, terms: &Terms) -> Tensor<1> {
        let nats = match &terms.rate {
            // At beta 0 the rate stays out of the graph: 0 times an overflow is not a number.
            Some(rate) if self.config.beta > 0.0 => terms.class.clone() + rate.clone().mul_scalar(self.config.beta),
            _ => terms.class.clone(),
        };
        nats.div_scalar(NATS_PER_BIT)
    }

    /// Loss and information quantities; a deterministic code has no finite rate to report.
    fn measures(&self, terms: &Terms, total: &Tensor<1>) -> Vec<Measure> {
        let information = terms.class.clone().detach().neg().add_scalar((self.classes as f64).ln());
        let mut measures = vec![Measure::new("loss", total.clone())];
        if let Some(rate) = &terms.rate {
            let rate = rate.clone().detach();
            measures.push(Measure::new("izx_bits", rate.clone().div_scalar(NATS_PER_BIT)));
            measures.push(Measure::new("izx_nats", rate));
        }
        measures.push(Measure::new("izy_bits", information.clone().div_scalar(NATS_PER_BIT)));
        measures.push(Measure::new("izy_nats", information));
        measures
    }

    fn averaged_accuracy_name(&self) -> String {
        format!("accuracy_l{}", self.config.eval_samples)
    }
}

/// A deterministic code gives the same logits every time.
fn codes(posterior: &dyn Distribution, wanted: usize) -> usize {
    if posterior.is_stochastic() { wanted } else { 1 }
}

impl Objective for VdbObjective {
    fn groups(&self) -> Vec<ParameterGroup> {
        LatentClassifier::groups("model")
    }

    fn loss(&self, _phase: &str, _at: Progress, batch: &Batch, draws: &mut Draws) -> Loss {
        let posterior = self.model.encoder.encode(batch.inputs.clone());
        let terms = self.terms(&*posterior, &batch.labels, draws);
        let total = self.model.penalised(self.total(&terms));
        let mut measures = self.measures(&terms, &total);
        if self.config.train_accuracy == TrainAccuracy::Batch {
            measures.push(Measure::new("accuracy", accuracy(log_mean_softmax(terms.logits.detach().narrow(0, 0, 1)), &batch.labels)));
        }
        Loss { total, measures }
    }

    fn after_update(&self, batch: &Batch, draws: &mut Draws) -> Vec<Measure> {
        if self.config.train_accuracy != TrainAccuracy::Updated {
            return Vec::new();
        }
        // One encoder pass each, as in the original: both move the statistics of batch normalisation.
        let mut share =
            |samples, purpose: &str| accuracy(self.model.predict(batch.inputs.clone(), samples, purpose, draws).detach(), &batch.labels);
        vec![
            Measure::new("accuracy", share(1, "accuracy")),
            Measure::new(self.averaged_accuracy_name(), share(self.config.eval_samples, "averaged accuracy")),
        ]
    }

    fn evaluate(&self, _at: Progress, batch: &Batch, draws: &mut Draws) -> Vec<Measure> {
        let posterior = self.model.encoder.encode(batch.inputs.clone());
        let terms = self.terms(&*posterior, &batch.labels, draws);
        let mut measures = self.measures(&terms, &self.total(&terms));
        let [single, averaged] = self.model.accuracies_of(&*posterior, &batch.labels, self.config.eval_samples, draws);
        measures.push(Measure::new("accuracy", single));
        measures.push(Measure::new(self.averaged_accuracy_name(), averaged));
        measures
    }
}

impl Classifier for VdbObjective {
    fn class_log_probabilities(&self, inputs: Tensor<4>, samples: usize, draws: &mut Draws) -> Tensor<2> {
        self.model.predict(inputs, samples, "posterior", draws)
    }
}

impl PosteriorModel for VdbObjective {
    fn posterior(&self, inputs: Tensor<4>) -> BoxedDistribution {
        self.model.encoder.encode(inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};
    use ibhost_framework::build::BuildContext;
    use ibhost_framework::capability::Classify;
    use ibhost_framework::component::resolve;
    use ibhost_framework::dataset::DataInfo;
    use ibhost_framework::decoder::DecoderConfig;
    use ibhost_framework::noise::Noise;
    use ibhost_framework::objective::{BoxedObjective, read_measures};
    use ibhost_framework::optimiser::OptimiserConfig;
    use ibhost_framework::registry::{Kind, Registry};
    use ibhost_framework::strategy::MAIN;
    use ibhost_nets::head::Covariance;
    use ibhost_nets::mlp::MlpConfig;

    const SHAPE: [usize; 3] = [1, 2, 3];
    const CLASSES: usize = 4;

    fn device() -> Device {
        Device::flex().autodiff()
    }

    fn try_build(config: &VdbConfig, cov: Covariance) -> Result<BoxedObjective, BuildError> {
        let data = DataInfo {
            name: "test".to_owned(),
            classes: (0..CLASSES).map(|c| c.to_string()).collect(),
            shape: SHAPE,
            note: None,
            class_entropy: None,
        };
        let encoder = MlpConfig { e1: 7, e2: 6, z: 3, cov, ..MlpConfig::default() };
        let (_, decoder) = resolve::<dyn DecoderConfig>(Kind::Decoder, config.recipe().decoder).unwrap();
        let context = BuildContext::new(device(), 4);
        config.build(&Parts { encoder: &encoder, decoder: &*decoder, data: &data, context: &context }).map(BoxedObjective::new)
    }

    fn build(config: &VdbConfig) -> BoxedObjective {
        try_build(config, Covariance::Diag).unwrap()
    }

    fn batch(device: &Device) -> Batch {
        let n = 5;
        let values: Vec<f32> = (0..n * 6).map(|i| (i as f32 * 1.3).sin()).collect();
        Batch {
            inputs: Tensor::from_data(TensorData::new(values, [n, 1, 2, 3]), device),
            labels: Tensor::from_ints([0, 1, 2, 3, 0], device),
            indices: (0..n).collect(),
        }
    }

    fn draws() -> Draws {
        Draws::seeded(Noise::new(9), 1, "test")
    }

    fn loss_of(config: &VdbConfig) -> Vec<(String, f64)> {
        read_measures(build(config).loss(MAIN, Progress::at(1, 0), &batch(&device()), &mut draws()).measures)
    }

    fn value(measures: &[(String, f64)], name: &str) -> f64 {
        measures.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no {name} in {measures:?}")).1
    }

    #[test]
    fn the_loss_is_the_class_term_plus_beta_times_the_rate_in_bits() {
        for class_loss in [ClassLoss::Vdb, ClassLoss::Vib] {
            let config = VdbConfig { beta: 0.25, m: 3, class_loss, ..VdbConfig::default() };
            let measures = loss_of(&config);
            let class = (CLASSES as f64).log2() - value(&measures, "izy_bits");
            assert!((value(&measures, "loss") - class - 0.25 * value(&measures, "izx_bits")).abs() < 1e-4, "{measures:?}");
            assert!((value(&measures, "izx_nats") / value(&measures, "izx_bits") - 2f64.ln()).abs() < 1e-5);
            // Three codes with sigma 0.0067: about 6.5 bits each.
            assert!((15.0..25.0).contains(&value(&measures, "izx_bits")), "{measures:?}");
        }
    }

    #[test]
    fn deficiency_equals_vib_for_one_code_and_is_below_it_for_more() {
        let class = |class_loss, m| -value(&loss_of(&VdbConfig { m, class_loss, ..VdbConfig::default() }), "izy_bits");
        assert!((class(ClassLoss::Vdb, 1) - class(ClassLoss::Vib, 1)).abs() < 1e-6);
        assert!(class(ClassLoss::Vdb, 8) < class(ClassLoss::Vib, 8));
    }

    #[test]
    fn logits_of_ten_thousand_give_finite_losses_and_gradients() {
        let labels = Tensor::<1, Int>::from_ints([0, 1], &device());
        let logits = Tensor::<3>::from_floats([[[1e4, -1e4, 0.0], [1e4, -1e4, -1e4]], [[-1e4, 1e4, 1e4], [1e4, -1e4, 1e4]]], &device());
        for loss in [averaged_likelihood_loss, averaged_log_likelihood_loss] {
            let logits = logits.clone().require_grad();
            let total = loss(logits.clone(), &labels);
            let gradients = total.backward();
            let gradient: Vec<f32> = logits.grad(&gradients).unwrap().into_data().try_to_vec().unwrap();
            let total: f32 = total.into_scalar();
            assert!(total.is_finite() && total > 1e3, "{total}");
            assert!(gradient.iter().all(|g| g.is_finite()) && gradient.iter().any(|g| *g != 0.0), "{gradient:?}");
        }
    }

    #[test]
    fn a_deterministic_encoder_needs_beta_0_and_reports_no_rate() {
        let error = try_build(&VdbConfig::default(), Covariance::Point).unwrap_err().to_string();
        assert!(error.starts_with("vdb: ") && error.contains("beta:0") && error.contains("cov:diag"), "{error}");
        let objective = try_build(&VdbConfig { beta: 0.0, m: 4, ..VdbConfig::default() }, Covariance::Point).unwrap();
        let measures = read_measures(objective.loss(MAIN, Progress::at(1, 0), &batch(&device()), &mut draws()).measures);
        assert!(measures.iter().all(|(name, value)| !name.starts_with("izx") && value.is_finite()), "{measures:?}");
        let plain = objective.valid();
        let inputs = batch(&Device::flex()).inputs;
        let one: Vec<f32> = plain
            .capability::<Classify>()
            .unwrap()
            .class_log_probabilities(inputs, 5, &mut draws())
            .exp()
            .sum_dim(1)
            .into_data()
            .try_to_vec()
            .unwrap();
        assert!(one.iter().all(|p| (p - 1.0).abs() < 1e-5));
    }

    #[test]
    fn each_way_of_measuring_the_training_accuracy_reports_what_it_says() {
        let names = |train_accuracy| {
            let objective = build(&VdbConfig { train_accuracy, eval_samples: 3, ..VdbConfig::default() });
            let batch = batch(&device());
            let count = |measures: Vec<Measure>| measures.iter().filter(|m| m.name.starts_with("accuracy")).count();
            [
                count(objective.loss(MAIN, Progress::at(1, 0), &batch, &mut draws()).measures),
                count(objective.after_update(&batch, &mut draws())),
            ]
        };
        assert_eq!(names(TrainAccuracy::Batch), [1, 0]);
        assert_eq!(names(TrainAccuracy::Updated), [0, 2]);
        assert_eq!(names(TrainAccuracy::None), [0, 0]);
    }

    #[test]
    fn evaluation_reports_every_quantity_with_the_name_it_is_described_by() {
        let config = VdbConfig { m: 2, eval_samples: 7, ..VdbConfig::default() };
        let measures = read_measures(build(&config).valid().evaluate(Progress::at(1, 0), &batch(&Device::flex()), &mut draws()));
        let mut found: Vec<String> = measures.into_iter().map(|(name, _)| name).collect();
        let mut described: Vec<String> = config.quantities().into_iter().map(|q| q.name).collect();
        found.sort();
        described.sort();
        assert_eq!(found, described);
        assert!(config.quantities().iter().any(|q| q.meaning.starts_with("J(Y;Z)")));
        assert!(!VdbConfig::default().quantities().iter().any(|q| q.meaning.starts_with("J(Y;Z)")));
    }

    #[test]
    fn groups_cover_every_parameter_once_and_the_recipe_is_made_of_known_components() {
        let objective = build(&VdbConfig::default());
        let groups = objective.groups();
        ibhost_framework::parameters::for_each(&objective, |seen| {
            assert_eq!(groups.iter().filter(|g| g.contains(seen.path)).count(), 1, "{}", seen.path);
        });
        let recipe = VdbConfig::default().recipe();
        resolve::<dyn OptimiserConfig>(Kind::Optimiser, recipe.optimiser).unwrap();
        for (kind, text) in [(Kind::Schedule, recipe.schedule), (Kind::Strategy, recipe.strategy)] {
            ibhost_framework::component::Component::parse(kind, text).unwrap();
        }
        Registry::global().unwrap().check_examples().unwrap();
    }
}
