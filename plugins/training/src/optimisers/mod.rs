//! Update rules.

pub mod adabelief;
pub mod adadelta;
pub mod adam;
pub mod adam_norm_grad;
pub mod sgd;

pub use adabelief::AdaBelief;
pub use adadelta::Adadelta;
pub use adam::{Adam, AdamForm};
pub use adam_norm_grad::AdamNormGrad;
pub use sgd::Sgd;
