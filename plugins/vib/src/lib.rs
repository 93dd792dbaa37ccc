//! Deep variational information bottleneck (Alemi, Fischer, Dillon and Murphy, ICLR 2017).

pub mod config;
pub mod objective;
pub mod presets;
pub mod terms;
