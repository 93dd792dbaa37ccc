//! Decoder `linear`: one dense layer to class logits.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use ibhost_framework::build::{BuildContext, BuildError, Initial};
use ibhost_framework::decoder::{Decoder, DecoderConfig, Target, TargetKind, joined};
use ibhost_framework::distributions::{BoxedDistribution, Categorical, Distribution};
use ibhost_kernels::{Activation, dense};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Softmax regression on the code: logits = W z + b.
///
/// The kernel is Glorot uniform, the bias 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LinearConfig {}

/// The layer of [`LinearConfig`].
#[derive(Module, Debug)]
pub struct LinearDecoder {
    /// Code to logits.
    pub dense: Linear,
}

impl Decoder for LinearDecoder {
    fn decode(&self, codes: &[Tensor<2>], _teacher: Option<Tensor<4>>) -> BoxedDistribution {
        Categorical::new(dense(&self.dense, joined(codes), Activation::Identity)).boxed()
    }
}

#[typetag::serde(name = "linear")]
impl DecoderConfig for LinearConfig {
    fn targets(&self) -> &'static [TargetKind] {
        &[TargetKind::Classes]
    }

    fn build(&self, latents: &[usize], target: Target, context: &BuildContext) -> Result<Box<dyn Decoder>, BuildError> {
        Ok(Box::new(LinearDecoder { dense: context.linear(latents.iter().sum(), target.size(), Initial::GlorotUniform) }))
    }
}

ibhost_framework::register! {
    Decoder: LinearConfig as DecoderConfig, aliases: [], paper: "Alemi et al. 2017, arXiv:1612.00410", example: "linear"
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use ibhost_framework::decoder::BoxedDecoder;

    #[test]
    fn the_paper_size_has_the_published_number_of_parameters_and_logits_per_code() {
        let decoder = BoxedDecoder::new(LinearConfig {}.build(&[256], Target::Classes(10), &BuildContext::new(Device::flex(), 1)).unwrap());
        assert_eq!(decoder.num_params(), 2570);
        let logits = decoder.decode(&[Tensor::zeros([3, 256], &Device::flex())], None).logits().unwrap();
        assert_eq!(logits.into_data().try_to_vec::<f32>().unwrap(), vec![0.0; 30]);
    }
}
