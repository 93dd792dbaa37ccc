//! Objective `hit`: its options, defaults and quantities.

use burn::module::Module;
use burn::tensor::Tensor;
use ibhost_framework::build::BuildError;
use ibhost_framework::decoder::Target;
use ibhost_framework::encoder::{BoxedEncoder, Hierarchy};
use ibhost_framework::hierarchy::OneLevel;
use ibhost_framework::module::Erased;
use ibhost_framework::objective::{Direction, Objective, ObjectiveConfig, Parts, Quantity, Recipe};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::objective::Hit;

/// Hierarchical variational auto-encoder whose rate splits into one term a level, each with its own weight.
///
/// loss = mean over inputs of -ln p(x|y) + w (beta_y R(y|z) + beta_z R(z)), in nats; R(z) = KL(q(z|x) || p(z)) and
/// R(y|z) = KL(q(y|z,x) || p(y|z)) at one sampled z, p(z) = N(0, I) (uniform for a Gumbel-softmax code). Reported: the distortion
/// -ln p(x|y), every rate and their sum, unweighted. w rises from 0 to 1 during a warm-up of the rates; ladders have one by default.
/// Encoders: `hvae`, `lvae`, `bvae`, or any other. With L levels R = sum of R(z_l | z_l+1 ...), one weight each (ibhost's generalisation).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HitConfig {
    /// Levels of the encoder's code.
    #[schemars(range(min = 1, max = 16))]
    pub layers: usize,
    /// Weight of the bottom rate.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub beta_y: f64,
    /// Weight of the top rate.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub beta_z: f64,
    /// Weights of the rates in between, bottom first; left out, all are 1.
    #[schemars(inner(range(min = 0.0, max = 1e6)))]
    pub betas: Vec<f64>,
    /// Epochs until the weight of all rates is 1, after a first step with weight 0; left out, a fifth of the run for a ladder and no warm-up
    /// for other encoders.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub warmup: Option<u64>,
}

impl Default for HitConfig {
    fn default() -> Self {
        Self { layers: 2, beta_y: 1.0, beta_z: 1.0, betas: Vec::new(), warmup: None }
    }
}

impl HitConfig {
    /// Weight of every rate, bottom first.
    ///
    /// # Errors
    /// [`BuildError`] when `betas` has another length than there are levels between bottom and top.
    pub fn weights(&self) -> Result<Vec<f64>, BuildError> {
        let between = self.layers.saturating_sub(2);
        let betas = if self.betas.is_empty() { vec![1.0; between] } else { self.betas.clone() };
        if betas.len() != between {
            let problem = format!("betas has {} weights, but {} levels have {between} between bottom and top", betas.len(), self.layers);
            return Err(BuildError::new("hit", problem));
        }
        let top = (self.layers > 1).then_some(self.beta_z);
        Ok([self.beta_y].into_iter().chain(betas).chain(top).collect())
    }

    /// Names of the rates, bottom first: rate_y, rate_z2 ... rate_z.
    pub fn rate_names(&self) -> Vec<String> {
        (0..self.layers)
            .map(|level| match level {
                0 => "rate_y".to_owned(),
                _ if level + 1 == self.layers => "rate_z".to_owned(),
                _ => format!("rate_z{}", level + 1),
            })
            .collect()
    }

    /// The model on the given parts.
    ///
    /// # Errors
    /// [`BuildError`] when the number of levels differs from the encoder's, a rate has no formula, or a part does not fit.
    pub fn model(&self, parts: &Parts<'_>) -> Result<Hit, BuildError> {
        let (context, shape) = (parts.context, parts.data.shape);
        let latents = parts.encoder.latents_for(shape);
        if latents.len() != self.layers {
            let problem = format!(
                "has layers:{}, but the encoder's code has {} level(s); write the same number in both (`hit/layers:{1}`)",
                self.layers,
                latents.len()
            );
            return Err(BuildError::new("hit", problem));
        }
        let betas = self.weights()?;
        let encoder: BoxedEncoder = Erased::new(parts.encoder.build(shape, context)?);
        let decoder = parts.decoder.build_for(&latents, Target::Inputs(shape), context)?;
        let [channels, height, width] = shape;
        let blank = Tensor::zeros([1, channels, height, width], &context.device.clone().without_autodiff());
        let probe = encoder.valid();
        let (ladder, top) = match probe.as_hierarchy() {
            Some(hierarchy) => (hierarchy.is_ladder(), hierarchy.top(blank.clone())),
            None => (false, OneLevel { encoder: &*probe, shape }.top(blank.clone())),
        };
        let categorical = top.logits().is_some();
        let model = Hit::new(encoder, decoder, self.clone(), betas, latents, shape, ladder, categorical);
        model.valid().check(blank).map_err(|problem| BuildError::new("hit", problem))?;
        Ok(model)
    }
}

#[typetag::serde(name = "hit")]
impl ObjectiveConfig for HitConfig {
    fn build(&self, parts: &Parts<'_>) -> Result<Box<dyn Objective>, BuildError> {
        Ok(Box::new(self.model(parts)?))
    }

    fn recipe(&self) -> Recipe {
        Recipe {
            decoder: "hvae",
            optimiser: "adam",
            schedule: "constant",
            strategy: "oneshot",
            learning_rate: 3e-4,
            epochs: 200,
            batch_size: 256,
            average: None,
        }
    }

    fn quantities(&self) -> Vec<Quantity> {
        let nats = |name: &str, meaning: &str, direction| Quantity::new(name, "nats", meaning, direction);
        let mut all = vec![
            nats("loss", "batch mean of the loss; the rates have their full weight in evaluations", Direction::Minimise),
            nats("distortion", "-mean ln p(x|y), summed over channels and pixels", Direction::Minimise),
            nats("rate", "sum of the rates of all levels: upper bound on I(x;z) in expectation", Direction::Neutral).possibly_infinite(),
            nats("negative_evidence_bound", "distortion plus rate: upper bound on -ln p(x) in expectation", Direction::Minimise)
                .possibly_infinite(),
        ];
        for (level, name) in self.rate_names().iter().enumerate() {
            let meaning = if level + 1 == self.layers {
                "mean KL of the top posterior from its prior".to_owned()
            } else {
                format!("mean KL of the posterior of level {} from its prior, given one sample of the levels above", level + 1)
            };
            all.push(nats(name, &meaning, Direction::Neutral).possibly_infinite());
        }
        if self.layers == 1 {
            all.push(nats("rate_z", "0: there is no level above", Direction::Neutral));
        }
        all.push(Quantity::new("rate_weight", "1", "w, weight of all rates in this step; 1 in evaluations", Direction::Neutral));
        all
    }
}

ibhost_framework::register! {
    Objective: HitConfig as ObjectiveConfig, aliases: [], paper: "Xiao & Bamler 2023, arXiv:2302.04855",
    example: "hit/beta_y:0.5|beta_z:2.0", model: Hit, offers: [Encode, Reconstruct, Sample, LogDensity]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_has_a_weight_and_a_name() {
        let config = HitConfig { layers: 4, beta_y: 0.1, beta_z: 3.0, betas: vec![0.5, 0.7], ..HitConfig::default() };
        assert_eq!(config.weights().unwrap(), [0.1, 0.5, 0.7, 3.0]);
        assert_eq!(config.rate_names(), ["rate_y", "rate_z2", "rate_z3", "rate_z"]);
        assert_eq!(HitConfig { layers: 1, beta_y: 0.1, ..HitConfig::default() }.weights().unwrap(), [0.1]);
        assert!(HitConfig { layers: 3, betas: vec![1.0, 2.0], ..HitConfig::default() }.weights().is_err());
    }
}
