//! Encoder `resnet_keras`: the residual network of the Keras examples.

use burn::module::Module;
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use ibhost_framework::build::{BuildContext, BuildError, Initial};
use ibhost_framework::distributions::BoxedDistribution;
use ibhost_framework::encoder::{Encoder, EncoderConfig};
use ibhost_kernels::{Activation, dense};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch_norm::BatchNorm;
use crate::head::{Covariance, ScaleMap, head_size, posterior};
use crate::residual_block::{Convolution, channels_last, convolve};
use crate::resnet20::mean_over_positions;
use crate::shape::features;

/// Residual network (version 1) of the Keras examples with 6n + 2 layers.
///
/// As `resnet20`, but convolutions have a bias, kernels are He normal, the depth is free, and the first block of the second and third
/// stage has a 1x1 convolution with stride 2 on its shortcut. 276,602 numbers for n:3, z:20, three channels and a linear decoder to ten
/// classes, moving statistics included. The network of the VDB repository ends in a softmax, which makes mean and covariance entries one
/// probability vector; that softmax is left out, so results are not comparable to the repository's. Its L2 terms, which the repository
/// declares but never adds, are added with `l2`: l2 times the sum of squares of every convolution kernel, in the unit of the loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ResnetKerasConfig {
    /// Blocks of each of the three stages.
    #[schemars(range(min = 1, max = 200))]
    pub n: usize,
    /// Dimensions of the code.
    #[schemars(range(min = 1, max = 4096))]
    pub z: usize,
    /// Covariance of the posterior.
    pub cov: Covariance,
    /// How outputs become scales; without meaning for `cov:point`.
    pub scale: ScaleMap,
    /// Share of the moving mean and variance of batch normalisation kept at each training pass.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub bn_momentum: f64,
    /// Weight of the L2 terms of the convolution kernels; the Keras example has 1e-4.
    #[schemars(range(min = 0.0, max = 1e3))]
    pub l2: f64,
}

impl Default for ResnetKerasConfig {
    fn default() -> Self {
        Self { n: 3, z: 20, cov: Covariance::Diag, scale: ScaleMap::Softplus, bn_momentum: 0.99, l2: 0.0 }
    }
}

/// relu(norm2(conv2(relu(norm1(conv1(x))))) + shortcut(x)), the shortcut a 1x1 convolution or the identity.
#[derive(Module, Debug)]
pub struct KerasBlock {
    conv1: Conv2d,
    norm1: BatchNorm,
    conv2: Conv2d,
    norm2: BatchNorm,
    shortcut: Option<Conv2d>,
}

impl KerasBlock {
    fn new(channels: [usize; 2], stride: usize, momentum: f64, context: &BuildContext) -> Self {
        let width = channels[1];
        Self {
            conv1: convolution(channels, 3, stride, context),
            norm1: BatchNorm::new(width, momentum, context),
            conv2: convolution([width, width], 3, 1, context),
            norm2: BatchNorm::new(width, momentum, context),
            shortcut: (stride != 1).then(|| convolution(channels, 1, stride, context)),
        }
    }

    fn convolutions(&self) -> impl Iterator<Item = &Conv2d> {
        [&self.conv1, &self.conv2].into_iter().chain(&self.shortcut)
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let hidden = self.norm1.forward(convolve(&self.conv1, input.clone()), None, true);
        let shortcut = match &self.shortcut {
            Some(convolution) => convolve(convolution, input),
            None => input,
        };
        self.norm2.forward(convolve(&self.conv2, hidden), Some(shortcut), true)
    }
}

fn convolution(channels: [usize; 2], kernel: usize, stride: usize, context: &BuildContext) -> Conv2d {
    Convolution { channels, kernel, stride, bias: true, initial: Initial::HeNormal }.build(context)
}

/// The network of [`ResnetKerasConfig`].
#[derive(Module, Debug)]
pub struct ResnetKeras {
    stem: Conv2d,
    stem_norm: BatchNorm,
    blocks: Vec<KerasBlock>,
    head: Linear,
    #[module(skip)]
    cov: Covariance,
    #[module(skip)]
    scale: ScaleMap,
    z: usize,
    l2: f64,
}

impl ResnetKeras {
    fn convolutions(&self) -> impl Iterator<Item = &Conv2d> {
        std::iter::once(&self.stem).chain(self.blocks.iter().flat_map(KerasBlock::convolutions))
    }
}

impl Encoder for ResnetKeras {
    fn encode(&self, inputs: Tensor<4>) -> BoxedDistribution {
        let hidden = self.stem_norm.forward(convolve(&self.stem, channels_last(inputs)), None, true);
        let hidden = self.blocks.iter().fold(hidden, |hidden, block| block.forward(hidden));
        // The 8x8 pooling of the original covers all positions of its 32x32 images.
        posterior(self.cov, self.scale, dense(&self.head, mean_over_positions(hidden), Activation::Identity), self.z)
    }

    fn penalty(&self) -> Option<Tensor<1>> {
        if self.l2 == 0.0 {
            return None;
        }
        let squares = self.convolutions().map(|convolution| convolution.weight.val().square().sum());
        squares.reduce(|sum, next| sum + next).map(|sum| sum.mul_scalar(self.l2))
    }
}

#[typetag::serde(name = "resnet_keras")]
impl EncoderConfig for ResnetKerasConfig {
    fn build(&self, shape: [usize; 3], context: &BuildContext) -> Result<Box<dyn Encoder>, BuildError> {
        features("resnet_keras", shape)?;
        let mut channels = 16;
        let stem = convolution([shape[0], channels], 3, 1, context);
        let stem_norm = BatchNorm::new(channels, self.bn_momentum, context);
        let mut blocks = Vec::with_capacity(3 * self.n);
        for (stage, width) in [16, 32, 64].into_iter().enumerate() {
            for block in 0..self.n {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                blocks.push(KerasBlock::new([channels, width], stride, self.bn_momentum, context));
                channels = width;
            }
        }
        let head = context.linear(channels, head_size("resnet_keras", self.cov, self.z)?, Initial::HeNormal);
        Ok(Box::new(ResnetKeras { stem, stem_norm, blocks, head, cov: self.cov, scale: self.scale, z: self.z, l2: self.l2 }))
    }

    fn latent(&self) -> usize {
        self.z
    }
}

ibhost_framework::register! {
    Encoder: ResnetKerasConfig as EncoderConfig, aliases: [], paper: "He et al. 2015, arXiv:1512.03385", example: "resnet_keras/n:3|z:20"
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use ibhost_framework::encoder::BoxedEncoder;
    use ibhost_framework::parameters::{for_each, to_host};
    use ibhost_framework::storage::HostData;

    #[test]
    fn with_a_linear_decoder_it_has_the_published_number_of_numbers() {
        let context = BuildContext::new(Device::flex(), 1);
        let config = ResnetKerasConfig::default();
        let encoder = BoxedEncoder::new(config.build([3, 32, 32], &context).unwrap());
        let mut size = 0;
        for_each(&encoder, |seen| size += seen.shape.iter().product::<usize>());
        assert_eq!(size + (config.z + 1) * 10, 276_602);
    }

    #[test]
    fn l2_weighs_the_squares_of_every_kernel() {
        let context = BuildContext::new(Device::flex(), 1);
        let config = ResnetKerasConfig { n: 1, z: 3, l2: 1e-4, ..ResnetKerasConfig::default() };
        let encoder = BoxedEncoder::new(config.build([1, 8, 8], &context).unwrap());
        let mut squares = 0.0;
        for tensor in to_host(&encoder).values().filter(|tensor| tensor.shape.len() == 4) {
            let HostData::F32(weights) = &tensor.data else { panic!("{:?}", tensor.shape) };
            squares += weights.iter().map(|w| f64::from(w * w)).sum::<f64>();
        }
        let penalty = encoder.penalty().unwrap().into_scalar::<f32>();
        assert!((f64::from(penalty) - 1e-4 * squares).abs() < 1e-6 * squares, "{penalty} {squares}");
        let plain = ResnetKerasConfig { l2: 0.0, ..config };
        assert!(plain.build([1, 8, 8], &context).unwrap().penalty().is_none());
    }

    #[test]
    fn depth_follows_n_and_images_of_other_sizes_fit() {
        let context = BuildContext::new(Device::flex(), 1);
        let config = ResnetKerasConfig { n: 1, z: 3, ..ResnetKerasConfig::default() };
        let encoder = BoxedEncoder::new(config.build([1, 8, 8], &context).unwrap());
        let mut kernels = 0;
        for_each(&encoder, |seen| kernels += usize::from(seen.shape.len() == 4));
        // 6n + 1 convolutions on the main path and two on shortcuts.
        assert_eq!(kernels, 6 + 1 + 2);
        assert_eq!(encoder.encode(Tensor::ones([5, 1, 8, 8], &Device::flex())).dims(), [5, 3]);
    }
}
