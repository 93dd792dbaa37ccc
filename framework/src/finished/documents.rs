//! Results of analyses on disk: one document for each analysis under each of its settings, found by what it says and not by its file's name.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::origin::Origin;
use crate::analysis::{Sources, with_suffix};
use crate::component::Component;
use crate::engine::EngineError;
use crate::registry::Kind;
use crate::run::ConfigError;
use crate::storage::inside;
use crate::text::show;

/// Folder of the results below a run or another folder of results.
const FOLDER: &str = "analyses";
/// Most results a message lists.
const SHOWN: usize = 12;

/// What a result was made with; what judges, and the run's own data, left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Name of the analysis.
    pub name: String,
    /// The analysis in canonical form; its document's own words when this program does not know it.
    pub analysis: String,
    /// `last` or `best`; `last` where an old document does not say it.
    pub checkpoint: String,
    /// Whether weights are averaged.
    pub average: bool,
    /// Seed of the draws where it is not the run's own.
    pub seed: Option<u64>,
    /// Start of the hash of the data where the run was not trained on them.
    pub other_data: Option<String>,
}

impl Settings {
    /// Start of the names of its files: the analysis' name alone under default settings, otherwise with a part for each that differs.
    pub fn stem(&self) -> String {
        format!("{}{}", self.name, self.suffix())
    }

    /// What follows the name: a hash of the parameters, `-best`, `-average`, `-seed7`, `-data1a2b3c4d`, each where it is not the default.
    pub fn suffix(&self) -> String {
        let mut suffix = String::new();
        if self.analysis != self.name {
            suffix += &format!("-{}", &blake3::hash(self.analysis.as_bytes()).to_hex()[..8]);
        }
        if self.checkpoint != "last" {
            suffix += &format!("-{}", self.checkpoint);
        }
        if self.average {
            suffix += "-average";
        }
        if let Some(seed) = self.seed {
            suffix += &format!("-seed{seed}");
        }
        if let Some(data) = &self.other_data {
            suffix += &format!("-data{data}");
        }
        suffix
    }

    /// In words: `ksg/k:3 of the best checkpoint, averaged weights`.
    pub fn words(&self) -> String {
        let average = if self.average { ", averaged weights" } else { "" };
        let seed = self.seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
        let data = self.other_data.as_ref().map(|data| format!(", data {data} that the run was not trained on")).unwrap_or_default();
        format!("{} of the {} checkpoint{average}{seed}{data}", self.analysis, self.checkpoint)
    }
}

/// A document.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its file.
    pub path: PathBuf,
    /// What it was made with.
    pub settings: Settings,
    /// Its content.
    pub value: Value,
}

impl Document {
    /// What it says it was made from; nothing for one of an earlier version.
    pub fn origin(&self) -> Option<Origin> {
        serde_json::from_value(self.value.clone()).ok()
    }

    /// What it depends on besides model and data, as far as it says so.
    pub fn sources(&self) -> Sources {
        self.value.get("sources").and_then(|value| serde_json::from_value(value.clone()).ok()).unwrap_or_default()
    }

    /// Its file's name without the ending.
    pub fn stem(&self) -> String {
        stem(&self.path)
    }

    /// What it is called on the command line: its file's name, with a slash where that is the name of the analysis alone.
    fn call(&self) -> String {
        let stem = self.stem();
        if stem == self.settings.name { format!("{stem}/") } else { stem }
    }

    /// Settings in words, with the data and what judged where `others` have the same settings.
    fn words(&self, others: &[Document]) -> String {
        let mut words = self.settings.words();
        if others.iter().filter(|other| other.settings == self.settings).count() > 1 {
            let data = self.value["data"].as_str().map(|data| ("data".to_owned(), data.chars().take(8).collect()));
            let details: Vec<String> = data.into_iter().chain(self.sources()).map(|(what, which)| format!(", {what} {which}")).collect();
            words += &details.concat();
        }
        words
    }

    /// The file that is called `relative` under default settings; nothing when the analysis wrote none of this name.
    pub fn file(&self, root: &Path, relative: &str) -> Option<PathBuf> {
        let stem = self.stem();
        let own = with_suffix(relative, stem.strip_prefix(self.settings.name.as_str()).unwrap_or_default());
        match self.value.get("files").and_then(Value::as_array) {
            Some(files) => files.iter().any(|file| file == own.as_str()).then(|| root.join(own)),
            // A document of an earlier version does not list its files, whose names did not tell settings apart.
            None => Some(root.join(relative)).filter(|path| path.is_file()),
        }
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What was found of an analysis.
#[derive(Debug, Default)]
pub struct Found {
    /// Its documents, sorted by name.
    pub documents: Vec<Document>,
    /// Files that cannot be read or are no documents, with the reason.
    pub damaged: Vec<(PathBuf, String)>,
}

/// All documents of the analysis `name` below `root`. `seed` is the run's own.
pub fn documents(root: &Path, name: &str, seed: u64) -> Found {
    let folder = root.join(FOLDER);
    let mut damaged = Vec::new();
    let mut paths: Vec<PathBuf> = match fs::read_dir(&folder) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            damaged.push((folder, format!("cannot be listed: {error}")));
            Vec::new()
        }
    };
    let own = |path: &PathBuf| {
        let rest = stem(path).strip_prefix(name).map(|rest| rest.is_empty() || rest.starts_with('-'));
        path.extension().is_some_and(|end| end == "json") && rest == Some(true)
    };
    paths.retain(own);
    paths.sort();
    let mut found: Vec<Document> = Vec::new();
    for path in paths {
        let text = inside::read_text(&path).map_err(|error| format!("cannot be read: {error}"));
        let value: Value = match text.and_then(|text| serde_json::from_str(&text).map_err(|error| format!("is not valid JSON: {error}"))) {
            Ok(value) => value,
            Err(reason) => {
                damaged.push((path, reason));
                continue;
            }
        };
        let settings = settings_of(&value, &stem(&path), seed);
        if settings.name == name {
            found.push(Document { path, settings, value });
        }
    }
    // A document of an earlier version, whose name does not tell its settings, counts until the same was made anew.
    let new: Vec<Settings> = found.iter().filter(|document| document.value["run"].is_string()).map(|d| d.settings.clone()).collect();
    found.retain(|document| document.value["run"].is_string() || !new.contains(&document.settings));
    Found { documents: found, damaged }
}

/// The settings a document names; where an old one is silent, those that were usual.
fn settings_of(value: &Value, stem: &str, own_seed: u64) -> Settings {
    let analysis = &value["analysis"];
    let (name, text) = match Component::from_json(Kind::Analysis, analysis) {
        Ok(component) => (component.name.clone(), component.to_string()),
        Err(_) if analysis.is_object() => (analysis["name"].as_str().unwrap_or(stem).to_owned(), analysis.to_string()),
        Err(_) => (stem.to_owned(), stem.to_owned()),
    };
    Settings {
        name,
        analysis: text,
        checkpoint: value["checkpoint"].as_str().unwrap_or("last").to_owned(),
        average: value["average"].as_bool().unwrap_or(false),
        seed: value["seed"].as_u64().filter(|seed| *seed != own_seed),
        other_data: value["data"].as_str().filter(|_| value["trained_on"].is_object()).map(start_of_hash),
    }
}

/// As much of the hash of data as names of files hold.
pub fn start_of_hash(hash: &str) -> String {
    hash.chars().take(8).collect()
}

/// Which of the results of an analysis is meant.
#[derive(Clone, Debug, PartialEq)]
pub enum Selector {
    /// The only one of the analysis: `ksg`.
    Only(String),
    /// The one under default settings: `ksg/`.
    Default(String),
    /// The one with these parameters: `ksg/k:3`.
    Component(Component),
}

impl Selector {
    /// Reads `ksg`, `ksg/`, `ksg/k:3`, or the start of a file's name such as `ksg-1a2b3c4d-best`.
    ///
    /// # Errors
    /// When it is no analysis in the form of a component.
    pub fn read(text: &str) -> Result<Self, EngineError> {
        if let Some(name) = text.strip_suffix('/') {
            return Ok(Self::Default(name.to_owned()));
        }
        if text.contains('/') {
            return match Component::parse(Kind::Analysis, text) {
                Ok(component) => Ok(Self::Component(component)),
                Err(source) => Err(ConfigError::Component { key: "analysis".to_owned(), source }.into()),
            };
        }
        Ok(Self::Only(text.to_owned()))
    }

    /// Name of the analysis.
    pub fn name(&self) -> &str {
        match self {
            Self::Only(text) => text.split('-').next().unwrap_or(text),
            Self::Default(name) => name,
            Self::Component(component) => &component.name,
        }
    }

    fn accepts(&self, document: &Document) -> bool {
        let settings = &document.settings;
        match self {
            // What is about other data has to be asked for by its file's name.
            Self::Only(text) => {
                settings.name == *text && settings.other_data.is_none() || settings.stem() == *text || document.stem() == *text
            }
            Self::Default(name) => settings.stem() == *name || document.stem() == *name,
            Self::Component(component) => settings.analysis == component.to_string() && settings.other_data.is_none(),
        }
    }

    /// Whether the file of `document` is called by its very name.
    fn is_exactly(&self, document: &Document) -> bool {
        match self {
            Self::Only(text) => document.stem() == *text && document.settings.name != *text,
            Self::Default(name) => document.stem() == *name,
            Self::Component(_) => false,
        }
    }
}

/// The one of `documents` that `selector` means.
///
/// # Errors
/// A sentence that lists those there are, when it is none or more than one of them.
pub fn select(documents: Vec<Document>, selector: &Selector) -> Result<Option<Document>, String> {
    let (mut fits, others): (Vec<Document>, Vec<Document>) = documents.into_iter().partition(|document| selector.accepts(document));
    if fits.iter().any(|document| selector.is_exactly(document)) {
        fits.retain(|document| selector.is_exactly(document));
    }
    let list = |documents: &[Document]| {
        let line = |document: &Document| format!("\n    {}  {}", document.call(), document.words(documents));
        let more = if documents.len() > SHOWN { format!("\n    and {} more", documents.len() - SHOWN) } else { String::new() };
        documents.iter().take(SHOWN).map(line).collect::<String>() + &more
    };
    if fits.len() > 1 {
        let hint = "name the one that is meant, by its first word here or by its parameters";
        return Err(format!("there are {} results of `{}`:{}\n  hint: {hint}", fits.len(), selector.name(), list(&fits)));
    }
    match fits.pop() {
        None if !others.is_empty() => Err(format!("there are only results under other settings:{}", list(&others))),
        found => Ok(found),
    }
}

/// The file a result with `settings` and `origin` is written to below `root`, without its ending, and the suffix of its other files. A result
/// from the same settings, data and judge is replaced; any other is kept beside it.
///
/// # Errors
/// When the results in `root` belong to another run, by a sentence.
pub fn place(root: &Path, settings: &Settings, origin: &Origin, own_seed: u64) -> Result<(PathBuf, String), String> {
    let existing = documents(root, &settings.name, own_seed).documents;
    if let Some((document, run)) = existing.iter().find_map(|document| Some((document, document.value["run"].as_str()?)))
        && run != origin.run
    {
        let path = show(&document.path);
        return Err(format!("`{path}` is a result of run {run}, not of run {}\n  hint: move it away, or name another folder", origin.run));
    }
    // A document of an earlier version does not say what it was made from; it counts as made from the same.
    let same = |document: &Document| {
        let other_data = document.value["data"].as_str().is_some_and(|data| data != origin.data);
        let judged = document.value["sources"].is_object() && document.sources() != origin.sources.clone().unwrap_or_default();
        document.settings == *settings && !other_data && !judged
    };
    let suffix = settings.suffix();
    let key = format!("{} {:?}", origin.data, origin.sources);
    let apart = format!("{suffix}-{}", &blake3::hash(key.as_bytes()).to_hex()[..8]);
    let at = |suffix: &str| root.join(FOLDER).join(format!("{}{suffix}", settings.name));
    let there = |suffix: &str| existing.iter().find(|document| document.path.with_extension("") == at(suffix));
    let is_free = there(&suffix).is_none_or(same);
    let suffix = if there(&apart).is_some_and(same) || !is_free { apart } else { suffix };
    Ok((at(&suffix), suffix))
}
