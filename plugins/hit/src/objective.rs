//! The hierarchical model of objective `hit`: loss, rates of every level, sampling and reconstruction.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use ibhost_framework::categorical::Relaxation;
use ibhost_framework::dataset::Batch;
use ibhost_framework::density::Density;
use ibhost_framework::encoder::{BoxedEncoder, Hierarchy};
use ibhost_framework::generator::{BoxedGenerator, GenerativeModel, decoded_mean, decoded_sample};
use ibhost_framework::hierarchy::{Level, OneLevel, descend, reparameterised, side_by_side, split};
use ibhost_framework::math::log_mean_exp;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{Loss, Measure, Objective, PosteriorModel, Progress};
use ibhost_framework::posterior::{Posterior, Undefined, standard_normal_log_prob};

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
    pub decoder: BoxedGenerator,
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
        decoder: BoxedGenerator,
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
        let levels = self.try_levels(&features, |_, posterior| posterior.mean()).map_err(|error| error.to_string())?;
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
            match &level.prior {
                Some(prior) => drop(prior.log_prob(level.code.clone()).map_err(|error| problem(error.to_string()))?),
                None if number + 1 < levels.len() && level.posterior.as_diagonal().is_none() => {
                    return Err(problem(format!("a {} level below the top needs a prior of the decoder", level.posterior.family())));
                }
                None => {}
            }
        }
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

    /// Features of inputs, once per input however many codes are drawn.
    fn features(&self, inputs: Tensor<4>) -> Vec<Tensor<2>> {
        self.with_hierarchy(|hierarchy| hierarchy.features(inputs))
    }

    /// Levels of inputs with `features`, bottom first, every code as `code(level, posterior)` says.
    pub fn levels(&self, features: &[Tensor<2>], code: impl FnMut(usize, &Posterior) -> Tensor<2>) -> Vec<Level> {
        checked(self.try_levels(features, code))
    }

    fn try_levels(&self, features: &[Tensor<2>], code: impl FnMut(usize, &Posterior) -> Tensor<2>) -> Result<Vec<Level>, Undefined> {
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
            let noise = draws.normal(&format!("{purpose} z{}", level + 1), posterior.dims(), &features[level].device());
            match posterior {
                Posterior::Categorical { logits, .. } => {
                    reparameterised(&Posterior::Categorical { logits: logits.clone(), relaxation }, noise)
                }
                _ => reparameterised(posterior, noise),
            }
        })
    }

    /// Levels with every code at its mean (a categorical one at its most probable class).
    pub fn at_means(&self, inputs: Tensor<4>) -> Vec<Level> {
        self.levels(&self.features(inputs), |_, posterior| posterior.mean())
    }

    /// Encodes, samples and decodes inputs `[batch, channels, height, width]`.
    pub fn pass(&self, inputs: Tensor<4>, setting: Setting, draws: &mut Draws) -> Pass {
        let levels = self.sampled(&self.features(inputs.clone()), setting.relaxation, "posterior", draws);
        let rates = Self::rates(&levels);
        let likelihood = self.decoder.generate(&codes(&levels), Some(inputs.clone())).log_prob(flat(inputs));
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

    /// Codes of the levels below `top` drawn from their priors, all levels side by side; a level without one is standard normal.
    pub fn generated_codes(&self, top: Tensor<2>, draws: &mut Draws) -> Tensor<2> {
        let (device, count) = (top.device(), top.dims()[0]);
        let mut downwards = vec![top];
        for level in (0..self.latents.len() - 1).rev() {
            let above: Vec<Tensor<2>> = downwards.iter().rev().cloned().collect();
            let noise = draws.normal(&format!("prior z{}", level + 1), [count, self.latents[level]], &device);
            downwards.push(match self.decoder.prior(level, &above) {
                Some(prior) => reparameterised(&prior, noise),
                None => noise,
            });
        }
        downwards.reverse();
        Tensor::cat(downwards, 1)
    }

    /// ln p of the top code, `[batch]`.
    fn top_log_prob(&self, code: Tensor<2>) -> Tensor<1> {
        if self.categorical {
            let [batch, latent] = code.dims();
            return code.sum_dim(1).reshape([batch]).mul_scalar(-(latent as f64).ln());
        }
        normal_log_prob(code)
    }

    /// ln p of all levels with the codes `codes` and the priors `priors`, `[batch]`.
    fn codes_log_prob(&self, codes: &[Tensor<2>], prior: impl Fn(usize) -> Option<Posterior>) -> Result<Tensor<1>, Undefined> {
        let top = codes.len() - 1;
        (0..top).try_fold(self.top_log_prob(codes[top].clone()), |sum, level| {
            let code = codes[level].clone();
            Ok(sum + prior(level).map_or_else(|| Ok(normal_log_prob(code.clone())), |prior| prior.log_prob(code.clone()))?)
        })
    }

    fn device(&self) -> Device {
        self.collect_devices(Vec::new()).into_iter().next().unwrap_or_default()
    }
}

/// ln N(code; 0, I), `[batch]`.
fn normal_log_prob(code: Tensor<2>) -> Tensor<1> {
    let [batch, latent] = code.dims();
    standard_normal_log_prob(code.reshape([1, batch, latent])).reshape([batch])
}

/// Codes of levels.
fn codes(levels: &[Level]) -> Vec<Tensor<2>> {
    levels.iter().map(|level| level.code.clone()).collect()
}

/// ln q(z|x) of all levels at their codes, `[batch]`.
fn posterior_log_prob(levels: &[Level]) -> Result<Tensor<1>, Undefined> {
    let first = levels[0].posterior.log_prob(levels[0].code.clone())?;
    levels[1..].iter().try_fold(first, |sum, level| Ok(sum + level.posterior.log_prob(level.code.clone())?))
}

impl Objective for Hit {
    fn loss(&self, phase: &str, batch: &Batch, draws: &mut Draws) -> Loss {
        // Late enough for every warm-up to be over.
        self.loss_at(phase, Progress::at(u64::MAX, u64::MAX), batch, draws)
    }

    fn loss_at(&self, _phase: &str, progress: Progress, batch: &Batch, draws: &mut Draws) -> Loss {
        let setting = self.setting(progress);
        let pass = self.pass(batch.inputs.clone(), setting, draws);
        let total = match self.encoder.penalty() {
            Some(penalty) => pass.total.clone() + penalty,
            None => pass.total.clone(),
        };
        Loss { measures: self.measures(&pass, &total, setting.rate_weight), total }
    }

    fn evaluate(&self, batch: &Batch, draws: &mut Draws) -> Vec<Measure> {
        let pass = self.pass(batch.inputs.clone(), Setting::EVALUATION, draws);
        self.measures(&pass, &pass.total, Setting::EVALUATION.rate_weight)
    }

    fn published_name(&self, path: &str) -> Option<String> {
        published(path, self.ladder)
    }
}

impl PosteriorModel for Hit {
    /// All levels side by side, bottom first, those above each at their means.
    fn posterior(&self, inputs: Tensor<4>) -> Posterior {
        match self.latents.len() {
            1 => self.encoder.encode(inputs),
            _ => side_by_side(&self.at_means(inputs)),
        }
    }

    fn level_posteriors(&self, inputs: Tensor<4>) -> Vec<Posterior> {
        match self.latents.len() {
            1 => vec![self.encoder.encode(inputs)],
            _ => self.at_means(inputs).into_iter().map(|level| level.posterior).collect(),
        }
    }
}

impl GenerativeModel for Hit {
    fn sample_codes(&self, inputs: Tensor<4>, draws: &mut Draws) -> Tensor<2> {
        Tensor::cat(codes(&self.sampled(&self.features(inputs), EVALUATION, "posterior", draws)), 1)
    }

    fn likelihood(&self, codes: Tensor<2>, teacher: Option<Tensor<4>>) -> Density {
        self.decoder.generate(&split(codes, &self.latents), teacher)
    }

    fn prior_log_prob(&self, codes: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        let codes = split(codes, &self.latents);
        self.codes_log_prob(&codes, |level| self.decoder.prior(level, &codes[level + 1..]))
    }

    /// Top codes from N(0, I), or of random classes of a Gumbel-softmax code.
    fn sample_prior(&self, count: usize, draws: &mut Draws) -> Result<Tensor<2>, Undefined> {
        let (device, latent) = (self.device(), self.latents[self.latents.len() - 1]);
        let top = if self.categorical {
            let mut stream = draws.host("prior class");
            let classes: Vec<i64> = (0..count).map(|_| stream.below(latent) as i64).collect();
            Tensor::<1, Int>::from_data(classes.as_slice(), &device).one_hot::<2>(latent).float()
        } else {
            draws.normal(&format!("prior z{}", self.latents.len()), [count, latent], &device)
        };
        Ok(self.generated_codes(top, draws))
    }

    fn posterior_log_prob(&self, inputs: Tensor<4>, codes: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        let codes = split(codes, &self.latents);
        posterior_log_prob(&self.levels(&self.features(inputs), |level, _| codes[level].clone()))
    }

    fn decode_mean(&self, codes: Tensor<2>, draws: &mut Draws) -> Tensor<2> {
        decoded_mean(&*self.decoder, &split(codes, &self.latents), self.shape.iter().product(), draws)
    }

    fn decode_sample(&self, codes: Tensor<2>, draws: &mut Draws) -> Tensor<2> {
        decoded_sample(&*self.decoder, &split(codes, &self.latents), self.shape.iter().product(), draws)
    }

    fn level_sizes(&self, _latent: usize) -> Vec<usize> {
        self.latents.clone()
    }

    fn level_rates(&self, inputs: Tensor<4>, draws: &mut Draws) -> Result<Vec<Tensor<1>>, Undefined> {
        self.sampled(&self.features(inputs), EVALUATION, "posterior", draws).iter().map(Level::rate).collect()
    }

    fn log_evidence(&self, inputs: Tensor<4>, samples: usize, draws: &mut Draws) -> Result<Tensor<1>, Undefined> {
        let (batch, x, features) = (inputs.dims()[0], flat(inputs.clone()), self.features(inputs.clone()));
        let mut weights = Vec::with_capacity(samples);
        for _ in 0..samples.max(1) {
            let levels = self.sampled(&features, EVALUATION, "importance", draws);
            let likelihood = self.decoder.generate(&codes(&levels), Some(inputs.clone())).log_prob(x.clone());
            let prior = self.codes_log_prob(&codes(&levels), |level| levels[level].prior.clone())?;
            weights.push((likelihood + prior - posterior_log_prob(&levels)?).reshape([batch, 1]));
        }
        Ok(log_mean_exp(Tensor::cat(weights, 1), 1).reshape([batch]))
    }
}

#[cfg(test)]
mod tests;
