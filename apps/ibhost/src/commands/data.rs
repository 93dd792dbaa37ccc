//! `ibhost data`: list, fetch and verify data sets.

use std::cell::RefCell;
use std::io::IsTerminal;

use ibhost_datasets::locate::locate;
use ibhost_datasets::{FetchOptions, Progress, Verdict, fetch, verify};
use ibhost_framework::component::resolve;
use ibhost_framework::dataset::{DataFile, DataRoot, DatasetConfig, fetch_command};
use ibhost_framework::registry::{Kind, Registry};
use ibhost_framework::storage::inside;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::cli::{DataCommand, DataDir, Format};
use crate::exit::{FAILED, Failure};
use crate::messages::say;
use crate::paths::{data_root, reads_paths, show};
use crate::table;

pub fn data(command: &DataCommand, quiet: bool) -> Result<u8, Failure> {
    match command {
        DataCommand::List { format, data } => list(*format, data),
        DataCommand::Fetch { name, data } => download(name, data, quiet),
        DataCommand::Inspect(arguments) => super::inspect::inspect(arguments),
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
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for item in Registry::global().map_err(Failure::failed)?.items(Kind::Dataset) {
        let (name, own) = (item.name, reads_paths(item));
        let files = files_of(name)?;
        let found = locate(&files, &root.0);
        let present = found.iter().filter(|found| matches!(found, Ok(Some(_)))).count();
        let trouble = found.iter().find_map(|found| found.as_ref().err()).map(ToString::to_string);
        let fetch = if data.data_dir.is_some() { fetch_command(name, &root.0) } else { format!("ibhost data fetch {name}") };
        let state = match (&trouble, files.len(), present) {
            (Some(trouble), ..) => trouble.clone(),
            (None, 0, _) if own => "your own; give its path as --dataset".to_owned(),
            (None, 0, _) => "embedded".to_owned(),
            (None, all, present) if all == present => "present".to_owned(),
            (None, _, 0) if files.iter().all(|file| file.optional) => format!("works without; {fetch}"),
            (None, _, 0) => format!("absent; {fetch}"),
            (None, all, present) => format!("{present} of {all} files; {fetch}"),
        };
        let mut value = json!({ "name": name, "files": files.len(), "present": present });
        if let Some(trouble) = trouble {
            value["trouble"] = trouble.into();
        }
        values.push(value);
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
    inside::check_outside(&root.0).map_err(Failure::usage)?;
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
        let files = files_of(name)?;
        if files.is_empty() && !all {
            rows.push(vec![name.clone(), String::new(), "embedded; there is nothing to verify".to_owned()]);
        }
        let verdicts = verify(&files, &root.0);
        // What no checksum vouches for is read to its end as a run would read it.
        let unread = if verdicts.iter().any(|(_, verdict)| *verdict == Verdict::Unknown) { unreadable(name, &root) } else { None };
        for ((path, verdict), file) in verdicts.into_iter().zip(&files) {
            bad |= match verdict {
                Verdict::Ok => false,
                // A set that was never fetched is no damage when everything is being checked, nor one that works without files.
                Verdict::Missing => !all && !files.iter().all(|file| file.optional),
                Verdict::Unknown => unread.is_some(),
                Verdict::Damaged { .. } | Verdict::Unclear(_) => true,
            };
            let text = match verdict {
                Verdict::Ok => "ok".to_owned(),
                Verdict::Missing if file.optional => "missing; the data set works without it".to_owned(),
                Verdict::Missing => "missing".to_owned(),
                Verdict::Unknown => match &unread {
                    None => "not verifiable: no published checksum; it can be read".to_owned(),
                    Some(error) => format!("not readable: {error}"),
                },
                Verdict::Damaged { expected, found } => format!("not the published file: expected {expected}, found {found}"),
                Verdict::Unclear(why) => why,
            };
            rows.push(vec![name.clone(), show(&path), text]);
        }
    }
    table::print(&table::plain(&["data set", "file", "verdict"], &rows))?;
    Ok(if bad { FAILED } else { 0 })
}

/// Why the data set `name` cannot be read below `root`, in one line.
fn unreadable(name: &str, root: &DataRoot) -> Option<String> {
    let loaded = match resolve::<dyn DatasetConfig>(Kind::Dataset, name) {
        Ok((_, config)) => config.load(root).map(|_| ()).map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    };
    loaded.err().map(|error| error.lines().next().unwrap_or_default().to_owned())
}
