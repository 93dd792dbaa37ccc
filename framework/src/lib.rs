//! Framework of ibhost: component traits, registry, training engine and run directories. It knows no paper.

pub mod analysis;
pub mod build;
pub mod capability;
pub mod component;
pub mod csv_text;
pub mod dataset;
pub mod decoder;
pub mod device;
pub mod encoder;
pub mod engine;
pub mod ensemble;
pub mod event_reader;
pub mod hierarchy;
pub mod identity;
pub mod latent_classifier;
pub mod latent_model;
pub mod module;
pub mod objective;
pub mod optimiser;
pub mod parameters;
pub mod plain;
pub mod preset;
pub mod registry;
pub mod room;
pub mod run;
pub mod schedule;
pub mod storage;
pub mod strategy;
pub mod tensorboard;

pub use ibhost_distributions as distributions;
pub use ibhost_distributions::{math, noise};

#[doc(hidden)]
pub mod reexport {
    pub use {inventory, schemars, serde_json, typetag};
}
