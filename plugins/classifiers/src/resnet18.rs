//! Encoder `resnet18`: the residual network with four stages of two blocks, for images of 32x32.

use burn::module::Module;
use burn::tensor::Tensor;
use ibhost_framework::build::{BuildContext, BuildError};
use ibhost_framework::distributions::{BoxedDistribution, Delta, Distribution};
use ibhost_framework::encoder::{Encoder, EncoderConfig};
use ibhost_nets::batch_norm::BatchNorm;
use ibhost_nets::residual_block::{channels_first, channels_last};
use ibhost_nets::shape::features;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::convolution::{Convolution, batch_norm, mean_over_positions};

/// Channels of the four stages as multiples of the first, and the stride of their first block.
const STAGES: [(usize, usize); 4] = [(1, 1), (2, 2), (4, 2), (8, 2)];
/// Blocks of a stage.
const BLOCKS: usize = 2;

/// ResNet-18 for small images, up to its last layer.
///
/// 3x3 convolution to `width` channels, batch normalisation, ReLU; four stages of two basic blocks with 1, 2, 4 and 8 times as many channels, the
/// first block of the later stages with stride 2; mean over all positions. Convolutions have no bias; shortcuts that change the size are a
/// 1x1 convolution and batch normalisation. The code is deterministic, 8 width dimensions; with width:64 and the decoder `linear`
/// 11,173,962 trainable parameters for colour images and ten classes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Resnet18Config {
    /// Channels of the first stage.
    #[schemars(range(min = 1, max = 1024))]
    pub width: usize,
}

impl Default for Resnet18Config {
    fn default() -> Self {
        Self { width: 64 }
    }
}

/// relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)), channels last.
#[derive(Module, Debug)]
pub struct ProjectedBlock {
    /// 3x3, with the stride.
    pub conv1: Convolution,
    /// After conv1.
    pub bn1: BatchNorm,
    /// 3x3, stride 1.
    pub conv2: Convolution,
    /// After conv2.
    pub bn2: BatchNorm,
    /// 1x1 convolution with the stride and its normalisation, where the block changes the size; else the identity.
    pub shortcut: Option<(Convolution, BatchNorm)>,
}

impl ProjectedBlock {
    /// Block from `channels[0]` to `channels[1]` channels.
    pub fn new(channels: [usize; 2], stride: usize, context: &BuildContext) -> Self {
        let [inputs, outputs] = channels;
        Self {
            conv1: Convolution::plain(channels, 3, stride, 1, context),
            bn1: batch_norm(outputs, context),
            conv2: Convolution::plain([outputs, outputs], 3, 1, 1, context),
            bn2: batch_norm(outputs, context),
            shortcut: (stride != 1 || inputs != outputs)
                .then(|| (Convolution::plain(channels, 1, stride, 0, context), batch_norm(outputs, context))),
        }
    }

    /// `[batch, height, width, channels[0]]` to `[batch, ceil(height / stride), ceil(width / stride), channels[1]]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let hidden = self.bn1.forward(self.conv1.forward(input.clone()), None, true);
        let shortcut = match &self.shortcut {
            Some((convolution, norm)) => norm.forward(convolution.forward(input), None, false),
            None => input,
        };
        self.bn2.forward(self.conv2.forward(hidden), Some(shortcut), true)
    }

    /// The same on `[batch, channels, height, width]`.
    pub fn forward_channels_first(&self, input: Tensor<4>) -> Tensor<4> {
        channels_first(self.forward(channels_last(input)))
    }
}

/// The network of [`Resnet18Config`].
#[derive(Module, Debug)]
pub struct Resnet18 {
    /// Input to the first stage's channels.
    pub conv1: Convolution,
    /// After conv1.
    pub bn1: BatchNorm,
    /// The eight blocks in order.
    pub blocks: Vec<ProjectedBlock>,
}

impl Encoder for Resnet18 {
    fn encode(&self, inputs: Tensor<4>) -> BoxedDistribution {
        let hidden = self.bn1.forward(self.conv1.forward(channels_last(inputs)), None, true);
        Delta { value: mean_over_positions(self.blocks.iter().fold(hidden, |hidden, block| block.forward(hidden))) }.boxed()
    }
}

#[typetag::serde(name = "resnet18")]
impl EncoderConfig for Resnet18Config {
    fn build(&self, shape: [usize; 3], context: &BuildContext) -> Result<Box<dyn Encoder>, BuildError> {
        features("resnet18", shape)?;
        let mut channels = self.width;
        let conv1 = Convolution::plain([shape[0], channels], 3, 1, 1, context);
        let bn1 = batch_norm(channels, context);
        let mut blocks = Vec::with_capacity(STAGES.len() * BLOCKS);
        for (factor, first_stride) in STAGES {
            for block in 0..BLOCKS {
                let stride = if block == 0 { first_stride } else { 1 };
                blocks.push(ProjectedBlock::new([channels, factor * self.width], stride, context));
                channels = factor * self.width;
            }
        }
        Ok(Box::new(Resnet18 { conv1, bn1, blocks }))
    }

    fn latent(&self) -> usize {
        STAGES[STAGES.len() - 1].0 * self.width
    }
}

ibhost_framework::register! {
    Encoder: Resnet18Config as EncoderConfig, aliases: [], paper: "He et al. 2015, arXiv:1512.03385", example: "resnet18/width:16"
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use ibhost_framework::encoder::BoxedEncoder;
    use ibhost_framework::parameters::for_each;

    #[test]
    fn the_number_of_parameters_is_the_published_one() {
        let device = Device::flex().autodiff();
        let encoder = BoxedEncoder::new(Resnet18Config::default().build([3, 32, 32], &BuildContext::new(device, 1)).unwrap());
        let mut trained = 0;
        for_each(&encoder, |seen| trained += if seen.trainable { seen.shape.iter().product() } else { 0 });
        assert_eq!(trained + 512 * 10 + 10, 11_173_962);
    }

    #[test]
    fn images_of_other_sizes_fit_and_gradients_reach_the_first_layer() {
        let device = Device::flex().autodiff();
        let config = Resnet18Config { width: 4 };
        let encoder = config.build([1, 9, 12], &BuildContext::new(device.clone(), 1)).unwrap();
        let inputs = Tensor::<1, burn::tensor::Int>::arange(0..2 * 108, &device).float().sin().reshape([2, 1, 9, 12]).require_grad();
        let code = encoder.encode(inputs.clone()).mean();
        assert_eq!(code.dims(), [2, config.latent()]);
        let gradients = code.powi_scalar(2).sum().backward();
        assert!(inputs.grad(&gradients).unwrap().into_data().iter::<f32>().any(|g| g != 0.0));
    }
}
