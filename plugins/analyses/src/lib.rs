//! Evaluations of finished runs that fit every paper's model, the tables made of several runs, and plotting.

pub mod accuracy_bound;
pub mod attack;
pub mod axis_figure;
pub mod batch_figures;
pub mod batch_table;
pub mod cifar10c;
pub mod corruption;
pub mod curves;
pub mod detection;
pub mod disentanglement;
pub mod ellipse;
pub mod embedding;
pub mod fid;
pub mod frechet;
pub mod image_grids;
pub mod inception;
pub mod inception_score;
pub mod information;
pub mod kd_tree;
pub mod knn_accuracy;
pub mod kraskov;
pub mod ksg;
pub mod label_information;
mod latent_figures;
pub mod latent_gallery;
pub mod latent_plot;
pub mod mixed_ksg;
pub mod mnistc;
pub mod model;
pub mod mutual_information;
pub mod neighbour_accuracy;
pub mod neighbours;
pub mod nll;
pub mod npy;
pub mod out_of_distribution;
pub mod output;
pub mod plot;
pub mod probes;
pub mod psnr;
pub mod rate_plane;
pub mod rates;
pub mod reconstruction_accuracy;
pub mod rmse;
pub mod salt_pepper;
pub mod swap_grid;
pub mod tables;
pub mod traversal;
pub mod tsne;
pub mod umap;
pub mod wasserstein;

mod generated;
mod levels;
mod reference_classifier;

#[cfg(test)]
mod fixture;
