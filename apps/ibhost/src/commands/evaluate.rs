//! `ibhost evaluate`: every evaluation of a grid of generative models, continued where it stopped, with one table and the figures of the rate
//! plane.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ibhost_analyses::accuracy_bound::AccuracyBound;
use ibhost_analyses::rate_plane::{BetaGrid, Evaluated, page, pictures};
use ibhost_framework::analysis::AnalysisConfig;
use ibhost_framework::component::{Component, resolve};
use ibhost_framework::dataset::DataRoot;
use ibhost_framework::registry::Kind;
use ibhost_framework::storage::{Label, RunDir, inside, write_atomic};
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::analyze::{check_fit, one, recorded, stop_between_analyses};
use super::runs::{Run, save};
use crate::cli::{EvaluateArgs, Format};
use crate::exit::{Failure, INTERRUPTED};
use crate::messages::say;
use crate::paths::{data_root, show};
use crate::report::run_folders;
use crate::table;

/// Evaluations that need no classifier.
const PLAIN: [&str; 4] = ["rates", "psnr", "label_information", "probes"];
/// Evaluations by a classifier.
const JUDGED: [&str; 3] = ["inception_score", "fid", "reconstruction_accuracy"];

pub fn evaluate(arguments: &EvaluateArgs) -> Result<u8, Failure> {
    inside::check_outside(&arguments.output).map_err(Failure::usage)?;
    let root = data_root(&arguments.look.data)?;
    let label: Label = arguments.look.checkpoint.parse().map_err(|e: String| Failure::usage(format!("--checkpoint: {e}")))?;
    let wanted = wanted(arguments)?;
    let folders = arguments.runs.iter().map(|path| run_folders(path)).collect::<Result<Vec<_>, _>>()?.concat();
    let runs = Run::open_all(&folders)?;
    let betas = runs.iter().map(|run| weights(run, arguments)).collect::<Result<Vec<_>, _>>()?;
    for run in &runs {
        wanted.iter().try_for_each(|component| check_fit(component, &run.config.objective.name))?;
    }
    let (stop, done) = (stop_between_analyses(), AtomicUsize::new(0));
    let work = |run: &Run| {
        let result = evaluate_run(run, &wanted, &root, label, arguments, &stop);
        let number = done.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::info!("{number} of {} runs evaluated: {}", runs.len(), show(&run.path));
        result
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(arguments.jobs.unwrap_or_else(rayon::current_num_threads)).build();
    let pool = pool.map_err(|e| Failure::failed(format!("cannot start threads: {e}")))?;
    let results: Vec<Result<Map<String, Value>, Failure>> = pool.install(|| runs.par_iter().with_max_len(1).map(work).collect());

    if results.iter().any(|result| result.as_ref().is_ok_and(|found| found.len() < wanted.len())) {
        say!("interrupted; the same command goes on from the evaluations that are kept");
        return Ok(INTERRUPTED);
    }
    let (mut models, mut bound, mut failures) = (Vec::new(), None, Vec::new());
    for ((run, beta), result) in runs.iter().zip(betas).zip(results) {
        match result {
            Ok(found) => {
                bound = bound.or_else(|| bound_of(&found));
                models.push(evaluated(run, beta, &found));
            }
            Err(failure) => {
                tracing::error!("{}: {}", show(&run.path), failure.reason());
                failures.push(json!({"run": show(&run.path), "reason": failure.reason()}));
            }
        }
    }
    if models.is_empty() {
        return Err(Failure::failed("no run could be evaluated; the messages above say why"));
    }
    write(&arguments.output, &models, bound, &failures, arguments.look.format)?;
    if failures.is_empty() {
        Ok(0)
    } else {
        Err(Failure::failed(format!("{} of {} runs could not be evaluated; the messages above say why", failures.len(), runs.len())))
    }
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
        texts.extend(JUDGED.map(|name| format!("{name}/classifier:{classifier}")));
    }
    let mut components = texts.iter().map(|text| resolved(text)).collect::<Result<Vec<_>, _>>()?;
    for text in &arguments.analysis {
        let component = resolved(text)?;
        match components.iter_mut().find(|other| other.name == component.name) {
            Some(other) => *other = component,
            None => components.push(component),
        }
    }
    components.retain(|component| !arguments.skip.contains(&component.name));
    Ok(components)
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

/// Results of every wanted evaluation of a run by name; those on disk from the same weights and settings are not made again.
fn evaluate_run(
    run: &Run,
    wanted: &[Component],
    root: &DataRoot,
    label: Label,
    arguments: &EvaluateArgs,
    stop: &AtomicBool,
) -> Result<Map<String, Value>, Failure> {
    let step = RunDir::open_read_only(&run.path)?.checkpoints().newest_sound(label)?.map(|entry| entry.step);
    let mut found = Map::new();
    for component in wanted.iter().take_while(|_| !stop.load(Ordering::Relaxed)) {
        let text = component.to_string();
        let kept = run.analysis(&component.name).ok().map(|(_, document)| document).filter(|document| {
            document["analysis"] == component.to_json_full()
                && document["checkpoint"] == label.as_str()
                && document["average"] == arguments.look.average
                && document["step"].as_u64() == step
        });
        let result = match kept {
            Some(document) if !arguments.fresh => document["result"].clone(),
            _ => recorded(&run.path, || one(&run.path, root, &text, label, arguments.look.average, arguments.look.seed))?.result,
        };
        found.insert(component.name.clone(), result);
    }
    Ok(found)
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

fn write(output: &Path, models: &[Evaluated], bound: Option<AccuracyBound>, failures: &[Value], format: Format) -> Result<(), Failure> {
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
        "failed": failures,
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
    let csv: String = std::iter::once(header.join(",")).chain(rows.iter().map(|r| r.join(","))).map(|line| line + "\n").collect();
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
