//! Encoders and decoders the papers share.

pub mod batch_norm;
pub mod gelu;
pub mod gelu_classifier;
pub mod head;
pub mod linear;
pub mod mlp;
pub mod norm;
pub mod residual_block;
pub mod residual_mlp;
pub mod resnet20;
pub mod resnet_keras;
pub mod shape;
