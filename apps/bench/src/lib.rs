//! Timed workloads of the papers: the models at their published sizes on synthetic data, stepped as the training loop steps them, and the
//! estimators of the evaluations.

pub mod estimator;
pub mod measure;
pub mod phases;
pub mod pool;
pub mod seeds;
pub mod workload;
