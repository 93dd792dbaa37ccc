//! Reconstructors: a style code and a class number to an image; the class enters through a learned table, never through the class code.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::activation::sigmoid;
use burn::tensor::{Int, Tensor};
use ibhost_framework::build::{BuildContext, BuildError, Initial};
use ibhost_kernels::{Activation, dense};

use super::conv::TransposedStack;
use super::conv_encoder::KNOWN_SHAPES;
use super::stack::{DenseInit, DenseStack, SLOPE};

/// Features each of style and class contribute to the 2x2 start of the convolutional reconstructor.
const STEM: usize = 256;

/// What follows the style code and the row of the class table.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // A model holds one.
pub enum Body {
    /// Dense layers on `[style, row]`, linear output.
    Dense(DenseStack),
    /// A dense stem for each, transposed convolutions from 128x2x2, sigmoid output.
    Conv(ConvBody),
}

/// The convolutional [`Body`].
#[derive(Module, Debug)]
pub struct ConvBody {
    /// Style code to the first 64 channels.
    pub in_style: Linear,
    /// Row of the class table to the last 64 channels.
    pub in_class: Linear,
    /// 128x2x2 to the image.
    pub deconv: TransposedStack,
}

/// Rec(s, y).
#[derive(Module, Debug)]
pub struct Reconstructor {
    /// One row a class, `[classes, latent]`, standard normal at the start.
    pub label_table: Param<Tensor<2>>,
    /// The network.
    pub body: Body,
    #[module(skip)]
    shape: [usize; 3],
}

/// Stages (outputs, cropping) that end in images of `shape`.
fn stages(shape: [usize; 3]) -> Option<&'static [(usize, usize)]> {
    match shape {
        [1, 28, 28] => Some(&[(32, 0), (16, 0), (1, 1)]),
        [1, 64, 64] => Some(&[(32, 1), (16, 1), (8, 1), (8, 1), (1, 1)]),
        [3, 60, 60] => Some(&[(32, 0), (16, 0), (8, 0), (3, 1)]),
        _ => None,
    }
}

impl Reconstructor {
    /// Dense reconstructor of images of `shape` from codes of `latent` dimensions.
    pub fn dense(latent: usize, classes: usize, shape: [usize; 3], hidden: &[usize], context: &BuildContext) -> Self {
        let pixels = shape.iter().product();
        let stack = DenseStack::new(2 * latent, hidden, pixels, true, true, DenseInit::GlorotRelu, context);
        Self { label_table: context.weight([classes, latent], 1, 1, Initial::Normal(1.0)), body: Body::Dense(stack), shape }
    }

    /// Convolutional reconstructor of images of `shape` from codes of `latent` dimensions.
    ///
    /// # Errors
    /// [`BuildError`] for images it is not laid out for.
    pub fn conv(latent: usize, classes: usize, shape: [usize; 3], context: &BuildContext) -> Result<Self, BuildError> {
        let Some(stages) = stages(shape) else {
            return Err(BuildError::new("disenib", format!("rec:conv makes images of {KNOWN_SHAPES}, not {shape:?}; set `rec:dense`")));
        };
        let stem = || context.linear(latent, STEM, DenseInit::Normal.initial());
        let body = ConvBody { in_style: stem(), in_class: stem(), deconv: TransposedStack::new(STEM / 2, stages, context) };
        Ok(Self { label_table: context.weight([classes, latent], 1, 1, Initial::Normal(1.0)), body: Body::Conv(body), shape })
    }

    /// Images `[codes, channels, height, width]` of style codes `[codes, latent]` and class numbers `[codes]`.
    pub fn forward(&self, style: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<4> {
        let rows = self.label_table.val().select(0, classes);
        let codes = style.dims()[0];
        let [c, h, w] = self.shape;
        match &self.body {
            Body::Dense(stack) => stack.forward(Tensor::cat(vec![style, rows], 1)).reshape([codes, c, h, w]),
            Body::Conv(body) => {
                let style = dense(&body.in_style, style, Activation::LeakyRelu(SLOPE));
                let class = dense(&body.in_class, rows, Activation::LeakyRelu(SLOPE));
                let start = Tensor::cat(vec![style, class], 1).reshape([codes, STEM / 2, 2, 2]);
                sigmoid(body.deconv.forward(start))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_paper_sizes_have_the_published_numbers_of_parameters() {
        let context = BuildContext::new(Device::flex(), 1);
        let shapes = [([1, 28, 28], 16, 10, 82_897), ([1, 64, 64], 16, 3, 85_745), ([3, 60, 60], 512, 8, 342_971)];
        for (shape, latent, classes, expected) in shapes {
            let reconstructor = Reconstructor::conv(latent, classes, shape, &context).unwrap();
            assert_eq!(reconstructor.num_params(), expected);
            let styles = Tensor::ones([2, latent], &Device::flex());
            let images = reconstructor.forward(styles, Tensor::from_ints([0, 2], &Device::flex()));
            assert_eq!(images.dims()[1..], shape);
            let values: Vec<f32> = images.into_data().try_to_vec().unwrap();
            assert!(values.iter().all(|x| (0.0..=1.0).contains(x)));
        }
        assert_eq!(Reconstructor::dense(16, 10, [1, 28, 28], &[1024, 1024], &context).num_params(), 1_887_152);
        assert!(Reconstructor::conv(16, 10, [1, 8, 8], &context).unwrap_err().to_string().contains("rec:dense"));
    }

    #[test]
    fn the_class_changes_the_image() {
        let context = BuildContext::new(Device::flex(), 1);
        let reconstructor = Reconstructor::dense(3, 4, [1, 2, 2], &[5], &context);
        let made = |class: i64| reconstructor.forward(Tensor::ones([1, 3], &Device::flex()), Tensor::from_ints([class], &Device::flex()));
        assert_ne!(made(0).into_data(), made(1).into_data());
    }
}
