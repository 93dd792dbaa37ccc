//! What earlier attempts at a trial left in its folder: the one run that goes on, and remains of attempts that died before they computed
//! anything, which alone are removed.

use std::fs;
use std::path::{Path, PathBuf};

use ibhost_framework::storage::RunDir;
use ibhost_framework::storage::unborn::{is_born, is_run_name, is_unborn, remove_unborn};

use crate::error::SweepError;
use crate::state::TrialFolder;

/// What to do about something in a trial's folder that may be its run and cannot be continued.
const HINT: &str = "hint: it is left as it is; bring back what is damaged from a copy, or move it elsewhere and the trial begins anew";

impl TrialFolder {
    /// The run of this trial that is to be continued, after what is left of attempts that died before their first step is removed. Whatever
    /// else lies in the folder stays as it is.
    ///
    /// # Errors
    /// When there is something that may be the trial's run but cannot be read, or when there are two runs; each is named.
    pub fn settle(&self) -> Result<Option<PathBuf>, SweepError> {
        let listed = |source| SweepError::system(format!("list `{}`", self.path().display()), source);
        let mut paths = Vec::new();
        for entry in fs::read_dir(self.path()).map_err(listed)? {
            paths.push(entry.map_err(listed)?.path());
        }
        paths.sort();
        let mut runs = Vec::new();
        for path in paths {
            let kind = fs::symlink_metadata(&path).map_err(listed)?.file_type();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let like_a_run = is_run_name(&name) || fs::symlink_metadata(path.join(".run.json")).is_ok() || is_born(&path);
            if !kind.is_dir() {
                if kind.is_symlink() && like_a_run {
                    return Err(unusable(&path, "it is a link"));
                }
            } else if is_unborn(&path)? && RunDir::holder(&path)?.is_none() {
                remove_unborn(&path)?;
                tracing::info!("`{}` died before its first step and is removed", path.display());
            } else if like_a_run {
                match RunDir::open_read_only(&path) {
                    Ok(_) if is_born(&path) => runs.push(path),
                    Ok(_) => {
                        return Err(unusable(&path, "it has no summary and no checkpoint, yet holds more than a run that never began"));
                    }
                    Err(error) => return Err(unusable(&path, &error.to_string())),
                }
            } else {
                tracing::warn!("`{}` is none of this trial's and is left alone", path.display());
            }
        }
        match &runs[..] {
            [first, second, ..] => {
                let (first, second) = (first.display(), second.display());
                Err(SweepError::Request(format!(
                    "the trial has two runs, `{first}` and `{second}`\n  hint: move the one that is not this trial's elsewhere"
                )))
            }
            _ => Ok(runs.pop()),
        }
    }
}

fn unusable(path: &Path, reason: &str) -> SweepError {
    SweepError::Request(format!("the trial cannot go on with `{}`: {reason}\n  {HINT}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_never_began_is_removed_and_what_cannot_be_read_is_named_and_left() {
        let dir = tempfile::tempdir().unwrap();
        let trial = TrialFolder::new(dir.path().join("000000"));
        trial.create().unwrap();
        assert_eq!(trial.settle().unwrap(), None);
        let fresh = || RunDir::create(trial.path(), "mlp-vib-digits", None).unwrap().path().to_path_buf();
        let dead = fresh();
        fs::create_dir(trial.path().join("notes")).unwrap();
        fs::write(trial.path().join("notes/mine.txt"), "x").unwrap();
        let run = fresh();
        fs::write(run.join("summary.yml"), "x").unwrap();
        assert_eq!(trial.settle().unwrap(), Some(run.clone()));
        assert!(!dead.exists() && trial.path().join("notes/mine.txt").exists());

        let identity = fs::read(run.join(".run.json")).unwrap();
        fs::write(run.join(".run.json"), &identity[1..]).unwrap();
        let error = trial.settle().unwrap_err().to_string();
        assert!(error.contains(&*run.to_string_lossy()) && error.contains("not valid") && error.contains("hint: it is left"), "{error}");
        assert!(run.join("summary.yml").exists());
        fs::write(run.join(".run.json"), &identity).unwrap();

        let second = fresh();
        fs::write(second.join("metrics.jsonl"), "").unwrap();
        assert!(trial.settle().unwrap_err().to_string().contains("holds more than"));
        fs::write(second.join("summary.yml"), "x").unwrap();
        let error = trial.settle().unwrap_err().to_string();
        assert!(error.contains("two runs") && error.contains(&*second.to_string_lossy()), "{error}");
        #[cfg(unix)]
        {
            let elsewhere = dir.path().join("elsewhere");
            fs::rename(&second, &elsewhere).unwrap();
            std::os::unix::fs::symlink(&elsewhere, &second).unwrap();
            assert!(trial.settle().unwrap_err().to_string().contains("it is a link"));
            assert!(elsewhere.join("summary.yml").exists());
        }
    }
}
