//! `ibhost report`: a page, tables beside it, and errors for templates that cannot be filled.

use std::fs;
use std::path::{Path, PathBuf};

use ibhost_tests::cli::{CommandLine, SMALL};

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");

/// Four runs of two epochs: two weights of the rate, two seeds.
fn trained(host: &CommandLine) -> Vec<(PathBuf, f64)> {
    let mut runs = Vec::new();
    for beta in ["0.001", "0.1"] {
        for seed in ["0", "1"] {
            let objective = format!("vdb/beta:{beta}");
            let (result, run) =
                host.train(&["--objective", &objective, "--encoder", SMALL, "--epochs", "2", "--seed", seed, "--output-dir", "runs"]);
            runs.push((run, result["final"]["test"]["izx_bits"].as_f64().unwrap()));
        }
    }
    runs
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

const TEMPLATE: &str = "
title: Rate & accuracy
sections:
- title: Rate
  table:
    rows: [objective.beta]
    values: [{of: test.izx_bits, name: 'I(X;Z) / bits', decimals: 3}, test.accuracy]
    published: [{at: {objective.beta: 1e-3}, values: {test.izx_bits: 9.75}}]
- title: Against beta
  where: {objective.beta: [0.001, 0.1]}
  against:
    {x: objective.beta, x_name: beta, values: [test.izx_bits, test.error], published: [{at: {objective.beta: 0.1}, values: {test.error: 0.5}}]}
- title: Information plane
  plane: {x: test.izx_bits, y: test.izy_bits, series: [objective.beta], training: true}
- title: Curves
  curves: {metrics: [loss], series: [objective.beta]}
- title: Nobody
  where: {objective.beta: 7}
  table: {rows: [seed], values: [test.loss]}
";

#[test]
fn every_number_of_a_report_is_a_mean_over_linked_runs() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let runs = trained(&host);
    fs::write(folder.path().join("template.yml"), TEMPLATE).unwrap();
    host.run(&["report", "runs", "--template", "template.yml", "--output", "out/page.html"]).expect(0);
    let page = read(&folder.path().join("out/page.html"));
    let [a, b] = [runs[0].1, runs[1].1];
    let number = format!("{:.3} ± {:.3}", f64::midpoint(a, b), ((a - b).powi(2) / 2.0).sqrt());
    assert!(page.contains(&number), "{number}");
    assert!(
        page.contains("<small title=\"published\">9.75</small>")
            && page.contains("Rate &amp; accuracy")
            && page.contains("4 completed of 4 runs")
    );
    assert!(page.contains("No completed run belongs here yet."));
    assert_eq!(page.matches("<svg").count(), 4, "two panels against beta, the plane, the loss");
    // Every link inside of the page has its target.
    let ids: Vec<&str> = page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let mut links = 0;
    for target in page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(ids.contains(&target), "nothing has the id {target}");
        links += 1;
    }
    assert!(links > 12, "{links}");
    for (run, _) in &runs {
        assert!(page.contains(run.file_name().unwrap().to_str().unwrap()));
    }
    assert!(
        page.contains("--objective vdb/beta:0.001 --encoder &#39;") || page.contains("--objective vdb/beta:0.001 --encoder '"),
        "commands"
    );
    for foreign in ["src=\"http", "href=\"http", "<script", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    let csv = read(&folder.path().join("out/page-rate.csv"));
    assert!(csv.lines().nth(1).unwrap().starts_with(&format!("0.001,{}", f64::midpoint(a, b))), "{csv}");
    assert!(read(&folder.path().join("out/page-rate.tex")).contains("(9.75)"));
}

#[test]
fn without_a_template_the_page_shows_what_the_runs_differ_in() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let runs = trained(&host);
    host.run(&["analyze", runs[0].0.to_str().unwrap(), "--analysis", "curves"]).expect(0);
    host.run(&["report", "runs", "--title", "Four runs"]).expect(0);
    let page = read(&folder.path().join("report.html"));
    assert!(page.contains("<h1>Four runs</h1>") && page.contains("<th>objective.beta</th>") && page.contains("Information plane"));
    assert!(page.contains("data:image/png;base64,iVBOR"), "the picture of the analysis is on the page");
    assert!(folder.path().join("report-test-split-after-training.csv").is_file());
}

#[test]
fn templates_that_cannot_be_filled_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    fs::create_dir(folder.path().join("empty")).unwrap();
    host.run(&["report", "empty"]).refused(2, &["empty", "there is no run"]);
    host.run(&["report", "absent"]).refused(2, &["absent"]);
    host.train(&["--objective", "vdb", "--encoder", SMALL, "--epochs", "1"]);
    let refused = |template: &str, words: &[&str]| {
        fs::write(folder.path().join("t.yml"), template).unwrap();
        host.run(&["report", "runs", "--template", "t.yml"]).refused(2, words);
        assert!(!folder.path().join("report.html").exists());
    };
    refused("sections:\n- {title: A, tabel: {}}\n", &["t.yml", "tabel"]);
    refused("sections:\n- {title: A}\n", &["t.yml", "section `A`", "exactly one"]);
    refused("sections:\n- {title: A, table: {rows: [seed], values: [test.acuracy]}}\n", &["section `A`", "test.acuracy", "test.accuracy"]);
    refused("sections:\n- {title: A, table: {rows: [objective.q], values: [test.loss]}}\n", &["objective.q"]);
    refused("sections:\n- {title: A, against: {x: strategy, values: [test.loss]}}\n", &["section `A`", "oneshot", "number"]);
    refused("sections:\n- {title: A, pictures: {files: [plots/none.png]}}\n", &["section `A`", "plots/none.png"]);
    refused("sections:\n- {title: A, robustness: {}}\n", &["section `A`", "ibhost analyze", "salt_pepper"]);
    host.run(&["report", "runs", "--template", "none.yml"]).refused(2, &["none.yml"]);
}
