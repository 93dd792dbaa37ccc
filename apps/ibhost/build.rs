//! Tells the program which commit of its sources it was built from; nothing where the sources came without their history.

use std::path::Path;
use std::process::Command;

/// Folders with sources, relative to this package: a change in them may make the commit another, or the sources other than it.
const SOURCES: [&str; 5] = ["../../framework", "../../plugins", "../../apps", "../../Cargo.toml", "../../Cargo.lock"];

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}

fn main() {
    for path in SOURCES.into_iter().filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let mut status = vec!["status", "--porcelain", "--untracked-files=no", "--"];
    status.extend(SOURCES);
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).map(|commit| match git(&status) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit}-modified"),
    });
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    match &commit {
        Some(commit) => println!("cargo::rustc-env=IBHOST_VERSION={version} ({commit})"),
        None => println!("cargo::rustc-env=IBHOST_VERSION={version}"),
    }
    println!("cargo::rustc-env=IBHOST_COMMIT={}", commit.unwrap_or_default());
}
