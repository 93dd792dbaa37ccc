//! A disk that fails at any single operation, fills up, is full from the start, or goes away: the run says so, keeps what it had, and can
//! be continued.
//!
//! `IBHOST_SOAK=1` fails every operation of a whole run instead of a sample of them.

#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ibhost_tests::cli::{CommandLine, Ended, entries, send, tiny_run, wait_for_metrics, yaml};
use ibhost_tests::fault_plan::{PLAN, TRACE};
use ibhost_tests::outcome::{assert_same_end, soaking};

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");
const ENCODER: &str = "mlp/e1:8|e2:8|z:2";
const RUN: [&str; 12] = tiny_run(ENCODER, "6", "2steps");

/// The command line that does `run` below `output`.
fn into<'a>(run: &[&'a str], output: &'a str) -> Vec<&'a str> {
    [&["run"], run, &["--output-dir", output]].concat()
}

/// `arguments` for a shell.
fn quoted(arguments: &[&str]) -> String {
    arguments.iter().map(|argument| format!("'{argument}'")).collect::<Vec<_>>().join(" ")
}

fn ended(output: std::process::Output) -> Ended {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { line: RUN.join(" "), code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// The one folder in `output`, if there is one.
fn only_run(output: &Path) -> Option<PathBuf> {
    fs::read_dir(output).ok()?.next()?.ok().map(|entry| entry.path())
}

#[test]
fn whichever_disk_operation_of_a_run_fails_it_ends_in_order_and_can_be_continued() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let trace = folder.path().join("trace");
    ended(host.command(&into(&RUN, "whole")).env(TRACE, &trace).output().unwrap()).expect(0);
    let whole = only_run(&folder.path().join("whole")).unwrap();
    let operations = fs::read_to_string(&trace).unwrap().lines().count();
    assert!(operations > 100, "{operations} operations");

    let (mut struck, mut refused, mut resumed, mut unnoticed) = (0, 0, 0, 0);
    // A stride that is coprime to the length of the patterns in the trace meets every kind of operation.
    let stride = if soaking() { 1 } else { 23 };
    for what in ["device", "full", "full-from"] {
        let creation = 1..=30;
        let rest = (31..=operations).step_by(stride);
        for n in creation.step_by(if soaking() { 1 } else { 4 }).chain(rest) {
            struck += 1;
            let output = format!("{what}-{n}");
            let child = host.command(&into(&RUN, &output)).env(PLAN, format!("{what}@{n}")).output().unwrap();
            let child = ended(child);
            assert!(matches!(child.code, Some(0 | 1)) && !child.stderr.contains("panicked"), "{what}@{n}: {child:#?}");
            if child.code == Some(1) {
                refused += 1;
                assert!(child.stderr.contains("error: cannot "), "{what}@{n}: {child:#?}");
            }
            let Some(broken) = only_run(&folder.path().join(&output)) else {
                assert_eq!(child.code, Some(1));
                continue;
            };
            if !broken.join(".run.json").exists() {
                // A disk that refuses everything cannot be tidied either; what stays is no run.
                assert_eq!(what, "full-from");
                continue;
            }
            if !broken.join("summary.yml").exists() {
                assert_eq!(what, "full-from");
                host.run(&["resume", broken.to_str().unwrap()]).refused(1, &["before its first step"]);
                continue;
            }
            host.run(&["verify", broken.to_str().unwrap()]).expect(0);
            if yaml(&broken.join("summary.yml"))["status"] == "completed" {
                unnoticed += usize::from(child.code == Some(0));
            } else {
                assert_eq!(child.code, Some(1), "{what}@{n}");
                host.run(&["resume", broken.to_str().unwrap()]).expect(0);
                resumed += 1;
            }
            assert_same_end(&whole, &broken);
            fs::remove_dir_all(folder.path().join(&output)).unwrap();
        }
    }
    println!(
        "{struck} faults over {operations} operations: {refused} runs ended with an error, {resumed} were resumed, {unnoticed} only lost a plot \
         or the note of who held the lock"
    );
    assert!(refused > struck / 2 && resumed > 10, "{refused} of {struck}, {resumed} resumed");
}

/// `script` under `sh` in a mount namespace of its own, where a small file system can be mounted without harming anyone; `None` with a
/// printed reason where that is not permitted.
fn in_own_namespace(script: &str) -> Option<Ended> {
    let allowed = Command::new("unshare").args(["-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]).output();
    if !allowed.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped: this machine does not permit mounting a small file system: {allowed:?}");
        return None;
    }
    Some(ended(Command::new("unshare").args(["-rm", "sh", "-c", script]).output().unwrap()))
}

#[test]
fn a_full_disk_is_named_and_what_was_saved_stays_valid() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = quoted(&into(&tiny_run(ENCODER, "4000", "40steps"), "runs"));
    let mut refused = 0;
    // From no room for the run's own files, over no room for a checkpoint, to room for some.
    for kilobytes in [16, 64, 200, 300] {
        let kept = folder.path().join(kilobytes.to_string());
        let script = format!(
            "mount -t tmpfs -o size={kilobytes}k tmpfs /mnt && cd /mnt && mkdir runs && '{HOST}' {arguments}; code=$?; \
             cp -a runs '{}'; exit $code",
            kept.display()
        );
        let Some(ended) = in_own_namespace(&script) else { return };
        let ended = ended.expect(1);
        assert!(ended.stderr.contains("the disk is full") || ended.stderr.contains("No space left"), "{kilobytes}k: {ended:#?}");
        refused += 1;
        let host = CommandLine::new(HOST, folder.path());
        let Some(run) = only_run(&kept).filter(|run| run.join("summary.yml").exists()) else { continue };
        host.run(&["verify", run.to_str().unwrap()]).expect(0);
        println!("{kilobytes}k: {} and {:?}", yaml(&run.join("summary.yml"))["status"], entries(&run.join("checkpoints")).first());
        let saved = entries(&run.join("checkpoints")).iter().any(|name| name.starts_with("last-"));
        assert!(saved || kilobytes < 200, "{kilobytes}k left no checkpoint");
    }
    assert_eq!(refused, 4);
}

#[test]
fn a_file_size_limit_is_an_error_and_not_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = quoted(&into(&RUN, "runs"));
    // 4 blocks of 512 bytes: room for the settings, not for the weights.
    let script = format!("ulimit -f 4; exec '{HOST}' {arguments}");
    let output = Command::new("sh").args(["-c", &script]).current_dir(folder.path()).output().unwrap();
    let ended = ended(output).expect(1);
    assert!(ended.stderr.contains("error: cannot write"), "{ended:#?}");
}

#[test]
fn a_read_only_folder_is_refused_before_anything_is_computed() {
    let script = format!(
        "mount -t tmpfs -o size=1m tmpfs /mnt && mount -o remount,ro /mnt && cd /tmp && exec '{HOST}' {}",
        quoted(&into(&RUN, "/mnt/runs"))
    );
    let Some(ended) = in_own_namespace(&script) else { return };
    ended.refused(1, &["/mnt/runs", "read-only", "another folder"]);
}

#[test]
fn a_folder_without_permission_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (home, runs) = (folder.path().join("home"), folder.path().join("runs"));
    for (path, mode) in [(folder.path(), 0o755), (&home, 0o777), (&runs, 0o555)] {
        fs::create_dir_all(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    // Permissions do not bind the superuser, who therefore becomes nobody first.
    let superuser = fs::write(runs.join("probe"), "").is_ok();
    let mut command = if superuser {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", HOST]);
        command
    } else {
        Command::new(HOST)
    };
    command.args(into(&RUN, runs.to_str().unwrap())).current_dir(&home).env("HOME", &home);
    match command.output() {
        Ok(output) if matches!(output.status.code(), Some(126 | 127)) => println!("skipped: nobody cannot run {HOST}: {output:?}"),
        Ok(output) => ended(output).refused(1, &["runs", "permission is missing", "owner and mode"]),
        Err(error) => println!("skipped: the superuser cannot become nobody here: {error}"),
    }
}

#[test]
fn a_run_whose_folder_goes_away_stops_and_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let endless = tiny_run(ENCODER, "100000000", "2steps");
    let mut child = host.command(&into(&endless, "runs")).spawn().unwrap();
    let run = wait_for_metrics(&folder.path().join("runs"), &mut child);
    let begin = Instant::now();
    // The run may be creating a file in the folder while it is emptied.
    while fs::remove_dir_all(&run).is_err() && run.exists() {
        assert!(begin.elapsed() < Duration::from_mins(1));
    }
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > Duration::from_mins(2) {
            send("KILL", &child);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let ended = ended(child.wait_with_output().unwrap()).expect(1);
    assert!(ended.stderr.contains(run.file_name().unwrap().to_str().unwrap()) && ended.stderr.contains("cannot "), "{ended:#?}");
}
