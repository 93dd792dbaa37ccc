//! The network of `hvae` with maps at both levels.

use burn::module::Module;
use burn::tensor::Tensor;
use ibhost_framework::build::{BuildContext, BuildError};
use ibhost_framework::distributions::{BoxedDistribution, Distribution, Normal};
use ibhost_framework::encoder::{Encoder, Hierarchy};
use ibhost_kernels::relu;

use crate::hvae::bottom_up;
use crate::layers::{HALVE5, KEEP3, KEEP5, Layer, channels_last, conv, packed, positive, through, to_maps, to_rows, transposed, unpacked};
use crate::size::{CodeOptions, MapSizes};

/// Convolutional posteriors of both levels. Fields carry the names of the published checkpoints.
#[derive(Module, Debug)]
pub struct HvaeMaps {
    /// x to mean and spread of z.
    pub qz_convs: Vec<Layer>,
    /// x to features of the bottom code's size.
    pub qy_conv_x: Vec<Layer>,
    /// z to features of the same size.
    pub qy_deconv_z: Vec<Layer>,
    /// Both, z's first, to mean and spread of y.
    pub qy_convs_zx: Vec<Layer>,
    #[module(skip)]
    sizes: MapSizes,
    floor: f64,
}

impl HvaeMaps {
    /// The network for images of `shape`.
    ///
    /// # Errors
    /// [`BuildError`] for images of other sizes than [`MapSizes`] takes.
    pub fn new(codes: &CodeOptions, shape: [usize; 3], context: &BuildContext) -> Result<Self, BuildError> {
        let sizes = MapSizes::of("hvae", shape)?;
        let c = codes.c;
        let halve = |from, to| conv([from, to], HALVE5, context);
        let halves = |count: usize| (0..count).map(|_| halve(c, c));
        let mut qz_convs = vec![halve(shape[0], c)];
        qz_convs.extend(halves(sizes.image_extra));
        qz_convs.extend([conv([c, c], KEEP3, context), halve(c, 3 * c), halve(3 * c, 2 * c)]);
        let mut qy_conv_x = vec![halve(shape[0], c)];
        qy_conv_x.extend(halves(1 + sizes.bottom_extra()));
        let mut qy_deconv_z: Vec<Layer> = (0..=sizes.code_extra).map(|_| transposed([c, c], HALVE5, context)).collect();
        qy_deconv_z.push(transposed([c, c], KEEP3, context));
        let qy_convs_zx = (0..2 + sizes.code_extra).map(|_| conv([2 * c, 2 * c], KEEP5, context)).collect();
        Ok(Self { qz_convs, qy_conv_x, qy_deconv_z, qy_convs_zx, sizes, floor: codes.floor })
    }
}

/// Rows of mean and spread before softplus from maps whose first half of channels is the mean.
pub(crate) fn halves(maps: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
    let rows = to_rows(maps);
    let half = rows.dims()[1] / 2;
    (rows.clone().narrow(1, 0, half), rows.narrow(1, half, half))
}

impl Hierarchy for HvaeMaps {
    fn features(&self, inputs: Tensor<4>) -> Vec<Tensor<2>> {
        let x = channels_last(inputs);
        vec![packed(relu(through(&self.qy_conv_x, x.clone()))), to_rows(through(&self.qz_convs, x))]
    }

    fn level(&self, _level: usize, features: Tensor<2>, above: &[Tensor<2>]) -> BoxedDistribution {
        let (mean, spread) = if let [z, ..] = above {
            let image = unpacked(features, self.sizes.bottom);
            let code = relu(through(&self.qy_deconv_z, to_maps(z.clone(), self.sizes.top)));
            halves(through(&self.qy_convs_zx, Tensor::cat(vec![code, image], 3)))
        } else {
            let half = features.dims()[1] / 2;
            (features.clone().narrow(1, 0, half), features.narrow(1, half, half))
        };
        Normal { mean, scale: positive(spread, self.floor) }.boxed()
    }
}

impl Encoder for HvaeMaps {
    fn encode(&self, inputs: Tensor<4>) -> BoxedDistribution {
        bottom_up(self, inputs)
    }

    fn as_hierarchy(&self) -> Option<&dyn Hierarchy> {
        Some(self)
    }
}
