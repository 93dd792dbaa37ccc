//! Networks of the paper: dense and convolutional encoders, decoder, reconstructors, density-ratio estimator and discriminator.

pub mod conv;
pub mod conv_encoder;
pub mod dense_decoder;
pub mod dense_encoder;
pub mod discriminator;
pub mod estimator;
pub mod reconstructor;
pub mod spectral;
pub mod stack;
