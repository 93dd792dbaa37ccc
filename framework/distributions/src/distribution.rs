//! What every distribution can say, and what it says where it has no number.

use std::any::Any;
use std::fmt::Debug;

use burn::tensor::{Device, Tensor};

use crate::noise::Draws;

/// A distribution as encoders, decoders and priors hand it on.
pub type BoxedDistribution = Box<dyn Distribution>;

/// Which values a distribution gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Real numbers.
    Real,
    /// Numbers between 0 and 1.
    Unit,
    /// 0 and 1.
    Binary,
    /// 0, 1, 2 ...
    Counts,
    /// One-hot vectors, or points between them.
    OneHot,
}

impl Support {
    /// Whether values are discrete, so that gradients cannot flow through them.
    pub fn is_discrete(self) -> bool {
        matches!(self, Self::Binary | Self::Counts | Self::OneHot)
    }
}

/// A number that a distribution does not have, so that no other number may stand for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undefined {
    /// Density, or divergence from a density, of a point.
    #[error("a deterministic code has no density and no finite rate\n  hint: give the encoder a covariance (`cov:diag` or `cov:full`)")]
    Point,
    /// Divergence of a pair without a closed form.
    #[error("there is no closed form for the divergence of a {posterior} posterior from a {prior} prior")]
    Divergence {
        /// Family of the posterior.
        posterior: &'static str,
        /// Family of the prior.
        prior: &'static str,
    },
    /// Product of two distributions that are not both normal with a diagonal covariance.
    #[error("a ladder multiplies diagonal normals, not a {estimate} estimate with a {prior} prior")]
    Product {
        /// Family of the bottom-up estimate.
        estimate: &'static str,
        /// Family of the prior.
        prior: &'static str,
    },
    /// Samples as a function of noise.
    #[error("a {0} distribution has no samples that gradients flow through")]
    Sample(&'static str),
    /// Components of an equal mixture.
    #[error("{0} distributions cannot be the components of a mixture")]
    Component(&'static str),
    /// A prior that is defined by the other densities: it scores no code by itself, and none can be drawn from it.
    #[error("{0} is no density of its own: no code can be drawn from it or scored by it alone")]
    Prior(&'static str),
}

/// A batch of distributions over `features` numbers each, independent of each other. One distribution (a batch of 1) scores values of any
/// batch. A new one needs [`family`](Self::family) to [`sample`](Self::sample); every closed form it has is a method more.
pub trait Distribution: Any + Debug + Send + CloneDistribution {
    /// What kind of distribution it is, in words: "diagonal normal".
    fn family(&self) -> &'static str;

    /// Number of distributions and of features.
    fn dims(&self) -> [usize; 2];

    /// Where its tensors live.
    fn device(&self) -> Device;

    /// Which values it gives.
    fn support(&self) -> Support;

    /// Mean of every feature, `[batch, features]`.
    fn mean(&self) -> Tensor<2>;

    /// ln of the density at `x` `[batch, features]` in nats, summed over features, `[batch]`.
    ///
    /// # Errors
    /// [`Undefined::Point`] where there is no density.
    fn log_prob(&self, x: Tensor<2>) -> Result<Tensor<1>, Undefined>;

    /// One draw of every distribution, `[batch, features]`, with noise for `purpose`; gradients need not flow through it.
    fn sample(&self, purpose: &str, draws: &mut Draws) -> Tensor<2>;

    /// The value that stands for the distribution where one is asked for, `[batch, features]`: its mean, or the most probable class.
    fn point(&self) -> Tensor<2> {
        self.mean()
    }

    /// Standard deviation of every feature by itself, `[batch, features]`; 0 for a point.
    fn deviation(&self) -> Option<Tensor<2>> {
        None
    }

    /// Covariance matrices, `[batch, features, features]`; 0 for a point.
    fn covariance(&self) -> Option<Tensor<3>> {
        let ([batch, features], scale) = (self.dims(), self.as_normal()?.1);
        let eye = Tensor::<2>::eye(features, &scale.device()).reshape([1, features, features]);
        Some(scale.powi_scalar(2).reshape([batch, features, 1]) * eye)
    }

    /// Whether draws are random.
    fn is_stochastic(&self) -> bool {
        true
    }

    /// Columns of the noise that [`rsample`](Self::rsample) takes.
    fn noise_features(&self) -> usize {
        self.dims()[1]
    }

    /// Samples that gradients flow through, `[samples, batch, features]`, as a function of standard normal `noise`
    /// `[samples, batch, noise_features]`.
    fn rsample(&self, _noise: Tensor<3>) -> Option<Tensor<3>> {
        None
    }

    /// One sample that gradients flow through for `noise` `[batch, noise_features]`, `[batch, features]`, and where a part of it was a
    /// discrete choice ln of the probability of that choice, `[batch]`, whose gradient a loss needs too.
    fn rsample_with_choice(&self, noise: Tensor<2>) -> Option<(Tensor<2>, Option<Tensor<1>>)> {
        let ([batch, features], columns) = (self.dims(), self.noise_features());
        Some((self.rsample(noise.reshape([1, batch, columns]))?.reshape([batch, features]), None))
    }

    /// ln of the density in nats at the samples that `noise` `[samples, batch, noise_features]` gives, `[samples, batch]`.
    ///
    /// # Errors
    /// [`Undefined`] where there is no density, and no sample as a function of noise.
    fn log_prob_of_noise(&self, noise: Tensor<3>) -> Result<Tensor<2>, Undefined> {
        let [batch, features] = self.dims();
        let z = self.rsample(noise).ok_or(Undefined::Sample(self.family()))?;
        let each = (0..z.dims()[0]).map(|s| Ok(self.log_prob(z.clone().narrow(0, s, 1).reshape([batch, features]))?.reshape([1, batch])));
        Ok(Tensor::cat(each.collect::<Result<Vec<_>, Undefined>>()?, 0))
    }

    /// KL(self || other) in nats, `[batch]`, in closed form.
    fn kl(&self, _other: &dyn Distribution) -> Option<Tensor<1>> {
        None
    }

    /// The distribution on the same values that needs no parameters: N(0, I), or all classes alike.
    fn standard(&self) -> BoxedDistribution {
        crate::StandardNormal::new(self.dims(), &self.device()).boxed()
    }

    /// KL(self || standard) in nats, `[batch]`, where it has a closed form: the rate against a prior without parameters.
    fn kl_to_standard(&self) -> Option<Tensor<1>> {
        self.kl(&*self.standard())
    }

    /// Means and standard deviations, `[batch, features]` each, of independent normals and of nothing else.
    fn as_normal(&self) -> Option<(Tensor<2>, Tensor<2>)> {
        None
    }

    /// Unnormalised ln probabilities of classes, `[batch, classes]`, of a categorical distribution and of nothing else.
    fn logits(&self) -> Option<Tensor<2>> {
        None
    }

    /// All distributions `times` over, one whole batch after the other.
    fn repeat(&self, _times: usize) -> Option<BoxedDistribution> {
        None
    }

    /// As a boxed one.
    fn boxed(self) -> BoxedDistribution
    where
        Self: Sized,
    {
        Box::new(self)
    }
}

/// Clones a boxed distribution; every `Clone` distribution has it.
pub trait CloneDistribution {
    /// The clone.
    fn cloned(&self) -> BoxedDistribution;
}

impl<D: Distribution + Clone> CloneDistribution for D {
    fn cloned(&self) -> BoxedDistribution {
        Box::new(self.clone())
    }
}

impl Clone for BoxedDistribution {
    fn clone(&self) -> Self {
        (**self).cloned()
    }
}

impl dyn Distribution {
    /// As a distribution of type `D`, where it is one.
    pub fn downcast<D: Distribution>(&self) -> Option<&D> {
        let any: &dyn Any = self;
        any.downcast_ref()
    }
}

/// KL(posterior || prior) in nats, `[batch]`.
///
/// # Errors
/// [`Undefined`] where there is no closed form, in words that name both.
pub fn kl(posterior: &dyn Distribution, prior: &dyn Distribution) -> Result<Tensor<1>, Undefined> {
    let missing = || {
        if posterior.is_stochastic() {
            Undefined::Divergence { posterior: posterior.family(), prior: prior.family() }
        } else {
            Undefined::Point
        }
    };
    posterior.kl(prior).ok_or_else(missing)
}

/// One sample that gradients flow through for `noise` `[batch, noise_features]`, `[batch, features]`.
///
/// # Errors
/// [`Undefined::Sample`] where there is none.
pub fn one_sample(distribution: &dyn Distribution, noise: Tensor<2>) -> Result<Tensor<2>, Undefined> {
    let sample = distribution.rsample_with_choice(noise);
    sample.map(|(sample, _)| sample).ok_or(Undefined::Sample(distribution.family()))
}

/// All rows `[rows, n]`, `times` over: `[times * rows, n]`.
pub(crate) fn repeat_rows(t: &Tensor<2>, times: usize) -> Tensor<2> {
    let [rows, n] = t.dims();
    t.clone().reshape([1, rows, n]).expand([times, rows, n]).reshape([times * rows, n])
}
