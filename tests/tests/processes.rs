//! Processes beside each other and processes that die: locks, folders, status, bugs, memory, and results that depend on the seed alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ibhost_tests::cli::{CommandLine, SMALL, newest_checkpoint, timeless_metrics, wait_for_metrics, yaml};
use ibhost_tests::every_objective::{objectives, of_objective};
use ibhost_tests::fault_plan::PLAN;
use ibhost_tests::outcome::assert_same_end;
use serde_json::Value;

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");
const BRIEF: [&str; 11] =
    ["run", "--objective", "vdb", "--encoder", "mlp/e1:16|e2:16|z:4", "--limit-train", "60", "--batch-size", "20", "--epochs", "4"];

fn host(folder: &Path) -> CommandLine {
    CommandLine::new(HOST, folder)
}

fn runs(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// Names and status of the runs in `folder` as `list-runs` tells them.
fn listed(host: &CommandLine, folder: &str) -> Vec<Value> {
    let text = host.run(&["list-runs", folder, "--format", "json"]).expect(0).stdout;
    serde_json::from_str::<Value>(&text).unwrap().as_array().unwrap().clone()
}

#[test]
fn runs_started_at_the_same_moment_get_folders_of_their_own_and_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let children: Vec<_> = (0..6).map(|_| host.command(&BRIEF).spawn().unwrap()).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let runs = runs(&folder.path().join("runs"));
    assert_eq!(runs.len(), 6);
    for run in &runs {
        assert_same_end(&runs[0], run);
        host.run(&["verify", run.to_str().unwrap()]).expect(0);
    }
    let table = host.run(&["list-runs"]).expect(0).stdout;
    assert_eq!(table.lines().count(), 7, "{table}");
    assert!(table.contains("completed") && table.contains("vdb"), "{table}");
    host.run(&["list-runs", "absent"]).refused(2, &["absent", "--output-dir"]);
}

#[cfg(unix)]
#[test]
fn a_live_run_is_left_alone_and_a_dead_one_is_interrupted_and_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let endless = [&BRIEF[..9], &["--epochs", "10000000", "--checkpoint-every", "3steps"]].concat();
    let mut child = host.command(&endless).spawn().unwrap();
    let run = wait_for_metrics(&folder.path().join("runs"), &mut child);
    let text = run.to_str().unwrap();
    host.run(&["resume", text]).refused(1, &["in use by process", &child.id().to_string()]);
    assert_eq!(listed(&host, "runs")[0]["status"], "running");
    // Looking at a run is allowed while it lives.
    while host.run(&["analyze", text, "--analysis", "curves"]).code != Some(0) {
        assert!(child.try_wait().unwrap().is_none());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(yaml(&run.join("summary.yml"))["status"], "running", "a killed process has no last word");
    let dead = &listed(&host, "runs")[0];
    assert_eq!(dead["status"], "interrupted");
    assert!(dead["reason"].as_str().unwrap().contains("ibhost resume"), "{dead}");
    host.run(&["verify", text]).expect(0);
    let table = host.run(&["list-runs"]).expect(0).stdout;
    assert!(table.contains("interrupted"), "{table}");
    host.run(&["report", "runs"]).expect(0);
    assert!(fs::read_to_string(folder.path().join("report.html")).unwrap().contains("interrupted"));
    let mut child = host.command(&["resume", text]).spawn().unwrap();
    while listed(&host, "runs")[0]["status"] != "running" {
        assert!(child.try_wait().unwrap().is_none());
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Arguments and environment of a run.
type Variant = (&'static [&'static str], &'static [(&'static str, &'static str)]);

#[test]
fn neither_messages_nor_threads_nor_neighbours_change_a_result() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let train = |before: &[&str], environment: &[(&str, &str)], output: &str| {
        let arguments = [before, &BRIEF[..], &["--seed", "5", "--output-dir", output]].concat();
        let child = host.command(&arguments).envs(environment.iter().copied()).output().unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        runs(&folder.path().join(output)).remove(0)
    };
    let reference = train(&["--threads", "1"], &[], "reference");
    let variants: [Variant; 6] = [
        (&["--threads", "3"], &[]),
        (&["--quiet"], &[]),
        (&["-v", "-v"], &[]),
        (&[], &[("RAYON_NUM_THREADS", "1")]),
        (&[], &[("RAYON_NUM_THREADS", "5"), ("RUST_LOG", "trace")]),
        (&[], &[("TZ", "Asia/Tokyo"), ("LANG", "de_DE.UTF-8")]),
    ];
    for (number, (before, environment)) in variants.iter().enumerate() {
        assert_same_end(&reference, &train(before, environment, &format!("variant-{number}")));
    }
    let neighbour = host.command(&[&BRIEF[..9], &["--epochs", "100000", "--output-dir", "neighbour"]].concat()).spawn();
    let mut neighbour = neighbour.unwrap();
    assert_same_end(&reference, &train(&[], &[], "beside"));
    neighbour.kill().unwrap();
    neighbour.wait().unwrap();
}

#[test]
fn the_number_of_threads_changes_no_byte_of_any_objective() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let objectives = objectives(&host);
    assert!(objectives.len() >= 8, "{objectives:?}");
    for objective in &objectives {
        // Wide enough that the layers are shared out between the threads; convolutions need fewer channels for it.
        let arguments = of_objective(objective, if objective == "hit" { 256 } else { 1024 });
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if let Some(at) = arguments.iter().position(|argument| *argument == "--steps") {
            arguments.drain(at..at + 2);
        }
        let short = ["--limit-train", "120", "--batch-size", "40", "--steps", "6", "--checkpoint-every", "2steps"];
        let [one, two] = ["1", "2"].map(|threads| host.train(&[&["--threads", threads], &short[..], &arguments].concat()).1);
        assert_same_end(&one, &two);
    }
}

#[test]
fn a_panic_is_reported_as_a_bug_and_the_run_is_marked_failed_and_can_be_continued() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let arguments = [&BRIEF[..], &["--checkpoint-every", "2steps"]].concat();
    let whole = host.run(&[&arguments[..], &["--output-dir", "whole"]].concat()).expect(0);
    assert!(whole.stdout.contains("run whole"));
    let ended = host.command(&arguments).env(PLAN, "panic@3:metrics.jsonl").output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(101), "{stderr}");
    assert!(stderr.contains("this is a bug in ibhost: panic at") && stderr.contains("ordered by the test"), "{stderr}");
    assert!(stderr.contains("summary.yml") && stderr.contains("log.txt"), "{stderr}");
    let run = runs(&folder.path().join("runs")).remove(0);
    let summary = yaml(&run.join("summary.yml"));
    assert_eq!(summary["status"], "failed");
    let reason = summary["reason"].as_str().unwrap();
    assert!(reason.contains("a bug in ibhost: panic at") && reason.contains("fault_plan.rs"), "{reason}");
    assert!(summary["steps"].as_u64().is_some_and(|steps| steps >= 3), "{summary}");
    assert!(fs::read_to_string(run.join("log.txt")).unwrap().contains("a bug: panic at"));
    assert_eq!(listed(&host, "runs")[0]["status"], "failed");
    host.run(&["verify", run.to_str().unwrap()]).expect(0);
    host.run(&["resume", run.to_str().unwrap()]).expect(0);
    assert_same_end(&runs(&folder.path().join("whole"))[0], &run);
}

#[test]
fn numbers_that_are_not_finite_name_step_phase_term_and_tensor_and_keep_the_last_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    // Momentum lets the weights grow without bound over a few steps, after the first checkpoints.
    let wild =
        ["--optimiser", "sgd/momentum:0.9", "--lr", "300", "--epochs", "500", "--checkpoint-every", "1steps", "--watch", "test.loss"];
    let ended = host.run(&[&BRIEF[..9], &wild].concat()).expect(1);
    for word in
        ["error: step ", "(epoch ", "phase `main`", "is not finite", "neither is the loss term `", "the checkpoint of step", "loss = "]
    {
        assert!(ended.stderr.contains(word), "`{word}`: {ended:#?}");
    }
    assert!(ended.stderr.contains("gradient of `model.") || ended.stderr.contains("parameter `model."), "{ended:#?}");
    let run = runs(&folder.path().join("runs")).remove(0);
    let summary = yaml(&run.join("summary.yml"));
    assert_eq!(summary["status"], "failed");
    assert!(summary["best"].is_null() || summary["best"]["value"].as_f64().is_some_and(f64::is_finite), "{summary}");
    let last = newest_checkpoint(&run, "last");
    let step: u64 = last.file_name().unwrap().to_str().unwrap().trim_start_matches("last-").parse().unwrap();
    assert!(step > 0 && step <= summary["steps"].as_u64().unwrap(), "{step}: {summary}");
    let verified = host.run(&["verify", run.to_str().unwrap()]).expect(0);
    assert!(verified.stdout.contains("is sound"), "{verified:#?}");
}

#[test]
fn a_resumed_epoch_reports_the_speed_of_the_process_that_ended_it() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    // One epoch of 100 steps; the first process does 99 of them.
    let arguments = ["run", "--objective", "vdb", "--encoder", SMALL, "--batch-size", "10", "--limit-train", "1000", "--epochs", "1"];
    let start = [&arguments[..], &["--checkpoint-every", "99steps"]].concat();
    // Changes of the log: it is created, flushed for the checkpoint of step 99, and written to after step 100.
    host.command(&[&start[..], &["--output-dir", "second"]].concat()).env(PLAN, "kill@3:metrics.jsonl").output().unwrap();
    let run = runs(&folder.path().join("second")).remove(0);
    assert!(newest_checkpoint(&run, "last").ends_with("last-000000099"));
    let speed = |run: &Path| -> f64 {
        let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let row: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!((&row["split"], &row["step"]), (&"train".into(), &100.into()));
        row["samples_per_s"].as_f64().unwrap()
    };
    let (_, whole) = host.train(&[&arguments[1..], &["--output-dir", "whole"]].concat());
    host.run(&["resume", run.to_str().unwrap()]).expect(0);
    assert_eq!(timeless_metrics(&whole), timeless_metrics(&run));
    // Before, 1000 samples were divided by the time of one step, which is a hundred times too fast.
    assert!(speed(&run) < 20.0 * speed(&whole), "{} against {}", speed(&run), speed(&whole));
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_that_runs_out_of_memory_leaves_a_run_that_is_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    // The limit is lowered to what the process has at that moment, so that the next large piece of memory is refused.
    let endless = [&BRIEF[1..9], &["--epochs", "10000000", "--checkpoint-every", "20steps", "--set", "evaluation_batch=300"]].concat();
    let mut child = host.command(&[&["run"], &endless[..]].concat()).spawn().unwrap();
    let run = wait_for_metrics(&folder.path().join("runs"), &mut child);
    let limited = Command::new("prlimit").args(["--pid", &child.id().to_string(), "--as=1000000"]).output();
    if !limited.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped: the memory of a process cannot be limited here: {limited:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        return;
    }
    // A process that needs no further memory may go on; it is ended after a while, as the kernel would end it.
    let begin = std::time::Instant::now();
    while child.try_wait().unwrap().is_none() && begin.elapsed().as_secs() < 10 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    println!("ended by itself: {:?}", child.try_wait().unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    let status = listed(&host, "runs")[0]["status"].clone();
    assert!(status == "interrupted" || status == "failed", "{status}");
    host.run(&["verify", run.to_str().unwrap()]).expect(0);
}

#[test]
fn every_exit_code_of_the_manual_is_what_happens() {
    let manual = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reliability.md")).unwrap();
    let documented: BTreeSet<&str> = manual
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(code, _)| code)
        .filter(|c| c.parse::<i32>().is_ok())
        .collect();
    assert_eq!(documented, BTreeSet::from(["0", "1", "2", "101", "130"]));
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    host.run(&["devices"]).expect(0);
    host.run(&["run", "--objective", "absent", "--encoder", "mlp"]).expect(2);
    host.run(&["--no-such-flag"]).expect(2);
    host.run(&["verify", "absent"]).expect(2);
    host.run(&[&BRIEF[..9], &["--epochs", "1", "--output-dir", "/proc/runs"]].concat()).expect(1);
    let help = host.run(&["--help"]).expect(0).stdout;
    for code in documented {
        assert!(help.contains(&format!("{code} ")), "{code}: {help}");
    }
}
