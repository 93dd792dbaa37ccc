//! Optimisers: update rules, their state, and the pass that applies them to a model's parameters.

mod adabelief;
mod adadelta;
mod adam;
mod adam_norm_grad;
mod apply;
mod sgd;
mod state;

use crate::component::Configured;

pub use adabelief::AdaBelief;
pub use adadelta::Adadelta;
pub use adam::{Adam, AdamForm};
pub use adam_norm_grad::AdamNormGrad;
pub use apply::{ParameterUpdate, WeightAverage, is_host};
pub use sgd::Sgd;
pub use state::{Buffer, Moments, OptimiserState};

/// The update of one step with every constant worked out; g is the gradient, p the parameter, m and s the two moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// m = b1 m + (1-b1) g; s = b2 s + (1-b2) g^2; p -= rate m / (sqrt(s) root + epsilon).
    Adam {
        /// Learning rate with the bias correction of m (and, in TensorFlow's form, of s).
        rate: f64,
        /// Decay of m.
        beta1: f64,
        /// Decay of s.
        beta2: f64,
        /// Added to the denominator.
        epsilon: f64,
        /// Factor on sqrt(s): its bias correction in the standard form, 1 in TensorFlow's.
        root: f64,
    },
    /// As `Adam` with the root factor 1, for the gradient g / (|g|_2 + 1e-7) + weight_decay p, the norm taken over the whole parameter.
    NormalisedAdam {
        /// Learning rate with both bias corrections.
        rate: f64,
        /// Decay of m.
        beta1: f64,
        /// Decay of s.
        beta2: f64,
        /// Added to the denominator.
        epsilon: f64,
        /// Share of the parameter added to the normalised gradient.
        weight_decay: f64,
    },
    /// d = g - m; m = b1 m + (1-b1) g; s = b2 s + (1-b2) d^2; p -= rate m / (sqrt(s scale + root_epsilon) + epsilon).
    AdaBelief {
        /// Learning rate with the bias correction of m.
        rate: f64,
        /// Decay of m.
        beta1: f64,
        /// Decay of s.
        beta2: f64,
        /// Added to the denominator.
        epsilon: f64,
        /// Added below the root.
        root_epsilon: f64,
        /// Bias correction of s.
        scale: f64,
    },
    /// m = momentum m + g + weight_decay p; p -= rate m.
    Sgd {
        /// Learning rate.
        rate: f64,
        /// Decay of m.
        momentum: f64,
        /// Share of the parameter added to the gradient.
        weight_decay: f64,
    },
    /// s = decay s + (1-decay) g^2; d = g sqrt(m + epsilon) / sqrt(s + epsilon); m = decay m + (1-decay) d^2; p -= rate d.
    Adadelta {
        /// Learning rate.
        rate: f64,
        /// Decay of both means.
        decay: f64,
        /// Added to both means below the roots.
        epsilon: f64,
    },
}

/// Configuration of an optimiser, found by name in the registry.
#[typetag::serde(tag = "name")]
pub trait OptimiserConfig: Configured + Send + Sync {
    /// The rule of update number `step` (from 1) at learning rate `rate`.
    fn rule(&self, step: u64, rate: f64) -> Rule;
}
