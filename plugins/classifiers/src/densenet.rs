//! Encoder `densenet`: every layer sees the outputs of all layers before it.

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

use crate::convolution::{Convolution, average_pairs, batch_norm, mean_over_positions};

/// Width of the 1x1 convolutions in units of the growth.
const BOTTLENECK: usize = 4;

/// DenseNet for small images, up to its last layer; by default DenseNet-121.
///
/// 3x3 convolution to 2 `growth` channels; blocks of `blocks` layers, each of which puts `growth` new channels before the old ones (batch
/// normalisation, ReLU, 1x1 convolution to 4 growth, batch normalisation, ReLU, 3x3 convolution); between blocks batch normalisation, ReLU, 1x1
/// convolution to floor(`reduction` channels) and the mean of 2x2 positions; at the end batch normalisation, ReLU and the mean over all
/// positions. No biases; the code is deterministic. With the defaults and the decoder `linear` 6,956,298 trainable parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DensenetConfig {
    /// Channels a layer adds.
    #[schemars(range(min = 1, max = 1024))]
    pub growth: usize,
    /// Layers of each block.
    pub blocks: Vec<usize>,
    /// Share of the channels kept between blocks.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub reduction: f64,
}

impl Default for DensenetConfig {
    fn default() -> Self {
        Self { growth: 32, blocks: vec![6, 12, 24, 16], reduction: 0.5 }
    }
}

impl DensenetConfig {
    /// Channels after every transition and after the last block.
    fn channels(&self) -> Vec<usize> {
        let mut channels = 2 * self.growth;
        let mut after = Vec::with_capacity(self.blocks.len());
        for (number, layers) in self.blocks.iter().enumerate() {
            channels += layers * self.growth;
            if number + 1 < self.blocks.len() {
                channels = ((channels as f64 * self.reduction).floor() as usize).max(1);
            }
            after.push(channels);
        }
        after
    }
}

/// One layer of a block: concat\[conv2(relu(bn2(conv1(relu(bn1(x)))))), x\], channels last.
#[derive(Module, Debug)]
pub struct Bottleneck {
    /// Before conv1.
    pub bn1: BatchNorm,
    /// 1x1 to four times the growth.
    pub conv1: Convolution,
    /// Before conv2.
    pub bn2: BatchNorm,
    /// 3x3 to the growth.
    pub conv2: Convolution,
}

impl Bottleneck {
    /// Layer on `channels` channels that adds `growth`.
    pub fn new(channels: usize, growth: usize, context: &BuildContext) -> Self {
        let between = BOTTLENECK * growth;
        Self {
            bn1: batch_norm(channels, context),
            conv1: Convolution::plain([channels, between], 1, 1, 0, context),
            bn2: batch_norm(between, context),
            conv2: Convolution::plain([between, growth], 3, 1, 1, context),
        }
    }

    /// `[batch, height, width, channels]` to `[batch, height, width, growth + channels]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let hidden = self.conv1.forward(self.bn1.forward(input.clone(), None, true));
        let new = self.conv2.forward(self.bn2.forward(hidden, None, true));
        Tensor::cat(vec![new, input], 3)
    }

    /// The same on `[batch, channels, height, width]`.
    pub fn forward_channels_first(&self, input: Tensor<4>) -> Tensor<4> {
        channels_first(self.forward(channels_last(input)))
    }
}

/// What lies between two blocks: mean of 2x2 positions of conv(relu(bn(x))), channels last.
#[derive(Module, Debug)]
pub struct Transition {
    /// Before conv.
    pub bn: BatchNorm,
    /// 1x1 to fewer channels.
    pub conv: Convolution,
}

impl Transition {
    /// From `channels[0]` to `channels[1]` channels.
    pub fn new(channels: [usize; 2], context: &BuildContext) -> Self {
        Self { bn: batch_norm(channels[0], context), conv: Convolution::plain(channels, 1, 1, 0, context) }
    }

    /// `[batch, height, width, channels[0]]` to `[batch, height / 2, width / 2, channels[1]]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        average_pairs(self.conv.forward(self.bn.forward(input, None, true)))
    }

    /// The same on `[batch, channels, height, width]`.
    pub fn forward_channels_first(&self, input: Tensor<4>) -> Tensor<4> {
        channels_first(self.forward(channels_last(input)))
    }
}

/// Layers of one resolution and what leads to the next.
#[derive(Module, Debug)]
pub struct DenseBlock {
    /// The layers.
    pub layers: Vec<Bottleneck>,
    /// Nothing after the last block.
    pub transition: Option<Transition>,
}

/// The network of [`DensenetConfig`].
#[derive(Module, Debug)]
pub struct Densenet {
    /// Input to twice the growth.
    pub conv1: Convolution,
    /// The blocks.
    pub blocks: Vec<DenseBlock>,
    /// After the last block.
    pub bn: BatchNorm,
}

impl Encoder for Densenet {
    fn encode(&self, inputs: Tensor<4>) -> BoxedDistribution {
        let mut hidden = self.conv1.forward(channels_last(inputs));
        for block in &self.blocks {
            hidden = block.layers.iter().fold(hidden, |hidden, layer| layer.forward(hidden));
            if let Some(transition) = &block.transition {
                hidden = transition.forward(hidden);
            }
        }
        Delta { value: mean_over_positions(self.bn.forward(hidden, None, true)) }.boxed()
    }
}

#[typetag::serde(name = "densenet")]
impl EncoderConfig for DensenetConfig {
    fn build(&self, shape: [usize; 3], context: &BuildContext) -> Result<Box<dyn Encoder>, BuildError> {
        features("densenet", shape)?;
        let halvings = self.blocks.len().saturating_sub(1);
        if self.blocks.is_empty() || self.blocks.len() > 8 || self.blocks.iter().any(|layers| !(1..=256).contains(layers)) {
            return Err(BuildError::new(
                "densenet",
                "blocks must be one to eight numbers of layers from 1 to 256, e.g. blocks:[6;12;24;16]",
            ));
        }
        if shape[1] >> halvings == 0 || shape[2] >> halvings == 0 {
            let problem = format!("{halvings} halvings leave nothing of images of shape {shape:?}; give fewer blocks, e.g. blocks:[6;12]");
            return Err(BuildError::new("densenet", problem));
        }
        let mut channels = 2 * self.growth;
        let conv1 = Convolution::plain([shape[0], channels], 3, 1, 1, context);
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (number, (&layers, after)) in self.blocks.iter().zip(self.channels()).enumerate() {
            let layers = (0..layers).map(|layer| Bottleneck::new(channels + layer * self.growth, self.growth, context)).collect::<Vec<_>>();
            channels += layers.len() * self.growth;
            let transition = (number < halvings).then(|| Transition::new([channels, after], context));
            channels = after;
            blocks.push(DenseBlock { layers, transition });
        }
        Ok(Box::new(Densenet { conv1, blocks, bn: batch_norm(channels, context) }))
    }

    fn latent(&self) -> usize {
        self.channels().last().copied().unwrap_or(1)
    }
}

ibhost_framework::register! {
    Encoder: DensenetConfig as EncoderConfig, aliases: ["densenet121"], paper: "Huang et al. 2016, arXiv:1608.06993",
    example: "densenet/growth:12"
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use ibhost_framework::encoder::BoxedEncoder;
    use ibhost_framework::parameters::for_each;

    #[test]
    fn the_numbers_of_parameters_are_the_published_ones() {
        let device = Device::flex().autodiff();
        for (growth, latent, expected) in [(32, 1024, 6_956_298), (12, 384, 1_000_618)] {
            let config = DensenetConfig { growth, ..DensenetConfig::default() };
            assert_eq!(config.latent(), latent);
            let encoder = BoxedEncoder::new(config.build([3, 32, 32], &BuildContext::new(device.clone(), 1)).unwrap());
            let mut trained = 0;
            for_each(&encoder, |seen| trained += if seen.trainable { seen.shape.iter().product() } else { 0 });
            assert_eq!(trained + latent * 10 + 10, expected);
        }
    }

    #[test]
    fn sizes_that_cannot_be_halved_are_refused() {
        let context = BuildContext::new(Device::flex(), 1);
        let build = |blocks: &[usize], shape| DensenetConfig { growth: 2, blocks: blocks.to_vec(), reduction: 0.5 }.build(shape, &context);
        assert!(build(&[1, 1, 1, 1], [1, 7, 7]).unwrap_err().to_string().contains("3 halvings"));
        assert!(build(&[], [1, 8, 8]).is_err() && build(&[0], [1, 8, 8]).is_err());
        let encoder = build(&[2, 1], [1, 7, 9]).unwrap();
        assert_eq!(encoder.encode(Tensor::ones([3, 1, 7, 9], &Device::flex())).dims(), [3, 6]);
    }
}
