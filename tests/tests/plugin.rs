//! `ibhost new-plugin`: a crate outside the workspace that builds, passes its own tests, and whose components are listed and work; and what such a
//! crate can bring besides: here an update rule, a likelihood, a prior and a capability.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use ibhost_tests::cli::{CommandLine, entries, newest_checkpoint, send, timeless_metrics, wait_for_metrics};
use serde_json::Value;

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");

fn workspace() -> PathBuf {
    fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).unwrap()
}

/// The target folder this test was built in, so that the plugin reuses the dependencies compiled for it.
fn target_folder() -> PathBuf {
    Path::new(HOST).ancestors().nth(2).unwrap().to_path_buf()
}

/// Runs cargo on the plugin, without the network and with the profile of this test, and returns what it printed.
fn cargo(plugin: &Path, arguments: &[&str]) -> String {
    let begin = Instant::now();
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.args(arguments).args(["--release", "--offline"]).current_dir(plugin).env("CARGO_TARGET_DIR", target_folder());
    // What cargo told this test about itself must not look like a changed environment to the crates it is about to build.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_BIN_") {
            command.env_remove(name);
        }
    }
    let output = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let compiled: Vec<&str> = text.lines().filter_map(|line| line.trim_start().strip_prefix("Compiling ")?.split(' ').next()).collect();
    println!("cargo {} took {:.1} s and compiled {}", arguments.join(" "), begin.elapsed().as_secs_f64(), compiled.join(", "));
    assert!(output.status.success(), "cargo {} failed in {}:\n{text}", arguments.join(" "), plugin.display());
    text
}

/// A likelihood, a prior a class, and a capability with its analysis.
fn a_capability_of_its_own_works(host: &CommandLine) {
    let part = ["--encoder", "mlp/e1:32|e2:32|z:2", "--dataset", "digits/scale:unit", "--threads", "1"];
    let (result, run) = host.train(&[&["--objective", "class_prior"], &part[..]].concat());
    let test = |name: &str| result["final"]["test"][name].as_f64().unwrap();
    // 64 Poisson pixels with the rates of the data's mean picture cost about 190 nats.
    assert!(test("distortion") < 250.0 && test("rate") > 0.0, "{result}");
    let run = run.to_str().unwrap();
    let arguments = ["analyze", run, "--format", "json", "--analysis", "centre_distances", "--analysis", "nll/samples:4|group:2|points:50"];
    let document: Value = serde_json::from_str(&host.run(&arguments).expect(0).stdout).unwrap();
    assert_eq!(document[0]["result"]["classes"], 10);
    assert!(document[0]["result"]["least"].as_f64().is_some_and(|least| least > 0.0), "{document}");
    let nll = document[1]["result"].to_string();
    assert!(!nll.contains("null"), "{nll}");
    // Its words are listed like those of the framework, and what does not fit is refused in its words.
    let listed = host.run(&["describe", "centre_distances"]).expect(0).stdout;
    assert!(listed.contains("class_prior") && !listed.contains("`outside`"), "{listed}");
    let (_, other) = host.train(&["--objective", "outside", "--encoder", "mlp/e1:8|e2:8|z:2", "--steps", "1"]);
    host.run(&["analyze", other.to_str().unwrap(), "--analysis", "centre_distances"])
        .refused(2, &["say where the classes lie", "`ClassCentres`", "`offers: [Centres]`"]);
    // A decoder for classes in place of one for inputs is refused, naming those that fit.
    host.run(&[&["run", "--objective", "class_prior", "--decoder", "linear", "--steps", "1"], &part[..]].concat())
        .refused(2, &["cannot reconstruct inputs", "`poisson_linear`"]);
}

#[test]
fn a_new_plugin_builds_passes_its_test_is_listed_and_trains() {
    let folder = tempfile::tempdir().unwrap();
    let home = workspace();
    let written = CommandLine::new(HOST, folder.path()).run(&["new-plugin", "outside", "--ibhost", home.to_str().unwrap()]).expect(0);
    assert!(written.stdout.contains("ibhost-outside"), "{written:#?}");
    let plugin = folder.path().join("ibhost-outside");
    assert_eq!(entries(&plugin), ["Cargo.lock", "Cargo.toml", "README.md", "src/", "src/lib.rs", "src/main.rs"]);
    // The other kinds as modules of the same crate, so that there is one to compile.
    let mut library = fs::read_to_string(plugin.join("src/lib.rs")).unwrap();
    for kind in ["encoder", "decoder", "dataset", "analysis"] {
        let name = format!("outside_{kind}");
        CommandLine::new(HOST, folder.path()).run(&["new-plugin", &name, "--kind", kind, "--ibhost", home.to_str().unwrap()]).expect(0);
        let module = folder.path().join(format!("ibhost-{name}/src/lib.rs"));
        fs::copy(module, plugin.join(format!("src/{name}.rs"))).unwrap();
        library = library.replacen("\nuse ", &format!("\npub mod {name};\nuse "), 1);
    }
    for (name, source) in [("lion", include_str!("plugin_files/lion.rs")), ("class_prior", include_str!("plugin_files/class_prior.rs"))] {
        fs::write(plugin.join(format!("src/{name}.rs")), source).unwrap();
        library = library.replacen("\nuse ", &format!("\npub mod {name};\nuse "), 1);
    }
    fs::write(plugin.join("src/lib.rs"), library).unwrap();

    cargo(&plugin, &["build"]);
    let program = target_folder().join("release").join(format!("ibhost-outside{}", std::env::consts::EXE_SUFFIX));
    let host = CommandLine::new(&program, folder.path());
    let listed: Value = serde_json::from_str(&host.run(&["list", "--kind", "objective", "--format", "json"]).expect(0).stdout).unwrap();
    let item = &listed["objectives"].as_array().unwrap().iter().find(|item| item["name"] == "outside").unwrap();
    assert_eq!(item["crate_name"], "ibhost-outside");
    let described = host.run(&["describe", "outside"]).expect(0).stdout;
    assert!(described.contains("beta") && described.contains("KL("), "{described}");
    let (result, run) = host.train(&["--objective", "outside", "--encoder", "mlp/z:2", "--epochs", "2"]);
    assert!(result["final"]["test"]["izx_nats"].as_f64().is_some_and(|rate| rate >= 0.0), "{result}");
    host.run(&["verify", run.to_str().unwrap()]).expect(0);
    trains_and_resumes_with_its_own_update_rule(&host, folder.path());
    host.run(&["analyze", run.to_str().unwrap(), "--analysis", "outside_analysis"]).expect(0);
    let parts = ["--encoder", "outside_encoder", "--decoder", "outside_decoder", "--dataset", "outside_dataset"];
    let (result, _) = host.train(&[&["--objective", "vib/beta:0.001", "--epochs", "20", "--lr", "0.01"], &parts[..]].concat());
    assert!(result["final"]["test"]["accuracy"].as_f64().is_some_and(|accuracy| accuracy > 0.8), "{result}");
    // Resolving, refusing and suggesting work for a foreign objective as for one of our own.
    host.run(&["run", "--objective", "outside/beto:1", "--encoder", "mlp"]).refused(2, &["no parameter `beto`", "`beta`"]);
    host.run(&["new-plugin", "outside", "--ibhost", home.to_str().unwrap(), "--path", "again"]).refused(2, &["ibhost-outside"]);

    a_capability_of_its_own_works(&host);

    let tested = cargo(&plugin, &["test"]);
    for test in [
        "training_on_digits_learns",
        "the_same_seed",
        "codes_have_the_size",
        "every_code_has_a_score",
        "every_class_has_a_length",
        "lion_takes_steps_of_one_size",
    ] {
        assert!(tested.lines().any(|line| line.contains(test) && line.ends_with("... ok")), "{test}:\n{tested}");
    }
    // Every run of this test has another folder and so another copy of the crate's artefacts.
    cargo(&plugin, &["clean", "--package", "ibhost-outside"]);
}

/// A run by the crate's optimiser, once to the end and once interrupted and resumed: the same weights and the same state of the optimiser.
fn trains_and_resumes_with_its_own_update_rule(host: &CommandLine, folder: &Path) {
    let base = ["--objective", "outside", "--encoder", "mlp/e1:16|e2:16|z:2", "--optimiser", "lion/weight_decay:0.01", "--threads", "1"];
    let arguments = [&base[..], &["--limit-train", "400", "--epochs", "300", "--batch-size", "100", "--average", "0.9"]].concat();
    let (_, whole) = host.train(&[&arguments[..], &["--output-dir", "whole"]].concat());
    let mut child = host.command(&[&["run", "--output-dir", "broken"], &arguments[..]].concat()).spawn().unwrap();
    let broken = wait_for_metrics(&folder.join("broken"), &mut child);
    send("INT", &child);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    let interrupted = newest_checkpoint(&broken, "last");
    host.run(&["resume", broken.to_str().unwrap()]).expect(0);
    assert_ne!(interrupted, newest_checkpoint(&broken, "last"));
    for file in ["weights.safetensors", "average.safetensors", "optimiser.safetensors"] {
        let [a, b] = [&whole, &broken].map(|run| fs::read(newest_checkpoint(run, "last").join(file)).unwrap());
        assert!(a == b && !a.is_empty(), "{file}");
    }
    let state = fs::read(newest_checkpoint(&whole, "last").join("optimiser.safetensors")).unwrap();
    let holds = |name: &[u8]| state.windows(name.len()).any(|window| window == name);
    assert!(holds(b"0.1.model.encoder.") && !holds(b"0.2.model.encoder."), "one buffer a parameter");
    assert_eq!(timeless_metrics(&whole), timeless_metrics(&broken));
}

#[test]
fn plugins_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let home = workspace();
    let home = home.to_str().unwrap();
    let long = "x".repeat(41);
    for name in ["Big", "my-plugin", "9lives", "ü", "", "a b", "../up", &long] {
        host.run(&["new-plugin", name, "--ibhost", home]).refused(2, &["cannot name a plugin", "lower-case"]);
    }
    for name in ["framework", "nets", "kernels", "objective", "dataset"] {
        host.run(&["new-plugin", name, "--ibhost", home]).refused(2, &[&format!("`{name}`"), "choose another name"]);
    }
    host.run(&["new-plugin", "vdb", "--ibhost", home]).refused(2, &["objective `vdb` exists already", "ibhost-vdb"]);
    host.run(&["new-plugin", "mlp", "--kind", "encoder", "--ibhost", home]).refused(2, &["encoder `mlp` exists already", "ibhost-nets"]);
    host.run(&["new-plugin", "fresh"]).refused(2, &["--ibhost DIR"]);
    host.run(&["new-plugin", "fresh", "--ibhost", "."]).refused(2, &["--ibhost .", "framework/Cargo.toml"]);
    fs::create_dir(folder.path().join("ibhost-fresh")).unwrap();
    host.run(&["new-plugin", "fresh", "--ibhost", home]).refused(2, &["`ibhost-fresh` exists already", "--path"]);
    assert_eq!(entries(folder.path()), ["ibhost-fresh/"]);
}
