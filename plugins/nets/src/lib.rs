//! Encoders and decoders the papers share.

pub mod batch_norm;
pub mod gated;
pub mod gelu;
pub mod gelu_classifier;
pub mod head;
pub mod image_decoder;
pub mod ladder;
pub mod linear;
pub mod mlp;
pub mod norm;
pub mod pseudo_inputs;
pub mod residual_block;
pub mod residual_mlp;
pub mod resnet20;
pub mod resnet_keras;
pub mod shape;
pub mod vector_mlp;
