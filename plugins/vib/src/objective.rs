//! The model and losses of objective `vib`.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use ibhost_framework::dataset::Batch;
use ibhost_framework::distributions::{BoxedDistribution, Distribution};
use ibhost_framework::ensemble::Ensemble;
use ibhost_framework::latent_classifier::LatentClassifier;
use ibhost_framework::math::{NATS_PER_BIT, accuracy};
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{Classifier, Loss, Measure, Objective, ParameterGroup, PosteriorModel, Progress};

use crate::config::{VibConfig, Vote};
use crate::terms::{ENSEMBLE_NOISE, Terms};

/// Encoder and decoder under the options of [`VibConfig`].
#[derive(Module, Debug)]
pub struct Vib {
    /// e(z|x) and d(y|z).
    pub model: LatentClassifier,
    class_entropy: f64,
    #[module(skip)]
    config: VibConfig,
}

impl Vib {
    /// The objective around `model`, for labels of entropy `class_entropy` in nats.
    pub fn new(model: LatentClassifier, config: &VibConfig, class_entropy: f64) -> Self {
        Self { model, class_entropy, config: config.clone() }
    }

    /// Class term and rate of a batch, with fresh codes.
    pub fn terms(&self, posterior: &dyn Distribution, labels: &Tensor<1, Int>, draws: &mut Draws) -> Terms {
        Terms::new(&self.model, posterior, labels, self.config.samples, self.config.rate, draws)
    }

    /// Loss in the configured unit, `[1]`.
    pub fn total(&self, terms: &Terms) -> Tensor<1> {
        let class = terms.class.clone().mean();
        let nats = match &terms.rate {
            // Without weight the rate is only reported; leaving it out spares its backward pass.
            Some(rate) if self.config.beta > 0.0 => class + rate.clone().mean().mul_scalar(self.config.beta),
            _ => class,
        };
        nats.div_scalar(self.config.unit.in_nats())
    }
}

/// Batch means of what every forward pass shows; `class_entropy` in nats.
fn measures(terms: &Terms, total: &Tensor<1>, labels: &Tensor<1, Int>, class_entropy: f64) -> Vec<Measure> {
    let information = terms.class.clone().detach().mean().neg().add_scalar(class_entropy);
    let mut measures = vec![Measure::new("loss", total.clone()), Measure::new("accuracy", terms.accuracy(labels))];
    if let Some(rate) = &terms.rate {
        let rate = rate.clone().detach().mean();
        measures.push(Measure::new("izx_bits", rate.clone().div_scalar(NATS_PER_BIT)));
        measures.push(Measure::new("izx_nats", rate));
    }
    measures.push(Measure::new("izy_bits", information.clone().div_scalar(NATS_PER_BIT)));
    measures.push(Measure::new("izy_nats", information));
    measures
}

impl Objective for Vib {
    fn groups(&self) -> Vec<ParameterGroup> {
        LatentClassifier::groups("model")
    }

    fn loss(&self, _phase: &str, _at: Progress, batch: &Batch, draws: &mut Draws) -> Loss {
        let terms = self.terms(&*self.model.encoder.encode(batch.inputs.clone()), &batch.labels, draws);
        let total = self.model.penalised(self.total(&terms));
        let measures = measures(&terms, &total, &batch.labels, self.class_entropy);
        Loss { total, measures }
    }

    fn evaluate(&self, _at: Progress, batch: &Batch, draws: &mut Draws) -> Vec<Measure> {
        let posterior = self.model.encoder.encode(batch.inputs.clone());
        let terms = self.terms(&*posterior, &batch.labels, draws);
        let mut measures = measures(&terms, &self.total(&terms), &batch.labels, self.class_entropy);
        let ensemble = Ensemble::new(&self.model, &*posterior, self.config.eval_samples, ENSEMBLE_NOISE, draws);
        let index = batch.labels.clone().reshape([-1, 1]);
        let class = ensemble.log_probabilities.clone().gather(1, index).mean().neg().div_scalar(self.config.unit.in_nats());
        measures.push(Measure::new(self.config.averaged_class(), class));
        let votes = match self.config.vote {
            Vote::Probabilities => ensemble.log_probabilities,
            Vote::Logits => ensemble.raw,
        };
        measures.push(Measure::new(format!("accuracy_l{}", self.config.eval_samples), accuracy(votes, &batch.labels)));
        measures
    }
}

impl Classifier for Vib {
    fn class_log_probabilities(&self, inputs: Tensor<4>, samples: usize, draws: &mut Draws) -> Tensor<2> {
        Ensemble::new(&self.model, &*self.model.encoder.encode(inputs), samples, ENSEMBLE_NOISE, draws).log_probabilities
    }
}

impl PosteriorModel for Vib {
    fn posterior(&self, inputs: Tensor<4>) -> BoxedDistribution {
        self.model.encoder.encode(inputs)
    }
}

#[cfg(test)]
pub(crate) mod fixture {
    //! Small models and batches for the tests of this crate.

    use burn::tensor::{Device, Tensor, TensorData};
    use ibhost_framework::build::{BuildContext, BuildError};
    use ibhost_framework::component::resolve;
    use ibhost_framework::dataset::{Batch, DataInfo};
    use ibhost_framework::decoder::DecoderConfig;
    use ibhost_framework::encoder::EncoderConfig;
    use ibhost_framework::latent_classifier::LatentClassifier;
    use ibhost_framework::objective::Parts;
    use ibhost_framework::registry::Kind;
    use ibhost_nets as _;
    use ibhost_training as _;
    use serde::de::DeserializeOwned;

    use super::Vib;
    use crate::config::VibConfig;

    /// The config a component string stands for.
    pub fn parts<C: ?Sized>(kind: Kind, text: &str) -> Box<C>
    where
        Box<C>: DeserializeOwned,
    {
        resolve::<C>(kind, text).unwrap().1
    }

    pub fn info(shape: [usize; 3], classes: usize) -> DataInfo {
        DataInfo {
            name: "fixture".to_owned(),
            classes: (0..classes).map(|c| c.to_string()).collect(),
            shape,
            note: None,
            class_entropy: None,
        }
    }

    /// `config` around `encoder` for 2x3 images of four classes, with autodiff.
    pub fn build(config: &VibConfig, encoder: &str) -> Result<Vib, BuildError> {
        let encoder = parts::<dyn EncoderConfig>(Kind::Encoder, encoder);
        let decoder = parts::<dyn DecoderConfig>(Kind::Decoder, "linear");
        let (data, context) = (info([1, 2, 3], 4), BuildContext::new(Device::flex().autodiff(), 1));
        config.objective(&Parts { encoder: encoder.as_ref(), decoder: decoder.as_ref(), data: &data, context: &context })
    }

    pub fn classifier(encoder: &str) -> LatentClassifier {
        build(&VibConfig { beta: 0.0, ..VibConfig::default() }, encoder).unwrap().model
    }

    /// `n` inputs spread over [-1, 1] with labels 0, 1, 2, 3, 0 ...
    pub fn batch(n: usize) -> Batch {
        let device = Device::flex().autodiff();
        let inputs: Vec<f32> = (0..n * 6).map(|i| (i as f32 * 1.3).sin()).collect();
        let labels: Vec<i64> = (0..n as i64).map(|i| i % 4).collect();
        Batch {
            inputs: Tensor::from_data(TensorData::new(inputs, [n, 1, 2, 3]), &device),
            labels: Tensor::from_data(TensorData::new(labels, [n]), &device),
            indices: (0..n).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn::optim::{GradientsParams, SgdConfig};

    use super::fixture::{batch, build};
    use super::*;
    use crate::config::{RateEstimate, Unit};
    use ibhost_framework::noise::Noise;
    use ibhost_framework::objective::{ObjectiveConfig, read_measures};

    const MLP: &str = "mlp/e1:8|e2:8|z:3";

    fn draws() -> Draws {
        Draws::seeded(Noise::new(4), 0, "test")
    }

    fn scalar(x: Tensor<1>) -> f64 {
        x.into_data().iter::<f64>().next().unwrap()
    }

    fn loss_of(config: &VibConfig) -> (f64, BTreeMap<String, f64>) {
        let loss = build(config, MLP).unwrap().loss("main", Progress::at(1, 0), &batch(6), &mut draws());
        (scalar(loss.total), read_measures(loss.measures).into_iter().collect())
    }

    #[test]
    fn the_loss_is_the_class_term_plus_beta_times_the_rate_in_its_unit() {
        for unit in [Unit::Bits, Unit::Nats] {
            let (total, m) = loss_of(&VibConfig { beta: 0.3, unit, samples: 4, ..VibConfig::default() });
            let class = 4f64.ln() - m["izy_nats"];
            assert!((total - (class + 0.3 * m["izx_nats"]) / unit.in_nats()).abs() < 1e-4, "{unit:?}");
            assert!((m["izx_bits"] * std::f64::consts::LN_2 - m["izx_nats"]).abs() < 1e-4);
            assert!((m["loss"] - total).abs() < 1e-6 && (0.0..=1.0).contains(&m["accuracy"]));
        }
    }

    #[test]
    fn without_beta_the_encoder_still_learns_from_the_class_term_alone() {
        let objective = build(&VibConfig { beta: 0.0, ..VibConfig::default() }, MLP).unwrap();
        let loss = objective.loss("main", Progress::at(1, 0), &batch(6), &mut draws());
        let m: BTreeMap<_, _> = read_measures(loss.measures).into_iter().collect();
        assert!(m["izx_nats"] > 0.0 && (m["loss"] - (2.0 - m["izy_bits"])).abs() < 1e-5);
        let gradients = GradientsParams::from_grads(loss.total.backward(), &objective);
        assert_eq!(gradients.len(), 8);
    }

    #[test]
    fn evaluation_reports_every_quantity_the_configuration_announces() {
        for config in [
            VibConfig::default(),
            VibConfig { eval_samples: 3, rate: RateEstimate::MonteCarlo, vote: Vote::Logits, ..VibConfig::default() },
        ] {
            let objective = build(&config, MLP).unwrap().valid();
            let found: BTreeMap<_, _> =
                read_measures(objective.evaluate(Progress::at(1, 0), &batch(6), &mut draws())).into_iter().collect();
            let mut expected: Vec<_> = config.quantities().into_iter().map(|q| q.name).collect();
            expected.sort();
            assert_eq!(found.keys().cloned().collect::<Vec<_>>(), expected);
            assert!(found.values().all(|v| v.is_finite()), "{found:?}");
        }
    }

    #[test]
    fn a_deterministic_model_reports_no_rate() {
        let objective = build(&VibConfig { beta: 0.0, ..VibConfig::default() }, "mlp/e1:4|e2:4|z:2|cov:point").unwrap();
        let m: BTreeMap<_, _> =
            read_measures(objective.valid().evaluate(Progress::at(1, 0), &batch(6), &mut draws())).into_iter().collect();
        assert!(!m.contains_key("izx_bits") && m["accuracy"] == m["accuracy_l12"]);
    }

    #[test]
    fn class_probabilities_sum_to_one_and_groups_cover_all_parameters() {
        let objective = build(&VibConfig::default(), MLP).unwrap();
        let log = objective.class_log_probabilities(batch(6).inputs, 5, &mut draws());
        let sums: Vec<f32> = log.exp().sum_dim(1).into_data().try_to_vec().unwrap();
        assert!(sums.iter().all(|s| (s - 1.0).abs() < 1e-5));
        let groups = objective.groups();
        ibhost_framework::parameters::for_each(&objective, |seen| {
            assert_eq!(groups.iter().filter(|g| g.contains(seen.path)).count(), 1, "{}", seen.path);
        });
    }

    #[test]
    fn a_gradient_step_lowers_the_loss() {
        let mut objective = build(&VibConfig { beta: 1e-2, ..VibConfig::default() }, MLP).unwrap();
        let value = |objective: &Vib| objective.loss("main", Progress::at(1, 0), &batch(6), &mut draws()).total;
        let before = scalar(value(&objective));
        let mut optimiser = SgdConfig::new().init();
        for _ in 0..20 {
            let gradients = GradientsParams::from_grads(value(&objective).backward(), &objective);
            objective = optimiser.step(0.01, objective, gradients);
        }
        assert!(scalar(value(&objective)) < before);
    }
}
