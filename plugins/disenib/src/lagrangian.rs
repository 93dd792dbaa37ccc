//! Objective `lagrangian`: VIB, NIB and their squared variants as the paper's code trains them.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use ibhost_framework::build::BuildError;
use ibhost_framework::dataset::Batch;
use ibhost_framework::distributions::BoxedDistribution;
use ibhost_framework::latent_classifier::{LatentClassifier, averaged_log_likelihood_loss};
use ibhost_framework::math::{accuracy, log_mean_softmax};
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{
    Classifier, Direction, Loss, Measure, Objective, ObjectiveConfig, ParameterGroup, Parts, PosteriorModel, Progress, Quantity, Recipe,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compression::{Compression, Hfunc};

/// Lagrangian information bottleneck: cross-entropy plus a function of a bound on I(X;T).
///
/// loss = -mean over inputs of ln q(y|t) + lambda_kl h(C) in nats, one code t = mean + std eps an input, C the batch's bound on I(X;T)
/// (`term`), h identity, power or exponential of the batch's C, not of each input's. VIB: `term:vib`; NIB: `term:nib` with an encoder of
/// shared spread (`dense/cov:shared`); squared variants: `hfunc:pow|p:1`. `loss_kl` is C before h and lambda. lambda_kl 0 leaves C out,
/// below 0 it is computed and logged but not trained. Evaluations draw one code an input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LagrangianConfig {
    /// The bound C.
    pub term: Compression,
    /// The function h.
    pub hfunc: Hfunc,
    /// Parameter p of h.
    #[schemars(range(min = -0.999, max = 100.0))]
    pub p: f64,
    /// Weight of h(C).
    #[schemars(range(min = -1_000_000.0, max = 1_000_000.0))]
    pub lambda_kl: f64,
}

impl Default for LagrangianConfig {
    fn default() -> Self {
        Self { term: Compression::Vib, hfunc: Hfunc::None, p: 1.0, lambda_kl: 0.01 }
    }
}

/// Purpose of the code's noise.
pub const CODE_NOISE: &str = "class code";

impl LagrangianConfig {
    /// Builds the objective as its own type.
    ///
    /// # Errors
    /// [`BuildError`] when encoder or decoder cannot be built, or when the bound is not defined for the encoder's code.
    pub fn objective(&self, parts: &Parts<'_>) -> Result<Lagrangian, BuildError> {
        let model = LatentClassifier::new(parts)?;
        if self.lambda_kl != 0.0 {
            let [channels, height, width] = parts.data.shape;
            let probe = Tensor::zeros([2, channels, height, width], &parts.context.device.clone().without_autodiff());
            let posterior = model.encoder.valid().encode(probe);
            if !posterior.is_stochastic() || self.term.of(&*posterior).is_none() {
                return Err(BuildError::new(
                    "lagrangian",
                    "this bound on I(X;T) needs a noisy code with a standard deviation for each dimension; give the encoder `cov:diag`, take \
                     the encoder `dense` with `cov:shared`, or set `lambda_kl:0`",
                ));
            }
        }
        Ok(Lagrangian { model, config: self.clone() })
    }
}

#[typetag::serde(name = "lagrangian")]
impl ObjectiveConfig for LagrangianConfig {
    fn build(&self, parts: &Parts<'_>) -> Result<Box<dyn Objective>, BuildError> {
        Ok(Box::new(self.objective(parts)?))
    }

    fn recipe(&self) -> Recipe {
        Recipe {
            decoder: "dense_classifier",
            optimiser: "adam/beta1:0.5|beta2:0.999|epsilon:1e-8",
            schedule: "exponential/decay:0.97|epochs:2",
            strategy: "oneshot",
            learning_rate: 1e-4,
            epochs: 100,
            batch_size: 100,
            average: None,
        }
    }

    fn quantities(&self) -> Vec<Quantity> {
        vec![
            Quantity::new("loss", "nats", "loss_dec + lambda_kl h(loss_kl), batch mean", Direction::Minimise).tagged("train/losses/loss"),
            Quantity::new("loss_dec", "nats", "-mean over inputs of ln q(y|t), one code each", Direction::Minimise)
                .tagged("train/losses/loss_dec"),
            Quantity::new(
                "loss_kl",
                "nats",
                "C before h and lambda_kl, mean over batches of the batch's value: upper bound on I(X;T) for term:vib, for nib and nib_kolchinsky \
                 upper bound on what a code tells about which of the batch's inputs it came from",
                Direction::Neutral,
            )
            .tagged("train/losses/loss_kl")
            .possibly_infinite(),
            Quantity::new("accuracy", "share", "inputs classified right with one code", Direction::Maximise).tagged("eval/acc"),
        ]
    }
}

ibhost_framework::register! {
    Objective: LagrangianConfig as ObjectiveConfig, aliases: [], paper: "Pan et al. 2021, arXiv:2012.07372; Kolchinsky et al. 2019, arXiv:1705.02436",
    example: "lagrangian/term:nib|hfunc:pow|lambda_kl:0.001", model: Lagrangian, offers: [Classify, Encode]
}

/// Encoder and decoder under the options of [`LagrangianConfig`].
#[derive(Module, Debug)]
pub struct Lagrangian {
    /// q(t|x) and q(y|t).
    pub model: LatentClassifier,
    #[module(skip)]
    config: LagrangianConfig,
}

impl Lagrangian {
    /// Loss, its measures and the logits `[batch, classes]` of one code an input.
    fn pass(&self, inputs: Tensor<4>, labels: &Tensor<1, Int>, draws: &mut Draws) -> Loss {
        let posterior = self.model.encoder.encode(inputs);
        let logits = self.model.sampled_logits(&*posterior, 1, CODE_NOISE, draws);
        let share = accuracy(log_mean_softmax(logits.clone().detach()), labels);
        let class = averaged_log_likelihood_loss(logits, labels);
        let mut measures = vec![Measure::new("loss_dec", class.clone())];
        let mut total = class;
        if self.config.lambda_kl != 0.0
            && let Some(bound) = self.config.term.of(&*posterior)
        {
            measures.push(Measure::new("loss_kl", bound.clone()));
            if self.config.lambda_kl > 0.0 {
                total = total + self.config.hfunc.apply(bound, self.config.p).mul_scalar(self.config.lambda_kl);
            }
        }
        let total = self.model.penalised(total);
        measures.push(Measure::new("loss", total.clone()));
        measures.push(Measure::new("accuracy", share));
        Loss { total, measures }
    }
}

impl Objective for Lagrangian {
    fn groups(&self) -> Vec<ParameterGroup> {
        LatentClassifier::groups("model")
    }

    fn loss(&self, _phase: &str, _at: Progress, batch: &Batch, draws: &mut Draws) -> Loss {
        self.pass(batch.inputs.clone(), &batch.labels, draws)
    }

    fn evaluate(&self, _at: Progress, batch: &Batch, draws: &mut Draws) -> Vec<Measure> {
        self.pass(batch.inputs.clone(), &batch.labels, draws).measures
    }
}

impl Classifier for Lagrangian {
    fn class_log_probabilities(&self, inputs: Tensor<4>, samples: usize, draws: &mut Draws) -> Tensor<2> {
        self.model.predict(inputs, samples, CODE_NOISE, draws)
    }

    fn logits(&self, inputs: Tensor<4>, draws: &mut Draws) -> Tensor<2> {
        let posterior = self.model.encoder.encode(inputs);
        let logits = self.model.sampled_logits(&*posterior, 1, CODE_NOISE, draws);
        let [_, batch, classes] = logits.dims();
        logits.reshape([batch, classes])
    }
}

impl PosteriorModel for Lagrangian {
    fn posterior(&self, inputs: Tensor<4>) -> BoxedDistribution {
        self.model.encoder.encode(inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::fixture::{batch, data, parts_of};
    use burn::tensor::Device;
    use ibhost_framework::build::BuildContext;
    use ibhost_framework::noise::Noise;
    use ibhost_framework::objective::read_measures;

    fn measures(config: &LagrangianConfig, encoder: &str) -> Result<Vec<(String, f64)>, BuildError> {
        let (data, context) = (data(), BuildContext::new(Device::flex().autodiff(), 2));
        let (encoder, decoder) = parts_of(encoder, "dense_classifier");
        let parts = Parts { encoder: &*encoder, decoder: &*decoder, data: &data, context: &context };
        let objective = config.objective(&parts)?;
        let mut draws = Draws::seeded(Noise::new(1), 0, "test");
        Ok(read_measures(objective.loss("main", Progress::at(1, 0), &batch(&Device::flex().autodiff()), &mut draws).measures))
    }

    fn value(all: &[(String, f64)], name: &str) -> f64 {
        all.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name} in {all:?}")).1
    }

    #[test]
    fn the_loss_adds_up_for_every_bound_and_function() {
        for (term, encoder) in [
            (Compression::Vib, "dense/hidden:[5]|z:3"),
            (Compression::Nib, "dense/hidden:[5]|z:3|cov:shared"),
            (Compression::NibKolchinsky, "dense/hidden:[5]|z:3|cov:shared"),
        ] {
            for (hfunc, h) in [(Hfunc::None, (|c| c) as fn(f64) -> f64), (Hfunc::Pow, |c| c * c), (Hfunc::Exp, f64::exp)] {
                let all = measures(&LagrangianConfig { term, hfunc, lambda_kl: 0.25, p: 1.0 }, encoder).unwrap();
                let (loss, class, c) = (value(&all, "loss"), value(&all, "loss_dec"), value(&all, "loss_kl"));
                assert!((loss - class - 0.25 * h(c)).abs() < 1e-4 && c > 0.0, "{term:?} {hfunc:?} {all:?}");
            }
        }
    }

    #[test]
    fn a_weight_of_zero_skips_and_a_negative_one_only_logs() {
        let config = |lambda_kl| LagrangianConfig { lambda_kl, ..LagrangianConfig::default() };
        let none = measures(&config(0.0), "dense/hidden:[5]|z:3").unwrap();
        assert!(none.iter().all(|(name, _)| name != "loss_kl"));
        let logged = measures(&config(-1.0), "dense/hidden:[5]|z:3").unwrap();
        assert!(value(&logged, "loss") == value(&logged, "loss_dec") && value(&logged, "loss_kl") > 0.0);
        let error = measures(&config(1.0), "dense/hidden:[5]|z:3|cov:point").unwrap_err().to_string();
        assert!(error.contains("cov:diag") && error.contains("lambda_kl:0"), "{error}");
        let nib = LagrangianConfig { term: Compression::Nib, ..LagrangianConfig::default() };
        assert!(measures(&nib, "mlp/e1:4|e2:4|z:2|cov:full").is_err());
    }
}
