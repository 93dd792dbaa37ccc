//! Objective `hvae`: variational auto-encoder, A-MIM and S-MIM with codes of several levels, for binary images.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use ibhost_framework::build::BuildError;
use ibhost_framework::dataset::Batch;
use ibhost_framework::decoder::{BoxedDecoder, Decoder, Target};
use ibhost_framework::distributions::{
    Bernoulli, BoxedDistribution, Distribution, Normal, NormalComponents, StandardNormal, Undefined, normal_log_prob,
    normal_mixture_log_prob,
};
use ibhost_framework::encoder::{BoxedEncoder, Hierarchy};
use ibhost_framework::latent_model::LatentModel;
use ibhost_framework::math::{HALF_LN_2PI, log_mean_exp};
use ibhost_framework::module::Erased;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{
    Direction, Loss, Measure, Objective, ObjectiveConfig, ParameterGroup, Parts, PosteriorModel, Progress, Quantity, Recipe,
};
use ibhost_nets::pseudo_inputs::{PseudoInputs, Start};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::terms::checked;

/// Where pseudo-inputs and pseudo-codes start without data: binary images are mostly dark.
const DARK: Start = Start::Normal { mean: 0.05, std: 0.01 };
/// Spread around the training images pseudo-inputs start from.
const AROUND_DATA: Start = Start::Data { noise: 0.01 };

/// Loss of the hierarchical models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HierarchicalLoss {
    /// Variational auto-encoder.
    #[default]
    Vae,
    /// Mutual information machine on encoded data alone.
    Amim,
    /// The same with a branch of sampled codes and images once beta is 1.
    Smim,
}

/// Prior of the top level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TopPrior {
    /// N(0, I).
    Standard,
    /// The equal mixture of q(z|u) over learned pseudo-inputs u.
    #[default]
    Vampprior,
}

/// q(x) in the MIM losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageMarginal {
    /// The importance estimate on the data branch, ln p(x|z) on the sampled one.
    #[default]
    Marginal,
    /// The equal mixture of p(x|codes) over learned pseudo-codes.
    Vampprior,
}

/// Hierarchical image models: variational auto-encoder, A-MIM or S-MIM, with a standard prior or VampPrior on the top level.
///
/// With a = ln p(x|z), b1 = ln p(z1|z2) (all levels below the top), b2 = ln p of the top level, c = ln q(z|x), batch means in nats:
/// loss:vae -a + beta KL, KL = c - b1 - b2. loss:amim -(a + b + beta (c + d))/2 with b = b1 + beta b2 and d = a + b - c, or q_x:vampprior.
/// loss:smim adds, when beta is 1 (always in evaluations), -(a + b + c + d)/2 at sampled codes and their images (the decoder's means,
/// detached; sampled pixel by pixel for an autoregressive decoder), with the score-function term and d = a or q_x:vampprior. Normal
/// densities in the losses leave out the constant with 2 pi, which shifts the MIM losses. beta = min(1, epoch/warmup). The sampled codes of a
/// loss come from the posteriors of the first pseudo-inputs in order, one each, as in the original, or of random ones with
/// sample_components; where an analysis asks for codes of the prior, pseudo-inputs are always chosen at random.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HierarchicalConfig {
    /// Loss.
    pub loss: HierarchicalLoss,
    /// Prior of the top level.
    pub prior: TopPrior,
    /// q(x) in the MIM losses.
    pub q_x: ImageMarginal,
    /// Pseudo-inputs, and pseudo-codes.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub components: usize,
    /// Start pseudo-inputs from the first training images.
    pub training_data_init: bool,
    /// Choose pseudo-inputs at random on the sampled branch of the loss.
    pub sample_components: bool,
    /// Epochs until beta is 1.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub warmup: u64,
}

impl Default for HierarchicalConfig {
    fn default() -> Self {
        Self {
            loss: HierarchicalLoss::Vae,
            prior: TopPrior::Vampprior,
            q_x: ImageMarginal::Marginal,
            components: 500,
            training_data_init: false,
            sample_components: false,
            warmup: 100,
        }
    }
}

impl HierarchicalConfig {
    /// The model on the given parts.
    ///
    /// # Errors
    /// [`BuildError`] when options contradict each other or a part does not fit.
    pub fn model(&self, parts: &Parts<'_>) -> Result<HierarchicalObjective, BuildError> {
        if self.loss == HierarchicalLoss::Vae && self.q_x == ImageMarginal::Vampprior {
            return Err(BuildError::new("hvae", "q_x:vampprior has no place in loss:vae; use loss:amim or loss:smim, or leave it out"));
        }
        let (context, shape) = (parts.context, parts.data.shape);
        let latents = parts.encoder.latents_for(shape);
        let encoder: BoxedEncoder = Erased::new(parts.encoder.build(shape, context)?);
        if encoder.as_hierarchy().is_none() {
            return Err(BuildError::new("hvae", "the encoder has no levels to draw codes from; use gated_mlp or gated_conv"));
        }
        if encoder.as_hierarchy().is_some_and(Hierarchy::is_ladder) {
            return Err(BuildError::new(
                "hvae",
                "the encoder is a ladder, which this objective cannot combine with the prior; use objective `hit`",
            ));
        }
        let decoder = parts.decoder.build_for(&latents, Target::Inputs(shape), context)?;
        let device = context.device.clone().without_autodiff();
        let blank: Vec<Tensor<2>> = latents.iter().map(|&latent| Tensor::zeros([1, latent], &device)).collect();
        if decoder.valid().decode(&blank, None).downcast::<Bernoulli>().is_none() {
            return Err(BuildError::new("hvae", "the decoder is not Bernoulli; use gated_mlp, gated_conv or pixel_conv"));
        }
        check_levels(&encoder, &decoder, shape, &device)?;
        let features = shape.iter().product();
        let start = if self.training_data_init { AROUND_DATA } else { DARK };
        let pseudo = (self.prior == TopPrior::Vampprior).then(|| PseudoInputs::new(self.components, features, start, context));
        let pseudo_codes = match self.q_x {
            ImageMarginal::Marginal => Vec::new(),
            ImageMarginal::Vampprior => latents.iter().map(|&latent| context.normal([self.components, latent], 0.05, 0.01)).collect(),
        };
        Ok(HierarchicalObjective { encoder, decoder, pseudo, pseudo_codes, latents, shape, config: self.clone(), prepared: None })
    }
}

#[typetag::serde(name = "hvae")]
impl ObjectiveConfig for HierarchicalConfig {
    fn build(&self, parts: &Parts<'_>) -> Result<Box<dyn Objective>, BuildError> {
        Ok(Box::new(self.model(parts)?))
    }

    fn recipe(&self) -> Recipe {
        Recipe {
            decoder: "gated_conv",
            optimiser: "adam_norm_grad",
            schedule: "constant",
            strategy: "oneshot",
            learning_rate: 5e-4,
            epochs: 2000,
            batch_size: 100,
            average: None,
        }
    }

    fn quantities(&self) -> Vec<Quantity> {
        vec![
            Quantity::new("loss", "nats", "batch mean of the loss; beta is 1 in evaluations", Direction::Minimise),
            Quantity::new("distortion", "nats", "-mean ln p(x|z), summed over pixels", Direction::Minimise),
            Quantity::new(
                "rate",
                "nats",
                "mean ln q(z|x) - ln p(z) with one code, all levels: upper bound on I(x;z) in expectation",
                Direction::Neutral,
            )
            .possibly_infinite(),
            Quantity::new(
                "negative_evidence_bound",
                "nats",
                "distortion plus rate: single-sample upper bound on -ln p(x)",
                Direction::Minimise,
            )
            .possibly_infinite(),
            Quantity::new("beta", "1", "weight of the rate or of the encoding joint in this epoch", Direction::Neutral),
        ]
    }
}

ibhost_framework::register! {
    Objective: HierarchicalConfig as ObjectiveConfig, aliases: [],
    paper: "Livne et al. 2019, arXiv:1910.03175; Tomczak & Welling 2018, arXiv:1705.07120",
    example: "hvae/loss:smim|components:500", model: HierarchicalObjective, offers: [Encode, Reconstruct, Sample, LogDensity]
}

/// The model of [`HierarchicalConfig`] with its losses.
#[derive(Module, Debug)]
pub struct HierarchicalObjective {
    /// q(z|x).
    pub encoder: BoxedEncoder,
    /// p(x|z) and the priors below the top.
    pub decoder: BoxedDecoder,
    /// Pseudo-inputs of the VampPrior.
    pub pseudo: Option<PseudoInputs>,
    /// Pseudo-codes of q(x), one tensor `[components, latent]` a level; empty without them.
    pub pseudo_codes: Vec<Param<Tensor<2>>>,
    #[module(skip)]
    latents: Vec<usize>,
    #[module(skip)]
    shape: [usize; 3],
    #[module(skip)]
    config: HierarchicalConfig,
    /// The components of the top prior, in a copy for evaluations.
    #[module(skip)]
    prepared: Option<Normal>,
}

/// Log densities of a batch in nats without the constant of the normals, `[batch]` each.
#[derive(Clone, Debug)]
pub struct Levels {
    /// ln p(x|z).
    pub likelihood: Tensor<1>,
    /// ln p of the levels below the top, given those above.
    pub below: Tensor<1>,
    /// ln p of the top level.
    pub top: Tensor<1>,
    /// ln q(z|x), all levels.
    pub posterior: Tensor<1>,
}

impl Levels {
    /// ln q(z|x) - ln p(z), `[batch]`.
    pub fn rate(&self) -> Tensor<1> {
        self.posterior.clone() - self.below.clone() - self.top.clone()
    }
}

/// A pass over data: the densities, codes (bottom first), posteriors and the distribution over images.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Log densities.
    pub levels: Levels,
    /// Codes, bottom first.
    pub codes: Vec<Tensor<2>>,
    /// q of every level, bottom first.
    pub posteriors: Vec<BoxedDistribution>,
    /// p(x|z).
    pub density: BoxedDistribution,
}

fn flat(images: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = images.dims();
    images.reshape([batch, channels * height * width])
}

/// ln N(z; mean, diag(scale^2)) without the constant with 2 pi, `[batch]`.
pub fn normal_without_constant(z: Tensor<2>, mean: Tensor<2>, scale: Tensor<2>) -> Tensor<1> {
    let latent = z.dims()[1] as f64;
    normal_log_prob(z, mean, scale).add_scalar(latent * HALF_LN_2PI)
}

/// Refuses posteriors and priors of levels that are not diagonal normals, of which all densities of this objective are made.
fn check_levels(encoder: &BoxedEncoder, decoder: &BoxedDecoder, shape: [usize; 3], device: &Device) -> Result<(), BuildError> {
    let refuse = |problem: String| Err(BuildError::new("hvae", problem));
    let [channels, height, width] = shape;
    let (encoder, decoder) = (encoder.valid(), decoder.valid());
    let Some(hierarchy) = encoder.as_hierarchy() else { return Ok(()) };
    let features = hierarchy.features(Tensor::zeros([1, channels, height, width], device));
    let top = features.len() - 1;
    let mut above: Vec<Tensor<2>> = Vec::new();
    for level in (0..=top).rev() {
        let posterior = hierarchy.level(level, features[level].clone(), &above);
        if posterior.as_normal().is_none() {
            return refuse(format!(
                "the encoder's posterior of level {} is {}, and the densities of this loss and the components of its VampPrior are those of \
                 diagonal normals\n  hint: use `--encoder gated_mlp` or `--encoder gated_conv`",
                level + 1,
                posterior.family()
            ));
        }
        let prior = if level < top { decoder.prior(level, &above) } else { None };
        if level < top && prior.as_ref().is_none_or(|prior| prior.as_normal().is_none()) {
            let found = prior.map_or("has none", |prior| prior.family());
            return refuse(format!(
                "the decoder must give level {} of the code, which lies below the top, a diagonal normal as its prior, and it {found}\n  hint: \
                 use `--decoder gated_mlp`, `gated_conv` or `pixel_conv`, or a code of one level",
                level + 1
            ));
        }
        above.insert(0, posterior.mean());
    }
    Ok(())
}

fn normal_part(z: Tensor<2>, distribution: &dyn Distribution) -> Tensor<1> {
    let (mean, scale) = checked(distribution.as_normal());
    normal_without_constant(z, mean, scale)
}

/// ln of the equal mixture of `components` at z without the constant with 2 pi, `[batch]`: the VampPrior.
pub fn vamp_prior(z: Tensor<2>, components: &Normal) -> Tensor<1> {
    let latent = z.dims()[1] as f64;
    normal_mixture_log_prob(z, components.mean.clone(), components.scale.clone(), None).add_scalar(latent * HALF_LN_2PI)
}

impl HierarchicalObjective {
    /// beta at `epoch`, from 1.
    pub fn beta(&self, epoch: u64) -> f64 {
        if self.config.warmup == 0 { 1.0 } else { (epoch as f64 / self.config.warmup as f64).min(1.0) }
    }

    /// # Panics
    /// Never: an objective without levels is not built.
    fn hierarchy(&self) -> &dyn Hierarchy {
        match self.encoder.as_hierarchy() {
            Some(hierarchy) => hierarchy,
            None => unreachable!("checked when the objective was built"),
        }
    }

    fn images(&self, flat: Tensor<2>) -> Tensor<4> {
        let [channels, height, width] = self.shape;
        let batch = flat.dims()[0];
        flat.reshape([batch, channels, height, width])
    }

    /// Posteriors of the pseudo-inputs, which are the components of the top prior.
    pub fn components(&self) -> Option<Normal> {
        let normal = |(mean, scale)| Normal { mean, scale };
        let encoded = || self.pseudo.as_ref().map(|pseudo| normal(checked(self.hierarchy().top(self.images(pseudo.unit())).as_normal())));
        self.prepared.clone().or_else(encoded)
    }

    /// ln p of the top level without the constant, `[batch]`.
    fn top_prior(z: Tensor<2>, components: Option<&Normal>) -> Tensor<1> {
        let [batch, _] = z.dims();
        match components {
            Some(components) => vamp_prior(z, components),
            None => z.powi_scalar(2).sum_dim(1).reshape([batch]).mul_scalar(-0.5),
        }
    }

    /// ln p of the levels below the top without the constant, `[batch]`.
    fn below(&self, codes: &[Tensor<2>]) -> Tensor<1> {
        let top = codes.len() - 1;
        let zero = Tensor::zeros([codes[top].dims()[0]], &codes[top].device());
        let prior = |level: usize| checked(self.decoder.prior(level, &codes[level + 1..]));
        (0..top).fold(zero, |sum, level| sum + normal_part(codes[level].clone(), &*prior(level)))
    }

    /// Encodes, samples and decodes inputs `[batch, channels, height, width]`.
    pub fn pass(&self, inputs: Tensor<4>, components: Option<&Normal>, draws: &mut Draws) -> Pass {
        let (codes, posteriors) = checked(self.draw_levels(&self.features(inputs.clone()), "posterior", draws).ok());
        let density = self.decoder.decode(&codes, Some(inputs.clone()));
        let levels = self.densities(flat(inputs), &codes, &posteriors, &*density, components);
        Pass { levels, codes, posteriors, density }
    }

    fn densities(
        &self,
        x: Tensor<2>,
        codes: &[Tensor<2>],
        posteriors: &[BoxedDistribution],
        density: &dyn Distribution,
        components: Option<&Normal>,
    ) -> Levels {
        let parts = codes.iter().zip(posteriors).map(|(code, posterior)| normal_part(code.clone(), &**posterior));
        let zero = Tensor::zeros([x.dims()[0]], &x.device());
        Levels {
            likelihood: checked(density.log_prob(x).ok()),
            below: self.below(codes),
            top: Self::top_prior(codes[codes.len() - 1].clone(), components),
            posterior: parts.fold(zero, |sum, part| sum + part),
        }
    }

    /// ln q(x) as the mixture over pseudo-codes, `[batch]`; nothing without them.
    ///
    /// # Panics
    /// Never: other pixels than Bernoulli variables are refused.
    fn pseudo_marginal(&self, x: Tensor<2>) -> Option<Tensor<1>> {
        if self.pseudo_codes.is_empty() {
            return None;
        }
        let codes: Vec<Tensor<2>> = self.pseudo_codes.iter().map(|codes| codes.val().clamp(0.0, 1.0)).collect();
        let pixels = self.decoder.decode(&codes, None);
        let [on, off] = checked(pixels.downcast::<Bernoulli>()).log_probabilities();
        let [batch, _] = x.dims();
        let components = on.dims()[0];
        // sum_i x_i ln p_i + (1 - x_i) ln (1 - p_i) for all pairs is one matrix product.
        let logit = on - off.clone();
        let each = x.matmul(logit.transpose()) + off.sum_dim(1).reshape([1, components]);
        Some(log_mean_exp(each, 1).reshape([batch]))
    }

    /// Loss of every sample of the data branch, `[batch]`.
    pub fn data_loss(&self, x: Tensor<2>, levels: &Levels, beta: f64) -> Tensor<1> {
        let Levels { likelihood: a, below, top, posterior: c } = levels.clone();
        if self.config.loss == HierarchicalLoss::Vae {
            return (c - below - top).mul_scalar(beta) - a;
        }
        let b = below + top.mul_scalar(beta);
        let d = self.pseudo_marginal(x).unwrap_or_else(|| a.clone() + b.clone() - c.clone());
        (a + b + (c + d).mul_scalar(beta)).mul_scalar(-0.5)
    }

    fn total(&self, inputs: Tensor<4>, beta: f64, draws: &mut Draws) -> (Tensor<1>, Levels) {
        let (count, device) = (inputs.dims()[0], inputs.device());
        let components = self.components();
        let pass = self.pass(inputs.clone(), components.as_ref(), draws);
        let mut total = self.data_loss(flat(inputs), &pass.levels, beta).mean();
        if self.config.loss == HierarchicalLoss::Smim && beta >= 1.0 {
            total = total + self.sampled_loss(count, components.as_ref(), &device, draws).mean().mul_scalar(beta);
        }
        (total, pass.levels)
    }

    fn measures(total: &Tensor<1>, levels: &Levels, beta: f64) -> Vec<Measure> {
        let (distortion, rate) = (levels.likelihood.clone().mean().neg(), levels.rate().mean());
        vec![
            Measure::new("loss", total.clone()),
            Measure::new("distortion", distortion.clone()),
            Measure::new("rate", rate.clone()),
            Measure::new("negative_evidence_bound", distortion + rate),
            Measure::new("beta", total.full_like(beta)),
        ]
    }
}

impl Objective for HierarchicalObjective {
    fn groups(&self) -> Vec<ParameterGroup> {
        let decoder =
            ParameterGroup { name: "decoder".to_owned(), prefixes: ["decoder", "pseudo", "pseudo_codes"].map(str::to_owned).to_vec() };
        vec![ParameterGroup::field("encoder"), decoder]
    }

    fn loss(&self, _phase: &str, at: Progress, batch: &Batch, draws: &mut Draws) -> Loss {
        let beta = self.beta(at.epoch);
        let (mut total, levels) = self.total(batch.inputs.clone(), beta, draws);
        if let Some(penalty) = self.encoder.penalty() {
            total = total + penalty;
        }
        Loss { measures: Self::measures(&total, &levels, beta), total }
    }

    fn prepare_evaluation(&mut self) {
        self.prepared = self.components();
    }

    fn evaluate(&self, _at: Progress, batch: &Batch, draws: &mut Draws) -> Vec<Measure> {
        let (total, levels) = self.total(batch.inputs.clone(), 1.0, draws);
        Self::measures(&total, &levels, 1.0)
    }
}

impl PosteriorModel for HierarchicalObjective {
    fn posterior(&self, inputs: Tensor<4>) -> BoxedDistribution {
        self.encoder.encode(inputs)
    }
}

impl LatentModel for HierarchicalObjective {
    fn level_sizes(&self) -> Vec<usize> {
        self.latents.clone()
    }

    fn features(&self, inputs: Tensor<4>) -> Vec<Tensor<2>> {
        self.hierarchy().features(inputs)
    }

    fn level_posterior(&self, level: usize, features: Tensor<2>, above: &[Tensor<2>]) -> BoxedDistribution {
        self.hierarchy().level(level, features, above)
    }

    fn level_prior(&self, level: usize, above: &[Tensor<2>]) -> Result<BoxedDistribution, Undefined> {
        if level + 1 < self.latents.len() {
            return Ok(checked(self.decoder.prior(level, above)));
        }
        Ok(match self.components() {
            Some(Normal { mean, scale }) => NormalComponents { mean, scale, log_weights: None }.boxed(),
            None => StandardNormal::new([1, self.latents[level]], &self.device()).boxed(),
        })
    }

    fn sample_top(&self, count: usize, draws: &mut Draws) -> Result<Tensor<2>, Undefined> {
        Ok(self.chosen_top(Choice::Random, count, self.components().as_ref(), &self.device(), draws))
    }

    fn decoder(&self) -> &dyn Decoder {
        &*self.decoder
    }

    fn observed_features(&self) -> usize {
        self.shape.iter().product()
    }

    fn has_exact_rates(&self) -> bool {
        false
    }

    fn pseudo_inputs(&self) -> Option<Tensor<2>> {
        self.pseudo.as_ref().map(PseudoInputs::unit)
    }
}

mod sampled;
use sampled::Choice;
#[cfg(test)]
mod tests;
