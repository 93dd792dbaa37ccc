//! Models with a joint density of inputs and codes: a posterior and a prior for every level, and a decoder. Everything else follows.

use burn::tensor::Tensor;

use crate::decoder::Decoder;
use crate::distributions::{BoxedDistribution, Undefined, kl, one_sample};
use crate::hierarchy::split;
use crate::math::log_mean_exp;
use crate::noise::Draws;

/// Purpose of the noise that inputs are decoded with.
const DECODING: &str = "reconstruction";

/// Capabilities `reconstruct`, `sample` and `log-density`: both joint densities of a finished model. Codes are flat, `[batch, latent]`, the
/// levels of a hierarchical code side by side, bottom first. What a model has no formula for is an error, never another number.
///
/// A model says what its levels and its decoder are; drawing, scoring and estimating are provided once for all.
pub trait LatentModel {
    /// Sizes of the levels of the code, bottom first.
    fn level_sizes(&self) -> Vec<usize>;

    /// What the posteriors need of inputs `[batch, channels, height, width]`, bottom first; computed once however many codes are drawn.
    fn features(&self, inputs: Tensor<4>) -> Vec<Tensor<2>>;

    /// q(z_level | x, the levels above), from this level's features; `above` holds the next level first and the top last.
    fn level_posterior(&self, level: usize, features: Tensor<2>, above: &[Tensor<2>]) -> BoxedDistribution;

    /// p(z_level | the levels above), of the top level p(z_top).
    ///
    /// # Errors
    /// [`Undefined`] where p(z) is no density of its own.
    fn level_prior(&self, level: usize, above: &[Tensor<2>]) -> Result<BoxedDistribution, Undefined>;

    /// `count` independent codes of the top level drawn from its prior: exactly so many, whatever the prior is made of. Components of a
    /// mixture, and classes of a categorical code, are chosen at random by their weights.
    ///
    /// # Errors
    /// [`Undefined`] where p(z) is no density of its own.
    fn sample_top(&self, count: usize, draws: &mut Draws) -> Result<Tensor<2>, Undefined>;

    /// p(x|z) and the priors below the top.
    fn decoder(&self) -> &dyn Decoder;

    /// The values of inputs that p(x|z) scores, `[batch, features]`.
    fn observed(&self, inputs: Tensor<4>) -> Tensor<2> {
        let [batch, channels, height, width] = inputs.dims();
        inputs.reshape([batch, channels * height * width])
    }

    /// Number of values of an input.
    fn observed_features(&self) -> usize;

    /// Name of the noise that codes of a level are drawn with for `what`.
    fn purpose(&self, what: &str, level: usize) -> String {
        format!("{what} z{}", level + 1)
    }

    /// Whether rates of levels are divergences where these have a closed form. Models that report ln q - ln p of one code say no, so that the
    /// levels add up to what they report.
    fn has_exact_rates(&self) -> bool {
        true
    }

    /// Learned inputs `[components, features]` whose posteriors make up the prior, where it is made of such.
    fn pseudo_inputs(&self) -> Option<Tensor<2>> {
        None
    }

    /// ln q(x) in nats, `[batch]`, by the objective's definition; `codes` are samples of q(z|x) for definitions that need one. Without a
    /// definition the importance estimate ln p(x|z) + ln p(z) - ln q(z|x).
    ///
    /// # Errors
    /// [`Undefined`] where one of its terms is.
    fn marginal_log_prob(&self, inputs: Tensor<4>, codes: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        let likelihood = self.likelihood(codes.clone(), Some(inputs.clone())).log_prob(self.observed(inputs.clone()))?;
        Ok(likelihood + self.prior_log_prob(codes.clone())? - self.posterior_log_prob(inputs, codes)?)
    }

    /// Codes drawn level by level for `what`, top first, with their posteriors; bottom first.
    ///
    /// # Errors
    /// [`Undefined`] where a level has no samples as a function of noise.
    fn draw_levels(
        &self,
        features: &[Tensor<2>],
        what: &str,
        draws: &mut Draws,
    ) -> Result<(Vec<Tensor<2>>, Vec<BoxedDistribution>), Undefined> {
        let (mut codes, mut posteriors): (Vec<Tensor<2>>, Vec<BoxedDistribution>) = (Vec::new(), Vec::new());
        for level in (0..features.len()).rev() {
            let posterior = self.level_posterior(level, features[level].clone(), &codes);
            let noise =
                draws.normal(&self.purpose(what, level), [posterior.dims()[0], posterior.noise_features()], &features[level].device());
            codes.insert(0, one_sample(&*posterior, noise)?);
            posteriors.insert(0, posterior);
        }
        Ok((codes, posteriors))
    }

    /// Codes drawn from q(z|x).
    ///
    /// # Errors
    /// [`Undefined`] where a level has no samples as a function of noise.
    fn sample_codes(&self, inputs: Tensor<4>, draws: &mut Draws) -> Result<Tensor<2>, Undefined> {
        Ok(Tensor::cat(self.draw_levels(&self.features(inputs), "posterior", draws)?.0, 1))
    }

    /// p(x|z) with earlier values taken from `teacher` where the model is autoregressive.
    fn likelihood(&self, codes: Tensor<2>, teacher: Option<Tensor<4>>) -> BoxedDistribution {
        self.decoder().decode(&split(codes, &self.level_sizes()), teacher)
    }

    /// ln p(z) in nats, `[batch]`.
    ///
    /// # Errors
    /// [`Undefined`] where p(z) is no density of its own.
    fn prior_log_prob(&self, codes: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        let codes = split(codes, &self.level_sizes());
        sum(codes.len(), |level| self.level_prior(level, &codes[level + 1..])?.log_prob(codes[level].clone()))
    }

    /// `count` independent codes drawn from p(z), from the top down.
    ///
    /// # Errors
    /// [`Undefined`] where p(z) is no density of its own.
    fn sample_prior(&self, count: usize, draws: &mut Draws) -> Result<Tensor<2>, Undefined> {
        self.sample_below(self.sample_top(count, draws)?, draws)
    }

    /// Codes of the levels below `top` drawn from their priors, all levels side by side.
    ///
    /// # Errors
    /// [`Undefined`] where p(z) is no density of its own.
    fn sample_below(&self, top: Tensor<2>, draws: &mut Draws) -> Result<Tensor<2>, Undefined> {
        let mut codes = vec![top];
        for level in (0..self.level_sizes().len() - 1).rev() {
            let prior = self.level_prior(level, &codes)?;
            codes.insert(0, prior.sample(&self.purpose("prior", level), draws));
        }
        Ok(Tensor::cat(codes, 1))
    }

    /// ln q(z|x) in nats, `[batch]`, for any codes.
    ///
    /// # Errors
    /// [`Undefined`] of deterministic codes.
    fn posterior_log_prob(&self, inputs: Tensor<4>, codes: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        let (codes, features) = (split(codes, &self.level_sizes()), self.features(inputs));
        sum(codes.len(), |level| self.level_posterior(level, features[level].clone(), &codes[level + 1..]).log_prob(codes[level].clone()))
    }

    /// The means of p(x|z), `[batch, features]`: equal codes give equal inputs. The exception are autoregressive models, whose mean of a
    /// value depends on the values before it: they draw those, and return the means along the way.
    fn decode_mean(&self, codes: Tensor<2>, draws: &mut Draws) -> Tensor<2> {
        match self.ancestral(codes.clone(), draws) {
            Some((_, means)) => means,
            None => self.likelihood(codes, None).mean(),
        }
    }

    /// Inputs drawn from p(x|z), `[batch, features]`, value by value where the model is autoregressive.
    fn decode_sample(&self, codes: Tensor<2>, draws: &mut Draws) -> Tensor<2> {
        match self.ancestral(codes.clone(), draws) {
            Some((sample, _)) => sample,
            None => self.likelihood(codes, None).sample(DECODING, draws),
        }
    }

    /// Inputs drawn value by value and the means along the way, where the model is autoregressive.
    fn ancestral(&self, codes: Tensor<2>, draws: &mut Draws) -> Option<(Tensor<2>, Tensor<2>)> {
        let decoder = Some(self.decoder()).filter(|decoder| decoder.is_autoregressive())?;
        let uniform = draws.uniform(DECODING, [codes.dims()[0], self.observed_features()], &codes.device());
        Some(decoder.ancestral(&split(codes, &self.level_sizes()), uniform))
    }

    /// Rate of every level given those above, R(z_level | above), in nats, `[batch]` each, bottom first: the divergence of the posterior
    /// from the prior at one code of the levels above, or ln q - ln p of one code where that has no closed form or the model
    /// [says so](Self::has_exact_rates). Their sum is the total rate.
    ///
    /// # Errors
    /// [`Undefined`] of deterministic codes, and where p(z) is no density of its own.
    fn level_rates(&self, inputs: Tensor<4>, draws: &mut Draws) -> Result<Vec<Tensor<1>>, Undefined> {
        let (codes, posteriors) = self.draw_levels(&self.features(inputs), "posterior", draws)?;
        let rate = |level: usize| {
            let (posterior, prior) = (&posteriors[level], self.level_prior(level, &codes[level + 1..])?);
            let one_code = || Ok(posterior.log_prob(codes[level].clone())? - prior.log_prob(codes[level].clone())?);
            if !self.has_exact_rates() {
                return one_code();
            }
            match kl(&**posterior, &*prior) {
                Err(Undefined::Divergence { .. }) => one_code(),
                found => found,
            }
        };
        (0..codes.len()).map(rate).collect()
    }

    /// ln p(x) in nats estimated from `samples` codes of q(z|x) by importance sampling, `[batch]`; a lower bound in expectation.
    ///
    /// # Errors
    /// [`Undefined`] of deterministic codes, and where p(z) is no density of its own.
    fn log_evidence(&self, inputs: Tensor<4>, samples: usize, draws: &mut Draws) -> Result<Tensor<1>, Undefined> {
        let (x, features) = (self.observed(inputs.clone()), self.features(inputs.clone()));
        let batch = x.dims()[0];
        let mut weights = Vec::with_capacity(samples);
        for _ in 0..samples.max(1) {
            let (codes, posteriors) = self.draw_levels(&features, "importance", draws)?;
            let likelihood = self.decoder().decode(&codes, Some(inputs.clone())).log_prob(x.clone())?;
            let prior = sum(codes.len(), |level| self.level_prior(level, &codes[level + 1..])?.log_prob(codes[level].clone()))?;
            let posterior = sum(codes.len(), |level| posteriors[level].log_prob(codes[level].clone()))?;
            weights.push((likelihood + prior - posterior).reshape([batch, 1]));
        }
        Ok(log_mean_exp(Tensor::cat(weights, 1), 1).reshape([batch]))
    }
}

/// The sum of a term for each of the levels, at least one.
fn sum(levels: usize, term: impl Fn(usize) -> Result<Tensor<1>, Undefined>) -> Result<Tensor<1>, Undefined> {
    (1..levels).try_fold(term(0)?, |sum, level| Ok(sum + term(level)?))
}
