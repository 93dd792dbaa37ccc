//! What a person sees while a sweep runs: on a terminal a bar and a line for each running trial, one plain line a trial otherwise.

use std::collections::HashMap;
use std::io::{IsTerminal, Read, Seek, SeekFrom};
use std::time::Duration;

use ibhost_framework::storage::{Row, inside};
use ibhost_sweep::local::Watcher;
use ibhost_sweep::{SweepFolder, TrialFolder, TrialRecord, TrialStatus};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::messages::say;
use ibhost_framework::text::one_line;

/// Bytes at the end of a log of measurements that hold its last line.
const TAIL: i64 = 4096;

/// Shows how a sweep goes on stderr.
pub struct SweepProgress<'a> {
    sweep: &'a SweepFolder,
    bars: Option<(MultiProgress, ProgressBar)>,
    lines: HashMap<usize, ProgressBar>,
    quiet: bool,
    total: usize,
    ended: usize,
    failed: usize,
}

impl<'a> SweepProgress<'a> {
    /// Progress of `total` trials of `sweep`.
    pub fn new(sweep: &'a SweepFolder, total: usize, quiet: bool) -> Self {
        let bars = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let all = MultiProgress::new();
            let bar = all.add(ProgressBar::new(total as u64));
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} trials  {msg}  {eta} left") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_secs(1));
            (all, bar)
        });
        Self { sweep, bars, lines: HashMap::new(), quiet, total, ended: 0, failed: 0 }
    }

    /// Removes the bar.
    pub fn finish(&mut self) {
        if let Some((all, bar)) = &self.bars {
            bar.finish_and_clear();
            // A terminal that went away needs no clearing.
            let _ = all.clear();
        }
    }

    fn title(&self, number: usize) -> String {
        self.sweep.plan.trial(number).map_or_else(|| number.to_string(), |trial| one_line(&trial.title()).into_owned())
    }
}

impl Watcher for SweepProgress<'_> {
    fn started(&mut self, number: usize) {
        if let Some((all, _)) = &self.bars {
            let line = all.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("  {msg}") {
                line.set_style(style);
            }
            line.set_message(format!("trial {}", self.title(number)));
            self.lines.insert(number, line);
        }
    }

    fn ended(&mut self, number: usize, record: &TrialRecord, _left: usize) {
        self.ended += 1;
        self.failed += usize::from(record.status == TrialStatus::Failed);
        if self.quiet {
            return;
        }
        let reason = record
            .reason
            .as_deref()
            .and_then(|reason| reason.lines().next())
            .map_or_else(String::new, |reason| format!(": {}", one_line(reason)));
        let line = format!("trial {} {} after {:.1} s{reason}", self.title(number), record.status.as_str(), record.seconds);
        match &self.bars {
            Some((_, bar)) => {
                if let Some(line) = self.lines.remove(&number) {
                    line.finish_and_clear();
                }
                if record.status != TrialStatus::Completed {
                    bar.println(line);
                }
                bar.set_position(self.ended as u64);
                bar.set_message(if self.failed > 0 { format!("{} failed", self.failed) } else { String::new() });
            }
            None => say!("[{}/{}] {line}", self.ended, self.total),
        }
    }

    fn tick(&mut self, running: &[(usize, TrialFolder)]) {
        for (number, folder) in running {
            if let (Some(line), Some(words)) = (self.lines.get(number), latest(folder)) {
                line.set_message(format!("trial {}  {words}", self.title(*number)));
            }
        }
    }
}

/// The latest measurement of a trial's run.
fn latest(folder: &TrialFolder) -> Option<String> {
    let mut file = inside::open(&folder.run_dir()?.join("metrics.jsonl")).ok()?;
    let length = file.metadata().ok()?.len() as i64;
    file.seek(SeekFrom::End(-length.min(TAIL))).ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let row: Row = text.lines().rev().find_map(|line| serde_json::from_str(line).ok())?;
    let values = ["loss", "accuracy"].into_iter().filter_map(|name| row.metrics.get(name).map(|value| format!("{name} {value:.4}")));
    Some(format!("epoch {}  {}", row.epoch, values.collect::<Vec<_>>().join("  ")))
}
