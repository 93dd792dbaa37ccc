//! Several seeds side by side: the same bytes as separate runs, and what is said of mistakes and interruptions.

use std::fs;
use std::path::{Path, PathBuf};

use ibhost_tests::cli::{CommandLine, entries, send, wait_for_metrics, yaml};
use ibhost_tests::outcome::assert_same_end;
use serde_json::Value;

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");

/// A small model whose code has two dimensions, so that every plot is drawn.
const TOY: [&str; 14] = [
    "--objective",
    "mim/sampled:true|warmup:1|min_logvar:6",
    "--encoder",
    "vector_mlp/z:2|mid:9|min_logvar:6",
    "--decoder",
    "vector_mlp/mid:9|min_logvar:6",
    "--dataset",
    "toy/k:4|samples:300",
    "--epochs",
    "2",
    "--batch-size",
    "50",
    "--checkpoint-every",
    "1epochs",
];

/// The folders of the runs that ended, by the last lines of stdout, one a run.
fn folders(stdout: &str) -> Vec<PathBuf> {
    let lines = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| PathBuf::from(line["run_dir"].as_str().unwrap())).collect()
}

fn drawn(run: &Path) -> Vec<(String, Vec<u8>)> {
    let names = entries(&run.join("plots")).into_iter().filter(|name| !name.ends_with('/'));
    names.map(|name| (name.clone(), fs::read(run.join("plots").join(&name)).unwrap())).collect()
}

#[test]
fn runs_side_by_side_end_with_the_bytes_of_runs_alone() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let together = host.run(&[&["run", "--format", "json", "--seeds", "3..5,1", "--threads", "3"], &TOY[..]].concat()).expect(0);
    let runs = folders(&together.stdout);
    assert_eq!(runs.len(), 4);
    for (run, seed) in runs.iter().zip(["3", "4", "5", "1"]) {
        let (_, alone) = host.train(&[&["--seed", seed], &TOY[..]].concat());
        assert_eq!(yaml(&run.join("summary.yml"))["seed"].to_string(), seed);
        assert_same_end(&alone, run);
        assert_eq!(fs::read(alone.join("config.yml")).unwrap(), fs::read(run.join("config.yml")).unwrap());
        let command = yaml(&run.join("summary.yml"))["command"].to_string();
        assert!(command.contains("--seed") && !command.contains("--seeds"), "{command}");
        assert!(!drawn(run).is_empty() && drawn(&alone) == drawn(run), "plots of seed {seed}");
        host.run(&["verify", run.to_str().unwrap()]).expect(0);
        let log = fs::read_to_string(run.join("log.txt")).unwrap();
        let name = run.file_name().unwrap().to_str().unwrap();
        assert!(log.contains(name), "{log}");
        assert!(
            runs.iter().filter(|other| *other != run).all(|other| !log.contains(other.file_name().unwrap().to_str().unwrap())),
            "{log}"
        );
    }
}

#[test]
fn an_interruption_reaches_every_run_and_each_can_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let long = [&["run", "--format", "json", "--seeds", "0..2", "--threads", "2"], &TOY[..], &["--set", "epochs=100000"]].concat();
    let mut child = host.command(&long).spawn().unwrap();
    let _ = wait_for_metrics(&folder.path().join("runs"), &mut child);
    send("INT", &child);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    let runs = folders(&String::from_utf8_lossy(&output.stdout));
    assert!(!runs.is_empty() && stderr.contains("seed 2 | not started"), "{stderr}");
    for run in &runs {
        assert_eq!(yaml(&run.join("summary.yml"))["status"], "interrupted");
        assert!(stderr.contains(run.file_name().unwrap().to_str().unwrap()), "{stderr}");
        host.run(&["verify", run.to_str().unwrap()]).expect(0);
    }
}

/// Processes that the process `parent` has started.
#[cfg(target_os = "linux")]
fn children(parent: u32) -> Vec<String> {
    let listed = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    listed.split_whitespace().map(str::to_owned).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_that_is_killed_takes_no_other_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let long = [&["run", "--format", "json", "--seeds", "0..1", "--threads", "2"], &TOY[..], &["--set", "epochs=400"]].concat();
    let mut child = host.command(&long).spawn().unwrap();
    let _ = wait_for_metrics(&folder.path().join("runs"), &mut child);
    let killed = std::process::Command::new("kill").args(["-KILL", &children(child.id())[0]]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.lines().any(|line| line.starts_with("seed ") && line.contains("| error: the run was ended by SIGKILL")), "{stderr}");
    let runs = folders(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(runs.len(), 1, "{stderr}");
    assert_eq!(yaml(&runs[0].join("summary.yml"))["status"], "completed");
}

#[test]
fn mistakes_are_refused_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    for (flags, words) in [
        (vec!["--seeds", "5..2"], ["5..2", "2..5"]),
        (vec!["--seeds", "1,1"], ["seed 1", "twice"]),
        (vec!["--seeds", "0..2", "--seed", "1"], ["--seeds", "--seed"]),
    ] {
        host.run(&[&["run"], &flags[..], &TOY[..]].concat()).refused(2, &words);
    }
    let failed = host.run(&[&["run", "--seeds", "0..1"], &TOY[..], &["--set", "decoder=linear"]].concat()).expect(2);
    assert!(failed.stderr.contains("seed 0 | error: ") && failed.stderr.contains("seed 1 | error: "), "{failed:#?}");
    assert!(!folder.path().join("runs").exists() || entries(&folder.path().join("runs")).is_empty());
}
