//! What a run was trained on, by what and where, is on record and looked at before anything goes on: other data are refused, another program or
//! processor is named, and old runs without a record still open.

#![cfg(unix)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use ibhost_framework::storage::FileHash;
use ibhost_tests::cli::{CommandLine, SMALL, entries, first_run, send, wait_for_metrics, yaml};
use serde_json::Value;

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");
/// Training and test samples of the small sets written here.
const SAMPLES: [u32; 2] = [60, 20];

/// A small set in MNIST's format below `folder`, with pixels that depend on `salt` and labels moved on by `turn`; gzipped or plain.
fn mnist(folder: &Path, salt: u32, turn: u32, zipped: bool) {
    let folder = folder.join("mnist");
    fs::create_dir_all(&folder).unwrap();
    for (split, count) in ["train", "t10k"].into_iter().zip(SAMPLES) {
        let size = |numbers: &[u32]| numbers.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<u8>>();
        let pixels = (0..count * 784).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(salt * 97) >> 13) as u8);
        let images = [vec![0, 0, 8, 3], size(&[count, 28, 28]), pixels.collect()].concat();
        let labels = [vec![0, 0, 8, 1], size(&[count]), (0..count).map(|i| ((i + turn) % 10) as u8).collect()].concat();
        for (name, bytes) in [("images-idx3", images), ("labels-idx1", labels)] {
            let path = folder.join(format!("{split}-{name}-ubyte"));
            if zipped {
                let mut file = GzEncoder::new(fs::File::create(path.with_extension("gz")).unwrap(), Compression::fast());
                file.write_all(&bytes).unwrap();
                file.finish().unwrap();
            } else {
                fs::write(path, bytes).unwrap();
            }
        }
    }
}

/// Arguments of a run on the set in `data` that would take for ever.
fn endless(data: &str) -> Vec<&str> {
    let fixed = ["run", "--objective", "vib", "--dataset", "mnist", "--checkpoint-every", "5steps", "--steps", "1000000"];
    [&fixed[..], &["--batch-size", "20", "--encoder", SMALL, "--data-dir", data]].concat()
}

/// A run on the set in `data` that was interrupted after its first checkpoint.
fn interrupted(host: &CommandLine, folder: &Path, data: &str) -> PathBuf {
    let mut child = host.command(&endless(data)).spawn().unwrap();
    let run = wait_for_metrics(&folder.join("runs"), &mut child);
    send("INT", &child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    run
}

/// Goes on with `run` on the set in `data` until a step or more is done, interrupts it, and returns what it said.
fn resumed_for_a_moment(host: &CommandLine, run: &Path, data: &str) -> String {
    let rows = || fs::metadata(run.join("metrics.jsonl")).unwrap().len();
    let before = rows();
    let child = host.command(&["resume", run.to_str().unwrap(), "--data-dir", data]).spawn().unwrap();
    let begun = Instant::now();
    while rows() <= before && begun.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(5));
    }
    send("INT", &child);
    let output = child.wait_with_output().unwrap();
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{messages}");
    messages
}

fn blake3_hex(bytes: &[u8]) -> String {
    FileHash::of(bytes).blake3
}

#[test]
fn a_run_goes_on_with_its_own_data_alone_whatever_form_they_have() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    for (name, salt, turn, zipped) in [("plain", 1, 0, false), ("zipped", 1, 0, true), ("pixels", 2, 0, false), ("labels", 1, 1, false)] {
        mnist(&folder.path().join(name), salt, turn, zipped);
    }
    let run = interrupted(&host, folder.path(), "plain");
    let at = run.to_str().unwrap();
    let step = yaml(&run.join("summary.yml"))["steps"].as_u64().unwrap();
    for other in ["pixels", "labels"] {
        host.run(&["resume", at, "--data-dir", other]).refused(2, &["mnist", "training split", "--data-dir", "hash"]);
    }
    assert_eq!(yaml(&run.join("summary.yml"))["steps"], step, "a refused resume changes nothing");
    // The same data in another form are the same.
    resumed_for_a_moment(&host, &run, "zipped");
    let summary = yaml(&run.join("summary.yml"));
    assert!(summary["steps"].as_u64().unwrap() >= step);
    let attempts = summary["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[0]["from_step"]), (2, &Value::from(0)));
    assert!(attempts[1]["from_step"].as_u64().unwrap() >= step && attempts[1]["started"].is_string());
}

#[test]
fn a_run_begun_from_the_configuration_of_another_wants_its_data() {
    let folder = tempfile::tempdir().unwrap();
    mnist(&folder.path().join("data"), 1, 0, false);
    mnist(&folder.path().join("other"), 1, 1, false);
    let host = CommandLine::new(HOST, folder.path());
    let (_, run) = host.train(&[&endless("data")[1..7], &["--steps", "3", "--encoder", SMALL, "--data-dir", "data"]].concat());
    let config = run.join("config.yml");
    let again = |arguments: &[&str]| host.run(&[&["run", "--config", config.to_str().unwrap()], arguments].concat());
    again(&["--data-dir", "other"]).refused(2, &["data hash", "`mnist`", "data_hash=null"]);
    // What says the same again is no other data set.
    again(&["--data-dir", "other", "--dataset", "mnist"]).refused(2, &["data hash"]);
    again(&["--data-dir", "other", "--set", "dataset.fold=0"]).refused(2, &["data hash"]);
    again(&["--data-dir", "data"]).expect(0);
    again(&["--data-dir", "other", "--set", "data_hash=null"]).expect(0);
    // Another data set, or another view of the same, has another hash, which nobody can know before.
    again(&["--dataset", "digits"]).expect(0);
    again(&["--data-dir", "data", "--set", "dataset.scale=unit"]).expect(0);
}

#[test]
fn a_result_about_other_data_is_made_when_it_is_asked_for_and_stands_for_no_other() {
    let folder = tempfile::tempdir().unwrap();
    mnist(&folder.path().join("data"), 1, 0, false);
    mnist(&folder.path().join("other"), 1, 1, false);
    let host = CommandLine::new(HOST, folder.path());
    let (_, run) = host.train(&[&endless("data")[1..7], &["--steps", "3", "--encoder", SMALL, "--data-dir", "data"]].concat());
    let at = run.to_str().unwrap();
    let analyze = |arguments: &[&str]| host.run(&[&["analyze", at, "--analysis", "mutual_information"], arguments].concat());
    analyze(&["--data-dir", "other"]).refused(2, &["not those of the run", "--other-data"]);
    let told = analyze(&["--data-dir", "other", "--other-data"]).expect(0);
    assert!(told.stderr.contains("was not trained on"), "{}", told.stderr);
    let plot = ["compare", at, "--comparison", "axis/line:seed|metrics:[mutual_information.test_mi_x_class_mean]"];
    host.run(&plot).refused(2, &["that the run was not trained on"]);
    analyze(&["--data-dir", "data"]).expect(0);
    host.run(&plot).expect(0);
    let document = |name: &str| -> Value {
        let name = entries(&run.join("analyses"))
            .into_iter()
            .find(|file| file.starts_with(name) && file.rsplit('.').next() == Some("json"))
            .unwrap();
        serde_json::from_str(&fs::read_to_string(run.join("analyses").join(name)).unwrap()).unwrap()
    };
    let (own, other) = (document("mutual_information.json"), document("mutual_information-data"));
    let trained = &yaml(&run.join("summary.yml"))["identity"]["data"];
    assert!(own["identity"]["data"] == *trained && own["trained_on"].is_null());
    assert!(other["identity"]["data"] != *trained && other["trained_on"] == *trained);
    host.run(&["verify", at]).expect(0);
}

#[test]
fn what_computed_a_run_is_on_record_and_a_change_of_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    mnist(&folder.path().join("data"), 1, 0, false);
    let host = CommandLine::new(HOST, folder.path());
    let run = interrupted(&host, folder.path(), "data");
    let identity = yaml(&run.join("summary.yml"))["identity"].clone();
    let program = fs::read(HOST).unwrap();
    let known = blake3_hex(&program)[..32].to_owned();
    assert_eq!(identity["program"]["executable"], known.as_str());
    assert_eq!(identity["program"]["crates"]["ibhost-vib"], env!("CARGO_PKG_VERSION"));
    assert_eq!(identity["data"]["train"]["samples"], SAMPLES[0]);
    assert!(identity["machine"]["instructions"].is_string() && identity["machine"]["threads"].as_u64().unwrap() >= 1);
    // Another build: the same program with a byte behind its end.
    let other = folder.path().join("ibhost-other");
    fs::write(&other, [&program[..], b"\0"].concat()).unwrap();
    fs::set_permissions(&other, fs::metadata(HOST).unwrap().permissions()).unwrap();
    let messages = resumed_for_a_moment(&CommandLine::new(&other, folder.path()), &run, "data");
    assert!(messages.contains("since this run was begun") && messages.contains("another build"), "{messages}");
    let summary = yaml(&run.join("summary.yml"));
    let hash = |attempt: usize| summary["attempts"][attempt]["executable"].as_str().unwrap().to_owned();
    assert!(hash(0) == known && hash(1) != known);
}

#[test]
fn runs_without_a_record_open_with_a_word_about_it() {
    let folder = tempfile::tempdir().unwrap();
    mnist(&folder.path().join("data"), 1, 0, false);
    let host = CommandLine::new(HOST, folder.path());
    let (_, run) = host.train(&[&endless("data")[1..7], &["--steps", "9", "--encoder", SMALL, "--data-dir", "data"]].concat());
    let path = run.join("summary.yml");
    let text = fs::read_to_string(&path).unwrap();
    let mut kept = true;
    let mut body = String::new();
    for line in text.lines().filter(|line| !line.starts_with("# blake3")) {
        if !line.starts_with([' ', '-']) {
            kept = !line.starts_with("identity:") && !line.starts_with("attempts:");
        }
        if kept {
            body += &format!("{line}\n");
        }
    }
    assert!(!body.contains("executable") && body.contains("final:"));
    let lead = text.lines().find(|line| line.starts_with("# blake3")).unwrap().rsplit_once(' ').unwrap().0;
    fs::write(&path, format!("{body}{lead} {}\n", blake3_hex(body.as_bytes()))).unwrap();
    let ended = host.run(&["analyze", run.to_str().unwrap(), "--analysis", "mutual_information", "--data-dir", "data"]).expect(0);
    assert!(ended.stderr.contains("cannot be checked"), "{}", ended.stderr);
}

#[test]
fn trials_of_a_sweep_are_trained_on_the_same_data_by_the_program_that_planned_them() {
    let folder = tempfile::tempdir().unwrap();
    mnist(&folder.path().join("data"), 1, 0, false);
    mnist(&folder.path().join("other"), 2, 0, false);
    let program = folder.path().join("ibhost-of-the-sweep");
    fs::copy(HOST, &program).unwrap();
    let host = CommandLine::new(&program, folder.path());
    let text = "name: two\nrun: {objective: vib, encoder: 'mlp/e1:8|e2:8|z:2', dataset: mnist, steps: 3}\naxes: {seed: 0..1}\n";
    fs::write(folder.path().join("sweep.yml"), text).unwrap();
    host.run(&["sweep", "sweep.yml", "--jobs", "1", "--data-dir", "data"]).expect(0);
    let trial = folder.path().join("runs/sweeps/two/trials/000001");
    // A trial whose run is gone is not completed, whatever its state says.
    fs::remove_dir_all(first_run(&trial).unwrap()).unwrap();
    let ended = host.run(&["sweep", "sweep.yml", "--resume", "--data-dir", "other"]).expect(1);
    let log = fs::read_to_string(trial.join("log.txt")).unwrap();
    assert!(log.contains("the data of `mnist` are not those of the run"), "{log}\n{}", ended.stderr);
    assert_eq!(first_run(&trial), None, "nothing was begun on other data");
    let ended = host.run(&["trial", trial.to_str().unwrap(), "--program", "0123", "--data-dir", "data"]);
    ended.refused(2, &["is not the one that started the sweep", "--resume"]);
    host.run(&["sweep", "sweep.yml", "--resume", "--data-dir", "data"]).expect(0);
    assert!(first_run(&trial).is_some());
}

#[test]
fn the_version_of_burn_on_record_is_the_one_that_is_locked() {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("Cargo.lock")).unwrap();
    let locked = lock.split("name = \"burn\"\nversion = \"").nth(1).and_then(|rest| rest.split('"').next());
    assert_eq!(locked, Some(ibhost_framework::engine::BURN));
}
