//! The hierarchical model of objective `hit`: loss, rates of every level, sampling and reconstruction.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ibhost_framework::dataset::Batch;
use ibhost_framework::decoder::{BoxedDecoder, Decoder};
use ibhost_framework::distributions::{
    BoxedDistribution, Categorical, Distribution, Relaxation, StandardNormal, Support, Undefined, UniformCategorical, one_sample, product,
};
use ibhost_framework::encoder::{BoxedEncoder, Hierarchy};
use ibhost_framework::hierarchy::{Level, OneLevel, descend, side_by_side};
use ibhost_framework::latent_model::LatentModel;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{Loss, Measure, Objective, PosteriorModel, Progress};

use crate::config::HitConfig;
use crate::heads::EVALUATION;
use crate::names::published;
use crate::schedules::{ladder_warm_up, temperature, warm_up};

/// The model of [`HitConfig`].
#[derive(Module, Debug)]
pub struct Hit {
    /// q of every level.
    pub encoder: BoxedEncoder,
    /// p(x|y) and the priors below the top.
    pub decoder: BoxedDecoder,
    #[module(skip)]
    config: HitConfig,
    #[module(skip)]
    betas: Vec<f64>,
    #[module(skip)]
    latents: Vec<usize>,
    #[module(skip)]
    shape: [usize; 3],
    #[module(skip)]
    ladder: bool,
    #[module(skip)]
    categorical: bool,
}

/// What changes during training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// Weight of the rates.
    pub rate_weight: f64,
    /// How Gumbel-softmax codes are drawn.
    pub relaxation: Relaxation,
}

impl Setting {
    /// Full rates and one-hot codes.
    pub const EVALUATION: Self = Self { rate_weight: 1.0, relaxation: EVALUATION };
}

/// One pass over a batch.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Levels, bottom first.
    pub levels: Vec<Level>,
    /// Rate of every level in nats, `[batch]` each, bottom first; none of a deterministic code, whose rate is not finite.
    pub rates: Vec<Tensor<1>>,
    /// ln p(x|y) in nats, `[batch]`.
    pub likelihood: Tensor<1>,
    /// Mean loss, `[1]`.
    pub total: Tensor<1>,
}

fn flat(images: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = images.dims();
    images.reshape([batch, channels * height * width])
}

/// What [`Hit::check`] has found when the objective was built.
///
/// # Panics
/// Never: a model that lacks it is not built.
fn checked<T>(found: Result<T, Undefined>) -> T {
    found.unwrap_or_else(|error| unreachable!("checked when the objective was built: {error}"))
}

fn total_of(terms: impl Iterator<Item = Tensor<1>>, like: &Tensor<1>) -> Tensor<1> {
    terms.fold(like.zeros_like(), |sum, term| sum + term)
}

impl Hit {
    #[allow(clippy::too_many_arguments)] // Called once, by the configuration that has worked all of them out.
    pub(crate) fn new(
        encoder: BoxedEncoder,
        decoder: BoxedDecoder,
        config: HitConfig,
        betas: Vec<f64>,
        latents: Vec<usize>,
        shape: [usize; 3],
        ladder: bool,
        categorical: bool,
    ) -> Self {
        Self { encoder, decoder, config, betas, latents, shape, ladder, categorical }
    }

    /// Whether every level has what the loss and the evaluations ask of it, tried on `blank` inputs.
    ///
    /// # Errors
    /// What is missing, in words.
    pub(crate) fn check(&self, blank: Tensor<4>) -> Result<(), String> {
        let features = self.features(blank);
        let levels = self.try_levels(&features, |_, posterior| posterior.point()).map_err(|error| error.to_string())?;
        let deterministic = levels.iter().filter(|level| !level.posterior.is_stochastic()).count();
        if deterministic == levels.len() && self.betas.iter().all(|&beta| beta == 0.0) {
            return Ok(());
        }
        if deterministic > 0 {
            return Err("the encoder's code is deterministic and has no finite rate; use one with a posterior, e.g. `hvae`".to_owned());
        }
        for (number, level) in levels.iter().enumerate() {
            let problem =
                |what: String| format!("level {} of the code: {what}\n  hint: use encoder and decoder `hvae` or `lvae`", number + 1);
            level.rate().map_err(|error| problem(error.to_string()))?;
            level.prior.log_prob(level.code.clone()).map_err(|error| problem(error.to_string()))?;
            let noise = Tensor::zeros([1, level.posterior.noise_features()], &level.code.device());
            one_sample(&*level.posterior, noise).map_err(|error| problem(error.to_string()))?;
            // What stands for a missing prior below the top is N(0, I).
            if number + 1 < levels.len() && level.prior.support() != Support::Real {
                return Err(problem(format!("a {} level below the top needs a prior of the decoder", level.posterior.family())));
            }
        }
        let input = self.decoder.decode(&codes(&levels), None);
        input.log_prob(input.mean()).map_err(|error| format!("the decoder's p(x|y) cannot be scored: {error}"))?;
        Ok(())
    }

    /// What a step at `progress` trains with.
    pub fn setting(&self, progress: Progress) -> Setting {
        let rate_weight = match (self.config.warmup, self.ladder) {
            (Some(epochs), _) => warm_up(progress, epochs),
            (None, true) => warm_up(progress, ladder_warm_up(progress)),
            (None, false) => 1.0,
        };
        Setting { rate_weight, relaxation: Relaxation { temperature: temperature(progress), hard: false } }
    }

    fn with_hierarchy<R>(&self, run: impl FnOnce(&dyn Hierarchy) -> R) -> R {
        match self.encoder.as_hierarchy() {
            Some(hierarchy) => run(hierarchy),
            None => run(&OneLevel { encoder: &*self.encoder, shape: self.shape }),
        }
    }

    /// Levels of inputs with `features`, bottom first, every code as `code(level, posterior)` says.
    pub fn levels(&self, features: &[Tensor<2>], code: impl FnMut(usize, &dyn Distribution) -> Tensor<2>) -> Vec<Level> {
        checked(self.try_levels(features, code))
    }

    fn try_levels(&self, features: &[Tensor<2>], code: impl FnMut(usize, &dyn Distribution) -> Tensor<2>) -> Result<Vec<Level>, Undefined> {
        self.with_hierarchy(|hierarchy| descend(hierarchy, features, &|level, above| self.decoder.prior(level, above), code))
    }

    /// Rate of every level, bottom first; none of a deterministic code.
    fn rates(levels: &[Level]) -> Vec<Tensor<1>> {
        let stochastic = levels.iter().all(|level| level.posterior.is_stochastic());
        if stochastic { checked(levels.iter().map(Level::rate).collect()) } else { Vec::new() }
    }

    /// Levels with one sample each, drawn for `purpose`.
    fn sampled(&self, features: &[Tensor<2>], relaxation: Relaxation, purpose: &str, draws: &mut Draws) -> Vec<Level> {
        self.levels(features, |level, posterior| {
            let noise = [posterior.dims()[0], posterior.noise_features()];
            let noise = draws.normal(&format!("{purpose} z{}", level + 1), noise, &features[level].device());
            checked(match posterior.logits() {
                Some(logits) => one_sample(&Categorical { logits, relaxation }, noise),
                None => one_sample(posterior, noise),
            })
        })
    }

    /// Levels with every code at its mean (a categorical one at its most probable class).
    pub fn at_means(&self, inputs: Tensor<4>) -> Vec<Level> {
        self.levels(&self.features(inputs), |_, posterior| posterior.point())
    }

    /// Encodes, samples and decodes inputs `[batch, channels, height, width]`.
    pub fn pass(&self, inputs: Tensor<4>, setting: Setting, draws: &mut Draws) -> Pass {
        let levels = self.sampled(&self.features(inputs.clone()), setting.relaxation, "posterior", draws);
        let rates = Self::rates(&levels);
        let likelihood = checked(self.decoder.decode(&codes(&levels), Some(inputs.clone())).log_prob(flat(inputs)));
        let weighted = rates.iter().zip(&self.betas).map(|(rate, &beta)| rate.clone().mul_scalar(setting.rate_weight * beta));
        let total = (total_of(weighted, &likelihood) - likelihood.clone()).mean();
        Pass { levels, rates, likelihood, total }
    }

    fn measures(&self, pass: &Pass, total: &Tensor<1>, rate_weight: f64) -> Vec<Measure> {
        let distortion = pass.likelihood.clone().mean().neg();
        let weight = Measure::new("rate_weight", total.full_like(rate_weight));
        if pass.rates.is_empty() {
            return vec![Measure::new("loss", total.clone()), Measure::new("distortion", distortion), weight];
        }
        let rate = total_of(pass.rates.iter().cloned(), &pass.likelihood).mean();
        let mut measures = vec![
            Measure::new("loss", total.clone()),
            Measure::new("negative_evidence_bound", distortion.clone() + rate.clone()),
            Measure::new("distortion", distortion),
            Measure::new("rate", rate),
            weight,
        ];
        let names = self.config.rate_names();
        measures.extend(names.into_iter().zip(&pass.rates).map(|(name, rate)| Measure::new(name, rate.clone().mean())));
        if pass.rates.len() == 1 {
            measures.push(Measure::new("rate_z", total.zeros_like()));
        }
        measures
    }

    fn device(&self) -> Device {
        self.collect_devices(Vec::new()).into_iter().next().unwrap_or_default()
    }
}

/// Codes of levels.
fn codes(levels: &[Level]) -> Vec<Tensor<2>> {
    levels.iter().map(|level| level.code.clone()).collect()
}

impl Objective for Hit {
    fn loss(&self, _phase: &str, at: Progress, batch: &Batch, draws: &mut Draws) -> Loss {
        let setting = self.setting(at);
        let pass = self.pass(batch.inputs.clone(), setting, draws);
        let total = match self.encoder.penalty() {
            Some(penalty) => pass.total.clone() + penalty,
            None => pass.total.clone(),
        };
        Loss { measures: self.measures(&pass, &total, setting.rate_weight), total }
    }

    fn evaluate(&self, _at: Progress, batch: &Batch, draws: &mut Draws) -> Vec<Measure> {
        let pass = self.pass(batch.inputs.clone(), Setting::EVALUATION, draws);
        self.measures(&pass, &pass.total, Setting::EVALUATION.rate_weight)
    }

    fn published_name(&self, path: &str) -> Option<String> {
        published(path, self.ladder)
    }
}

impl PosteriorModel for Hit {
    /// All levels side by side, bottom first, those above each at their means.
    fn posterior(&self, inputs: Tensor<4>) -> BoxedDistribution {
        match self.latents.len() {
            1 => self.encoder.encode(inputs),
            _ => checked(side_by_side(&self.at_means(inputs)).ok_or(Undefined::Point)).boxed(),
        }
    }

    fn level_posteriors(&self, inputs: Tensor<4>) -> Vec<BoxedDistribution> {
        match self.latents.len() {
            1 => vec![self.encoder.encode(inputs)],
            _ => self.at_means(inputs).into_iter().map(|level| level.posterior).collect(),
        }
    }
}

impl LatentModel for Hit {
    fn level_sizes(&self) -> Vec<usize> {
        self.latents.clone()
    }

    fn features(&self, inputs: Tensor<4>) -> Vec<Tensor<2>> {
        self.with_hierarchy(|hierarchy| hierarchy.features(inputs))
    }

    /// Of a ladder the bottom-up estimate combined with the prior.
    fn level_posterior(&self, level: usize, features: Tensor<2>, above: &[Tensor<2>]) -> BoxedDistribution {
        let estimate = self.with_hierarchy(|hierarchy| hierarchy.level(level, features, above));
        match self.decoder.prior(level, above).filter(|_| self.ladder) {
            Some(prior) => checked(product(&*estimate, &*prior)).boxed(),
            None => estimate,
        }
    }

    fn level_prior(&self, level: usize, above: &[Tensor<2>]) -> Result<BoxedDistribution, Undefined> {
        let standard = || {
            let dims = [above.first().map_or(1, |code| code.dims()[0]), self.latents[level]];
            let top = level + 1 == self.latents.len();
            if top && self.categorical {
                UniformCategorical::new(dims, &self.device()).boxed()
            } else {
                StandardNormal::new(dims, &self.device()).boxed()
            }
        };
        Ok(self.decoder.prior(level, above).unwrap_or_else(standard))
    }

    fn sample_top(&self, count: usize, draws: &mut Draws) -> Result<Tensor<2>, Undefined> {
        let (dims, device) = ([count, self.latents[self.latents.len() - 1]], self.device());
        Ok(if self.categorical {
            UniformCategorical::new(dims, &device).sample("prior class", draws)
        } else {
            StandardNormal::new(dims, &device).sample(&self.purpose("prior", self.latents.len() - 1), draws)
        })
    }

    fn decoder(&self) -> &dyn Decoder {
        &*self.decoder
    }

    fn observed_features(&self) -> usize {
        self.shape.iter().product()
    }
}

#[cfg(test)]
mod tests;
