//! Learning-rate schedules.

pub mod constant;
pub mod cosine;
pub mod exponential;
pub mod geometric;
pub mod noam;
pub mod resnet20;
pub mod step;

pub use constant::Constant;
pub use cosine::Cosine;
pub use exponential::Exponential;
pub use geometric::Geometric;
pub use noam::Noam;
pub use resnet20::{KerasResnet20, PytorchResnet20};
pub use step::Step;
