//! Comparisons of many runs: metrics and results against a setting, mean curves, robustness, planes of codes and of rates, tables of means and of
//! corruption errors.

pub mod axis;
pub mod corruption;
pub mod curves;
pub mod group;
pub mod latent_grid;
pub mod means;
pub mod rate_plane;
pub mod reading;
pub mod robustness;
pub mod setting;
