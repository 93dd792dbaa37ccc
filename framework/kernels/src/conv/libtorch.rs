//! Convolutions by LibTorch's own functions.

use burn::tensor::Tensor;

use super::operation::ConvGeometry;
use crate::libtorch::{Reads, apply, apply_biased};

/// The inputs of a convolution: images, kernels, bias.
type Inputs = (Tensor<4>, Tensor<4>, Option<Tensor<1>>);

/// [`super::conv2d`] on LibTorch.
///
/// # Errors
/// The inputs when they are not LibTorch's.
pub fn conv2d(inputs: Inputs, geometry: ConvGeometry) -> Result<Tensor<4>, Inputs> {
    let ConvGeometry { stride, padding } = geometry;
    let sides = padding.map(|sides| sides.map(|zeros| zeros as i64));
    let even = sides[0][0] == sides[0][1] && sides[1][0] == sides[1][1];
    let stride = stride.map(|step| step as i64);
    through(inputs, if even { Kind::Plain { stride, padding: [sides[0][0], sides[1][0]] } } else { Kind::Padded { stride, sides } })
}

/// [`super::conv_transpose2d`] on LibTorch.
///
/// # Errors
/// The inputs when they are not LibTorch's.
pub fn conv_transpose2d(inputs: Inputs, stride: usize, padding: usize, extra: usize) -> Result<Tensor<4>, Inputs> {
    let [stride, padding, extra] = [stride, padding, extra].map(|size| [size as i64; 2]);
    through(inputs, Kind::Transposed { stride, padding, extra })
}

/// What a convolution does; its images have channels first here.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// With as many zeros on either side.
    Plain { stride: [i64; 2], padding: [i64; 2] },
    /// With zeros above and below, left and right.
    Padded { stride: [i64; 2], sides: [[i64; 2]; 2] },
    /// The transpose, with additional rows and columns at the end.
    Transposed { stride: [i64; 2], padding: [i64; 2], extra: [i64; 2] },
}

impl Kind {
    /// Of images with channels last.
    fn value(self, x: &tch::Tensor, weight: &tch::Tensor, bias: Option<&tch::Tensor>) -> tch::Tensor {
        let x = channels_first(x);
        let y = match self {
            Self::Plain { stride, padding } => x.convolution(weight, bias, stride, padding, [1, 1], false, [0, 0], 1),
            Self::Padded { stride, sides: [rows, columns] } => {
                let x = x.constant_pad_nd([columns[0], columns[1], rows[0], rows[1]]);
                x.convolution(weight, bias, stride, [0, 0], [1, 1], false, [0, 0], 1)
            }
            Self::Transposed { stride, padding, extra } => x.convolution(weight, bias, stride, padding, [1, 1], true, extra, 1),
        };
        y.permute([0, 2, 3, 1])
    }
}

/// A view with channels first of images with channels last. LibTorch takes the order of its result from its input, and with this one it does
/// not have to reorder images before and after. With a single channel it goes by the strides, which say nothing then but must look the same.
fn channels_first(x: &tch::Tensor) -> tch::Tensor {
    let x = x.contiguous();
    let sizes = x.size();
    let x = if sizes[3] == 1 { x.view([-1]).view(sizes.as_slice()) } else { x };
    x.permute([0, 3, 1, 2])
}

fn through((x, weight, bias): Inputs, kind: Kind) -> Result<Tensor<4>, Inputs> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    let result = match bias {
        Some(bias) => {
            let inputs = [x, weight, bias.into_dispatch()];
            let formula = |[x, weight, bias]: [tch::Tensor; 3]| kind.value(&x, &weight, Some(&bias));
            let result =
                if matches!(kind, Kind::Transposed { .. }) { apply_biased(inputs, formula) } else { apply(inputs, Reads::Inputs, formula) };
            result.map_err(|[x, weight, bias]| (x, weight, Some(Tensor::from_dispatch(bias))))
        }
        None => apply([x, weight], Reads::Inputs, |[x, weight]| kind.value(&x, &weight, None)).map_err(|[x, weight]| (x, weight, None)),
    };
    result.map(Tensor::from_dispatch).map_err(|(x, weight, bias)| (Tensor::from_dispatch(x), Tensor::from_dispatch(weight), bias))
}
