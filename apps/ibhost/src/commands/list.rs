//! `ibhost list`: the catalogue of components and presets.

use ibhost_framework::preset;
use ibhost_framework::registry::{Item, Kind, Registry};
use serde_json::{Value, json};

use super::catalogue;
use crate::cli::{Format, ListArgs, Listed};
use crate::exit::Failure;
use crate::table;

pub fn list(arguments: &ListArgs) -> Result<u8, Failure> {
    let registry = Registry::global().map_err(Failure::failed)?;
    let kinds: Vec<Kind> = match arguments.kind {
        None => Kind::ALL.to_vec(),
        Some(Listed::Components(kind)) => vec![kind],
        Some(Listed::Presets) => Vec::new(),
    };
    let presets = !matches!(arguments.kind, Some(Listed::Components(_)));
    match arguments.format {
        Format::Table => table::print(&tables(registry, &kinds, presets))?,
        Format::Markdown => table::print(&markdown(registry, &kinds, presets))?,
        Format::Json => {
            let mut value = serde_json::Map::new();
            for kind in kinds {
                let items: Vec<Value> = registry.items(kind).iter().map(|item| item_json(registry, item)).collect();
                value.insert(kind.plural().to_owned(), items.into());
            }
            if presets {
                let items: Vec<Value> = preset::all().iter().map(|p| json!({ "name": p.name, "summary": p.summary })).collect();
                value.insert("presets".to_owned(), items.into());
            }
            table::print_json(&Value::Object(value))?;
        }
    }
    Ok(0)
}

/// Tables for people, one for each kind.
fn tables(registry: &Registry, kinds: &[Kind], presets: bool) -> String {
    let mut sections = Vec::new();
    for &kind in kinds {
        let rows: Vec<Vec<String>> = registry.items(kind).iter().map(|item| row(registry, item)).collect();
        if !rows.is_empty() {
            sections.push(table::plain(&[kind.singular(), "summary", "fits"], &rows));
        }
    }
    if presets {
        let rows: Vec<Vec<String>> = preset::all().iter().map(|p| vec![p.name.to_owned(), p.summary.to_owned()]).collect();
        sections.push(table::plain(&["preset", "summary"], &rows));
    }
    sections.join("\n\n")
}

fn markdown(registry: &Registry, kinds: &[Kind], presets: bool) -> String {
    let sections = kinds.iter().map(|&kind| catalogue::section(registry, kind)).filter(|section| !section.is_empty());
    let presets = presets.then(|| catalogue::presets(&preset::all()));
    std::iter::once(catalogue::HEADING.to_owned()).chain(sections).chain(presets).collect::<Vec<_>>().join("\n\n")
}

/// Analyses an objective's models can take, objectives an analysis can look at.
pub fn fitting(registry: &Registry, item: &Item) -> Vec<&'static str> {
    match item.kind {
        Kind::Objective => registry.items(Kind::Analysis).iter().filter(|a| item.fits(a)).map(|a| a.name).collect(),
        Kind::Analysis => registry.items(Kind::Objective).iter().filter(|o| o.fits(item)).map(|o| o.name).collect(),
        _ => Vec::new(),
    }
}

fn row(registry: &Registry, item: &Item) -> Vec<String> {
    vec![item.names().collect::<Vec<_>>().join(", "), item.summary.clone(), fitting(registry, item).join(", ")]
}

/// Everything known of a component.
pub fn item_json(registry: &Registry, item: &Item) -> Value {
    let mut value = serde_json::to_value(item).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        map.insert("fits".to_owned(), json!(fitting(registry, item)));
    }
    value
}
