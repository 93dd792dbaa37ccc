//! Encoder `residual_mlp`: dense layers with GELU, layer normalisation and one skip.

use burn::module::Module;
use burn::nn::{LayerNorm, Linear};
use burn::tensor::Tensor;
use ibhost_framework::build::{BuildContext, BuildError, Initial};
use ibhost_framework::distributions::BoxedDistribution;
use ibhost_framework::encoder::{Encoder, EncoderConfig};
use ibhost_kernels::{Activation, dense};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gelu::gelu;
use crate::head::{Covariance, ScaleMap, head_size, posterior};
use crate::norm::layer_norm;
use crate::shape::{features, flatten};

/// Residual perceptron of the 2021 VIB tutorial: a = LN(gelu(dense)), b = LN(gelu(dense(a))), then dense(a + gelu(b)).
///
/// gelu is the tanh approximation; layer normalisation has epsilon 1e-6; kernels are drawn as `lecun_normal`, biases 0. `cov:point` is the
/// deterministic encoder of the tutorial's baseline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ResidualMlpConfig {
    /// Units of both hidden layers.
    #[schemars(range(min = 1, max = 65_536))]
    pub width: usize,
    /// Dimensions of the code.
    #[schemars(range(min = 1, max = 4096))]
    pub z: usize,
    /// Covariance of the posterior.
    pub cov: Covariance,
    /// How outputs become scales; without meaning for `cov:point`.
    pub scale: ScaleMap,
}

impl Default for ResidualMlpConfig {
    fn default() -> Self {
        Self { width: 512, z: 2, cov: Covariance::Full, scale: ScaleMap::Exp }
    }
}

/// The network of [`ResidualMlpConfig`].
#[derive(Module, Debug)]
pub struct ResidualMlp {
    /// Inputs to width.
    pub dense1: Linear,
    /// Normalisation after `dense1`.
    pub norm1: LayerNorm,
    /// Width to width.
    pub dense2: Linear,
    /// Normalisation after `dense2`.
    pub norm2: LayerNorm,
    /// Width to outputs.
    pub head: Linear,
    #[module(skip)]
    cov: Covariance,
    #[module(skip)]
    scale: ScaleMap,
    z: usize,
}

impl Encoder for ResidualMlp {
    fn encode(&self, inputs: Tensor<4>) -> BoxedDistribution {
        let a = self.norm1.forward(gelu(dense(&self.dense1, flatten(inputs), Activation::Identity)));
        let b = self.norm2.forward(gelu(dense(&self.dense2, a.clone(), Activation::Identity)));
        posterior(self.cov, self.scale, dense(&self.head, a + gelu(b), Activation::Identity), self.z)
    }
}

#[typetag::serde(name = "residual_mlp")]
impl EncoderConfig for ResidualMlpConfig {
    fn build(&self, shape: [usize; 3], context: &BuildContext) -> Result<Box<dyn Encoder>, BuildError> {
        let layer = |inputs, outputs| context.linear(inputs, outputs, Initial::LecunNormal);
        Ok(Box::new(ResidualMlp {
            dense1: layer(features("residual_mlp", shape)?, self.width),
            norm1: layer_norm(self.width, context),
            dense2: layer(self.width, self.width),
            norm2: layer_norm(self.width, context),
            head: layer(self.width, head_size("residual_mlp", self.cov, self.z)?),
            cov: self.cov,
            scale: self.scale,
            z: self.z,
        }))
    }

    fn latent(&self) -> usize {
        self.z
    }
}

ibhost_framework::register! {
    Encoder: ResidualMlpConfig as EncoderConfig, aliases: [], paper: "VIB tutorial of A. A. Alemi, 2021",
    example: "residual_mlp/width:512|z:2|cov:full|scale:exp"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gelu_classifier::GeluClassifierConfig;
    use burn::tensor::Device;
    use ibhost_framework::decoder::Target;
    use ibhost_framework::decoder::{BoxedDecoder, DecoderConfig};
    use ibhost_framework::encoder::BoxedEncoder;

    #[test]
    fn the_tutorial_baseline_has_the_published_number_of_parameters() {
        let context = BuildContext::new(Device::flex(), 1);
        let config = ResidualMlpConfig { cov: Covariance::Point, ..ResidualMlpConfig::default() };
        let encoder = BoxedEncoder::new(config.build([1, 28, 28], &context).unwrap());
        let decoder = BoxedDecoder::new(GeluClassifierConfig::default().build(&[2], Target::Classes(10), &context).unwrap());
        assert_eq!(encoder.num_params() + decoder.num_params(), 668_140);
    }

    #[test]
    fn the_posterior_is_full_and_finite_on_any_shape() {
        let context = BuildContext::new(Device::flex(), 1);
        let config = ResidualMlpConfig { width: 6, z: 3, ..ResidualMlpConfig::default() };
        let posterior = config.build([3, 2, 5], &context).unwrap().encode(Tensor::ones([4, 3, 2, 5], &Device::flex()));
        assert_eq!(posterior.dims(), [4, 3]);
        let rate: Vec<f32> = posterior.kl_to_standard().unwrap().into_data().try_to_vec().unwrap();
        assert!(rate.iter().all(|r| r.is_finite() && *r >= 0.0), "{rate:?}");
    }
}
