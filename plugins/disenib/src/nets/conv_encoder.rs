//! Encoder `instance_conv`: the convolutional encoders of the image data sets.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use ibhost_framework::build::{BuildContext, BuildError};
use ibhost_framework::distributions::{BoxedDistribution, Delta, Distribution};
use ibhost_framework::encoder::{Encoder, EncoderConfig};
use ibhost_kernels::{Activation, dense};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conv::ConvStack;
use super::stack::DenseInit;

/// Strided 5x5 convolutions with instance norm and rectified linear units, then one dense layer to a deterministic code.
///
/// 1x28x28: 16, 32, 64 channels; 1x64x64: 16, 32, 64, 64 (the last without padding); 3x60x60: 16, 32, 64, 128; stride 2, padding 1.
/// Weights are normal with standard deviation 0.05, biases 0. Instance norm has no parameters and always uses the sample's own statistics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct InstanceConvConfig {
    /// Dimensions of the code.
    #[schemars(range(min = 1, max = 4096))]
    pub z: usize,
}

impl Default for InstanceConvConfig {
    fn default() -> Self {
        Self { z: 16 }
    }
}

/// The network of [`InstanceConvConfig`].
#[derive(Module, Debug)]
pub struct InstanceConv {
    /// Image to features.
    pub conv: ConvStack,
    /// Features to code.
    pub head: Linear,
}

/// Stages (outputs, zero padding) for images of `shape` and the number of features they end in.
fn stages(shape: [usize; 3]) -> Option<(&'static [(usize, usize)], usize)> {
    match shape {
        [1, 28, 28] => Some((&[(16, 1), (32, 1), (64, 1)], 256)),
        [1, 64, 64] => Some((&[(16, 1), (32, 1), (64, 1), (64, 0)], 256)),
        [3, 60, 60] => Some((&[(16, 1), (32, 1), (64, 1), (128, 1)], 512)),
        _ => None,
    }
}

/// Images the convolutional networks of this crate are laid out for.
pub const KNOWN_SHAPES: &str = "1x28x28 (mnist, fashion_mnist), 1x64x64 (shapes) or 3x60x60 (sprites)";

impl Encoder for InstanceConv {
    fn encode(&self, inputs: Tensor<4>) -> BoxedDistribution {
        Delta { value: dense(&self.head, self.conv.forward(inputs), Activation::Identity) }.boxed()
    }
}

#[typetag::serde(name = "instance_conv")]
impl EncoderConfig for InstanceConvConfig {
    fn build(&self, shape: [usize; 3], context: &BuildContext) -> Result<Box<dyn Encoder>, BuildError> {
        let Some((stages, features)) = stages(shape) else {
            return Err(BuildError::new(
                "instance_conv",
                format!("takes images of {KNOWN_SHAPES}, not {shape:?}; use the encoder `dense`"),
            ));
        };
        let conv = ConvStack::new(shape[0], stages, false, context);
        Ok(Box::new(InstanceConv { conv, head: context.linear(features, self.z, DenseInit::Normal.initial()) }))
    }

    fn latent(&self) -> usize {
        self.z
    }
}

ibhost_framework::register! {
    Encoder: InstanceConvConfig as EncoderConfig, aliases: [], paper: "Pan et al. 2021, arXiv:2012.07372", example: "instance_conv/z:16"
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use ibhost_framework::encoder::BoxedEncoder;

    #[test]
    fn the_paper_sizes_have_the_published_numbers_of_parameters() {
        for (shape, z, expected) in [([1, 28, 28], 16, 68_624), ([1, 64, 64], 16, 171_088), ([3, 60, 60], 512, 532_896)] {
            let context = BuildContext::new(Device::flex(), 1);
            let encoder = BoxedEncoder::new(InstanceConvConfig { z }.build(shape, &context).unwrap());
            assert_eq!(encoder.num_params(), expected);
            let [c, h, w] = shape;
            assert_eq!(encoder.encode(Tensor::ones([2, c, h, w], &Device::flex())).dims(), [2, z]);
        }
    }

    #[test]
    fn other_images_are_refused_with_the_ones_that_fit() {
        let error = InstanceConvConfig::default().build([1, 8, 8], &BuildContext::new(Device::flex(), 1)).unwrap_err().to_string();
        assert!(error.contains("1x28x28") && error.contains("dense"), "{error}");
    }
}
