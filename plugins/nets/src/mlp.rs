//! Encoder `mlp`: two hidden layers of rectified linear units.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use ibhost_framework::build::{BuildContext, BuildError, Initial};
use ibhost_framework::distributions::BoxedDistribution;
use ibhost_framework::encoder::{Encoder, EncoderConfig};
use ibhost_kernels::{Activation, dense};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::head::{Covariance, ScaleMap, head_size, posterior};
use crate::shape::{features, flatten};

/// Last layer of [`MlpConfig`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Heads {
    /// One dense layer gives mean and scale together.
    #[default]
    Joint,
    /// The mean and the scale have a dense layer each, so that each is initialised for its own width.
    Separate,
}

/// Perceptron with two hidden layers: flatten, dense e1, relu, dense e2, relu, dense to the posterior's parameters.
///
/// Kernels are Glorot uniform, biases 0; takes images of any shape. With 784 inputs and the defaults it has 2,378,240 parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MlpConfig {
    /// Units of the first hidden layer.
    #[schemars(range(min = 1, max = 65_536))]
    pub e1: usize,
    /// Units of the second hidden layer.
    #[schemars(range(min = 1, max = 65_536))]
    pub e2: usize,
    /// Dimensions of the code.
    #[schemars(range(min = 1, max = 4096))]
    pub z: usize,
    /// Covariance of the posterior.
    pub cov: Covariance,
    /// How outputs become scales; without meaning for `cov:point`.
    pub scale: ScaleMap,
    /// One last layer or two.
    pub heads: Heads,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self { e1: 1024, e2: 1024, z: 256, cov: Covariance::Diag, scale: ScaleMap::Softplus, heads: Heads::Joint }
    }
}

/// The network of [`MlpConfig`].
#[derive(Module, Debug)]
pub struct Mlp {
    /// Inputs to e1.
    pub dense1: Linear,
    /// e1 to e2.
    pub dense2: Linear,
    /// e2 to all outputs, or to the mean alone when `spread` is there.
    pub head: Linear,
    /// e2 to the outputs after the mean.
    pub spread: Option<Linear>,
    #[module(skip)]
    cov: Covariance,
    #[module(skip)]
    scale: ScaleMap,
    z: usize,
}

impl Encoder for Mlp {
    fn encode(&self, inputs: Tensor<4>) -> BoxedDistribution {
        let hidden = dense(&self.dense1, flatten(inputs), Activation::Relu);
        let hidden = dense(&self.dense2, hidden, Activation::Relu);
        let raw = match &self.spread {
            None => dense(&self.head, hidden, Activation::Identity),
            Some(spread) => {
                let mean = dense(&self.head, hidden.clone(), Activation::Identity);
                Tensor::cat(vec![mean, dense(spread, hidden, Activation::Identity)], 1)
            }
        };
        posterior(self.cov, self.scale, raw, self.z)
    }
}

#[typetag::serde(name = "mlp")]
impl EncoderConfig for MlpConfig {
    fn build(&self, shape: [usize; 3], context: &BuildContext) -> Result<Box<dyn Encoder>, BuildError> {
        let inputs = features("mlp", shape)?;
        let all = head_size("mlp", self.cov, self.z)?;
        let split = self.heads == Heads::Separate && all > self.z;
        let layer = |inputs, outputs| context.linear(inputs, outputs, Initial::GlorotUniform);
        Ok(Box::new(Mlp {
            dense1: layer(inputs, self.e1),
            dense2: layer(self.e1, self.e2),
            head: layer(self.e2, if split { self.z } else { all }),
            spread: split.then(|| layer(self.e2, all - self.z)),
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
    Encoder: MlpConfig as EncoderConfig, aliases: [], paper: "Alemi et al. 2017, arXiv:1612.00410", example: "mlp/e1:1024|e2:1024|z:256"
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use ibhost_framework::encoder::BoxedEncoder;

    fn built(config: &MlpConfig, shape: [usize; 3]) -> BoxedEncoder {
        BoxedEncoder::new(config.build(shape, &BuildContext::new(Device::flex(), 1)).unwrap())
    }

    #[test]
    fn the_paper_size_has_the_published_number_of_parameters() {
        assert_eq!(built(&MlpConfig::default(), [1, 28, 28]).num_params(), 2_378_240);
        assert_eq!(built(&MlpConfig { heads: Heads::Separate, ..MlpConfig::default() }, [1, 28, 28]).num_params(), 2_378_240);
    }

    #[test]
    fn every_head_and_covariance_gives_a_posterior_of_the_right_size() {
        for (cov, heads) in [
            (Covariance::Point, Heads::Separate),
            (Covariance::Diag, Heads::Separate),
            (Covariance::Full, Heads::Separate),
            (Covariance::Full, Heads::Joint),
        ] {
            let config = MlpConfig { e1: 5, e2: 4, z: 3, cov, heads, ..MlpConfig::default() };
            let posterior = built(&config, [2, 3, 4]).encode(Tensor::ones([7, 2, 3, 4], &Device::flex()));
            assert_eq!(posterior.dims(), [7, 3]);
            assert_eq!(posterior.is_stochastic(), cov != Covariance::Point);
            assert_eq!(posterior.covariance().unwrap().dims(), [7, 3, 3]);
        }
    }

    #[test]
    fn codes_start_almost_noiseless() {
        let config = MlpConfig { e1: 16, e2: 16, z: 4, ..MlpConfig::default() };
        let posterior = built(&config, [1, 4, 4]).encode(Tensor::zeros([1, 1, 4, 4], &Device::flex()));
        let variance: Vec<f32> = posterior.covariance().unwrap().sum_dim(2).into_data().try_to_vec().unwrap();
        assert!(variance.iter().all(|v| (v.sqrt() - 0.006_715_35).abs() < 1e-6), "{variance:?}");
    }

    #[test]
    fn an_empty_image_is_refused() {
        let error = MlpConfig::default().build([1, 0, 3], &BuildContext::new(Device::flex(), 1)).unwrap_err();
        assert!(error.to_string().starts_with("mlp: ") && error.to_string().contains("[1, 0, 3]"), "{error}");
    }
}
