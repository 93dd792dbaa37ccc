//! Decoder `dense_classifier`: hidden layers of rectified linear units to class logits.

use burn::module::Module;
use burn::tensor::Tensor;
use ibhost_framework::build::{BuildContext, BuildError};
use ibhost_framework::decoder::{Decoder, DecoderConfig, Target, TargetKind, joined};
use ibhost_framework::distributions::{BoxedDistribution, Categorical, Distribution};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::stack::{DenseInit, DenseStack};

/// Dense layers on the code, with rectified linear units between them, to class logits.
///
/// Without hidden layers softmax regression, 16-10 with bias 170 parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DenseDecoderConfig {
    /// Units of the hidden layers.
    #[schemars(length(max = 32), inner(range(min = 1, max = 65_536)))]
    pub hidden: Vec<usize>,
    /// Whether the last layer has a bias.
    pub bias: bool,
    /// How kernels are drawn.
    pub init: DenseInit,
}

impl Default for DenseDecoderConfig {
    fn default() -> Self {
        Self { hidden: Vec::new(), bias: true, init: DenseInit::GlorotRelu }
    }
}

/// The network of [`DenseDecoderConfig`].
#[derive(Module, Debug)]
pub struct DenseDecoder {
    /// Codes to logits.
    pub stack: DenseStack,
}

impl Decoder for DenseDecoder {
    fn decode(&self, codes: &[Tensor<2>], _teacher: Option<Tensor<4>>) -> BoxedDistribution {
        Categorical::new(self.stack.forward(joined(codes))).boxed()
    }
}

#[typetag::serde(name = "dense_classifier")]
impl DecoderConfig for DenseDecoderConfig {
    fn targets(&self) -> &'static [TargetKind] {
        &[TargetKind::Classes]
    }

    fn build(&self, latents: &[usize], target: Target, context: &BuildContext) -> Result<Box<dyn Decoder>, BuildError> {
        let stack = DenseStack::new(latents.iter().sum(), &self.hidden, target.size(), false, self.bias, self.init, context);
        Ok(Box::new(DenseDecoder { stack }))
    }
}

ibhost_framework::register! {
    Decoder: DenseDecoderConfig as DecoderConfig, aliases: [], paper: "Pan et al. 2021, arXiv:2012.07372", example: "dense_classifier/hidden:[64]"
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use ibhost_framework::decoder::BoxedDecoder;

    #[test]
    fn the_paper_sizes_have_the_published_numbers_of_parameters() {
        let context = BuildContext::new(Device::flex(), 1);
        for (latent, classes, bias, expected) in [(16, 10, true, 170), (16, 10, false, 160), (16, 3, false, 48), (512, 8, false, 4096)] {
            let config = DenseDecoderConfig { bias, ..DenseDecoderConfig::default() };
            let decoder = BoxedDecoder::new(config.build(&[latent], Target::Classes(classes), &context).unwrap());
            assert_eq!(decoder.num_params(), expected);
            let logits = decoder.decode(&[Tensor::zeros([5, latent], &Device::flex())], None).logits().unwrap();
            assert_eq!(logits.dims(), [5, classes]);
        }
    }
}
