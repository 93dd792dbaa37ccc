//! Encoders: maps from inputs to a [`Distribution`](crate::distributions::Distribution) over the latent code.

use burn::tensor::Tensor;

use crate::build::{BuildContext, BuildError};
use crate::component::Configured;
use crate::distributions::BoxedDistribution;
use crate::module::{Erased, ErasedModule};
use crate::noise::Draws;
use crate::run::config::RunConfig;

/// Module kind of boxed encoders.
#[derive(Clone, Copy, Debug)]
pub struct EncoderKind;

/// x -> q(z|x). Implement it for a type that derives burn's `Module`.
pub trait Encoder: ErasedModule<EncoderKind> {
    /// Posterior of a batch, inputs `[batch, channels, height, width]`.
    fn encode(&self, inputs: Tensor<4>) -> BoxedDistribution;

    /// As [`Encoder::encode`] in a training step, with what is random then (dropout) drawn from `draws`.
    fn encode_training(&self, inputs: Tensor<4>, _draws: &mut Draws) -> BoxedDistribution {
        self.encode(inputs)
    }

    /// What the encoder's own regularisation adds to a training loss, `[1]`, in the unit of that loss.
    fn penalty(&self) -> Option<Tensor<1>> {
        None
    }

    /// The levels of the code one by one, when there are several.
    fn as_hierarchy(&self) -> Option<&dyn Hierarchy> {
        None
    }
}

/// A posterior over a code of several levels, q(z|x) = q(z_L|x) q(z_{L-1}|x, z_L) ...; level 0 is the bottom, the one next to the input.
pub trait Hierarchy {
    /// What the levels need of the inputs, bottom first, one row of features `[batch, features]` each; computed once per input, however
    /// many codes are drawn.
    fn features(&self, inputs: Tensor<4>) -> Vec<Tensor<2>>;

    /// q(z_level | x, the levels above), from this level's features; `above` holds the next level first and the top last.
    fn level(&self, level: usize, features: Tensor<2>, above: &[Tensor<2>]) -> BoxedDistribution;

    /// Whether [`Hierarchy::level`] gives bottom-up estimates that the posterior combines with the prior of their level (see
    /// [`product`](crate::distributions::product)) wherever there is one.
    fn is_ladder(&self) -> bool {
        false
    }

    /// q(z_top|x) alone.
    fn top(&self, inputs: Tensor<4>) -> BoxedDistribution {
        let features = self.features(inputs);
        let top = features.len() - 1;
        self.level(top, features[top].clone(), &[])
    }
}

crate::erase_modules!(EncoderKind, Encoder);

/// A boxed encoder as a field of a module.
pub type BoxedEncoder = Erased<EncoderKind>;

/// Configuration of an encoder, found by name in the registry.
#[typetag::serde(tag = "name")]
pub trait EncoderConfig: Configured + Send + Sync {
    /// Builds the encoder for inputs of `shape` = `[channels, height, width]`.
    ///
    /// # Errors
    /// [`BuildError`] when the encoder cannot take such inputs.
    fn build(&self, shape: [usize; 3], context: &BuildContext) -> Result<Box<dyn Encoder>, BuildError>;

    /// Whether this configuration can be part of `run`, see [`ObjectiveConfig::check`](crate::objective::ObjectiveConfig::check).
    ///
    /// # Errors
    /// What is wrong.
    fn check(&self, _run: &RunConfig) -> Result<(), String> {
        Ok(())
    }

    /// Number of latent dimensions, all levels together.
    fn latent(&self) -> usize;

    /// Sizes of the levels of the code, bottom first.
    fn latents(&self) -> Vec<usize> {
        vec![self.latent()]
    }

    /// Sizes of the levels of the code of inputs of `shape` = `[channels, height, width]`, bottom first, for encoders whose code grows with
    /// the input.
    fn latents_for(&self, _shape: [usize; 3]) -> Vec<usize> {
        self.latents()
    }
}
