//! Runs that are killed again and again, at random instants and inside of chosen disk operations, end with the same bytes as runs that
//! are left alone.
//!
//! `IBHOST_SOAK=1` kills every scenario 24 times instead of four.

#![cfg(unix)]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ibhost_framework::dataset::DataRoot;
use ibhost_framework::engine::{Outcome, Quiet, Trainer};
use ibhost_framework::identity::Program;
use ibhost_framework::noise::{Noise, Stream};
use ibhost_framework::storage::{Label, RunDir};
use ibhost_tests::cli::{CommandLine, first_run, yaml};
use ibhost_tests::every_objective::{objectives, of_objective};
use ibhost_tests::fault_plan::PLAN;
use ibhost_tests::outcome::{assert_same_end, differences, soaking};
use serde_json::Value;

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");
/// SIGKILL.
const KILLED: i32 = 9;

/// 24 epochs of 12 steps with checkpoints at epoch ends and everywhere in between.
const SHORT: [&str; 8] = ["--limit-train", "120", "--batch-size", "10", "--steps", "288", "--checkpoint-every", "7steps"];
const ENCODER: &str = "mlp/e1:16|e2:16|z:4";

/// What happened to one scenario.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    kills: usize,
    inside_checkpoints: usize,
    before_the_first_step: usize,
    starts: usize,
}

/// One configuration that is run whole once and killed until its quota is met.
struct Scenario<'a> {
    host: CommandLine,
    folder: &'a Path,
    arguments: Vec<String>,
    random: Stream,
    /// How long the uninterrupted run took.
    duration: Duration,
    tally: Tally,
}

impl Scenario<'_> {
    /// Starts the run, or continues `run`, and kills it somewhere; returns how it ended.
    fn live_and_die(&mut self, run: Option<&Path>, output: &str) -> Output {
        let start: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let arguments = match run {
            None => [&["run", "--output-dir", output], &start[..]].concat(),
            Some(run) => vec!["resume", run.to_str().unwrap()],
        };
        let mut command = self.host.command(&arguments);
        self.tally.starts += 1;
        let what = ["kill", "kill-after"][self.random.below(2)];
        match self.random.below(4) {
            0 => {
                let mut child = command.spawn().unwrap();
                std::thread::sleep(self.duration.mul_f64(self.random.uniform()));
                child.kill().unwrap();
                child.wait_with_output().unwrap()
            }
            1 => command.env(PLAN, format!("{what}@{}", 1 + self.random.below(60))).output().unwrap(),
            2 => command.env(PLAN, format!("{what}@{}:metrics.jsonl", 1 + self.random.below(12))).output().unwrap(),
            _ => command.env(PLAN, format!("{what}@{}:checkpoints", 1 + self.random.below(120))).output().unwrap(),
        }
    }

    /// Looks at what a killed process left: the run is sound and is listed as interrupted, or as completed when only its plots were still
    /// to be drawn. `None` when it died before there was a run.
    fn look(&mut self, output: &str) -> Option<(PathBuf, bool)> {
        let listed: Value = serde_json::from_str(&self.host.run(&["list-runs", output, "--format", "json"]).expect(0).stdout).unwrap();
        let listed = listed.as_array().unwrap();
        assert!(listed.len() <= 1, "{listed:?}");
        let run = PathBuf::from(listed.first()?["run_dir"].as_str().unwrap());
        // What died before it was a run is listed with that reason.
        if listed[0]["reason"].as_str().is_some_and(|reason| reason.contains("while it was created; nothing was computed")) {
            self.tally.before_the_first_step += 1;
            return None;
        }
        let completed = listed[0]["status"] == "completed";
        assert!(completed || listed[0]["status"] == "interrupted", "{listed:?}");
        let run = self.folder.join(run);
        if !run.join("summary.yml").exists() {
            self.tally.before_the_first_step += 1;
            self.host.run(&["resume", run.to_str().unwrap()]).refused(1, &["before its first step"]);
            return None;
        }
        self.host.run(&["verify", run.to_str().unwrap()]).expect(0);
        let unfinished =
            |folder: &Path| fs::read_dir(folder).unwrap().flatten().any(|e| e.file_name().to_string_lossy().starts_with(".tmp-"));
        self.tally.inside_checkpoints += usize::from(unfinished(&run.join("checkpoints")));
        Some((run, completed))
    }
}

/// Runs `arguments` whole, then kills and resumes the same run until `quota` kills have been survived.
fn survive(name: &str, arguments: &[&str], quota: usize) -> Tally {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let begin = Instant::now();
    let (_, whole) = host.train(&[arguments, &["--output-dir", "whole"]].concat());
    let mut scenario = Scenario {
        host,
        folder: folder.path(),
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        random: Noise::new(2026).stream(name, quota as u64),
        duration: begin.elapsed(),
        tally: Tally::default(),
    };
    let mut lives = 0;
    while scenario.tally.kills < quota {
        lives += 1;
        let output = format!("broken-{lives}");
        let mut run = None;
        loop {
            let ended = scenario.live_and_die(run.as_deref(), &output);
            let stderr = String::from_utf8_lossy(&ended.stderr);
            if ended.status.signal() == Some(KILLED) {
                scenario.tally.kills += 1;
            } else if ended.status.success() {
                break;
            } else {
                // Half of the name of the lock's holder was written, and a process that gets no lock touches nothing any more.
                assert!(stderr.contains(".lock") && stderr.contains("the disk is full"), "{name}: neither killed nor done: {ended:?}");
            }
            if !folder.path().join(&output).exists() {
                continue;
            }
            match scenario.look(&output) {
                Some((_, true)) => break,
                Some((found, false)) => run = Some(found),
                // Nothing was computed, so the next life begins anew.
                None => fs::remove_dir_all(folder.path().join(&output)).unwrap(),
            }
            if scenario.tally.kills >= quota
                && let Some(run) = &run
            {
                scenario.host.run(&["resume", run.to_str().unwrap()]).expect(0);
                break;
            }
        }
        let broken = first_run(&folder.path().join(&output)).unwrap();
        assert_same_end(&whole, &broken);
        scenario.host.run(&["verify", broken.to_str().unwrap()]).expect(0);
    }
    scenario.tally
}

#[test]
fn killed_runs_of_every_objective_end_like_uninterrupted_ones() {
    let quota = if soaking() { 24 } else { 4 };
    let mut scenarios: Vec<(String, Vec<String>)> = Vec::new();
    let mut add = |name: &str, more: &[&str]| scenarios.push((name.to_owned(), more.iter().map(|&m| m.to_owned()).collect()));
    let folder = tempfile::tempdir().unwrap();
    let objectives = objectives(&CommandLine::new(HOST, folder.path()));
    assert!(objectives.len() >= 2, "{objectives:?}");
    for objective in &objectives {
        let arguments = of_objective(objective, 16);
        add(objective, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }
    add("alternating phases", &["--objective", "vdb", "--encoder", ENCODER, "--strategy", "algo2/k:3"]);
    add("phases by epoch", &["--objective", "vdb", "--encoder", ENCODER, "--strategy", "algo1/d:3|e:2", "--optimiser", "adabelief"]);
    add(
        "average, early stopping, decaying rate",
        &[
            "--objective",
            "vib",
            "--encoder",
            ENCODER,
            "--average",
            "0.98",
            "--watch",
            "test_average.accuracy",
            "--patience",
            "9",
            "--schedule",
            "exponential",
        ],
    );
    add(
        "full covariance and momentum",
        &["--objective", "vdb", "--encoder", "mlp/e1:16|e2:16|z:4|cov:full", "--optimiser", "sgd/momentum:0.9"],
    );
    let mut total = Tally::default();
    for (name, more) in &scenarios {
        // A larger model takes fewer steps.
        let short = if more.iter().any(|argument| argument == "--steps") { [&SHORT[..4], &SHORT[6..]].concat() } else { SHORT.to_vec() };
        let arguments: Vec<&str> = short.into_iter().chain(more.iter().map(String::as_str)).collect();
        let tally = survive(name, &arguments, quota);
        println!("{name}: {tally:?}");
        total.kills += tally.kills;
        total.inside_checkpoints += tally.inside_checkpoints;
        total.before_the_first_step += tally.before_the_first_step;
        total.starts += tally.starts;
    }
    println!("kills survived: {total:?} over {} scenarios", scenarios.len());
    assert!(total.kills >= quota * scenarios.len());
    assert!(total.inside_checkpoints > 0, "no kill fell into the writing of a checkpoint: {total:?}");
    assert!(!soaking() || total.kills >= 200);
}

#[test]
fn killed_runs_with_running_statistics_end_like_uninterrupted_ones() {
    let arguments = ["--objective", "vib", "--encoder", "resnet20/z:2", "--limit-train", "40", "--batch-size", "10", "--steps", "20"];
    let tally = survive("batch norm", &[&arguments[..], &["--checkpoint-every", "3steps"]].concat(), if soaking() { 20 } else { 3 });
    println!("batch norm: {tally:?}");
}

/// A run of `SHORT` stopped by a kill inside the writing of its eighth checkpoint, and the same run uninterrupted.
fn halfway(folder: &Path) -> (CommandLine, PathBuf, PathBuf) {
    let host = CommandLine::new(HOST, folder);
    let arguments = [&["--objective", "vib", "--encoder", ENCODER], &SHORT[..]].concat();
    let (_, whole) = host.train(&[&arguments[..], &["--output-dir", "whole"]].concat());
    let start = [&["run", "--output-dir", "broken"], &arguments[..]].concat();
    let killed = host.command(&start).env(PLAN, "kill@1:last-000000056").output().unwrap();
    assert_eq!(killed.status.signal(), Some(KILLED));
    let broken = first_run(&folder.join("broken")).unwrap();
    (host, whole, broken)
}

#[test]
fn a_counter_that_is_off_by_one_does_not_go_unnoticed() {
    let folder = tempfile::tempdir().unwrap();
    let (host, whole, broken) = halfway(folder.path());
    // Noise, batches and data order are functions of the seed and this counter.
    let run = RunDir::open(&broken).unwrap();
    let (step, mut content) = run.checkpoints().load(Label::Last).unwrap().unwrap();
    content.state["step"] = (step + 1).into();
    run.checkpoints().save(Label::Last, step + 1, &content, 2).unwrap();
    drop(run);
    host.run(&["resume", broken.to_str().unwrap()]).expect(0);
    let found = differences(&whole, &broken);
    for part in ["metrics.jsonl", "last: weights.safetensors", "last: optimiser.safetensors"] {
        assert!(found.iter().any(|difference| difference == part), "{part} is the same: {found:?}");
    }
}

/// Resumes `broken` in this process with the noise of another `seed` and returns how its end differs from that of `whole`.
fn differences_with_seed(whole: &Path, broken: &Path, seed: u64) -> Vec<String> {
    let mut trainer = Trainer::resume(broken, &DataRoot("absent".into()), false, &Program::this("test", None)).unwrap().unwrap();
    trainer.session.noise = Noise::new(seed);
    let (outcome, _) = trainer.train(&mut Quiet, &AtomicBool::new(false)).unwrap();
    assert_eq!(outcome, Outcome::Completed);
    differences(whole, broken)
}

#[test]
fn other_noise_after_a_resume_does_not_go_unnoticed() {
    for (seed, same) in [(0, true), (1, false)] {
        let folder = tempfile::tempdir().unwrap();
        let (_, whole, broken) = halfway(folder.path());
        assert_eq!(yaml(&whole.join("summary.yml"))["seed"], 0);
        let found = differences_with_seed(&whole, &broken, seed);
        assert_eq!(found.is_empty(), same, "seed {seed}: {found:?}");
    }
}
