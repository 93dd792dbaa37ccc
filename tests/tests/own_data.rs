//! Data of users' own: every form trains, is inspected, and goes on from any folder; the string that names it reads back.
#![cfg(unix)]

use std::fmt::Write;
use std::fs;
use std::path::Path;

use ibhost_tests::cli::CommandLine;
use serde_json::Value;

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");

/// Three classes that the first of two features tells apart.
fn table(path: &Path) {
    let mut text = "width,height,kind\n".to_owned();
    for row in 0..60 {
        let _ = writeln!(text, "{},{},{}", f64::from(row % 3) + f64::from(row) / 600.0, row % 7, ["ant", "bee", "fly"][row as usize % 3]);
    }
    fs::write(path, text).unwrap();
}

fn run(dataset: &str) -> [&str; 12] {
    let encoder = "mlp/e1:8|e2:8|z:2";
    ["--objective", "vib", "--encoder", encoder, "--dataset", dataset, "--batch-size", "12", "--steps", "6", "--checkpoint-every", "3steps"]
}

#[test]
fn a_table_trains_by_its_path_and_the_run_goes_on_from_another_folder() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    table(&folder.path().join("my insects.csv"));
    let (_, path) = host.train(&run("my insects.csv"));
    let config: Value = serde_json::from_str(&host.run(&["describe", "file", "--format", "json"]).expect(0).stdout).unwrap();
    assert!(config.to_string().contains("Name of the array, column or file of labels"), "{config}");
    let written = fs::read_to_string(path.join("config.yml")).unwrap();
    assert!(written.contains(folder.path().join("my insects.csv").to_str().unwrap()), "{written}");

    // From elsewhere the same run finds its data, and says so when they have changed.
    let elsewhere = tempfile::tempdir().unwrap();
    let away = CommandLine::new(HOST, elsewhere.path());
    away.run(&["analyze", path.to_str().unwrap(), "--analysis", "curves", "--output", "out"]).expect(0);
    let text = fs::read_to_string(folder.path().join("my insects.csv")).unwrap();
    fs::write(folder.path().join("my insects.csv"), text.replacen("0,0,ant", "9,0,ant", 1)).unwrap();
    away.run(&["analyze", path.to_str().unwrap(), "--analysis", "latent_plot", "--output", "out"])
        .refused(2, &["are not those of the run", "my insects.csv", "--other-data"]);
}

#[test]
fn inspecting_says_what_would_be_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    table(&folder.path().join("t.csv"));
    let shown: Value = serde_json::from_str(&host.run(&["data", "inspect", "t.csv", "--format", "json"]).expect(0).stdout).unwrap();
    assert_eq!((&shown["train"]["samples"], &shown["test"]["samples"]), (&Value::from(48), &Value::from(12)));
    assert_eq!(shown["test"]["classes"]["bee"], Value::from(4));
    let text = host.run(&["data", "inspect", "t.csv"]).expect(0).stdout;
    assert!(text.contains("class fly") && text.contains("16"), "{text}");
    host.run(&["data", "inspect", "t.csv", "--picture", "p.png"]).refused(2, &["no pictures"]);
    host.run(&["data", "inspect", "digits", "--picture", "p.png"]).expect(0);
    assert!(fs::read(folder.path().join("p.png")).unwrap().starts_with(b"\x89PNG"));
    host.run(&["data", "inspect", "gone.csv"]).refused(2, &["gone.csv", "no such file"]);
    host.run(&["data", "inspect", "./gone"]).refused(2, &["./gone", "no such file"]);
    host.run(&["data", "inspect", "mnits"]).refused(2, &["unknown dataset `mnits`", "mnist"]);
}

#[test]
fn what_is_wrong_with_own_data_is_named_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    fs::write(folder.path().join("t.csv"), "a,label\n1,x\n,y\n2,x\n3,y\n").unwrap();
    host.run(&[&["run"], &run("t.csv")[..]].concat()).refused(2, &["t.csv", "line 3, column `a`", "missing", "hint:"]);
    fs::write(folder.path().join("t.docx"), "x").unwrap();
    host.run(&[&["run"], &run("t.docx")[..]].concat()).refused(2, &["t.docx", ".npz"]);
    host.run(&[&["run"], &run("file/path:\"t.csv")[..]].concat()).refused(2, &["no closing"]);
    host.run(&[&["run"], &run("file")[..]].concat()).refused(2, &["file/path:PATH"]);
    assert!(!folder.path().join("runs").exists());
}
