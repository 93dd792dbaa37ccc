//! Runs every golden vector below a folder and says how many passed per paper.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

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

/// What happened below one folder.
#[derive(Debug, Default)]
pub struct Report {
    /// Vectors that passed, by paper.
    pub passed: BTreeMap<String, usize>,
    /// Vectors and folders that failed, with the reason.
    pub failed: Vec<(PathBuf, String)>,
}

impl Report {
    /// Whether something was checked and nothing failed.
    pub fn is_success(&self) -> bool {
        self.failed.is_empty() && self.passed.values().sum::<usize>() > 0
    }

    fn fail(&mut self, path: &Path, reason: impl Into<String>) {
        self.failed.push((path.to_owned(), reason.into()));
    }
}

/// Checks every `<paper>/<kind>[.NN].json` below `folder` whose `<paper>/<file>` contains `filter`.
///
/// `papers` gives the check of a paper; kinds it does not know are tried with `shared`. A folder that is not a paper's, a
/// paper's folder without vectors, an unknown kind and an unreadable file fail.
pub fn run(folder: &Path, filter: &str, papers: impl Fn(&str) -> Option<Check>, shared: Check) -> Report {
    let mut report = Report::default();
    let folders = match sorted(folder) {
        Ok(entries) => entries.into_iter().filter(|path| path.is_dir()).collect::<Vec<_>>(),
        Err(error) => {
            report.fail(folder, format!("cannot be listed: {error}; set IBHOST_GOLDEN to a folder of golden vectors"));
            return report;
        }
    };
    if folders.is_empty() {
        report.fail(folder, "holds no paper's folder");
    }
    for path in folders {
        let paper = name_of(&path);
        let Some(check) = papers(&paper) else {
            report.fail(&path, format!("`{paper}` is not a paper this program knows"));
            continue;
        };
        run_paper(&path, &paper, filter, check, shared, &mut report);
    }
    if report.failed.is_empty() && report.passed.values().sum::<usize>() == 0 {
        report
            .fail(folder, if filter.is_empty() { "holds no vector".to_owned() } else { format!("holds no vector named like `{filter}`") });
    }
    report
}

fn run_paper(path: &Path, paper: &str, filter: &str, check: Check, shared: Check, report: &mut Report) {
    let files = match sorted(path) {
        Ok(files) => files.into_iter().filter(|file| file.extension().is_some_and(|e| e == "json")).collect::<Vec<_>>(),
        Err(error) => return report.fail(path, format!("cannot be listed: {error}")),
    };
    if files.is_empty() {
        report.fail(path, "holds no vector");
    }
    for file in files {
        let name = name_of(&file);
        if !format!("{paper}/{name}").contains(filter) {
            continue;
        }
        let kind = name.split('.').next().unwrap_or_default();
        match check_file(&file, kind, check, shared) {
            Ok(()) => *report.passed.entry(paper.to_owned()).or_default() += 1,
            Err(reason) => report.fail(&file, reason),
        }
    }
}

fn check_file(file: &Path, kind: &str, check: Check, shared: Check) -> Result<(), String> {
    let bytes = std::fs::read(file).map_err(|error| format!("cannot be read: {error}"))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| format!("is not JSON: {error}"))?;
    // A tensor operation that refuses its arguments panics; the other files should still be checked.
    let result = catch_unwind(AssertUnwindSafe(|| check(kind, &value).or_else(|| shared(kind, &value))));
    match result {
        Ok(Some(result)) => result,
        Ok(None) => Err(format!("`{kind}` is not a known kind of vector")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("panicked: {}", text.unwrap_or("no message")))
        }
    }
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

    fn report(files: &[(&str, &str)], filter: &str) -> Report {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        run(folder.path(), filter, |paper| (paper == "a").then_some(odd_passes as Check), everything)
    }

    #[test]
    fn vectors_are_counted_by_paper_and_kinds_end_at_the_first_dot() {
        let report = report(&[("a/odd.json", "1"), ("a/odd.02.json", "3"), ("a/common.7.json", "0"), ("a/README.md", "")], "");
        assert!(report.is_success(), "{report:?}");
        assert_eq!(report.passed["a"], 3);
    }

    #[test]
    fn every_failing_file_is_named_with_its_reason() {
        let report =
            report(&[("a/odd.json", "2"), ("a/boom.json", "1"), ("a/other.json", "1"), ("a/odd.1.json", "{"), ("a/odd.2.json", "5")], "");
        let reasons: Vec<&str> = report.failed.iter().map(|(_, reason)| reason.as_str()).collect();
        assert_eq!(report.passed["a"], 1);
        assert_eq!(reasons.len(), 4, "{reasons:?}");
        for (reason, part) in reasons.iter().zip(["panicked: lost tensor", "is not JSON", "2 is even", "not a known kind"]) {
            assert!(reason.contains(part), "{reason} should say {part}");
        }
    }

    #[test]
    fn nothing_to_check_is_a_failure() {
        assert!(!report(&[], "").is_success());
        assert!(!report(&[("a/README.md", "")], "").is_success());
        assert!(!report(&[("a/odd.json", "1")], "even").is_success());
        assert!(!report(&[("stranger/odd.json", "1"), ("a/odd.json", "1")], "").is_success());
        assert!(!run(Path::new("/nonexistent"), "", |_| None, nothing).is_success());
        assert!(report(&[("a/odd.json", "1"), ("a/odd.5.json", "2")], "a/odd.json").is_success());
    }
}
