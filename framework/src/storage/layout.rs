//! What the folder of a run holds: the names of all its files and folders, and what they say.

use std::fmt;
use std::str::FromStr;

/// File that makes a folder a run.
pub(super) const RUN_MARK: &str = ".run.json";
pub(super) const CONFIG_FILE: &str = "config.yml";
pub(super) const SUMMARY_FILE: &str = "summary.yml";
pub(super) const METRICS_FILE: &str = "metrics.jsonl";
/// Messages for people; no setting or result, so no manifest covers it.
pub(super) const LOG_FILE: &str = "log.txt";
pub(super) const FOLDERS: [&str; 4] = ["tensorboard", "checkpoints", "plots", "analyses"];
/// Of a run, locked while a process works on it.
pub(super) const LOCK_FILE: &str = ".lock";
/// Names of results until the list of files is closed; gone then.
pub(super) const JOURNAL_FILE: &str = ".unlisted";
/// Of a checkpoint and of a run: its files with their hashes.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Of a checkpoint: everything that is not a tensor.
pub(super) const STATE_FILE: &str = "state.json";
/// End of the names of tensor files.
pub(super) const TENSOR_SUFFIX: &str = ".safetensors";
/// Folder of the checkpoints, relative to the run.
pub(super) const CHECKPOINTS: &str = "checkpoints/";
/// Folders of the event files, and how their names begin.
pub(super) const EVENT_FOLDERS: [&str; 3] = ["train", "test", "test_average"];
pub(super) const EVENTS: &str = "events.out.tfevents.";
/// Files directly in a run's folder that every run writes itself; everything else but checkpoints and event files is a result.
pub(super) const OWN: [&str; 8] = [RUN_MARK, CONFIG_FILE, SUMMARY_FILE, METRICS_FILE, MANIFEST_FILE, LOCK_FILE, LOG_FILE, JOURNAL_FILE];
/// Files that a list does not cover: itself, the lock, messages for people, and the names of results until they are listed.
pub(super) const NOT_COVERED: [&str; 4] = [MANIFEST_FILE, LOCK_FILE, LOG_FILE, JOURNAL_FILE];

/// Why a checkpoint is kept; the two kinds never share files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// The most recent state, from which a run resumes.
    Last,
    /// The state with the best value of the watched metric.
    Best,
}

impl Label {
    /// The word used in folder names and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Best => "best",
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "last" => Ok(Self::Last),
            "best" => Ok(Self::Best),
            other => Err(format!("`{other}` is not a kind of checkpoint: expected `last` or `best`")),
        }
    }
}

/// `last-000000500`, and `last-000000500-r2` for a second version of the same step.
pub(super) fn folder_name(label: Label, step: u64, revision: u32) -> String {
    if revision > 1 { format!("{label}-{step:09}-r{revision}") } else { format!("{label}-{step:09}") }
}

/// Label, step and revision of a checkpoint folder's name; `None` for other names.
pub(super) fn parse_folder_name(name: &str) -> Option<(Label, u64, u32)> {
    let (label, rest) = name.split_once('-')?;
    let label = label.parse().ok()?;
    let (step, revision) = rest.split_once("-r").map_or((rest, Some(1)), |(step, revision)| (step, revision.parse().ok()));
    let (step, revision) = (step.parse().ok()?, revision?);
    // Only the one spelling this module writes counts, so that no two folders mean the same checkpoint.
    (folder_name(label, step, revision) == name).then_some((label, step, revision))
}

/// The local time with its offset from UTC, to the second.
pub fn local_time() -> String {
    jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}
