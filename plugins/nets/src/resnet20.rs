//! Encoder `resnet20`: the 20-layer residual network for small images.

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
use crate::residual_block::{BasicBlock, Convolution, channels_last, convolve};
use crate::shape::features;

/// Residual network with 19 convolutions for images of any size and number of channels.
///
/// 3x3 convolution to 16 channels, batch normalisation, ReLU; three stages of three basic blocks with 16, 32 and 64 channels, the first
/// block of the later stages with stride 2; mean over all positions; one dense layer to the posterior's parameters. Convolutions have no
/// bias, kernels are Glorot uniform, shortcuts have no parameters. 269,072 trainable parameters without the last layer for three channels;
/// with z:20 and a diagonal covariance 271,672, besides 1,376 moving statistics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Resnet20Config {
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
}

impl Default for Resnet20Config {
    fn default() -> Self {
        Self { z: 2, cov: Covariance::Diag, scale: ScaleMap::Softplus, bn_momentum: 0.99 }
    }
}

/// Channels and stride of the first block of each stage.
const STAGES: [(usize, usize); 3] = [(16, 1), (32, 2), (64, 2)];
/// Blocks of a stage.
const BLOCKS: usize = 3;

/// The network of [`Resnet20Config`].
#[derive(Module, Debug)]
pub struct Resnet20 {
    /// Input to 16 channels.
    pub stem: Conv2d,
    /// After the stem.
    pub stem_norm: BatchNorm,
    /// The nine blocks in order.
    pub blocks: Vec<BasicBlock>,
    /// 64 means to the outputs.
    pub head: Linear,
    #[module(skip)]
    cov: Covariance,
    #[module(skip)]
    scale: ScaleMap,
    z: usize,
}

impl Encoder for Resnet20 {
    fn encode(&self, inputs: Tensor<4>) -> BoxedDistribution {
        let hidden = self.stem_norm.forward(convolve(&self.stem, channels_last(inputs)), None, true);
        let hidden = self.blocks.iter().fold(hidden, |hidden, block| block.forward_last(hidden));
        posterior(self.cov, self.scale, dense(&self.head, mean_over_positions(hidden), Activation::Identity), self.z)
    }
}

/// `[batch, height, width, channels]` to `[batch, channels]`.
pub(crate) fn mean_over_positions(maps: Tensor<4>) -> Tensor<2> {
    let [batch, height, width, channels] = maps.dims();
    maps.reshape([batch, height * width, channels]).mean_dim(1).reshape([batch, channels])
}

#[typetag::serde(name = "resnet20")]
impl EncoderConfig for Resnet20Config {
    fn build(&self, shape: [usize; 3], context: &BuildContext) -> Result<Box<dyn Encoder>, BuildError> {
        features("resnet20", shape)?;
        let mut channels = STAGES[0].0;
        let stem = Convolution::plain([shape[0], channels], 1).build(context);
        let stem_norm = BatchNorm::new(channels, self.bn_momentum, context);
        let mut blocks = Vec::with_capacity(STAGES.len() * BLOCKS);
        for (width, first_stride) in STAGES {
            for block in 0..BLOCKS {
                let stride = if block == 0 { first_stride } else { 1 };
                blocks.push(BasicBlock::new([channels, width], stride, self.bn_momentum, context));
                channels = width;
            }
        }
        let head = context.linear(channels, head_size("resnet20", self.cov, self.z)?, Initial::GlorotUniform);
        Ok(Box::new(Resnet20 { stem, stem_norm, blocks, head, cov: self.cov, scale: self.scale, z: self.z }))
    }

    fn latent(&self) -> usize {
        self.z
    }
}

ibhost_framework::register! {
    Encoder: Resnet20Config as EncoderConfig, aliases: [], paper: "He et al. 2015, arXiv:1512.03385", example: "resnet20/z:2|cov:full"
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use ibhost_framework::encoder::BoxedEncoder;
    use ibhost_framework::parameters::for_each;

    fn built(config: &Resnet20Config, shape: [usize; 3], device: Device) -> BoxedEncoder {
        BoxedEncoder::new(config.build(shape, &BuildContext::new(device, 1)).unwrap())
    }

    #[test]
    fn the_number_of_parameters_is_the_published_one() {
        let encoder = built(&Resnet20Config { z: 20, ..Resnet20Config::default() }, [3, 32, 32], Device::flex().autodiff());
        let (mut trained, mut moving, mut tensors, mut head) = (0, 0, 0, 0);
        for_each(&encoder, |seen| {
            let size: usize = seen.shape.iter().product();
            tensors += 1;
            *(if seen.trainable { &mut trained } else { &mut moving }) += size;
            head += if seen.path.starts_with("head") { size } else { 0 };
        });
        assert_eq!((trained, trained - head, moving, tensors), (271_672, 269_072, 1_376, 97));
    }

    #[test]
    fn small_grey_and_large_colour_images_fit() {
        for shape in [[1, 8, 8], [1, 28, 28], [3, 9, 7]] {
            let encoder = built(&Resnet20Config { cov: Covariance::Full, ..Resnet20Config::default() }, shape, Device::flex());
            let posterior = encoder.encode(Tensor::ones([2, shape[0], shape[1], shape[2]], &Device::flex()));
            assert_eq!((posterior.dims(), posterior.covariance().unwrap().dims()), ([2, 2], [2, 2, 2]));
        }
    }

    struct Check<'a>(&'a burn::tensor::Gradients, usize);
    impl burn::module::ModuleVisitor for Check<'_> {
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            if param.val().is_require_grad() {
                let gradient = param.val().grad(self.0).expect("every parameter takes part");
                assert!(gradient.into_data().iter::<f32>().all(f32::is_finite));
                self.1 += 1;
            }
        }
    }

    #[test]
    fn every_parameter_gets_a_gradient() {
        let device = Device::flex().autodiff();
        let encoder = built(&Resnet20Config::default(), [1, 8, 8], device.clone());
        let ramp = Tensor::<1, burn::tensor::Int>::arange(0..4 * 64, &device).float().mul_scalar(0.1).sin().reshape([4, 1, 8, 8]);
        let gradients = encoder.encode(ramp).kl_to_standard().unwrap().sum().backward();
        let mut check = Check(&gradients, 0);
        encoder.visit(&mut check);
        assert_eq!(check.1, 19 + 2 * 19 + 2);
    }

    #[test]
    fn evaluation_copies_give_input_gradients_that_treat_each_image_on_its_own() {
        let device = Device::flex().autodiff();
        let encoder = built(&Resnet20Config::default(), [1, 8, 8], device.clone());
        let inputs = Tensor::<1, burn::tensor::Int>::arange(0..2 * 64, &device).float().mul_scalar(0.3).cos().reshape([2, 1, 8, 8]);
        let evaluation = encoder.valid();
        let gradient = |images: Tensor<4>| {
            let images = images.detach().require_grad();
            let gradients = evaluation.encode(images.clone()).kl_to_standard().unwrap().sum().backward();
            images.grad(&gradients).unwrap().into_data().try_to_vec::<f32>().unwrap()
        };
        let both = gradient(inputs.clone());
        let first = gradient(inputs.narrow(0, 0, 1));
        assert!(first.iter().any(|g| *g != 0.0));
        assert!(first.iter().zip(&both).all(|(a, b)| (a - b).abs() < 1e-4 * (1.0 + a.abs())), "batch statistics would mix the images");
    }

    #[test]
    fn an_empty_image_is_refused() {
        let error = Resnet20Config::default().build([3, 0, 32], &BuildContext::new(Device::flex(), 1)).unwrap_err();
        assert!(error.to_string().starts_with("resnet20: "), "{error}");
    }
}
