//! Whole runs through the command line: results, files, reproducibility, interruption, resuming, early ends and damage.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ibhost_tests::cli::{CommandLine, SMALL, entries, newest_checkpoint, send, timeless_metrics, wait_for_metrics, yaml};
use ibhost_tests::outcome::assert_same_end;
use serde_json::Value;

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");

fn host(folder: &Path) -> CommandLine {
    CommandLine::new(HOST, folder)
}

fn vdb<'a>(encoder: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--objective", "vdb", "--encoder", encoder], more].concat()
}

#[test]
fn a_run_leaves_what_the_manual_promises() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let (result, run) = host.train(&vdb("mlp", &["--epochs", "2"]));
    for split in ["train", "test"] {
        let metric = |name: &str| result["final"][split][name].as_f64().unwrap_or_else(|| panic!("no {split} {name} in {result}"));
        for (nats, bits) in [("izx_nats", "izx_bits"), ("izy_nats", "izy_bits")] {
            assert!((metric(nats) / std::f64::consts::LN_2 - metric(bits)).abs() < 1e-3 * metric(bits).abs().max(1.0), "{result}");
        }
        assert!(metric("loss").is_finite() && metric("accuracy") > 0.8, "{result}");
    }

    let there: BTreeSet<String> = entries(&run).into_iter().collect();
    for file in
        ["config.yml", "summary.yml", "metrics.jsonl", "log.txt", "analyses/curves.json", "plots/curves.png", "plots/information-plane.png"]
    {
        assert!(there.contains(file), "{file} is missing: {there:?}");
    }
    for split in ["train", "test"] {
        let events = format!("tensorboard/{split}/events.out.tfevents.");
        assert!(there.iter().any(|file| file.starts_with(&events)), "{events}: {there:?}");
    }
    let summary = yaml(&run.join("summary.yml"));
    assert_eq!((&summary["status"], &summary["epochs"], &summary["steps"]), (&"completed".into(), &2.into(), &30.into()));
    assert_eq!(summary["final"], result["final"]);
    for key in ["versions", "device", "command", "seed", "elapsed_time_s", "parameters", "best"] {
        assert!(!summary[key].is_null(), "{key}: {summary}");
    }
    assert!(run.file_name().unwrap().to_str().unwrap().starts_with("mlp-vdb-digits--"), "{}", run.display());

    let config = run.join("config.yml");
    let (again, second) = host.train(&["--config", config.to_str().unwrap()]);
    assert_eq!(again["final"], result["final"]);
    assert_eq!(timeless_metrics(&second), timeless_metrics(&run));
    assert_eq!(fs::read(second.join("config.yml")).unwrap(), fs::read(&config).unwrap());
}

#[test]
fn a_seed_fixes_the_result_whatever_the_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let train = |threads: &str, seed: &str| {
        let (_, run) = host.train(&vdb("mlp/e1:128|e2:128|z:16", &["--epochs", "2", "--threads", threads, "--seed", seed]));
        let weights = fs::read(newest_checkpoint(&run, "last").join("weights.safetensors")).unwrap();
        (timeless_metrics(&run), weights)
    };
    let first = train("1", "7");
    assert_eq!(first.0.len(), 4, "a row for each split and epoch: {:?}", first.0);
    for threads in ["1", "2", "2"] {
        assert!(train(threads, "7") == first, "{threads} threads change the result");
    }
    assert_ne!(train("1", "8").0, first.0);
}

#[test]
fn any_objective_trains_any_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    for (objective, encoder) in
        [("vib", "resnet20"), ("vdb", "resnet20/z:2|cov:full"), ("vib", SMALL), ("vdb", "residual_mlp/width:32|z:4")]
    {
        let (result, run) =
            host.train(&["--objective", objective, "--encoder", encoder, "--epochs", "1", "--limit-train", "60", "--batch-size", "30"]);
        assert!(result["final"]["test"]["loss"].as_f64().is_some_and(f64::is_finite), "{objective} {encoder}: {result}");
        assert_eq!(yaml(&run.join("summary.yml"))["status"], "completed");
    }
}

#[test]
fn every_strategy_optimiser_and_schedule_trains() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let catalogue: Value = serde_json::from_str(&host.run(&["list", "--format", "json"]).expect(0).stdout).unwrap();
    let mut losses = Vec::new();
    for (kind, flag) in [("strategies", "--strategy"), ("optimisers", "--optimiser"), ("schedules", "--schedule")] {
        for item in catalogue[kind].as_array().unwrap() {
            let name = item["name"].as_str().unwrap();
            let (result, _) = host.train(&vdb(SMALL, &["--epochs", "2", "--lr", "0.001", flag, name]));
            let loss = result["final"]["train"]["loss"].as_f64().unwrap();
            assert!(loss.is_finite(), "{flag} {name}: {result}");
            losses.push((name.to_owned(), loss));
        }
    }
    // The defaults appear once among each of the three kinds, and everything else changes the numbers.
    let distinct: BTreeSet<u64> = losses.iter().map(|(_, loss)| loss.to_bits()).collect();
    assert!(distinct.len() > losses.len() / 2, "{losses:?}");
}

#[test]
fn a_code_of_two_dimensions_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let (_, run) = host(folder.path()).train(&vdb("mlp/e1:32|e2:32|z:2", &["--epochs", "2"]));
    let picture = fs::read(run.join("plots/latent-representation.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n") && picture.len() > 5000, "{} bytes", picture.len());
    let array = fs::read(run.join("plots/latent-representation.npy")).unwrap();
    assert!(array.starts_with(b"\x93NUMPY"));
    let header = String::from_utf8_lossy(&array[..128]).into_owned();
    let shape = header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')')).map(|(shape, _)| shape.replace(' ', ""));
    let shape: Vec<usize> = shape.unwrap().split(',').filter(|n| !n.is_empty()).map(|n| n.parse().unwrap()).collect();
    assert!(shape.len() == 2 && shape[0] > 100 && shape[1] == 7, "{header}");
}

#[test]
fn flags_do_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let (_, run) = host.train(&vdb(
        SMALL,
        &["--limit-train", "50", "--batch-size", "10", "--epochs", "3", "--output-dir", "here/and/there", "--name", "my first"],
    ));
    let name = run.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("mlp-vdb-digits-my-first--"), "{name}");
    assert_eq!(run.parent().unwrap(), fs::canonicalize(folder.path().join("here/and/there")).unwrap());
    let summary = yaml(&run.join("summary.yml"));
    assert_eq!((&summary["steps"], &summary["name"]), (&15.into(), &"my first".into()));

    let (_, run) = host.train(&vdb(SMALL, &["--steps", "7", "--seed", "3", "--set", "objective.beta=0.5", "--set", "evaluation_batch=50"]));
    let (summary, config) = (yaml(&run.join("summary.yml")), yaml(&run.join("config.yml")));
    assert_eq!((&summary["steps"], &summary["seed"]), (&7.into(), &3.into()));
    assert_eq!((&config["objective"]["beta"], &config["evaluation_batch"]), (&0.5.into(), &50.into()));

    let (result, _) = host.train(&vdb(SMALL, &["--epochs", "1", "--average", "0.9"]));
    assert!(result["final"]["test_average"]["accuracy"].is_number(), "{result}");
    let (result, run) = host.train(&vdb(SMALL, &["--epochs", "3", "--evaluate-every", "2"]));
    assert!(result["final"]["test"]["loss"].is_number());
    // Training rows after each epoch, test rows after the second and, being the last, the third.
    assert_eq!(timeless_metrics(&run).len(), 5);
}

#[test]
fn messages_go_to_stderr_and_quiet_means_silent() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let arguments = [&["run"], &vdb(SMALL, &["--epochs", "2"])[..]].concat();
    let loud = host.run(&arguments).expect(0);
    let lines: Vec<&str> = loud.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{loud:#?}");
    assert!(lines[0].starts_with("epoch 1/2 | train loss ") && lines[1].contains("| test loss "), "{loud:#?}");
    assert!(!loud.stderr.contains(['\r', '\u{1b}']), "a progress bar in a pipe: {loud:#?}");
    assert!(loud.stdout.contains("izx_nats") && loud.stdout.lines().last().unwrap().starts_with("run runs"), "{loud:#?}");
    let quiet = host.run(&[&["--quiet"], &arguments[..]].concat()).expect(0);
    assert!(quiet.stderr.is_empty() && quiet.stdout.contains("accuracy"), "{quiet:#?}");
    let markdown = host.run(&[&arguments[..], &["--format", "markdown"]].concat()).expect(0);
    assert!(markdown.stdout.starts_with("| quantity"), "{markdown:#?}");
}

#[test]
fn a_metric_that_cannot_improve_ends_the_run_early() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let impossible = ["--epochs", "50", "--patience", "1", "--set", "early_stopping.min_delta=1000"];
    let ended = host.run(&[&["run", "--format", "json"], &vdb(SMALL, &impossible)[..]].concat()).expect(0);
    assert!(ended.stderr.contains("stopped early after epoch 2") && ended.stderr.contains("test.loss"), "{ended:#?}");
    let run = PathBuf::from(ended.last_line()["run_dir"].as_str().unwrap());
    let summary = yaml(&run.join("summary.yml"));
    assert_eq!((&summary["status"], &summary["epochs"]), (&"completed".into(), &2.into()));
    assert!(summary["reason"].as_str().unwrap().contains("stopped improving"), "{summary}");
}

#[test]
fn a_completed_run_has_nothing_to_resume() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let (_, run) = host.train(&vdb(SMALL, &["--epochs", "1"]));
    let metrics = fs::read(run.join("metrics.jsonl")).unwrap();
    let ended = host.run(&["resume", run.to_str().unwrap()]).expect(0);
    assert!(ended.stderr.contains("is complete; nothing to do"), "{ended:#?}");
    assert_eq!(fs::read(run.join("metrics.jsonl")).unwrap(), metrics);
}

#[test]
fn numbers_that_explode_stop_the_run_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let wild = ["--optimiser", "sgd", "--lr", "1e30", "--epochs", "3"];
    host.run(&[&["run"], &vdb(SMALL, &wild)[..]].concat())
        .refused(1, &["step 1 (epoch 1)", "phase `main`", "`model.encoder.", "loss = ", "--lr"]);
    let run = folder.path().join("runs").join(entries(&folder.path().join("runs"))[0].trim_end_matches('/'));
    let summary = yaml(&run.join("summary.yml"));
    assert_eq!(summary["status"], "failed");
    let reason = summary["reason"].as_str().unwrap();
    assert!(reason.contains("step 1") && reason.contains("phase `main`") && reason.contains("is not finite"), "{reason}");
}

/// Changes one byte of `path`, runs `check`, and puts the byte back.
fn with_flipped_byte(path: &Path, position: usize, check: impl FnOnce()) {
    let sound = fs::read(path).unwrap();
    let mut bytes = sound.clone();
    bytes[position] ^= 1;
    fs::write(path, bytes).unwrap();
    check();
    fs::write(path, sound).unwrap();
}

#[test]
fn verify_finds_one_changed_byte_in_any_file_that_matters() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let (result, run) = host.train(&vdb(SMALL, &["--epochs", "2", "--average", "0.9"]));
    let text = run.to_str().unwrap();
    let verify = |code: i32, word: &str| {
        let ended = host.run(&["verify", text]).expect(code);
        assert!((if code == 0 { &ended.stdout } else { &ended.stderr }).contains(word), "{word}: {ended:#?}");
    };
    verify(0, "is sound");
    let mut files: Vec<PathBuf> = ["config.yml", "summary.yml", "metrics.jsonl"].map(|name| run.join(name)).to_vec();
    for label in ["last", "best"] {
        let checkpoint = newest_checkpoint(&run, label);
        files.extend(entries(&checkpoint).into_iter().map(|name| checkpoint.join(name)));
    }
    let names: BTreeSet<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    for name in ["manifest.json", "state.json", "weights.safetensors", "average.safetensors", "optimiser.safetensors"] {
        assert!(names.contains(name), "{names:?}");
    }
    for file in &files {
        let length = fs::metadata(file).unwrap().len() as usize;
        for position in [0, length / 3, length / 2, length - 2] {
            let name = file.file_name().unwrap().to_str().unwrap();
            with_flipped_byte(file, position, || verify(1, name));
        }
    }
    let identity = run.join(".run.json");
    let id = yaml(&run.join("summary.yml"))["run_id"].as_str().unwrap().to_owned();
    let position = fs::read_to_string(&identity).unwrap().find(&id).unwrap();
    with_flipped_byte(&identity, position, || verify(1, ".run.json"));
    verify(0, "is sound");
    assert!(result["final"]["test"].is_object());
}

/// A run long enough to be interrupted: about a hundred epochs of 20 steps.
const LONG: [&str; 10] = [
    "--encoder",
    "mlp/e1:128|e2:128|z:16",
    "--limit-train",
    "400",
    "--batch-size",
    "20",
    "--steps",
    "2000",
    "--checkpoint-every",
    "70steps",
];

/// Trains with `more` flags once to the end, and once interrupted by SIGINT at some step and resumed.
#[cfg(unix)]
fn interrupted_equals_whole(more: &[&str]) {
    interrupted_equals_whole_of("vdb", more);
}

/// As [`interrupted_equals_whole`], of another objective.
#[cfg(unix)]
fn interrupted_equals_whole_of(objective: &str, more: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let arguments = [&["--objective", objective], &LONG[..], more].concat();
    let (_, whole) = host.train(&[&arguments[..], &["--output-dir", "whole"]].concat());

    let mut child = host.command(&[&["run", "--output-dir", "broken"], &arguments[..]].concat()).spawn().unwrap();
    let broken = wait_for_metrics(&folder.path().join("broken"), &mut child);
    send("INT", &child);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    let resume = format!("ibhost resume broken/{}", broken.file_name().unwrap().to_str().unwrap());
    assert!(stderr.contains("interrupted after step") && stderr.contains(&resume), "{stderr}");
    let summary = yaml(&broken.join("summary.yml"));
    assert_eq!(summary["status"], "interrupted");
    let step = summary["steps"].as_u64().unwrap();
    assert!(step > 0 && step < 2000, "{step}");
    assert!(newest_checkpoint(&broken, "last").ends_with(format!("last-{step:09}")));

    let text = broken.to_str().unwrap();
    host.run(&["verify", text]).expect(0);
    let result = host.run(&["resume", text, "--format", "json"]).expect(0).last_line();
    assert_eq!(result["status"], "completed");
    assert_same_end(&whole, &broken);
    host.run(&["verify", text]).expect(0);
}

#[cfg(unix)]
#[test]
fn interrupted_and_resumed_equals_uninterrupted() {
    interrupted_equals_whole(&[]);
}

#[cfg(unix)]
#[test]
fn interrupted_and_resumed_equals_uninterrupted_with_alternating_phases() {
    interrupted_equals_whole(&["--strategy", "algo2/k:3"]);
}

#[cfg(unix)]
#[test]
fn interrupted_and_resumed_equals_uninterrupted_with_an_average() {
    interrupted_equals_whole(&["--average", "0.99", "--schedule", "exponential", "--watch", "test_average.accuracy"]);
}

/// Vectors of the spectral norm, the toggle between the encoders and the order of the estimator's samples go on where they were.
#[cfg(unix)]
#[test]
fn interrupted_and_resumed_equals_uninterrupted_with_phases_of_the_objectives_own() {
    let objective = "disenib/n_samples:1|n_times_main:10|n_times_est:1|est_thr:5|rec_hidden:[16]";
    interrupted_equals_whole_of(objective, &["--set", "encoder.cov=point"]);
}

#[cfg(unix)]
#[test]
fn killed_in_the_middle_of_an_epoch_and_resumed_equals_uninterrupted() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let arguments = [&["--objective", "vdb"], &LONG[..]].concat();
    let (_, whole) = host.train(&[&arguments[..], &["--output-dir", "whole"]].concat());

    let mut child = host.command(&[&["run", "--output-dir", "broken"], &arguments[..]].concat()).spawn().unwrap();
    let broken = wait_for_metrics(&folder.path().join("broken"), &mut child);
    // 70 and 350 steps are 3.5 and 17.5 epochs, so a checkpoint of step 70 lies in the middle of an epoch.
    let saved = || {
        fs::read_dir(broken.join("checkpoints")).unwrap().flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("last-"))
    };
    while !saved() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), None);
    assert_eq!(yaml(&broken.join("summary.yml"))["status"], "running");

    let text = broken.to_str().unwrap();
    let checkpoint = newest_checkpoint(&broken, "last");
    for damaged in
        [checkpoint.join("weights.safetensors"), checkpoint.join("state.json"), broken.join("metrics.jsonl"), broken.join("config.yml")]
    {
        let name = damaged.file_name().unwrap().to_str().unwrap();
        with_flipped_byte(&damaged, 40, || host.run(&["resume", text]).refused(1, &[name, "damaged"]));
    }
    host.run(&["resume", text]).expect(0);
    assert_same_end(&whole, &broken);
}
