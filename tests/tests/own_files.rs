//! Of the folders of runs and sweeps the program opens, lists and removes only what it wrote there itself: links, pipes, stray files,
//! folders of others and snapshots by hard links stay as they are and are named.
//!
//! `IBHOST_SOAK=1` kills at more places of a run's end.

#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use ibhost_framework::storage::tensors::from_bytes;
use ibhost_tests::cli::{CommandLine, Ended, entries, first_run, newest_checkpoint, tiny_run, yaml};
use ibhost_tests::fault_plan::PLAN;
use ibhost_tests::outcome::{assert_same_end, soaking};
use serde_json::Value;

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");
const RUN: [&str; 12] = tiny_run("mlp/e1:4|e2:4|z:2", "9", "4steps");
/// What a run gets drawn at its end.
const DRAWN: [&str; 4] = ["plots/curves.png", "analyses/curves.json", "plots/latent-representation.png", "analyses/latent_plot.json"];

fn host(folder: &Path) -> CommandLine {
    CommandLine::new(HOST, folder)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A run that is killed at the first change of the disk whose path contains `place`.
fn killed_at(host: &CommandLine, folder: &Path, output: &str, place: &str) -> PathBuf {
    let start = [&["run", "--output-dir", output], &RUN[..]].concat();
    let ended = host.command(&start).env(PLAN, format!("kill@1:{place}")).output().unwrap();
    assert!(!ended.status.success(), "{place}: {ended:?}");
    first_run(&folder.join(output)).unwrap()
}

/// Content of every file below `folder` that is no link, and every other name.
fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let plain = |name: &str| fs::symlink_metadata(folder.join(name)).is_ok_and(|found| found.is_file());
    entries(folder)
        .into_iter()
        .map(|name| (name.clone(), if plain(&name) { fs::read(folder.join(&name)).unwrap() } else { Vec::new() }))
        .collect()
}

/// `from` copied to `to` with links, as `cp -a` does, or as a snapshot of hard links.
fn copy(from: &Path, to: &Path, snapshot: bool) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy(&path, &target, snapshot);
        } else if snapshot {
            fs::hard_link(&path, &target).unwrap();
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn links_and_pipes_in_a_run_are_named_and_what_they_lead_to_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let sound = killed_at(&host, folder.path(), "sound", "last-000000009");
    let other = killed_at(&host, folder.path(), "other", "last-000000009");
    // Somebody's own files, and a run of theirs.
    let theirs = folder.path().join("theirs");
    copy(&other, &theirs.join("run"), false);
    fs::write(theirs.join("document"), "text\n").unwrap();
    let before = content(&theirs);
    let files = [".lock", "log.txt", "metrics.jsonl", "config.yml", "summary.yml", "manifest.json", ".run.json"];
    let folders = ["checkpoints", "plots", "analyses", "tensorboard"];
    let mut cases: Vec<(&str, Option<PathBuf>)> = files.iter().map(|name| (*name, Some(theirs.join("document")))).collect();
    cases.extend(folders.iter().flat_map(|name| [(*name, Some(theirs.join("run").join(name))), (*name, Some(theirs.join("run")))]));
    cases.extend(files.iter().map(|name| (*name, None)));
    for (number, (name, target)) in cases.iter().enumerate() {
        let run = folder.path().join(format!("case-{number}"));
        copy(&sound, &run, false);
        let path = run.join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        } else {
            fs::remove_file(&path).unwrap_or_default();
        }
        match target {
            Some(target) => symlink(target, &path).unwrap(),
            None => pipe(&path),
        }
        let resume: &[&str] = if *name == "checkpoints" { &["resume", "--skip-damaged"] } else { &["resume"] };
        for command in [&["verify"][..], &["analyze", "--analysis", "curves"], resume] {
            let ended = host.run(&[command, &[text(&run)]].concat());
            let place = format!("{name} as {} with {command:?}: {ended:#?}", target.as_ref().map_or("a pipe", |_| "a link"));
            let named = ended.stderr.contains(&format!("{name}` is not opened: it is a")) && ended.stderr.contains("hint: remove it");
            // Not every command needs every file.
            assert!(ended.code == Some(1) && named || (ended.code == Some(0) && command[0] == "analyze"), "{place}");
            assert!(fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file() && !found.is_dir()), "{place}");
            assert_eq!(content(&theirs), before, "{place}");
        }
    }
    // Through a link to the whole folder of a run everything works as ever.
    symlink(&sound, folder.path().join("name")).unwrap();
    host.run(&["resume", text(&folder.path().join("name"))]).expect(0);
    host.run(&["verify", text(&folder.path().join("name"))]).expect(0);
}

#[test]
fn a_lock_and_a_log_that_share_their_bytes_with_a_document_leave_it_alone_and_no_name_begins_a_line_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let run = killed_at(&host, folder.path(), "runs", "last-000000009");
    let broken = folder.path().join("runs/a\nalias ls='rm -r'\u{1b}[2K");
    fs::rename(&run, &broken).unwrap();
    let document = folder.path().join("document");
    fs::write(&document, "text\n").unwrap();
    for name in [".lock", "log.txt"] {
        fs::remove_file(broken.join(name)).unwrap();
        fs::hard_link(&document, broken.join(name)).unwrap();
    }
    host.run(&["analyze", text(&broken), "--analysis", "curves"]).expect(0);
    host.run(&["resume", text(&broken)]).expect(0);
    assert_eq!(fs::read_to_string(&document).unwrap(), "text\n");
    let log = fs::read_to_string(broken.join("log.txt")).unwrap();
    assert!(log.contains("\\nalias ls='rm -r'\\") && !log.contains('\u{1b}'), "{log}");
    assert!(!log.lines().any(|line| line.starts_with("alias")), "{log}");
    host.run(&["verify", text(&broken)]).expect(0);
    // No folder of ours is made under such a name.
    host.run(&[&["run", "--output-dir", "new\nfolder"], &RUN[..]].concat()).refused(2, &["new\\nfolder", "control characters"]);
}

#[test]
fn a_snapshot_by_hard_links_and_its_original_do_not_change_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let (_, whole) = host.train(&[&RUN[..], &["--output-dir", "whole"]].concat());
    let original = killed_at(&host, folder.path(), "runs", "last-000000009");
    let snapshot = folder.path().join("snapshot");
    copy(&original, &snapshot, true);
    assert!(fs::metadata(snapshot.join("metrics.jsonl")).unwrap().nlink() == 2);
    let before = content(&snapshot);
    host.run(&["resume", text(&original)]).expect(0);
    assert_eq!(content(&snapshot), before);
    let before = content(&original);
    host.run(&["resume", text(&snapshot)]).expect(0);
    host.run(&["analyze", text(&snapshot), "--analysis", "curves"]).expect(0);
    assert_eq!(content(&original), before);
    for run in [&original, &snapshot] {
        host.run(&["verify", text(run)]).expect(0);
        assert_same_end(&whole, run);
    }
}

#[test]
fn wherever_a_run_is_killed_at_its_end_a_resume_draws_what_is_missing_and_closes_the_list_of_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let all = ["curves.png", "latent_plot.json", "information-plane.png", "curves.json", "curves.csv", "latent-representation.png"];
    let places = if soaking() { &all[..] } else { &all[..2] };
    for (number, place) in places.iter().enumerate() {
        let run = killed_at(&host, folder.path(), &format!("runs-{number}"), place);
        assert_eq!(yaml(&run.join("summary.yml"))["status"], "completed");
        let open = host.run(&["verify", text(&run)]).expect(0);
        assert!(open.stdout.contains("is open") && !open.stdout.contains("is sound") && open.stderr.contains("ibhost resume"), "{open:#?}");
        let written = DRAWN.iter().filter(|name| run.join(name).exists());
        assert!(written.clone().all(|name| open.stdout.contains(name)), "what is not covered is named: {open:#?}");
        let drawn = host.run(&["resume", text(&run)]).expect(0);
        assert!(drawn.stderr.contains("drew what was missing") && drawn.stderr.contains("latent_plot"), "{place}: {drawn:#?}");
        assert!(DRAWN.iter().all(|name| run.join(name).exists()), "{place}");
        let sound = host.run(&["verify", text(&run)]).expect(0);
        assert!(sound.stdout.contains("is sound"), "{sound:#?}");
        assert!(!run.join(".unlisted").exists());
        let again = content(&run);
        let nothing = host.run(&["resume", text(&run)]).expect(0);
        assert!(nothing.stderr.contains("nothing to do"), "{nothing:#?}");
        assert_eq!(content(&run), again, "a run that lacks nothing is not touched");
        if number > 0 {
            continue;
        }
        fs::remove_file(run.join("plots/curves.png")).unwrap();
        host.run(&["verify", text(&run)]).expect(1);
        host.run(&["resume", text(&run)]).expect(0);
        host.run(&["verify", text(&run)]).expect(0);
    }
}

#[test]
fn the_next_command_closes_a_list_that_a_kill_left_open_and_takes_in_no_stray_file() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let run = killed_at(&host, folder.path(), "runs", "curves.json");
    let analyze = ["analyze", text(&run), "--analysis", "salt_pepper"];
    host.command(&analyze).env(PLAN, "kill@1:salt_pepper.csv").output().unwrap();
    let strays = ["notes.txt", ".ibhost-index.sqlite", "plots/mine.png", "analyses/mine.json", "tensorboard/train/mine"];
    for stray in strays {
        fs::write(run.join(stray), "x").unwrap();
    }
    let open = host.run(&["verify", text(&run)]).expect(0);
    assert!(strays.iter().all(|stray| open.stdout.contains(stray)) && !open.stdout.contains("config.yml"), "{open:#?}");
    host.run(&["analyze", text(&run), "--analysis", "curves"]).expect(0);
    let found = host.run(&["verify", text(&run)]).expect(1);
    assert!(strays.iter().all(|stray| found.stderr.contains(&format!("{stray}` does not belong here"))), "{found:#?}");
    for stray in strays {
        fs::remove_file(run.join(stray)).unwrap();
    }
    host.run(&["verify", text(&run)]).expect(0);
    // What the process that was killed had written is covered now, also while other results are added.
    let document = run.join("analyses/salt_pepper.json");
    let changed = fs::read_to_string(&document).unwrap().replace("accuracy", "accurary");
    fs::write(&document, changed).unwrap();
    for _ in 0..2 {
        let found = host.run(&["verify", text(&run)]).expect(1);
        assert!(found.stderr.contains("salt_pepper.json` is damaged"), "{found:#?}");
        host.run(&["analyze", text(&run), "--analysis", "curves"]).expect(0);
    }
    // Written anew, it is what the program wrote again.
    host.run(&analyze).expect(0);
    host.run(&["verify", text(&run)]).expect(0);
}

#[test]
fn a_checkpoint_with_somebody_s_file_in_it_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let run = killed_at(&host, folder.path(), "runs", "last-000000009");
    let mine = run.join("checkpoints/last-000000004/mine.txt");
    fs::write(&mine, "x").unwrap();
    let resumed = host.run(&["resume", text(&run)]).expect(0);
    assert!(resumed.stderr.contains("last-000000004/mine.txt` does not belong here") && mine.exists(), "{resumed:#?}");
    // One that cannot be skipped without removing it is named as well.
    let run = killed_at(&host, folder.path(), "more", "last-000000009");
    let mine = newest_checkpoint(&run, "last").join("mine.txt");
    fs::write(&mine, "x").unwrap();
    host.run(&["resume", text(&run), "--skip-damaged"]).refused(1, &["mine.txt", "move it elsewhere"]);
    assert!(mine.exists());
}

const GRID: &str = "
name: grid
run: {objective: vib, encoder: 'mlp/e1:4|e2:4|z:4', limit_train: 60, batch_size: 20, steps: 6}
axes:
  seed: 0..3
";

/// What a sweep says at its end, with its exit code.
fn sweep(host: &CommandLine, code: i32) -> (Value, Ended) {
    let ended = host.run(&["sweep", "sweep.yml", "--resume", "--format", "json"]).expect(code);
    (ended.last_line(), ended)
}

#[test]
fn a_resumed_sweep_leaves_what_it_cannot_read_and_the_other_trials_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    fs::write(folder.path().join("sweep.yml"), GRID).unwrap();
    host.run(&["sweep", "sweep.yml"]).expect(0);
    let trial = |number: usize| folder.path().join(format!("runs/sweeps/grid/trials/{number:06}"));
    for number in 0..4 {
        let state = trial(number).join("state.json");
        fs::write(&state, fs::read_to_string(&state).unwrap().replace("completed", "interrupted")).unwrap();
    }
    let run = |number: usize| first_run(&trial(number)).unwrap();
    // A folder with a file, a changed byte, a run of another trial, and a trial that is a link to another's.
    let (first, second) = (run(0), run(1));
    fs::create_dir(trial(0).join("mine")).unwrap();
    fs::write(trial(0).join("mine/notes.txt"), "x").unwrap();
    let identity = fs::read(second.join(".run.json")).unwrap();
    fs::write(second.join(".run.json"), [&identity[..9], b"\xff", &identity[10..]].concat()).unwrap();
    let second_before = content(&second);
    let third = run(2);
    fs::rename(&third, trial(0).parent().unwrap().join("000003").join(third.file_name().unwrap())).unwrap();
    fs::remove_dir_all(trial(2)).unwrap();
    symlink("000000", trial(2)).unwrap();
    let (table, ended) = sweep(&host, 1);
    let statuses: Vec<&str> = table["trials"].as_array().unwrap().iter().map(|trial| trial["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["completed", "failed", "pending", "failed"], "{ended:#?}");
    let reason = |number: usize| table["trials"][number]["reason"].as_str().unwrap();
    assert!(reason(1).contains(".run.json") && reason(3).contains("two runs"), "{table}");
    assert!(ended.stderr.contains("000002` is not opened: it is a link"), "{ended:#?}");
    assert!(first.is_dir() && trial(0).join("mine/notes.txt").exists());
    assert_eq!(content(&second), second_before);

    // A run under the number of another trial is not continued there.
    fs::remove_dir_all(run(3)).unwrap();
    let moved = first_run(&trial(3)).unwrap();
    let other = if moved.file_name() == third.file_name() { moved } else { trial(3).join(third.file_name().unwrap()) };
    if other.exists() {
        let (table, ended) = sweep(&host, 1);
        let reason = table["trials"][3]["reason"].as_str().unwrap();
        assert!(reason.contains("`seed`") && other.exists(), "{ended:#?}");
        fs::remove_dir_all(&other).unwrap();
    }
    fs::write(second.join(".run.json"), identity).unwrap();
    fs::remove_file(trial(2)).unwrap();
    sweep(&host, 0);
}

#[test]
fn nothing_is_written_into_a_run_or_among_the_trials_of_a_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    fs::write(folder.path().join("sweep.yml"), GRID).unwrap();
    host.run(&["sweep", "sweep.yml", "--set", "steps=3"]).expect(0);
    let trial = folder.path().join("runs/sweeps/grid/trials/000000");
    let run = first_run(&trial).unwrap();
    symlink(run.join("plots"), folder.path().join("elsewhere")).unwrap();
    let before = content(&folder.path().join("runs"));
    for place in [text(&run), text(&run.join("plots")), text(&folder.path().join("elsewhere"))] {
        host.run(&[&["run", "--output-dir", place], &RUN[..]].concat()).refused(2, &["lies in the run", "hint:"]);
        host.run(&["sweep", "sweep.yml", "--output-dir", place]).refused(2, &["lies in the run"]);
        let page = format!("{place}/summary.yml");
        host.run(&["report", text(&run), "--output", &page]).refused(2, &["lies in the run"]);
        host.run(&["compare", "--comparison", "mean_curves", text(&run), "--output", &page]).refused(2, &["lies in the run"]);
    }
    for place in [run.join("new"), folder.path().join("elsewhere/new")] {
        host.run(&["data", "fetch", "mnist", "--data-dir", text(&place)]).refused(2, &["lies in the run"]);
        host.run(&["new-plugin", "ceb", "--ibhost", concat!(env!("CARGO_MANIFEST_DIR"), "/.."), "--path", text(&place)])
            .refused(2, &["lies in the run"]);
    }
    host.run(&[&["run", "--output-dir", text(&trial)], &RUN[..]].concat()).refused(2, &["among the trials of a sweep"]);
    assert_eq!(content(&folder.path().join("runs")), before);
}

#[test]
fn a_run_can_begin_with_the_average_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    // Running statistics are no part of an average, and the network needs them all the same.
    let network = ["--objective", "vib", "--encoder", "resnet20/z:2", "--limit-train", "20", "--batch-size", "10", "--steps", "2"];
    let (_, run) = host.train(&[&network[..], &["--average", "0.5"]].concat());
    let checkpoint = newest_checkpoint(&run, "last");
    let tensors = |name: &str| from_bytes(&fs::read(checkpoint.join(name)).unwrap()).unwrap();
    let (weights, average) = (tensors("weights.safetensors"), tensors("average.safetensors"));
    assert!(weights.keys().eq(average.keys()) && weights.values().map(|w| &w.shape).eq(average.values().map(|a| &a.shape)));
    assert!(weights.iter().any(|(name, weight)| average[name] != *weight));
    for (name, moment) in tensors("optimiser.safetensors") {
        let parameter = name.splitn(3, '.').nth(2).unwrap();
        assert_eq!(moment.shape, weights[parameter].shape, "{name}");
    }
    let from = format!("initial_weights={}", text(&checkpoint.join("average.safetensors")));
    let (result, started) = host.train(&[&network[..8], &["--steps", "1", "--lr", "1e-30", "--set", &from]].concat());
    assert_eq!(result["status"], "completed");
    let kept = from_bytes(&fs::read(newest_checkpoint(&started, "last").join("weights.safetensors")).unwrap()).unwrap();
    assert!(kept.iter().filter(|(name, _)| name.ends_with("weight")).all(|(name, weight)| average[name] == *weight));
}
