//! Convolutions by LibTorch's own functions.

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use burn::tensor::Tensor;
use burn_tch::TchTensor;

use super::operation::ConvGeometry;
use crate::libtorch::{Rule, differentiated, record};

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
    /// The images as LibTorch's convolution takes them.
    fn framed(self, x: tch::Tensor) -> tch::Tensor {
        match self {
            Self::Padded { sides: [rows, columns], .. } => x.constant_pad_nd([columns[0], columns[1], rows[0], rows[1]]),
            Self::Plain { .. } | Self::Transposed { .. } => x,
        }
    }

    /// Step, padding, whether it is the transpose, and its additional rows and columns.
    fn numbers(self) -> ([i64; 2], [i64; 2], bool, [i64; 2]) {
        match self {
            Self::Plain { stride, padding } => (stride, padding, false, [0; 2]),
            Self::Padded { stride, .. } => (stride, [0; 2], false, [0; 2]),
            Self::Transposed { stride, padding, extra } => (stride, padding, true, extra),
        }
    }

    /// Of images that were [`Kind::framed`].
    fn value(self, x: &tch::Tensor, weight: &tch::Tensor, bias: Option<&tch::Tensor>) -> tch::Tensor {
        let (stride, padding, transposed, extra) = self.numbers();
        if !transposed {
            return x.convolution(weight, bias, stride, padding, [1, 1], false, extra, 1);
        }
        // LibTorch takes the gradient of this bias inside of a transposed convolution by a plain loop.
        let y = x.convolution(weight, None::<&tch::Tensor>, stride, padding, [1, 1], true, extra, 1);
        match bias {
            Some(bias) => y + bias.view([1, -1, 1, 1]),
            None => y,
        }
    }
}

/// The gradients of a convolution from what it read.
#[derive(Clone, Debug)]
pub(crate) struct ConvolutionRule {
    kind: Kind,
    /// Framed images with channels first.
    x: TchTensor,
    weight: TchTensor,
}

#[allow(unsafe_code)]
unsafe extern "C" {
    /// LibTorch's gradient of a convolution on the processor, from the interface that its compiled programs use: the binding has no such
    /// function, as it does not know lists of truth values. A tensor is a pointer to LibTorch's own, as in the binding; the last three
    /// receive new ones.
    fn aoti_torch_cpu_convolution_backward(
        gradient: *mut c_void,
        input: *mut c_void,
        weight: *mut c_void,
        bias_sizes: *const *const i64,
        bias_sizes_len: i64,
        stride: *const i64,
        stride_len: i64,
        padding: *const i64,
        padding_len: i64,
        dilation: *const i64,
        dilation_len: i64,
        transposed: i32,
        extra: *const i64,
        extra_len: i64,
        groups: i64,
        wanted: *const i32,
        wanted_len: i64,
        to_input: *mut *mut c_void,
        to_weight: *mut *mut c_void,
        to_bias: *mut *mut c_void,
    ) -> i32;
}

impl ConvolutionRule {
    /// The gradients of the tracked inputs from that of the value, whose channels are last.
    #[allow(unsafe_code)]
    pub fn gradients(self, gradient: &tch::Tensor, tracked: &[bool]) -> Vec<tch::Tensor> {
        let (stride, padding, transposed, extra) = self.kind.numbers();
        let gradient = gradient.contiguous().permute([0, 3, 1, 2]);
        let bias = tracked.get(2) == Some(&true);
        let wanted = [tracked[0], tracked[1], bias && !transposed].map(i32::from);
        let bias_size = [gradient.size()[1]];
        let bias_sizes = bias_size.as_ptr();
        let mut found = [null_mut(); 3];
        let [to_input, to_weight, to_bias] = found.each_mut();
        let pointer = |tensor: &tch::Tensor| tensor.as_ptr().cast_mut().cast();
        // SAFETY: the three tensors live until the call returns, which reads them alone; lists are as long as the lengths beside them; the
        // places for the results are this function's.
        let status = unsafe {
            aoti_torch_cpu_convolution_backward(
                pointer(&gradient),
                pointer(&self.x.tensor),
                pointer(&self.weight.tensor),
                if wanted[2] == 1 { &raw const bias_sizes } else { null() },
                1,
                stride.as_ptr(),
                2,
                padding.as_ptr(),
                2,
                [1, 1].as_ptr(),
                2,
                i32::from(transposed),
                extra.as_ptr(),
                2,
                1,
                wanted.as_ptr(),
                3,
                to_input,
                to_weight,
                to_bias,
            )
        };
        // What fits together in the forward pass does so here; LibTorch has printed why not.
        assert!(status == 0, "LibTorch refuses the gradient of a convolution of {:?} with {:?}", self.x.tensor, self.weight.tensor);
        let [to_x, to_weight, to_bias] = found.map(|tensor: *mut c_void| {
            // SAFETY: the call has made a tensor of its own for each result that is not null, and gives it away.
            (!tensor.is_null()).then(|| unsafe { tch::Tensor::from_ptr(tensor.cast()) })
        });
        let mut gradients = Vec::with_capacity(3);
        if tracked[0] {
            gradients.extend(to_x.map(|to_x| self.unframed(to_x).permute([0, 2, 3, 1])));
        }
        if tracked[1] {
            gradients.extend(to_weight);
        }
        if bias {
            gradients.extend(if transposed { Some(gradient.sum_dim_intlist([0, 2, 3].as_slice(), false, None)) } else { to_bias });
        }
        gradients
    }

    /// The part of a gradient that belongs to the images without their frame.
    fn unframed(&self, to_x: tch::Tensor) -> tch::Tensor {
        match self.kind {
            Kind::Padded { sides, .. } => (0..2).fold(to_x, |to_x, i| {
                let (dim, [before, after]) = (i as i64 + 2, sides[i]);
                let length = to_x.size()[i + 2] - before - after;
                to_x.narrow(dim, before, length)
            }),
            Kind::Plain { .. } | Kind::Transposed { .. } => to_x,
        }
    }
}

/// A convolution of images with channels first, whose order in memory is channels last: LibTorch takes the order of its result from its input,
/// and with this one it does not have to reorder images before and after.
fn through((x, weight, bias): Inputs, kind: Kind) -> Result<Tensor<4>, Inputs> {
    let images = |x: &tch::Tensor| kind.framed(x.contiguous().permute([0, 3, 1, 2]));
    let compute = |x: &tch::Tensor, weight: &tch::Tensor, bias: Option<&tch::Tensor>| {
        let x = images(x);
        let y = tch::no_grad(|| kind.value(&x, weight, bias)).permute([0, 2, 3, 1]);
        let rule = ConvolutionRule { kind, x: TchTensor::new(x), weight: TchTensor::new(weight.shallow_clone()) };
        (y, Some(Rule::Convolution(rule)))
    };
    let formula =
        |x: &tch::Tensor, weight: &tch::Tensor, bias: Option<&tch::Tensor>| kind.value(&images(x), weight, bias).permute([0, 2, 3, 1]);
    let here = |x: &tch::Tensor| x.device() == tch::Device::Cpu;
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    let result = match bias {
        Some(bias) => record([x, weight, bias.into_dispatch()], |inputs, tracked| match inputs.each_ref() {
            [x, weight, bias] if here(x) => compute(x, weight, Some(bias)),
            _ => differentiated(inputs, tracked, |[x, weight, bias]| formula(&x, &weight, Some(&bias))),
        })
        .map_err(|[x, weight, bias]| (x, weight, Some(Tensor::from_dispatch(bias)))),
        None => record([x, weight], |inputs, tracked| match inputs.each_ref() {
            [x, weight] if here(x) => compute(x, weight, None),
            _ => differentiated(inputs, tracked, |[x, weight]| formula(&x, &weight, None)),
        })
        .map_err(|[x, weight]| (x, weight, None)),
    };
    result.map(Tensor::from_dispatch).map_err(|(x, weight, bias)| (Tensor::from_dispatch(x), Tensor::from_dispatch(weight), bias))
}
