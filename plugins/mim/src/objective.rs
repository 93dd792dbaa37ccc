//! Objective `mim`: mutual information machine, variational auto-encoder or auto-encoder on one pair of networks.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ibhost_framework::build::BuildError;
use ibhost_framework::dataset::Batch;
use ibhost_framework::density::{Density, centred_log_density, normal_log_prob, normal_sample};
use ibhost_framework::encoder::BoxedEncoder;
use ibhost_framework::generator::{BoxedGenerator, GenerativeModel, LogTerms};
use ibhost_framework::math::{log_mean_exp, weighted_sum};
use ibhost_framework::module::Erased;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{
    Direction, Loss, Measure, Objective, ObjectiveConfig, ParameterGroup, Parts, PosteriorModel, Progress, Quantity, Recipe,
};
use ibhost_framework::posterior::Posterior;
use ibhost_nets::pseudo_inputs::{PseudoInputs, Start};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::prior::{BINARY_MARGIN, KnownMixture, LearnedBernoulli, LearnedMixture, LearnedNormal, Marginal};
use crate::terms::{Criterion, per_sample, with_score_function};

/// What p(z) is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CodePrior {
    /// N(0, (1 + min_scale)^2), fixed.
    #[default]
    Anchor,
    /// A learned normal, or with `p_z_gmm` a learned mixture that starts on packed circles.
    Prior,
    /// q(z|x) itself on the data branch; ln q(z0|x) + ln q(x) - ln p(x|z0) on the sampled one.
    Marginal,
    /// The equal mixture of q(z|u) over `p_z_gmm` learned pseudo-inputs u.
    GmmMarginal,
}

/// What q(x) is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputMarginal {
    /// ln p(x|z) + ln p(z) - ln q(z|x) with a code of q(z|x).
    #[default]
    Marginal,
    /// A learned normal, or with `q_x_gmm` a learned mixture, or Bernoulli variables for a Bernoulli decoder.
    Prior,
    /// The equal mixture of p(x|v) over `q_x_gmm` learned pseudo-codes v.
    GmmMarginal,
    /// The density P(x) that toy data are drawn from.
    Anchor,
}

/// q(x) `marginal` on the sampled branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SampledMarginal {
    /// The importance estimate with a fresh code of q(z|x): the published code since March 2020.
    #[default]
    Importance,
    /// ln p(x|z0) with the code the input was sampled from: the published curves.
    Decoder,
}

/// Mutual information machine: cross-entropy of both joint distributions under the mixture of encoder and decoder samples.
///
/// With a = ln p(x|z), b = ln p(z), c = ln q(z|x), d = ln q(x), batch means, nats, one code a sample:
/// loss:mim -(a + b + beta (c + d))/2, loss:vae -a + beta (c - b), loss:ae -a with the posterior's scale fixed at min_scale.
/// entropy:true adds the joint entropy to the VAE, -(c + d), and subtracts it from MIM, + ln(exp(a+b)/2 + exp(c+d)/2).
/// beta = min(1, epoch/warmup), and 1 in every evaluation. sampled:true adds, once beta is 1, the same loss on codes z0 of the prior and
/// inputs x of p(x|z0), with gradients through x (score function for a Bernoulli decoder). With the default q_x:marginal, c cancels on the data
/// branch. The reported loss is halved when there are two branches. MIM with entropy is identically 0 on the data branch at beta 1 and rewards unlikely data
/// before; it uses beta 1 throughout unless beta_in_minus_h is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[allow(clippy::struct_excessive_bools)] // Each is a flag of its own in the original.
pub struct MimConfig {
    /// Loss on the data branch.
    pub loss: Criterion,
    /// Add the branch of sampled codes (MIM only): the symmetric MIM; without it, A-MIM.
    pub sampled: bool,
    /// Add (VAE) or subtract (MIM) the joint entropy.
    pub entropy: bool,
    /// p(z).
    pub p_z: CodePrior,
    /// Components of p(z); 0 for a single normal.
    #[schemars(range(min = 0, max = 100_000))]
    pub p_z_gmm: usize,
    /// q(x).
    pub q_x: InputMarginal,
    /// Components of q(x); 0 for a single density.
    #[schemars(range(min = 0, max = 100_000))]
    pub q_x_gmm: usize,
    /// q(x) `marginal` on the sampled branch.
    pub q_x_sample: SampledMarginal,
    /// Sample codes from the current p(z) instead of N(0, I).
    pub learn_p_z: bool,
    /// Keep the warm-up's beta inside MIM with entropy, as the published code does.
    pub beta_in_minus_h: bool,
    /// Epochs until beta is 1.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub warmup: u64,
    /// Smallest standard deviation of fixed and learned priors and of the auto-encoder's code, as the exponent v of 10^-v.
    #[schemars(range(min = 0.0, max = 30.0))]
    pub min_logvar: f64,
    /// Inputs have two channels, two draws of one class: the second is encoded, the first is the target.
    pub self_supervised: bool,
}

impl Default for MimConfig {
    fn default() -> Self {
        Self {
            loss: Criterion::Mim,
            sampled: false,
            entropy: false,
            p_z: CodePrior::Anchor,
            p_z_gmm: 0,
            q_x: InputMarginal::Marginal,
            q_x_gmm: 0,
            q_x_sample: SampledMarginal::Importance,
            learn_p_z: false,
            beta_in_minus_h: false,
            warmup: 10,
            min_logvar: 10.0,
            self_supervised: false,
        }
    }
}

impl MimConfig {
    /// 10^-min_logvar.
    pub fn min_scale(&self) -> f64 {
        10f64.powf(-self.min_logvar)
    }

    fn has_sampled_branch(&self) -> bool {
        self.sampled && self.loss == Criterion::Mim
    }

    fn check(&self) -> Result<(), BuildError> {
        let refuse = |problem: &str| Err(BuildError::new("mim", problem));
        if self.sampled && self.loss != Criterion::Mim {
            return refuse("sampled:true belongs to loss:mim; the other losses have no sampled branch");
        }
        if self.loss == Criterion::Ae && self.entropy {
            return refuse("loss:ae has no entropy term; leave entropy out or use loss:vae");
        }
        if self.p_z == CodePrior::Marginal && self.q_x == InputMarginal::Marginal && self.sampled {
            return refuse("p_z:marginal and q_x:marginal define each other on the sampled branch; choose another q_x, e.g. q_x:prior");
        }
        if self.p_z == CodePrior::Marginal && self.learn_p_z {
            return refuse("p_z:marginal is no density codes could be sampled from; leave learn_p_z out");
        }
        if (self.p_z == CodePrior::GmmMarginal && self.p_z_gmm == 0) || (self.q_x == InputMarginal::GmmMarginal && self.q_x_gmm == 0) {
            return refuse("gmm_marginal needs a number of pseudo-inputs; set p_z_gmm or q_x_gmm above 0");
        }
        let unused = |gmm: usize, used: bool| gmm > 0 && !used;
        if unused(self.p_z_gmm, matches!(self.p_z, CodePrior::Prior | CodePrior::GmmMarginal))
            || unused(self.q_x_gmm, matches!(self.q_x, InputMarginal::Prior | InputMarginal::GmmMarginal))
        {
            return refuse("a number of components is set for a density without components; choose prior or gmm_marginal, or leave it out");
        }
        Ok(())
    }

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
        let encoder: BoxedEncoder = Erased::new(parts.encoder.build(shape, context)?);
        let decoder: BoxedGenerator = Erased::new(parts.decoder.build_generator(&[latent], shape, context)?);
        let device = context.device.clone().without_autodiff();
        let blank = Tensor::zeros([1, shape[0], height, width], &device);
        if matches!(encoder.valid().encode(blank), Posterior::Full { .. }) {
            return Err(BuildError::new(
                "mim",
                "the encoder's posterior has a full covariance; use a diagonal one, e.g. `--encoder vector_mlp`",
            ));
        }
        let code = decoder.valid().generate(&[Tensor::zeros([1, latent], &device)], None);
        let min_scale = self.min_scale();
        let p_z = match (self.p_z, self.p_z_gmm) {
            (CodePrior::Anchor | CodePrior::Marginal, _) => Marginal::fixed(),
            (CodePrior::Prior, 0) => Marginal { normal: Some(LearnedNormal::new(latent, min_scale, context)), ..Marginal::fixed() },
            (CodePrior::Prior, n) => Marginal { mixture: Some(LearnedMixture::packed(n, latent, min_scale, context)), ..Marginal::fixed() },
            (CodePrior::GmmMarginal, n) => {
                Marginal { pseudo: Some(PseudoInputs::new(n, features, Start::Data { noise: 0.0 }, context)), ..Marginal::fixed() }
            }
        };
        let q_x = match (self.q_x, self.q_x_gmm, code.is_discrete()) {
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
        Ok(MimObjective { encoder, decoder, p_z, q_x, latent, shape, config: self.clone() })
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
    example: "mim/sampled:true|q_x_sample:decoder|warmup:3|min_logvar:6", offers: [Encode, Reconstruct, Sample, LogDensity]
}

/// The model of [`MimConfig`] with its losses.
#[derive(Module, Debug)]
pub struct MimObjective {
    /// q(z|x).
    pub encoder: BoxedEncoder,
    /// p(x|z).
    pub decoder: BoxedGenerator,
    /// Parameters of p(z).
    pub p_z: Marginal,
    /// Parameters of q(x).
    pub q_x: Marginal,
    latent: usize,
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

    /// Location and scale of q(z|x); an auto-encoder's scale is the smallest one.
    fn encode(&self, x: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let posterior = self.encoder.encode(self.images(x));
        let mean = posterior.mean();
        match posterior {
            Posterior::Diagonal { scale, .. } if self.config.loss != Criterion::Ae => (mean, scale),
            _ => (mean.clone(), mean.full_like(self.config.min_scale())),
        }
    }

    fn decode(&self, z: Tensor<2>) -> Density {
        self.decoder.generate(&[z], None)
    }

    /// x as the argument of a log density: binary values away from the ends, without gradient.
    fn scored(x: Tensor<2>, density: &Density) -> Tensor<2> {
        if density.is_discrete() { x.detach().clamp(BINARY_MARGIN, 1.0 - BINARY_MARGIN) } else { x }
    }

    /// ln p(z) where it is a density of its own.
    fn log_p_z(&self, z: Tensor<2>) -> Tensor<1> {
        let components = |u| {
            let (mean, scale) = self.encode(u);
            Density::Normal { mean, scale }
        };
        self.p_z.log_prob(z.clone(), components).unwrap_or_else(|| centred_log_density(z, 1.0 + self.config.min_scale()))
    }

    /// ln q(x) where it is a density of its own.
    fn log_q_x(&self, x: Tensor<2>) -> Option<Tensor<1>> {
        self.q_x.log_prob(x, |v| self.decode(v))
    }

    /// The branch of encoded data: a code of q(z|source), and the densities at the target.
    pub fn data_branch(&self, source: Tensor<2>, target: Tensor<2>, draws: &mut Draws) -> Branch {
        let (mean, scale) = self.encode(source);
        let noise = draws.normal("posterior", mean.dims(), &mean.device());
        let code = normal_sample(mean.clone(), scale.clone(), noise);
        let density = self.decode(code.clone());
        let x = Self::scored(target.clone(), &density);
        let likelihood = density.log_prob(x.clone());
        let posterior = normal_log_prob(code.clone(), mean, scale);
        let prior = if self.config.p_z == CodePrior::Marginal { posterior.clone() } else { self.log_p_z(code.clone()) };
        let marginal = self.log_q_x(x).unwrap_or_else(|| importance_weight(likelihood.clone(), prior.clone(), posterior.clone()));
        Branch { terms: LogTerms { likelihood, prior, posterior, marginal }, code, input: target, discrete: false }
    }

    /// The branch of sampled codes `[batch, latent]`: inputs of p(x|codes), and the densities at both.
    pub fn sampled_branch(&self, codes: Tensor<2>, draws: &mut Draws) -> Branch {
        let density = self.decode(codes.clone());
        let noise = draws.normal("sampled inputs", density.dims(), &codes.device());
        let input = density.reparameterised(noise);
        let (mean, scale) = self.encode(input.clone());
        let noise = draws.normal("sampled posterior", mean.dims(), &mean.device());
        let code = normal_sample(mean.clone(), scale.clone(), noise);
        let x = Self::scored(input.clone(), &density);
        let likelihood = density.log_prob(x.clone());
        let posterior = normal_log_prob(codes.clone(), mean.clone(), scale.clone());
        let by_density = self.log_q_x(x.clone());
        let prior = match (&by_density, self.config.p_z) {
            (Some(marginal), CodePrior::Marginal) => posterior.clone() + marginal.clone() - likelihood.clone(),
            _ => self.log_p_z(codes),
        };
        let marginal = by_density.unwrap_or_else(|| match self.config.q_x_sample {
            SampledMarginal::Decoder => likelihood.clone(),
            SampledMarginal::Importance => {
                let again = self.decode(code.clone()).log_prob(x);
                importance_weight(again, self.log_p_z(code.clone()), normal_log_prob(code.clone(), mean, scale))
            }
        });
        Branch { terms: LogTerms { likelihood, prior, posterior, marginal }, code, input, discrete: density.is_discrete() }
    }

    /// Loss of every sample of a branch, `[batch]`.
    pub fn branch_loss(&self, branch: &Branch, beta: f64) -> Tensor<1> {
        let minus_h = self.config.loss == Criterion::Mim && self.config.entropy && !self.config.beta_in_minus_h;
        let loss = per_sample(self.config.loss, self.config.entropy, if minus_h { 1.0 } else { beta }, &branch.terms);
        if branch.discrete { with_score_function(loss, branch.terms.likelihood.clone()) } else { loss }
    }

    fn prior_codes(&self, count: usize, device: &Device, draws: &mut Draws) -> Tensor<2> {
        let components = |u| {
            let (mean, scale) = self.encode(u);
            Density::Normal { mean, scale }
        };
        let learned = if self.config.learn_p_z { self.p_z.sample(count, draws, components) } else { None };
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

    fn loss(&self, phase: &str, batch: &Batch, draws: &mut Draws) -> Loss {
        self.loss_at(phase, Progress::at(self.config.warmup.max(1), 0), batch, draws)
    }

    fn loss_at(&self, _phase: &str, progress: Progress, batch: &Batch, draws: &mut Draws) -> Loss {
        let beta = self.beta(progress.epoch);
        let (mut total, reported, data) = self.total(batch.inputs.clone(), beta, beta >= 1.0, draws);
        if let Some(penalty) = self.encoder.penalty() {
            total = total + penalty;
        }
        Loss { total, measures: Self::measures(reported, &data, beta) }
    }

    fn evaluate(&self, batch: &Batch, draws: &mut Draws) -> Vec<Measure> {
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

    fn as_posterior(&self) -> Option<&dyn PosteriorModel> {
        Some(self)
    }

    fn as_generative(&self) -> Option<&dyn GenerativeModel> {
        Some(self)
    }
}

impl MimObjective {
    /// The first channel of pairs; everything else as it is.
    fn single(&self, inputs: Tensor<4>) -> Tensor<4> {
        if self.config.self_supervised && inputs.dims()[1] == 2 { inputs.narrow(1, 0, 1) } else { inputs }
    }
}

impl PosteriorModel for MimObjective {
    fn posterior(&self, inputs: Tensor<4>) -> Posterior {
        let (mean, scale) = self.encode(Self::flat(self.single(inputs)));
        Posterior::Diagonal { mean, scale }
    }
}

impl GenerativeModel for MimObjective {
    fn sample_codes(&self, inputs: Tensor<4>, draws: &mut Draws) -> Tensor<2> {
        let (mean, scale) = self.encode(Self::flat(self.single(inputs)));
        let noise = draws.normal("posterior", mean.dims(), &mean.device());
        normal_sample(mean, scale, noise)
    }

    fn likelihood(&self, codes: Tensor<2>, _teacher: Option<Tensor<4>>) -> Density {
        self.decode(codes)
    }

    fn prior_log_prob(&self, codes: Tensor<2>) -> Tensor<1> {
        self.log_p_z(codes)
    }

    fn sample_prior(&self, count: usize, draws: &mut Draws) -> Tensor<2> {
        let device = self.encode(Tensor::zeros([1, self.shape.iter().product()], &self.device())).0.device();
        let components = |u| {
            let (mean, scale) = self.encode(u);
            Density::Normal { mean, scale }
        };
        self.p_z
            .sample(count, draws, components)
            .unwrap_or_else(|| draws.normal("prior codes", [count, self.latent], &device).mul_scalar(1.0 + self.config.min_scale()))
    }

    fn pseudo_inputs(&self) -> Option<Tensor<2>> {
        self.p_z.pseudo.as_ref().map(|pseudo| pseudo.inputs.val())
    }

    fn posterior_log_prob(&self, inputs: Tensor<4>, codes: Tensor<2>) -> Tensor<1> {
        let (mean, scale) = self.encode(Self::flat(self.single(inputs)));
        normal_log_prob(codes, mean, scale)
    }

    fn marginal_log_prob(&self, inputs: Tensor<4>, codes: Tensor<2>) -> Tensor<1> {
        let density = self.decode(codes.clone());
        let inputs = self.single(inputs);
        let x = Self::scored(Self::flat(inputs.clone()), &density);
        self.log_q_x(x.clone()).unwrap_or_else(|| {
            let posterior = self.posterior_log_prob(inputs, codes.clone());
            let prior = if self.config.p_z == CodePrior::Marginal { posterior.clone() } else { self.log_p_z(codes) };
            density.log_prob(x) + prior - posterior
        })
    }

    fn reconstruct(&self, codes: Tensor<2>, draws: &mut Draws) -> Tensor<2> {
        let density = self.decode(codes.clone());
        let noise = draws.normal("reconstruction", density.dims(), &codes.device());
        density.reparameterised(noise)
    }

    fn log_evidence(&self, inputs: Tensor<4>, samples: usize, draws: &mut Draws) -> Tensor<1> {
        let x = Self::flat(self.single(inputs));
        let [batch, _] = x.dims();
        let (mean, scale) = self.encode(x.clone());
        let mut weights = Vec::with_capacity(samples);
        for _ in 0..samples.max(1) {
            let noise = draws.normal("importance", mean.dims(), &mean.device());
            let code = normal_sample(mean.clone(), scale.clone(), noise);
            let density = self.decode(code.clone());
            let likelihood = density.log_prob(Self::scored(x.clone(), &density));
            let posterior = normal_log_prob(code.clone(), mean.clone(), scale.clone());
            let weight = importance_weight(likelihood, self.log_p_z(code), posterior);
            weights.push(weight.reshape([batch, 1]));
        }
        log_mean_exp(Tensor::cat(weights, 1), 1).reshape([batch])
    }
}

impl MimObjective {
    /// The device the parameters live on.
    fn device(&self) -> Device {
        self.collect_devices(Vec::new()).into_iter().next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
