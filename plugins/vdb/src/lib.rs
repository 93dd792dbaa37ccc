//! The variational deficiency bottleneck (Banerjee and Montúfar 2020): its objective and the settings of its experiments.

pub mod objective;
pub mod presets;

pub use objective::{ClassLoss, TrainAccuracy, VdbConfig, VdbObjective};
