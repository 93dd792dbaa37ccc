//! Where a run's numbers go while it trains: the metrics log and the event files, with the time and the samples of the epoch so far.

use std::time::Instant;

use super::error::EngineError;
use super::session::{Session, State};
use super::stepper::rate_of;
use crate::storage::{MetricsLog, MetricsSplit, Row, RunDir};
use crate::tensorboard::EventWriter;

/// Folders of the event files, in the order of [`State::latest`].
const BOARDS: [&str; 3] = ["train", "test", "test_average"];

/// The open logs of a run in this process.
pub struct Logs {
    /// The metrics log.
    pub metrics: MetricsLog,
    boards: [Option<EventWriter>; 3],
    resumed: bool,
    mark: Instant,
    /// Seconds of the epoch that this process spent.
    epoch_seconds: f64,
    /// Samples of the epoch that this process trained on. The running means are no help there: after a resume they hold samples of an earlier
    /// process too.
    pub epoch_samples: usize,
}

impl Logs {
    /// Opens the logs of `run`: those of a resumed one keep the first `keep_bytes` of the metrics log, otherwise a new one is begun.
    pub fn open(run: &RunDir, keep_bytes: Option<u64>) -> Result<Self, EngineError> {
        Ok(Self {
            metrics: MetricsLog::open(&run.metrics_path(), keep_bytes)?,
            boards: [None, None, None],
            resumed: keep_bytes.is_some(),
            mark: Instant::now(),
            epoch_seconds: 0.0,
            epoch_samples: 0,
        })
    }

    /// Adds the time since the last call to the epoch and the run.
    pub fn spend(&mut self, state: &mut State) {
        let seconds = self.mark.elapsed().as_secs_f64();
        self.mark = Instant::now();
        state.elapsed_s += seconds;
        self.epoch_seconds += seconds;
    }

    /// Samples a second of the epoch's steps, which are forgotten.
    pub fn take_speed(&mut self) -> f64 {
        std::mem::take(&mut self.epoch_samples) as f64 / self.epoch_seconds.max(1e-9)
    }

    /// Seconds of the epoch, which are forgotten.
    pub fn take_seconds(&mut self) -> f64 {
        std::mem::take(&mut self.epoch_seconds)
    }

    /// Writes the epoch's `row` everywhere and keeps it as the latest of its split.
    pub fn write(&mut self, run: &RunDir, session: &Session, state: &mut State, row: &Row) -> Result<(), EngineError> {
        let index = match row.split {
            MetricsSplit::Train => 0,
            MetricsSplit::Test => 1,
            MetricsSplit::TestAverage => 2,
        };
        state.latest[index] = Some(row.metrics.clone());
        self.metrics.append(row)?;
        let folder = run.tensorboard_dir().join(BOARDS[index]);
        let board = match &mut self.boards[index] {
            Some(board) => board,
            slot => {
                let writer = if self.resumed { EventWriter::resume(&folder, row.epoch)? } else { EventWriter::create(&folder)? };
                slot.insert(writer)
            }
        };
        for (name, value) in row.metrics.iter() {
            let tag = session.quantities.iter().find(|q| q.name == name).map_or(name, |q| q.tag.as_str());
            board.scalar(tag, value, row.epoch)?;
        }
        if index == 0 {
            for (slot, optimiser) in state.optimisers.iter().enumerate() {
                board.scalar(&format!("lr_{slot}"), rate_of(session, slot, optimiser.step), row.epoch)?;
            }
            if row.epoch == 1 {
                let text = serde_json::to_string_pretty(&session.config).unwrap_or_default();
                board.text("configuration", &format!("```json\n{text}\n```"), 0)?;
            }
        }
        board.flush()?;
        Ok(())
    }

    /// Brings everything to the disk; length and digest of the metrics log.
    pub fn sync(&self) -> Result<(u64, String), EngineError> {
        let bytes = self.metrics.sync()?;
        for board in self.boards.iter().flatten() {
            board.sync()?;
        }
        Ok((bytes, self.metrics.digest()))
    }

    /// Writes out what the event files hold back.
    pub fn flush(&mut self) -> Result<(), EngineError> {
        for board in self.boards.iter_mut().flatten() {
            board.flush()?;
        }
        Ok(())
    }
}
