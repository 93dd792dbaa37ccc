//! What a classifier does with inputs that are corrupted, attacked or from elsewhere.

pub mod attack;
pub mod cifar10c;
pub mod corruption;
pub mod detection;
pub mod mnistc;
pub mod out_of_distribution;
pub mod salt_pepper;
