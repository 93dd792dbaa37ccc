//! Convolutions by LibTorch's own functions.

use burn::tensor::Tensor;

use super::operation::ConvGeometry;
use crate::libtorch::apply;

/// The inputs of a convolution: images, kernels, bias.
type Inputs = (Tensor<4>, Tensor<4>, Option<Tensor<1>>);

/// [`super::conv2d`] on LibTorch.
///
/// # Errors
/// The inputs when they are not LibTorch's.
pub fn conv2d(inputs: Inputs, geometry: ConvGeometry) -> Result<Tensor<4>, Inputs> {
    let ConvGeometry { stride, padding } = geometry;
    through(inputs, |x, weight, bias| {
        let [rows, columns] = padding.map(|sides| sides.map(|zeros| zeros as i64));
        let (x, padding) = if rows[0] == rows[1] && columns[0] == columns[1] {
            (x, [rows[0], columns[0]])
        } else {
            (x.constant_pad_nd([columns[0], columns[1], rows[0], rows[1]]), [0, 0])
        };
        x.convolution(weight, bias, stride.map(|step| step as i64), padding, [1, 1], false, [0, 0], 1)
    })
}

/// [`super::conv_transpose2d`] on LibTorch.
///
/// # Errors
/// The inputs when they are not LibTorch's.
pub fn conv_transpose2d(inputs: Inputs, stride: usize, padding: usize, extra: usize) -> Result<Tensor<4>, Inputs> {
    let [stride, padding, extra] = [stride, padding, extra].map(|size| [size as i64; 2]);
    through(inputs, |x, weight, bias| {
        let y = x.convolution(weight, None::<&tch::Tensor>, stride, padding, [1, 1], true, extra, 1);
        // LibTorch takes the gradient of this bias inside of a transposed convolution by a plain loop.
        match bias {
            Some(bias) => y + bias.view([1, -1, 1, 1]),
            None => y,
        }
    })
}

/// `formula` on images with channels first, whose order in memory is channels last: LibTorch takes the order of its result from its input,
/// and with this one it does not have to reorder images before and after.
fn through(
    (x, weight, bias): Inputs,
    formula: impl FnOnce(tch::Tensor, &tch::Tensor, Option<&tch::Tensor>) -> tch::Tensor,
) -> Result<Tensor<4>, Inputs> {
    let formula = |x: &tch::Tensor, weight: &tch::Tensor, bias: Option<&tch::Tensor>| {
        formula(x.contiguous().permute([0, 3, 1, 2]), weight, bias).permute([0, 2, 3, 1])
    };
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    let result = match bias {
        Some(bias) => apply([x, weight, bias.into_dispatch()], |[x, weight, bias]| formula(&x, &weight, Some(&bias)))
            .map_err(|[x, weight, bias]| (x, weight, Some(Tensor::from_dispatch(bias)))),
        None => apply([x, weight], |[x, weight]| formula(&x, &weight, None)).map_err(|[x, weight]| (x, weight, None)),
    };
    result.map(Tensor::from_dispatch).map_err(|(x, weight, bias)| (Tensor::from_dispatch(x), Tensor::from_dispatch(weight), bias))
}
