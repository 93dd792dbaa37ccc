//! Everything that can go wrong when the files of a run are written or read.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::text::path_text;

/// What can go wrong when a run's files are written or read.
#[derive(Debug, Error)]
pub enum StorageError {
    /// The operating system refused an operation.
    #[error("cannot {action} `{}`: {source}{}", path_text(path), hint(source))]
    Io {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// The file or folder concerned.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A file or folder that must be new is already there.
    #[error("`{}` already exists and is never overwritten; choose another name or move it away", path_text(path))]
    AlreadyExists {
        /// The occupied path.
        path: PathBuf,
    },
    /// Another live process writes to the run.
    #[error(
        "`{}` is in use by {}; wait until it ends or stop it first",
        path_text(path),
        if *pid == 0 { "another process".to_string() } else { format!("process {pid} on {host}") }
    )]
    Locked {
        /// The run folder.
        path: PathBuf,
        /// Process id of the holder, 0 when it has not written its id yet.
        pid: u32,
        /// Host name of the holder.
        host: String,
    },
    /// A file is not what was once written.
    #[error("`{}` is damaged: {reason}", path_text(path))]
    Damaged {
        /// The damaged, missing or surplus file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// A file or folder that belongs to something else.
    #[error("`{}` does not belong here: {reason}", path_text(path))]
    Foreign {
        /// The file or folder.
        path: PathBuf,
        /// Why it is not accepted.
        reason: String,
    },
    /// Something in a run or sweep that is a link, a pipe or a device, and so is left alone.
    #[error("`{}` is not opened: {reason}", path_text(path))]
    NotPlain {
        /// What lies there.
        path: PathBuf,
        /// What it is and what to do.
        reason: String,
    },
    /// A format newer or older than this program reads.
    #[error(
        "`{}` has format version {found}, this build reads version {supported}; use the version of the program that wrote it",
        path_text(path)
    )]
    Version {
        /// The file that states the version.
        path: PathBuf,
        /// Version stated in the file.
        found: u32,
        /// Version this build reads and writes.
        supported: u32,
    },
    /// Content that the file format cannot hold.
    #[error("cannot store `{}`: {reason}", path_text(path))]
    Encode {
        /// The file to be written.
        path: PathBuf,
        /// What the format does not accept.
        reason: String,
    },
}

impl StorageError {
    /// The file or folder the error is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. }
            | Self::AlreadyExists { path }
            | Self::Locked { path, .. }
            | Self::Damaged { path, .. }
            | Self::Foreign { path, .. }
            | Self::NotPlain { path, .. }
            | Self::Version { path, .. }
            | Self::Encode { path, .. } => path,
        }
    }

    /// Attaches what was attempted and where to an error of the operating system.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_path_buf(), source }
    }

    /// A damaged file with the reason.
    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_path_buf(), reason: reason.into() }
    }

    /// A file of something else with the reason.
    pub(crate) fn foreign(path: &Path, reason: impl Into<String>) -> Self {
        Self::Foreign { path: path.to_path_buf(), reason: reason.into() }
    }

    /// Content a format cannot hold, with the reason.
    pub(crate) fn encode(path: &Path, reason: impl Into<String>) -> Self {
        Self::Encode { path: path.to_path_buf(), reason: reason.into() }
    }
}

/// What to do about the errors a long run meets most often.
fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::StorageFull => " (the disk is full: free some space or write to another disk)",
        ErrorKind::QuotaExceeded => " (the disk quota is used up: remove files or ask for more)",
        ErrorKind::ReadOnlyFilesystem => " (the file system is read-only: write to another folder)",
        ErrorKind::PermissionDenied => " (permission is missing: check the owner and mode of the folder)",
        ErrorKind::NotFound => " (check the spelling, and that the disk is still mounted)",
        _ => "",
    }
}
