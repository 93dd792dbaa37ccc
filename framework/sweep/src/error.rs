//! What can be wrong with a sweep.

use std::path::PathBuf;

use ibhost_framework::run::ConfigError;
use ibhost_framework::storage::StorageError;

/// Why a sweep cannot be understood, started or continued.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The definition itself is wrong.
    #[error("{place}: {problem}")]
    Definition {
        /// Key of the sweep file or flag.
        place: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The settings of one trial cannot be resolved.
    #[error("trial {trial}: {source}")]
    Trial {
        /// Number and values of the axes, `7 (objective.beta=0.1, seed=3)`.
        trial: String,
        /// What is wrong with them.
        source: Box<ConfigError>,
    },
    /// The sweep exists already.
    #[error(
        "the sweep `{}` exists already\n  hint: `--resume` runs what is not completed, `--status` shows how far it got, another `name` starts a new one",
        .0.display()
    )]
    Exists(PathBuf),
    /// The sweep was begun with another definition.
    #[error(
        "the sweep `{}` was begun with another definition:\n{}\n  hint: undo the change, or give the sweep another `name`",
        .path.display(),
        .changes.iter().map(|change| format!("  {change}")).collect::<Vec<_>>().join("\n")
    )]
    Changed {
        /// Folder of the sweep.
        path: PathBuf,
        /// What differs, key by key.
        changes: Vec<String>,
    },
    /// Another process has it.
    #[error("`{}` is in use by {holder}\n  hint: wait for it or stop it; the lock ends with that process", .path.display())]
    Locked {
        /// Folder of the sweep or trial.
        path: PathBuf,
        /// Process and machine as far as known.
        holder: String,
    },
    /// The disk refused, or what it holds is damaged.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// An operating-system call failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was attempted.
        action: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A program of Slurm failed.
    #[error("`{command}` failed: {reason}")]
    Slurm {
        /// The command line.
        command: String,
        /// What it said.
        reason: String,
    },
    /// The index of runs failed.
    #[error("the index of runs `{}`: {source}\n  hint: remove the file; it is rebuilt from the folders of the runs", .path.display())]
    Index {
        /// Its file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A filter, an option or another request that makes no sense.
    #[error("{0}")]
    Request(String),
}

impl SweepError {
    /// A mistake at `place` of the definition.
    pub(crate) fn definition(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Definition { place: place.into(), problem: problem.into() }
    }

    /// `action` that the operating system refused.
    pub(crate) fn system(action: impl Into<String>, source: std::io::Error) -> Self {
        Self::System { action: action.into(), source }
    }
}
