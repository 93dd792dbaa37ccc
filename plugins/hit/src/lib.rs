//! Hierarchical information trading (Xiao and Bamler 2023): variational auto-encoders with a code of several levels, whose rate splits into
//! one term a level, each with its own weight.

pub mod config;
pub mod decoder;
pub mod decoder_maps;
pub mod heads;
pub mod hvae;
pub mod hvae_maps;
pub mod layers;
pub mod lvae;
pub mod names;
pub mod objective;
pub mod pixels;
pub mod presets;
pub mod schedules;
pub mod size;

pub use config::HitConfig;
pub use objective::{Hit, Setting};
