//! Damage of any file of a run is found by `ibhost verify` and named; the newest sound checkpoint is offered and can be taken.
//!
//! `IBHOST_SOAK=1` flips a bit in three hundred bytes of each file (all of a smaller one) instead of in a dozen.

use std::fs;
use std::path::{Path, PathBuf};

use ibhost_tests::cli::{CommandLine, Ended, entries, newest_checkpoint, tiny_run};
use ibhost_tests::fault_plan::PLAN;
use ibhost_tests::outcome::{assert_same_end, soaking};

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");
const RUN: [&str; 12] = tiny_run("mlp/e1:4|e2:4|z:2", "9", "4steps");
const AVERAGE: [&str; 2] = ["--average", "0.9"];

/// Files that hold no setting and no result: the lock, and messages for people.
const NOT_COVERED: [&str; 2] = [".lock", "log.txt"];

struct Subject {
    host: CommandLine,
    run: PathBuf,
    _folder: tempfile::TempDir,
}

impl Subject {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = CommandLine::new(HOST, folder.path());
        let (_, run) = host.train(&[&RUN[..], &AVERAGE].concat());
        host.run(&["analyze", run.to_str().unwrap(), "--analysis", "salt_pepper/p:[0.1]"]).expect(0);
        Self { host, run, _folder: folder }
    }

    /// Every file that must be covered, relative to the run.
    fn files(&self) -> Vec<String> {
        entries(&self.run).into_iter().filter(|name| !name.ends_with('/') && !NOT_COVERED.contains(&name.as_str())).collect()
    }

    fn verify(&self) -> Ended {
        self.host.run(&["verify", self.run.to_str().unwrap()])
    }

    /// Checks that damage of `file` is found and the file named.
    fn assert_found(&self, file: &str, what: &str) {
        let ended = self.verify();
        let name = Path::new(file).file_name().unwrap().to_str().unwrap();
        // Where the run's identity is damaged, the folder is not known to be a run at all, which is a mistake in the request.
        let identity = name == ".run.json";
        assert!(ended.code == Some(1) || (identity && ended.code == Some(2)), "{file} {what}: {ended:#?}");
        assert!(ended.stderr.contains(name) && !ended.stderr.contains("panicked"), "{file} {what}: {ended:#?}");
    }
}

/// Positions that hit every kind of byte of a file: its ends, its headers, and an even sample of the rest, which is all of a small file when
/// soaking.
fn positions(length: usize) -> Vec<usize> {
    let sample = if soaking() { 300 } else { 4 };
    let mut chosen: Vec<usize> = [0, 7, 8, 11, 12, length.saturating_sub(2), length.saturating_sub(1)].into();
    chosen.extend((0..length).step_by((length / sample).max(1)));
    chosen.retain(|&position| position < length);
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

/// Lengths below the whole at which a reader could take a cut file for a complete one: the ends of headers, records and lines, and some within.
fn cuts(bytes: &[u8]) -> Vec<usize> {
    let word = |at: usize| bytes.get(at..at + 8).map(|b| u64::from_le_bytes(b.try_into().unwrap()) as usize);
    let mut chosen = vec![0, 1, 8, 12, bytes.len() / 2, bytes.len() - 1];
    // A tensor file and every record of an event file begin with a length; elsewhere these places lie anywhere.
    let mut at = 0;
    while let Some(length) = word(at).filter(|&length| length < bytes.len()) {
        chosen.extend([at + 8, at + 8 + length, at + 12, at + 12 + length, at + 16 + length]);
        at += 16 + length;
    }
    let lines = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    let sample = if soaking() { 200 } else { 3 };
    chosen.extend(lines.take(sample).flat_map(|at| [at, at + 1]));
    chosen.retain(|&length| length < bytes.len());
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

#[test]
fn a_flipped_bit_or_a_cut_anywhere_in_any_file_is_found_and_named() {
    let subject = Subject::new();
    subject.verify().expect(0);
    let files = subject.files();
    for part in [
        "config.yml",
        "summary.yml",
        "metrics.jsonl",
        ".run.json",
        "manifest.json",
        "tensorboard/train/",
        "plots/",
        "analyses/",
        "checkpoints/best",
        "checkpoints/last",
    ] {
        assert!(files.iter().any(|name| name.starts_with(part)), "{part} is not among {files:?}");
    }
    let (mut flipped, mut cut) = (0, 0);
    for name in &files {
        let path = subject.run.join(name);
        let sound = fs::read(&path).unwrap();
        for position in positions(sound.len()) {
            let mut bytes = sound.clone();
            bytes[position] ^= 1 << (position % 8);
            fs::write(&path, bytes).unwrap();
            subject.assert_found(name, &format!("with byte {position} of {} flipped", sound.len()));
            flipped += 1;
        }
        for length in cuts(&sound) {
            fs::write(&path, &sound[..length]).unwrap();
            subject.assert_found(name, &format!("cut to {length} bytes"));
            cut += 1;
        }
        fs::write(&path, [&sound[..], b"\n"].concat()).unwrap();
        subject.assert_found(name, "with a byte too many");
        fs::remove_file(&path).unwrap();
        subject.assert_found(name, "removed");
        fs::write(&path, &sound).unwrap();
    }
    println!("{flipped} bytes flipped and {cut} cuts in {} files, all found", files.len());
    subject.verify().expect(0);
}

#[test]
fn every_pair_of_files_that_is_swapped_is_found() {
    let subject = Subject::new();
    let files = subject.files();
    let mut swapped = 0;
    for (index, a) in files.iter().enumerate() {
        // Neighbours share a folder or a kind; the rest is sampled unless soaking.
        let step = if soaking() { 1 } else { 7 };
        for b in files[index + 1..].iter().take(2).chain(files[index + 1..].iter().skip(2).step_by(step)) {
            let [a, b] = [a, b].map(|name| subject.run.join(name));
            let (first, second) = (fs::read(&a).unwrap(), fs::read(&b).unwrap());
            if first == second {
                continue;
            }
            fs::write(&a, &second).unwrap();
            fs::write(&b, &first).unwrap();
            let ended = subject.verify();
            assert!(matches!(ended.code, Some(1 | 2)), "{} and {} swapped: {ended:#?}", a.display(), b.display());
            swapped += 1;
            fs::write(&a, &first).unwrap();
            fs::write(&b, &second).unwrap();
        }
    }
    println!("{swapped} pairs swapped, all found");
    subject.verify().expect(0);
}

#[test]
fn foreign_files_are_named() {
    let subject = Subject::new();
    let checkpoint = newest_checkpoint(&subject.run, "last");
    for place in [subject.run.join("analyses"), subject.run.join("tensorboard/train"), subject.run.clone(), checkpoint] {
        let foreign = place.join("foreign.json");
        fs::write(&foreign, "{}").unwrap();
        subject.assert_found("foreign.json", &format!("in {}", place.display()));
        fs::remove_file(foreign).unwrap();
    }
    subject.verify().expect(0);
}

#[test]
fn the_newest_sound_checkpoint_is_offered_and_can_be_taken() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let (_, whole) = host.train(&[&RUN[..], &AVERAGE, &["--output-dir", "whole"]].concat());
    for file in ["weights.safetensors", "optimiser.safetensors", "average.safetensors", "state.json", "manifest.json"] {
        let output = format!("broken-{file}");
        let start = [&["run", "--output-dir", &output], &RUN[..], &AVERAGE].concat();
        host.command(&start).env(PLAN, "kill@1:last-000000009").output().unwrap();
        let run = fs::read_dir(folder.path().join(&output)).unwrap().next().unwrap().unwrap().path();
        let text = run.to_str().unwrap();
        let path = run.join("checkpoints/last-000000008").join(file);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(&path, bytes).unwrap();
        let verified = host.run(&["verify", text]).expect(1);
        assert!(verified.stderr.contains(file) && verified.stderr.contains("newest sound checkpoint is that of step 4"), "{verified:#?}");
        host.run(&["resume", text]).refused(1, &[file, "step 4", "--skip-damaged"]);
        let resumed = host.run(&["resume", text, "--skip-damaged"]).expect(0);
        assert!(resumed.stderr.contains("skipped"), "{resumed:#?}");
        assert_same_end(&whole, &run);
        host.run(&["verify", text]).expect(0);
    }
}
