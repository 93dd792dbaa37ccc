//! Predictions averaged over many codes of a latent classifier, in bounded memory.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;

use crate::distributions::Distribution;
use crate::latent_classifier::LatentClassifier;
use crate::math::log_sum_exp;
use crate::noise::Draws;

/// Scalars of codes that are decoded at once (16 MB in single precision).
const CODES_AT_ONCE: usize = 1 << 22;

/// Logits of many codes an input, combined.
#[derive(Clone, Debug)]
pub struct Ensemble {
    /// ln of the softmax averaged over the codes, `[batch, classes]` in nats.
    pub log_probabilities: Tensor<2>,
    /// ln of the sum over the codes of exp(logit), `[batch, classes]`: not normalised, so codes with larger logits weigh more.
    pub raw: Tensor<2>,
}

impl Ensemble {
    /// Combines `samples` codes drawn from each of `posterior` with noise for `purpose`; one code is enough when they are deterministic.
    pub fn new(model: &LatentClassifier, posterior: &dyn Distribution, samples: usize, purpose: &str, draws: &mut Draws) -> Self {
        let [batch, latent] = posterior.dims();
        Self::in_parts(model, posterior, samples, CODES_AT_ONCE / (batch * latent).max(1), purpose, draws)
    }

    /// As [`Ensemble::new`], decoding at most `at_once` codes of each input at a time.
    pub fn in_parts(
        model: &LatentClassifier,
        posterior: &dyn Distribution,
        samples: usize,
        at_once: usize,
        purpose: &str,
        draws: &mut Draws,
    ) -> Self {
        let samples = if posterior.is_stochastic() { samples.max(1) } else { 1 };
        let (mut normalised, mut raw) = (Vec::new(), Vec::new());
        let mut left = samples;
        while left > 0 {
            let now = at_once.clamp(1, left);
            let logits = model.sampled_logits(posterior, now, purpose, draws);
            normalised.push(log_sum_exp(log_softmax(logits.clone(), 2), 0));
            raw.push(log_sum_exp(logits, 0));
            left -= now;
        }
        let combine = |parts: Vec<Tensor<3>>| {
            let [_, batch, classes] = parts[0].dims();
            log_sum_exp(Tensor::cat(parts, 0), 0).reshape([batch, classes])
        };
        Self { log_probabilities: combine(normalised) - (samples as f64).ln(), raw: combine(raw) }
    }
}
