//! `ibhost analyze --missing` and the comparison `rate_plane`: a grid of generative models judged by a classifier, continued where it stopped, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use ibhost_tests::cli::CommandLine;
use serde_json::Value;

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");
const DATA: &str = "binarised/of:digits|mode:static|first:400";

fn generative(host: &CommandLine, rate: &str) -> PathBuf {
    let arguments = ["--objective", "hvae/loss:vae", "--encoder", "gated_mlp/z1:3|z2:3", "--decoder", "gated_mlp", "--dataset", DATA];
    host.train(&[&arguments[..], &["--epochs", "2", "--lr", rate]].concat()).1
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_grid_is_evaluated_once_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let (_, classifier) = host.train(&["--objective", "classifier", "--encoder", "mnist_cnn/z:16", "--dataset", DATA, "--epochs", "3"]);
    let runs = [generative(&host, "0.001"), generative(&host, "0.002")];
    let name = classifier.file_name().unwrap().to_str().unwrap();
    let judges = [format!("inception_score/classifier:{name}|samples:300|splits:2"), format!("fid/classifier:{name}|samples:300")];
    let mut arguments = vec!["analyze", text(&runs[0]), text(&runs[1]), "--missing", "--classifier", name, "--jobs", "2"];
    for analysis in ["rates", "psnr", "label_information", "probes", "reconstruction_accuracy", &judges[0], &judges[1]] {
        arguments.extend(["--analysis", analysis]);
    }
    host.run(&arguments).expect(0);
    // The judge lies beside the runs and is none of them.
    let plane = ["compare", text(&runs[0]), text(&runs[1]), text(&classifier), "--comparison", "rate_plane/lower:lr|top:lr"];
    let ended = host.run(&[&plane[..], &["--output", "grid"]].concat()).expect(0);
    assert!(ended.stdout.contains("rate-space.html") && !ended.stderr.contains("left out"), "{ended:#?}");
    let document: Value = serde_json::from_str(&fs::read_to_string(folder.path().join("grid/grid.json")).unwrap()).unwrap();
    assert_eq!((document["betas_lower"][0].as_f64(), document["betas_top"][0].as_f64()), (Some(0.002), Some(0.001)));
    // Only the cells on the diagonal have a run.
    let psnr = &document["matrices"]["psnr"];
    assert!(psnr[0][0].is_null() && psnr[1][1].is_null() && psnr[0][1].as_f64().is_some_and(|v| v > 1.0), "{psnr}");
    let keys = ["fid", "inception_score", "reconstruction_accuracy", "information_top", "svm_rbf_top_sample", "rate_lower", "distortion"];
    for key in keys {
        assert!(document["matrices"][key][1][0].as_f64().is_some_and(f64::is_finite), "{key} of {}", document["matrices"]);
    }
    for file in [
        "grid.json",
        "grid.csv",
        "rate-plane.png",
        "rate-space.png",
        "rate-space.html",
        "total-rate.png",
        "accuracy-bound.png",
        "three-values.png",
    ] {
        assert!(folder.path().join("grid").join(file).is_file(), "{file}");
    }

    // What is there stays as it is; another setting is made beside it.
    let made = |analysis: &str| fs::metadata(runs[0].join("analyses").join(analysis)).unwrap().modified().unwrap();
    let before = ["psnr.json", "probes.json"].map(made);
    arguments.extend(["--analysis", "probes/points:100", "--format", "json"]);
    let results: Value = serde_json::from_str(&host.run(&arguments).expect(0).stdout).unwrap();
    assert_eq!(["psnr.json", "probes.json"].map(made), before);
    let kept = results.as_array().unwrap().iter().filter(|result| result["kept"].is_string()).count();
    assert_eq!((kept, results.as_array().unwrap().len()), (14, 16));
    let is_new = |name: &str| name.starts_with("probes-") && name.strip_suffix(".json").is_some();
    assert_eq!(fs::read_dir(runs[0].join("analyses")).unwrap().flatten().filter(|e| is_new(&e.file_name().to_string_lossy())).count(), 1);

    host.run(&["compare", text(&runs[0]), "--comparison", "rate_plane"]).refused(2, &["objective.beta_y"]);
    host.run(&["analyze", text(&classifier), "--missing", "--analysis", "rates"]).refused(2, &["rates", "log density"]);
    let judged = ["analyze", text(&runs[0]), "--analysis", "reconstruction_accuracy", "--classifier", "absent"];
    host.run(&judged).refused(2, &["no finished run of that name"]);
}
