//! `ibhost compare` and `ibhost analyze` over several runs: the numbers of a table are those of the runs.

use std::fs;
use std::path::{Path, PathBuf};

use ibhost_tests::cli::{CommandLine, SMALL};
use serde_json::{Value, json};

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");

/// Runs with `m` codes and a seed each, of two epochs.
fn runs(host: &CommandLine, settings: &[(u64, u64)]) -> (Vec<PathBuf>, Vec<f64>) {
    let train = |&(m, seed): &(u64, u64)| {
        let (objective, seed) = (format!("vdb/m:{m}"), seed.to_string());
        let (result, run) = host.train(&["--objective", &objective, "--encoder", SMALL, "--epochs", "2", "--seed", &seed]);
        (run, result["final"]["test"]["izx_bits"].as_f64().unwrap())
    };
    settings.iter().map(train).unzip()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_batch_table_holds_mean_and_deviation_of_the_runs() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let (paths, rates) = runs(&host, &[(1, 0), (1, 1), (3, 0)]);
    let mut arguments = vec!["compare"];
    arguments.extend(paths.iter().map(|p| text(p)));
    let means = "means/rows:[strategy]|columns:[objective.m]|value:test.izx_bits";
    arguments.extend(["--comparison", means, "--format", "json", "--output", "tables"]);
    let document: Value = serde_json::from_str(&host.run(&arguments).expect(0).stdout).unwrap();
    let table = &document[0]["tables"]["means"];
    let (mean, half) = (f64::midpoint(rates[0], rates[1]), (rates[0] - rates[1]) / 2.0);
    assert_eq!(table[0]["1"], format!("{mean:.4}±{:.4} (n=2)", (2.0 * half * half).sqrt()));
    assert_eq!(table[0]["3"], format!("{:.4} (n=1)", rates[2]));
    let csv = fs::read_to_string(folder.path().join("tables/means.csv")).unwrap();
    assert!(csv.starts_with("strategy \\ objective.m,1,3\noneshot,"), "{csv}");
    assert!(fs::read_to_string(folder.path().join("tables/means.tex")).unwrap().contains("\\toprule"));

    let of = |comparison: &str| host.run(&["compare", text(&paths[0]), "--comparison", comparison]);
    of("means/rows:[objective.q]").refused(2, &["objective.q", "objective.m"]);
    of("means/value:test.nothing").refused(2, &["test.nothing"]);
    host.run(&["compare", "absent", "--comparison", "means"]).refused(2, &["absent"]);
    of("corruption").refused(2, &["mnistc.json", "ibhost analyze"]);
    of("meens").refused(2, &["meens", "means"]);
    host.run(&["plot", text(&paths[0]), "--figure", "curves"]).refused(2, &["ibhost compare RUNS --comparison 'mean_curves/"]);
    host.run(&["tabulate", text(&paths[0]), "--table", "mnistc"]).refused(2, &["corruption/rows"]);
    host.run(&["evaluate", text(&paths[0]), "--classifier", "x"]).refused(2, &["ibhost analyze RUNS --missing", "rate_plane"]);
}

#[test]
fn folds_are_averaged_over_when_that_is_asked_for_and_other_data_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let train = |dataset: &str, seed: &str| {
        let brief = ["--objective", "vdb", "--encoder", SMALL, "--steps", "3", "--seed", seed, "--dataset", dataset];
        host.train(&brief).1
    };
    let runs = [train("digits/folds:3|fold:0", "0"), train("digits/folds:3|fold:1", "0")];
    let table = |extra: &[&str]| {
        let paths = runs.iter().map(|run| text(run));
        let fixed = ["compare"].into_iter().chain(paths).chain(["--comparison", "means/rows:[strategy]|columns:[objective.m]"]);
        host.run(&fixed.chain(extra.iter().copied()).collect::<Vec<_>>())
    };
    table(&[]).refused(2, &["dataset.fold", "--over"]);
    let mean = table(&["--over", "dataset.fold"]).expect(0).stdout;
    assert!(mean.contains("(n=2)"), "{mean}");
}

#[test]
fn figures_are_drawn_from_the_runs_and_name_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let (paths, _) = runs(&host, &[(1, 0), (1, 1), (3, 0)]);
    let plot = |comparison: &str| {
        let paths = paths.iter().map(|p| text(p));
        host.run(&["compare"].into_iter().chain(paths).chain(["--comparison", comparison, "--output", "drawn"]).collect::<Vec<_>>())
    };
    plot("setting/x:objective.m|metrics:[error;loss]").expect(0);
    plot("mean_curves/series:[objective.m]").expect(0);
    for file in ["drawn/setting.png", "drawn/curves.png"] {
        assert!(fs::read(folder.path().join(file)).unwrap().starts_with(b"\x89PNG"));
    }
    plot("setting/x:strategy").refused(2, &["x:strategy", "oneshot", "number"]);
    plot("mean_curves/metrics:[nothing]|series:[objective.m]").refused(2, &["nothing"]);
    plot("robustness").refused(2, &["salt_pepper.json", "ibhost analyze"]);
    plot("latent_grid").refused(2, &["latent-representation.npy", "ibhost analyze"]);
    for path in &paths {
        host.run(&["analyze", text(path), "--analysis", "salt_pepper/p:[0.2]"]).expect(0);
    }
    plot("robustness/series:[objective.m]|panel:strategy").expect(0);
    assert!(folder.path().join("drawn/robustness.png").is_file());
    plot("robustness/at:5").refused(2, &["`accuracy` along `p` with L 5"]);
    plot("robustness").refused(2, &["differ in objective.m"]);
}

#[test]
fn results_are_drawn_against_an_axis_beside_those_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let (paths, _) = runs(&host, &[(1, 0), (1, 1), (3, 0)]);
    for path in &paths {
        host.run(&["analyze", text(path), "--analysis", "salt_pepper/p:[0.2]"]).expect(0);
    }
    let table = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    table("published.csv", "line,x,metric,value,spread\nvdb,1,test.loss,2.0,0.5\nvdb,3,test.loss,1.5,\n");
    table("broken.csv", "line,x,metric,value\nvdb,one,test.loss,2.0\n");
    let plot = |metric: &str, extra: &[&str]| {
        let axis = format!("axis/x:objective.m|line:strategy|metrics:[{metric}]");
        let fixed = ["compare", "--comparison", &axis, "--output", "drawn"];
        host.run(&fixed.into_iter().chain(paths.iter().map(|p| text(p))).chain(extra.iter().copied()).collect::<Vec<_>>())
    };
    plot("test.loss", &["--reference", "published.csv"]).expect(0);
    assert!(fs::read(folder.path().join("drawn/axis.png")).unwrap().starts_with(b"\x89PNG"));
    host.run(&["compare", "--comparison", "axis/x:M", "--values", "published.csv"]).expect(0);
    plot("test.nothing", &[]).refused(2, &["test.nothing"]);
    plot("loss", &[]).refused(2, &["`loss`", "test.loss"]);
    plot("salt_pepper.nothing", &[]).refused(2, &["analyses/salt_pepper-", "`nothing`"]);
    plot("nll.nll", &[]).refused(2, &["nll.json", "ibhost analyze"]);
    plot("test.loss", &["--reference", "broken.csv"]).refused(2, &["broken.csv", "line 2", "`one`"]);
    plot("test.loss", &["--reference", "absent.csv"]).refused(2, &["absent.csv"]);
    host.run(&["compare", "--comparison", "axis"]).refused(2, &["RUNS"]);
}

#[test]
fn corruption_errors_are_relative_to_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let (paths, _) = runs(&host, &[(1, 0), (3, 0)]);
    // Half the errors of the reference in one category, all of them in the other: a mean corruption error of 75.
    for (path, accuracies) in paths.iter().zip([[0.8, 0.6], [0.9, 0.6]]) {
        let entry = |accuracy: f64| json!([{ "L": 1, "accuracy": 0.0 }, { "L": 12, "accuracy": accuracy }]);
        let result = json!({ "categories": { "fog": entry(accuracies[0]), "shear": entry(accuracies[1]) } });
        fs::write(path.join("analyses/mnistc.json"), json!({ "result": result }).to_string()).unwrap();
    }
    let corruption = "corruption/rows:[objective.name;objective.m]";
    let arguments = ["compare", text(&paths[0]), text(&paths[1]), "--comparison", corruption, "--format", "json"];
    let document: Value = serde_json::from_str(&host.run(&arguments).expect(0).stdout).unwrap();
    let table = document[0]["tables"]["mnistc"].as_array().unwrap();
    let row = |key: &str| table.iter().find(|row| row["key"] == key).unwrap()["mCE"].clone();
    assert_eq!((row("vdb-1"), row("vdb-3")), (json!("100.00"), json!("75.00")));
}

#[test]
fn averaged_weights_are_analysed_only_where_they_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let (paths, _) = runs(&host, &[(1, 0)]);
    let salt = ["--analysis", "salt_pepper/p:[0.2]", "--format", "json"];
    host.run(&[&["analyze", text(&paths[0]), "--average"], &salt[..]].concat()).refused(2, &["averaged weights", "--average"]);
    let (_, kept) = host.train(&["--objective", "vdb", "--encoder", SMALL, "--epochs", "2", "--average", "0.99"]);
    let analyse = |extra: &[&str]| {
        let ended = host.run(&[&["analyze", text(&kept)], &salt[..], extra].concat()).expect(0);
        let value: Value = serde_json::from_str(&ended.stdout).unwrap();
        value[0]["result"].clone()
    };
    let (raw, averaged) = (analyse(&[]), analyse(&["--average"]));
    assert_ne!(raw, averaged);
    assert_eq!(raw, analyse(&[]), "the same noise every time");
    assert_eq!(raw["settings"].as_array().unwrap().len(), 4, "p = 0 first, each with 1 and 12 codes: {raw}");
}
