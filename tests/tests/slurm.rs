//! Sweeps through a real Slurm of one node, which `scripts/test-slurm` starts; skipped without `IBHOST_SLURM=1`.

#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ibhost_tests::cli::CommandLine;
use ibhost_tests::outcome::assert_same_end;
use serde_json::{Value, json};

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");
/// Longest time until a trial does what is waited for; a requeued job alone waits some seconds.
const PATIENCE: Duration = Duration::from_mins(10);

/// Long enough to be found at work and disturbed, some ten seconds of a processor; and a fraction of a second.
const LONG: u32 = 500;
const SHORT: u32 = 200;
/// A learning rate that diverges in its first steps.
const DIVERGING: &str = "1.0e+30";

/// A grid of learning rates with their epochs, two seeds each.
fn grid(points: &[(&str, u32)]) -> String {
    let lines = points.iter().map(|(lr, epochs)| format!("    lr {lr}: {{lr: {lr}, epochs: {epochs}}}\n")).collect::<Vec<_>>().concat();
    format!(
        "name: grid\n\
         run: {{objective: vib, encoder: 'mlp/e1:64|e2:64|z:4', batch_size: 20, checkpoint_every: 200steps}}\n\
         axes:\n  variant:\n{lines}  seed: 0..1\n\
         slurm: {{partition: main, time: '0:30:00', throttle: 2}}\n\
         report: {{sections: [{{title: Accuracy, table: {{rows: [variant], values: [test.accuracy]}}}}]}}\n"
    )
}

/// Twelve trials that succeed, the first eight of them long, and two that diverge.
fn fourteen() -> String {
    grid(&[("0.001", LONG), ("0.002", LONG), ("0.003", LONG), ("0.004", LONG), ("0.005", SHORT), ("0.006", SHORT), (DIVERGING, SHORT)])
}

fn is_there() -> bool {
    let there = std::env::var_os("IBHOST_SLURM").is_some_and(|value| value == "1");
    if !there {
        println!("skipped: no Slurm; `scripts/test-slurm` starts one");
    }
    there
}

fn program(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(arguments);
    command
}

fn slurm(name: &str, arguments: &[&str]) -> String {
    let output = program(name, arguments).output().unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A sweep in a folder that the jobs can reach.
struct Cluster {
    folder: tempfile::TempDir,
    host: CommandLine,
}

impl Cluster {
    fn new(grid: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("sweep.yml"), grid).unwrap();
        let host = CommandLine::new(HOST, folder.path());
        Self { folder, host }
    }

    fn submit(&self, more: &[&str]) -> Value {
        let arguments = ["sweep", "sweep.yml", "--launcher", "slurm", "--format", "json"];
        self.host.run(&[&arguments, more].concat()).expect(0).last_line()
    }

    /// Does to a trial at work, none of `besides`, what `command` says, and returns the trial once it was stopped by that. Takes another one when
    /// it ended just before. What Slurm answers is not asked: it also refuses jobs that it then signals all the same.
    fn disturb(&self, what: &str, besides: &[usize], command: impl Fn(&Self, usize, &str) -> Command) -> usize {
        for _ in 0..6 {
            let (trial, job) = self.find(what, besides);
            let mut command = command(self, trial, &job);
            let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
            let mut stopped = false;
            self.wait("the end of a disturbed trial", |table| {
                let (status, attempts) = (&state(table, trial)["status"], state(table, trial)["attempts"].as_u64());
                stopped = attempts >= Some(2) || (status != "running" && status != "completed");
                stopped || status == "completed"
            });
            if stopped {
                return trial;
            }
            println!("trial {trial} ended before {command:?}: {} {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        panic!("{what}: every trial ended before it could be disturbed");
    }

    /// The process that works on `trial`.
    fn process(&self, trial: usize) -> String {
        let path = self.folder.path().join(format!("runs/sweeps/grid/trials/{trial:06}/state.json"));
        let record: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        record["pid"].to_string()
    }

    fn table(&self) -> Value {
        self.host.run(&["sweep", "runs/sweeps/grid", "--status", "--format", "json"]).expect(0).last_line()
    }

    /// Waits until the table of states fulfils `done`, and returns it.
    fn wait(&self, what: &str, mut done: impl FnMut(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let table = self.table();
            if done(&table) {
                return table;
            }
            assert!(begin.elapsed() < PATIENCE, "{what} did not happen: {table:#}\n{}", slurm("squeue", &["--array", "--states=all"]));
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Waits until a trial other than `besides` is under way.
    fn find(&self, what: &str, besides: &[usize]) -> (usize, String) {
        let mut found = None;
        self.wait(what, |table| {
            found = under_way(table, self.folder.path(), besides);
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits until no job of the sweep waits or runs.
    fn settle(&self) -> Value {
        let begin = Instant::now();
        while !slurm("squeue", &["--noheader", "--name=ibhost-grid,ibhost-grid-collect"]).trim().is_empty() {
            assert!(begin.elapsed() < PATIENCE, "{}", slurm("squeue", &["--array"]));
            std::thread::sleep(Duration::from_millis(300));
        }
        self.table()
    }

    fn run_dir(&self, table: &Value, trial: usize) -> PathBuf {
        self.folder.path().join(state(table, trial)["run_dir"].as_str().unwrap_or_else(|| panic!("trial {trial} has no run: {table}")))
    }
}

fn state(table: &Value, trial: usize) -> &Value {
    table["trials"].as_array().unwrap().iter().find(|state| state["trial"] == trial).unwrap()
}

/// A trial that runs, has measured something and saved itself, with its task.
fn under_way(table: &Value, folder: &Path, besides: &[usize]) -> Option<(usize, String)> {
    table["trials"].as_array().unwrap().iter().find_map(|state| {
        let trial = state["trial"].as_u64()? as usize;
        let run = folder.join(state["run_dir"].as_str()?);
        let measured = fs::metadata(run.join("metrics.jsonl")).is_ok_and(|file| file.len() > 0);
        let saved = fs::read_dir(run.join("checkpoints")).is_ok_and(|mut entries| entries.next().is_some());
        let wanted = state["status"] == "running" && measured && saved && !besides.contains(&trial);
        wanted.then(|| Some((trial, state["job"].as_str()?.to_owned())))?
    })
}

#[test]
fn a_sweep_on_a_cluster_survives_kills_limits_and_failures_and_equals_the_local_one() {
    if !is_there() {
        return;
    }
    let text = fourteen();
    let cluster = Cluster::new(&text);
    let folder = cluster.folder.path();
    let submission = cluster.submit(&[]);
    // MaxArraySize is 8 there, so that 14 trials take two arrays.
    let sizes: Vec<u64> = submission["arrays"].as_array().unwrap().iter().map(|array| array["trials"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [8, 6]);
    let again = cluster.submit(&["--resume"]);
    assert_eq!((again["arrays"].as_array().unwrap().len(), again["queued"].as_u64()), (0, Some(14)), "what waits is not submitted twice");

    // Killed as the kernel kills when memory runs out: the job goes back into the queue.
    let killed = cluster.disturb("training", &[], |cluster, trial, _| program("kill", &["-KILL", &cluster.process(trial)]));

    // What Slurm sends ahead of the time limit: the trial saves and the job goes back into the queue.
    let limited =
        cluster.disturb("training of another trial", &[killed], |_, _, job| program("scancel", &["--batch", "--signal=USR1", job]));

    // What preemption does.
    let preempted = cluster.disturb("training of a third trial", &[killed, limited], |_, _, job| program("scontrol", &["requeue", job]));

    let table = cluster.settle();
    assert_eq!(table["counts"], json!({"pending": 0, "running": 0, "completed": 12, "failed": 2, "interrupted": 0}), "{table:#}");
    for trial in [killed, limited, preempted] {
        assert!(state(&table, trial)["attempts"].as_u64().unwrap() >= 2, "trial {trial}: {table:#}");
    }
    for trial in [12, 13] {
        assert!(state(&table, trial)["reason"].as_str().unwrap().contains("not finite"));
    }
    let csv = fs::read_to_string(folder.join("runs/sweeps/grid/trials.csv")).expect("the aggregating job has run");
    assert_eq!(csv.lines().count(), 15);

    let local = tempfile::tempdir().unwrap();
    fs::write(local.path().join("sweep.yml"), &text).unwrap();
    let undisturbed =
        CommandLine::new(HOST, local.path()).run(&["sweep", "sweep.yml", "--jobs", "2", "--format", "json"]).expect(1).last_line();
    for trial in 0..12 {
        let run = local.path().join(state(&undisturbed, trial)["run_dir"].as_str().unwrap());
        assert_same_end(&run, &cluster.run_dir(&table, trial));
    }

    // A resume submits what failed and nothing else.
    let resumed = cluster.submit(&["--resume", "--slurm", "extra=--nice=1"]);
    assert_eq!(resumed["arrays"].as_array().unwrap().iter().map(|array| array["trials"].as_u64().unwrap()).sum::<u64>(), 2);
    let table = cluster.settle();
    assert_eq!((table["counts"]["failed"].as_u64(), state(&table, 12)["attempts"].as_u64()), (Some(2), Some(2)));

    cluster.host.run(&["report", "runs/sweeps/grid", "--output", "report/grid.html"]).expect(0);
    let page = fs::read_to_string(folder.join("report/grid.html")).unwrap();
    assert!(
        page.contains("12 completed of 14 runs") && page.contains("not finite"),
        "the page counts the trials and says why two are missing"
    );
    let csv = fs::read_to_string(folder.join("report/grid-accuracy.csv")).unwrap();
    let groups: Vec<&str> = csv.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(groups, ["lr 0.001", "lr 0.002", "lr 0.003", "lr 0.004", "lr 0.005", "lr 0.006"]);
}

#[test]
fn cancelled_trials_save_and_go_on_later() {
    if !is_there() {
        return;
    }
    let cluster = Cluster::new(&grid(&[("0.001", LONG), ("0.002", LONG)]));
    cluster.submit(&[]);
    cluster.find("training", &[]);
    cluster.host.run(&["sweep", "runs/sweeps/grid", "--cancel"]).expect(0);
    let table = cluster.settle();
    let counts = &table["counts"];
    assert_eq!((counts["completed"].as_u64(), counts["failed"].as_u64()), (Some(0), Some(0)), "{table:#}");
    assert!(counts["pending"].as_u64() >= Some(2), "two trials never began: {table:#}");
    let saved = table["trials"].as_array().unwrap().iter().find(|state| state["run_dir"].is_string()).unwrap();
    assert_eq!(saved["status"], "interrupted");
    assert!(saved["reason"].as_str().unwrap().contains("interrupted on request"), "it saved before it ended: {saved}");
    let finished = cluster.host.run(&["sweep", "runs/sweeps/grid", "--resume", "--jobs", "2", "--format", "json"]).expect(0).last_line();
    assert_eq!(finished["counts"]["completed"], 4);
}

#[test]
fn the_first_failure_cancels_a_sweep_that_is_to_fail_fast() {
    if !is_there() {
        return;
    }
    let cluster = Cluster::new(&grid(&[(DIVERGING, SHORT), ("0.002", LONG), ("0.003", LONG), ("0.004", LONG)]));
    cluster.submit(&["--fail-fast"]);
    let table = cluster.settle();
    assert!(table["counts"]["failed"].as_u64().unwrap() >= 1 && table["counts"]["completed"] == 0, "{table:#}");
}

#[test]
fn an_option_that_slurm_refuses_is_an_error_with_its_words() {
    if !is_there() {
        return;
    }
    let cluster = Cluster::new(&fourteen());
    cluster.host.run(&["sweep", "sweep.yml", "--launcher", "slurm", "--slurm", "partition=absent"]).refused(1, &["sbatch", "partition"]);
}
