//! The documents: every test that docs/reliability.md names as a proof exists under that name, links lead somewhere, lines are short.

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
    // A promise is an item of a list, a proof an item below it that begins with the test's name.
    let names: Vec<&str> = proofs.lines().filter_map(|line| line.strip_prefix("  - `")?.split('`').next()).collect();
    assert!(names.len() > 40, "{names:?}");
    let promises = proofs.split("\n- ").skip(1);
    let unproven: Vec<&str> = promises.filter(|promise| !promise.contains("\n  - `")).collect();
    assert!(unproven.is_empty(), "promises without a test: {unproven:#?}");
    let missing: Vec<&&str> = names.iter().filter(|name| !exists(root, name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(!exists(root, "kill::a_test_that_nobody_wrote"));
}

/// Markdown files of the repository, by their paths below its root.
fn pages(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            // Builds, links to what lies outside, and hidden folders are not the repository's.
            if path.is_symlink() || name == "target" || name == "runs" || name.starts_with('.') {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                found.push(path.strip_prefix(root).unwrap().to_path_buf());
            }
        }
    }
    found
}

/// `text` without blocks of code between fences.
fn without_code(text: &str) -> String {
    text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n")
}

/// The name that a heading has in links: lower case, words joined by hyphens, nothing else than letters, digits, `_` and `-`.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ')).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (mut seen, mut broken) = (0, Vec::new());
    for page in pages(root) {
        let text = without_code(&fs::read_to_string(root.join(&page)).unwrap());
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|link| !link.contains("://")) {
            seen += 1;
            let (path, place) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { root.join(&page) } else { root.join(&page).parent().unwrap().join(path) };
            let has_place = || {
                let text = without_code(&fs::read_to_string(&target).unwrap_or_default());
                text.lines().any(|line| line.starts_with('#') && anchor(line) == place)
            };
            if !target.exists() || !(place.is_empty() || has_place()) {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(seen > 80, "{seen} links");
    assert!(broken.is_empty(), "{broken:#?}");
    assert_eq!(anchor("## What `build` is given, in 3 words"), "what-build-is-given-in-3-words");
}

#[test]
fn every_page_is_read_without_folding_its_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (mut pages_read, mut wide) = (0, Vec::new());
    for page in pages(root) {
        pages_read += 1;
        for (number, line) in fs::read_to_string(root.join(&page)).unwrap().lines().enumerate() {
            if line.chars().count() > 140 {
                wide.push(format!("{}:{}: {} columns", page.display(), number + 1, line.chars().count()));
            }
        }
    }
    assert!(pages_read > 25, "{pages_read} pages");
    assert!(wide.is_empty(), "{wide:#?}");
}

#[test]
fn every_page_that_sources_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut named = 0;
    for path in ["framework", "plugins", "apps", "tests/src"].iter().flat_map(|folder| sources(&root.join(folder))) {
        let text = fs::read_to_string(&path).unwrap();
        for (at, _) in text.match_indices("docs/") {
            let page = text[at..].split(|c: char| !(c.is_alphanumeric() || "/-_.".contains(c))).next().unwrap();
            if Path::new(page).extension().is_some_and(|end| end == "md") {
                named += 1;
                assert!(root.join(page).exists(), "{} names {page}, which is not there", path.display());
            }
        }
    }
    assert!(named >= 3, "{named}");
}

#[test]
fn every_file_that_pages_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (mut named, mut gone) = (0, Vec::new());
    for page in pages(root) {
        // What is dated names what there was.
        if page.starts_with("docs/log") || page.ends_with("CHANGELOG.md") {
            continue;
        }
        let text = fs::read_to_string(root.join(&page)).unwrap();
        for code in without_code(&text).split('`').skip(1).step_by(2) {
            let ours = ["framework/", "plugins/", "apps/", "tests/", "scripts/", "docs/"].iter().any(|floor| code.starts_with(floor));
            let is_path = code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "/_-.".contains(c));
            if ours && is_path {
                named += 1;
                if !root.join(code).exists() {
                    gone.push(format!("{}: {code}", page.display()));
                }
            }
        }
    }
    assert!(named > 60, "{named} files");
    assert!(gone.is_empty(), "{gone:#?}");
}
