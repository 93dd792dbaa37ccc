//! Evaluations of finished runs that fit every paper's model, in rooms by the question they answer, and plotting.

pub mod disentanglement;
pub mod figures;
pub mod fixture;
pub mod generation;
pub mod information;
pub mod model;
pub mod npy;
pub mod numbers;
pub mod output;
pub mod probes;
pub mod reference_run;
pub mod robustness;

#[cfg(test)]
mod documents_tests;
