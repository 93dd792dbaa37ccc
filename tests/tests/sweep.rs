//! Sweeps through the program: definitions that are refused, trials that fail or are stopped, resumes, and what is left afterwards.

#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ibhost_tests::cli::{CommandLine, send};
use ibhost_tests::outcome::{assert_same_end, differences};
use serde_json::{Value, json};

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");

/// A grid of two temperatures and two seeds whose trials take a fraction of a second.
const GRID: &str = "
name: grid
run: {objective: vib, encoder: 'mlp/e1:16|e2:16|z:4', limit_train: 120, batch_size: 10, steps: 120, checkpoint_every: 7steps}
axes:
  objective.beta: [0.001, 0.1]
  seed: 0..1
";

fn host(folder: &Path) -> CommandLine {
    CommandLine::new(HOST, folder)
}

fn write(folder: &Path, text: &str) {
    fs::write(folder.join("sweep.yml"), text).unwrap();
}

/// Runs a sweep to its end and returns its table of states.
fn sweep(host: &CommandLine, arguments: &[&str], code: i32) -> Value {
    host.run(&[&["sweep", "--format", "json"], arguments].concat()).expect(code).last_line()
}

fn status(table: &Value, trial: usize) -> &str {
    let found = table["trials"].as_array().unwrap().iter().find(|state| state["trial"] == trial);
    found.unwrap_or_else(|| panic!("no trial {trial} in {table}"))["status"].as_str().unwrap()
}

fn run_dir(folder: &Path, table: &Value, trial: usize) -> PathBuf {
    let found = table["trials"].as_array().unwrap().iter().find(|state| state["trial"] == trial).unwrap();
    folder.join(found["run_dir"].as_str().unwrap_or_else(|| panic!("trial {trial} has no run: {found}")))
}

#[test]
fn wrong_definitions_are_refused_with_place_and_fix_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    for (text, words) in [
        (GRID.replace("0..1", "1..0"), &["`sweep.yml`, line 4: axes.seed", "write 0..1"][..]),
        (GRID.replace("steps: 120", "steps: ten"), &["`sweep.yml`, line 3: `steps`", "the text \"ten\"", "expected a whole number"]),
        (GRID.replace("[0.001, 0.1]", "[007]"), &["trial 0 (objective.beta=007", "`beta`", "007"]),
        (GRID.replace("objective.beta", "objective.bet"), &["trial 0", "bet", "beta"]),
        (GRID.replace("0.1]", "-0.1]"), &["trial 2 (objective.beta=-0.1, seed=0)"]),
        (GRID.replace("0.1]", "0.001]"), &["the same run"]),
        (GRID.replace("objective: vib", "objective: vibe"), &["vibe", "vib"]),
        (GRID.replace("name: grid", "nam: grid"), &["nam"]),
        (GRID.replace("name: grid", "name: a/b"), &["name", "a/b"]),
        (format!("{GRID}analyses: [salt_peper]"), &["analyses, item 1", "salt_pepper"]),
        (format!("{GRID}analyses: [swap_grid]"), &["trial 0", "swap_grid"]),
        (format!("{GRID}exclude: [{{seed: 7}}]"), &["exclude, item 1", "no trial is left out"]),
        (format!("{GRID}zip: [{{lr: [1, 2], limit_train: [1]}}]"), &["zip, group 1"]),
        ("- a".to_owned(), &["sweep.yml"]),
    ] {
        write(folder.path(), &text);
        host.run(&["sweep", "sweep.yml"]).refused(2, words);
    }
    write(folder.path(), GRID);
    host.run(&["sweep", "absent.yml"]).refused(2, &["absent.yml"]);
    host.run(&["sweep", "sweep.yml", "--sweep", "seed"]).refused(2, &["--sweep", "seed=0..9"]);
    host.run(&["sweep", "sweep.yml", "--sweep", "seed=1", "--sweep", "seed=2"]).refused(2, &["given twice"]);
    host.run(&["sweep", "sweep.yml", "--memory", "lots"]).refused(2, &["--memory", "4GiB"]);
    host.run(&["sweep", "sweep.yml", "--slurm", "colour=red"]).refused(2, &["colour"]);
    host.run(&["sweep", "sweep.yml", "--jobs", "0"]).refused(2, &["--jobs"]);
    host.run(&["sweep", "sweep.yml", "--status"]).refused(2, &["grid", "sweep.json"]);
    host.run(&["sweep", "--objective", "vib", "--sweep", "seed=0..1"]).refused(2, &["--name"]);
    assert!(!folder.path().join("runs").exists());
}

#[test]
fn a_dry_run_prints_numbered_commands_that_resolve_to_the_trials() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    write(folder.path(), &format!("{GRID}exclude: [{{objective.beta: 0.001, seed: 1}}]\n"));
    let shown = host.run(&["sweep", "sweep.yml", "--sweep", "lr=linear(0.001,0.002,2)", "--dry-run", "--format", "json"]).expect(0);
    let trials: Value = serde_json::from_str(&shown.stdout).unwrap();
    let numbers: Vec<u64> = trials.as_array().unwrap().iter().map(|trial| trial["trial"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [0, 1, 4, 5, 6, 7]);
    assert_eq!(trials[3]["axes"], json!({"objective.beta": 0.1, "seed": 0, "lr": 0.002}));
    let command: Vec<&str> = trials[3]["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(command[..2], ["ibhost", "run"]);
    let resolved = host.run(&[&command[1..], &["--dry-run"]].concat()).expect(0).stdout;
    let flags = ["--objective", "vib/beta:0.1", "--encoder", "mlp/e1:16|e2:16|z:4", "--limit-train", "120", "--batch-size", "10"];
    let more = ["--steps", "120", "--checkpoint-every", "7steps", "--lr", "0.002", "--dry-run"];
    assert_eq!(resolved, host.run(&[&["run"], &flags[..], &more].concat()).expect(0).stdout);
    let table = host.run(&["sweep", "sweep.yml", "--dry-run"]).expect(0).stdout;
    assert!(table.contains("\n2  objective.beta=0.1, seed=0\n    ibhost run --objective "), "{table}");
    for sweeps in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins")).unwrap() {
        for file in fs::read_dir(sweeps.unwrap().path().join("sweeps")).into_iter().flatten() {
            let path = file.unwrap().path();
            host.run(&["sweep", path.to_str().unwrap(), "--dry-run"]).expect(0);
        }
    }
    assert!(!folder.path().join("runs").exists());
}

#[test]
fn a_trial_that_fails_alters_no_other_and_a_resume_runs_only_what_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let grid = GRID.replace("objective.beta: [0.001, 0.1]", "lr: [0.001, 1e30]") + "analyses: [curves]\n";
    write(folder.path(), &grid);
    let table = sweep(&host, &["sweep.yml", "--jobs", "2"], 1);
    assert_eq!([0, 1, 2, 3].map(|trial| status(&table, trial)), ["completed", "completed", "failed", "failed"]);
    let reason = table["trials"][2]["reason"].as_str().unwrap();
    assert!(reason.contains("not finite"), "{reason}");
    let log = fs::read_to_string(folder.path().join(table["trials"][2]["log"].as_str().unwrap())).unwrap();
    assert!(log.contains("not finite"));
    let other = fs::read_to_string(folder.path().join(table["trials"][0]["log"].as_str().unwrap())).unwrap();
    assert!(!other.contains("not finite") && other.contains("trial 0 (lr=0.001, seed=0)"), "{other}");
    for (trial, seed) in [(0, "0"), (1, "1")] {
        let flags = ["--objective", "vib", "--encoder", "mlp/e1:16|e2:16|z:4", "--limit-train", "120", "--batch-size", "10", "--steps"];
        let (_, alone) = host.train(&[&flags[..], &["120", "--checkpoint-every", "7steps", "--lr", "0.001", "--seed", seed]].concat());
        assert_same_end(&alone, &run_dir(folder.path(), &table, trial));
        assert!(run_dir(folder.path(), &table, trial).join("analyses/curves.json").exists());
    }
    host.run(&["sweep", "sweep.yml"]).refused(2, &["exists already", "--resume", "--status"]);
    write(folder.path(), &grid.replace("seed: 0..1", "seed: 0..2"));
    host.run(&["sweep", "sweep.yml", "--resume"]).refused(2, &["axes.seed was \"0..1\", is \"0..2\"", "another `name`"]);
    write(folder.path(), &grid);
    let again = sweep(&host, &["sweep.yml", "--resume"], 1);
    let attempts: Vec<u64> = again["trials"].as_array().unwrap().iter().map(|state| state["attempts"].as_u64().unwrap()).collect();
    assert_eq!(attempts, [1, 1, 2, 2]);
    assert_eq!(again["counts"], json!({"pending": 0, "running": 0, "completed": 2, "failed": 2, "interrupted": 0}));
    assert_eq!(sweep(&host, &["runs/sweeps/grid", "--status"], 0)["counts"], again["counts"]);
    let csv = fs::read_to_string(folder.path().join("runs/sweeps/grid/trials.csv")).unwrap();
    assert!(csv.starts_with("trial,status,attempts,seconds,lr,seed,train.loss") && csv.lines().count() == 5, "{csv}");
    let listed = host.run(&["runs", "sweep=grid", "lr<1", "--sort", "-seed", "--format", "json"]).expect(0).stdout;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed.as_array().unwrap().iter().map(|run| run["trial"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 0]);
    host.run(&["runs", "sed=1"]).refused(2, &["sed", "seed"]);
}

#[test]
fn the_first_failure_stops_a_sweep_that_is_to_fail_fast() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    write(folder.path(), &GRID.replace("objective.beta: [0.001, 0.1]", "lr: [1e30, 0.001]").replace("0..1", "0..9"));
    let table = sweep(&host, &["sweep.yml", "--jobs", "1", "--fail-fast"], 1);
    assert_eq!((status(&table, 0), status(&table, 19)), ("failed", "pending"));
}

#[test]
fn labels_of_an_axis_filter_runs_and_make_rows_of_a_report_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let axes = "axes:\n  size: {wide: {encoder.e1: 32}, narrow: {encoder.e1: 8}}\n  seed: 0..1\n";
    let grid = GRID.split("axes:").next().unwrap().to_owned() + axes;
    write(folder.path(), &grid);
    sweep(&host, &["sweep.yml", "--jobs", "2"], 0);
    let found: Value = serde_json::from_str(&host.run(&["runs", "size=narrow", "--format", "json"]).expect(0).stdout).unwrap();
    assert_eq!(found.as_array().unwrap().len(), 2, "{found}");
    // The report may change after the sweep, and its template is also read from the sweep's file.
    let rows = "report: {sections: [{title: Size, table: {rows: [size], values: [test.accuracy], reference: theirs, \
                published: [{at: {size: wide}, values: {test.accuracy: 0.5}}]}}]}\n";
    write(folder.path(), &(grid + rows));
    sweep(&host, &["sweep.yml", "--resume"], 0);
    host.run(&["report", "runs/sweeps/grid", "--output", "a.html"]).expect(0);
    host.run(&["report", "runs", "--template", "sweep.yml", "--output", "b.html"]).expect(0);
    let csv = fs::read_to_string(folder.path().join("a-size.csv")).unwrap();
    assert_eq!(csv, fs::read_to_string(folder.path().join("b-size.csv")).unwrap());
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].ends_with("test.accuracy / share (theirs)"), "{csv}");
    assert!(lines[1].starts_with("wide,") && lines[1].ends_with(",2,0.5"), "{csv}");
    assert!(lines[2].starts_with("narrow,") && lines[2].ends_with(",2,"), "{csv}");
}

#[test]
fn a_limit_on_memory_fails_the_trial_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &GRID.replace("e1:16", "e1:30000").replace("e2:16", "e2:30000").replace("0..1", "0..0"));
    let table = sweep(&host(folder.path()), &["sweep.yml", "--jobs", "1", "--memory", "1GiB"], 1);
    let reason = table["trials"][0]["reason"].as_str().unwrap();
    assert!(status(&table, 0) == "failed" && reason.contains("memory"), "{reason}");
}

/// Waits until `done` holds.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_mins(2), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether some trial of the sweep `grid` has measured something.
fn under_way(folder: &Path) -> bool {
    let trials = fs::read_dir(folder.join("runs/sweeps/grid/trials")).into_iter().flatten().flatten();
    let runs = trials.flat_map(|trial| fs::read_dir(trial.path()).into_iter().flatten().flatten());
    let mut logs = runs.map(|run| run.path().join("metrics.jsonl"));
    logs.any(|log| fs::metadata(log).is_ok_and(|file| file.len() > 0))
}

#[test]
fn an_interrupted_sweep_saves_its_trials_and_continues_to_the_same_end() {
    let [whole, broken] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let grid = GRID.replace("steps: 120", "steps: 1200");
    for folder in [&whole, &broken] {
        write(folder.path(), &grid);
    }
    let undisturbed = sweep(&host(whole.path()), &["sweep.yml", "--jobs", "2"], 0);
    let host = host(broken.path());
    let mut child = host.command(&["sweep", "sweep.yml", "--jobs", "2", "--format", "json"]).spawn().unwrap();
    wait_until("training", || under_way(broken.path()));
    host.run(&["sweep", "runs/sweeps/grid", "--resume"]).refused(1, &["in use by process"]);
    send("INT", &child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let table = sweep(&host, &["runs/sweeps/grid", "--status"], 0);
    assert_eq!((status(&table, 0), status(&table, 3)), ("interrupted", "pending"), "{table}");
    let table = sweep(&host, &["runs/sweeps/grid", "--resume"], 0);
    for trial in 0..4 {
        assert_same_end(&run_dir(whole.path(), &undisturbed, trial), &run_dir(broken.path(), &table, trial));
    }
    let [a, b] = [0, 1].map(|trial| run_dir(broken.path(), &table, trial));
    assert!(!differences(&a, &b).is_empty(), "two seeds gave the same run");
}
