//! Which finished run a name means: its `--name`, its folder's name, its id or the start of one. A name that means several runs is refused.

use std::fs;
use std::path::{Path, PathBuf};

use ibhost_framework::storage::{Label, Manifest, RunDir, RunStatus, StorageError};

/// Folders above the analysed run that are searched; a sweep's trials lie five below the folder of runs.
const LEVELS: usize = 5;
/// Digits of an id that are enough to name a run, provided that no other begins with them.
const SHORTEST_ID: usize = 4;
/// Longest list of runs in a message.
const SHOWN: usize = 8;

/// The run that `name` means, beside the run in `run` or beside a folder above it.
///
/// # Errors
/// A sentence that says that there is none, or lists those there are.
pub fn find(run: &Path, name: &str) -> Result<PathBuf, String> {
    // A relative path such as `.` has no parents to speak of until it is made absolute.
    let run = std::path::absolute(run).map_err(|error| format!("the folder `{}` cannot be made absolute: {error}", run.display()))?;
    let mut found: Vec<(PathBuf, String)> = Vec::new();
    for folder in run.ancestors().skip(1).take(LEVELS) {
        for path in called(folder, name) {
            // A link and what it leads to are one run; a copy in another folder is not.
            let real = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
            let known = found.iter().any(|(other, _)| fs::canonicalize(other).unwrap_or_else(|_| other.clone()) == real);
            if let Some(id) = RunDir::open_read_only(&path).ok().map(|run| run.run_id().to_owned()).filter(|_| !known) {
                found.push((path, id));
            }
        }
    }
    match &found[..] {
        [] => {
            let runs = run.parent().unwrap_or(&run).display();
            Err(format!(
                "no finished run of that name in `{runs}` or the folders above\n  hint: name a run by its `--name`, its folder or its id; to train \
                 one: `ibhost run --preset mnist-cnn --name {name} --output-dir {runs}`"
            ))
        }
        [(path, _)] => Ok(path.clone()),
        several => {
            let mut lines: Vec<String> = several.iter().take(SHOWN).map(|(path, id)| format!("\n    {id}  {}", path.display())).collect();
            if several.len() > SHOWN {
                lines.push(format!("\n    and {} more", several.len() - SHOWN));
            }
            let hint = "give the id of the one that is meant in place of the name, or the name of its folder when ids are the same";
            Err(format!("that name means {} runs:{}\n  hint: {hint}", several.len(), lines.concat()))
        }
    }
}

/// The runs in `folder` that `name` means.
fn called(folder: &Path, name: &str) -> Vec<PathBuf> {
    let exact = folder.join(name);
    if !name.is_empty() && RunDir::open_read_only(&exact).is_ok() && exact.parent() == Some(folder) {
        return vec![exact];
    }
    let id_like = name.len() >= SHORTEST_ID && name.chars().all(|c| c.is_ascii_hexdigit());
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    let means = |path: &PathBuf| {
        // Folders are `<what is trained>-<name>--<time>-<id>`; of others only the id is looked at, which is cheap to read.
        let file = path.file_name().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
        let (stem, rest) = file.rsplit_once("--").unwrap_or((file.as_str(), ""));
        let named = stem.ends_with(name) || rest.is_empty();
        if !named && !id_like {
            return false;
        }
        let Ok(run) = RunDir::open_read_only(path) else { return false };
        if id_like && run.run_id().starts_with(name) {
            return true;
        }
        let summary = || run.read_summary().ok();
        named && summary().is_some_and(|summary| summary.status == RunStatus::Completed && summary.name.as_deref() == Some(name))
    };
    entries.into_iter().filter(means).collect()
}

/// Id of the run in `path` and hash of its newest weights: what a judgement by it depends on.
///
/// # Errors
/// [`StorageError`] when the run has no sound list of its newest checkpoint.
pub fn identity(path: &Path) -> Result<String, StorageError> {
    let run = RunDir::open_read_only(path)?;
    let newest = run.checkpoints().list()?.into_iter().rfind(|entry| entry.label == Label::Last);
    let weights = match newest {
        Some(entry) => Manifest::read(&entry.path)?.weights_hash(),
        None => "no weights".to_owned(),
    };
    Ok(format!("run {} with weights {weights}", run.run_id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(folder: &Path, name: &str, status: &str) -> (PathBuf, String) {
        let run = RunDir::create(folder, "mnist_cnn-classifier-digits", Some(name)).unwrap();
        let summary = serde_json::json!({
            "status": status, "run_id": "1", "name": name, "objective": "classifier", "encoder": "mnist_cnn", "dataset": "digits", "seed": 0,
            "device": "flex", "epochs": 1, "steps": 1, "started": "", "elapsed_time_s": 0.0, "command": [], "parameters": 1,
            "versions": {"ibhost": "", "burn": ""},
        });
        run.write_summary(&serde_json::from_value(summary).unwrap()).unwrap();
        (run.path().to_path_buf(), run.run_id().to_owned())
    }

    fn trial(runs: &Path) -> PathBuf {
        let trial = runs.join("sweeps/grid/trials/000003/hvae-hit--x");
        fs::create_dir_all(&trial).unwrap();
        trial
    }

    #[test]
    fn a_run_is_found_by_name_or_folder_up_to_the_folder_of_runs() {
        let runs = tempfile::tempdir().unwrap();
        let trial = trial(runs.path());
        assert!(find(&trial, "cnn").unwrap_err().contains("no finished run of that name"));
        let (unfinished, _) = run(runs.path(), "cnn", "running");
        let (other, _) = run(runs.path(), "mnist-cnn", "completed");
        assert!(find(&trial, "cnn").is_err(), "neither an unfinished run nor one whose name only ends like it");
        let (finished, _) = run(runs.path(), "cnn", "completed");
        assert_eq!((find(&trial, "cnn"), find(&trial, "mnist-cnn")), (Ok(finished), Ok(other)));
        let folder = unfinished.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(find(&trial, &folder), Ok(unfinished));
        assert!(find(&trial.join("deeper"), "cnn").is_err());
        fs::create_dir(runs.path().join("plain")).unwrap();
        assert!(find(&trial, "plain").is_err(), "a folder that is no run");
    }

    #[test]
    fn a_name_of_several_runs_is_refused_with_their_ids_and_each_id_names_its_run() {
        let runs = tempfile::tempdir().unwrap();
        let trial = trial(runs.path());
        let (first, first_id) = run(runs.path(), "judge", "completed");
        // One level further down: the nearest is as ambiguous as the newest.
        let (second, second_id) = run(&runs.path().join("sweeps"), "judge", "completed");
        let error = find(&trial, "judge").unwrap_err();
        for word in ["2 runs", &first_id, &second_id, first.to_str().unwrap(), second.to_str().unwrap(), "hint: give the id"] {
            assert!(error.contains(word), "{word}: {error}");
        }
        assert_eq!((find(&trial, &first_id), find(&trial, &second_id)), (Ok(first.clone()), Ok(second)));
        let unique = (SHORTEST_ID..=8).find(|&n| first_id[..n] != second_id[..n]).unwrap();
        assert_eq!(find(&trial, &first_id[..unique]), Ok(first.clone()));
        // A renamed folder keeps its id; a copy shares it and has to be named by its folder.
        let renamed = runs.path().join("best judge");
        fs::rename(&first, &renamed).unwrap();
        assert_eq!(find(&trial, &first_id), Ok(renamed.clone()));
        let copy = runs.path().join("copy");
        fs::create_dir(&copy).unwrap();
        fs::copy(renamed.join(".run.json"), copy.join(".run.json")).unwrap();
        assert!(find(&trial, &first_id).unwrap_err().contains("2 runs"));
        assert_eq!(find(&trial, "copy"), Ok(copy));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&renamed, runs.path().join("linked")).unwrap();
            fs::remove_dir_all(runs.path().join("copy")).unwrap();
            assert_eq!(find(&trial, &first_id), Ok(renamed), "a link is no second run");
        }
    }
}
