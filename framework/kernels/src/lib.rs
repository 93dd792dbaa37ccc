//! Operations that are worth their own code on a CPU: computed on slices for the flex backend, with gradients written by hand, and by
//! the plain tensor formula on every other backend.
//!
//! Callers see ordinary tensor functions such as [`linear()`]; which path runs is decided by where the tensors live.
//!
//! # Adding an operation
//! [`linear()`] is the example to follow. An operation is one file with
//! 1. a plain tensor formula, `plain`, generic over nothing: the fallback for other backends and the reference in tests;
//! 2. a small `Clone + Debug` struct with what is not a float tensor (sizes, labels, constants), for which [`Operation`] is implemented:
//!    `forward` takes the inputs as [`Array`]s (contiguous host memory; [`Array::make_mut`] works in place when nobody else holds the
//!    memory) and returns the output with whatever the backward pass needs, `backward` turns the output's gradient into one gradient per
//!    input. Both are generic over [`Real`], that is `f32` and `f64`;
//! 3. the public function: `match apply(operation, [x.into_dispatch(), ...]) { Ok(y) => Tensor::from_dispatch(y), Err([x, ...]) =>
//!    plain(Tensor::from_dispatch(x), ...) }`. [`apply`] refuses, giving the inputs back unchanged, whenever one of them is not an
//!    `f32` or `f64` tensor of flex, or the graph recomputes values to save memory;
//! 4. tests through `testing::check`, which compares values and gradients with `plain` in both precisions.
//!
//! Where LibTorch has the operation itself, `libtorch::apply` stands between [`apply`] and the plain formula; see `conv/libtorch.rs`.
//!
//! Integer inputs such as labels are read with [`integers`] and kept in the operation's struct. Loops over slices that should use the
//! widest vectors of the machine go into [`vectorised!`]. Splitting over threads must not depend on their number: cut into parts of a
//! fixed size, so that results are the same for any `RAYON_NUM_THREADS`.

// Only what is inlined into `vectorised!` is compiled for wide vectors, so here the choice is not the compiler's.
#![allow(clippy::inline_always)]
// What an operation refuses goes back to its caller, and with more backends built in a tensor is a large enum.
#![allow(clippy::result_large_err)]

mod allocator;
mod array;
mod batch_norm;
mod categorical;
mod channels;
mod conv;
mod elementary;
mod gate;
mod gaussian;
mod instance_norm;
mod lanes;
mod layout;
// burn marks all of its LibTorch backend as deprecated.
#[cfg(feature = "tch")]
#[allow(deprecated)]
mod libtorch;
mod linear;
mod matmul;
mod memory;
mod mixture;
pub mod noise;
mod norm;
mod normal_network;
mod operation;
mod pairwise;
mod pointwise;
mod real;
mod rows;
#[cfg(target_arch = "x86_64")]
mod sgemm;
mod shared_normal;
mod spectral;
mod squared_error;
mod subsample;
#[cfg(test)]
mod testing;
mod weighted_sum;

pub use allocator::{Allocator, keep_freed_memory};
pub use array::{Array, integers};
pub use batch_norm::{Normalised, batch_norm, batch_norm_train};
pub use categorical::{label_log_likelihood, log_sum_exp};
pub use channels::channels_first;
pub use conv::{ConvGeometry, conv_transpose2d, conv2d, gated_conv2d, same_padding};
pub use gate::gated;
pub use gaussian::{centred_log_density, normal_log_density, normal_sample, reparameterise, standard_normal_rate};
pub use instance_norm::instance_norm;
pub use lanes::Lanes;
pub use linear::{Activation, dense, linear};
pub use matmul::{Layout, matmul, product};
pub use memory::filled;
pub use mixture::normal_mixture_log_density;
pub use normal_network::{Affine, normal_network};
pub use operation::{Operation, PLAIN, apply};
pub use pairwise::mean_pairwise_kl;
pub use pointwise::{bernoulli_log_likelihood, relu, softplus, tanh};
pub use real::{Real, instruction_set, with_widest_vectors};
pub use shared_normal::shared_normal_log_density;
pub use spectral::{divided_by_singular_value, power_iteration};
pub use squared_error::mean_squared_error;
pub use subsample::subsample;
pub use weighted_sum::weighted_sum;
