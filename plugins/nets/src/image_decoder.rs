//! Decoders of the image models: `gated_mlp`, `gated_conv` and the autoregressive `pixel_conv`, all Bernoulli.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use ibhost_framework::build::{BuildContext, BuildError};
use ibhost_framework::decoder::{Decoder, DecoderConfig, Target, TargetKind};
use ibhost_framework::distributions::BoxedDistribution;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch_norm::BatchNorm;
use crate::gated::{Conv, GatedConv, GatedDense, Mask, MaskedConv, Window, he_linear};
use crate::ladder::{CodeFeatures, CodePrior, WIDTH, bernoulli};
use crate::shape::{features, flatten};

/// Channels of the convolutional decoders.
const CHANNELS: usize = 64;
/// Masked convolutions of the autoregressive decoder.
const MASKED_LAYERS: usize = 8;
/// Epsilon of batch normalisation in PyTorch.
const EPSILON: f64 = 1e-5;
/// Share of the running statistics kept at each step.
const MOMENTUM: f64 = 0.9;

/// p(z1|z2) for codes of two levels.
fn code_prior(name: &str, latents: &[usize], context: &BuildContext) -> Result<Option<CodePrior>, BuildError> {
    match latents {
        [_] => Ok(None),
        [below, above] => Ok(Some(CodePrior::new(*above, *below, context))),
        other => Err(BuildError::new(name, format!("takes codes of one or two levels, not of {}", other.len()))),
    }
}

/// Gated perceptron from a code of one or two levels to Bernoulli pixels: 300 units a level, 300 on all of them, sigmoid.
///
/// With two levels it also holds p(z1|z2), two gated layers of 300 and heads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GatedMlpDecoderConfig {}

/// The network of [`GatedMlpDecoderConfig`].
#[derive(Module, Debug)]
pub struct GatedMlpDecoder {
    /// p(z1|z2).
    pub prior: Option<CodePrior>,
    /// Codes to features.
    pub codes: CodeFeatures,
    /// Features of all levels to features.
    pub joint: GatedDense,
    /// Logits.
    pub output: Linear,
}

impl Decoder for GatedMlpDecoder {
    fn decode(&self, codes: &[Tensor<2>], _teacher: Option<Tensor<4>>) -> BoxedDistribution {
        bernoulli(self.output.forward(self.joint.forward(Tensor::cat(self.codes.forward(codes), 1))))
    }

    fn prior(&self, _level: usize, above: &[Tensor<2>]) -> Option<BoxedDistribution> {
        Some(self.prior.as_ref()?.forward(above.first()?.clone()))
    }
}

#[typetag::serde(name = "gated_mlp")]
impl DecoderConfig for GatedMlpDecoderConfig {
    fn targets(&self) -> &'static [TargetKind] {
        &[TargetKind::Inputs]
    }

    fn support(&self) -> Option<[f32; 2]> {
        Some([0.0, 1.0])
    }

    fn build(&self, latents: &[usize], target: Target, context: &BuildContext) -> Result<Box<dyn Decoder>, BuildError> {
        let shape = target.shape();
        let pixels = features("gated_mlp", shape)?;
        Ok(Box::new(GatedMlpDecoder {
            prior: code_prior("gated_mlp", latents, context)?,
            codes: CodeFeatures::new(latents, WIDTH, context),
            joint: GatedDense::new(WIDTH * latents.len(), WIDTH, context),
            output: he_linear(WIDTH, pixels, context),
        }))
    }
}

ibhost_framework::register! {
    Decoder: GatedMlpDecoderConfig as DecoderConfig, aliases: [], paper: "Tomczak & Welling 2018, arXiv:1705.07120", example: "gated_mlp"
}

/// Gated convolutional decoder to Bernoulli pixels: 300 units a level, a gated dense layer to an image, four gated 3x3 convolutions of 64
/// channels, 1x1 convolution, sigmoid.
///
/// With two levels it also holds p(z1|z2), two gated layers of 300 and heads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GatedConvDecoderConfig {}

/// The network of [`GatedConvDecoderConfig`].
#[derive(Module, Debug)]
pub struct GatedConvDecoder {
    /// p(z1|z2).
    pub prior: Option<CodePrior>,
    /// Codes to features.
    pub codes: CodeFeatures,
    /// Features of all levels to an image.
    pub image: GatedDense,
    /// Convolutions on the image.
    pub layers: Vec<GatedConv>,
    /// Logits.
    pub output: Conv,
    #[module(skip)]
    shape: [usize; 3],
}

impl Decoder for GatedConvDecoder {
    fn decode(&self, codes: &[Tensor<2>], _teacher: Option<Tensor<4>>) -> BoxedDistribution {
        let [channels, height, width] = self.shape;
        let image = self.image.forward(Tensor::cat(self.codes.forward(codes), 1));
        let batch = image.dims()[0];
        let image = image.reshape([batch, channels, height, width]);
        let features = self.layers.iter().fold(image, |x, layer| layer.forward(x));
        bernoulli(flatten(self.output.forward(features)))
    }

    fn prior(&self, _level: usize, above: &[Tensor<2>]) -> Option<BoxedDistribution> {
        Some(self.prior.as_ref()?.forward(above.first()?.clone()))
    }
}

#[typetag::serde(name = "gated_conv")]
impl DecoderConfig for GatedConvDecoderConfig {
    fn targets(&self) -> &'static [TargetKind] {
        &[TargetKind::Inputs]
    }

    fn support(&self) -> Option<[f32; 2]> {
        Some([0.0, 1.0])
    }

    fn build(&self, latents: &[usize], target: Target, context: &BuildContext) -> Result<Box<dyn Decoder>, BuildError> {
        let shape = target.shape();
        let pixels = features("gated_conv", shape)?;
        let window = Window::new(3, 1, 1);
        let prior = code_prior("gated_conv", latents, context)?;
        let codes = CodeFeatures::new(latents, WIDTH, context);
        let image = GatedDense::new(WIDTH * latents.len(), pixels, context);
        let inputs = |layer| if layer == 0 { shape[0] } else { CHANNELS };
        let layers = (0..4).map(|layer| GatedConv::new([inputs(layer), CHANNELS], window, context)).collect();
        let output = Conv::new([CHANNELS, shape[0]], Window::new(1, 1, 0), true, context);
        Ok(Box::new(GatedConvDecoder { prior, codes, image, layers, output, shape }))
    }
}

ibhost_framework::register! {
    Decoder: GatedConvDecoderConfig as DecoderConfig, aliases: [], paper: "Tomczak & Welling 2018, arXiv:1705.07120", example: "gated_conv"
}

/// Autoregressive decoder to Bernoulli pixels: the image beside one map a level of the code, eight masked 3x3 convolutions of 64 channels
/// with batch normalisation and relu, 1x1 convolution, sigmoid.
///
/// The first layer's mask hides the maps of the code at the current and later pixels like the image itself, as in the original; the first
/// pixel is then not conditioned at all. `open_code:true` unmasks the maps. With two levels it also holds p(z1|z2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PixelConvConfig {
    /// Let every pixel see the whole map of the code around it.
    pub open_code: bool,
}

/// The network of [`PixelConvConfig`].
#[derive(Module, Debug)]
pub struct PixelConvDecoder {
    /// p(z1|z2).
    pub prior: Option<CodePrior>,
    /// Codes to maps.
    pub codes: CodeFeatures,
    /// Masked convolutions.
    pub layers: Vec<MaskedConv>,
    /// Batch normalisation after each.
    pub norms: Vec<BatchNorm>,
    /// Logits.
    pub output: Conv,
    #[module(skip)]
    shape: [usize; 3],
}

impl PixelConvDecoder {
    /// One map a level, `[batch, levels * channels, height, width]`.
    fn maps(&self, codes: &[Tensor<2>]) -> Tensor<4> {
        let [channels, height, width] = self.shape;
        let maps = self.codes.forward(codes).into_iter().map(|map| {
            let batch = map.dims()[0];
            map.reshape([batch, channels, height, width])
        });
        Tensor::cat(maps.collect(), 1)
    }

    fn logits(&self, stacked: Tensor<4>) -> Tensor<4> {
        let layers = self.layers.iter().zip(&self.norms);
        self.output.forward(layers.fold(stacked, |x, (layer, norm)| norm.forward_channels_first(layer.forward(x), true)))
    }
}

impl Decoder for PixelConvDecoder {
    fn decode(&self, codes: &[Tensor<2>], teacher: Option<Tensor<4>>) -> BoxedDistribution {
        let maps = self.maps(codes);
        let [batch, _, height, width] = maps.dims();
        let image = teacher.unwrap_or_else(|| Tensor::zeros([batch, self.shape[0], height, width], &maps.device()));
        bernoulli(flatten(self.logits(Tensor::cat(vec![image, maps], 1))))
    }

    fn prior(&self, _level: usize, above: &[Tensor<2>]) -> Option<BoxedDistribution> {
        Some(self.prior.as_ref()?.forward(above.first()?.clone()))
    }

    fn is_autoregressive(&self) -> bool {
        true
    }

    fn ancestral(&self, codes: &[Tensor<2>], uniform: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let [channels, height, width] = self.shape;
        let maps = self.maps(codes);
        let (batch, device) = (maps.dims()[0], maps.device());
        let mut image: Tensor<4> = Tensor::zeros([batch, channels, height, width], &device);
        let mut means = image.clone();
        let uniform = uniform.reshape([batch, channels, height, width]);
        for y in 0..height {
            for x in 0..width {
                // Eight 3x3 layers see eight pixels up and to the sides; nothing below counts.
                let rows = y.saturating_sub(MASKED_LAYERS)..y + 1;
                let columns = x.saturating_sub(MASKED_LAYERS)..(x + MASKED_LAYERS + 1).min(width);
                let all = 0..batch;
                let crop = |t: &Tensor<4>| t.clone().slice([all.clone(), 0..t.dims()[1], rows.clone(), columns.clone()]);
                let logits = self.logits(Tensor::cat(vec![crop(&image), crop(&maps)], 1));
                let logits =
                    logits.slice([all.clone(), 0..channels, y - rows.start..y + 1 - rows.start, x - columns.start..x + 1 - columns.start]);
                let mean = bernoulli(logits.reshape([batch, channels])).mean().reshape([batch, channels, 1, 1]);
                let here = [all.clone(), 0..channels, y..y + 1, x..x + 1];
                let bit = uniform.clone().slice(here.clone()).lower(mean.clone()).float();
                image = image.slice_assign(here.clone(), bit);
                means = means.slice_assign(here, mean);
            }
        }
        (flatten(image), flatten(means))
    }
}

#[typetag::serde(name = "pixel_conv")]
impl DecoderConfig for PixelConvConfig {
    fn targets(&self) -> &'static [TargetKind] {
        &[TargetKind::Inputs]
    }

    fn support(&self) -> Option<[f32; 2]> {
        Some([0.0, 1.0])
    }

    fn build(&self, latents: &[usize], target: Target, context: &BuildContext) -> Result<Box<dyn Decoder>, BuildError> {
        let shape = target.shape();
        let pixels = features("pixel_conv", shape)?;
        let prior = code_prior("pixel_conv", latents, context)?;
        let codes = CodeFeatures::new(latents, pixels, context);
        let maps = shape[0] * latents.len();
        let layer = |index: usize| match index {
            0 => {
                let open = if self.open_code { maps } else { 0 };
                MaskedConv::new([shape[0] + maps, CHANNELS], 3, Mask::A, false, open, context)
            }
            _ => MaskedConv::new([CHANNELS, CHANNELS], 3, Mask::B, false, 0, context),
        };
        let layers = (0..MASKED_LAYERS).map(layer).collect();
        let norms = (0..MASKED_LAYERS).map(|_| BatchNorm::with_epsilon(CHANNELS, MOMENTUM, EPSILON, context)).collect();
        let output = Conv::new([CHANNELS, shape[0]], Window::new(1, 1, 0), true, context);
        Ok(Box::new(PixelConvDecoder { prior, codes, layers, norms, output, shape }))
    }
}

ibhost_framework::register! {
    Decoder: PixelConvConfig as DecoderConfig, aliases: [], paper: "Tomczak & Welling 2018, arXiv:1705.07120", example: "pixel_conv"
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};
    use ibhost_framework::noise::Noise;

    fn noise<const D: usize>(shape: [usize; D], uniform: bool) -> Tensor<D> {
        let mut stream = Noise::new(4).stream("test", 0);
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| if uniform { stream.uniform() as f32 } else { stream.normal_f32() }).collect();
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    #[test]
    fn sampling_pixel_by_pixel_agrees_with_the_teacher_forced_pass_over_its_own_result() {
        for open_code in [false, true] {
            let context = BuildContext::new(Device::flex(), 3);
            let decoder = PixelConvConfig { open_code }.build(&[2, 3], Target::Inputs([1, 11, 12]), &context).unwrap();
            let codes = [noise([2, 2], false), noise([2, 3], false)];
            let (image, means) = decoder.ancestral(&codes, noise([2, 132], true));
            let forced = decoder.decode(&codes, Some(image.clone().reshape([2, 1, 11, 12]))).mean();
            let worst = (forced - means).abs().max().into_scalar::<f32>();
            assert!(worst < 1e-5, "{worst}");
            assert!(image.into_data().iter::<f32>().all(|bit| bit == 0.0 || bit == 1.0));
        }
    }

    #[test]
    fn the_first_pixel_sees_the_code_only_when_it_is_open() {
        for open_code in [false, true] {
            let context = BuildContext::new(Device::flex(), 3);
            let decoder = PixelConvConfig { open_code }.build(&[2], Target::Inputs([1, 6, 6]), &context).unwrap();
            let first =
                |value: f32| decoder.decode(&[Tensor::full([1, 2], value, &Device::flex())], None).mean().into_data().iter::<f32>().next();
            assert_eq!(first(0.0) != first(2.0), open_code);
        }
    }
}
