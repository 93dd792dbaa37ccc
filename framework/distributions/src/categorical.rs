//! One of several classes as a one-hot vector or a relaxed one, and all classes alike.

use std::f64::consts::FRAC_1_SQRT_2;

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Device, Int, Tensor};

use crate::distribution::{BoxedDistribution, Distribution, Support, Undefined, repeat_rows};
use crate::noise::Draws;

/// Keeps logarithms finite where probabilities underflow.
const TINY: f64 = 1e-20;

/// How far a sample may stray from one-hot vectors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relaxation {
    /// Temperature of the softmax; samples approach one-hot vectors as it falls to 0.
    pub temperature: f64,
    /// One-hot samples, with the gradient of the relaxed ones (straight-through).
    pub hard: bool,
}

impl Relaxation {
    /// One-hot samples at temperature 1.
    pub const ONE_HOT: Self = Self { temperature: 1.0, hard: true };
}

/// One of `classes`, by softmax(logits).
#[derive(Clone, Debug)]
pub struct Categorical {
    /// Unnormalised ln probabilities, `[batch, classes]`.
    pub logits: Tensor<2>,
    /// How samples that gradients flow through are drawn.
    pub relaxation: Relaxation,
}

impl Categorical {
    /// Classes whose samples are one-hot.
    pub fn new(logits: Tensor<2>) -> Self {
        Self { logits, relaxation: Relaxation::ONE_HOT }
    }

    fn relaxed(&self, noise: Tensor<3>, relaxation: Relaxation) -> Tensor<3> {
        let [batch, classes] = self.logits.dims();
        let logits = self.logits.clone().reshape([1, batch, classes]).expand([noise.dims()[0], batch, classes]);
        relaxed_one_hot(logits, uniform_from_normal(noise), relaxation)
    }
}

impl Distribution for Categorical {
    fn family(&self) -> &'static str {
        "categorical"
    }
    fn dims(&self) -> [usize; 2] {
        self.logits.dims()
    }
    fn device(&self) -> Device {
        self.logits.device()
    }
    fn support(&self) -> Support {
        Support::OneHot
    }
    /// The probabilities of the classes.
    fn mean(&self) -> Tensor<2> {
        softmax(self.logits.clone(), 1)
    }
    fn log_prob(&self, x: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        let [batch, _] = x.dims();
        Ok((x * log_softmax(self.logits.clone(), 1)).sum_dim(1).reshape([batch]))
    }
    fn sample(&self, purpose: &str, draws: &mut Draws) -> Tensor<2> {
        let [batch, classes] = self.dims();
        let noise = draws.normal(purpose, [1, batch, classes], &self.device());
        self.relaxed(noise, Relaxation { hard: true, ..self.relaxation }).reshape([batch, classes])
    }
    /// The most probable class.
    fn point(&self) -> Tensor<2> {
        one_hot_of_largest(self.logits.clone())
    }
    fn deviation(&self) -> Option<Tensor<2>> {
        let q = self.mean();
        Some((q.clone() * q.neg().add_scalar(1.0)).sqrt())
    }
    fn covariance(&self) -> Option<Tensor<3>> {
        let ([batch, classes], q) = (self.dims(), self.mean());
        let eye = Tensor::<2>::eye(classes, &q.device()).reshape([1, classes, classes]);
        let outer = q.clone().reshape([batch, classes, 1]) * q.clone().reshape([batch, 1, classes]);
        Some(q.reshape([batch, classes, 1]) * eye - outer)
    }
    /// (Relaxed) one-hot vectors, from the uniform variables with the noise's quantiles.
    fn rsample(&self, noise: Tensor<3>) -> Option<Tensor<3>> {
        Some(self.relaxed(noise, self.relaxation))
    }
    /// Of the class that the noise chooses, also where samples are relaxed.
    fn log_prob_of_noise(&self, noise: Tensor<3>) -> Result<Tensor<2>, Undefined> {
        let [samples, batch, classes] = noise.dims();
        let codes = self.relaxed(noise, Relaxation { hard: true, ..self.relaxation }).reshape([samples * batch, classes]);
        let logits = self.logits.clone().reshape([1, batch, classes]).expand([samples, batch, classes]);
        Ok(Self::new(logits.reshape([samples * batch, classes])).log_prob(codes)?.reshape([samples, batch]))
    }
    /// From a categorical distribution the sum of q (ln q - ln p).
    fn kl(&self, other: &dyn Distribution) -> Option<Tensor<1>> {
        let [batch, classes] = self.dims();
        if other.downcast::<UniformCategorical>().is_some() {
            let q = self.mean();
            return Some((q.clone() * q.mul_scalar(classes as f64).add_scalar(TINY).log()).sum_dim(1).reshape([batch]));
        }
        let (q, p) = (log_softmax(self.logits.clone(), 1), log_softmax(other.logits()?, 1));
        Some((q.clone().exp() * (q - p)).sum_dim(1).reshape([batch]))
    }
    fn standard(&self) -> BoxedDistribution {
        UniformCategorical::new(self.dims(), &self.device()).boxed()
    }
    fn logits(&self) -> Option<Tensor<2>> {
        Some(self.logits.clone())
    }
    fn repeat(&self, times: usize) -> Option<BoxedDistribution> {
        Some(Self { logits: repeat_rows(&self.logits, times), relaxation: self.relaxation }.boxed())
    }
}

/// One of `classes`, all alike.
#[derive(Clone, Debug)]
pub struct UniformCategorical {
    dims: [usize; 2],
    device: Device,
}

impl UniformCategorical {
    /// So many of them over so many classes, `[batch, classes]`.
    pub fn new(dims: [usize; 2], device: &Device) -> Self {
        Self { dims, device: device.clone() }
    }
}

impl Distribution for UniformCategorical {
    fn family(&self) -> &'static str {
        "uniform categorical"
    }
    fn dims(&self) -> [usize; 2] {
        self.dims
    }
    fn device(&self) -> Device {
        self.device.clone()
    }
    fn support(&self) -> Support {
        Support::OneHot
    }
    fn mean(&self) -> Tensor<2> {
        Tensor::full(self.dims, 1.0 / self.dims[1] as f64, &self.device)
    }
    fn log_prob(&self, x: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        let [batch, classes] = x.dims();
        Ok(x.sum_dim(1).reshape([batch]).mul_scalar(-(classes as f64).ln()))
    }
    fn sample(&self, purpose: &str, draws: &mut Draws) -> Tensor<2> {
        let mut stream = draws.host(purpose);
        let classes: Vec<i64> = (0..self.dims[0]).map(|_| stream.below(self.dims[1]) as i64).collect();
        Tensor::<1, Int>::from_data(classes.as_slice(), &self.device).one_hot::<2>(self.dims[1]).float()
    }
    fn deviation(&self) -> Option<Tensor<2>> {
        let q = self.mean();
        Some((q.clone() * q.neg().add_scalar(1.0)).sqrt())
    }
    fn logits(&self) -> Option<Tensor<2>> {
        Some(Tensor::zeros(self.dims, &self.device))
    }
    fn standard(&self) -> BoxedDistribution {
        self.clone().boxed()
    }
    fn repeat(&self, times: usize) -> Option<BoxedDistribution> {
        Some(Self { dims: [self.dims[0] * times, self.dims[1]], device: self.device.clone() }.boxed())
    }
}

/// z = softmax((logits + g)/T) with g = -ln(-ln u) (Jang et al. 2017, arXiv:1611.01144, equation 2); logits and `uniform` draws
/// `[.., classes]`. With `hard` the one-hot vector of the largest entry, and the gradient of z.
pub fn relaxed_one_hot<const D: usize>(logits: Tensor<D>, uniform: Tensor<D>, relaxation: Relaxation) -> Tensor<D> {
    let gumbel = uniform.add_scalar(TINY).log().neg().add_scalar(TINY).log().neg();
    let soft = softmax((logits + gumbel).div_scalar(relaxation.temperature), D - 1);
    // The difference comes first and is exactly 0: hard samples are one-hot to the last bit.
    if relaxation.hard { one_hot_of_largest(soft.clone()) + (soft.clone() - soft.detach()) } else { soft }
}

/// One-hot vectors of the largest entries along the last dimension, without gradient; NaN where an entry is.
pub fn one_hot_of_largest<const D: usize>(scores: Tensor<D>) -> Tensor<D> {
    let shape = scores.dims();
    let classes = shape[D - 1];
    let mut row = [1; D];
    row[D - 1] = classes;
    let index = Tensor::<1, Int>::arange(0..classes as i64, &scores.device()).reshape(row).expand(shape);
    let scores = scores.detach();
    let unknown = scores.clone().sum_dim(D - 1).is_nan().expand(shape);
    scores.argmax(D - 1).expand(shape).equal(index).float().mask_fill(unknown, f32::NAN)
}

/// Uniform draws whose quantiles are those of standard normal `noise`.
pub fn uniform_from_normal<const D: usize>(noise: Tensor<D>) -> Tensor<D> {
    noise.mul_scalar(FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
        x.into_data().iter::<f64>().collect()
    }

    #[test]
    fn hard_samples_are_one_hot_and_pass_the_soft_gradient() {
        let device = Device::flex().autodiff();
        let weights = Tensor::<2>::from_floats([[1.0, -2.0, 0.5]], &device);
        let gradient = |hard| {
            let logits = Tensor::<2>::from_floats([[0.2, 0.1, -0.3]], &device).require_grad();
            let uniform = Tensor::from_floats([[0.3, 0.9, 0.5]], &device);
            let z = relaxed_one_hot(logits.clone(), uniform, Relaxation { temperature: 0.5, hard });
            let gradients = (z.clone() * weights.clone()).sum().backward();
            (values(z.inner()), values(logits.grad(&gradients).unwrap()))
        };
        let (hard, straight_through) = gradient(true);
        let (soft, reference) = gradient(false);
        assert_eq!(hard, [0.0, 1.0, 0.0]);
        assert!((soft.iter().sum::<f64>() - 1.0).abs() < 1e-6 && soft[1] < 1.0);
        assert!(straight_through.iter().zip(&reference).all(|(a, b)| (a - b).abs() < 1e-6), "{straight_through:?} {reference:?}");
    }

    #[test]
    fn scores_that_are_no_numbers_have_no_one_hot_vector() {
        let scores = Tensor::<2>::from_floats([[f32::NAN, 1.0], [f32::NEG_INFINITY, 1.0]], &Device::flex());
        let found = values(one_hot_of_largest(scores));
        assert!(found[0].is_nan() && found[1].is_nan() && found[2..] == [0.0, 1.0], "{found:?}");
    }

    #[test]
    fn the_rate_is_zero_for_the_uniform_and_ln_classes_for_a_certain_code() {
        let logits = Tensor::<2>::from_floats([[0.0, 0.0, 0.0, 0.0], [200.0, 0.0, 0.0, 0.0]], &Device::flex());
        let q = Categorical::new(logits);
        let rates = values(q.kl(&*q.standard()).unwrap());
        assert!(rates[0].abs() < 1e-6 && (rates[1] - 4f64.ln()).abs() < 1e-5, "{rates:?}");
    }

    #[test]
    fn normal_quantiles_become_uniform_ones() {
        let found = values(uniform_from_normal(Tensor::<1>::from_floats([-1.959_964, 0.0, 1.644_854], &Device::flex())));
        for (found, expected) in found.iter().zip([0.025, 0.5, 0.95]) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }
}
