//! Checks of golden vectors: what the original implementations computed, recomputed by the registered components in double precision.

pub mod golden;
pub mod run;
pub mod shared;
pub mod vdb;
pub mod vib;
