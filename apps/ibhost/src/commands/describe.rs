//! `ibhost describe`: everything about one component.

use ibhost_framework::component::suggest::nearest;
use ibhost_framework::component::{Parameter, ParameterKind};
use ibhost_framework::objective::ObjectiveConfig;
use ibhost_framework::preset;
use ibhost_framework::registry::{Item, Kind, Registry};

use serde_json::json;

use super::list::{fitting, item_json};
use crate::cli::{DescribeArgs, Format};
use crate::exit::Failure;
use crate::table;

pub fn describe(arguments: &DescribeArgs) -> Result<u8, Failure> {
    let registry = Registry::global().map_err(Failure::failed)?;
    let items: Vec<&Item> = Kind::ALL.into_iter().filter_map(|kind| registry.get(kind, &arguments.name)).collect();
    let preset = preset::all().into_iter().find(|p| p.name == arguments.name);
    if items.is_empty() && preset.is_none() {
        let names: Vec<&str> = registry.all().iter().flat_map(Item::names).chain(preset::all().iter().map(|p| p.name)).collect();
        let near = nearest(&arguments.name, names);
        let hint =
            if near.is_empty() { "`ibhost list` shows all names".to_owned() } else { format!("did you mean {}?", near.join(" or ")) };
        let name: String = arguments.name.chars().take(64).collect();
        return Err(Failure::usage(format!("there is no component or preset `{name}`\n  hint: {hint}")));
    }
    if arguments.format == Format::Json {
        let mut values: Vec<_> = items.iter().map(|item| item_json(registry, item)).collect();
        if let Some(preset) = preset {
            let example = preset_example(preset.name);
            values
                .push(json!({ "kind": "preset", "name": preset.name, "summary": preset.summary, "yaml": preset.yaml, "example": example }));
        }
        table::print_json(&values.into())?;
        return Ok(0);
    }
    let mut parts: Vec<String> = items.iter().map(|item| text(registry, item, arguments.format)).collect();
    if let Some(preset) = preset {
        let example = preset_example(preset.name);
        parts.push(format!("preset {}\n\n{}\n\n{}\n\nexample: {example}", preset.name, preset.summary, preset.yaml.trim_end()));
    }
    table::print(&parts.join("\n\n"))?;
    Ok(0)
}

fn text(registry: &Registry, item: &Item, format: Format) -> String {
    let mut out = format!("{} {}", item.kind, item.name);
    if !item.aliases.is_empty() {
        out.push_str(&format!(" (also {})", item.aliases.join(", ")));
    }
    out.push_str(&format!("\n\n{}", item.summary));
    if !item.details.is_empty() {
        out.push_str(&format!("\n\n{}", item.details));
    }
    let header = ["parameter", "type", "default", "range", "meaning"];
    let rows: Vec<Vec<String>> =
        item.parameters.iter().map(|p| vec![p.name.clone(), p.kind.label(), p.default_text(), range(p), meaning(p)]).collect();
    let draw = |header: &[&str], rows: &[Vec<String>]| {
        if format == Format::Markdown { table::markdown(header, rows) } else { table::plain(header, rows) }
    };
    if !rows.is_empty() {
        out.push_str(&format!("\n\n{}", draw(&header, &rows)));
    }
    if item.kind == Kind::Objective
        && let Ok(config) = ibhost_framework::component::resolve::<dyn ObjectiveConfig>(Kind::Objective, item.name)
    {
        let rows: Vec<Vec<String>> = config.1.quantities().into_iter().map(|q| vec![q.name, q.unit.to_owned(), q.tag, q.meaning]).collect();
        out.push_str(&format!("\n\n{}", draw(&["quantity", "unit", "tag", "meaning"], &rows)));
    }
    let fits = fitting(registry, item);
    if !fits.is_empty() {
        out.push_str(&format!("\n\n{}: {}", fitting_title(item.kind), fits.join(", ")));
    }
    if !item.paper.is_empty() {
        out.push_str(&format!("\n\npaper: {}", item.paper));
    }
    out.push_str(&format!("\n\nexample: {}", example(registry, item)));
    out
}

/// What the components of [`fitting`] are to one of `kind`.
pub const fn fitting_title(kind: Kind) -> &'static str {
    if matches!(kind, Kind::Objective) { "analyses that fit" } else { "objectives it fits" }
}

fn preset_example(name: &str) -> String {
    format!("ibhost run --preset {name}")
}

/// Bounds of a number, or the words a choice is made from.
pub fn range(parameter: &Parameter) -> String {
    match &parameter.kind {
        ParameterKind::Choice(choices) => choices.iter().map(|(word, _)| word.as_str()).collect::<Vec<_>>().join(", "),
        _ => parameter.range_text().unwrap_or_default(),
    }
}

fn meaning(parameter: &Parameter) -> String {
    let mut text = parameter.doc.replace('\n', " ");
    if let ParameterKind::Choice(choices) = &parameter.kind {
        for (word, doc) in choices.iter().filter(|(_, doc)| !doc.is_empty()) {
            text.push_str(&format!(" {word}: {}", doc.replace('\n', " ")));
        }
    }
    text
}

/// A command line with the component's example in its place, around objectives that this program has.
fn example(registry: &Registry, item: &Item) -> String {
    let objective = registry.items(Kind::Objective).first().map_or("OBJECTIVE", |o| o.name);
    match item.kind {
        Kind::Objective => format!("ibhost run --objective '{}' --encoder mlp/z:2", item.example),
        Kind::Encoder => format!("ibhost run --objective {objective} --encoder '{}'", item.example),
        Kind::Analysis => format!("ibhost analyze RUN_DIR --analysis '{}'", item.example),
        Kind::Comparison => format!("ibhost compare RUNS --comparison '{}'", item.example),
        kind => format!("ibhost run --objective {objective} --encoder mlp/z:2 --{kind} '{}'", item.example),
    }
}
