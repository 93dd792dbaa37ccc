//! The network of both decoders with maps at both levels.

use burn::module::Module;
use burn::tensor::Tensor;
use ibhost_framework::build::BuildError;
use ibhost_framework::decoder::Decoder;
use ibhost_framework::distributions::{BoxedDistribution, Distribution, Normal};

use crate::decoder::{Between, PixelOptions};
use crate::hvae_maps::halves;
use crate::layers::{HALVE5, KEEP3, Layer, positive, through, to_maps, transposed};
use crate::pixels::PixelLikelihood;
use crate::size::MapSizes;

/// Transposed convolutions from z to p(y|z) and from y to p(x|y). Fields carry the names of the published checkpoints.
#[derive(Module, Debug)]
pub struct DecoderMaps {
    /// z to mean and spread of y.
    pub py_deconvs: Vec<Layer>,
    /// y to the likelihood's maps.
    pub px_deconvs: Vec<Layer>,
    /// Pixel distribution.
    pub likelihood: PixelLikelihood,
    #[module(skip)]
    sizes: MapSizes,
    #[module(skip)]
    ladder: bool,
    floor: f64,
}

impl DecoderMaps {
    /// The network between codes and images; a ladder takes the root of softplus.
    ///
    /// # Errors
    /// [`BuildError`] in the decoder's name when the codes or images have other sizes.
    pub(crate) fn new(options: &PixelOptions, between: &Between<'_>) -> Result<Self, BuildError> {
        let &Between { name, ladder, latents, shape, context } = between;
        let sizes = MapSizes::of(name, shape)?;
        let c = options.c;
        let expected = [c * sizes.bottom * sizes.bottom, c * sizes.top * sizes.top];
        if options.linear_y || latents != expected {
            let problem = format!(
                "with conv_z:true takes maps of {expected:?} numbers, bottom first, the encoder's code has {latents:?}; give both conv_z:true \
                 and the same `c`, and leave linear_y out"
            );
            return Err(BuildError::new(name, problem));
        }
        let likelihood = PixelLikelihood::new(name, options.px, options.sigma, shape[0], context)?;
        let double = |from, to| transposed([from, to], HALVE5, context);
        let wide = c + c / 2;
        let mut py_deconvs: Vec<Layer> = (0..sizes.code_extra).map(|_| double(c, c)).collect();
        py_deconvs.extend([double(c, wide), transposed([wide, 2 * c], KEEP3, context)]);
        let mut px_deconvs: Vec<Layer> = (0..=sizes.bottom_extra()).map(|_| double(c, c)).collect();
        px_deconvs.extend(between.to_pixels(&likelihood, c, HALVE5));
        Ok(Self { py_deconvs, px_deconvs, likelihood, sizes, ladder, floor: options.floor })
    }
}

impl Decoder for DecoderMaps {
    fn decode(&self, codes: &[Tensor<2>], _teacher: Option<Tensor<4>>) -> BoxedDistribution {
        self.likelihood.density(through(&self.px_deconvs, to_maps(codes[0].clone(), self.sizes.bottom)))
    }

    fn prior(&self, level: usize, above: &[Tensor<2>]) -> Option<BoxedDistribution> {
        let z = above.first().filter(|_| level == 0)?;
        let (mean, spread) = halves(through(&self.py_deconvs, to_maps(z.clone(), self.sizes.top)));
        let spread = positive(spread, self.floor);
        Some(Normal { mean, scale: if self.ladder { spread.sqrt() } else { spread } }.boxed())
    }
}
