//! Everything a run leaves on disk: run folders, checkpoints, metric logs and summaries, and the one layer that writes them.

pub mod atomic;
pub mod checkpoint;
mod error;
pub mod fault;
pub mod file_list;
pub mod inside;
mod journal;
mod layout;
pub mod log_file;
pub mod manifest;
pub mod metrics_log;
pub mod run_dir;
mod run_lock;
pub mod summary;
pub mod tensors;
pub mod unborn;
mod yaml;

pub use atomic::{AtomicDir, StorageError, clean_leftovers, create_folders, write_atomic, write_through};
pub use checkpoint::{CheckpointContent, CheckpointEntry, CheckpointStore, Label};
pub use file_list::FileList;
pub use log_file::LogFile;
pub use manifest::{FileHash, Manifest, verify};
pub use metrics_log::{MetricsLog, MetricsSplit, Row};
pub use run_dir::{LockHolder, RunDir};
pub use summary::{Best, FinalMetrics, Metrics, RunStatus, Summary, Versions};
pub use tensors::{HostData, HostTensor};
