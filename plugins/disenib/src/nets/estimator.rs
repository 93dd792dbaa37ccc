//! The density-ratio estimator D(s, t), trained towards +1 on the product of the marginals and -1 on the joint distribution.

use burn::module::Module;
use burn::tensor::Tensor;
use ibhost_framework::build::{BuildContext, Initial};
use ibhost_kernels::Activation;

use super::spectral::SpectralLinear;
use super::stack::SLOPE;

/// Outputs of each input layer.
const HALF: usize = 128;

/// s to 128 and t to 128, concatenated, 256-256-256-1 with leaky units (slope 0.2) after the first two.
#[derive(Module, Debug)]
pub struct Estimator {
    /// Layer of the style code.
    pub in_style: SpectralLinear,
    /// Layer of the class code.
    pub in_class: SpectralLinear,
    /// Layers on both.
    pub trunk: Vec<SpectralLinear>,
}

impl Estimator {
    /// Estimator for codes of `style` and `class` dimensions; with `spectral` every weight is spectrally normalised.
    pub fn new(style: usize, class: usize, spectral: bool, initial: Initial, context: &BuildContext) -> Self {
        let layer = |inputs, outputs| SpectralLinear::new(inputs, outputs, spectral, initial, context);
        Self {
            in_style: layer(style, HALF),
            in_class: layer(class, HALF),
            trunk: vec![layer(2 * HALF, 2 * HALF), layer(2 * HALF, 2 * HALF), layer(2 * HALF, 1)],
        }
    }

    /// Scores `[codes, 1]` of pairs of style codes `[codes, style]` and class codes `[codes, class]`.
    pub fn forward(&self, style: Tensor<2>, class: Tensor<2>) -> Tensor<2> {
        let x = Tensor::cat(vec![self.in_style.forward(style), self.in_class.forward(class)], 1);
        let last = self.trunk.len().saturating_sub(1);
        let activation = |index| if index < last { Activation::LeakyRelu(SLOPE) } else { Activation::Identity };
        self.trunk.iter().enumerate().fold(x, |x, (index, layer)| layer.activated(x, activation(index)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_paper_sizes_have_the_published_numbers_of_parameters() {
        let context = BuildContext::new(Device::flex(), 1);
        let count = |latent, spectral| {
            let estimator = Estimator::new(latent, latent, spectral, Initial::GlorotUniformRelu, &context);
            let mut count = 0;
            ibhost_framework::parameters::for_each(&estimator, |seen| {
                count += if seen.path.rsplit('.').next() == Some("u") { 0 } else { seen.flat.dims()[0] }
            });
            count
        };
        assert_eq!((count(16, true), count(512, false)), (136_193, 263_169));
    }
}
