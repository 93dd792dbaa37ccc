//! One test a golden vector, named `<paper>/<file>`.

use std::path::{Path, PathBuf};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

/// A check of one paper: kind of vector and its content; nothing for a kind the paper does not know.
pub type Check = fn(&str, &Value) -> Option<Result<(), String>>;

/// The check of a paper by the name of its folder.
pub fn check_of(paper: &str) -> Option<Check> {
    match paper {
        "disenib" => Some(crate::disenib::check),
        "hit" => Some(crate::hit::check),
        "mim" => Some(crate::mim::check),
        "vdb" => Some(crate::vdb::check),
        "vib" => Some(crate::vib::check),
        _ => None,
    }
}

/// A test of every `<paper>/<kind>[.NN].json` below `folder`.
///
/// `papers` gives the check of a paper; kinds it does not know are tried with `shared`. What cannot be a vector is a test that fails: a
/// folder that is not a paper's, a paper's folder without vectors, an unknown kind and an unreadable file.
pub fn trials(folder: &Path, papers: impl Fn(&str) -> Option<Check>, shared: Check) -> Vec<Trial> {
    let folders = match sorted(folder) {
        Ok(entries) => entries.into_iter().filter(|path| path.is_dir()).collect::<Vec<_>>(),
        Err(error) => return vec![broken(folder, format!("cannot be listed: {error}; set IBHOST_GOLDEN to a folder of golden vectors"))],
    };
    if folders.is_empty() {
        return vec![broken(folder, "holds no paper's folder".to_owned())];
    }
    let of_paper = |path: &PathBuf| {
        let paper = name_of(path);
        match papers(&paper) {
            Some(check) => trials_of(path, &paper, check, shared),
            None => vec![broken(path, format!("`{paper}` is not a paper this program knows"))],
        }
    };
    folders.iter().flat_map(of_paper).collect()
}

fn trials_of(path: &Path, paper: &str, check: Check, shared: Check) -> Vec<Trial> {
    let files = match sorted(path) {
        Ok(files) => files.into_iter().filter(|file| file.extension().is_some_and(|e| e == "json")).collect::<Vec<_>>(),
        Err(error) => return vec![broken(path, format!("cannot be listed: {error}"))],
    };
    if files.is_empty() {
        return vec![broken(path, "holds no vector".to_owned())];
    }
    let test = |file: PathBuf| Trial::test(format!("{paper}/{}", name_of(&file)), move || check_file(&file, check, shared));
    files.into_iter().map(test).collect()
}

/// A test that fails with `reason`.
fn broken(path: &Path, reason: String) -> Trial {
    Trial::test(path.display().to_string(), move || Err(reason.into()))
}

fn check_file(file: &Path, check: Check, shared: Check) -> Result<(), Failed> {
    let bytes = std::fs::read(file).map_err(|error| format!("cannot be read: {error}"))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| format!("is not JSON: {error}"))?;
    let name = name_of(file);
    let kind = name.split('.').next().unwrap_or_default();
    let result = check(kind, &value).or_else(|| shared(kind, &value));
    Ok(result.ok_or_else(|| format!("`{kind}` is not a known kind of vector"))??)
}

fn sorted(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = std::fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use libtest_mimic::Arguments;

    fn odd_passes(kind: &str, value: &Value) -> Option<Result<(), String>> {
        match (kind, value.as_u64()) {
            ("odd", Some(n)) => Some(if n % 2 == 1 { Ok(()) } else { Err(format!("{n} is even")) }),
            ("boom", _) => panic!("lost {}", "tensor"),
            _ => None,
        }
    }

    fn nothing(_: &str, _: &Value) -> Option<Result<(), String>> {
        None
    }

    fn everything(kind: &str, _: &Value) -> Option<Result<(), String>> {
        (kind == "common").then_some(Ok(()))
    }

    /// Numbers of tests that passed and that failed.
    fn run(trials: Vec<Trial>) -> (u64, u64) {
        let ended = libtest_mimic::run(&Arguments { quiet: true, ..Arguments::default() }, trials);
        (ended.num_passed, ended.num_failed)
    }

    fn ended(files: &[(&str, &str)]) -> (u64, u64) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        run(trials(folder.path(), |paper| (paper == "a").then_some(odd_passes as Check), everything))
    }

    #[test]
    fn every_vector_is_a_test_and_kinds_end_at_the_first_dot() {
        assert_eq!(ended(&[("a/odd.json", "1"), ("a/odd.02.json", "3"), ("a/common.7.json", "0"), ("a/README.md", "")]), (3, 0));
    }

    #[test]
    fn every_file_that_is_no_sound_vector_fails_and_the_others_are_checked() {
        let files = [("a/odd.json", "2"), ("a/boom.json", "1"), ("a/other.json", "1"), ("a/odd.1.json", "{"), ("a/odd.2.json", "5")];
        assert_eq!(ended(&files), (1, 4));
    }

    #[test]
    fn reasons_are_told() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text, part) in [("odd.json", "2", "2 is even"), ("odd.1.json", "{", "not JSON"), ("other.json", "1", "not a known kind")]
        {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let reason = check_file(&path, odd_passes, nothing).unwrap_err();
            assert!(reason.message().is_some_and(|text| text.contains(part)), "{reason:?} should say {part}");
        }
    }

    #[test]
    fn nothing_to_check_is_a_failure() {
        assert_eq!(ended(&[]), (0, 1));
        assert_eq!(ended(&[("a/README.md", "")]), (0, 1));
        assert_eq!(ended(&[("stranger/odd.json", "1"), ("a/odd.json", "1")]), (1, 1));
        assert_eq!(run(trials(Path::new("/nonexistent"), |_| None, nothing)), (0, 1));
    }
}
