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
pub mod image_grids;
pub mod information;
pub mod kd_tree;
pub mod knn_accuracy;
pub mod kraskov;
pub mod ksg;
mod latent_figures;
pub mod latent_gallery;
pub mod latent_plot;
pub mod mnistc;
pub mod mutual_information;
pub mod neighbour_accuracy;
pub mod neighbours;
pub mod nll;
pub mod npy;
pub mod out_of_distribution;
pub mod output;
pub mod plot;
pub mod rmse;
pub mod salt_pepper;
pub mod swap_grid;
pub mod tables;
pub mod traversal;
pub mod umap;
pub mod wasserstein;

mod model;

#[cfg(test)]
mod fixture;
