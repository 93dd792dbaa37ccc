//! Maps of codes and curves of a run, and the figures and tables that several runs make together.

pub mod axis_figure;
pub mod batch_figures;
pub mod curves;
pub mod ellipse;
pub mod embedding;
pub(crate) mod latent_figures;
pub mod latent_plot;
pub mod plot;
pub mod principal_components;
pub mod rate_plane;
pub mod tables;
pub mod tsne;
pub mod umap;
