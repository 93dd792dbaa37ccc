//! `ibhost compare`: figures and tables of many runs, each a component.

use std::path::Path;

use ibhost_framework::comparison::{Compared, Comparison, ComparisonConfig, ComparisonTable};
use ibhost_framework::component::resolve;
use ibhost_framework::identity::OtherDataPolicy;
use ibhost_framework::registry::Kind;
use ibhost_framework::storage::{inside, write_atomic};
use serde_json::{Map, Value, json};

use crate::cli::{CompareArgs, Format};
use crate::exit::Failure;
use crate::paths::show;
use crate::report::run_folders;
use crate::table;
use crate::together::{LeftOut, open_runs, read_results_from};

pub fn compare(arguments: &CompareArgs) -> Result<u8, Failure> {
    inside::check_outside(&arguments.output).map_err(Failure::usage)?;
    let read =
        |text: &String| resolve::<dyn ComparisonConfig>(Kind::Comparison, text).map_err(|error| Failure::component("--comparison", &error));
    let asked = arguments.comparison.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let folders = arguments.runs.iter().map(|path| run_folders(path)).collect::<Result<Vec<_>, _>>()?.concat();
    let (mut runs, mut left_out) = match &folders[..] {
        [] => (Vec::new(), LeftOut::default()),
        folders => open_runs(folders, arguments.unfinished, OtherDataPolicy::Refuse)?,
    };
    read_results_from(&mut runs, arguments.results.as_deref());
    let compared = Compared {
        runs: &runs,
        over: &arguments.over,
        results: &arguments.result,
        values: &arguments.values,
        references: &arguments.reference,
    };
    let (mut written, mut documents) = (Vec::new(), Vec::new());
    for (component, config) in &asked {
        let comparison = config.compare(&compared)?;
        let files = save(&comparison, &arguments.output, &mut written)?;
        let Comparison { tables, left_out: lacking, .. } = comparison;
        for (run, error) in lacking {
            let name = if asked.len() > 1 { format!("{}, {component}", show(&run)) } else { show(&run) };
            left_out.take_named::<()>(&name, Err(error.into()));
        }
        if arguments.format == Format::Json {
            let tables: Map<String, Value> = tables.iter().map(|table| (table.name.clone(), objects(table))).collect();
            documents.push(json!({ "comparison": component.to_string(), "tables": tables, "files": files }));
        } else {
            tables.iter().try_for_each(|table| print(table, arguments.format))?;
            files.iter().try_for_each(|file| table::print(&format!("wrote {file}")))?;
        }
    }
    if written.is_empty() {
        return Err(left_out.nothing_left());
    }
    if arguments.format == Format::Json {
        table::print_json(&documents.into())?;
    }
    left_out.end()
}

/// A map for each row of a table.
fn objects(table: &ComparisonTable) -> Value {
    let Some((header, rows)) = table.cells.split_first() else { return Value::Array(Vec::new()) };
    let object = |row: &Vec<String>| Value::Object(header.iter().cloned().zip(row.iter().cloned().map(Value::from)).collect());
    rows.iter().map(object).collect()
}

fn print(table: &ComparisonTable, format: Format) -> Result<(), Failure> {
    let Some((header, rows)) = table.cells.split_first() else { return Ok(()) };
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    table::print(&if format == Format::Markdown { table::markdown(&header, rows) } else { table::plain(&header, rows) })
}

/// Writes everything of a comparison into `folder` and returns the files; a name that is `taken` by another comparison of the command is numbered.
fn save(comparison: &Comparison, folder: &Path, taken: &mut Vec<String>) -> Result<Vec<String>, Failure> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    files.extend(comparison.pictures.iter().map(|picture| (format!("{}.png", picture.name), picture.png.clone())));
    for table in &comparison.tables {
        files.push((format!("{}.csv", table.name), table.csv().into_bytes()));
        files.push((format!("{}.tex", table.name), table.latex().into_bytes()));
    }
    files.extend(comparison.files.iter().map(|(name, text)| (name.clone(), text.clone().into_bytes())));
    if !files.is_empty() {
        std::fs::create_dir_all(folder).map_err(|e| Failure::failed(format!("cannot create `{}`: {e}", show(folder))))?;
    }
    let mut written = Vec::new();
    for (name, bytes) in files {
        let (stem, ending) = name.rsplit_once('.').unwrap_or((&name, ""));
        // One more name than are taken is enough.
        let numbered = (2..=taken.len() + 2).map(|n| format!("{stem}-{n}.{ending}"));
        let name = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or(name);
        let path = folder.join(&name);
        write_atomic(&path, &bytes)?;
        written.push(show(&path));
        taken.push(name);
    }
    Ok(written)
}
