//! What a person sees while training: a progress bar on a terminal, one plain line an epoch otherwise.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use ibhost_framework::engine::{EpochReport, Observer, StepReport};
use ibhost_framework::storage::MetricsSplit;
use indicatif::{ProgressBar, ProgressStyle};

use crate::messages::say;

/// Time between readings of the running means for the bar.
const REFRESH: Duration = Duration::from_millis(500);

/// Shows progress on stderr.
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    shown: Instant,
    samples: u64,
}

impl Progress {
    /// Progress of a run of `total_steps` steps, of which `done` are behind it.
    pub fn new(total_steps: u64, done: u64, quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(total_steps).with_position(done);
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} steps  {msg}  {eta} left");
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, quiet, shown: Instant::now(), samples: 0 }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn pick(means: &[(String, f64)]) -> String {
    let part = |name: &str| means.iter().find(|(n, _)| n == name).map(|(_, v)| format!("{name} {v:.4}"));
    [part("loss"), part("accuracy")].into_iter().flatten().collect::<Vec<_>>().join("  ")
}

impl Observer for Progress {
    fn step(&mut self, report: &StepReport, means: &mut dyn FnMut() -> Vec<(String, f64)>) {
        self.samples += report.samples as u64;
        let Some(bar) = &self.bar else { return };
        let waited = self.shown.elapsed();
        if waited >= REFRESH {
            let rate = self.samples as f64 / waited.as_secs_f64();
            bar.set_message(format!("epoch {}/{}  {}  {rate:.0} samples/s", report.epoch, report.epochs, pick(&means())));
            bar.set_position(report.step);
            (self.shown, self.samples) = (Instant::now(), 0);
        }
    }

    fn epoch(&mut self, report: &EpochReport) {
        if self.quiet {
            return;
        }
        let mut line = format!("epoch {}/{}", report.epoch, report.epochs);
        for row in &report.rows {
            let split = match row.split {
                MetricsSplit::Train => "train",
                MetricsSplit::Test => "test",
                MetricsSplit::TestAverage => "average",
            };
            line.push_str(&format!(" | {split}"));
            for (name, value) in row.metrics.iter().filter(|(name, _)| !name.ends_with("_nats")) {
                line.push_str(&format!(" {name} {value:.4}"));
            }
        }
        line.push_str(&format!(" | {:.1} s", report.seconds));
        match &self.bar {
            Some(bar) => bar.println(line),
            None => say!("{line}"),
        }
    }
}
