//! Objective `hvae`: variational auto-encoder, A-MIM and S-MIM with codes of several levels, for binary images.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use ibhost_framework::build::BuildError;
use ibhost_framework::dataset::Batch;
use ibhost_framework::density::{Density, normal_log_prob};
use ibhost_framework::encoder::{BoxedEncoder, Hierarchy};
use ibhost_framework::generator::{BoxedGenerator, GenerativeModel, decoded_mean, decoded_sample};
use ibhost_framework::math::log_mean_exp;
use ibhost_framework::module::Erased;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{
    Direction, Loss, Measure, Objective, ObjectiveConfig, ParameterGroup, Parts, PosteriorModel, Progress, Quantity, Recipe,
};
use ibhost_framework::posterior::{Posterior, Undefined};
use ibhost_nets::ladder::sample_levels;
use ibhost_nets::pseudo_inputs::{PseudoInputs, Start, mixture_of_posteriors};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const HALF_LN_2PI: f64 = 0.918_938_533_204_672_7;
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
        let decoder: BoxedGenerator = Erased::new(parts.decoder.build_generator(&latents, shape, context)?);
        let device = context.device.clone().without_autodiff();
        let blank: Vec<Tensor<2>> = latents.iter().map(|&latent| Tensor::zeros([1, latent], &device)).collect();
        if !decoder.valid().generate(&blank, None).is_discrete() {
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
    pub decoder: BoxedGenerator,
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
    prepared: Option<Posterior>,
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
    pub posteriors: Vec<Posterior>,
    /// p(x|z).
    pub density: Density,
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
fn check_levels(encoder: &BoxedEncoder, decoder: &BoxedGenerator, shape: [usize; 3], device: &Device) -> Result<(), BuildError> {
    let refuse = |problem: String| Err(BuildError::new("hvae", problem));
    let [channels, height, width] = shape;
    let (encoder, decoder) = (encoder.valid(), decoder.valid());
    let Some(hierarchy) = encoder.as_hierarchy() else { return Ok(()) };
    let features = hierarchy.features(Tensor::zeros([1, channels, height, width], device));
    let top = features.len() - 1;
    let mut above: Vec<Tensor<2>> = Vec::new();
    for level in (0..=top).rev() {
        let posterior = hierarchy.level(level, features[level].clone(), &above);
        if posterior.as_diagonal().is_none() {
            return refuse(format!(
                "the encoder's posterior of level {} is {}, and the densities of this loss and the components of its VampPrior are those of \
                 diagonal normals\n  hint: use `--encoder gated_mlp` or `--encoder gated_conv`",
                level + 1,
                posterior.family()
            ));
        }
        let prior = if level < top { decoder.prior(level, &above) } else { None };
        if level < top && prior.as_ref().is_none_or(|prior| prior.as_diagonal().is_none()) {
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

/// # Panics
/// Never: see [`check_levels`].
fn checked<T>(found: Option<T>) -> T {
    found.unwrap_or_else(|| unreachable!("checked when the objective was built"))
}

fn normal_part(z: Tensor<2>, posterior: &Posterior) -> Tensor<1> {
    let (mean, scale) = moments(posterior);
    normal_without_constant(z, mean, scale)
}

/// ln of the equal mixture of `components` at z without the constant with 2 pi, `[batch]`: the VampPrior. Nothing unless they are diagonal
/// normals.
pub fn vamp_prior(z: Tensor<2>, components: &Posterior) -> Option<Tensor<1>> {
    let latent = z.dims()[1] as f64;
    Some(mixture_of_posteriors(z, components)?.add_scalar(latent * HALF_LN_2PI))
}

/// Means and standard deviations of a level.
fn moments(posterior: &Posterior) -> (Tensor<2>, Tensor<2>) {
    let (mean, scale) = checked(posterior.as_diagonal());
    (mean.clone(), scale.clone())
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
    pub fn components(&self) -> Option<Posterior> {
        let encoded = || self.pseudo.as_ref().map(|pseudo| self.hierarchy().top(self.images(pseudo.unit())));
        self.prepared.clone().or_else(encoded)
    }

    /// ln p of the top level without the constant, `[batch]`.
    fn top_prior(z: Tensor<2>, components: Option<&Posterior>) -> Tensor<1> {
        let [batch, _] = z.dims();
        match components {
            Some(components) => checked(vamp_prior(z, components)),
            None => z.powi_scalar(2).sum_dim(1).reshape([batch]).mul_scalar(-0.5),
        }
    }

    /// ln p of the levels below the top without the constant, `[batch]`.
    fn below(&self, codes: &[Tensor<2>]) -> Tensor<1> {
        let top = codes.len() - 1;
        let zero = Tensor::zeros([codes[top].dims()[0]], &codes[top].device());
        let prior = |level: usize| checked(self.decoder.prior(level, &codes[level + 1..]));
        (0..top).fold(zero, |sum, level| sum + normal_part(codes[level].clone(), &prior(level)))
    }

    /// Encodes, samples and decodes inputs `[batch, channels, height, width]`.
    pub fn pass(&self, inputs: Tensor<4>, components: Option<&Posterior>, draws: &mut Draws) -> Pass {
        let device = inputs.device();
        let features = self.hierarchy().features(inputs.clone());
        let drawn =
            sample_levels(self.hierarchy(), &features, |level, shape| draws.normal(&format!("posterior z{}", level + 1), shape, &device));
        let (codes, posteriors): (Vec<_>, Vec<_>) = drawn.into_iter().unzip();
        let density = self.decoder.generate(&codes, Some(inputs.clone()));
        let levels = self.densities(flat(inputs), &codes, &posteriors, &density, components);
        Pass { levels, codes, posteriors, density }
    }

    fn densities(
        &self,
        x: Tensor<2>,
        codes: &[Tensor<2>],
        posteriors: &[Posterior],
        density: &Density,
        components: Option<&Posterior>,
    ) -> Levels {
        let parts = codes.iter().zip(posteriors).map(|(code, posterior)| normal_part(code.clone(), posterior));
        let zero = Tensor::zeros([x.dims()[0]], &x.device());
        Levels {
            likelihood: density.log_prob(x),
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
        let (on, off) = match self.decoder.generate(&codes, None) {
            Density::Bernoulli { probabilities } => (probabilities.clone(), probabilities.neg().add_scalar(1.0)),
            Density::GuardedBernoulli { probabilities, guard } => {
                (probabilities.clone().add_scalar(guard), probabilities.neg().add_scalar(1.0).add_scalar(guard))
            }
            density => unreachable!("an objective with other pixels than Bernoulli variables is not built: {density:?}"),
        };
        let [batch, _] = x.dims();
        let components = on.dims()[0];
        // sum_i x_i ln p_i + (1 - x_i) ln (1 - p_i) for all pairs is one matrix product.
        let off = off.log();
        let logit = on.log() - off.clone();
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

    /// Flat codes split into levels, bottom first.
    fn split(&self, codes: Tensor<2>) -> Vec<Tensor<2>> {
        let mut from = 0;
        let mut next = |&latent: &usize| {
            from += latent;
            codes.clone().narrow(1, from - latent, latent)
        };
        self.latents.iter().map(&mut next).collect()
    }

    fn all_latents(&self) -> f64 {
        self.latents.iter().sum::<usize>() as f64
    }
}

impl Objective for HierarchicalObjective {
    fn groups(&self) -> Vec<ParameterGroup> {
        let decoder =
            ParameterGroup { name: "decoder".to_owned(), prefixes: ["decoder", "pseudo", "pseudo_codes"].map(str::to_owned).to_vec() };
        vec![ParameterGroup::field("encoder"), decoder]
    }

    fn loss(&self, phase: &str, batch: &Batch, draws: &mut Draws) -> Loss {
        self.loss_at(phase, Progress::at(self.config.warmup.max(1), 0), batch, draws)
    }

    fn loss_at(&self, _phase: &str, progress: Progress, batch: &Batch, draws: &mut Draws) -> Loss {
        let beta = self.beta(progress.epoch);
        let (mut total, levels) = self.total(batch.inputs.clone(), beta, draws);
        if let Some(penalty) = self.encoder.penalty() {
            total = total + penalty;
        }
        Loss { measures: Self::measures(&total, &levels, beta), total }
    }

    fn prepare_evaluation(&mut self) {
        self.prepared = self.components();
    }

    fn evaluate(&self, batch: &Batch, draws: &mut Draws) -> Vec<Measure> {
        let (total, levels) = self.total(batch.inputs.clone(), 1.0, draws);
        Self::measures(&total, &levels, 1.0)
    }
}

impl PosteriorModel for HierarchicalObjective {
    fn posterior(&self, inputs: Tensor<4>) -> Posterior {
        self.encoder.encode(inputs)
    }
}

impl GenerativeModel for HierarchicalObjective {
    fn sample_codes(&self, inputs: Tensor<4>, draws: &mut Draws) -> Tensor<2> {
        let device = inputs.device();
        let features = self.hierarchy().features(inputs);
        let drawn =
            sample_levels(self.hierarchy(), &features, |level, shape| draws.normal(&format!("posterior z{}", level + 1), shape, &device));
        Tensor::cat(drawn.into_iter().map(|(code, _)| code).collect(), 1)
    }

    fn likelihood(&self, codes: Tensor<2>, teacher: Option<Tensor<4>>) -> Density {
        self.decoder.generate(&self.split(codes), teacher)
    }

    fn prior_log_prob(&self, codes: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        let codes = self.split(codes);
        let top = Self::top_prior(codes[codes.len() - 1].clone(), self.components().as_ref());
        Ok((top + self.below(&codes)).sub_scalar(self.all_latents() * HALF_LN_2PI))
    }

    fn sample_prior(&self, count: usize, draws: &mut Draws) -> Result<Tensor<2>, Undefined> {
        let device = self.collect_devices(Vec::new()).into_iter().next().unwrap_or_default();
        Ok(Tensor::cat(self.prior_codes(count, &device, draws), 1))
    }

    fn posterior_log_prob(&self, inputs: Tensor<4>, codes: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        let codes = self.split(codes);
        let features = self.hierarchy().features(inputs);
        let zero = Tensor::zeros([codes[0].dims()[0]], &codes[0].device());
        let each = |sum: Tensor<1>, level: usize| {
            let posterior = self.hierarchy().level(level, features[level].clone(), &codes[level + 1..]);
            sum + normal_part(codes[level].clone(), &posterior)
        };
        Ok((0..codes.len()).fold(zero, each).sub_scalar(self.all_latents() * HALF_LN_2PI))
    }

    fn level_sizes(&self, _latent: usize) -> Vec<usize> {
        self.latents.clone()
    }

    fn level_rates(&self, inputs: Tensor<4>, draws: &mut Draws) -> Result<Vec<Tensor<1>>, Undefined> {
        let components = self.components();
        let Pass { codes, posteriors, .. } = self.pass(inputs, components.as_ref(), draws);
        let rate = |level: usize| {
            let posterior = normal_part(codes[level].clone(), &posteriors[level]);
            match self.decoder.prior(level, &codes[level + 1..]) {
                Some(prior) => posterior - normal_part(codes[level].clone(), &prior),
                None => posterior - Self::top_prior(codes[level].clone(), components.as_ref()),
            }
        };
        Ok((0..codes.len()).map(rate).collect())
    }

    fn decode_mean(&self, codes: Tensor<2>, draws: &mut Draws) -> Tensor<2> {
        decoded_mean(&*self.decoder, &self.split(codes), self.shape.iter().product(), draws)
    }

    fn decode_sample(&self, codes: Tensor<2>, draws: &mut Draws) -> Tensor<2> {
        decoded_sample(&*self.decoder, &self.split(codes), self.shape.iter().product(), draws)
    }

    fn pseudo_inputs(&self) -> Option<Tensor<2>> {
        self.pseudo.as_ref().map(PseudoInputs::unit)
    }

    fn log_evidence(&self, inputs: Tensor<4>, samples: usize, draws: &mut Draws) -> Result<Tensor<1>, Undefined> {
        let (batch, device) = (inputs.dims()[0], inputs.device());
        let x = flat(inputs.clone());
        // Neither the features of the images nor the components of the prior depend on the codes.
        let (features, components) = (self.hierarchy().features(inputs.clone()), self.components());
        let mut weights = Vec::with_capacity(samples);
        for _ in 0..samples.max(1) {
            let drawn = sample_levels(self.hierarchy(), &features, |level, shape| {
                draws.normal(&format!("importance z{}", level + 1), shape, &device)
            });
            let (codes, posteriors): (Vec<_>, Vec<_>) = drawn.into_iter().unzip();
            let density = self.decoder.generate(&codes, Some(inputs.clone()));
            let levels = self.densities(x.clone(), &codes, &posteriors, &density, components.as_ref());
            weights.push((levels.likelihood.clone() - levels.rate()).reshape([batch, 1]));
        }
        Ok(log_mean_exp(Tensor::cat(weights, 1), 1).reshape([batch]))
    }
}

mod sampled;
#[cfg(test)]
mod tests;
