//! Plain classifiers of images, which other models' reconstructions and samples are judged by.

pub mod convolution;
pub mod densenet;
pub mod mnist_cnn;
pub mod objective;
mod presets;
pub mod resnet18;

pub use objective::{ClassifierConfig, ClassifierObjective};
