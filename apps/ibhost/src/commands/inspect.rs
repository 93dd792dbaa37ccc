//! `ibhost data inspect`: what a run would load from a data set or a path, and a picture of its samples.

use std::path::Path;

use ibhost_analyses::figures::plot::mosaic::{Mosaic, Tile};
use ibhost_framework::component::resolve;
use ibhost_framework::dataset::{Dataset, DatasetConfig, Samples, Split};
use ibhost_framework::identity::DataIdentity;
use ibhost_framework::registry::Kind;
use ibhost_framework::storage::{inside, write_atomic};
use serde_json::{Map, Value, json};

use crate::cli::{Format, InspectArgs};
use crate::exit::Failure;
use crate::paths::{as_dataset, data_root, show};
use crate::table;

/// Samples in the picture, and in a row of it.
const SHOWN: usize = 40;
const COLUMNS: usize = 10;
/// Pixels that a side of a sample has at least in the picture.
const SIDE: usize = 56;
/// Classes that a table for people lists.
const LISTED: usize = 20;

pub fn inspect(arguments: &InspectArgs) -> Result<u8, Failure> {
    let root = data_root(&arguments.data)?;
    let text = as_dataset(&arguments.dataset)?;
    let (component, config) = resolve::<dyn DatasetConfig>(Kind::Dataset, &text).map_err(|error| Failure::component("data set", &error))?;
    let data = config.load(&root).map_err(Failure::usage)?;
    let mut document = describe(&*data);
    document.insert("dataset".to_owned(), component.to_string().into());
    if let Some(picture) = &arguments.picture {
        inside::check_outside(picture).map_err(Failure::usage)?;
        draw(&*data, &component.name, picture)?;
        document.insert("picture".to_owned(), show(picture).into());
    }
    if arguments.format == Format::Json {
        return table::print_json(&document.into()).map(|()| 0);
    }
    let rows = rows(&document);
    let header = ["what", "train", "test"];
    table::print(&if arguments.format == Format::Markdown { table::markdown(&header, &rows) } else { table::plain(&header, &rows) })?;
    if let Some(picture) = &arguments.picture {
        table::print(&format!("wrote {}", show(picture)))?;
    }
    Ok(0)
}

/// Everything that is said of `data`, by name.
fn describe(data: &dyn Dataset) -> Map<String, Value> {
    let (info, identity) = (data.info(), DataIdentity::of(data));
    let split = |split: Split, hash: &str| {
        let samples = data.split(split);
        let (low, high) = samples.value_range();
        let mut counts = vec![0_usize; info.classes.len()];
        for label in samples.labels() {
            if let Some(count) = counts.get_mut(usize::from(label)) {
                *count += 1;
            }
        }
        let counts: Map<String, Value> = info.classes.iter().cloned().zip(counts.into_iter().map(Value::from)).collect();
        json!({ "samples": samples.len(), "range": [low, high], "classes": counts, "hash": hash })
    };
    let mut document = Map::new();
    document.insert("dataset".to_owned(), Value::Null);
    document.insert("shape".to_owned(), json!(info.shape));
    document.insert("train".to_owned(), split(Split::Train, &identity.train.hash));
    document.insert("test".to_owned(), split(Split::Test, &identity.test.hash));
    if let Some(factors) = data.factors() {
        let factors: Map<String, Value> = factors.names.iter().cloned().zip(factors.sizes.iter().map(|&size| Value::from(size))).collect();
        document.insert("factors".to_owned(), factors.into());
    }
    if let Some(note) = &info.note {
        document.insert("note".to_owned(), note.as_str().into());
    }
    document
}

fn rows(document: &Map<String, Value>) -> Vec<Vec<String>> {
    let both = |name: &str, of: &dyn Fn(&Value) -> String| vec![name.to_owned(), of(&document["train"]), of(&document["test"])];
    let number = |value: &Value| value.as_f64().map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
    let mut rows = vec![
        both("samples", &|split| split["samples"].to_string()),
        both("shape [c, h, w]", &|_| document["shape"].to_string()),
        both("model inputs from", &|split| number(&split["range"][0])),
        both("to", &|split| number(&split["range"][1])),
        both("hash", &|split| split["hash"].as_str().unwrap_or_default().chars().take(12).collect()),
    ];
    let classes: Vec<&String> = document["train"]["classes"].as_object().map(|classes| classes.keys().collect()).unwrap_or_default();
    for class in classes.iter().take(LISTED) {
        rows.push(both(&format!("class {class}"), &|split| split["classes"][class.as_str()].to_string()));
    }
    if classes.len() > LISTED {
        rows.push(vec![format!("and {} classes more", classes.len() - LISTED), String::new(), String::new()]);
    }
    for (name, size) in document.get("factors").and_then(Value::as_object).into_iter().flatten() {
        rows.push(vec![format!("factor {name}"), format!("{size} values"), String::new()]);
    }
    if let Some(note) = document.get("note").and_then(Value::as_str) {
        rows.push(vec!["note".to_owned(), note.to_owned(), String::new()]);
    }
    rows
}

/// Draws the first training samples with their classes.
fn draw(data: &dyn Dataset, name: &str, path: &Path) -> Result<(), Failure> {
    let samples = data.split(Split::Train);
    let [channels, height, width] = samples.shape();
    if !matches!(channels, 1 | 3) || height < 2 {
        let shape = samples.shape();
        return Err(Failure::usage(format!(
            "--picture: samples of the shape {shape:?} are no pictures of 1 or 3 channels\n  hint: leave it out"
        )));
    }
    let mosaic = Mosaic {
        title: format!("{name}: the first training samples"),
        shape: samples.shape(),
        columns: COLUMNS,
        zoom: SIDE.div_ceil(height.max(width)),
        tiles: (0..samples.len().min(SHOWN)).map(|index| tile(data, samples, index)).collect(),
    };
    let png = mosaic.png().map_err(Failure::failed)?;
    write_atomic(path, &png).map_err(Failure::failed)
}

fn tile(data: &dyn Dataset, samples: &Samples, index: usize) -> Tile {
    let mut values = Vec::new();
    samples.gather(&[index], &mut values);
    let (low, high) = values.iter().fold((0.0_f32, 1.0_f32), |(low, high), &value| (low.min(value), high.max(value)));
    for value in &mut values {
        *value = (*value - low) / (high - low);
    }
    Tile { values, caption: data.info().classes.get(usize::from(samples.label(index))).cloned().unwrap_or_default() }
}
