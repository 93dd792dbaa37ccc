//! Encoder `hvae`: the generalised top-down posterior q(z|x) q(y|z,x), and `bvae`, its single-level baseline.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use ibhost_framework::build::{BuildContext, BuildError};
use ibhost_framework::distributions::{BoxedDistribution, Distribution, Normal};
use ibhost_framework::encoder::{Encoder, EncoderConfig, Hierarchy};
use ibhost_framework::hierarchy::{descend, side_by_side};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::heads::TopHeads;
use crate::hvae_maps::HvaeMaps;
use crate::layers::{Conv, HALVE, Head, Transposed, channels_last, dense_linear, dense_relu, packed, positive, to_maps, to_rows, unpacked};
use crate::size::{CodeOptions, Sizes};

/// Hierarchical posterior of a code of two levels (or `layers`), q(z|x) q(y|z,x), free of the prior at every level.
///
/// q(z|x): two 4x4 convolutions that halve, a third, then heads. q(y|z,x): two such convolutions of x beside a dense layer and a transposed
/// convolution of z, a third convolution of both, heads. Rectified linear units; standard deviations are softplus. With more than two levels
/// every code in between has three convolutions of x of its own beside a dense layer of the next code up; with one level there is no z path
/// (both ibhost's own). `conv_z:true` makes both codes maps, with 5x5 kernels. Decoder: `hvae`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HvaeConfig {
    /// Sizes and kinds of the codes.
    #[serde(flatten)]
    pub codes: CodeOptions,
}

/// q(z_top|x). Fields carry the names of the published checkpoints.
#[derive(Module, Debug)]
pub struct Top {
    /// Halves.
    pub qz_conv1: Conv,
    /// Halves.
    pub qz_conv2: Conv,
    /// To the size of the bottom code's map.
    pub qz_conv3: Conv,
    /// Heads.
    pub heads: TopHeads,
}

/// q of a level in between, from x and the code above.
#[derive(Module, Debug)]
pub struct Middle {
    /// Three convolutions of x.
    pub image: Vec<Conv>,
    /// The code above to as many features.
    pub code: Linear,
    /// Mean.
    pub mean: Linear,
    /// Standard deviation before softplus.
    pub spread: Linear,
}

/// The code above on its way to the bottom level.
#[derive(Module, Debug)]
pub struct CodePath {
    /// To the size of the bottom code's map.
    pub qy_l1_z: Linear,
    /// To the size of the image path.
    pub qy_conv1_z: Transposed,
}

/// q(y|z,x). Fields carry the names of the published checkpoints.
#[derive(Module, Debug)]
pub struct Bottom {
    /// Halves.
    pub qy_conv1_x: Conv,
    /// Halves.
    pub qy_conv2_x: Conv,
    /// The code above, unless there is only one level.
    pub code: Option<CodePath>,
    /// Both paths, the code's channels first.
    pub qy_conv1_zx: Conv,
    /// Mean.
    pub qy_mu: Head,
    /// Standard deviation before softplus.
    pub qy_pre_sp: Head,
}

/// The network of [`HvaeConfig`].
#[derive(Module, Debug)]
pub struct Hvae {
    /// The top level, unless the bottom is the only one.
    pub top: Option<Top>,
    /// Levels in between, bottom first.
    pub middle: Vec<Middle>,
    /// The bottom level.
    pub bottom: Bottom,
    #[module(skip)]
    sizes: Sizes,
    floor: f64,
}

impl Hvae {
    /// The network for images of `shape`.
    ///
    /// # Errors
    /// [`BuildError`] for images of other sizes than [`Sizes`] takes.
    pub fn new(component: &str, codes: &CodeOptions, shape: [usize; 3], context: &BuildContext) -> Result<Self, BuildError> {
        let sizes = Sizes::of(component, shape)?;
        let (images, c, third) = (shape[0], codes.c, sizes.third);
        let features = c * sizes.last * sizes.last;
        let conv = |from, window| Conv::new([from, c], window, context);
        let several = codes.layers > 1;
        let top = several.then(|| Top {
            qz_conv1: conv(images, HALVE),
            qz_conv2: conv(c, HALVE),
            qz_conv3: conv(c, third),
            heads: TopHeads::new(features, codes.z, codes.qz, codes.floor, context),
        });
        let middle = (2..codes.layers).map(|_| Middle {
            image: vec![conv(images, HALVE), conv(c, HALVE), conv(c, third)],
            code: context.torch_linear(codes.z, features),
            mean: context.torch_linear(2 * features, codes.z),
            spread: context.torch_linear(2 * features, codes.z),
        });
        let middle = middle.collect();
        let bottom = Bottom {
            qy_conv1_x: conv(images, HALVE),
            qy_conv2_x: conv(c, HALVE),
            code: several.then(|| CodePath {
                qy_l1_z: context.torch_linear(codes.z, features),
                qy_conv1_z: Transposed::new([c, c], third, context),
            }),
            qy_conv1_zx: conv(if several { 2 * c } else { c }, third),
            qy_mu: Head::new(c, sizes.last, codes.y, context),
            qy_pre_sp: Head::new(c, sizes.last, codes.y, context),
        };
        Ok(Self { top, middle, bottom, sizes, floor: codes.floor })
    }

    fn bottom(&self, image: Tensor<2>, above: &[Tensor<2>]) -> BoxedDistribution {
        let Bottom { code, qy_conv1_zx, qy_mu, qy_pre_sp, .. } = &self.bottom;
        let image = unpacked(image, self.sizes.middle);
        let joint = match (code, above) {
            (Some(path), [z, ..]) => {
                let code = to_maps(dense_relu(&path.qy_l1_z, z.clone()), self.sizes.last);
                Tensor::cat(vec![path.qy_conv1_z.relu(code), image], 3)
            }
            _ => image,
        };
        let features = qy_conv1_zx.relu(joint);
        Normal { mean: qy_mu.forward(features.clone()), scale: positive(qy_pre_sp.forward(features), self.floor) }.boxed()
    }
}

impl Hierarchy for Hvae {
    fn features(&self, inputs: Tensor<4>) -> Vec<Tensor<2>> {
        let x = channels_last(inputs);
        let bottom = packed(self.bottom.qy_conv2_x.relu(self.bottom.qy_conv1_x.relu(x.clone())));
        let middle = self.middle.iter().map(|level| to_rows(level.image.iter().fold(x.clone(), |x, layer| layer.relu(x))));
        let top = self.top.iter().map(|top| to_rows(top.qz_conv3.relu(top.qz_conv2.relu(top.qz_conv1.relu(x.clone())))));
        [bottom].into_iter().chain(middle).chain(top).collect()
    }

    fn level(&self, level: usize, features: Tensor<2>, above: &[Tensor<2>]) -> BoxedDistribution {
        match (level, &self.top, above) {
            (0, _, _) => self.bottom(features, above),
            (_, Some(top), []) => top.heads.posterior(features),
            (_, _, [next, ..]) => {
                let Middle { code, mean, spread, .. } = &self.middle[level - 1];
                let joint = Tensor::cat(vec![features, dense_relu(code, next.clone())], 1);
                Normal { mean: dense_linear(mean, joint.clone()), scale: positive(dense_linear(spread, joint), self.floor) }.boxed()
            }
            (_, None, []) => unreachable!("one level is level 0"),
        }
    }
}

impl Encoder for Hvae {
    fn encode(&self, inputs: Tensor<4>) -> BoxedDistribution {
        bottom_up(self, inputs)
    }

    fn as_hierarchy(&self) -> Option<&dyn Hierarchy> {
        Some(self)
    }
}

/// All levels side by side with every code at its mean, no prior taken into account.
///
/// # Panics
/// Never: a level is only combined with a prior that is there.
pub(crate) fn bottom_up(hierarchy: &dyn Hierarchy, inputs: Tensor<4>) -> BoxedDistribution {
    match descend(hierarchy, &hierarchy.features(inputs), &|_, _| None, |_, posterior| posterior.point()) {
        Ok(levels) => match side_by_side(&levels) {
            Some(normal) => normal.boxed(),
            None => unreachable!("levels of an encoder of its own have deviations"),
        },
        Err(error) => unreachable!("without priors nothing is multiplied: {error}"),
    }
}

#[typetag::serde(name = "hvae")]
impl EncoderConfig for HvaeConfig {
    fn build(&self, shape: [usize; 3], context: &BuildContext) -> Result<Box<dyn Encoder>, BuildError> {
        self.codes.check("hvae")?;
        if self.codes.conv_z {
            return Ok(Box::new(HvaeMaps::new(&self.codes, shape, context)?));
        }
        Ok(Box::new(Hvae::new("hvae", &self.codes, shape, context)?))
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
    Encoder: HvaeConfig as EncoderConfig, aliases: [], paper: "Xiao & Bamler 2023, arXiv:2302.04855", example: "hvae/c:32|z:32"
}

/// Posterior of the single-level baseline, q(y|x): the bottom level of `hvae` without a level above. ibhost's own design, the published code
/// leaves the baseline out.
///
/// Two 4x4 convolutions that halve, a third, heads; prior N(0, I), decoder `hvae` with the same c. The only rate is reported as rate_y and
/// weighed by beta_y; rate_z is 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BvaeConfig {
    /// Channels of the convolutions.
    #[schemars(range(min = 1, max = 4096))]
    pub c: usize,
    /// Numbers in the code as a row; a map of `c` channels when left out.
    #[schemars(range(min = 1, max = 65_536))]
    pub y: Option<usize>,
}

impl Default for BvaeConfig {
    fn default() -> Self {
        Self { c: 16, y: None }
    }
}

impl BvaeConfig {
    fn codes(&self) -> CodeOptions {
        CodeOptions { c: self.c, y: self.y, layers: 1, ..CodeOptions::default() }
    }
}

#[typetag::serde(name = "bvae")]
impl EncoderConfig for BvaeConfig {
    fn build(&self, shape: [usize; 3], context: &BuildContext) -> Result<Box<dyn Encoder>, BuildError> {
        Ok(Box::new(Hvae::new("bvae", &self.codes(), shape, context)?))
    }

    fn latent(&self) -> usize {
        self.latents().iter().sum()
    }

    fn latents(&self) -> Vec<usize> {
        self.codes().latents([3, 32, 32])
    }

    fn latents_for(&self, shape: [usize; 3]) -> Vec<usize> {
        self.codes().latents(shape)
    }
}

ibhost_framework::register! {
    Encoder: BvaeConfig as EncoderConfig, aliases: [], paper: "", example: "bvae/c:32"
}
