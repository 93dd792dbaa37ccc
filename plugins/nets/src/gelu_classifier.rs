//! Decoder `gelu_classifier`: one hidden layer to class logits.

use burn::module::Module;
use burn::nn::{LayerNorm, Linear};
use burn::tensor::Tensor;
use ibhost_framework::build::{BuildContext, BuildError, Initial};
use ibhost_framework::decoder::{Decoder, DecoderConfig, Target, TargetKind, joined};
use ibhost_framework::distributions::{BoxedDistribution, Categorical, Distribution};
use ibhost_kernels::{Activation, dense};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gelu::gelu;
use crate::norm::layer_norm;

/// Classifier of the 2021 VIB tutorial: logits = dense(LN(gelu(dense(z)))).
///
/// gelu is the tanh approximation; layer normalisation has epsilon 1e-6; kernels are drawn as `lecun_normal`, biases 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GeluClassifierConfig {
    /// Units of the hidden layer.
    #[schemars(range(min = 1, max = 65_536))]
    pub hidden: usize,
}

impl Default for GeluClassifierConfig {
    fn default() -> Self {
        Self { hidden: 32 }
    }
}

/// The network of [`GeluClassifierConfig`].
#[derive(Module, Debug)]
pub struct GeluClassifier {
    /// Code to hidden.
    pub dense1: Linear,
    /// Normalisation after `dense1`.
    pub norm1: LayerNorm,
    /// Hidden to logits.
    pub dense2: Linear,
}

impl Decoder for GeluClassifier {
    fn decode(&self, codes: &[Tensor<2>], _teacher: Option<Tensor<4>>) -> BoxedDistribution {
        let hidden = self.norm1.forward(gelu(dense(&self.dense1, joined(codes), Activation::Identity)));
        Categorical::new(dense(&self.dense2, hidden, Activation::Identity)).boxed()
    }
}

#[typetag::serde(name = "gelu_classifier")]
impl DecoderConfig for GeluClassifierConfig {
    fn targets(&self) -> &'static [TargetKind] {
        &[TargetKind::Classes]
    }

    fn build(&self, latents: &[usize], target: Target, context: &BuildContext) -> Result<Box<dyn Decoder>, BuildError> {
        Ok(Box::new(GeluClassifier {
            dense1: context.linear(latents.iter().sum(), self.hidden, Initial::LecunNormal),
            norm1: layer_norm(self.hidden, context),
            dense2: context.linear(self.hidden, target.size(), Initial::LecunNormal),
        }))
    }
}

ibhost_framework::register! {
    Decoder: GeluClassifierConfig as DecoderConfig, aliases: [], paper: "VIB tutorial of A. A. Alemi, 2021", example: "gelu_classifier/hidden:32"
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn logits_have_one_row_per_code_and_depend_on_it() {
        let decoder = GeluClassifierConfig { hidden: 8 }.build(&[2], Target::Classes(3), &BuildContext::new(Device::flex(), 1)).unwrap();
        let logits = decoder.decode(&[Tensor::from_floats([[0.0, 1.0], [2.0, -1.0]], &Device::flex())], None).logits().unwrap();
        assert_eq!(logits.dims(), [2, 3]);
        let logits: Vec<f32> = logits.into_data().try_to_vec().unwrap();
        assert!(logits.iter().all(|v| v.is_finite()) && logits[..3] != logits[3..]);
    }
}
