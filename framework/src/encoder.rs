//! Encoders: maps from inputs to a [`Posterior`] over the latent code.

use burn::tensor::Tensor;

use crate::build::{BuildContext, BuildError};
use crate::component::Configured;
use crate::module::{Erased, ErasedModule};
use crate::posterior::Posterior;

/// Module kind of boxed encoders.
#[derive(Clone, Copy, Debug)]
pub struct EncoderKind;

/// x -> q(z|x). Implement it for a type that derives burn's `Module`.
pub trait Encoder: ErasedModule<EncoderKind> {
    /// Posterior of a batch, inputs `[batch, channels, height, width]`.
    fn encode(&self, inputs: Tensor<4>) -> Posterior;

    /// What the encoder's own regularisation adds to a training loss, `[1]`, in the unit of that loss.
    fn penalty(&self) -> Option<Tensor<1>> {
        None
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

    /// Number of latent dimensions.
    fn latent(&self) -> usize;
}
