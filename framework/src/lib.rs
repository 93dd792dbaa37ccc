//! Framework of ibhost: component traits, registry, training engine and run directories. It knows no paper.

pub mod analysis;
pub mod build;
pub mod capability;
pub mod categorical;
pub mod comparison;
pub mod component;
pub mod csv_text;
pub mod dataset;
pub mod decoder;
pub mod density;
pub mod device;
pub mod encoder;
pub mod engine;
pub mod ensemble;
pub mod event_reader;
pub mod finished;
pub mod generator;
pub mod hierarchy;
pub mod identity;
pub mod latent_classifier;
pub mod logistic_mixture;
pub mod math;
pub mod module;
pub mod noise;
pub mod normal_mixture;
pub mod objective;
pub mod optimiser;
pub mod parameters;
pub mod plain;
pub mod posterior;
pub mod preset;
pub mod registry;
pub mod result;
pub mod room;
pub mod run;
pub mod schedule;
pub mod storage;
pub mod strategy;
pub mod tensorboard;
pub mod text;

#[doc(hidden)]
pub mod reexport {
    pub use {inventory, schemars, serde_json, typetag};
}
