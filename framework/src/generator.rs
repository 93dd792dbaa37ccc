//! Generators: maps from codes back to a [`Density`] over inputs, with the prior of every level of the code below the top.

use burn::tensor::Tensor;

use crate::density::Density;
use crate::module::{Erased, ErasedModule};
use crate::noise::Draws;
use crate::posterior::{Posterior, Undefined};

/// Module kind of boxed generators.
#[derive(Clone, Copy, Debug)]
pub struct GeneratorKind;

/// z -> p(x|z). Implement it for a type that derives burn's `Module`. Codes come as one tensor `[batch, latent]` per level, bottom first.
pub trait Generator: ErasedModule<GeneratorKind> {
    /// p(x|z). Autoregressive generators condition every value on the earlier values of `teacher`, `[batch, channels, height, width]`;
    /// the others ignore it.
    fn generate(&self, codes: &[Tensor<2>], teacher: Option<Tensor<4>>) -> Density;

    /// p(z_level | the levels above), `above` holding the next level first and the top last; nothing for the top level, whose prior is
    /// the objective's.
    fn prior(&self, _level: usize, _above: &[Tensor<2>]) -> Option<Posterior> {
        None
    }

    /// Whether [`Generator::generate`] needs a teacher.
    fn is_autoregressive(&self) -> bool {
        false
    }

    /// Inputs sampled value by value where the generator is autoregressive, and the mean of each value along the way;
    /// `uniform` `[batch, features]` decides the values. Other generators return their mean twice; see [`decoded_sample`] for a draw of
    /// either kind.
    fn ancestral(&self, codes: &[Tensor<2>], _uniform: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let mean = self.generate(codes, None).mean();
        (mean.clone(), mean)
    }
}

/// Purpose of the noise that inputs are decoded with.
const DECODING: &str = "reconstruction";

/// Means of p(x|codes), `[batch, features]`; those along one ancestral sample where the generator is autoregressive, which alone needs noise.
pub fn decoded_mean(generator: &dyn Generator, codes: &[Tensor<2>], features: usize, draws: &mut Draws) -> Tensor<2> {
    match ancestral(generator, codes, features, draws) {
        Some((_, means)) => means,
        None => generator.generate(codes, None).mean(),
    }
}

/// Draws from p(x|codes), `[batch, features]`, value by value where the generator is autoregressive.
pub fn decoded_sample(generator: &dyn Generator, codes: &[Tensor<2>], features: usize, draws: &mut Draws) -> Tensor<2> {
    match ancestral(generator, codes, features, draws) {
        Some((sample, _)) => sample,
        None => generator.generate(codes, None).sample(DECODING, draws),
    }
}

fn ancestral(generator: &dyn Generator, codes: &[Tensor<2>], features: usize, draws: &mut Draws) -> Option<(Tensor<2>, Tensor<2>)> {
    let first = codes.first().filter(|_| generator.is_autoregressive())?;
    Some(generator.ancestral(codes, draws.uniform(DECODING, [first.dims()[0], features], &first.device())))
}

crate::erase_modules!(GeneratorKind, Generator);

/// A boxed generator as a field of a module.
pub type BoxedGenerator = Erased<GeneratorKind>;

/// The four log densities of one joint sample (x, z) in nats, `[batch]` each; codes of several levels count together.
#[derive(Clone, Debug)]
pub struct LogTerms {
    /// ln p(x|z).
    pub likelihood: Tensor<1>,
    /// ln p(z).
    pub prior: Tensor<1>,
    /// ln q(z|x).
    pub posterior: Tensor<1>,
    /// ln q(x), by the objective's definition; by default the importance estimate ln p(x|z) + ln p(z) - ln q(z|x).
    pub marginal: Tensor<1>,
}

/// Capabilities `reconstruct`, `sample` and `log-density`: both joint densities of a finished model. Codes are flat, `[batch, latent]`, the
/// levels of a hierarchical code side by side, bottom first. What a model has no formula for is an error, never another number.
pub trait GenerativeModel {
    /// Codes drawn from q(z|x) for inputs `[batch, channels, height, width]`.
    fn sample_codes(&self, inputs: Tensor<4>, draws: &mut Draws) -> Tensor<2>;

    /// p(x|z) with earlier values taken from `teacher` where the model is autoregressive.
    fn likelihood(&self, codes: Tensor<2>, teacher: Option<Tensor<4>>) -> Density;

    /// ln p(z) in nats, `[batch]`.
    ///
    /// # Errors
    /// [`Undefined`] where p(z) is no density of its own.
    fn prior_log_prob(&self, codes: Tensor<2>) -> Result<Tensor<1>, Undefined>;

    /// `count` independent codes drawn from p(z): exactly so many, whatever the prior is made of. Components of a mixture, and classes of a
    /// categorical code, are chosen at random by their weights.
    ///
    /// # Errors
    /// [`Undefined`] where p(z) is no density of its own.
    fn sample_prior(&self, count: usize, draws: &mut Draws) -> Result<Tensor<2>, Undefined>;

    /// ln q(z|x) in nats, `[batch]`, for any codes.
    ///
    /// # Errors
    /// [`Undefined`] of deterministic codes.
    fn posterior_log_prob(&self, inputs: Tensor<4>, codes: Tensor<2>) -> Result<Tensor<1>, Undefined>;

    /// ln q(x) in nats, `[batch]`, by the objective's definition; `codes` are samples of q(z|x) for definitions that need one.
    ///
    /// # Errors
    /// [`Undefined`] where one of its terms is.
    fn marginal_log_prob(&self, inputs: Tensor<4>, codes: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        let [batch, channels, height, width] = inputs.dims();
        let flat = inputs.clone().reshape([batch, channels * height * width]);
        let likelihood = self.likelihood(codes.clone(), Some(inputs.clone())).log_prob(flat);
        Ok(likelihood + self.prior_log_prob(codes.clone())? - self.posterior_log_prob(inputs, codes)?)
    }

    /// The means of p(x|z), `[batch, features]` (see [`Density::mean`]): equal codes give equal inputs. The exception are autoregressive
    /// models, whose mean of a value depends on the values before it: they draw those, and return the means along the way.
    fn decode_mean(&self, codes: Tensor<2>, draws: &mut Draws) -> Tensor<2>;

    /// Inputs drawn from p(x|z), `[batch, features]` (see [`Density::sample`]).
    fn decode_sample(&self, codes: Tensor<2>, draws: &mut Draws) -> Tensor<2>;

    /// Sizes of the levels of a code of `latent` numbers, bottom first.
    fn level_sizes(&self, latent: usize) -> Vec<usize> {
        vec![latent]
    }

    /// Rate of every level given those above, R(z_level | above), in nats, `[batch]` each, bottom first: exact where the posterior allows,
    /// otherwise ln q - ln p of one code. Their sum is the total rate.
    ///
    /// # Errors
    /// [`Undefined`] of deterministic codes, and where p(z) is no density of its own.
    fn level_rates(&self, inputs: Tensor<4>, draws: &mut Draws) -> Result<Vec<Tensor<1>>, Undefined> {
        let codes = self.sample_codes(inputs.clone(), draws);
        Ok(vec![self.posterior_log_prob(inputs, codes.clone())? - self.prior_log_prob(codes)?])
    }

    /// Learned inputs `[components, features]` whose posteriors make up the prior, where it is made of such.
    fn pseudo_inputs(&self) -> Option<Tensor<2>> {
        None
    }

    /// ln p(x) in nats estimated from `samples` codes of q(z|x) by importance sampling, `[batch]`; a lower bound in expectation.
    ///
    /// # Errors
    /// [`Undefined`] of deterministic codes, and where p(z) is no density of its own.
    fn log_evidence(&self, inputs: Tensor<4>, samples: usize, draws: &mut Draws) -> Result<Tensor<1>, Undefined>;
}
