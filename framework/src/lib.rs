//! Framework of ibhost: component traits, registry, training engine and run directories. It knows no paper.
//!
//! - Write a component: a configuration struct and one of the traits [`objective::ObjectiveConfig`], [`encoder::EncoderConfig`],
//!   [`decoder::DecoderConfig`], [`dataset::DatasetConfig`] and [`analysis::AnalysisConfig`], made known with [`register!`].
//! - Resolve a component string: [`component`].
//! - Train from code: [`run::Settings`] and [`engine::Trainer`].
//! - Open a finished run: [`finished::FinishedRun`].
//! - Read and write the files of a run: [`storage`].
//! - Draw noise that can be drawn again: [`noise`].
//!
//! A configuration struct is a component's parameters, documentation and defaults at once. Registered under a name, it is built from a
//! string, with every parameter checked against its documented range:
//!
//! ```
//! use std::sync::Arc;
//!
//! use ibhost_framework::prelude::*;
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//!
//! /// Pairs of numbers below `n`, their parity as class.
//! #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
//! #[serde(default)]
//! struct PairsConfig {
//!     /// Samples of each split.
//!     #[schemars(range(min = 2, max = 256))]
//!     n: usize,
//! }
//!
//! impl Default for PairsConfig {
//!     fn default() -> Self {
//!         Self { n: 16 }
//!     }
//! }
//!
//! #[derive(Debug)]
//! struct Pairs {
//!     info: DataInfo,
//!     samples: Samples,
//! }
//!
//! impl Dataset for Pairs {
//!     fn info(&self) -> &DataInfo {
//!         &self.info
//!     }
//!     fn split(&self, _split: Split) -> &Samples {
//!         &self.samples
//!     }
//! }
//!
//! #[typetag::serde(name = "pairs")]
//! impl DatasetConfig for PairsConfig {
//!     fn load(&self, _root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
//!         let values = (0..self.n).flat_map(|i| [i as f32, 1.0]).collect();
//!         let labels = (0..self.n).map(|i| (i % 2) as u8).collect();
//!         let samples = Samples::new(Values::F32(Arc::new(values)), labels, [1, 1, 2], Scaling::uniform(1, 1.0, 0.0))?;
//!         let classes = vec!["even".to_owned(), "odd".to_owned()];
//!         let info = DataInfo { name: "pairs".to_owned(), classes, shape: [1, 1, 2], note: None, class_entropy: None };
//!         Ok(Box::new(Pairs { info, samples }))
//!     }
//! }
//!
//! ibhost_framework::register! { Dataset: PairsConfig as DatasetConfig, aliases: [], paper: "", example: "pairs/n:4" }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (component, config) = resolve::<dyn DatasetConfig>(Kind::Dataset, "pairs/n:4")?;
//! assert_eq!(component.to_string(), "pairs/n:4");
//! assert_eq!(config.load(&DataRoot("data".into()))?.split(Split::Test).label(3), 1);
//!
//! let error = resolve::<dyn DatasetConfig>(Kind::Dataset, "pairs/n:1").unwrap_err();
//! assert!(error.to_string().contains("`n` must be at least 2, got 1"));
//! # Ok(())
//! # }
//! ```

pub mod analysis;
pub mod build;
pub mod capability;
pub mod comparison;
pub mod component;
pub mod csv_text;
pub mod dataset;
pub mod decoder;
pub mod device;
pub mod encoder;
pub mod engine;
pub mod ensemble;
pub mod event_reader;
pub mod finished;
pub mod hierarchy;
pub mod identity;
pub mod latent_classifier;
pub mod latent_model;
pub mod module;
pub mod objective;
pub mod optimiser;
pub mod parameters;
pub mod plain;
pub mod plan;
pub mod prelude;
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

pub use ibhost_distributions as distributions;
pub use ibhost_distributions::{math, noise};

#[doc(hidden)]
pub mod reexport {
    pub use {inventory, schemars, serde_json, typetag};
}
