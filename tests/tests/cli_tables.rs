//! `ibhost tabulate` and `ibhost analyze` over several runs: the numbers of a table are those of the runs.

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
    let mut arguments = vec!["tabulate"];
    arguments.extend(paths.iter().map(|p| text(p)));
    arguments.extend(["--rows", "strategy", "--metric", "test.izx_bits", "--format", "json", "--output", "tables"]);
    let ended = host.run(&arguments).expect(0);
    let json = &ended.stdout[ended.stdout.find('[').unwrap()..];
    let table: Value = serde_json::from_str(json).unwrap();
    let (mean, half) = (f64::midpoint(rates[0], rates[1]), (rates[0] - rates[1]) / 2.0);
    assert_eq!(table[0]["1"], format!("{mean:.4}±{:.4} (n=2)", (2.0 * half * half).sqrt()));
    assert_eq!(table[0]["3"], format!("{:.4}±0.0000 (n=1)", rates[2]));
    let csv = fs::read_to_string(folder.path().join("tables/table.csv")).unwrap();
    assert!(csv.starts_with("strategy \\ objective.m,1,3\noneshot,"), "{csv}");
    assert!(fs::read_to_string(folder.path().join("tables/table.tex")).unwrap().contains("\\toprule"));

    host.run(&["tabulate", text(&paths[0]), "--rows", "objective.q"]).refused(2, &["objective.q"]);
    host.run(&["tabulate", text(&paths[0]), "--metric", "test.nothing"]).refused(2, &["test.nothing", "izx_bits"]);
    host.run(&["tabulate", "absent"]).refused(2, &["absent"]);
    host.run(&["tabulate", text(&paths[0]), "--table", "mnistc"]).refused(2, &["mnistc.json", "ibhost analyze"]);
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
        let fixed = ["tabulate"].into_iter().chain(paths).chain(["--rows", "strategy", "--columns", "objective.m"]);
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
    let plot = |extra: &[&str]| {
        let mut arguments = vec!["plot"];
        arguments.extend(paths.iter().map(|p| text(p)));
        arguments.extend(extra);
        host.run(&arguments)
    };
    for figure in ["setting", "curves"] {
        let file = format!("{figure}.png");
        plot(&["--figure", figure, "--output", &file]).expect(0);
        assert!(fs::read(folder.path().join(file)).unwrap().starts_with(b"\x89PNG"));
    }
    plot(&["--x", "strategy"]).refused(2, &["--x strategy", "oneshot", "number"]);
    plot(&["--metrics", "nothing"]).refused(2, &["nothing"]);
    plot(&["--figure", "salt-pepper"]).refused(2, &["salt_pepper.json", "ibhost analyze"]);
    plot(&["--figure", "latent-grid"]).refused(2, &["latent-representation.npy", "ibhost analyze"]);
    for path in &paths {
        host.run(&["analyze", text(path), "--analysis", "salt_pepper/p:[0.2]"]).expect(0);
    }
    plot(&["--figure", "salt-pepper", "--output", "noise.png"]).expect(0);
    assert!(folder.path().join("noise.png").is_file());
    plot(&["--figure", "salt-pepper", "--codes", "5"]).refused(2, &["5 codes"]);
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
    let plot = |extra: &[&str]| {
        let mut arguments = vec!["plot", "--figure", "axis", "--x", "objective.m", "--lines", "strategy", "--output", "axis.png"];
        arguments.extend(paths.iter().map(|p| text(p)));
        arguments.extend(extra);
        host.run(&arguments)
    };
    plot(&["--metrics", "test.loss", "--reference", "published.csv"]).expect(0);
    assert!(fs::read(folder.path().join("axis.png")).unwrap().starts_with(b"\x89PNG"));
    host.run(&["plot", "--figure", "axis", "--x", "M", "--values", "published.csv", "--metrics", "test.loss"]).expect(0);
    plot(&["--metrics", "test.nothing"]).refused(2, &["test.nothing"]);
    plot(&["--metrics", "loss"]).refused(2, &["`loss`", "test.loss"]);
    plot(&["--metrics", "salt_pepper.nothing"]).refused(2, &["analyses/salt_pepper-", "`nothing`"]);
    plot(&["--metrics", "nll.nll"]).refused(2, &["nll.json", "ibhost analyze"]);
    plot(&["--metrics", "test.loss", "--reference", "broken.csv"]).refused(2, &["broken.csv", "line 2", "`one`"]);
    plot(&["--metrics", "test.loss", "--reference", "absent.csv"]).refused(2, &["absent.csv"]);
    host.run(&["plot", "--figure", "axis"]).refused(2, &["RUNS"]);
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
    let arguments = ["tabulate", text(&paths[0]), text(&paths[1]), "--table", "mnistc", "--format", "json"];
    let table: Value = serde_json::from_str(&host.run(&arguments).expect(0).stdout).unwrap();
    let row = |m: &str| table.as_array().unwrap().iter().find(|row| row["key"].as_str().unwrap().ends_with(m)).unwrap()["mCE"].clone();
    assert_eq!((row("M1"), row("M3")), (json!("100.00"), json!("75.00")));
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
