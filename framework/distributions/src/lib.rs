//! Probability distributions in the field's words: [`Distribution`] is what encoders, decoders and priors return, one file each.
//!
//! A number that a distribution does not have is `None` or an [`Undefined`], never another number; the caller falls back in so many words
//! or refuses. Everything is in nats. Noise is drawn by the caller ([`noise::Draws`]) and passed in, so that recorded noise gives recorded
//! numbers.

mod bernoulli;
mod categorical;
mod delta;
mod distribution;
mod equal_mixture;
mod logistic;
mod logistic_mixture;
pub mod math;
mod multivariate_normal;
pub mod noise;
mod normal;
mod normal_components;
mod normal_mixture;
#[cfg(test)]
mod tests;

pub use bernoulli::Bernoulli;
pub use categorical::{Categorical, Relaxation, UniformCategorical, one_hot_of_largest, relaxed_one_hot, uniform_from_normal};
pub use delta::Delta;
pub use distribution::{BoxedDistribution, CloneDistribution, Distribution, Support, Undefined, kl, one_sample};
pub use equal_mixture::EqualMixture;
pub use ibhost_kernels::{centred_log_density, normal_sample};
pub use logistic::DiscretisedLogistic;
pub use logistic_mixture::{LogisticMixture, channels};
pub use multivariate_normal::{MultivariateNormal, diagonal};
pub use normal::{CentredNormal, Normal, SharedScaleNormal, StandardNormal, normal_log_prob, product, standard_normal_log_prob};
pub use normal_components::{NormalComponents, normal_mixture_log_prob};
pub use normal_mixture::NormalMixture;
