//! Two-dimensional convolutions of channels-last images.
//!
//! Images are `[batch, height, width, channels]`: the window of one output pixel then lies in `kernel height` contiguous runs, and channels
//! fill vectors. A padded copy of one image at a time, in cache, is all the rearranging there is.

mod convolution;
mod frame;
mod gram;
// burn marks all of its LibTorch backend as deprecated.
#[cfg(feature = "tch")]
#[allow(deprecated)]
mod libtorch;
mod operation;
mod phase;
mod shape;
mod tile;

pub use operation::{ConvGeometry, conv_transpose2d, conv2d, gated_conv2d, same_padding};
