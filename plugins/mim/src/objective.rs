//! Objective `mim`: mutual information machine, variational auto-encoder or auto-encoder on one pair of networks.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ibhost_framework::build::BuildError;
use ibhost_framework::dataset::Batch;
use ibhost_framework::decoder::{BoxedDecoder, Decoder, Target};
use ibhost_framework::distributions::{
    BoxedDistribution, CentredNormal, Distribution, Normal, NormalComponents, NormalMixture, Support, Undefined,
};
use ibhost_framework::encoder::BoxedEncoder;
use ibhost_framework::latent_model::LatentModel;
use ibhost_framework::math::weighted_sum;
use ibhost_framework::module::Erased;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{
    Direction, Loss, Measure, Objective, ObjectiveConfig, ParameterGroup, Parts, PosteriorModel, Progress, Quantity, Recipe,
};
use ibhost_nets::pseudo_inputs::{PseudoInputs, Start};

use crate::mixture_net::MixtureNet;
use crate::prior::{BINARY_MARGIN, KnownMixture, LearnedBernoulli, LearnedMixture, LearnedNormal, Marginal};
use crate::terms::{Criterion, LogTerms, checked, per_sample, with_choice, with_score_function};

mod config;

pub use config::{CodePrior, InputMarginal, MimConfig, SampledMarginal};

impl MimConfig {
    /// The model on the given parts.
    ///
    /// # Errors
    /// [`BuildError`] when options contradict each other or a part does not fit.
    pub fn model(&self, parts: &Parts<'_>) -> Result<MimObjective, BuildError> {
        self.check()?;
        let context = parts.context;
        let [channels, height, width] = parts.data.shape;
        let shape = match (self.self_supervised, channels) {
            (false, _) => parts.data.shape,
            (true, 2) => [1, height, width],
            (true, n) => {
                let problem =
                    format!("self_supervised:true needs samples of two channels, not {n}; use a data set of pairs, e.g. toy/pairs:true");
                return Err(BuildError::new("mim", problem));
            }
        };
        let latent: usize = parts.encoder.latents_for(parts.data.shape).iter().sum();
        let features = shape.iter().product();
        let encoder: BoxedEncoder = Erased::new(match self.q_zx_gmm {
            0 => parts.encoder.build(shape, context)?,
            components => Box::new(MixtureNet::encoder(parts, shape, components)?),
        });
        let decoder: BoxedDecoder = match self.p_xz_gmm {
            0 => parts.decoder.build_for(&[latent], Target::Inputs(shape), context)?,
            components => {
                let decoder: Box<dyn Decoder> = Box::new(MixtureNet::decoder(parts, latent, shape, components)?);
                Erased::new(decoder)
            }
        };
        let device = context.device.clone().without_autodiff();
        let blank = Tensor::zeros([1, shape[0], height, width], &device);
        let posterior = encoder.valid().encode(blank);
        // The code of an auto-encoder is a point with the smallest scale, whatever the encoder gives beside the mean.
        let point = self.loss == Criterion::Ae && !posterior.is_stochastic();
        if posterior.as_normal().is_none() && self.q_zx_gmm == 0 && !point {
            let problem = format!(
                "the encoder's posterior is {}, and the densities of this loss are those of diagonal normals\n  hint: use an encoder with \
                 one standard deviation for each dimension, e.g. `--encoder vector_mlp`{}",
                posterior.family(),
                if posterior.is_stochastic() { "" } else { ", or loss:ae for a deterministic code" }
            );
            return Err(BuildError::new("mim", problem));
        }
        if decoder.is_autoregressive() {
            return Err(BuildError::new(
                "mim",
                "the decoder is autoregressive, and this objective shows it no earlier values\n  hint: use another decoder, e.g. `--decoder \
                 vector_mlp`, or objective `hvae`",
            ));
        }
        let input = decoder.valid().decode(&[Tensor::zeros([1, latent], &device)], None);
        let refuse = |problem: String| Err(BuildError::new("mim", problem));
        if let Err(error) = input.log_prob(input.mean()) {
            return refuse(format!("the decoder's p(x|z) cannot be scored: {error}"));
        }
        let noise = Tensor::zeros([1, input.noise_features()], &device);
        if self.has_sampled_branch() && input.support() != Support::Binary && input.rsample_with_choice(noise).is_none() {
            return refuse(format!(
                "sampled:true needs samples of p(x|z) that gradients flow through, which a {} does not have\n  hint: use a decoder of normals \
                 or Bernoulli variables, or leave sampled out",
                input.family()
            ));
        }
        if self.q_x == InputMarginal::GmmMarginal && NormalComponents::equal(&*input).is_none() && input.repeat(1).is_none() {
            return refuse(format!(
                "q_x:gmm_marginal is a mixture of the decoder's densities, and {}",
                Undefined::Component(input.family())
            ));
        }
        let min_scale = self.min_scale();
        let p_z = match (self.p_z, self.p_z_gmm) {
            (CodePrior::Anchor | CodePrior::Marginal, _) => Marginal::fixed(),
            (CodePrior::Prior, 0) => Marginal { normal: Some(LearnedNormal::new(latent, min_scale, context)), ..Marginal::fixed() },
            (CodePrior::Prior, n) => Marginal { mixture: Some(LearnedMixture::packed(n, latent, min_scale, context)), ..Marginal::fixed() },
            (CodePrior::GmmMarginal, n) => {
                Marginal { pseudo: Some(PseudoInputs::new(n, features, Start::Data { noise: 0.0 }, context)), ..Marginal::fixed() }
            }
        };
        let q_x = match (self.q_x, self.q_x_gmm, input.support() == Support::Binary) {
            (InputMarginal::Marginal, ..) => Marginal::fixed(),
            (InputMarginal::Anchor, ..) => match KnownMixture::of(context) {
                Some(known) => Marginal { known: Some(known), ..Marginal::fixed() },
                None => return Err(BuildError::new("mim", "q_x:anchor is the density of the data, which is known of toy data sets only")),
            },
            (InputMarginal::Prior, _, true) => {
                Marginal { bernoulli: Some(LearnedBernoulli::new(features, min_scale, context)), ..Marginal::fixed() }
            }
            (InputMarginal::Prior, 0, false) => {
                Marginal { normal: Some(LearnedNormal::new(features, min_scale, context)), ..Marginal::fixed() }
            }
            (InputMarginal::Prior, n, false) => {
                Marginal { mixture: Some(LearnedMixture::random(n, features, min_scale, context)), ..Marginal::fixed() }
            }
            (InputMarginal::GmmMarginal, n, _) => {
                let start = Start::Normal { mean: 0.0, std: 1.0 };
                Marginal { pseudo: Some(PseudoInputs::new(n, latent, start, context)), ..Marginal::fixed() }
            }
        };
        let binary = input.support() == Support::Binary;
        Ok(MimObjective { encoder, decoder, p_z, q_x, latent, binary, shape, config: self.clone() })
    }
}

#[typetag::serde(name = "mim")]
impl ObjectiveConfig for MimConfig {
    fn build(&self, parts: &Parts<'_>) -> Result<Box<dyn Objective>, BuildError> {
        Ok(Box::new(self.model(parts)?))
    }

    fn recipe(&self) -> Recipe {
        Recipe {
            decoder: "vector_mlp",
            optimiser: "adam",
            schedule: "noam",
            strategy: "oneshot",
            learning_rate: 1e-3,
            epochs: 50,
            batch_size: 128,
            average: None,
        }
    }

    fn quantities(&self) -> Vec<Quantity> {
        vec![
            Quantity::new(
                "loss",
                "nats",
                "batch mean of the loss, halved when there is a sampled branch; beta is 1 in evaluations",
                Direction::Minimise,
            ),
            Quantity::new("distortion", "nats", "-mean ln p(x|z) on the data branch, summed over features", Direction::Minimise),
            Quantity::new("prior_cross_entropy", "nats", "-mean ln p(z) on the data branch", Direction::Neutral),
            Quantity::new("posterior_entropy", "nats", "-mean ln q(z|x) on the data branch", Direction::Neutral),
            Quantity::new(
                "nll",
                "nats",
                "-mean ln q(x) on the data branch; for q_x:marginal the negative single-sample evidence bound",
                Direction::Minimise,
            ),
            Quantity::new("beta", "1", "weight of the rate or of the encoding joint in this epoch", Direction::Neutral),
        ]
    }
}

ibhost_framework::register! {
    Objective: MimConfig as ObjectiveConfig, aliases: [], paper: "Livne et al. 2019, arXiv:1910.03175",
    example: "mim/sampled:true|q_x_sample:decoder|warmup:3|min_logvar:6", model: MimObjective, offers: [Encode, Reconstruct, Sample, LogDensity]
}

/// The model of [`MimConfig`] with its losses.
#[derive(Module, Debug)]
pub struct MimObjective {
    /// q(z|x).
    pub encoder: BoxedEncoder,
    /// p(x|z).
    pub decoder: BoxedDecoder,
    /// Parameters of p(z).
    pub p_z: Marginal,
    /// Parameters of q(x).
    pub q_x: Marginal,
    latent: usize,
    binary: bool,
    #[module(skip)]
    shape: [usize; 3],
    #[module(skip)]
    config: MimConfig,
}

/// One branch: the densities, the input they were taken at and the code drawn from its posterior.
#[derive(Clone, Debug)]
pub struct Branch {
    /// Log densities.
    pub terms: LogTerms,
    /// Code drawn from q(z|x), `[batch, latent]`.
    pub code: Tensor<2>,
    /// Input, `[batch, features]`.
    pub input: Tensor<2>,
    /// Whether the input was sampled without reparameterisation.
    pub discrete: bool,
    /// ln of the weights of the mixture components that the samples behind the densities come from, `[batch]`, where there are mixtures.
    pub choice: Option<Tensor<1>>,
}

/// A sample of `distribution` that gradients flow through as far as they can, and ln of the weight of its component where that was a choice.
/// Of Bernoulli variables the probabilities themselves, a relaxation and no draw (Livne et al. 2019).
fn draw(distribution: &dyn Distribution, purpose: &str, draws: &mut Draws) -> (Tensor<2>, Option<Tensor<1>>) {
    let noise = draws.normal(purpose, [distribution.dims()[0], distribution.noise_features()], &distribution.device());
    distribution.rsample_with_choice(noise).unwrap_or_else(|| (distribution.mean(), None))
}

/// ln of `distribution` at `x`, `[batch]`; that it has one was checked when the objective was built.
fn score(distribution: &dyn Distribution, x: Tensor<2>) -> Tensor<1> {
    checked(distribution.log_prob(x).ok())
}

/// ln of the probability of both choices, where there are any.
fn both(first: Option<Tensor<1>>, second: Option<Tensor<1>>) -> Option<Tensor<1>> {
    match (first, second) {
        (Some(first), Some(second)) => Some(first + second),
        (first, second) => first.or(second),
    }
}

/// ln p(x|z) + ln p(z) - ln q(z|x): the logarithm of an importance weight, whose expectation over q is p(x); all `[batch]`.
fn importance_weight(likelihood: Tensor<1>, prior: Tensor<1>, posterior: Tensor<1>) -> Tensor<1> {
    weighted_sum([likelihood, prior, posterior], [1.0, 1.0, -1.0])
}

impl MimObjective {
    /// beta at `epoch`, from 1.
    pub fn beta(&self, epoch: u64) -> f64 {
        match (self.config.loss, self.config.warmup) {
            (Criterion::Ae, _) => 0.0,
            (_, 0) => 1.0,
            (_, warmup) => (epoch as f64 / warmup as f64).min(1.0),
        }
    }

    fn images(&self, flat: Tensor<2>) -> Tensor<4> {
        let [channels, height, width] = self.shape;
        let batch = flat.dims()[0];
        flat.reshape([batch, channels, height, width])
    }

    fn flat(images: Tensor<4>) -> Tensor<2> {
        let [batch, channels, height, width] = images.dims();
        images.reshape([batch, channels * height * width])
    }

    /// What is encoded and what is reconstructed.
    fn source_and_target(&self, inputs: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
        if self.config.self_supervised {
            (Self::flat(inputs.clone().narrow(1, 1, 1)), Self::flat(inputs.narrow(1, 0, 1)))
        } else {
            let flat = Self::flat(inputs);
            (flat.clone(), flat)
        }
    }

    /// q(z|x); the scale of an auto-encoder is the smallest one.
    fn encode(&self, x: Tensor<2>) -> BoxedDistribution {
        let posterior = self.encoder.encode(self.images(x));
        if self.config.loss != Criterion::Ae {
            return posterior;
        }
        let mean = posterior.mean();
        Normal { scale: mean.full_like(self.config.min_scale()), mean }.boxed()
    }

    fn decode(&self, z: Tensor<2>) -> BoxedDistribution {
        self.decoder.decode(&[z], None)
    }

    /// x as the argument of a log density: binary values away from the ends, without gradient.
    fn scored(&self, x: Tensor<2>) -> Tensor<2> {
        if self.binary { x.detach().clamp(BINARY_MARGIN, 1.0 - BINARY_MARGIN) } else { x }
    }

    /// p(z) where it is a density of its own, for codes like `z`.
    fn prior(&self, z: &Tensor<2>) -> BoxedDistribution {
        let anchor = || CentredNormal { features: self.latent, scale: 1.0 + self.config.min_scale(), device: z.device() }.boxed();
        self.p_z.distribution(z, |u| self.encode(u)).unwrap_or_else(anchor)
    }

    /// ln q(x) where it is a density of its own.
    fn log_q_x(&self, x: Tensor<2>) -> Option<Tensor<1>> {
        Some(score(&*self.q_x.distribution(&x, |v| self.decode(v))?, x))
    }

    /// ln p(z) where it is a density of its own.
    fn log_p_z(&self, z: Tensor<2>) -> Tensor<1> {
        score(&*self.prior(&z), z)
    }

    /// The branch of encoded data: a code of q(z|source), and the densities at the target.
    pub fn data_branch(&self, source: Tensor<2>, target: Tensor<2>, draws: &mut Draws) -> Branch {
        let encoding = self.encode(source);
        let (code, choice) = draw(&*encoding, "posterior", draws);
        let density = self.decode(code.clone());
        let x = self.scored(target.clone());
        let likelihood = score(&*density, x.clone());
        let posterior = score(&*encoding, code.clone());
        let prior = if self.config.p_z == CodePrior::Marginal { posterior.clone() } else { self.log_p_z(code.clone()) };
        let marginal = self.log_q_x(x).unwrap_or_else(|| importance_weight(likelihood.clone(), prior.clone(), posterior.clone()));
        Branch { terms: LogTerms { likelihood, prior, posterior, marginal }, code, input: target, discrete: false, choice }
    }

    /// The branch of sampled codes `[batch, latent]`: inputs of p(x|codes), and the densities at both.
    pub fn sampled_branch(&self, codes: Tensor<2>, draws: &mut Draws) -> Branch {
        let density = self.decode(codes.clone());
        let (input, mut choice) = draw(&*density, "sampled inputs", draws);
        let encoding = self.encode(input.clone());
        let (code, second) = draw(&*encoding, "sampled posterior", draws);
        let x = self.scored(input.clone());
        let likelihood = score(&*density, x.clone());
        let posterior = score(&*encoding, codes.clone());
        let by_density = self.log_q_x(x.clone());
        let prior = match (&by_density, self.config.p_z) {
            (Some(marginal), CodePrior::Marginal) => posterior.clone() + marginal.clone() - likelihood.clone(),
            _ => self.log_p_z(codes),
        };
        let marginal = by_density.unwrap_or_else(|| match self.config.q_x_sample {
            SampledMarginal::Decoder => likelihood.clone(),
            SampledMarginal::Importance => {
                // Only here does the loss depend on the second code.
                choice = both(choice.take(), second);
                let again = score(&*self.decode(code.clone()), x);
                importance_weight(again, self.log_p_z(code.clone()), score(&*encoding, code.clone()))
            }
        });
        Branch { terms: LogTerms { likelihood, prior, posterior, marginal }, code, input, discrete: self.binary, choice }
    }

    /// Loss of every sample of a branch, `[batch]`.
    pub fn branch_loss(&self, branch: &Branch, beta: f64) -> Tensor<1> {
        let minus_h = self.config.loss == Criterion::Mim && self.config.entropy && !self.config.beta_in_minus_h;
        let loss = per_sample(self.config.loss, self.config.entropy, if minus_h { 1.0 } else { beta }, &branch.terms);
        let loss = if branch.discrete { with_score_function(loss, branch.terms.likelihood.clone()) } else { loss };
        match &branch.choice {
            Some(choice) => with_choice(loss, choice.clone()),
            None => loss,
        }
    }

    fn prior_codes(&self, count: usize, device: &Device, draws: &mut Draws) -> Tensor<2> {
        let learned = if self.config.learn_p_z { self.p_z.sample(count, draws, |u| self.encode(u)) } else { None };
        learned.unwrap_or_else(|| draws.normal("prior codes", [count, self.latent], device))
    }

    /// Sum of the branch losses at `beta`, the value to report, and the data branch.
    fn total(&self, inputs: Tensor<4>, beta: f64, with_sampled: bool, draws: &mut Draws) -> (Tensor<1>, Tensor<1>, Branch) {
        let (source, target) = self.source_and_target(inputs);
        let [count, _] = source.dims();
        let device = source.device();
        let data = self.data_branch(source, target, draws);
        let mut total = self.branch_loss(&data, beta).mean();
        if with_sampled && self.config.has_sampled_branch() {
            let codes = self.prior_codes(count, &device, draws);
            total = total + self.branch_loss(&self.sampled_branch(codes, draws), beta).mean();
        }
        let reported = if self.config.has_sampled_branch() { total.clone().mul_scalar(0.5) } else { total.clone() };
        (total, reported, data)
    }

    fn measures(reported: Tensor<1>, data: &Branch, beta: f64) -> Vec<Measure> {
        let terms = &data.terms;
        // Reported values need no place in the graph.
        let reported = reported.inner();
        let negative = |x: &Tensor<1>| x.clone().inner().mean().neg();
        vec![
            Measure::new("loss", reported.clone()),
            Measure::new("distortion", negative(&terms.likelihood)),
            Measure::new("prior_cross_entropy", negative(&terms.prior)),
            Measure::new("posterior_entropy", negative(&terms.posterior)),
            Measure::new("nll", negative(&terms.marginal)),
            Measure::new("beta", reported.full_like(beta)),
        ]
    }
}

impl Objective for MimObjective {
    fn groups(&self) -> Vec<ParameterGroup> {
        let decoder = ParameterGroup { name: "decoder".to_owned(), prefixes: ["decoder", "p_z", "q_x"].map(str::to_owned).to_vec() };
        vec![ParameterGroup::field("encoder"), decoder]
    }

    fn loss(&self, _phase: &str, at: Progress, batch: &Batch, draws: &mut Draws) -> Loss {
        let beta = self.beta(at.epoch);
        let (mut total, reported, data) = self.total(batch.inputs.clone(), beta, beta >= 1.0, draws);
        if let Some(penalty) = self.encoder.penalty() {
            total = total + penalty;
        }
        Loss { total, measures: Self::measures(reported, &data, beta) }
    }

    fn evaluate(&self, _at: Progress, batch: &Batch, draws: &mut Draws) -> Vec<Measure> {
        let beta = if self.config.loss == Criterion::Ae { 0.0 } else { 1.0 };
        // Held-out pairs are encoded from the sample they are compared with.
        let inputs = if self.config.self_supervised {
            let first = batch.inputs.clone().narrow(1, 0, 1);
            Tensor::cat(vec![first.clone(), first], 1)
        } else {
            batch.inputs.clone()
        };
        let (_, reported, data) = self.total(inputs, beta, true, draws);
        Self::measures(reported, &data, beta)
    }
}

impl MimObjective {
    /// The first channel of pairs; everything else as it is.
    fn single(&self, inputs: Tensor<4>) -> Tensor<4> {
        if self.config.self_supervised && inputs.dims()[1] == 2 { inputs.narrow(1, 0, 1) } else { inputs }
    }

    /// A code of zeros on the device of the parameters.
    fn blank_code(&self) -> Tensor<2> {
        Tensor::zeros([1, self.latent], &self.collect_devices(Vec::new()).into_iter().next().unwrap_or_default())
    }
}

impl PosteriorModel for MimObjective {
    /// A mixture as the normal with its mean and standard deviations.
    fn posterior(&self, inputs: Tensor<4>) -> BoxedDistribution {
        let posterior = self.encode(Self::flat(self.single(inputs)));
        match posterior.downcast::<NormalMixture>() {
            Some(mixture) => mixture.matched().boxed(),
            None => posterior,
        }
    }
}

impl LatentModel for MimObjective {
    fn level_sizes(&self) -> Vec<usize> {
        vec![self.latent]
    }

    fn features(&self, inputs: Tensor<4>) -> Vec<Tensor<2>> {
        vec![Self::flat(self.single(inputs))]
    }

    fn level_posterior(&self, _level: usize, features: Tensor<2>, _above: &[Tensor<2>]) -> BoxedDistribution {
        self.encode(features)
    }

    fn level_prior(&self, _level: usize, _above: &[Tensor<2>]) -> Result<BoxedDistribution, Undefined> {
        if self.config.p_z == CodePrior::Marginal {
            return Err(Undefined::Prior("p(z) with p_z:marginal"));
        }
        Ok(self.prior(&self.blank_code()))
    }

    fn sample_top(&self, count: usize, draws: &mut Draws) -> Result<Tensor<2>, Undefined> {
        let prior = self.level_prior(0, &[])?;
        let anchor = |draws: &mut Draws| {
            draws.normal("prior codes", [count, self.latent], &prior.device()).mul_scalar(1.0 + self.config.min_scale())
        };
        Ok(self.p_z.sample(count, draws, |u| self.encode(u)).unwrap_or_else(|| anchor(draws)))
    }

    fn decoder(&self) -> &dyn Decoder {
        &*self.decoder
    }

    fn observed(&self, inputs: Tensor<4>) -> Tensor<2> {
        self.scored(Self::flat(self.single(inputs)))
    }

    fn observed_features(&self) -> usize {
        self.shape.iter().product()
    }

    fn purpose(&self, what: &str, _level: usize) -> String {
        what.to_owned()
    }

    fn has_exact_rates(&self) -> bool {
        false
    }

    fn pseudo_inputs(&self) -> Option<Tensor<2>> {
        self.p_z.pseudo.as_ref().map(|pseudo| pseudo.inputs.val())
    }

    fn marginal_log_prob(&self, inputs: Tensor<4>, codes: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        let x = self.observed(inputs.clone());
        if let Some(marginal) = self.log_q_x(x.clone()) {
            return Ok(marginal);
        }
        let posterior = self.posterior_log_prob(inputs, codes.clone())?;
        let prior = if self.config.p_z == CodePrior::Marginal { posterior.clone() } else { self.log_p_z(codes.clone()) };
        Ok(self.decode(codes).log_prob(x)? + prior - posterior)
    }
}

#[cfg(test)]
mod mixture_tests;
#[cfg(test)]
mod tests;
