//! A run in a few hundred bytes: every text is a word of the index that it has in common with other runs, and a number here.

use std::collections::HashMap;
use std::path::PathBuf;

use ibhost_framework::storage::{Best, RunStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record::{RunRecord, status_word};

/// Texts by their numbers, each once.
#[derive(Debug, Default)]
pub(super) struct Words {
    texts: Vec<Box<str>>,
    numbers: HashMap<Box<str>, u32>,
}

impl Words {
    /// The words of a stored index, in the order of their numbers.
    pub fn new(texts: Vec<Box<str>>) -> Self {
        Self { texts, numbers: HashMap::new() }
    }

    /// The number of `text`, a new one where it has none.
    pub fn number(&mut self, text: &str) -> u32 {
        // An index that did not change never asks.
        if self.numbers.len() != self.texts.len() {
            self.numbers = self.texts.iter().cloned().zip(0..).collect();
        }
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.texts.push(text.into());
        self.numbers.insert(text.into(), number);
        number
    }

    /// The text of a number.
    pub fn text(&self, number: u32) -> &str {
        self.texts.get(number as usize).map_or("", |text| text)
    }

    /// The number of `text`, if it has one.
    pub fn find(&self, text: &str) -> Option<u32> {
        self.texts.iter().position(|known| **known == *text).map(|number| number as u32)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// All from the number `first` on.
    pub fn since(&self, first: usize) -> impl Iterator<Item = (usize, &str)> {
        self.texts.iter().enumerate().skip(first).map(|(number, text)| (number, &**text))
    }
}

/// The shorter part of what [`RunRecord`] says, without the folder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    /// Place in [`STATUSES`].
    status: u8,
    reason: Option<u32>,
    pub objective: Option<u32>,
    encoder: Option<u32>,
    pub dataset: Option<u32>,
    seed: Option<u64>,
    pub epochs: Option<u64>,
    pub steps: Option<u64>,
    pub best: Option<(u32, f64, u64, u64)>,
    pub started: Option<String>,
    pub seconds: Option<f64>,
    pub sweep: Option<u32>,
    pub trial: Option<usize>,
}

/// The longer part of what [`RunRecord`] says, which a list of runs seldom needs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Details {
    command: Vec<u32>,
    /// Path and value as JSON.
    pub settings: Vec<(u32, u32)>,
    pub metrics: Vec<(u32, f64)>,
}

const STATUSES: [Option<RunStatus>; 5] =
    [None, Some(RunStatus::Running), Some(RunStatus::Completed), Some(RunStatus::Interrupted), Some(RunStatus::Failed)];

impl Row {
    /// The row of a record and its details.
    pub fn of(record: &RunRecord, words: &mut Words) -> (Self, Details) {
        let mut word = |text: &Option<String>| text.as_ref().map(|text| words.number(text));
        let (reason, objective, encoder) = (word(&record.reason), word(&record.objective), word(&record.encoder));
        let (dataset, sweep) = (word(&record.dataset), word(&record.sweep));
        let row = Self {
            status: STATUSES.iter().position(|status| *status == record.status).unwrap_or_default() as u8,
            reason,
            objective,
            encoder,
            dataset,
            seed: record.seed,
            epochs: record.epochs,
            steps: record.steps,
            best: record.best.as_ref().map(|best| (words.number(&best.metric), best.value, best.epoch, best.step)),
            started: record.started.clone(),
            seconds: record.seconds,
            sweep,
            trial: record.trial,
        };
        let details = Details {
            command: record.command.iter().map(|argument| words.number(argument)).collect(),
            settings: record.settings.iter().map(|(path, value)| (words.number(path), words.number(&value.to_string()))).collect(),
            metrics: record.metrics.iter().map(|(name, value)| (words.number(name), *value)).collect(),
        };
        (row, details)
    }

    /// The record of the run in `run_dir`.
    pub fn record(&self, details: &Details, run_dir: PathBuf, words: &Words) -> RunRecord {
        let text = |number: u32| words.text(number).to_owned();
        RunRecord {
            run_dir,
            status: self.status(),
            reason: self.reason.map(text),
            objective: self.objective.map(text),
            encoder: self.encoder.map(text),
            dataset: self.dataset.map(text),
            seed: self.seed,
            epochs: self.epochs,
            steps: self.steps,
            best: self.best.map(|(metric, value, epoch, step)| Best { metric: text(metric), value, epoch, step }),
            started: self.started.clone(),
            seconds: self.seconds,
            command: details.command.iter().map(|number| text(*number)).collect(),
            sweep: self.sweep.map(text),
            trial: self.trial,
            settings: details.settings.iter().map(|(path, value)| (text(*path), json(words.text(*value)))).collect(),
            metrics: details.metrics.iter().map(|(name, value)| (text(*name), *value)).collect(),
        }
    }

    /// Every number of a word in it.
    pub fn words(&mut self) -> impl Iterator<Item = &mut u32> {
        let texts = [&mut self.reason, &mut self.objective, &mut self.encoder, &mut self.dataset, &mut self.sweep];
        texts.into_iter().filter_map(Option::as_mut).chain(self.best.as_mut().map(|best| &mut best.0))
    }

    /// How far the run got.
    pub fn status(&self) -> Option<RunStatus> {
        STATUSES.get(usize::from(self.status)).copied().flatten()
    }

    /// The word for it.
    pub fn status_word(&self) -> &'static str {
        status_word(self.status())
    }

    /// Number of the word that says why it is as it is.
    pub fn reason(&self) -> Option<u32> {
        self.reason
    }
}

impl Details {
    /// From the bytes of an index; nothing from bytes that are none of ours.
    pub fn unpack(bytes: &[u8]) -> Self {
        postcard::from_bytes(bytes).unwrap_or_default()
    }

    /// Every number of a word in them.
    pub fn words(&mut self) -> impl Iterator<Item = &mut u32> {
        let settings = self.settings.iter_mut().flat_map(|(path, value)| [path, value]);
        self.command.iter_mut().chain(settings).chain(self.metrics.iter_mut().map(|(name, _)| name))
    }
}

/// A setting's value as it was stored.
pub(super) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}
