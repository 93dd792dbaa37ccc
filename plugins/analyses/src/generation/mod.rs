//! How good decoded and generated inputs are, and what they look like.

pub mod decoding;
pub mod fid;
pub mod frechet;
pub(crate) mod generated;
pub mod image_grids;
pub mod inception;
pub mod inception_score;
pub mod latent_gallery;
pub mod psnr;
pub mod reconstruction_accuracy;
pub(crate) mod reference_classifier;
pub mod rmse;
pub mod swap_grid;
pub mod traversal;
pub mod wasserstein;
