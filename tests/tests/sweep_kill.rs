//! Sweeps whose launching process and whose trials are killed again and again end like a sweep that is left alone.
//!
//! `IBHOST_SOAK=1` kills twenty times instead of four.

#![cfg(unix)]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ibhost_framework::noise::{Noise, Stream};
use ibhost_tests::cli::CommandLine;
use ibhost_tests::outcome::{assert_same_end, soaking};
use serde_json::Value;

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");
/// SIGKILL.
const KILLED: i32 = 9;
const TRIALS: usize = 6;

const GRID: &str = "
name: grid
run: {objective: vib, encoder: 'mlp/e1:16|e2:16|z:4', limit_train: 120, batch_size: 10, steps: 600, checkpoint_every: 7steps}
axes:
  objective.beta: [0.001, 0.1]
  seed: 0..2
";

/// The processes of the trials that run in `folder` right now, as their states name them.
fn running(folder: &Path) -> Vec<u32> {
    let trials = fs::read_dir(folder.join("runs/sweeps/grid/trials")).into_iter().flatten().flatten();
    let states = trials.filter_map(|trial| serde_json::from_slice::<Value>(&fs::read(trial.path().join("state.json")).ok()?).ok());
    states.filter(|state| state["status"] == "running").filter_map(|state| Some(state["pid"].as_u64()? as u32)).collect()
}

/// Whether `pid` is still a trial of a sweep in `folder`, and not another process that got the number since.
fn is_ours(pid: u32, folder: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let (line, folder) = (String::from_utf8_lossy(&line).into_owned(), folder.to_string_lossy().into_owned());
    line.contains("trial") && line.contains(&folder)
}

fn kill(pid: u32) {
    // It may have ended on its own by now.
    let _ = Command::new("sh").args(["-c", &format!("kill -KILL {pid} 2>/dev/null")]).status();
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    sweeps: usize,
    trials: usize,
    starts: usize,
    lives: usize,
}

/// Starts or continues the sweep in `folder`, kills it or some of its trials at a random instant, and returns whether it is complete.
fn disturb(host: &CommandLine, folder: &Path, random: &mut Stream, duration: Duration, tally: &mut Tally) -> bool {
    tally.starts += 1;
    let mut child = host.command(&["sweep", "sweep.yml", "--jobs", "2", "--resume", "--format", "json"]).spawn().unwrap();
    let deadline = Instant::now() + duration.mul_f64(random.uniform());
    let whom = random.below(3);
    while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    if whom != 0 {
        let alive = running(folder);
        if !alive.is_empty() {
            let pid = alive[random.below(alive.len())];
            if is_ours(pid, folder) {
                kill(pid);
                tally.trials += 1;
            }
        }
    }
    if whom != 1 && child.try_wait().unwrap().is_none() {
        child.kill().unwrap();
        tally.sweeps += 1;
    }
    let ended = child.wait_with_output().unwrap();
    assert!(
        ended.status.signal() == Some(KILLED) || matches!(ended.status.code(), Some(0 | 1)),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    ended.status.success()
}

fn run_dir(folder: &Path, table: &Value, trial: usize) -> PathBuf {
    folder.join(table["trials"][trial]["run_dir"].as_str().unwrap_or_else(|| panic!("trial {trial} has no run: {table}")))
}

#[test]
fn sweeps_and_trials_that_are_killed_end_like_an_undisturbed_sweep() {
    let quota = if soaking() { 20 } else { 4 };
    let whole = tempfile::tempdir().unwrap();
    fs::write(whole.path().join("sweep.yml"), GRID).unwrap();
    let begin = Instant::now();
    let undisturbed =
        CommandLine::new(HOST, whole.path()).run(&["sweep", "sweep.yml", "--jobs", "2", "--format", "json"]).expect(0).last_line();
    let duration = begin.elapsed();
    let mut random = Noise::new(2026).stream("sweep", quota as u64);
    let mut tally = Tally::default();
    while tally.sweeps + tally.trials < quota {
        tally.lives += 1;
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("sweep.yml"), GRID).unwrap();
        let host = CommandLine::new(HOST, folder.path());
        loop {
            if disturb(&host, folder.path(), &mut random, duration, &mut tally) {
                break;
            }
            // It may be killed before it has made anything.
            if !folder.path().join("runs/sweeps/grid").exists() {
                continue;
            }
            let table = host.run(&["sweep", "runs/sweeps/grid", "--status", "--format", "json"]).expect(0).last_line();
            for state in table["trials"].as_array().unwrap() {
                assert_ne!(state["status"], "failed", "{state}");
            }
            if tally.sweeps + tally.trials >= quota {
                break;
            }
        }
        let table = host.run(&["sweep", "sweep.yml", "--resume", "--format", "json"]).expect(0).last_line();
        assert_eq!(table["counts"]["completed"], TRIALS);
        for trial in 0..TRIALS {
            let broken = run_dir(folder.path(), &table, trial);
            assert_same_end(&run_dir(whole.path(), &undisturbed, trial), &broken);
            host.run(&["verify", broken.to_str().unwrap()]).expect(0);
        }
    }
    println!("kills survived: {tally:?}");
    assert!(tally.sweeps > 0 && tally.trials > 0, "{tally:?}");
}
