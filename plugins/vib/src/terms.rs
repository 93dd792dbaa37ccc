//! The class term and the rate of a batch, per code and input.

use burn::tensor::{Int, Tensor};
use ibhost_framework::distributions::Distribution;
use ibhost_framework::latent_classifier::{LatentClassifier, checked};
use ibhost_framework::math::{log_likelihood, predicted};
use ibhost_framework::noise::Draws;

use crate::config::RateEstimate;

/// Purpose of the noise that the loss is computed with.
pub const LOSS_NOISE: &str = "posterior";
/// Purpose of the noise that averaged predictions are computed with.
pub const ENSEMBLE_NOISE: &str = "averaged accuracy";

/// What the loss of a batch is made of.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Class logits, `[samples, batch, classes]`.
    pub logits: Tensor<3>,
    /// -ln q(y|z), `[samples, batch]` in nats.
    pub class: Tensor<2>,
    /// Rate in nats: `[1, batch]` when analytic, `[samples, batch]` when estimated from the codes; `None` for deterministic codes.
    pub rate: Option<Tensor<2>>,
}

impl Terms {
    /// Terms of inputs with the posteriors `posterior` and labels `[batch]`, from `samples` codes an input.
    pub fn new(
        model: &LatentClassifier,
        posterior: &dyn Distribution,
        labels: &Tensor<1, Int>,
        samples: usize,
        rate: RateEstimate,
        draws: &mut Draws,
    ) -> Self {
        let [batch, latent] = posterior.dims();
        if !posterior.is_stochastic() {
            let logits = model.logits(posterior.mean().reshape([1, batch, latent]));
            return Self { class: log_likelihood(logits.clone(), labels).neg(), logits, rate: None };
        }
        let noise = draws.normal(LOSS_NOISE, [samples, batch, posterior.noise_features()], &posterior.device());
        let codes = checked(posterior.rsample(noise.clone()));
        let rate = match rate {
            RateEstimate::Analytic => posterior.kl_to_standard().map(|rate| rate.reshape([1, batch])),
            RateEstimate::MonteCarlo => {
                let prior = posterior.standard();
                let prior = prior.log_prob(codes.clone().reshape([samples * batch, latent])).ok();
                posterior.log_prob_of_noise(noise).ok().zip(prior).map(|(q, prior)| q - prior.reshape([samples, batch]))
            }
        };
        let logits = model.logits(codes);
        Self { class: log_likelihood(logits.clone(), labels).neg(), logits, rate }
    }

    /// Share of (code, input) pairs classified right, `[1]`.
    pub fn accuracy(&self, labels: &Tensor<1, Int>) -> Tensor<1> {
        let [samples, batch, _] = self.logits.dims();
        let labels = labels.clone().reshape([1, batch]).expand([samples, batch]);
        predicted(self.logits.clone()).reshape([samples, batch]).equal(labels).float().mean()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::fixture::{batch, classifier};
    use burn::tensor::TensorData;
    use burn::tensor::activation::log_softmax;
    use ibhost_framework::distributions::Normal;
    use ibhost_framework::ensemble::Ensemble;
    use ibhost_framework::noise::Noise;

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
        x.into_data().iter::<f64>().collect()
    }

    #[test]
    fn the_estimated_rate_agrees_with_the_analytic_one_on_average() {
        let (model, batch) = (classifier("mlp/e1:6|e2:6|z:3"), batch(5));
        let posterior = model.encoder.encode(batch.inputs.clone());
        let mut draws = Draws::seeded(Noise::new(1), 0, "test");
        let terms = Terms::new(&model, &*posterior, &batch.labels, 20_000, RateEstimate::MonteCarlo, &mut draws);
        let (estimated, exact) = (values(terms.rate.unwrap().mean_dim(0)), values(posterior.kl_to_standard().unwrap()));
        for (a, b) in estimated.iter().zip(&exact) {
            assert!((a - b).abs() < 0.05, "{estimated:?} {exact:?}");
        }
    }

    #[test]
    fn deterministic_codes_have_no_rate_and_need_one_sample() {
        let (model, batch) = (classifier("mlp/e1:6|e2:6|z:3|cov:point"), batch(5));
        let posterior = model.encoder.encode(batch.inputs.clone());
        let mut draws = Draws::seeded(Noise::new(1), 0, "test");
        let terms = Terms::new(&model, &*posterior, &batch.labels, 7, RateEstimate::Analytic, &mut draws);
        assert!(terms.rate.is_none());
        assert_eq!(terms.class.dims(), [1, 5]);
        let ensemble = Ensemble::new(&model, &*posterior, 7, ENSEMBLE_NOISE, &mut draws);
        let expected = values(log_softmax(terms.logits, 2));
        assert!(values(ensemble.log_probabilities).iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn an_ensemble_averages_probabilities_and_stays_finite_at_extreme_logits() {
        let model = classifier("mlp/e1:6|e2:6|z:3|scale:exp");
        // Huge posteriors drive the logits far beyond what a softmax can hold.
        let batch = batch(4);
        let (mean, scale) = model.encoder.encode(batch.inputs).as_normal().unwrap();
        let posterior = Normal { mean, scale: scale.mul_scalar(1e4) };
        let ensemble = Ensemble::new(&model, &posterior, 12, ENSEMBLE_NOISE, &mut Draws::seeded(Noise::new(2), 0, "test"));
        let sums = values(ensemble.log_probabilities.clone().exp().sum_dim(1));
        assert!(sums.iter().all(|s| (s - 1.0).abs() < 1e-4), "{sums:?}");
        assert!(values(ensemble.log_probabilities).iter().chain(&values(ensemble.raw)).all(|v| v.is_finite()));
    }

    #[test]
    fn many_codes_are_combined_in_parts_to_the_same_result() {
        let (model, batch) = (classifier("mlp/e1:6|e2:6|z:3|scale:exp"), batch(2));
        let posterior = model.encoder.encode(batch.inputs);
        let noise = |from: usize, samples: usize| {
            let values: Vec<f32> = (0..samples * 6).map(|i| ((from * 6 + i) as f32 * 0.7).sin()).collect();
            (ENSEMBLE_NOISE.to_owned(), TensorData::new(values, [samples, 2, 3]))
        };
        let parts = Ensemble::in_parts(&model, &*posterior, 4, 3, ENSEMBLE_NOISE, &mut Draws::recorded([noise(0, 3), noise(3, 1)]));
        let whole = Ensemble::in_parts(&model, &*posterior, 4, 9, ENSEMBLE_NOISE, &mut Draws::recorded([noise(0, 4)]));
        for (a, b) in [(parts.log_probabilities, whole.log_probabilities), (parts.raw, whole.raw)] {
            assert!(values(a).iter().zip(&values(b)).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }
}
