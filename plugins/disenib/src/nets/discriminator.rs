//! The image discriminator of the convolutional MNIST trainer.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use ibhost_framework::build::{BuildContext, BuildError};
use ibhost_kernels::{Activation, dense};

use super::conv::ConvStack;
use super::stack::DenseInit;

/// Convolutions of 32, 64 and 128 channels with instance norm and leaky units, then two logits: 0 made, 1 real.
#[derive(Module, Debug)]
pub struct Discriminator {
    /// Image to features.
    pub conv: ConvStack,
    /// Features to logits.
    pub head: Linear,
}

impl Discriminator {
    /// Discriminator of images of `shape`.
    ///
    /// # Errors
    /// [`BuildError`] for other images than 1x28x28.
    pub fn new(shape: [usize; 3], context: &BuildContext) -> Result<Self, BuildError> {
        if shape != [1, 28, 28] {
            return Err(BuildError::new("disenib", format!("the discriminator takes images of 1x28x28, not {shape:?}; set `disc:false`")));
        }
        let conv = ConvStack::new(1, &[(32, 1), (64, 1), (128, 1)], true, context);
        Ok(Self { conv, head: context.linear(512, 2, DenseInit::Normal.initial()) })
    }

    /// Logits `[batch, 2]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        dense(&self.head, self.conv.forward(images), Activation::Identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_paper_size_has_the_published_number_of_parameters() {
        let context = BuildContext::new(Device::flex(), 1);
        let discriminator = Discriminator::new([1, 28, 28], &context).unwrap();
        assert_eq!(discriminator.num_params(), 258_050);
        assert_eq!(discriminator.forward(Tensor::ones([3, 1, 28, 28], &Device::flex())).dims(), [3, 2]);
        assert!(Discriminator::new([1, 64, 64], &context).unwrap_err().to_string().contains("disc:false"));
    }
}
