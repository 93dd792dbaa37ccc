//! Encoder `mnist_cnn`: two convolutions and a dense layer, for small grey images.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Tensor, activation};
use ibhost_framework::build::{BuildContext, BuildError};
use ibhost_framework::distributions::{BoxedDistribution, Delta, Distribution};
use ibhost_framework::encoder::{Encoder, EncoderConfig};
use ibhost_framework::noise::Draws;
use ibhost_kernels::{Activation, dense};
use ibhost_nets::residual_block::{channels_first, channels_last};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::convolution::Convolution;

/// Channels of the two convolutions.
const CHANNELS: [usize; 2] = [32, 64];
/// Rows and columns the convolutions and the pooling need.
const SMALLEST: usize = 6;

/// Convolutional network of PyTorch's MNIST example, up to its last layer.
///
/// 3x3 convolution to 32 channels, ReLU, 3x3 convolution to 64, ReLU, largest of 2x2 positions, dropout, dense layer to `z`, ReLU, dropout; no
/// padding. The code is deterministic. With z:128 and the decoder `linear` 1,199,882 parameters for 28x28 grey images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MnistCnnConfig {
    /// Dimensions of the code.
    #[schemars(range(min = 1, max = 4096))]
    pub z: usize,
    /// Share of the pooled values set to 0 while training.
    #[schemars(range(min = 0.0, max = 0.99))]
    pub dropout1: f64,
    /// Share of the code set to 0 while training.
    #[schemars(range(min = 0.0, max = 0.99))]
    pub dropout2: f64,
}

impl Default for MnistCnnConfig {
    fn default() -> Self {
        Self { z: 128, dropout1: 0.25, dropout2: 0.5 }
    }
}

/// The network of [`MnistCnnConfig`].
#[derive(Module, Debug)]
pub struct MnistCnn {
    /// Input to 32 channels.
    pub conv1: Convolution,
    /// 32 to 64 channels.
    pub conv2: Convolution,
    /// Pooled values, channel by channel, to the code.
    pub dense: Linear,
    dropout: [f64; 2],
}

impl MnistCnn {
    /// The code of inputs `[batch, channels, height, width]`; with draws while training.
    fn code(&self, inputs: Tensor<4>, mut draws: Option<&mut Draws>) -> Tensor<2> {
        let hidden = activation::relu(self.conv1.forward(channels_last(inputs)));
        let hidden = channels_first(activation::relu(self.conv2.forward(hidden)));
        let pooled = max_pool2d(hidden, MaxPoolOptions::new([2, 2]).with_stride([2, 2]));
        let [batch, channels, height, width] = pooled.dims();
        let flat = dropped(pooled.reshape([batch, channels * height * width]), self.dropout[0], draws.as_deref_mut());
        dropped(dense(&self.dense, flat, Activation::Relu), self.dropout[1], draws)
    }
}

/// Each value set to 0 with probability `share`, the others divided by 1 - share; unchanged without draws.
fn dropped(values: Tensor<2>, share: f64, draws: Option<&mut Draws>) -> Tensor<2> {
    match draws {
        Some(draws) if share > 0.0 => {
            let kept = draws.uniform("dropout", values.dims(), &values.device()).greater_equal_elem(share).float();
            values * kept.div_scalar(1.0 - share)
        }
        _ => values,
    }
}

impl Encoder for MnistCnn {
    fn encode(&self, inputs: Tensor<4>) -> BoxedDistribution {
        Delta { value: self.code(inputs, None) }.boxed()
    }

    fn encode_training(&self, inputs: Tensor<4>, draws: &mut Draws) -> BoxedDistribution {
        Delta { value: self.code(inputs, Some(draws)) }.boxed()
    }
}

#[typetag::serde(name = "mnist_cnn")]
impl EncoderConfig for MnistCnnConfig {
    fn build(&self, shape: [usize; 3], context: &BuildContext) -> Result<Box<dyn Encoder>, BuildError> {
        let [channels, height, width] = shape;
        if height < SMALLEST || width < SMALLEST || channels == 0 {
            let problem =
                format!("two 3x3 convolutions and pooling need images of at least {SMALLEST}x{SMALLEST}, these have shape {shape:?}");
            return Err(BuildError::new("mnist_cnn", problem));
        }
        Ok(Box::new(MnistCnn {
            conv1: Convolution::new([channels, CHANNELS[0]], 3, 0, context),
            conv2: Convolution::new(CHANNELS, 3, 0, context),
            dense: context.torch_linear(CHANNELS[1] * ((height - 4) / 2) * ((width - 4) / 2), self.z),
            dropout: [self.dropout1, self.dropout2],
        }))
    }

    fn latent(&self) -> usize {
        self.z
    }
}

ibhost_framework::register! {
    Encoder: MnistCnnConfig as EncoderConfig, aliases: [], paper: "Xiao & Bamler 2023, arXiv:2302.04855", example: "mnist_cnn/z:64"
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use ibhost_framework::encoder::BoxedEncoder;
    use ibhost_framework::noise::Noise;

    #[test]
    fn the_number_of_parameters_is_the_published_one() {
        let encoder = BoxedEncoder::new(MnistCnnConfig::default().build([1, 28, 28], &BuildContext::new(Device::flex(), 1)).unwrap());
        assert_eq!(encoder.num_params() + 128 * 10 + 10, 1_199_882);
        let error = MnistCnnConfig::default().build([1, 5, 28], &BuildContext::new(Device::flex(), 1)).unwrap_err().to_string();
        assert!(error.contains("at least 6x6"), "{error}");
    }

    #[test]
    fn dropout_keeps_the_mean_and_is_the_same_for_the_same_step() {
        let ones = Tensor::<2>::ones([50, 400], &Device::flex());
        let drop = |step| {
            let mut draws = Draws::seeded(Noise::new(1), step, "train");
            dropped(ones.clone(), 0.25, Some(&mut draws)).into_data().try_to_vec::<f32>().unwrap()
        };
        let values = drop(3);
        assert!(values.iter().all(|&v| v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-6));
        assert!((values.iter().sum::<f32>() / 20_000.0 - 1.0).abs() < 0.02);
        assert!(values == drop(3) && values != drop(4));
    }

    #[test]
    fn training_codes_differ_from_evaluated_ones() {
        let config = MnistCnnConfig { z: 16, ..MnistCnnConfig::default() };
        let encoder = config.build([1, 8, 8], &BuildContext::new(Device::flex(), 1)).unwrap();
        let inputs = Tensor::<4>::ones([2, 1, 8, 8], &Device::flex());
        let plain: Vec<f32> = encoder.encode(inputs.clone()).mean().into_data().try_to_vec().unwrap();
        let mut draws = Draws::seeded(Noise::new(1), 0, "train");
        let training: Vec<f32> = encoder.encode_training(inputs, &mut draws).mean().into_data().try_to_vec().unwrap();
        assert!(plain.iter().all(|v| *v >= 0.0) && plain != training && plain.len() == 32);
    }
}
