//! Looking at runs: it changes nothing, one bad run hides no other, only seeds are averaged, and what somebody else wrote reaches neither
//! terminal nor browser as it is.

#![cfg(unix)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ibhost_framework::storage::RunDir;
use ibhost_tests::cli::{CommandLine, entries, tiny_run};

const HOST: &str = env!("CARGO_BIN_EXE_ibhost-under-test");
const ENCODER: &str = "mlp/e1:8|e2:8|z:2";

/// A run of a fraction of a second below `output`.
fn train(host: &CommandLine, objective: &str, seed: &str, output: &str) -> PathBuf {
    let tiny = tiny_run(ENCODER, "3", "1000steps");
    host.train(&[&tiny[2..], &["--objective", objective, "--seed", seed, "--output-dir", output]].concat()).1
}

/// Bytes and times of everything in a folder, and of itself.
fn state(folder: &Path) -> Vec<(String, Vec<u8>, [i64; 4])> {
    let one = |name: String| {
        let path = folder.join(&name);
        let metadata = fs::symlink_metadata(&path).unwrap();
        let bytes = if metadata.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        (name, bytes, [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()])
    };
    let mut names = entries(folder);
    names.push(String::new());
    names.sort();
    names.into_iter().map(one).collect()
}

/// Every command that only looks, at `run` in `runs`, with what it writes in `output`.
fn looks<'a>(run: &'a str, runs: &'a str, inner: &'a str, page: &'a str, plot: &'a str) -> Vec<Vec<&'a str>> {
    vec![
        vec!["runs", run],
        vec!["runs", run, "--columns", "all"],
        vec!["runs", runs, run, "--format", "json"],
        vec!["runs", inner],
        vec!["report", run, "--output", page],
        vec!["report", runs, "--output", page],
        vec!["verify", run],
        vec!["compare", run, "--comparison", "mean_curves/metrics:[loss]|series:[objective.name]", "--output", plot],
        vec!["compare", run, "--comparison", "means/columns:[encoder.name]", "--output", plot],
        vec!["describe", "vdb"],
        vec!["list"],
    ]
}

#[test]
fn commands_that_look_change_no_file_no_name_and_no_time_of_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let run = train(&host, "vdb", "0", "runs");
    host.run(&["analyze", run.to_str().unwrap(), "--analysis", "curves"]).expect(0);
    fs::create_dir(folder.path().join("out")).unwrap();
    let inner = run.join("plots");
    let [run_text, inner] = [&run, &inner].map(|path| path.to_str().unwrap());
    let before = state(&folder.path().join("runs"));
    for arguments in looks(run_text, "runs", inner, "out/page.html", "out/compared") {
        let ended = host.run(&arguments);
        assert!(state(&folder.path().join("runs")) == before, "{arguments:?} changes the run: {ended:#?}");
        ended.expect(0);
    }
    // What is written goes where it was asked to, and never into a run.
    for output in ["page.html", "plots/page.html", "new/page.html"] {
        let inside = run.join(output);
        let inside = inside.to_str().unwrap();
        host.run(&["report", run_text, "--output", inside]).refused(2, &["lies in the run", "hint"]);
        host.run(&["compare", run_text, "--comparison", "mean_curves", "--output", inside]).refused(2, &["lies in the run"]);
    }
    assert!(state(&folder.path().join("runs")) == before);
}

#[test]
fn commands_that_look_work_on_a_read_only_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let run = train(&host, "vdb", "0", "runs");
    let name = run.file_name().unwrap().to_str().unwrap();
    let (there, inner) = (format!("/mnt/runs/{name}"), format!("/mnt/runs/{name}/plots"));
    let mut script =
        "set -e; mount -t tmpfs -o size=8m tmpfs /mnt; cp -a runs /mnt/; mount -o remount,ro /mnt; ! touch /mnt/runs/x 2>&1".to_owned();
    for arguments in looks(&there, "/mnt/runs", &inner, "page.html", "compared") {
        let words: Vec<String> = arguments.iter().map(|argument| format!("'{argument}'")).collect();
        script += &format!("; '{HOST}' {} || {{ echo {} fails; exit 9; }}", words.join(" "), arguments[0]);
    }
    let allowed = Command::new("unshare").args(["-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]).output();
    if !allowed.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped: this machine does not permit mounting a small file system: {allowed:?}");
        return;
    }
    let ended = Command::new("unshare").args(["-rm", "sh", "-c", &script]).current_dir(folder.path()).output().unwrap();
    let [stdout, stderr] = [&ended.stdout, &ended.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(ended.status.success() && stdout.contains(name) && stdout.contains("is sound"), "{stdout}\n{stderr}");
}

#[test]
fn bad_runs_are_listed_with_a_reason_and_hide_and_block_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let good = train(&host, "vdb", "0", "runs");
    let at = |name: &str| folder.path().join("runs").join(name);
    let copy = |name: &str| {
        let status = Command::new("cp").arg("-a").arg(&good).arg(at(name)).status().unwrap();
        assert!(status.success());
        at(name)
    };
    let identity = copy("damaged-identity").join(".run.json");
    fs::write(&identity, fs::read_to_string(&identity).unwrap().replace("format", "farmot")).unwrap();
    fs::remove_file(copy("lost-identity").join(".run.json")).unwrap();
    let config = copy("damaged-settings").join("config.yml");
    fs::write(&config, fs::read_to_string(&config).unwrap().replace("mlp", "mpl")).unwrap();
    fs::write(copy("foreign").join("metrics.jsonl"), "{").unwrap();
    copy("copied");
    // Killed in the first moment, and a moment later.
    fs::create_dir_all(at("mlp-vdb--2026-12-01T10-41-29-c79d1439")).unwrap();
    fs::create_dir_all(at("unborn/checkpoints")).unwrap();
    fs::write(at("unborn/.lock"), "").unwrap();

    let listed = host.run(&["runs", "runs"]).expect(0);
    let reason = |name: &str| listed.stdout.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name}: {listed:#?}"));
    for (name, word) in [
        ("damaged-identity", ".run.json"),
        ("lost-identity", "`.run.json` is missing"),
        ("damaged-settings", "config.yml"),
        ("--2026-12-01T10-41-29-c79d1439", "can be removed"),
        ("unborn", "can be removed"),
    ] {
        assert!(reason(name).contains(word), "{name}: {}", reason(name));
    }
    assert!(reason(good.file_name().unwrap().to_str().unwrap()).contains("completed"));
    assert_eq!(listed.stdout.lines().count(), 9, "a header and eight folders: {listed:#?}");
    let only = host.run(&["runs", "runs", "status=damaged", "--format", "json"]).expect(0);
    assert_eq!(only.stdout.matches("\"run_dir\"").count(), 4, "{only:#?}");

    let reported = host.run(&["report", "runs"]).expect(0);
    let page = fs::read_to_string(folder.path().join("report.html")).unwrap();
    for name in ["damaged-identity", "lost-identity", "damaged-settings", "foreign", "copied", "c79d1439", "unborn"] {
        assert!(page.contains(name) && reported.stderr.contains(name), "{name}: {reported:#?}");
    }
    assert!(page.contains("1 completed of 1 runs") && page.contains("is a copy of"));
    host.run(&["report", at("unborn").to_str().unwrap()]).refused(1, &["unborn", "can be removed"]);
}

/// The rows of a CSV table beside a report.
fn rows(folder: &Path, name: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// The cells of the column `name`, whatever unit stands behind its first word.
fn column(rows: &[Vec<String>], name: &str) -> Vec<String> {
    let without_unit = |cell: &str| match (cell.split_once(" / "), cell.rsplit_once(" (")) {
        (Some((first, _)), Some((_, last))) => format!("{first} ({last}"),
        _ => cell.to_owned(),
    };
    let at = rows[0].iter().position(|cell| without_unit(cell) == name).unwrap_or_else(|| panic!("no {name}: {rows:?}"));
    rows[1..].iter().map(|row| row[at].clone()).collect()
}

#[test]
fn a_report_averages_runs_that_differ_in_their_seed_alone() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let mut runs = Vec::new();
    for (objective, seed) in [("vib/samples:1", "0"), ("vib/samples:1", "1"), ("vib/samples:2", "0"), ("vdb", "0")] {
        runs.push(train(&host, objective, seed, "runs"));
    }
    // Not the settings that a template names decide what is a repetition, and a setting that some runs lack is another value.
    fs::write(folder.path().join("t.yml"), "sections:\n- {title: T, table: {rows: [encoder.name], values: [test.loss]}}\n").unwrap();
    host.run(&["report", "runs", "--template", "t.yml"]).expect(0);
    let table = rows(folder.path(), "report-t.csv");
    let counted = |table: &[Vec<String>]| {
        let columns = ["objective.name", "objective.samples", "test.loss (n)"].map(|name| column(table, name));
        let mut rows: Vec<String> =
            (0..columns[0].len()).map(|row| columns.each_ref().map(|column| column[row].as_str()).join(" ")).collect();
        rows.sort();
        rows
    };
    assert_eq!(counted(&table), ["vdb – 1", "vib 1 2", "vib 2 1"]);
    assert!(fs::read_to_string(folder.path().join("report.html")).unwrap().contains("<sub>n=2</sub>"));
    assert!(fs::read_to_string(folder.path().join("report-t.tex")).unwrap().contains("n=2"));
    // Without a template too, however often and by whatever name a run is given.
    std::os::unix::fs::symlink("runs", folder.path().join("link")).unwrap();
    let first = runs[0].to_str().unwrap();
    host.run(&["report", "runs", "link", first, "runs/../runs", "--title", "twice"]).expect(0);
    assert_eq!(counted(&rows(folder.path(), "report-test-split-after-training.csv")), ["vdb – 1", "vib 1 2", "vib 2 1"]);

    // Results of an analysis under other settings are no repetitions either.
    for (run, analysis) in [(&runs[0], "ksg/points:40|k:1"), (&runs[1], "ksg/points:40|k:2")] {
        host.run(&["analyze", run.to_str().unwrap(), "--analysis", analysis]).expect(0);
    }
    let template =
        "sections:\n- {title: K, where: {objective.samples: 1}, table: {rows: [encoder.name], values: [ksg.mutual_information]}}\n";
    fs::write(folder.path().join("k.yml"), template).unwrap();
    host.run(&["report", "runs", "--template", "k.yml"]).expect(0);
    let table = rows(folder.path(), "report-k.csv");
    assert_eq!(column(&table, "ksg.mutual_information (n)"), ["1", "1"]);
    // Runs that were begun within a second lie in any order.
    let mut settings = column(&table, "ksg");
    settings.sort();
    assert!(settings[0].contains("k:1") && settings[1].contains("k:2"), "{settings:?}");
    // Of two results of one run it is not known which is meant.
    host.run(&["analyze", first, "--analysis", "ksg/points:40|k:2"]).expect(0);
    host.run(&["report", "runs", "--template", "k.yml"]).expect(0);
    let page = fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("there are 2 results of `ksg`"), "what is missing is said");
}

#[test]
fn a_report_shows_pictures_of_its_own_runs_alone() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let run = train(&host, "vdb", "0", "runs");
    let secret = folder.path().join("secret.png");
    fs::write(&secret, b"\x89PNG\r\n\x1a\n of somebody else").unwrap();
    std::os::unix::fs::symlink(&secret, run.join("plots/link.png")).unwrap();
    let report = |file: &str| {
        fs::write(folder.path().join("t.yml"), format!("sections:\n- {{title: A, pictures: {{files: ['{file}']}}}}\n")).unwrap();
        host.run(&["report", "runs", "--template", "t.yml"])
    };
    report(secret.to_str().unwrap()).refused(2, &["section `A`", "secret.png", "below the folder of a run"]);
    report("../../secret.png").refused(2, &["section `A`", "below the folder of a run"]);
    report("config.yml").refused(2, &["section `A`", "no picture"]);
    let linked = report("plots/link.png").expect(2);
    assert!(linked.stderr.contains("no run has `plots/link.png`") && linked.stderr.contains("is a link"), "{linked:#?}");
    // Without a template pictures are found by themselves.
    host.run(&["report", "runs"]).expect(0);
    assert!(!fs::read_to_string(folder.path().join("report.html")).unwrap().contains("b2Ygc29tZWJvZHkgZWxzZ"), "the link is in the page");
}

#[test]
fn text_from_runs_steers_no_terminal_and_no_browser() {
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let run = train(&host, "vdb", "0", "runs");
    let evil = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}\r<script>";
    {
        let open = RunDir::open(&run).unwrap();
        let mut summary = open.read_summary().unwrap();
        (summary.reason, summary.dataset) = (Some(evil.to_owned()), format!("digits{evil}"));
        open.write_summary(&summary).unwrap();
    }
    let named = folder.path().join("runs/javascript:alert(1)\u{1b}[31m\n\"x");
    fs::rename(&run, &named).unwrap();
    let path = named.to_str().unwrap();
    for arguments in looks(path, "runs", "runs", "page.html", "compared") {
        // The summary is no longer what the run wrote, which `verify` says.
        let ended = host.run(&arguments);
        for text in [&ended.stdout, &ended.stderr] {
            let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.contains(steers), "{arguments:?}: {ended:#?}");
        }
        if arguments[0] == "runs" && !arguments.contains(&"all") {
            assert!(ended.stdout.contains("\\u001b"), "{ended:#?}");
        }
    }
    // What was typed comes back in messages too.
    for arguments in [["runs", "--zz\u{1b}[31m\u{202e}"], ["\u{202e}runs", "x"], ["list", "--kind=\u{9b}2J"]] {
        let ended = host.run(&arguments).expect(2);
        assert!(ended.stderr.contains("\\u") && !ended.stderr.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{ended:#?}");
    }
    let page = fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert!(page.contains("href=\"./runs/javascript%3Aalert%281%29%1B%5B31m%0A%22x\""), "{page}");
    for wrong in ["<script", "href=\"javascript", "href=\"/", "\u{1b}", "\u{202e}"] {
        assert!(!page.contains(wrong), "{wrong:?}");
    }
}

#[test]
fn a_name_that_is_no_text_hides_no_run_and_can_be_asked_for() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let host = CommandLine::new(HOST, folder.path());
    let run = train(&host, "vdb", "0", "runs");
    train(&host, "vdb", "1", "runs");
    let outer = folder.path().join(std::ffi::OsStr::from_bytes(b"odd\xff"));
    fs::create_dir(&outer).unwrap();
    fs::rename(&run, outer.join(std::ffi::OsStr::from_bytes(b"run\xfe"))).unwrap();
    let listed = host.run(&["runs", ".", "--format", "json"]).expect(0).stdout;
    let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().any(|run| run["run_dir"].as_str().is_some_and(|text| text.contains("odd\\xff/run\\xfe"))), "{listed:#?}");
    let asked = Command::new(HOST).current_dir(folder.path()).arg("runs").arg(&outer).output().unwrap();
    let shown = String::from_utf8(asked.stdout).unwrap();
    assert!(asked.status.success() && shown.contains("run\\xfe") && shown.contains("completed"), "{shown}");
}

#[test]
fn a_stdout_that_cannot_be_written_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    for (stdout, word) in [("</dev/null", "for reading only"), (">/dev/full", "No space")] {
        // The shell opens descriptor 1 as given.
        let command = format!("exec \"$0\" list 1{stdout}");
        let ended = Command::new("sh").args(["-c", &command, HOST]).current_dir(folder.path()).output().unwrap();
        let message = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{message}");
        assert!(message.contains("cannot write to stdout") && message.contains(word), "{message}");
    }
}
