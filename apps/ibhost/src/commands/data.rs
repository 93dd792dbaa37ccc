//! `ibhost data`: list, fetch and verify data sets.

use std::cell::RefCell;
use std::io::IsTerminal;

use ibhost_datasets::{FetchOptions, Progress, Verdict, fetch, verify};
use ibhost_framework::component::resolve;
use ibhost_framework::dataset::{DataFile, DataRoot, DatasetConfig};
use ibhost_framework::registry::{Kind, Registry};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::cli::{DataCommand, DataDir, Format};
use crate::exit::{FAILED, Failure};
use crate::messages::say;
use crate::paths::{data_root, show};
use crate::table;

pub fn data(command: &DataCommand, quiet: bool) -> Result<u8, Failure> {
    match command {
        DataCommand::List { format, data } => list(*format, data),
        DataCommand::Fetch { name, data } => download(name, data, quiet),
        DataCommand::Verify { names, data } => check(names, data),
    }
}

fn files_of(name: &str) -> Result<Vec<DataFile>, Failure> {
    let (_, config) = resolve::<dyn DatasetConfig>(Kind::Dataset, name).map_err(|e| Failure::component("data set", &e))?;
    Ok(config.files())
}

fn names() -> Result<Vec<&'static str>, Failure> {
    let registry = Registry::global().map_err(Failure::failed)?;
    Ok(registry.items(Kind::Dataset).iter().map(|item| item.name).collect())
}

/// A data folder that was named must exist; only `fetch` creates one.
fn existing_root(data: &DataDir) -> Result<DataRoot, Failure> {
    let root = data_root(data)?;
    match &data.data_dir {
        Some(folder) if !folder.is_dir() => {
            Err(Failure::usage(format!("there is no data folder `{}`\n  hint: check --data-dir and IBHOST_DATA", show(folder))))
        }
        _ => Ok(root),
    }
}

fn list(format: Format, data: &DataDir) -> Result<u8, Failure> {
    let root = existing_root(data)?;
    let folder = data.data_dir.as_ref().map_or_else(String::new, |folder| format!(" --data-dir {}", show(folder)));
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for name in names()? {
        let files = files_of(name)?;
        let there = |file: &&DataFile| {
            let path = root.join(&file.path);
            path.is_file() || path.to_str().and_then(|p| p.strip_suffix(".gz")).is_some_and(|p| std::path::Path::new(p).is_file())
        };
        let present = files.iter().filter(there).count();
        let state = match (files.len(), present) {
            (0, _) => "embedded".to_owned(),
            (all, present) if all == present => "present".to_owned(),
            (_, 0) => format!("absent; ibhost data fetch {name}{folder}"),
            (all, present) => format!("{present} of {all} files; ibhost data fetch {name}{folder}"),
        };
        values.push(json!({ "name": name, "files": files.len(), "present": present }));
        rows.push(vec![name.to_owned(), state]);
    }
    if format == Format::Json {
        table::print_json(&json!({ "data_dir": show(&root.0), "datasets": values }))?;
    } else {
        let header = ["data set", "files"];
        table::print(&if format == Format::Markdown { table::markdown(&header, &rows) } else { table::plain(&header, &rows) })?;
        table::print(&format!("in {}", show(&root.0)))?;
    }
    Ok(0)
}

fn download(name: &str, data: &DataDir, quiet: bool) -> Result<u8, Failure> {
    let root = data_root(data)?;
    let files = files_of(name)?;
    if files.is_empty() {
        table::print(&format!("`{name}` is embedded; there is nothing to fetch"))?;
        return Ok(0);
    }
    let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left") {
            bar.set_style(style);
        }
        bar
    });
    let seen = RefCell::new(String::new());
    let progress = |state: Progress<'_>| {
        if let Some(bar) = &bar {
            bar.set_length(state.total.unwrap_or(state.received));
            bar.set_position(state.received);
            bar.set_message(state.path.to_owned());
        } else if !quiet && *seen.borrow() != state.mirror {
            state.mirror.clone_into(&mut seen.borrow_mut());
            say!("fetching {}", state.mirror);
        }
    };
    let report = fetch(&files, &root.0, FetchOptions { progress: &progress, ..FetchOptions::default() });
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let report = report.map_err(Failure::failed)?;
    for path in &report.present {
        table::print(&format!("already there  {path}"))?;
    }
    for path in &report.fetched {
        table::print(&format!("fetched        {path}"))?;
    }
    Ok(0)
}

fn check(chosen: &[String], data: &DataDir) -> Result<u8, Failure> {
    let root = existing_root(data)?;
    let all = chosen.is_empty();
    let chosen: Vec<String> = if all { names()?.into_iter().map(str::to_owned).collect() } else { chosen.to_vec() };
    let mut rows = Vec::new();
    let mut bad = false;
    for name in &chosen {
        for (path, verdict) in verify(&files_of(name)?, &root.0) {
            // A set that was never fetched is no damage when everything is being checked.
            bad |= matches!(verdict, Verdict::Damaged { .. }) || (!all && verdict == Verdict::Missing);
            let text = match verdict {
                Verdict::Ok => "ok".to_owned(),
                Verdict::Missing => "missing".to_owned(),
                Verdict::Unknown => "present, no published checksum for this form".to_owned(),
                Verdict::Damaged { expected, found } => format!("damaged: expected {expected}, found {found}"),
            };
            rows.push(vec![name.clone(), show(&path), text]);
        }
    }
    table::print(&table::plain(&["data set", "file", "verdict"], &rows))?;
    Ok(if bad { FAILED } else { 0 })
}
