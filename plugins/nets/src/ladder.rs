//! Encoders and decoders of the image models with codes of one or two levels: `gated_mlp`, `gated_conv` and `pixel_conv`.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use ibhost_framework::build::{BuildContext, BuildError};
use ibhost_framework::distributions::{Bernoulli, BoxedDistribution, Distribution, Normal};
use ibhost_framework::encoder::{Encoder, EncoderConfig, Hierarchy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gated::{GatedConv, GatedDense, NormalHeads, Window};
use crate::shape::{features, flatten};

/// Width of the dense layers.
pub(crate) const WIDTH: usize = 300;
/// Channels the convolutional features end with.
const LAST: usize = 6;

/// Probabilities of binary pixels are kept this far from 0 and 1.
pub const PROBABILITY_FLOOR: f64 = 1e-5;

/// Bernoulli pixels from logits, in the range the log-likelihood is clamped to.
pub(crate) fn bernoulli(logits: Tensor<2>) -> BoxedDistribution {
    Bernoulli::new(sigmoid(logits).clamp(PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR)).boxed()
}

/// Sizes of the code's levels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Levels {
    /// Dimensions of the bottom level z1.
    #[schemars(range(min = 1, max = 4096))]
    pub z1: usize,
    /// Dimensions of the top level z2; 0 for a code of one level.
    #[schemars(range(min = 0, max = 4096))]
    pub z2: usize,
}

impl Default for Levels {
    fn default() -> Self {
        Self { z1: 40, z2: 40 }
    }
}

impl Levels {
    fn sizes(&self) -> Vec<usize> {
        if self.z2 == 0 { vec![self.z1] } else { vec![self.z1, self.z2] }
    }
}

/// What comes before the heads of q(z1|x, z2): features of z2, and the layer on the features of x and z2 side by side.
#[derive(Module, Debug)]
pub struct Bottom {
    /// z2 to features.
    pub code: GatedDense,
    /// Features of x, then of z2, to features.
    pub joint: GatedDense,
    /// q(z1|x, z2).
    pub heads: NormalHeads,
}

impl Bottom {
    fn new(inputs: usize, code_width: usize, levels: &Levels, context: &BuildContext) -> Self {
        Self {
            code: GatedDense::new(levels.z2, code_width, context),
            joint: GatedDense::new(inputs + code_width, WIDTH, context),
            heads: NormalHeads::new(WIDTH, levels.z1, context),
        }
    }

    fn posterior(&self, x: Tensor<2>, z2: Tensor<2>) -> Normal {
        self.heads.posterior(self.joint.forward(Tensor::cat(vec![x, self.code.forward(z2)], 1)))
    }
}

/// Codes of all levels side by side, and their distribution when the levels above the bottom are at their means.
fn flat_posterior(features: &[Tensor<2>], normal: impl Fn(Tensor<2>, &[Tensor<2>]) -> Normal) -> BoxedDistribution {
    let (mut means, mut scales): (Vec<Tensor<2>>, Vec<Tensor<2>>) = (Vec::new(), Vec::new());
    for level in (0..features.len()).rev() {
        let Normal { mean, scale } = normal(features[level].clone(), &means);
        means.insert(0, mean);
        scales.insert(0, scale);
    }
    Normal { mean: Tensor::cat(means, 1), scale: Tensor::cat(scales, 1) }.boxed()
}

/// Gated perceptron with a code of one level (z2:0) or two: x to 300 to 300 for the top level; x to 300 and z2 to 300, then 600 to 300 for the
/// bottom.
///
/// The posterior shown to analyses has the levels side by side, the bottom one at the mean of the top. Log variances are clamped to [-6, 2];
/// weights are N(0, 2/inputs).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GatedMlpConfig {
    /// Sizes of the code.
    #[serde(flatten)]
    pub levels: Levels,
}

/// The network of [`GatedMlpConfig`].
#[derive(Module, Debug)]
pub struct GatedMlp {
    /// x to features, two layers.
    pub top: Vec<GatedDense>,
    /// q of the top level.
    pub top_heads: NormalHeads,
    /// x to features for the bottom level, when it is another.
    pub bottom_input: Option<GatedDense>,
    /// q(z1|x, z2).
    pub bottom: Option<Bottom>,
}

impl GatedMlp {
    fn normal(&self, features: Tensor<2>, above: &[Tensor<2>]) -> Normal {
        match (&self.bottom, above) {
            (Some(bottom), [z2, ..]) => bottom.posterior(features, z2.clone()),
            _ => self.top_heads.posterior(features),
        }
    }
}

impl Hierarchy for GatedMlp {
    fn features(&self, inputs: Tensor<4>) -> Vec<Tensor<2>> {
        let x = flatten(inputs);
        let top = self.top.iter().fold(x.clone(), |x, layer| layer.forward(x));
        self.bottom_input.iter().map(|layer| layer.forward(x.clone())).chain([top]).collect()
    }

    fn level(&self, _level: usize, features: Tensor<2>, above: &[Tensor<2>]) -> BoxedDistribution {
        self.normal(features, above).boxed()
    }
}

impl Encoder for GatedMlp {
    fn encode(&self, inputs: Tensor<4>) -> BoxedDistribution {
        flat_posterior(&self.features(inputs), |features, above| self.normal(features, above))
    }

    fn as_hierarchy(&self) -> Option<&dyn Hierarchy> {
        Some(self)
    }
}

#[typetag::serde(name = "gated_mlp")]
impl EncoderConfig for GatedMlpConfig {
    fn build(&self, shape: [usize; 3], context: &BuildContext) -> Result<Box<dyn Encoder>, BuildError> {
        let inputs = features("gated_mlp", shape)?;
        let top = vec![GatedDense::new(inputs, WIDTH, context), GatedDense::new(WIDTH, WIDTH, context)];
        let two = self.levels.z2 > 0;
        let top_heads = NormalHeads::new(WIDTH, if two { self.levels.z2 } else { self.levels.z1 }, context);
        let bottom_input = two.then(|| GatedDense::new(inputs, WIDTH, context));
        let bottom = two.then(|| Bottom::new(WIDTH, WIDTH, &self.levels, context));
        Ok(Box::new(GatedMlp { top, top_heads, bottom_input, bottom }))
    }

    fn latent(&self) -> usize {
        self.levels.z1 + self.levels.z2
    }

    fn latents(&self) -> Vec<usize> {
        self.levels.sizes()
    }
}

ibhost_framework::register! {
    Encoder: GatedMlpConfig as EncoderConfig, aliases: [], paper: "Tomczak & Welling 2018, arXiv:1705.07120", example: "gated_mlp/z1:40|z2:40"
}

/// Gated convolutional encoder with a code of two levels.
///
/// q(z2|x): gated convolutions 7x7 to 32, 3x3/2 to 32, 5x5 to 64, 3x3/2 to 64, 3x3 to 6 channels, then the heads. q(z1|x,z2): the same with
/// 3x3 kernels throughout, beside a gated dense layer on z2, then 300 gated units on both. The posterior shown to analyses has the levels
/// side by side, the bottom one at the mean of the top. Log variances are clamped to [-6, 2].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GatedConvConfig {
    /// Sizes of the code; both above 0.
    #[serde(flatten)]
    pub levels: Levels,
}

/// The network of [`GatedConvConfig`].
#[derive(Module, Debug)]
pub struct GatedConvEncoder {
    /// x to features for z2.
    pub top: Vec<GatedConv>,
    /// q(z2|x).
    pub top_heads: NormalHeads,
    /// x to features for z1.
    pub bottom_input: Vec<GatedConv>,
    /// q(z1|x, z2).
    pub bottom: Bottom,
}

const TOP: [(usize, Window); 5] = [
    (32, Window::new(7, 1, 3)),
    (32, Window::new(3, 2, 1)),
    (64, Window::new(5, 1, 2)),
    (64, Window::new(3, 2, 1)),
    (LAST, Window::new(3, 1, 1)),
];
const BOTTOM: [(usize, Window); 5] = [
    (32, Window::new(3, 1, 1)),
    (32, Window::new(3, 2, 1)),
    (64, Window::new(3, 1, 1)),
    (64, Window::new(3, 2, 1)),
    (LAST, Window::new(3, 1, 1)),
];

fn stack(mut channels: usize, layers: &[(usize, Window)], context: &BuildContext) -> Vec<GatedConv> {
    let build = |&(outputs, window): &(usize, Window)| {
        let layer = GatedConv::new([channels, outputs], window, context);
        channels = outputs;
        layer
    };
    layers.iter().map(build).collect()
}

fn through(layers: &[GatedConv], x: Tensor<4>) -> Tensor<2> {
    flatten(layers.iter().fold(x, |x, layer| layer.forward(x)))
}

impl GatedConvEncoder {
    fn normal(&self, features: Tensor<2>, above: &[Tensor<2>]) -> Normal {
        match above {
            [z2, ..] => self.bottom.posterior(features, z2.clone()),
            [] => self.top_heads.posterior(features),
        }
    }
}

impl Hierarchy for GatedConvEncoder {
    fn features(&self, inputs: Tensor<4>) -> Vec<Tensor<2>> {
        vec![through(&self.bottom_input, inputs.clone()), through(&self.top, inputs)]
    }

    fn level(&self, _level: usize, features: Tensor<2>, above: &[Tensor<2>]) -> BoxedDistribution {
        self.normal(features, above).boxed()
    }

    fn top(&self, inputs: Tensor<4>) -> BoxedDistribution {
        self.top_heads.posterior(through(&self.top, inputs)).boxed()
    }
}

impl Encoder for GatedConvEncoder {
    fn encode(&self, inputs: Tensor<4>) -> BoxedDistribution {
        flat_posterior(&self.features(inputs), |features, above| self.normal(features, above))
    }

    fn as_hierarchy(&self) -> Option<&dyn Hierarchy> {
        Some(self)
    }
}

#[typetag::serde(name = "gated_conv")]
impl EncoderConfig for GatedConvConfig {
    fn build(&self, shape: [usize; 3], context: &BuildContext) -> Result<Box<dyn Encoder>, BuildError> {
        if self.levels.z2 == 0 {
            return Err(BuildError::new(
                "gated_conv",
                "has a code of two levels; set z2 above 0, or use the encoder `gated_mlp` for one level",
            ));
        }
        let [channels, height, width] = shape;
        let size = |side| TOP.iter().fold(side, |side, (_, window)| window.output(side));
        let flat = LAST * size(height) * size(width);
        if channels == 0 || flat == 0 {
            return Err(BuildError::new("gated_conv", format!("images of shape {shape:?} are too small; use at least 1x4x4")));
        }
        Ok(Box::new(GatedConvEncoder {
            top: stack(channels, &TOP, context),
            top_heads: NormalHeads::new(flat, self.levels.z2, context),
            bottom_input: stack(channels, &BOTTOM, context),
            bottom: Bottom::new(flat, flat, &self.levels, context),
        }))
    }

    fn latent(&self) -> usize {
        self.levels.z1 + self.levels.z2
    }

    fn latents(&self) -> Vec<usize> {
        self.levels.sizes()
    }
}

ibhost_framework::register! {
    Encoder: GatedConvConfig as EncoderConfig, aliases: [], paper: "Tomczak & Welling 2018, arXiv:1705.07120", example: "gated_conv/z1:40|z2:40"
}

/// p(z1|z2): two gated layers of 300, then the heads.
#[derive(Module, Debug)]
pub struct CodePrior {
    /// z2 to features.
    pub layers: Vec<GatedDense>,
    /// Mean and log variance.
    pub heads: NormalHeads,
}

impl CodePrior {
    /// From `above` to `below` dimensions.
    pub fn new(above: usize, below: usize, context: &BuildContext) -> Self {
        Self {
            layers: vec![GatedDense::new(above, WIDTH, context), GatedDense::new(WIDTH, WIDTH, context)],
            heads: NormalHeads::new(WIDTH, below, context),
        }
    }

    /// The prior at codes `[batch, above]`.
    pub fn forward(&self, above: Tensor<2>) -> BoxedDistribution {
        self.heads.posterior(self.layers.iter().fold(above, |x, layer| layer.forward(x))).boxed()
    }
}

/// Features of a code for a decoder: one gated layer a level, side by side, bottom first.
#[derive(Module, Debug)]
pub struct CodeFeatures {
    /// One layer a level.
    pub levels: Vec<GatedDense>,
}

impl CodeFeatures {
    pub(crate) fn new(latents: &[usize], width: usize, context: &BuildContext) -> Self {
        Self { levels: latents.iter().map(|&latent| GatedDense::new(latent, width, context)).collect() }
    }

    pub(crate) fn forward(&self, codes: &[Tensor<2>]) -> Vec<Tensor<2>> {
        self.levels.iter().zip(codes).map(|(layer, code)| layer.forward(code.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_decoder::{GatedConvDecoderConfig, GatedMlpDecoderConfig, PixelConvConfig};
    use burn::tensor::Device;
    use ibhost_framework::decoder::DecoderConfig;
    use ibhost_framework::decoder::{BoxedDecoder, Target};
    use ibhost_framework::encoder::BoxedEncoder;

    #[test]
    fn published_parameter_counts() {
        let context = BuildContext::new(Device::flex(), 1);
        let count = |encoder: &dyn EncoderConfig, decoder: &dyn DecoderConfig| {
            let shape = [1, 28, 28];
            let encoder_net = BoxedEncoder::new(encoder.build(shape, &context).unwrap());
            let decoder_net = BoxedDecoder::new(decoder.build(&encoder.latents(), Target::Inputs(shape), &context).unwrap());
            encoder_net.num_params() + decoder_net.num_params()
        };
        let conv = GatedConvConfig::default();
        assert_eq!(count(&conv, &GatedConvDecoderConfig::default()), 2_210_861);
        // The running statistics of batch normalisation are not parameters.
        assert_eq!(count(&conv, &PixelConvConfig::default()), 1_385_821 + 2 * 8 * 64);
        assert_eq!(count(&GatedMlpConfig::default(), &GatedMlpDecoderConfig {}), 2_431_024);
        let one = GatedMlpConfig { levels: Levels { z1: 40, z2: 0 } };
        assert_eq!(count(&one, &GatedMlpDecoderConfig {}), 1_116_864);
    }

    #[test]
    fn too_small_images_and_missing_levels_are_refused() {
        let context = BuildContext::new(Device::flex(), 1);
        assert!(GatedConvConfig { levels: Levels { z1: 2, z2: 0 } }.build([1, 28, 28], &context).is_err());
        assert!(GatedConvConfig::default().build([0, 28, 28], &context).is_err());
    }
}
