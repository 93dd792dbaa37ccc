//! Mixtures of normals with diagonal covariance, one mixture for every row of a batch.

use burn::tensor::{Device, Int, Tensor};
use ibhost_kernels::normal_sample;

use crate::categorical::uniform_from_normal;
use crate::distribution::{Distribution, Support, Undefined};
use crate::math::log_sum_exp;
use crate::noise::Draws;
use crate::normal::{Normal, normal_log_prob};

/// Uniform draws stay this far below 1: in single precision the quantile of a normal draw beyond 5.3 would be 1, past every component.
const BELOW_ONE: f64 = 1e-7;

/// A batch of mixtures sum_k w_k N(mean_k, diag(scale_k^2)).
#[derive(Clone, Debug)]
pub struct NormalMixture {
    /// ln w_k, normalised over components, `[batch, components]`.
    pub log_weights: Tensor<2>,
    /// `[batch, components, features]`.
    pub mean: Tensor<3>,
    /// Standard deviations, `[batch, components, features]`, positive.
    pub scale: Tensor<3>,
}

impl NormalMixture {
    /// One row a component, those of the first mixture first: `[batch * components, features]`.
    pub fn rows(&self, of: &Tensor<3>) -> Tensor<2> {
        let [batch, components, features] = self.mean.dims();
        of.clone().reshape([batch * components, features])
    }

    fn weighted(&self, values: Tensor<3>) -> Tensor<2> {
        let [batch, components, features] = self.mean.dims();
        let weights = self.log_weights.clone().exp().reshape([batch, components, 1]);
        (values * weights).sum_dim(1).reshape([batch, features])
    }

    /// The normal with the mean and the standard deviations of each mixture.
    pub fn matched(&self) -> Normal {
        Normal { mean: self.mean(), scale: self.spread() }
    }

    /// Standard deviation of every feature by itself: the root of sum_k w_k (scale_k^2 + (mean_k - mean)^2).
    fn spread(&self) -> Tensor<2> {
        let [batch, features] = self.dims();
        let distance = self.mean.clone() - self.mean().reshape([batch, 1, features]);
        self.weighted(self.scale.clone().powi_scalar(2) + distance.powi_scalar(2)).sqrt()
    }

    /// A sample of every mixture, `[batch, features]`, and ln w_k of the component it comes from, `[batch]`.
    ///
    /// Of standard normal `noise` `[batch, features + 1]`, the quantile of the last column chooses the component k and the others give
    /// mean_k + scale_k noise. Gradients flow into the mean and the scale of that component; the choice is discrete and has none, so that a
    /// loss whose gradient must reach the weights needs the score of the choice, the gradient of the returned ln w_k.
    pub fn choose(&self, noise: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let [batch, components, features] = self.mean.dims();
        let reached = self.log_weights.clone().detach().exp().cumsum(1);
        let total = reached.clone().narrow(1, components - 1, 1);
        let level = uniform_from_normal(noise.clone().narrow(1, features, 1)).clamp_max(1.0 - BELOW_ONE) * total;
        let passed = reached.lower_equal(level.expand([batch, components])).int().sum_dim(1).reshape([batch]);
        let first = Tensor::<1, Int>::arange(0..batch as i64, &self.mean.device()).mul_scalar(components as i64);
        let chosen = first + passed.clamp_max(components as i64 - 1);
        let pick = |of: &Tensor<3>| self.rows(of).select(0, chosen.clone());
        let sample = normal_sample(pick(&self.mean), pick(&self.scale), noise.narrow(1, 0, features));
        (sample, self.log_weights.clone().reshape([batch * components]).select(0, chosen))
    }
}

impl Distribution for NormalMixture {
    fn family(&self) -> &'static str {
        "mixture of normals"
    }

    fn dims(&self) -> [usize; 2] {
        let [batch, _, features] = self.mean.dims();
        [batch, features]
    }

    fn device(&self) -> Device {
        self.mean.device()
    }

    fn support(&self) -> Support {
        Support::Real
    }

    /// sum_k w_k mean_k.
    fn mean(&self) -> Tensor<2> {
        self.weighted(self.mean.clone())
    }

    /// ln sum_k w_k N(x; mean_k, diag(scale_k^2)).
    fn log_prob(&self, x: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        let [batch, components, features] = self.mean.dims();
        let x = self.rows(&x.reshape([batch, 1, features]).expand([batch, components, features]));
        let each = normal_log_prob(x, self.rows(&self.mean), self.rows(&self.scale)).reshape([batch, components]);
        Ok(log_sum_exp(each + self.log_weights.clone(), 1).reshape([batch]))
    }

    fn sample(&self, purpose: &str, draws: &mut Draws) -> Tensor<2> {
        let [batch, features] = self.dims();
        self.choose(draws.normal(purpose, [batch, features + 1], &self.device())).0
    }

    fn deviation(&self) -> Option<Tensor<2>> {
        Some(self.spread())
    }

    /// The last column of the noise chooses the component.
    fn noise_features(&self) -> usize {
        self.dims()[1] + 1
    }

    /// Gradients reach the components; those of the weights need the choice of [`Distribution::rsample_with_choice`].
    fn rsample(&self, noise: Tensor<3>) -> Option<Tensor<3>> {
        let ([samples, batch, columns], features) = (noise.dims(), self.dims()[1]);
        let one = |s: usize| self.choose(noise.clone().narrow(0, s, 1).reshape([batch, columns])).0.reshape([1, batch, features]);
        Some(Tensor::cat((0..samples).map(one).collect(), 0))
    }

    fn rsample_with_choice(&self, noise: Tensor<2>) -> Option<(Tensor<2>, Option<Tensor<1>>)> {
        let (sample, choice) = self.choose(noise);
        Some((sample, Some(choice)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{Draws, Noise};
    use burn::tensor::activation::log_softmax;
    use burn::tensor::{DType, Device, TensorData};

    /// Raw log weights, means and log scales of two mixtures of three components in two dimensions.
    const RAW: [f64; 6] = [0.4, -1.2, 0.3, 2.0, 0.1, -0.7];
    const MEANS: [f64; 12] = [0.1, -0.5, 1.3, 0.2, -0.8, 0.9, 2.1, 0.0, -1.0, -1.5, 0.4, 0.6];
    const LOG_SCALES: [f64; 12] = [0.1, -0.4, 0.3, -1.0, 0.0, 0.2, -0.6, 0.5, -0.2, 0.1, 0.7, -0.3];
    const POINTS: [f64; 4] = [0.3, -0.2, 1.1, 0.7];

    fn double<const D: usize>(values: &[f64], shape: [usize; D], device: &Device) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), (device, DType::F64))
    }

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
        x.into_data().iter::<f64>().collect()
    }

    /// ln of the density of both mixtures at the points by the formula itself.
    fn formula(raw: &[f64], means: &[f64], log_scales: &[f64]) -> [f64; 2] {
        [0, 1].map(|i| {
            let total: f64 = raw[3 * i..3 * i + 3].iter().map(|l| l.exp()).sum();
            let density = (0..3).map(|k| {
                let factors = (0..2).map(|d| {
                    let at = 6 * i + 2 * k + d;
                    let scale = log_scales[at].exp();
                    let t = (POINTS[2 * i + d] - means[at]) / scale;
                    (-0.5 * t * t).exp() / (scale * (2.0 * std::f64::consts::PI).sqrt())
                });
                raw[3 * i + k].exp() / total * factors.product::<f64>()
            });
            density.sum::<f64>().ln()
        })
    }

    fn mixture(raw: Tensor<2>, mean: Tensor<3>, log_scale: Tensor<3>) -> NormalMixture {
        NormalMixture { log_weights: log_softmax(raw, 1), mean, scale: log_scale.exp() }
    }

    #[test]
    fn log_densities_are_those_of_the_formula() {
        let device = Device::flex();
        let found = mixture(double(&RAW, [2, 3], &device), double(&MEANS, [2, 3, 2], &device), double(&LOG_SCALES, [2, 3, 2], &device));
        let found = values(found.log_prob(double(&POINTS, [2, 2], &device)).unwrap());
        let expected = formula(&RAW, &MEANS, &LOG_SCALES);
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} {expected:?}");
    }

    #[test]
    fn gradients_of_the_log_density_are_its_finite_differences() {
        let device = Device::flex().autodiff();
        let raw = double(&RAW, [2, 3], &device).require_grad();
        let mean = double(&MEANS, [2, 3, 2], &device).require_grad();
        let log_scale = double(&LOG_SCALES, [2, 3, 2], &device).require_grad();
        let y = mixture(raw.clone(), mean.clone(), log_scale.clone()).log_prob(double(&POINTS, [2, 2], &device)).unwrap();
        let gradients = y.sum().backward();
        let found =
            [values(raw.grad(&gradients).unwrap()), values(mean.grad(&gradients).unwrap()), values(log_scale.grad(&gradients).unwrap())];
        for (argument, found) in found.iter().enumerate() {
            for (index, found) in found.iter().enumerate() {
                let at = |step: f64| {
                    let mut all = [RAW.to_vec(), MEANS.to_vec(), LOG_SCALES.to_vec()];
                    all[argument][index] += step;
                    formula(&all[0], &all[1], &all[2]).iter().sum::<f64>()
                };
                let expected = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((found - expected).abs() < 1e-8, "argument {argument}, {index}: {found} {expected}");
            }
        }
    }

    #[test]
    fn one_component_is_the_normal_itself() {
        let device = Device::flex();
        let (mean, scale) = (double(&MEANS[..4], [2, 2], &device), double(&LOG_SCALES[..4], [2, 2], &device).exp());
        let one = NormalMixture {
            log_weights: double(&[0.0, 0.0], [2, 1], &device),
            mean: mean.clone().reshape([2, 1, 2]),
            scale: scale.clone().reshape([2, 1, 2]),
        };
        let x = double(&POINTS, [2, 2], &device);
        assert_eq!(values(one.log_prob(x.clone()).unwrap()), values(normal_log_prob(x, mean.clone(), scale.clone())));
        let noise = double(&[0.3, -1.0, 2.0, 0.5, 0.1, -9.0], [2, 3], &device);
        let (sample, log_weight) = one.choose(noise.clone());
        assert_eq!(values(sample), values(normal_sample(mean.clone(), scale.clone(), noise.narrow(1, 0, 2))));
        assert_eq!(values(log_weight), [0.0, 0.0]);
        assert_eq!(values(one.mean()), values(mean));
        assert!(values(one.deviation().unwrap()).iter().zip(values(scale)).all(|(a, b)| (a - b).abs() < 1e-12));
    }

    #[test]
    fn samples_follow_the_weights_and_have_the_moments() {
        let (device, count) = (Device::flex(), 40_000);
        let weights = [0.2f64, 0.0, 0.5, 0.3, 0.0];
        let repeated = |x: Tensor<3>| x.expand([count, 5, 1]);
        let log_weights = Tensor::<2>::from_floats([weights.map(|w| w.ln() as f32)], &device).expand([count, 5]);
        let mean = repeated(Tensor::from_floats([[[-10.0], [99.0], [0.0], [10.0], [-99.0]]], &device));
        let mixture = NormalMixture { log_weights, mean, scale: repeated(Tensor::full([1, 5, 1], 0.5, &device)) };
        let mut draws = Draws::seeded(Noise::new(3), 0, "test");
        let (sample, log_weight) = mixture.choose(draws.normal("mixture", [count, 2], &device));
        let (sample, log_weight) = (values(sample), values(log_weight));
        for (place, weight) in [(-10.0, 0.2f64), (0.0, 0.5), (10.0, 0.3)] {
            let near: Vec<usize> = (0..count).filter(|&i| (sample[i] - place).abs() < 5.0).collect();
            let share = near.len() as f64 / count as f64;
            assert!((share - weight).abs() < 4.0 * (weight * (1.0 - weight) / count as f64).sqrt(), "{place}: {share}");
            assert!(near.iter().all(|&i| (log_weight[i] - weight.ln()).abs() < 1e-6));
        }
        assert!(sample.iter().all(|x| x.abs() < 15.0), "a component without weight was chosen");
        let average = sample.iter().sum::<f64>() / count as f64;
        let spread = (sample.iter().map(|x| (x - average).powi(2)).sum::<f64>() / count as f64).sqrt();
        let (mean, deviation) = (values(mixture.mean())[0], values(mixture.deviation().unwrap())[0]);
        assert!((mean - 1.0).abs() < 1e-5 && (average - mean).abs() < 0.15, "{average} {mean}");
        assert!((deviation - (49.0f64 + 0.25).sqrt()).abs() < 1e-4 && (spread - deviation).abs() < 0.1, "{spread} {deviation}");
    }

    #[test]
    fn extreme_draws_choose_a_component_that_is_there() {
        let device = Device::flex();
        let log_weights = Tensor::<2>::from_floats([[0.0, f32::NEG_INFINITY], [f32::NEG_INFINITY, 0.0]], &device);
        let mean = Tensor::<3>::from_floats([[[1.0], [2.0]], [[1.0], [2.0]]], &device);
        let mixture = NormalMixture { log_weights, scale: mean.zeros_like(), mean };
        for draw in [-40.0, -6.0, 0.0, 6.0, 40.0] {
            let (sample, log_weight) = mixture.choose(Tensor::full([2, 2], draw, &device));
            assert_eq!((values(sample), values(log_weight)), (vec![1.0, 2.0], vec![0.0, 0.0]), "{draw}");
        }
    }
}
