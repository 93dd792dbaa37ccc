//! Decoders `hvae` and `lvae`: p(y|z), the priors of further levels, and p(x|y).

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use ibhost_framework::build::{BuildContext, BuildError};
use ibhost_framework::decoder::{Decoder, DecoderConfig, Target, TargetKind};
use ibhost_framework::distributions::BoxedDistribution;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decoder_maps::DecoderMaps;
use crate::heads::RowPrior;
use crate::layers::{HALVE, KEEP3, Layer, Transposed, Window, conv, dense_relu, through, to_maps, transposed};
use crate::pixels::{PixelFamily, PixelLikelihood};
use crate::size::Sizes;

/// Channels in front of a mixture of logistics.
const MIXTURE_FEATURES: usize = 128;

/// What both decoders are told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PixelOptions {
    /// Channels of the convolutions.
    #[schemars(range(min = 1, max = 4096))]
    pub c: usize,
    /// Whether the code next to the image is a row, as with `y` of the encoder; otherwise it is a map of `c` channels.
    pub linear_y: bool,
    /// Both codes are maps, as with `conv_z:true` of the encoder.
    pub conv_z: bool,
    /// Distribution of a pixel.
    pub px: PixelFamily,
    /// Standard deviation of px:gaussian_fixed_sigma.
    #[schemars(range(min = 1e-6, max = 1e6))]
    pub sigma: f64,
    /// Smallest standard deviation of p(y|z).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub floor: f64,
}

impl Default for PixelOptions {
    fn default() -> Self {
        Self { c: 16, linear_y: false, conv_z: false, px: PixelFamily::GaussianFixedSigma, sigma: 0.03, floor: 0.0 }
    }
}

impl PixelOptions {
    fn support(&self) -> Option<[f32; 2]> {
        matches!(self.px, PixelFamily::Bernoulli | PixelFamily::MixtureOfLogistics).then_some([0.0, 1.0])
    }

    fn build(&self, between: &Between<'_>) -> Result<Box<dyn Decoder>, BuildError> {
        if self.conv_z {
            return Ok(Box::new(DecoderMaps::new(self, between)?));
        }
        Ok(Box::new(PixelDecoder::new(self, between)?))
    }
}

/// What a decoder is built between: codes on one side, images on the other.
pub(crate) struct Between<'a> {
    /// Name of the decoder.
    pub(crate) name: &'static str,
    /// Whether it is that of a ladder.
    pub(crate) ladder: bool,
    /// Sizes of the codes, bottom first.
    pub(crate) latents: &'a [usize],
    /// Channels, height and width of the images.
    pub(crate) shape: [usize; 3],
    /// Where parameters come from.
    pub(crate) context: &'a BuildContext,
}

impl Between<'_> {
    /// The last layers, from maps of `c` channels to those the likelihood takes; `window` is that of the transposed convolution.
    pub(crate) fn to_pixels(&self, likelihood: &PixelLikelihood, c: usize, window: Window) -> Vec<Layer> {
        let outputs = likelihood.channels(self.shape[0]);
        if likelihood.is_mixture() && !self.ladder {
            let wide = transposed([c, MIXTURE_FEATURES], window, self.context);
            vec![wide, conv([MIXTURE_FEATURES, outputs], KEEP3, self.context)]
        } else {
            vec![transposed([c, outputs], window, self.context)]
        }
    }
}

/// Decoder of the encoder `hvae`: p(y|z) by two dense layers, p(x|y) by transposed convolutions, with a choice of pixel distributions.
///
/// p(y|z): z to half of y's size, rectified linear units, mean and softplus standard deviation. p(x|y): to the size of the second map, then two
/// 4x4 transposed convolutions that double; the mixture of logistics has 128 channels and a 3x3 convolution more. A further level has the
/// same prior as the bottom (ibhost's own). `conv_z:true` has transposed convolutions only, with 5x5 kernels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HvaeDecoderConfig {
    /// Sizes and pixel distribution.
    #[serde(flatten)]
    pub pixels: PixelOptions,
}

#[typetag::serde(name = "hvae")]
impl DecoderConfig for HvaeDecoderConfig {
    fn targets(&self) -> &'static [TargetKind] {
        &[TargetKind::Inputs]
    }

    fn support(&self) -> Option<[f32; 2]> {
        self.pixels.support()
    }

    fn build(&self, latents: &[usize], target: Target, context: &BuildContext) -> Result<Box<dyn Decoder>, BuildError> {
        self.pixels.build(&Between { name: "hvae", ladder: false, latents, shape: target.shape(), context })
    }
}

ibhost_framework::register! {
    Decoder: HvaeDecoderConfig as DecoderConfig, aliases: [], paper: "Xiao & Bamler 2023, arXiv:2302.04855",
    example: "hvae/c:32|sigma:0.71"
}

/// Decoder of the encoder `lvae`: as `hvae`, with the last transposed convolution straight to the mixture of logistics, and with the root of
/// softplus for standard deviations under `conv_z:true`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LvaeDecoderConfig {
    /// Sizes and pixel distribution.
    #[serde(flatten)]
    pub pixels: PixelOptions,
}

#[typetag::serde(name = "lvae")]
impl DecoderConfig for LvaeDecoderConfig {
    fn targets(&self) -> &'static [TargetKind] {
        &[TargetKind::Inputs]
    }

    fn support(&self) -> Option<[f32; 2]> {
        self.pixels.support()
    }

    fn build(&self, latents: &[usize], target: Target, context: &BuildContext) -> Result<Box<dyn Decoder>, BuildError> {
        self.pixels.build(&Between { name: "lvae", ladder: true, latents, shape: target.shape(), context })
    }
}

ibhost_framework::register! {
    Decoder: LvaeDecoderConfig as DecoderConfig, aliases: [], paper: "Xiao & Bamler 2023, arXiv:2302.04855",
    example: "lvae/c:32|sigma:0.71"
}

/// The bottom code to maps of the second convolution's size.
#[derive(Module, Debug)]
pub enum FromCode {
    /// From a map.
    Map(Transposed),
    /// From a row.
    Row(Linear),
}

/// The network of both decoders with a row as upper code. Fields carry the names of the published checkpoints.
#[derive(Module, Debug)]
pub struct PixelDecoder {
    /// p(y|z), then the priors of the levels in between, bottom first; none for the top.
    pub priors: Vec<RowPrior>,
    /// y to maps.
    pub px_conv1: FromCode,
    /// Maps to the likelihood's.
    pub px_convs: Vec<Layer>,
    /// Pixel distribution.
    pub likelihood: PixelLikelihood,
    #[module(skip)]
    sizes: Sizes,
}

impl PixelDecoder {
    fn new(options: &PixelOptions, between: &Between<'_>) -> Result<Self, BuildError> {
        let &Between { name, latents, shape, context, .. } = between;
        let sizes = Sizes::of(name, shape)?;
        let c = options.c;
        let y = latents.first().copied().unwrap_or(0);
        let map = c * sizes.last * sizes.last;
        if !options.linear_y && y != map {
            let problem = format!(
                "expects a bottom code of {map} numbers ({c} channels of {0} x {0}), the encoder's has {y}; give both the same `c`, or set \
                 linear_y:true for a code that is a row",
                sizes.last
            );
            return Err(BuildError::new(name, problem));
        }
        let likelihood = PixelLikelihood::new(name, options.px, options.sigma, shape[0], context)?;
        let prior = |pair: &[usize]| RowPrior::new(pair[1], (pair[0] / 2).max(1), pair[0], options.floor, context);
        let priors = latents.windows(2).map(prior).collect();
        let px_conv1 = if options.linear_y {
            FromCode::Row(context.torch_linear(y, c * sizes.middle * sizes.middle))
        } else {
            FromCode::Map(Transposed::new([c, c], sizes.third, context))
        };
        let mut px_convs = vec![transposed([c, c], HALVE, context)];
        px_convs.extend(between.to_pixels(&likelihood, c, HALVE));
        Ok(Self { priors, px_conv1, px_convs, likelihood, sizes })
    }
}

impl Decoder for PixelDecoder {
    fn decode(&self, codes: &[Tensor<2>], _teacher: Option<Tensor<4>>) -> BoxedDistribution {
        let y = codes[0].clone();
        let maps = match &self.px_conv1 {
            FromCode::Map(layer) => layer.relu(to_maps(y, self.sizes.last)),
            FromCode::Row(layer) => to_maps(dense_relu(layer, y), self.sizes.middle),
        };
        self.likelihood.density(through(&self.px_convs, maps))
    }

    fn prior(&self, level: usize, above: &[Tensor<2>]) -> Option<BoxedDistribution> {
        Some(self.priors.get(level)?.forward(above.first()?.clone()))
    }
}
