//! A command line under test: run in a folder of its own, with what it printed, how it ended and what it left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ibhost_framework::storage::run_dir::read_yaml;
use serde_json::Value;

/// An encoder that trains in a fraction of a second.
pub const SMALL: &str = "mlp/e1:32|e2:32|z:8";

/// Arguments of a run that takes a fraction of a second: VDB on sixty digits, three steps an epoch.
pub const fn tiny_run<'a>(encoder: &'a str, steps: &'a str, checkpoint_every: &'a str) -> [&'a str; 12] {
    [
        "--objective",
        "vdb",
        "--encoder",
        encoder,
        "--limit-train",
        "60",
        "--batch-size",
        "20",
        "--steps",
        steps,
        "--checkpoint-every",
        checkpoint_every,
    ]
}

/// Longest time any run of these tests may take.
const PATIENCE: Duration = Duration::from_mins(3);

/// A program and the folder it runs in.
#[derive(Clone, Debug)]
pub struct CommandLine {
    program: PathBuf,
    folder: PathBuf,
}

impl CommandLine {
    /// `program` in `folder`, which is also its home, so that no data or setting of the machine is found.
    pub fn new(program: impl Into<PathBuf>, folder: &Path) -> Self {
        Self { program: program.into(), folder: folder.to_path_buf() }
    }

    /// The process before it starts; nothing of it reaches the terminal.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in ["IBHOST_DATA", "XDG_CACHE_HOME", "RUST_LOG", "RUST_BACKTRACE"] {
            command.env_remove(name);
        }
        command.env("HOME", &self.folder);
        command
    }

    /// Runs to the end.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        let output = self.command(arguments).output().unwrap_or_else(|e| panic!("{} cannot be started: {e}", self.program.display()));
        let shown = |argument: &&str| argument.chars().take(120).collect::<String>();
        Ended {
            line: arguments.iter().map(shown).collect::<Vec<_>>().join(" "),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Trains with `--format json` into the folder `runs` and returns the result of the last line and the run's folder.
    ///
    /// # Panics
    /// When the run does not end well, or its last line is not the promised one.
    pub fn train(&self, arguments: &[&str]) -> (Value, PathBuf) {
        let ended = self.run(&[&["run", "--format", "json"], arguments].concat()).expect(0);
        let result = ended.last_line();
        let folder = result["run_dir"].as_str().unwrap_or_else(|| panic!("no run_dir in {result}"));
        let folder = PathBuf::from(folder);
        (result, folder)
    }
}

/// How a process ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The arguments, long ones cut.
    pub line: String,
    /// Exit code, `None` after a signal.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Ended {
    /// The same, provided that the exit code is `code` and nothing panicked.
    ///
    /// # Panics
    /// Otherwise.
    pub fn expect(self, code: i32) -> Self {
        assert!(self.code == Some(code) && !self.stderr.contains("panicked"), "expected exit code {code}: {self:#?}");
        self
    }

    /// Checks that the request was refused: the exit code, a message on stderr with all of `words`, nothing on stdout.
    ///
    /// # Panics
    /// Otherwise.
    pub fn refused(self, code: i32, words: &[&str]) {
        let ended = self.expect(code);
        assert!(ended.stdout.is_empty() && ended.stderr.starts_with("error: "), "{ended:#?}");
        for word in words {
            assert!(ended.stderr.contains(word), "`{word}` is not said: {ended:#?}");
        }
        // A message may repeat what it was given, but not ten megabytes of it.
        assert!(ended.stderr.len() < 4000, "{} bytes of message", ended.stderr.len());
    }

    /// The last line of stdout as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    pub fn last_line(&self) -> Value {
        let line = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|e| panic!("the last line is not JSON ({e}): {self:#?}"))
    }
}

/// Everything below `folder`, relative and sorted; folders end in `/`.
///
/// # Panics
/// When a folder cannot be read.
pub fn entries(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).expect("a folder of the test is readable") {
            let path = entry.expect("a folder of the test is readable").path();
            let relative = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            if path.is_dir() {
                found.push(format!("{relative}/"));
                open.push(path);
            } else {
                found.push(relative);
            }
        }
    }
    found.sort();
    found
}

/// A YAML file.
///
/// # Panics
/// When it cannot be read.
pub fn yaml(path: &Path) -> Value {
    read_yaml(path).unwrap_or_else(|e| panic!("{e}"))
}

/// The first run in `folder`, which may hold an index beside the runs.
pub fn first_run(folder: &Path) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).find(|path| path.is_dir())
}

/// The rows of a run's `metrics.jsonl` without what depends on the clock.
///
/// # Panics
/// When the file is missing or a row is not a JSON object.
pub fn timeless_metrics(run: &Path) -> Vec<String> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).expect("a run has metrics");
    let timeless = |line: &str| {
        let mut row: Value = serde_json::from_str(line).expect("a row is JSON");
        row.as_object_mut().expect("a row is an object").retain(|key, _| !key.contains("time") && !key.contains("per_s"));
        row.to_string()
    };
    text.lines().map(timeless).collect()
}

/// The newest checkpoint folder of `run` whose name begins with `label`.
///
/// # Panics
/// When there is none.
pub fn newest_checkpoint(run: &Path, label: &str) -> PathBuf {
    let folder = run.join("checkpoints");
    let names =
        entries(&folder).into_iter().filter(|name| name.starts_with(label) && name.matches('/').count() == 1 && name.ends_with('/'));
    folder.join(names.max().unwrap_or_else(|| panic!("no `{label}` checkpoint in {}", folder.display())))
}

/// The one folder in `runs`, once its metrics have a row; the process is then in the middle of training.
///
/// # Panics
/// When `child` ends or time passes without that.
pub fn wait_for_metrics(runs: &Path, child: &mut Child) -> PathBuf {
    let begin = Instant::now();
    loop {
        let run = first_run(runs);
        if let Some(run) = run.filter(|run| fs::metadata(run.join("metrics.jsonl")).is_ok_and(|file| file.len() > 0)) {
            return run;
        }
        assert!(child.try_wait().is_ok_and(|status| status.is_none()), "the run ended before it could be interrupted");
        assert!(begin.elapsed() < PATIENCE, "no metrics in {} after {PATIENCE:?}", runs.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sends `signal` (as in `kill -INT`) to `child`.
///
/// # Panics
/// When the signal cannot be sent.
pub fn send(signal: &str, child: &Child) {
    // The shell's own `kill` is everywhere, the program of that name is not.
    let status = Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.id())]).status();
    assert!(status.is_ok_and(|status| status.success()), "cannot send {signal}");
}
