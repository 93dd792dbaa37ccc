//! Results of several runs: kept side by side under each of their settings, taken again only when they would come out the same, and put together
//! only where they belong together.

use std::fs;
use std::path::{Path, PathBuf};

use ibhost_tests::cli::{CommandLine, SMALL, entries};
use serde_json::Value;

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");
const DATA: &str = "binarised/of:digits|mode:static|first:200";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A run of two short epochs.
fn run(host: &CommandLine, more: &[&str]) -> PathBuf {
    let small = ["--objective", "vdb", "--encoder", SMALL, "--limit-train", "100", "--epochs", "2"];
    host.train(&[&small[..], more].concat()).1
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

/// Names of the documents of `analysis`.
fn documents(folder: &Path, analysis: &str) -> Vec<String> {
    let names = entries(&folder.join("analyses"));
    names.into_iter().filter(|name| name.starts_with(analysis) && name.strip_suffix(".json").is_some()).collect()
}

/// Every file below `folder` with its content and time.
fn state(folder: &Path) -> Vec<(String, Vec<u8>, std::time::SystemTime)> {
    let of = |name: String| {
        let path = folder.join(&name);
        let content = if path.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
        (name, content, fs::metadata(&path).unwrap().modified().unwrap())
    };
    entries(folder).into_iter().map(of).collect()
}

#[test]
fn results_under_other_settings_lie_side_by_side_and_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let run = run(&host, &["--average", "0.9"]);
    let analyse = |more: &[&str]| host.run(&[&["analyze", text(&run)], more].concat()).expect(0);
    analyse(&["--analysis", "salt_pepper/p:[0.1]", "--analysis", "salt_pepper/p:[0.2]"]);
    let first = documents(&run, "salt_pepper");
    assert_eq!(first.len(), 2, "{first:?}");
    let before = state(&run.join("analyses"));
    let salt = ["--analysis", "salt_pepper/p:[0.2]"];
    for more in [&["--checkpoint", "best"][..], &["--average"], &["--seed", "7"]] {
        analyse(&[&salt[..], more].concat());
    }
    let all = documents(&run, "salt_pepper");
    for part in ["-best.json", "-average.json", "-seed7.json"] {
        assert_eq!(all.iter().filter(|name| name.ends_with(part)).count(), 1, "{all:?}");
    }
    let after = state(&run.join("analyses"));
    assert!(before.iter().all(|file| after.contains(file)), "what was there stays as it was");

    // Pictures and other files too.
    let picture = fs::read(run.join("plots/curves.png")).unwrap();
    analyse(&["--analysis", "curves", "--checkpoint", "best"]);
    assert!(run.join("plots/curves-best.png").is_file() && fs::read(run.join("plots/curves.png")).unwrap() == picture);
    for points in ["embedding/points:30", "embedding/points:40"] {
        analyse(&["--analysis", points]);
        host.run(&["verify", text(&run)]).expect(0);
    }
    let projector = fs::read_to_string(run.join("tensorboard/test/projector_config.pbtxt")).unwrap();
    assert_eq!(projector.matches("tensor_path").count(), 2, "{projector}");

    // Readers do not pick one.
    let plot = |more: &[&str]| host.run(&[&["compare", text(&run), "--comparison", "robustness/at:1"], more].concat());
    plot(&[]).refused(2, &["5 results of `salt_pepper`", "salt_pepper/p:[0.1]", first[0].trim_end_matches(".json")]);
    plot(&["--result", "salt_pepper/p:[0.1]"]).expect(0);
    plot(&["--result", "salt_pepper/p:[0.2]"]).refused(2, &["4 results", "best checkpoint", "averaged weights", "seed 7"]);
    for name in &all {
        plot(&["--result", name.trim_end_matches(".json")]).expect(0);
    }
    plot(&["--result", "salt_pepper/p:[0.3]"]).refused(2, &["only results under other settings"]);
    let of_first = ["compare", text(&run), "--comparison", "axis/metrics:[salt_pepper.settings.0.accuracy]"];
    host.run(&[&of_first[..], &["--result", "salt_pepper/p:[0.1]"]].concat()).expect(0);
    host.run(&of_first).refused(2, &["5 results"]);
}

#[test]
fn a_run_can_be_analysed_without_a_change_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let (run, other) = (run(&host, &[]), run(&host, &["--seed", "1"]));
    let before = state(&run);
    let analyse =
        |output: &str| host.run(&["analyze", text(&run), "--output", output, "--analysis", "curves", "--analysis", "salt_pepper/p:[0.2]"]);
    analyse("elsewhere").expect(0);
    let place = folder.path().join("elsewhere").join(run.file_name().unwrap());
    assert!(place.join("plots/curves.png").is_file() && documents(&place, "salt_pepper").len() == 1);
    host.run(&["compare", text(&run), "--results", "elsewhere", "--comparison", "robustness"]).expect(0);
    host.run(&["compare", text(&run), "--comparison", "robustness"]).refused(2, &["salt_pepper.json", "ibhost analyze"]);
    // Neither the run itself nor another one takes the results.
    let inside = [text(run.parent().unwrap()).to_owned(), text(&run).to_owned(), text(&other.join("x")).to_owned()];
    for output in &inside {
        analyse(output).refused(2, &["--output", "lies in the run"]);
    }
    // Another run of that folder's name does not replace them.
    let namesake = folder.path().join("other").join(run.file_name().unwrap());
    fs::create_dir(folder.path().join("other")).unwrap();
    fs::rename(&other, &namesake).unwrap();
    host.run(&["analyze", text(&namesake), "--output", "elsewhere", "--analysis", "curves"]).refused(2, &["is a result of run"]);
    let both = ["analyze", text(&run), text(&namesake), "--output", "third", "--analysis", "curves"];
    assert!(host.run(&both).expect(1).stderr.contains("have folders of one name"));
    assert_eq!(state(&run), before);
}

#[test]
fn means_are_made_of_what_belongs_together() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let runs: Vec<PathBuf> = ["0", "1", "2"].iter().map(|seed| run(&host, &["--seed", seed])).collect();
    let on = |command: &[&str], runs: &[&PathBuf], more: &[&str]| {
        let paths: Vec<&str> = runs.iter().map(|path| text(path)).collect();
        host.run(&[command, &paths, more].concat())
    };
    let all: Vec<&PathBuf> = runs.iter().collect();

    // Three seeds, each analysed with other parameters, or one of them with other weights.
    for (i, run) in runs.iter().enumerate() {
        let analysis = format!("salt_pepper/p:[0.{}]", i + 1);
        host.run(&["analyze", text(run), "--analysis", &analysis]).expect(0);
    }
    let salt = ["--comparison", "robustness"];
    on(&["compare"], &all, &salt).refused(2, &["the analysis (salt_pepper/p:[0.1], salt_pepper/p:[0.2])"]);
    let axis = |metric: &str| format!("axis/line:strategy|metrics:[{metric}]");
    on(&["compare"], &all, &["--comparison", &axis("salt_pepper.settings.0.accuracy")]).refused(2, &["differ in the analysis"]);
    for (run, checkpoint) in runs.iter().zip(["best", "last", "last"]) {
        host.run(&["analyze", text(run), "--analysis", "salt_pepper/p:[0.4]", "--checkpoint", checkpoint]).expect(0);
    }
    on(&["compare"], &all, &[&salt[..], &["--result", "salt_pepper/p:[0.4]"]].concat()).refused(2, &["the checkpoint (best, last)"]);
    on(&["compare"], &all[1..], &[&salt[..], &["--result", "salt_pepper/p:[0.4]"]].concat()).expect(0);

    // Other settings than those that make rows and columns.
    let other = run(&host, &["--lr", "0.002"]);
    let table = ["--comparison", "means", "--format", "json"];
    on(&["compare"], &[all[0], &other], &table).refused(2, &["differ in lr (", "--over"]);
    on(&["compare"], &[all[0], &other], &["--comparison", "mean_curves"]).refused(2, &["lr (", "0.002)"]);
    let cell = |ended: ibhost_tests::cli::Ended| {
        let document: Value = serde_json::from_str(&ended.stdout).unwrap();
        document[0]["tables"]["means"][0]["test.loss"].as_str().unwrap().to_owned()
    };
    assert!(cell(on(&["compare"], &[all[0], &other], &[&table[..], &["--over", "lr"]].concat()).expect(0)).ends_with("(n=2)"));

    // A result that was copied from another run.
    let [mine, theirs] = [0, 1].map(|i: usize| runs[i].join("analyses/curves.json"));
    let own = fs::read(&mine).unwrap();
    fs::copy(&theirs, &mine).unwrap();
    on(&["compare"], &all[..1], &["--comparison", &axis("curves.rows")]).refused(2, &["is a result of run"]);
    fs::write(&mine, own).unwrap();

    // A run that is not completed, a copy, and a run named twice.
    let summary = fs::read_to_string(runs[2].join("summary.yml")).unwrap();
    let body = summary[..summary.rfind('#').unwrap()].replace("status: completed", "status: interrupted");
    let sealed = format!("{body}# blake3 of the lines above: {}\n", seal_of(&body));
    fs::write(runs[2].join("summary.yml"), sealed).unwrap();
    let ended = on(&["compare"], &all, &table).expect(0);
    let name = runs[2].file_name().unwrap().to_str().unwrap();
    assert!(ended.stderr.contains(name) && ended.stderr.contains("is interrupted and left out"), "{ended:#?}");
    assert!(cell(ended).ends_with("(n=2)"));
    assert!(cell(on(&["compare"], &all, &[&table[..], &["--unfinished"]].concat()).expect(0)).ends_with("(n=3)"));
    on(&["compare"], &all[2..], &table).refused(2, &["none of the runs is completed", "is interrupted", "--unfinished"]);
    let copy = folder.path().join("copy");
    copy_folder(&runs[0], &copy);
    let ended = on(&["compare"], &[all[0], all[0], &copy], &table).expect(0);
    assert!(ended.stderr.contains("was named before") && ended.stderr.contains("is a copy of"), "{ended:#?}");
    assert!(cell(ended).ends_with("(n=1)"));
}

/// BLAKE3 of `text`, as it stands in the last line of a sealed file.
fn seal_of(text: &str) -> String {
    ibhost_framework::storage::FileHash::of(text.as_bytes()).blake3
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in entries(from) {
        if name.ends_with('/') {
            fs::create_dir_all(to.join(name)).unwrap();
        }
    }
    for name in entries(from).iter().filter(|name| !name.ends_with('/')) {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

#[test]
fn one_bad_run_does_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let (first, bad, last) = (run(&host, &[]), run(&host, &["--seed", "1"]), run(&host, &["--seed", "2"]));
    fs::write(bad.join("config.yml"), "objective: {}\n").unwrap();
    let name = bad.file_name().unwrap().to_str().unwrap();
    let named = |ended: ibhost_tests::cli::Ended| {
        let ended = ended.expect(1);
        assert!(ended.stderr.contains("1 left out") && ended.stderr.contains(name) && ended.stderr.contains("config.yml"), "{ended:#?}");
        ended
    };
    named(host.run(&["analyze", text(&first), text(&bad), text(&last), "--analysis", "salt_pepper"]));
    assert!(documents(&first, "salt_pepper").len() == 1 && documents(&last, "salt_pepper").len() == 1);
    let runs = [text(&first), text(&bad), text(&last)];
    let ended = named(host.run(&[&["compare"], &runs[..], &["--comparison", "means"]].concat()));
    assert!(ended.stdout.contains("(n=2)"), "{ended:#?}");
    named(host.run(&[&["compare"], &runs[..], &["--comparison", "robustness"]].concat()));
    assert!(folder.path().join("comparison/robustness.png").is_file());
    // Of two analyses the one that does not fit is named with its run.
    let ended = host.run(&["analyze", text(&first), "--analysis", "latent_plot", "--analysis", "curves"]).expect(1);
    assert!(ended.stderr.contains("latent_plot") && ended.stdout.contains("curves.png"), "{ended:#?}");
}

#[test]
fn kept_evaluations_are_those_that_would_come_out_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let judge = || {
        let (_, run) =
            host.train(&["--objective", "classifier", "--encoder", "mnist_cnn/z:8", "--dataset", DATA, "--epochs", "1", "--name", "judge"]);
        run
    };
    let first_judge = judge();
    let generative = ["--objective", "hvae/loss:vae", "--encoder", "gated_mlp/z1:3|z2:3", "--decoder", "gated_mlp", "--dataset", DATA];
    let (_, run) = host.train(&[&generative[..], &["--epochs", "1"]].concat());
    // A comma in a folder's name shifts no column.
    let named = run.parent().unwrap().join("a,b \"c\"");
    fs::rename(&run, &named).unwrap();
    let evaluate = |runs: &[&str], more: &[&str]| host.run(&[&["analyze", "--missing", "--analysis", "psnr"], runs, more].concat());
    let judged = |judge: &str| evaluate(&[text(&named)], &["--analysis", "reconstruction_accuracy", "--classifier", judge]);
    let grid = |runs: &[&str]| host.run(&[&["compare", "--comparison", "rate_plane/lower:lr|top:lr", "--output", "grid"], runs].concat());
    judged("judge").expect(0);
    let made = |name: &str| fs::metadata(named.join("analyses").join(name)).unwrap().modified().unwrap();
    let accuracy = || {
        let name = documents(&named, "reconstruction_accuracy");
        assert_eq!(name.len(), 1, "{name:?}");
        name[0].clone()
    };
    let (psnr, by_judge) = ("psnr.json", accuracy());
    let before = [made(psnr), made(&by_judge)];
    judged("judge").expect(0);
    assert_eq!([made(psnr), made(&by_judge)], before, "nothing has changed");
    grid(&[text(&named)]).expect(0);
    let csv = fs::read_to_string(folder.path().join("grid/grid.csv")).unwrap();
    let row = csv.lines().nth(1).unwrap();
    assert!(row.contains("a,b \"\"c\"\"\",") && row.starts_with('"'), "{csv}");

    // Another seed, other data, another program.
    evaluate(&[text(&named)], &["--seed", "9"]).expect(0);
    assert_eq!(documents(&named, "psnr"), ["psnr-seed9.json", "psnr.json"]);
    for key in ["data", "program", "weights"] {
        evaluate(&[text(&named)], &[]).expect(0);
        let path = named.join("analyses").join(psnr);
        let mut document = json(&path);
        document[key] = "other".into();
        fs::write(&path, document.to_string()).unwrap();
        evaluate(&[text(&named)], &[]).expect(0);
        let anew = documents(&named, "psnr").iter().any(|name| {
            let document = json(&named.join("analyses").join(name));
            document["seed"] == 0 && document[key] != "other"
        });
        assert!(anew, "{key}");
        for name in documents(&named, "psnr").iter().filter(|name| *name != psnr) {
            fs::remove_file(named.join("analyses").join(name)).unwrap();
        }
        fs::remove_file(&path).unwrap();
    }

    // A judge trained anew under the same name: which one is meant has to be said, and results are told apart.
    let second_judge = judge();
    let ids: Vec<String> = [&first_judge, &second_judge].map(|run| text(run)[text(run).len() - 8..].to_owned()).to_vec();
    let ended = judged("judge").expect(1);
    assert!(ended.stderr.contains("means 2 runs") && ids.iter().all(|id| ended.stderr.contains(id.as_str())), "{ended:#?}");
    judged(&ids[1]).expect(0);
    judged(text(&second_judge)).expect(0);
    assert_eq!(documents(&named, "reconstruction_accuracy").len(), 2);
    fs::remove_dir_all(&first_judge).unwrap();
    judged("judge").expect(0);
    assert_eq!(documents(&named, "reconstruction_accuracy").len(), 3, "the old judge's result stays beside the new one's");

    // One run that cannot be evaluated is named, the others are.
    let ended = evaluate(&[text(&named), text(&second_judge)], &[]).expect(1);
    let judge_name = second_judge.file_name().unwrap().to_str().unwrap();
    assert!(ended.stderr.contains("1 left out") && ended.stderr.contains(judge_name) && ended.stdout.contains("a,b"), "{ended:#?}");
}
