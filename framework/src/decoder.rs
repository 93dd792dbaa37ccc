//! Decoders: maps from a latent code to a [`Likelihood`].

use burn::tensor::Tensor;

use crate::build::{BuildContext, BuildError};
use crate::component::Configured;
use crate::generator::Generator;
use crate::module::{Erased, ErasedModule};
use crate::run::config::RunConfig;

/// Module kind of boxed decoders.
#[derive(Clone, Copy, Debug)]
pub struct DecoderKind;

/// Likelihood a decoder returns for a batch of codes.
#[derive(Clone, Debug)]
pub enum Likelihood {
    /// Class probabilities softmax(logits), logits `[codes, classes]`.
    Categorical {
        /// Unnormalised ln probabilities, `[codes, classes]`.
        logits: Tensor<2>,
    },
}

/// z -> p(.|z). Implement it for a type that derives burn's `Module`.
pub trait Decoder: ErasedModule<DecoderKind> {
    /// Likelihood given codes `[codes, latent]`.
    fn decode(&self, codes: Tensor<2>) -> Likelihood;
}

crate::erase_modules!(DecoderKind, Decoder);

/// A boxed decoder as a field of a module.
pub type BoxedDecoder = Erased<DecoderKind>;

/// Configuration of a decoder, found by name in the registry.
#[typetag::serde(tag = "name")]
pub trait DecoderConfig: Configured + Send + Sync {
    /// Smallest and largest value of x that p(x|z) is defined for, where x is what the decoder models: `[0, 1]` for a Bernoulli
    /// likelihood. A data set with values outside is refused before the first step. `None` accepts everything.
    fn support(&self) -> Option<[f32; 2]> {
        None
    }

    /// Whether this configuration can be part of `run`, see [`ObjectiveConfig::check`](crate::objective::ObjectiveConfig::check).
    ///
    /// # Errors
    /// What is wrong.
    fn check(&self, _run: &RunConfig) -> Result<(), String> {
        Ok(())
    }

    /// Builds the decoder from `latent` dimensions to `classes` classes.
    ///
    /// # Errors
    /// [`BuildError`] when the decoder cannot be built at these sizes.
    fn build(&self, latent: usize, classes: usize, context: &BuildContext) -> Result<Box<dyn Decoder>, BuildError>;

    /// Builds the decoder from codes back to inputs of `shape` = `[channels, height, width]`; `latents` are the sizes of the code's levels
    /// from the bottom to the top, one for a plain code.
    ///
    /// # Errors
    /// [`BuildError`] when this decoder gives class probabilities only, or cannot be built at these sizes.
    fn build_generator(&self, latents: &[usize], shape: [usize; 3], context: &BuildContext) -> Result<Box<dyn Generator>, BuildError> {
        let (_, _, _) = (latents, shape, context);
        Err(BuildError::new(
            "decoder",
            format!("{self:?} gives class probabilities and cannot reconstruct inputs; choose one that can, e.g. `--decoder vector_mlp`"),
        ))
    }
}
