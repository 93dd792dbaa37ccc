//! Objective `vib`: its options, training defaults and the quantities it reports.

use ibhost_framework::build::BuildError;
use ibhost_framework::latent_classifier::{LatentClassifier, quantities};
use ibhost_framework::objective::{Direction, Objective, ObjectiveConfig, Parts, Quantity, Recipe};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::objective::Vib;

/// How the rate KL(q(z|x) || N(0, I)) of the loss is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateEstimate {
    /// In closed form.
    #[default]
    Analytic,
    /// As the mean of ln q(z|x) - ln N(z; 0, I) over the codes of the class term: same expectation, noisier gradient.
    MonteCarlo,
}

/// Unit of the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Logarithms to base 2.
    #[default]
    Bits,
    /// Natural logarithms.
    Nats,
}

impl Unit {
    /// `bits` or `nats`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bits => "bits",
            Self::Nats => "nats",
        }
    }

    /// Nats in one of this unit.
    pub const fn in_nats(self) -> f64 {
        match self {
            Self::Bits => std::f64::consts::LN_2,
            Self::Nats => 1.0,
        }
    }
}

/// How several codes vote for a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Vote {
    /// By the mean of their softmaxes.
    #[default]
    Probabilities,
    /// By the log-sum-exp of their logits without normalising them, so codes with larger logits weigh more (2021 tutorial).
    Logits,
}

/// How often the classes are taken to occur in the bound on I(Y;Z).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassPrior {
    /// All alike: H(Y) = ln(classes).
    #[default]
    Uniform,
    /// As in the training labels: H(Y) of their frequencies.
    Labels,
}

/// Variational information bottleneck: keep what the code z says about the class y, drop the rest of the input x.
///
/// loss = class + beta rate in `unit` (bits: divided by ln 2), mean over the batch.
/// class = -mean over `samples` codes z = mean + L eps of ln q(y|z).
/// rate = KL(q(z|x) || N(0, I)), summed over dimensions, at least 0, an upper bound on I(X;Z).
/// H(Y) - class is a lower bound on I(Y;Z), with H(Y) from `prior` (`uniform`: only where all classes are equally frequent).
/// `accuracy` is the mean over the codes of the loss, `accuracy_l<n>` that of n codes voting. With a deterministic code (`cov:point`) there
/// is no rate: set `beta:0` and the loss is the cross-entropy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VibConfig {
    /// Weight of the rate against the class term; the same number in bits and nats.
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub beta: f64,
    /// Codes an input in the loss.
    #[schemars(range(min = 1, max = 100_000))]
    pub samples: usize,
    /// How the rate is computed.
    pub rate: RateEstimate,
    /// Unit of the loss.
    pub unit: Unit,
    /// Codes an input that vote in evaluations.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub eval_samples: usize,
    /// How they vote.
    pub vote: Vote,
    /// Class frequencies behind H(Y).
    pub prior: ClassPrior,
}

impl Default for VibConfig {
    fn default() -> Self {
        Self {
            beta: 1e-3,
            samples: 1,
            rate: RateEstimate::Analytic,
            unit: Unit::Bits,
            eval_samples: 12,
            vote: Vote::Probabilities,
            prior: ClassPrior::Uniform,
        }
    }
}

impl VibConfig {
    /// Builds the objective as its own type.
    ///
    /// # Errors
    /// [`BuildError`] when encoder or decoder cannot be built, or when the code is deterministic and `beta` is not 0.
    pub fn objective(&self, parts: &Parts<'_>) -> Result<Vib, BuildError> {
        let model = LatentClassifier::with_rate("vib", self.beta, parts)?;
        let uniform = (parts.data.classes.len() as f64).ln();
        let class_entropy = match self.prior {
            ClassPrior::Uniform => uniform,
            ClassPrior::Labels => parts.data.class_entropy.unwrap_or(uniform),
        };
        Ok(Vib::new(model, self, class_entropy))
    }
}

#[typetag::serde(name = "vib")]
impl ObjectiveConfig for VibConfig {
    fn build(&self, parts: &Parts<'_>) -> Result<Box<dyn Objective>, BuildError> {
        Ok(Box::new(self.objective(parts)?))
    }

    fn recipe(&self) -> Recipe {
        Recipe {
            decoder: "linear",
            optimiser: "adam/beta1:0.5|beta2:0.999|epsilon:1e-8|form:tensorflow",
            schedule: "exponential/decay:0.97|epochs:2",
            strategy: "oneshot",
            learning_rate: 1e-4,
            epochs: 200,
            batch_size: 100,
            average: Some(0.999),
        }
    }

    fn quantities(&self) -> Vec<Quantity> {
        let class = "-mean over inputs and codes of log q(y|z)";
        let mut all = quantities(self.eval_samples, class);
        for quantity in &mut all {
            if quantity.name == "loss" {
                quantity.unit = self.unit.name();
            }
            if quantity.name == "accuracy" {
                "share of (input, code) pairs classified right, over the codes of the loss".clone_into(&mut quantity.meaning);
            }
            if quantity.name == format!("accuracy_l{}", self.eval_samples) && self.vote == Vote::Logits {
                quantity.meaning = format!("inputs classified right by the log-sum-exp of the raw logits of {} codes", self.eval_samples);
            }
            if quantity.name.starts_with("izy") && self.prior == ClassPrior::Labels {
                "lower bound on I(Y;Z): entropy of the training labels minus the class term".clone_into(&mut quantity.meaning);
            }
            if quantity.name.starts_with("izx") && self.rate == RateEstimate::MonteCarlo {
                "rate, upper bound on I(X;Z): mean over inputs and codes of log q(z|x) - log N(z; 0, I), an unbiased estimate of the KL"
                    .clone_into(&mut quantity.meaning);
            }
        }
        let averaged = format!("-mean over inputs of log of the softmax averaged over {} codes at the label", self.eval_samples);
        all.push(Quantity::new(self.averaged_class(), self.unit.name(), averaged, Direction::Minimise));
        all
    }
}

impl VibConfig {
    /// Name of the class term of the averaged prediction, e.g. `class_l12`.
    pub fn averaged_class(&self) -> String {
        format!("class_l{}", self.eval_samples)
    }
}

ibhost_framework::register! {
    Objective: VibConfig as ObjectiveConfig, aliases: [], paper: "Alemi et al. 2017, arXiv:1612.00410",
    example: "vib/beta:0.001|samples:1", model: Vib, offers: [Classify, Encode]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::fixture::{batch, build, info, parts};
    use burn::module::Module;
    use burn::tensor::Device;
    use ibhost_framework::build::BuildContext;
    use ibhost_framework::component::Component;
    use ibhost_framework::decoder::DecoderConfig;
    use ibhost_framework::encoder::EncoderConfig;
    use ibhost_framework::noise::{Draws, Noise};
    use ibhost_framework::objective::{Progress, read_measures};
    use ibhost_framework::registry::Kind;

    #[test]
    fn the_paper_size_has_the_published_number_of_parameters() {
        let encoder = parts::<dyn EncoderConfig>(Kind::Encoder, "mlp/e1:1024|e2:1024|z:256");
        let decoder = parts::<dyn DecoderConfig>(Kind::Decoder, VibConfig::default().recipe().decoder);
        let (data, context) = (info([1, 28, 28], 10), BuildContext::new(Device::flex().autodiff(), 1));
        let parts = Parts { encoder: encoder.as_ref(), decoder: decoder.as_ref(), data: &data, context: &context };
        assert_eq!(VibConfig::default().objective(&parts).unwrap().num_params(), 2_380_810);
    }

    #[test]
    fn a_deterministic_code_needs_beta_zero() {
        let error = build(&VibConfig::default(), "mlp/e1:4|e2:4|z:2|cov:point").unwrap_err().to_string();
        assert!(error.contains("beta:0") && error.contains("cov:diag"), "{error}");
        assert!(build(&VibConfig { beta: 0.0, ..VibConfig::default() }, "mlp/e1:4|e2:4|z:2|cov:point").is_ok());
    }

    #[test]
    fn the_class_prior_is_uniform_or_counted() {
        let mut data = info([1, 2, 3], 4);
        data.class_entropy = Some(0.5);
        let encoder = parts::<dyn EncoderConfig>(Kind::Encoder, "mlp/e1:4|e2:4|z:2");
        let decoder = parts::<dyn DecoderConfig>(Kind::Decoder, "linear");
        let information = |prior| {
            let context = BuildContext::new(Device::flex().autodiff(), 1);
            let parts = Parts { encoder: encoder.as_ref(), decoder: decoder.as_ref(), data: &data, context: &context };
            let objective = VibConfig { prior, ..VibConfig::default() }.objective(&parts).unwrap();
            let measures = read_measures(objective.evaluate(Progress::at(1, 0), &batch(5), &mut Draws::seeded(Noise::new(1), 0, "test")));
            measures.iter().find(|(name, _)| name == "izy_nats").unwrap().1
        };
        let difference = information(ClassPrior::Uniform) - information(ClassPrior::Labels);
        assert!((difference - (4f64.ln() - 0.5)).abs() < 1e-5, "{difference}");
    }

    #[test]
    fn the_recipe_names_components_that_exist_and_quantities_carry_the_options() {
        let recipe = VibConfig::default().recipe();
        for (kind, text) in [
            (Kind::Decoder, recipe.decoder),
            (Kind::Optimiser, recipe.optimiser),
            (Kind::Schedule, recipe.schedule),
            (Kind::Strategy, recipe.strategy),
        ] {
            Component::parse(kind, text).unwrap();
        }
        let config = VibConfig { unit: Unit::Nats, eval_samples: 5, rate: RateEstimate::MonteCarlo, ..VibConfig::default() };
        let all = config.quantities();
        let find = |name: &str| all.iter().find(|q| q.name == name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!((find("loss").unit, find("class_l5").unit, find("izx_bits").unit), ("nats", "nats", "bits"));
        assert!(find("accuracy_l5").meaning.contains('5') && find("izx_nats").meaning.contains("estimate"));
    }
}
