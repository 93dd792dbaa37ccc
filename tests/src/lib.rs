//! Checks of golden vectors: what the original implementations computed, recomputed by the registered components in double precision.

// Every function here fails the test it is called from and says why; nothing else uses this crate.
#![allow(clippy::missing_errors_doc, clippy::missing_panics_doc, clippy::unwrap_used)]

// Every test sees the components of every plug-in.
use ibhost_all as _;

pub mod cli;
pub mod disenib;
pub mod evaluations;
pub mod every_objective;
pub mod fault_plan;
pub mod golden;
pub mod hit;
pub mod mim;
pub mod outcome;
pub mod run;
pub mod shared;
pub mod vdb;
pub mod vib;
