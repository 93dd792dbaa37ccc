//! Disentangled information bottleneck (Pan, Niu, Zhang and Zhang, AAAI 2021) and the Lagrangian baselines it is compared with.

pub mod clustering;
pub mod compression;
pub mod config;
pub mod lagrangian;
pub mod losses;
pub mod nets;
pub mod objective;
pub mod plan;
pub mod presets;
pub mod sampling;
