//! Encoder `lvae`: a ladder, whose posterior below the top is a bottom-up estimate combined with the prior.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use ibhost_framework::build::{BuildContext, BuildError};
use ibhost_framework::distributions::{BoxedDistribution, Distribution, Normal};
use ibhost_framework::encoder::{Encoder, EncoderConfig, Hierarchy};
use ibhost_kernels::relu;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::heads::TopHeads;
use crate::hvae::bottom_up;
use crate::hvae_maps::halves;
use crate::layers::{Conv, HALVE, HALVE5, Head, KEEP3, KEEP5, Layer, channels_last, conv, dense_linear, positive, through, to_rows};
use crate::size::{CodeOptions, MapSizes, Sizes};

/// Ladder posterior of a code of two levels (or `layers`): below the top the precision-weighted product of a bottom-up normal of x and
/// p(y|z).
///
/// Bottom up: two 4x4 convolutions that halve to d; from d a third to the heads of q(z|x), and another to the estimate (mu, v) of y,
/// v = softplus a variance. With prior mean m and variance V: std = sqrt(v V / (v + V)), mean = (mu V + m v) / (v + V). With more than two
/// levels every code in between has a convolution of d of its own and is combined likewise (ibhost's own). `conv_z:true` makes both codes
/// maps, with 5x5 kernels, for images of 32 pixels; standard deviations are then the root of softplus. Decoder: `lvae`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LvaeConfig {
    /// Sizes and kinds of the codes.
    #[serde(flatten)]
    pub codes: CodeOptions,
}

/// q(z_top|x) from d. Fields carry the names of the published checkpoints.
#[derive(Module, Debug)]
pub struct Top {
    /// To the size of the bottom code's map.
    pub qz_conv3: Conv,
    /// Heads.
    pub heads: TopHeads,
}

/// Bottom-up estimate of a level in between.
#[derive(Module, Debug)]
pub struct Middle {
    /// From d to the size of the bottom code's map.
    pub image: Conv,
    /// Mean.
    pub mean: Linear,
    /// Variance before softplus.
    pub spread: Linear,
}

/// The network of [`LvaeConfig`]. Fields carry the names of the published checkpoints.
#[derive(Module, Debug)]
pub struct Lvae {
    /// Halves.
    pub qz_conv1: Conv,
    /// Halves, to d.
    pub qz_conv2_dy: Conv,
    /// The top level, unless the bottom is the only one.
    pub top: Option<Top>,
    /// Levels in between, bottom first.
    pub middle: Vec<Middle>,
    /// From d, for the bottom level.
    pub qy_conv1_dy: Conv,
    /// Mean of the bottom estimate.
    pub qy_mu: Head,
    /// Variance of the bottom estimate before softplus.
    pub qy_pre_sp: Head,
    floor: f64,
}

impl Lvae {
    /// The network for images of `shape`.
    ///
    /// # Errors
    /// [`BuildError`] for images of other sizes than [`Sizes`] takes.
    pub fn new(codes: &CodeOptions, shape: [usize; 3], context: &BuildContext) -> Result<Self, BuildError> {
        let sizes = Sizes::of("lvae", shape)?;
        let (c, third) = (codes.c, sizes.third);
        let features = c * sizes.last * sizes.last;
        let conv = |from, window| Conv::new([from, c], window, context);
        Ok(Self {
            qz_conv1: conv(shape[0], HALVE),
            qz_conv2_dy: conv(c, HALVE),
            top: (codes.layers > 1)
                .then(|| Top { qz_conv3: conv(c, third), heads: TopHeads::new(features, codes.z, codes.qz, codes.floor, context) }),
            middle: (2..codes.layers)
                .map(|_| Middle {
                    image: conv(c, third),
                    mean: context.torch_linear(features, codes.z),
                    spread: context.torch_linear(features, codes.z),
                })
                .collect(),
            qy_conv1_dy: conv(c, third),
            qy_mu: Head::new(c, sizes.last, codes.y, context),
            qy_pre_sp: Head::new(c, sizes.last, codes.y, context),
            floor: codes.floor,
        })
    }
}

/// Mean and variance of a bottom-up estimate side by side.
fn estimate(mean: Tensor<2>, spread: Tensor<2>, floor: f64) -> Tensor<2> {
    Tensor::cat(vec![mean, positive(spread, floor)], 1)
}

/// The normal with the mean and variance [`estimate`] put side by side.
fn normal(estimate: Tensor<2>) -> BoxedDistribution {
    let latent = estimate.dims()[1] / 2;
    Normal { mean: estimate.clone().narrow(1, 0, latent), scale: estimate.narrow(1, latent, latent).sqrt() }.boxed()
}

impl Hierarchy for Lvae {
    fn features(&self, inputs: Tensor<4>) -> Vec<Tensor<2>> {
        let d = self.qz_conv2_dy.relu(self.qz_conv1.relu(channels_last(inputs)));
        let features = self.qy_conv1_dy.relu(d.clone());
        let bottom = estimate(self.qy_mu.forward(features.clone()), self.qy_pre_sp.forward(features), self.floor);
        let middle = self.middle.iter().map(|level| {
            let features = to_rows(level.image.relu(d.clone()));
            estimate(dense_linear(&level.mean, features.clone()), dense_linear(&level.spread, features), self.floor)
        });
        let top = self.top.iter().map(|top| to_rows(top.qz_conv3.relu(d.clone())));
        [bottom].into_iter().chain(middle).chain(top).collect()
    }

    fn level(&self, level: usize, features: Tensor<2>, _above: &[Tensor<2>]) -> BoxedDistribution {
        match &self.top {
            Some(top) if level > self.middle.len() => top.heads.posterior(features),
            _ => normal(features),
        }
    }

    fn is_ladder(&self) -> bool {
        true
    }
}

impl Encoder for Lvae {
    fn encode(&self, inputs: Tensor<4>) -> BoxedDistribution {
        bottom_up(self, inputs)
    }

    fn as_hierarchy(&self) -> Option<&dyn Hierarchy> {
        Some(self)
    }
}

/// The network with maps at both levels. Fields carry the names of the published checkpoints.
#[derive(Module, Debug)]
pub struct LvaeMaps {
    /// x to d.
    pub qz_convs_dy: Vec<Layer>,
    /// d to mean and variance of z.
    pub qz_convs_dz: Vec<Layer>,
    /// d to mean and variance of the estimate of y.
    pub qy_convs_dy: Vec<Layer>,
    floor: f64,
}

impl LvaeMaps {
    /// The network for images of `shape`.
    ///
    /// # Errors
    /// [`BuildError`] unless images have 32 x 32 pixels.
    pub fn new(codes: &CodeOptions, shape: [usize; 3], context: &BuildContext) -> Result<Self, BuildError> {
        let sizes = MapSizes::of("lvae", shape)?;
        if sizes.image_extra > 0 {
            return Err(BuildError::new(
                "lvae",
                format!("with conv_z:true takes images of 32 x 32 pixels, not {shape:?}; use the encoder `hvae`"),
            ));
        }
        let c = codes.c;
        let halve = |from, to| conv([from, to], HALVE5, context);
        Ok(Self {
            qz_convs_dy: vec![halve(shape[0], c), conv([c, c], KEEP3, context)],
            qz_convs_dz: vec![halve(c, 3 * c), halve(3 * c, 2 * c)],
            qy_convs_dy: vec![halve(c, 3 * c), conv([3 * c, 2 * c], KEEP5, context)],
            floor: codes.floor,
        })
    }
}

impl Hierarchy for LvaeMaps {
    fn features(&self, inputs: Tensor<4>) -> Vec<Tensor<2>> {
        let d = relu(through(&self.qz_convs_dy, channels_last(inputs)));
        let rows = |layers: &[Layer]| {
            let (mean, spread) = halves(through(layers, d.clone()));
            estimate(mean, spread, self.floor)
        };
        vec![rows(&self.qy_convs_dy), rows(&self.qz_convs_dz)]
    }

    fn level(&self, _level: usize, features: Tensor<2>, _above: &[Tensor<2>]) -> BoxedDistribution {
        normal(features)
    }

    fn is_ladder(&self) -> bool {
        true
    }
}

impl Encoder for LvaeMaps {
    fn encode(&self, inputs: Tensor<4>) -> BoxedDistribution {
        bottom_up(self, inputs)
    }

    fn as_hierarchy(&self) -> Option<&dyn Hierarchy> {
        Some(self)
    }
}

#[typetag::serde(name = "lvae")]
impl EncoderConfig for LvaeConfig {
    fn build(&self, shape: [usize; 3], context: &BuildContext) -> Result<Box<dyn Encoder>, BuildError> {
        self.codes.check("lvae")?;
        if self.codes.conv_z {
            return Ok(Box::new(LvaeMaps::new(&self.codes, shape, context)?));
        }
        Ok(Box::new(Lvae::new(&self.codes, shape, context)?))
    }

    fn latent(&self) -> usize {
        self.latents().iter().sum()
    }

    fn latents(&self) -> Vec<usize> {
        self.codes.latents([3, 32, 32])
    }

    fn latents_for(&self, shape: [usize; 3]) -> Vec<usize> {
        self.codes.latents(shape)
    }
}

ibhost_framework::register! {
    Encoder: LvaeConfig as EncoderConfig, aliases: [],
    paper: "Xiao & Bamler 2023, arXiv:2302.04855; Sønderby et al. 2016, arXiv:1602.02282", example: "lvae/c:32|z:32"
}
