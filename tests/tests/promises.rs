//! Every test that docs/reliability.md names as a proof exists under that name.

// A test that unwraps says where it failed.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Rust sources below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found
}

/// Whether `name`, `crate::module::test` or `file::test` of the workspace's tests, is there. A trailing `*` stands for any ending; what has
/// no function of that name has to be a module or a file.
fn exists(root: &Path, name: &str) -> bool {
    let last = name.rsplit("::").next().unwrap().trim_end_matches('*');
    let folders: Vec<PathBuf> = match name.split_once("::") {
        Some((file, _)) if !file.starts_with("ibhost") => vec![root.join("tests/tests")],
        _ => ["framework", "plugins", "apps", "tests"].map(|folder| root.join(folder)).to_vec(),
    };
    let function = format!("fn {last}");
    folders.iter().flat_map(|folder| sources(folder)).any(|path| {
        let module = path.file_stem().is_some_and(|stem| stem == last) || path.parent().is_some_and(|folder| folder.ends_with(last));
        module || fs::read_to_string(&path).unwrap().contains(&function)
    })
}

#[test]
fn every_test_that_is_named_as_a_proof_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let proofs = page.split("## Exit codes").next().unwrap();
    let cells = proofs.lines().filter(|line| line.starts_with('|')).filter_map(|line| line.trim_end_matches('|').rsplit('|').next());
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let names: Vec<&str> = names.filter(|name| !name.contains('/')).collect();
    assert!(names.len() > 40, "{names:?}");
    let missing: Vec<&&str> = names.iter().filter(|name| !exists(root, name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(!exists(root, "kill::a_test_that_nobody_wrote"));
}
