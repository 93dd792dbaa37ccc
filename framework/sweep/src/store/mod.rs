//! All runs below a folder as a table: each run's state, settings and measurements, and an index of them that is rebuilt at will.

pub mod filter;
pub mod index;
pub mod record;
mod row;
mod scan;
mod sections;
pub mod select;

pub use filter::Filter;
pub use index::Index;
pub use record::{RunRecord, find_all, find_runs};
pub use select::{Key, Listed, keys, select};
