//! Objective `mim`: mutual information machine, variational auto-encoder or auto-encoder on one pair of networks.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ibhost_framework::build::BuildError;
use ibhost_framework::dataset::Batch;
use ibhost_framework::density::{Density, centred_log_density};
use ibhost_framework::encoder::BoxedEncoder;
use ibhost_framework::generator::{BoxedGenerator, GenerativeModel, LogTerms, decoded_mean, decoded_sample};
use ibhost_framework::math::{log_mean_exp, weighted_sum};
use ibhost_framework::module::Erased;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{
    Direction, Loss, Measure, Objective, ObjectiveConfig, ParameterGroup, Parts, PosteriorModel, Progress, Quantity, Recipe,
};
use ibhost_framework::posterior::{Posterior, Undefined};
use ibhost_nets::pseudo_inputs::{PseudoInputs, Start};

use crate::mixture_net::{MixtureNet, matched};
use crate::prior::{BINARY_MARGIN, KnownMixture, LearnedBernoulli, LearnedMixture, LearnedNormal, Marginal};
use crate::terms::{Criterion, per_sample, with_choice, with_score_function};

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
        let decoder: BoxedGenerator = Erased::new(match self.p_xz_gmm {
            0 => parts.decoder.build_generator(&[latent], shape, context)?,
            components => Box::new(MixtureNet::decoder(parts, latent, shape, components)?),
        });
        let device = context.device.clone().without_autodiff();
        let blank = Tensor::zeros([1, shape[0], height, width], &device);
        match encoder.valid().encode(blank) {
            Posterior::Diagonal { .. } => {}
            // Its code is a point with the smallest scale, whatever the encoder gives beside the mean.
            Posterior::Point { .. } if self.loss == Criterion::Ae => {}
            other => {
                let problem = format!(
                    "the encoder's posterior is {}, and the densities of this loss are those of diagonal normals\n  hint: use an encoder with \
                     one standard deviation for each dimension, e.g. `--encoder vector_mlp`{}",
                    other.family(),
                    if other.is_stochastic() { "" } else { ", or loss:ae for a deterministic code" }
                );
                return Err(BuildError::new("mim", problem));
            }
        }
        if decoder.is_autoregressive() {
            return Err(BuildError::new(
                "mim",
                "the decoder is autoregressive, and this objective shows it no earlier values\n  hint: use another decoder, e.g. `--decoder \
                 vector_mlp`, or objective `hvae`",
            ));
        }
        let code = decoder.valid().generate(&[Tensor::zeros([1, latent], &device)], None);
        if self.has_sampled_branch() && matches!(code, Density::LogisticMixture(_) | Density::Logistic256 { .. }) {
            return Err(BuildError::new(
                "mim",
                "sampled:true needs samples of p(x|z) that gradients flow through, which logistic pixels do not have\n  hint: use a decoder of \
                 normals or Bernoulli variables, or leave sampled out",
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
    example: "mim/sampled:true|q_x_sample:decoder|warmup:3|min_logvar:6", model: MimObjective, offers: [Encode, Reconstruct, Sample, LogDensity]
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
    /// ln of the weights of the mixture components that the samples behind the densities come from, `[batch]`, where there are mixtures.
    pub choice: Option<Tensor<1>>,
}

/// A sample of `density` that gradients flow through as far as they can, and ln of the weight of its component where that was a choice.
///
/// # Panics
/// Never: codes are normal, and a sampled branch with other inputs than normals and Bernoulli variables is not built.
fn draw(density: &Density, purpose: &str, draws: &mut Draws) -> (Tensor<2>, Option<Tensor<1>>) {
    if let Density::NormalMixture(mixture) = density {
        let [batch, features] = mixture.dims();
        let (sample, choice) = mixture.sample(draws.normal(purpose, [batch, features + 1], &mixture.mean.device()));
        return (sample, Some(choice));
    }
    let noise = draws.normal(purpose, density.dims(), &density.mean().device());
    let sample = density.reparameterised(noise);
    (sample.unwrap_or_else(|| unreachable!("checked when the objective was built")), None)
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
    fn encode(&self, x: Tensor<2>) -> Density {
        let images = self.images(x);
        if let Some(mixture) = self.encoder.mixture(images.clone()) {
            return Density::NormalMixture(mixture);
        }
        let posterior = self.encoder.encode(images);
        let mean = posterior.mean();
        let scale = match posterior {
            Posterior::Diagonal { scale, .. } if self.config.loss != Criterion::Ae => scale,
            _ => mean.full_like(self.config.min_scale()),
        };
        Density::Normal { mean, scale }
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
        self.p_z.log_prob(z.clone(), |u| self.encode(u)).unwrap_or_else(|| centred_log_density(z, 1.0 + self.config.min_scale()))
    }

    /// ln q(x) where it is a density of its own.
    fn log_q_x(&self, x: Tensor<2>) -> Option<Tensor<1>> {
        self.q_x.log_prob(x, |v| self.decode(v))
    }

    /// The branch of encoded data: a code of q(z|source), and the densities at the target.
    pub fn data_branch(&self, source: Tensor<2>, target: Tensor<2>, draws: &mut Draws) -> Branch {
        let encoding = self.encode(source);
        let (code, choice) = draw(&encoding, "posterior", draws);
        let density = self.decode(code.clone());
        let x = Self::scored(target.clone(), &density);
        let likelihood = density.log_prob(x.clone());
        let posterior = encoding.log_prob(code.clone());
        let prior = if self.config.p_z == CodePrior::Marginal { posterior.clone() } else { self.log_p_z(code.clone()) };
        let marginal = self.log_q_x(x).unwrap_or_else(|| importance_weight(likelihood.clone(), prior.clone(), posterior.clone()));
        Branch { terms: LogTerms { likelihood, prior, posterior, marginal }, code, input: target, discrete: false, choice }
    }

    /// The branch of sampled codes `[batch, latent]`: inputs of p(x|codes), and the densities at both.
    pub fn sampled_branch(&self, codes: Tensor<2>, draws: &mut Draws) -> Branch {
        let density = self.decode(codes.clone());
        let (input, mut choice) = draw(&density, "sampled inputs", draws);
        let encoding = self.encode(input.clone());
        let (code, second) = draw(&encoding, "sampled posterior", draws);
        let x = Self::scored(input.clone(), &density);
        let likelihood = density.log_prob(x.clone());
        let posterior = encoding.log_prob(codes.clone());
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
                let again = self.decode(code.clone()).log_prob(x);
                importance_weight(again, self.log_p_z(code.clone()), encoding.log_prob(code.clone()))
            }
        });
        Branch { terms: LogTerms { likelihood, prior, posterior, marginal }, code, input, discrete: density.is_discrete(), choice }
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
}

impl MimObjective {
    /// An error where p(z) is what the other densities make of it.
    fn has_prior(&self) -> Result<(), Undefined> {
        if self.config.p_z == CodePrior::Marginal { Err(Undefined::Prior("p(z) with p_z:marginal")) } else { Ok(()) }
    }

    /// The first channel of pairs; everything else as it is.
    fn single(&self, inputs: Tensor<4>) -> Tensor<4> {
        if self.config.self_supervised && inputs.dims()[1] == 2 { inputs.narrow(1, 0, 1) } else { inputs }
    }
}

impl PosteriorModel for MimObjective {
    /// # Panics
    /// Never: codes are normal.
    fn posterior(&self, inputs: Tensor<4>) -> Posterior {
        match self.encode(Self::flat(self.single(inputs))) {
            Density::Normal { mean, scale } => Posterior::Diagonal { mean, scale },
            Density::NormalMixture(mixture) => matched(&mixture),
            density => unreachable!("codes are normal or mixtures of normals, not {density:?}"),
        }
    }
}

impl GenerativeModel for MimObjective {
    fn sample_codes(&self, inputs: Tensor<4>, draws: &mut Draws) -> Tensor<2> {
        draw(&self.encode(Self::flat(self.single(inputs))), "posterior", draws).0
    }

    fn likelihood(&self, codes: Tensor<2>, _teacher: Option<Tensor<4>>) -> Density {
        self.decode(codes)
    }

    fn prior_log_prob(&self, codes: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        self.has_prior()?;
        Ok(self.log_p_z(codes))
    }

    fn sample_prior(&self, count: usize, draws: &mut Draws) -> Result<Tensor<2>, Undefined> {
        self.has_prior()?;
        let device = self.encode(Tensor::zeros([1, self.shape.iter().product()], &self.device())).mean().device();
        let anchor =
            |draws: &mut Draws| draws.normal("prior codes", [count, self.latent], &device).mul_scalar(1.0 + self.config.min_scale());
        Ok(self.p_z.sample(count, draws, |u| self.encode(u)).unwrap_or_else(|| anchor(draws)))
    }

    fn pseudo_inputs(&self) -> Option<Tensor<2>> {
        self.p_z.pseudo.as_ref().map(|pseudo| pseudo.inputs.val())
    }

    fn posterior_log_prob(&self, inputs: Tensor<4>, codes: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        Ok(self.encode(Self::flat(self.single(inputs))).log_prob(codes))
    }

    fn marginal_log_prob(&self, inputs: Tensor<4>, codes: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        let density = self.decode(codes.clone());
        let inputs = self.single(inputs);
        let x = Self::scored(Self::flat(inputs.clone()), &density);
        if let Some(marginal) = self.log_q_x(x.clone()) {
            return Ok(marginal);
        }
        let posterior = self.posterior_log_prob(inputs, codes.clone())?;
        let prior = if self.config.p_z == CodePrior::Marginal { posterior.clone() } else { self.log_p_z(codes) };
        Ok(density.log_prob(x) + prior - posterior)
    }

    fn decode_mean(&self, codes: Tensor<2>, draws: &mut Draws) -> Tensor<2> {
        decoded_mean(&*self.decoder, &[codes], self.shape.iter().product(), draws)
    }

    fn decode_sample(&self, codes: Tensor<2>, draws: &mut Draws) -> Tensor<2> {
        decoded_sample(&*self.decoder, &[codes], self.shape.iter().product(), draws)
    }

    fn log_evidence(&self, inputs: Tensor<4>, samples: usize, draws: &mut Draws) -> Result<Tensor<1>, Undefined> {
        self.has_prior()?;
        let x = Self::flat(self.single(inputs));
        let [batch, _] = x.dims();
        let encoding = self.encode(x.clone());
        let mut weights = Vec::with_capacity(samples);
        for _ in 0..samples.max(1) {
            let (code, _) = draw(&encoding, "importance", draws);
            let density = self.decode(code.clone());
            let likelihood = density.log_prob(Self::scored(x.clone(), &density));
            let posterior = encoding.log_prob(code.clone());
            let weight = importance_weight(likelihood, self.log_p_z(code), posterior);
            weights.push(weight.reshape([batch, 1]));
        }
        Ok(log_mean_exp(Tensor::cat(weights, 1), 1).reshape([batch]))
    }
}

impl MimObjective {
    /// The device the parameters live on.
    fn device(&self) -> Device {
        self.collect_devices(Vec::new()).into_iter().next().unwrap_or_default()
    }
}

#[cfg(test)]
mod mixture_tests;
#[cfg(test)]
mod tests;
