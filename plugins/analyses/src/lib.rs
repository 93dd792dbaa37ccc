//! Evaluations of finished runs that fit every paper's model, the tables made of several runs, and plotting.

pub mod attack;
pub mod batch_figures;
pub mod batch_table;
pub mod cifar10c;
pub mod corruption;
pub mod curves;
pub mod detection;
pub mod disentanglement;
pub mod ellipse;
pub mod embedding;
pub mod information;
mod latent_figures;
pub mod latent_gallery;
pub mod latent_plot;
pub mod mnistc;
pub mod mutual_information;
pub mod neighbours;
pub mod npy;
pub mod out_of_distribution;
pub mod plot;
pub mod salt_pepper;
pub mod swap_grid;
pub mod tables;
pub mod traversal;
pub mod umap;
pub mod wasserstein;

mod model;
mod output;

#[cfg(test)]
mod fixture;
