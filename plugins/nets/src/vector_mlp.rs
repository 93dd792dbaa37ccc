//! Encoder and decoder `vector_mlp`: small perceptrons with separate heads for location and log scale, as toy and vector models use them.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::{DType, Tensor};
use ibhost_framework::build::{BuildContext, BuildError};
use ibhost_framework::decoder::{Decoder, DecoderConfig, Target, TargetKind, joined};
use ibhost_framework::distributions::{Bernoulli, BoxedDistribution, Distribution, Normal};
use ibhost_framework::encoder::{Encoder, EncoderConfig};
use ibhost_kernels::{Affine, dense, normal_network};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shape::{features, flatten};

/// Nonlinearity between layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Hyperbolic tangent.
    #[default]
    Tanh,
    /// x sigmoid(x).
    Swish,
    /// max(x, 0).
    Relu,
}

impl Activation {
    /// Applies the nonlinearity.
    pub fn apply<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Tanh => x.tanh(),
            Self::Swish => x.clone() * sigmoid(x),
            Self::Relu => relu(x),
        }
    }

    /// The function as part of a fused layer, where there is one.
    fn fused(self) -> Option<ibhost_kernels::Activation> {
        match self {
            Self::Tanh => Some(ibhost_kernels::Activation::Tanh),
            Self::Swish => None,
            Self::Relu => Some(ibhost_kernels::Activation::Relu),
        }
    }

    /// `layers` one after the other, each followed by the nonlinearity; x `[batch, inputs]`.
    fn after_each(self, layers: &[Linear], x: Tensor<2>) -> Tensor<2> {
        layers.iter().fold(x, |x, layer| match self.fused() {
            Some(activation) => dense(layer, x, activation),
            None => self.apply(layer.forward(x)),
        })
    }
}

/// Weight and bias of `layer`.
fn affine(layer: &Linear) -> Option<Affine> {
    Some((layer.weight.val(), layer.bias.as_ref()?.val()))
}

/// Hidden layers and the smallest scale, the same for encoder and decoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Layers {
    /// Width of the hidden layers.
    #[schemars(range(min = 1, max = 65_536))]
    pub mid: usize,
    /// Dense layers, the output layer included; 1 is an affine map.
    #[schemars(range(min = 1, max = 64))]
    pub layers: usize,
    /// Nonlinearity after every hidden layer.
    pub act: Activation,
    /// Smallest standard deviation, as the exponent v of 10^-v.
    #[schemars(range(min = 0.0, max = 30.0))]
    pub min_logvar: f64,
}

impl Default for Layers {
    fn default() -> Self {
        Self { mid: 400, layers: 2, act: Activation::Tanh, min_logvar: 10.0 }
    }
}

impl Layers {
    /// 10^-min_logvar.
    pub fn min_scale(&self) -> f64 {
        10f64.powf(-self.min_logvar)
    }

    fn hidden(&self, inputs: usize, context: &BuildContext) -> (Vec<Linear>, usize) {
        let widths = std::iter::once(inputs).chain(std::iter::repeat_n(self.mid, self.layers - 1)).collect::<Vec<_>>();
        let layers = widths.windows(2).map(|w| context.torch_linear(w[0], w[1])).collect();
        (layers, widths.last().copied().unwrap_or(inputs))
    }
}

/// Hidden layers followed by a location and a log-scale head: N(loc, diag(exp(logscale) + min_scale)^2).
#[derive(Module, Debug)]
pub struct NormalNet {
    /// Hidden layers.
    pub hidden: Vec<Linear>,
    /// Locations.
    pub loc: Linear,
    /// Logarithms of the standard deviations.
    pub logscale: Linear,
    #[module(skip)]
    act: Activation,
    min_scale: f64,
}

impl NormalNet {
    /// A network from `inputs` to `outputs` values.
    pub fn new(layers: &Layers, inputs: usize, outputs: usize, context: &BuildContext) -> Self {
        let (hidden, width) = layers.hidden(inputs, context);
        let loc = context.torch_linear(width, outputs);
        let logscale = context.torch_linear(width, outputs);
        Self { hidden, loc, logscale, act: layers.act, min_scale: layers.min_scale() }
    }

    /// Location and scale, `[batch, outputs]` each.
    pub fn forward(&self, x: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        if let (Some(activation), Some((last, before))) = (self.act.fused(), self.hidden.split_last())
            && let (Some(hidden), Some(loc), Some(logscale)) = (affine(last), affine(&self.loc), affine(&self.logscale))
        {
            let x = self.act.after_each(before, x);
            return normal_network(x, hidden, loc, logscale, activation, self.min_scale).into();
        }
        let hidden = self.act.after_each(&self.hidden, x);
        let scale = self.logscale.forward(hidden.clone()).exp().add_scalar(self.min_scale);
        (self.loc.forward(hidden), scale)
    }
}

/// sigmoid(logits) kept `margin` away from 0 and 1, or as far as the type of the numbers can tell from 1: in single precision 1 - 1e-8 is 1,
/// whose other outcome would have a log-likelihood of minus infinity.
pub fn probabilities<const D: usize>(logits: Tensor<D>, margin: f64) -> Tensor<D> {
    let margin = if logits.dtype() == DType::F64 { margin } else { margin.max(f64::from(f32::EPSILON) / 2.0) };
    sigmoid(logits).clamp(margin, 1.0 - margin)
}

/// Hidden layers followed by [`probabilities`], with min_scale as the margin.
#[derive(Module, Debug)]
pub struct BernoulliNet {
    /// Hidden layers.
    pub hidden: Vec<Linear>,
    /// Logits.
    pub logits: Linear,
    #[module(skip)]
    act: Activation,
    min_scale: f64,
}

impl BernoulliNet {
    /// A network from `inputs` to `outputs` probabilities.
    pub fn new(layers: &Layers, inputs: usize, outputs: usize, context: &BuildContext) -> Self {
        let (hidden, width) = layers.hidden(inputs, context);
        Self { hidden, logits: context.torch_linear(width, outputs), act: layers.act, min_scale: layers.min_scale() }
    }

    /// Probabilities, `[batch, outputs]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let hidden = self.act.after_each(&self.hidden, x);
        probabilities(self.logits.forward(hidden), self.min_scale)
    }
}

/// Perceptron with a head each for location and log scale: scale = exp(.) + 10^-min_logvar, diagonal.
///
/// `layers` dense layers, the last one being the two heads; weights and biases are uniform on ±1/sqrt(inputs).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DenseEncoderConfig {
    /// Dimensions of the code.
    #[schemars(range(min = 1, max = 4096))]
    pub z: usize,
    /// Layers.
    #[serde(flatten)]
    pub net: Layers,
}

impl Default for DenseEncoderConfig {
    fn default() -> Self {
        Self { z: 2, net: Layers::default() }
    }
}

/// The network of [`DenseEncoderConfig`].
#[derive(Module, Debug)]
pub struct DenseEncoder {
    /// Inputs to location and scale.
    pub net: NormalNet,
}

impl Encoder for DenseEncoder {
    fn encode(&self, inputs: Tensor<4>) -> BoxedDistribution {
        let (mean, scale) = self.net.forward(flatten(inputs));
        Normal { mean, scale }.boxed()
    }
}

#[typetag::serde(name = "vector_mlp")]
impl EncoderConfig for DenseEncoderConfig {
    fn build(&self, shape: [usize; 3], context: &BuildContext) -> Result<Box<dyn Encoder>, BuildError> {
        let inputs = features("vector_mlp", shape)?;
        Ok(Box::new(DenseEncoder { net: NormalNet::new(&self.net, inputs, self.z, context) }))
    }

    fn latent(&self) -> usize {
        self.z
    }
}

ibhost_framework::register! {
    Encoder: DenseEncoderConfig as EncoderConfig, aliases: [], paper: "Livne et al. 2019, arXiv:1910.03175",
    example: "vector_mlp/z:2|mid:50|min_logvar:6"
}

/// Distribution over the inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// Normal with a learned scale for every value.
    #[default]
    Normal,
    /// Bernoulli, for binary inputs.
    Bernoulli,
}

/// Perceptron from codes back to inputs: normal with a head each for location and log scale, or Bernoulli.
///
/// Mirrors the encoder of the same name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DenseDecoderConfig {
    /// Distribution over the inputs.
    pub output: Output,
    /// Layers.
    #[serde(flatten)]
    pub net: Layers,
}

/// Normal network of [`DenseDecoderConfig`].
#[derive(Module, Debug)]
pub struct DenseDecoder {
    /// Codes to location and scale.
    pub net: NormalNet,
}

/// Bernoulli network of [`DenseDecoderConfig`].
#[derive(Module, Debug)]
pub struct DenseBernoulliDecoder {
    /// Codes to probabilities.
    pub net: BernoulliNet,
}

impl Decoder for DenseDecoder {
    fn decode(&self, codes: &[Tensor<2>], _teacher: Option<Tensor<4>>) -> BoxedDistribution {
        let (mean, scale) = self.net.forward(joined(codes));
        Normal { mean, scale }.boxed()
    }
}

impl Decoder for DenseBernoulliDecoder {
    fn decode(&self, codes: &[Tensor<2>], _teacher: Option<Tensor<4>>) -> BoxedDistribution {
        Bernoulli::new(self.net.forward(joined(codes))).boxed()
    }
}

#[typetag::serde(name = "vector_mlp")]
impl DecoderConfig for DenseDecoderConfig {
    fn targets(&self) -> &'static [TargetKind] {
        &[TargetKind::Inputs]
    }

    fn support(&self) -> Option<[f32; 2]> {
        match self.output {
            Output::Normal => None,
            Output::Bernoulli => Some([0.0, 1.0]),
        }
    }

    fn build(&self, latents: &[usize], target: Target, context: &BuildContext) -> Result<Box<dyn Decoder>, BuildError> {
        let (latent, outputs) = (latents.iter().sum(), features("vector_mlp", target.shape())?);
        Ok(match self.output {
            Output::Normal => Box::new(DenseDecoder { net: NormalNet::new(&self.net, latent, outputs, context) }),
            Output::Bernoulli => Box::new(DenseBernoulliDecoder { net: BernoulliNet::new(&self.net, latent, outputs, context) }),
        })
    }
}

ibhost_framework::register! {
    Decoder: DenseDecoderConfig as DecoderConfig, aliases: [], paper: "Livne et al. 2019, arXiv:1910.03175",
    example: "vector_mlp/mid:50|min_logvar:6"
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use ibhost_framework::decoder::BoxedDecoder;
    use ibhost_framework::encoder::BoxedEncoder;

    #[test]
    fn sizes_and_smallest_scales_are_as_stated() {
        let context = BuildContext::new(Device::flex(), 1);
        let net = Layers { mid: 50, min_logvar: 1.0, ..Layers::default() };
        let encoder = BoxedEncoder::new(DenseEncoderConfig { z: 2, net: net.clone() }.build([1, 1, 2], &context).unwrap());
        let decoder = DenseDecoderConfig { net: net.clone(), ..DenseDecoderConfig::default() };
        let decoder = BoxedDecoder::new(decoder.build(&[2], Target::Inputs([1, 1, 2]), &context).unwrap());
        assert_eq!(encoder.num_params() + decoder.num_params(), 14 * 50 + 8);
        let (_, scale) = encoder.encode(Tensor::ones([3, 1, 1, 2], &Device::flex())).as_normal().unwrap();
        assert!(scale.into_data().iter::<f64>().all(|s| s > 0.1));
        let affine = NormalNet::new(&Layers { layers: 1, ..net }, 3, 4, &context);
        assert!(affine.hidden.is_empty());
        assert_eq!(affine.loc.weight.dims(), [3, 4]);
    }

    #[test]
    fn probabilities_stay_away_from_the_ends() {
        let context = BuildContext::new(Device::flex(), 1);
        let config = DenseDecoderConfig { output: Output::Bernoulli, net: Layers { min_logvar: 1.0, ..Layers::default() } };
        let decoder = config.build(&[1, 2], Target::Inputs([1, 2, 2]), &context).unwrap();
        let huge = [Tensor::full([3, 1], 1e6, &Device::flex()), Tensor::full([3, 2], -1e6, &Device::flex())];
        let density = decoder.decode(&huge, None);
        assert_eq!(density.dims(), [3, 4]);
        assert!(density.mean().into_data().iter::<f64>().all(|p| (0.0999..0.9001).contains(&p)));
        let config: &dyn DecoderConfig = &config;
        let refused = config.build_for(&[2], Target::Classes(10), &context).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("no class probabilities") && refused.contains("`linear`"), "{refused}");
    }

    #[test]
    fn a_margin_that_single_precision_cannot_tell_from_nothing_still_keeps_likelihoods_finite() {
        let logits = Tensor::<2>::from_data([[1e3, -1e3]], &Device::flex());
        let density = Bernoulli::new(probabilities(logits, 1e-10)).boxed();
        let wrong = density.log_prob(Tensor::from_data([[0.0, 1.0]], &Device::flex())).unwrap().into_data().iter::<f64>().sum::<f64>();
        assert!(wrong.is_finite() && wrong < -20.0, "{wrong}");
    }
}
