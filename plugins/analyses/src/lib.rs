//! Evaluations of finished runs that fit every paper's model, the tables made of several runs, and plotting.

pub mod batch_table;
pub mod cifar10c;
pub mod corruption;
pub mod curves;
pub mod ellipse;
pub mod embedding;
pub mod information;
pub mod kd_tree;
pub mod latent_gallery;
pub mod latent_plot;
pub mod mnistc;
pub mod neighbour_accuracy;
pub mod neighbours;
pub mod nll;
pub mod npy;
pub mod plot;
pub mod salt_pepper;
pub mod tables;
pub mod umap;
pub mod wasserstein;

mod model;
mod output;

#[cfg(test)]
mod fixture;
