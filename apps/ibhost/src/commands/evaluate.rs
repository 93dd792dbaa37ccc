//! `ibhost evaluate`: every evaluation of a grid of generative models, continued where it stopped, with one table and the figures of the rate
//! plane.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use ibhost_analyses::figures::rate_plane::{BetaGrid, Evaluated, page, pictures};
use ibhost_analyses::information::accuracy_bound::AccuracyBound;
use ibhost_framework::analysis::AnalysisConfig;
use ibhost_framework::component::{Component, resolve};
use ibhost_framework::csv_text::csv_text;
use ibhost_framework::dataset::{DataRoot, DatasetConfig};
use ibhost_framework::identity::{DataIdentity, Identity, OtherDataPolicy};
use ibhost_framework::registry::Kind;
use ibhost_framework::storage::{RunDir, inside, write_atomic};
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::analyze::{Elsewhere, View, check_fit, one_into, recorded, recorded_identity, stop_between_analyses};
use super::check_run_folder;
use super::runs::{Run, save};
use crate::cli::{EvaluateArgs, Format};
use crate::exit::{Failure, INTERRUPTED};
use crate::kept::Origin;
use crate::messages::say;
use crate::paths::{data_root, show};
use crate::program;
use crate::report::run_folders;
use crate::results::{Document, Settings, documents, start_of_hash};
use crate::table;
use crate::together::open_runs;

/// Evaluations that need no classifier.
const PLAIN: [&str; 4] = ["rates", "psnr", "label_information", "probes"];
/// Evaluations by a classifier.
const JUDGED: [&str; 3] = ["inception_score", "fid", "reconstruction_accuracy"];

/// How the runs are evaluated.
struct Work<'a> {
    arguments: &'a EvaluateArgs,
    wanted: Vec<Component>,
    root: DataRoot,
    view: View,
    /// The data that were looked at, by data set.
    data: Mutex<HashMap<String, DataIdentity>>,
    /// Set once a signal came: the analyses at hand are finished, and no other begins.
    stop: &'a AtomicBool,
}

pub fn evaluate(arguments: &EvaluateArgs) -> Result<u8, Failure> {
    inside::check_outside(&arguments.output).map_err(Failure::usage)?;
    let (view, stop) = (View::of(&arguments.look)?, stop_between_analyses());
    let (wanted, root) = (wanted(arguments)?, data_root(&arguments.look.data)?);
    let work = Work { arguments, wanted, root, view, data: Mutex::new(HashMap::new()), stop: &stop };
    let folders = arguments.runs.iter().map(|path| run_folders(path)).collect::<Result<Vec<_>, _>>()?.concat();
    let (opened, mut left_out) = open_runs(&folders, arguments.unfinished)?;
    let mut places = Elsewhere::default();
    let mut runs = Vec::new();
    for mut run in opened {
        let ready = weights(&run, arguments).and_then(|beta| {
            work.wanted.iter().try_for_each(|component| check_fit(component, &run.config.objective.name))?;
            Ok((beta, arguments.results.as_ref().map(|folder| places.place(&run.path, folder)).transpose()?))
        });
        if let Some((beta, elsewhere)) = left_out.take(&run.path, ready) {
            run.results = elsewhere.unwrap_or(run.results);
            runs.push((run, beta));
        }
    }
    if runs.is_empty() {
        return Err(left_out.nothing_left());
    }
    work.check_same_judges(&runs)?;
    let done = AtomicUsize::new(0);
    let one_run = |(run, _): &(Run, [f64; 2])| {
        let result = work.evaluate(run);
        let number = done.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::info!("{number} of {} runs evaluated: {}", runs.len(), show(&run.path));
        result
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(arguments.jobs.unwrap_or_else(rayon::current_num_threads)).build();
    let pool = pool.map_err(|e| Failure::failed(format!("cannot start threads: {e}")))?;
    let results: Vec<Result<Map<String, Value>, Failure>> = pool.install(|| runs.par_iter().with_max_len(1).map(one_run).collect());

    if results.iter().any(|result| result.as_ref().is_ok_and(|found| found.len() < work.wanted.len())) {
        say!("interrupted; the same command goes on from the evaluations that are kept");
        return Ok(INTERRUPTED);
    }
    let (mut models, mut bound) = (Vec::new(), None);
    for ((run, beta), result) in runs.iter().zip(results) {
        if let Err(failure) = &result {
            tracing::error!("{}: {}", show(&run.path), failure.reason());
        }
        if let Some(found) = left_out.take(&run.path, result) {
            bound = bound.or_else(|| bound_of(&found));
            models.push(evaluated(run, *beta, &found));
        }
    }
    if models.is_empty() {
        return Err(Failure::failed("no run could be evaluated; the messages above say why"));
    }
    let mut missing: Vec<Value> = left_out.failures().map(|(run, reason)| json!({"run": run, "reason": reason})).collect();
    missing.extend(left_out.unfinished().iter().map(|(run, word)| json!({"run": show(run), "reason": format!("it is {word}")})));
    write(&arguments.output, &models, bound, &missing, arguments.look.format)?;
    left_out.end()
}

/// The evaluations to make: the usual ones, with those given by flags in their place or added.
fn wanted(arguments: &EvaluateArgs) -> Result<Vec<Component>, Failure> {
    let resolved = |text: &str| {
        resolve::<dyn AnalysisConfig>(Kind::Analysis, text)
            .map(|(component, _)| component)
            .map_err(|error| Failure::component("--analysis", &error))
    };
    let mut texts: Vec<String> = PLAIN.map(str::to_owned).to_vec();
    if let Some(classifier) = &arguments.classifier {
        let classifier = named(classifier)?;
        texts.extend(JUDGED.map(|name| format!("{name}/classifier:{classifier}")));
    }
    let mut components = texts.iter().map(|text| resolved(text)).collect::<Result<Vec<_>, _>>()?;
    for text in &arguments.analysis {
        let mut component = resolved(text)?;
        // The judge of one evaluation is that of all, unless an evaluation names its own.
        if let Some(classifier) = arguments.classifier.as_ref().filter(|_| component.get("classifier").is_some())
            && !component.params.contains_key("classifier")
        {
            let joint = if component.params.is_empty() { '/' } else { '|' };
            component = resolved(&format!("{component}{joint}classifier:{}", named(classifier)?))?;
        }
        match components.iter_mut().find(|other| other.name == component.name) {
            Some(other) => *other = component,
            None => components.push(component),
        }
    }
    components.retain(|component| !arguments.skip.contains(&component.name));
    Ok(components)
}

/// A classifier's run as a parameter of an analysis names it: the id of the one in a folder, where a path is given.
fn named(classifier: &str) -> Result<String, Failure> {
    if !classifier.contains(std::path::MAIN_SEPARATOR) {
        return Ok(classifier.to_owned());
    }
    check_run_folder(Path::new(classifier))?;
    Ok(RunDir::open_read_only(Path::new(classifier))?.run_id().to_owned())
}

/// Weights of the rates of the lower levels and of the top level.
fn weights(run: &Run, arguments: &EvaluateArgs) -> Result<[f64; 2], Failure> {
    let weight = |path: &str| {
        let text = run.setting(path)?;
        text.parse::<f64>().ok().filter(|beta| *beta > 0.0).ok_or_else(|| {
            Failure::usage(format!("{}: the setting `{path}` is {text}, a weight of a rate must be above 0", show(&run.path)))
        })
    };
    Ok([weight(&arguments.lower)?, weight(&arguments.top)?])
}

impl Work<'_> {
    /// Refuses runs for which the name of a judge means different runs, as their rows would stand in one table.
    fn check_same_judges(&self, runs: &[(Run, [f64; 2])]) -> Result<(), Failure> {
        for component in &self.wanted {
            let config = component.build::<dyn AnalysisConfig>().map_err(|error| Failure::component("--analysis", &error))?;
            // A judge that is not found is told with the run it is not found for.
            let judged = runs.iter().filter_map(|(run, _)| Some((run, config.sources(&run.path, &self.root).ok()??)));
            let judged: Vec<_> = judged.collect();
            let Some(((first, ours), others)) = judged.split_first() else { continue };
            if let Some((other, _)) = others.iter().find(|(_, theirs)| theirs != ours) {
                return Err(Failure::usage(format!(
                    "`{component}` would use other judges for {} and {}, so that their rows could not be compared\n  \
                     hint: name the one that is meant by its id or its folder, e.g. --classifier runs/...",
                    show(&first.path),
                    show(&other.path)
                )));
            }
        }
        Ok(())
    }

    /// Results of every wanted evaluation of a run by name; those on disk that would come out the same are not made again.
    fn evaluate(&self, run: &Run) -> Result<Map<String, Value>, Failure> {
        let look = &self.arguments.look;
        let own_seed = run.config.training.seed;
        let seed = look.seed.unwrap_or(own_seed);
        let folder = RunDir::open_read_only(&run.path)?;
        // Results made anew say what they were made from themselves.
        let identity =
            if self.arguments.fresh { None } else { Some(Identity::new(self.data(&run.config.dataset)?, &program::this(), &run.config)) };
        let trained = recorded_identity(&folder)?;
        // Other data are refused where a result would be made anew, so that one that is kept is none to take either.
        let other_data = trained.zip(identity.as_ref()).is_some_and(|(trained, now)| trained.data != now.data);
        let identity = identity.filter(|_| !other_data || self.view.other_data == OtherDataPolicy::Accept);
        let mut found = Map::new();
        for component in self.wanted.iter().take_while(|_| !self.stop.load(Ordering::Relaxed)) {
            let kept = || -> Result<Option<Value>, Failure> {
                let sources = component.build::<dyn AnalysisConfig>().map_err(|error| Failure::component("--analysis", &error))?;
                let sources = sources.sources(&run.path, &self.root).map_err(Failure::usage)?;
                let Some(identity) = &identity else { return Ok(None) };
                let Some(origin) = Origin::of(&folder, self.view.label, seed, identity, sources)? else { return Ok(None) };
                let settings = Settings {
                    name: component.name.clone(),
                    analysis: component.to_string(),
                    checkpoint: self.view.label.as_str().to_owned(),
                    average: look.average,
                    seed: (seed != own_seed).then_some(seed),
                    other_data: other_data.then(|| start_of_hash(&origin.data)),
                };
                let documents = documents(&run.results, &component.name, own_seed).documents;
                let same = |document: &Document| {
                    document.settings == settings && document.origin().is_some_and(|theirs| origin.gives_the_same_as(&theirs))
                };
                Ok(documents.into_iter().find(same).map(|document| document.value["result"].clone()))
            };
            let result = match kept()? {
                Some(result) => result,
                None => self.make(run, &component.to_string())?,
            };
            found.insert(component.name.clone(), result);
        }
        Ok(found)
    }

    /// Makes an evaluation anew.
    fn make(&self, run: &Run, text: &str) -> Result<Value, Failure> {
        let work = || one_into(&run.path, &run.results, &self.root, text, self.view);
        let report = if self.arguments.results.is_some() { work()? } else { recorded(&run.path, work)? };
        Ok(report.result)
    }

    /// The content of a data set, read once a command.
    fn data(&self, dataset: &Component) -> Result<DataIdentity, Failure> {
        // One at a time, so that several runs on one data set do not read it at once.
        let mut known = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known.get(&dataset.to_string()) {
            return Ok(key.clone());
        }
        let config = dataset.build::<dyn DatasetConfig>().map_err(|error| Failure::component("dataset", &error))?;
        let key = DataIdentity::of(&*config.load(&self.root).map_err(Failure::usage)?);
        known.insert(dataset.to_string(), key.clone());
        Ok(key)
    }
}

/// The bound of the labels that the information was measured on.
fn bound_of(found: &Map<String, Value>) -> Option<AccuracyBound> {
    let result = found.get("label_information")?;
    Some(AccuracyBound { entropy: result["label_entropy"].as_f64()?, classes: result["classes"].as_u64()? as usize })
}

/// The numbers of a run under the names the figures know.
fn evaluated(run: &Run, beta: [f64; 2], found: &Map<String, Value>) -> Evaluated {
    let mut values = BTreeMap::new();
    let mut put = |key: String, value: &Value| {
        if let Some(number) = value.as_f64() {
            values.insert(key, number);
        }
    };
    for (analysis, keys) in [
        ("psnr", &["psnr", "distortion"][..]),
        ("fid", &["fid"]),
        ("inception_score", &["inception_score", "deviation", "diversity", "sharpness"]),
        ("reconstruction_accuracy", &["reconstruction_accuracy", "recons_entropy", "classifier_accuracy"]),
    ] {
        for key in keys {
            let name = if *key == "deviation" { "inception_deviation" } else { key };
            put(name.to_owned(), &found.get(analysis).map_or(Value::Null, |result| result[*key].clone()));
        }
    }
    // The last level is the top one; the next below it is what the figures call the lower one.
    let places = |levels: &Vec<Value>| {
        let top = levels.len().checked_sub(1);
        [(top, "top"), (top.and_then(|top| top.checked_sub(1)), "lower")]
    };
    if let Some(levels) = found.get("label_information").and_then(|result| result["levels"].as_array()) {
        for (level, name) in places(levels).into_iter().filter_map(|(level, name)| level.map(|level| (&levels[level], name))) {
            put(format!("information_{name}"), &level["information"]);
            put(format!("accuracy_bound_{name}"), &level["accuracy_bound"]);
        }
    }
    if let Some(levels) = found.get("probes").and_then(|result| result["levels"].as_array()) {
        for (level, name) in places(levels).into_iter().filter_map(|(level, name)| level.map(|level| (&levels[level], name))) {
            for on in ["mean", "sample"] {
                for probe in ["logistic", "svm_rbf", "svm_linear", "knn"] {
                    put(format!("{probe}_{name}_{on}"), &level[on][probe]);
                }
            }
        }
    }
    let rates: Vec<f64> = found
        .get("rates")
        .and_then(|result| result["levels"].as_array())
        .map(|levels| levels.iter().filter_map(|level| level["rate"].as_f64()).collect())
        .unwrap_or_default();
    // A plain code is charged as the lower level of a hierarchy without a top.
    let rate = match &rates[..] {
        [] => [f64::NAN; 2],
        [only] => [*only, 0.0],
        [lower @ .., top] => [lower.iter().sum(), *top],
    };
    Evaluated { run: show(&run.path), beta, rate, values }
}

fn write(output: &Path, models: &[Evaluated], bound: Option<AccuracyBound>, missing: &[Value], format: Format) -> Result<(), Failure> {
    let grid = BetaGrid::new(&models.iter().map(|m| m.beta).collect::<Vec<_>>());
    let mut cells: Vec<_> = models.iter().filter_map(|m| grid.cell(m.beta)).collect();
    cells.sort_unstable();
    if let Some(pair) = cells.windows(2).find(|pair| pair[0] == pair[1]) {
        let same: Vec<&str> = models.iter().filter(|m| grid.cell(m.beta) == Some(pair[0])).map(|m| m.run.as_str()).collect();
        tracing::warn!("several runs have the same weights; matrices and heat maps show the last of them: {}", same.join(", "));
    }
    let mut names: Vec<&String> = models.iter().flat_map(|m| m.values.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let rows_of = |matrix: Vec<f64>| matrix.chunks(grid.top.len().max(1)).map(|row| json!(row)).collect::<Vec<_>>();
    let mut matrices = Map::new();
    matrices.insert("rate_lower".to_owned(), rows_of(grid.matrix(models, |m| m.rate[0])).into());
    matrices.insert("rate_top".to_owned(), rows_of(grid.matrix(models, |m| m.rate[1])).into());
    for name in &names {
        matrices.insert((*name).clone(), rows_of(grid.matrix(models, |m| m.value(name))).into());
    }
    let document = json!({
        "betas_lower": grid.lower.iter().rev().collect::<Vec<_>>(),
        "betas_top": grid.top,
        "runs": models.iter().map(|m| json!({"run": m.run, "beta_lower": m.beta[0], "beta_top": m.beta[1]})).collect::<Vec<_>>(),
        "failed": missing,
        "matrices": matrices,
    });
    let header: Vec<&str> =
        ["run", "beta_lower", "beta_top", "rate_lower", "rate_top"].into_iter().chain(names.iter().map(|n| n.as_str())).collect();
    let cell = |value: f64| if value.is_finite() { format!("{value:.5}") } else { String::new() };
    let row = |m: &Evaluated| {
        let numbers = [m.rate[0], m.rate[1]].into_iter().chain(names.iter().map(|name| m.value(name)));
        [m.run.clone(), m.beta[0].to_string(), m.beta[1].to_string()].into_iter().chain(numbers.map(cell)).collect::<Vec<String>>()
    };
    let rows: Vec<Vec<String>> = models.iter().map(row).collect();
    let named: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    let csv = csv_text(std::iter::once(&named).chain(&rows));
    let text = serde_json::to_string_pretty(&document).map_err(Failure::failed)?;
    let files = [("grid.json", text), ("grid.csv", csv), ("rate-space.html", page(models))];
    if format == Format::Json {
        table::print_json(&document)?;
        std::fs::create_dir_all(output).map_err(|e| Failure::failed(format!("cannot create `{}`: {e}", show(output))))?;
        files.iter().try_for_each(|(name, text)| write_atomic(&output.join(name), text.as_bytes()))?;
    } else {
        let print = if format == Format::Markdown { table::markdown } else { table::plain };
        table::print(&print(&header, &rows))?;
        save(output, &files)?;
    }
    for picture in pictures(models, bound).map_err(Failure::failed)? {
        let path = output.join(picture.name);
        write_atomic(&path, &picture.bytes)?;
        if format != Format::Json {
            table::print(&format!("wrote {}", show(&path)))?;
        }
    }
    Ok(())
}
