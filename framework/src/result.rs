//! What an analysis found: numbers with a name, a unit, a direction and the axes they vary along, beside facts that are none. Everything that is
//! written of a result (its document, its table, its comma-separated values) is made from these here.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::component::text_of;
use crate::csv_text::csv_text;
pub use crate::objective::Direction;

/// One number of a result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// What was measured, e.g. `accuracy`.
    pub name: String,
    /// Where: the name of each axis and the place on it, e.g. `p` at 0.1.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub axes: Map<String, Value>,
    /// The number; `null` in documents when it is not finite.
    #[serde(deserialize_with = "number_or_nothing")]
    pub value: f64,
    /// `nats`, `bits`, `share`, `dB`, `1` for a plain number.
    #[serde(default = "plain_number")]
    pub unit: String,
    /// Which way is better.
    #[serde(default = "neither")]
    pub direction: Direction,
    /// Keys and positions, joined by slashes, under which the number stands in the result of the document.
    #[serde(rename = "at", default)]
    pub place: String,
}

fn number_or_nothing<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn plain_number() -> String {
    "1".to_owned()
}

const fn neither() -> Direction {
    Direction::Neutral
}

impl Measured {
    /// A number that stands under its name.
    pub fn new(name: impl Into<String>, value: f64, unit: impl Into<String>, direction: Direction) -> Self {
        let name = name.into();
        Self { place: name.clone(), name, axes: Map::new(), value, unit: unit.into(), direction }
    }

    /// A share between 0 and 1 of which more is better, such as an accuracy.
    pub fn share(name: impl Into<String>, value: f64) -> Self {
        Self::new(name, value, "share", Direction::Maximise)
    }

    /// An estimate in nats of which neither more nor less is better.
    pub fn nats(name: impl Into<String>, value: f64) -> Self {
        Self::new(name, value, "nats", Direction::Neutral)
    }

    /// A plain number of which neither more nor less is better.
    pub fn plain(name: impl Into<String>, value: f64) -> Self {
        Self::new(name, value, "1", Direction::Neutral)
    }

    /// The same at `place` on the axis `axis`.
    #[must_use]
    pub fn along(mut self, axis: &str, place: impl Into<Value>) -> Self {
        self.axes.insert(axis.to_owned(), place.into());
        self
    }

    /// The same under other keys of the result.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = place.into();
        self
    }

    /// The same under its name in the record `record` of the result, e.g. `settings/3`.
    #[must_use]
    pub fn within(self, record: &str) -> Self {
        let place = format!("{record}/{}", self.name);
        self.at(place)
    }

    /// Its name with the unit, where it has one: `rate / nats`.
    pub fn title(&self) -> String {
        titled(&self.name, &self.unit)
    }
}

/// A name with its unit, where it has one that is more than a plain number.
pub fn titled(name: &str, unit: &str) -> String {
    if matches!(unit, "" | "1") { name.to_owned() } else { format!("{name} / {unit}") }
}

/// A name with the units that it has in several runs.
pub fn titled_by_units(name: &str, units: impl IntoIterator<Item = String>) -> String {
    let mut distinct: Vec<String> = Vec::new();
    for unit in units {
        if !distinct.contains(&unit) {
            distinct.push(unit);
        }
    }
    titled(name, &distinct.join(" or "))
}

/// What an analysis found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results {
    /// Numbers.
    pub values: Vec<Measured>,
    /// What else the document says, each with its place.
    facts: Vec<(String, Value)>,
    /// Files written.
    pub files: Vec<PathBuf>,
}

impl Results {
    /// Numbers, in the order of the table.
    pub fn of(values: impl IntoIterator<Item = Measured>) -> Self {
        Self { values: values.into_iter().collect(), ..Self::default() }
    }

    /// The same with one more number.
    #[must_use]
    pub fn and(mut self, measured: Measured) -> Self {
        self.values.push(measured);
        self
    }

    /// The same with something that is no measurement: how many samples, by which judge. `place` is as that of [`Measured`].
    #[must_use]
    pub fn fact(mut self, place: impl Into<String>, fact: impl Into<Value>) -> Self {
        self.facts.push((place.into(), fact.into()));
        self
    }

    /// The same with files that were written.
    #[must_use]
    pub fn with_files(mut self, files: impl IntoIterator<Item = PathBuf>) -> Self {
        self.files.extend(files);
        self
    }

    /// These and those of `other`.
    #[must_use]
    pub fn joined(mut self, other: Self) -> Self {
        self.values.extend(other.values);
        self.facts.extend(other.facts);
        self.files.extend(other.files);
        self
    }

    /// The key `result` of the document: numbers and facts at their places. What is not finite becomes null.
    pub fn json(&self) -> Value {
        let mut root = Value::Object(Map::new());
        for measured in &self.values {
            // A number in a record of its own stands beside the places on its axes.
            if let Some((record, _)) = measured.place.rsplit_once('/').filter(|(_, last)| *last == measured.name) {
                measured.axes.iter().for_each(|(axis, place)| put(&mut root, &format!("{record}/{axis}"), place.clone()));
            }
            put(&mut root, &measured.place, json!(measured.value));
        }
        self.facts.iter().for_each(|(place, fact)| put(&mut root, place, fact.clone()));
        root
    }

    /// The key `values` of the document.
    pub fn values_json(&self) -> Value {
        json!(self.values)
    }

    /// Header and rows. Numbers along the same axes are a table with a row a place and a column a name; others have a row each, and so have the
    /// facts beside them.
    pub fn table(&self) -> Vec<Vec<String>> {
        self.cells(|value| match value {
            value if !value.is_finite() => {
                if value.is_nan() {
                    "-".to_owned()
                } else {
                    value.to_string()
                }
            }
            value if value.fract() == 0.0 && value.abs() < 1e6 => value.to_string(),
            value if value.abs() >= 100.0 => format!("{value:.2}"),
            value if value.abs() >= 1e-3 => format!("{value:.4}"),
            value => format!("{value:.3e}"),
        })
    }

    /// The table as comma-separated values in full precision; nothing where there is no number.
    pub fn csv(&self) -> Option<String> {
        let text = |value: f64| if value.is_finite() { value.to_string() } else { String::new() };
        (!self.values.is_empty()).then(|| csv_text(self.cells(text)))
    }

    fn cells(&self, text: impl Fn(f64) -> String) -> Vec<Vec<String>> {
        let mut axes: Vec<&String> = Vec::new();
        self.values.iter().flat_map(|measured| measured.axes.keys()).for_each(|axis| {
            if !axes.contains(&axis) {
                axes.push(axis);
            }
        });
        let place =
            |measured: &Measured| axes.iter().map(|axis| measured.axes.get(*axis).map(text_of).unwrap_or_default()).collect::<Vec<_>>();
        let is_even = !axes.is_empty() && self.values.iter().all(|measured| measured.axes.len() == axes.len());
        let header = |last: &[String]| axes.iter().map(|axis| (*axis).clone()).chain(last.iter().cloned()).collect::<Vec<String>>();
        if is_even {
            let mut titles: Vec<String> = Vec::new();
            // Places on the axes, and cells by column.
            let mut rows: Vec<[Vec<String>; 2]> = Vec::new();
            for measured in &self.values {
                let (title, key) = (measured.title(), place(measured));
                let column = titles.iter().position(|known| *known == title).unwrap_or_else(|| {
                    titles.push(title);
                    titles.len() - 1
                });
                let row = rows.iter().position(|[known, _]| *known == key).unwrap_or_else(|| {
                    rows.push([key, Vec::new()]);
                    rows.len() - 1
                });
                let cells = &mut rows[row][1];
                cells.resize(cells.len().max(column + 1), String::new());
                cells[column] = text(measured.value);
            }
            let body = rows.into_iter().map(|[key, mut cells]| {
                cells.resize(titles.len(), String::new());
                [key, cells].concat()
            });
            return std::iter::once(header(&titles)).chain(body).collect();
        }
        let row =
            |measured: &Measured| [place(measured), vec![measured.name.clone(), text(measured.value), measured.unit.clone()]].concat();
        let facts =
            self.facts.iter().filter(|(place, fact)| !place.contains('/') && !fact.is_object() && !fact.is_array() && !fact.is_null());
        let fact =
            |(name, fact): &(String, Value)| [vec![String::new(); axes.len()], vec![name.clone(), text_of(fact), String::new()]].concat();
        let rows: Vec<Vec<String>> = self.values.iter().map(row).chain(facts.map(fact)).collect();
        if rows.is_empty() { rows } else { [vec![header(&["quantity", "value", "unit"].map(str::to_owned))], rows].concat() }
    }
}

/// Puts `value` at `place` below `root`, where numbers are positions in lists.
fn put(root: &mut Value, place: &str, value: Value) {
    let mut at = root;
    for step in place.split('/') {
        if let Ok(position) = step.parse::<usize>() {
            if !at.is_array() {
                *at = Value::Array(Vec::new());
            }
            let Value::Array(entries) = at else { return };
            entries.resize(entries.len().max(position + 1), Value::Null);
            at = &mut entries[position];
        } else {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            let Value::Object(entries) = at else { return };
            at = entries.entry(step).or_insert(Value::Null);
        }
    }
    *at = value;
}

/// The numbers of a document: those it lists, or, of an earlier version, those of its `result` with the places on axes that lists of records and maps
/// of categories name.
pub fn values_of(document: &Value) -> Vec<Measured> {
    if let Some(values) = document.get("values") {
        serde_json::from_value(values.clone()).unwrap_or_default()
    } else {
        let mut found = Vec::new();
        flatten(&document["result"], "", &Map::new(), &mut found);
        found
    }
}

/// Keys of records that documents of earlier versions used for places on axes.
const AXES: [&str; 5] = ["p", "L", "severity", "level", "split"];

fn flatten(value: &Value, place: &str, axes: &Map<String, Value>, found: &mut Vec<Measured>) {
    let below = |step: &str| if place.is_empty() { step.to_owned() } else { format!("{place}/{step}") };
    match value {
        Value::Array(entries) => entries.iter().enumerate().for_each(|(at, entry)| flatten(entry, &below(&at.to_string()), axes, found)),
        Value::Object(entries) => {
            let mut axes = axes.clone();
            axes.extend(
                entries
                    .iter()
                    .filter(|(key, value)| AXES.contains(&key.as_str()) && !value.is_object())
                    .map(|(k, v)| (k.clone(), v.clone())),
            );
            for (key, entry) in entries.iter().filter(|(key, value)| !AXES.contains(&key.as_str()) || value.is_object()) {
                if let Some(number) = entry.as_f64() {
                    let mut measured = Measured::plain(key.as_str(), number).at(below(key));
                    measured.axes.clone_from(&axes);
                    found.push(measured);
                } else if let ("categories", Value::Object(categories)) = (key.as_str(), entry) {
                    for (category, entry) in categories {
                        axes.insert("category".to_owned(), category.as_str().into());
                        flatten(entry, &below(&format!("{key}/{category}")), &axes, found);
                    }
                    axes.remove("category");
                } else {
                    flatten(entry, &below(key), &axes, found);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Results {
        let cell = |(at, (p, l, value)): (usize, (f64, u64, f64))| {
            Measured::share("accuracy", value).along("p", p).along("L", l).within(&format!("settings/{at}"))
        };
        Results::of([(0.0, 1, 0.9), (0.0, 12, 1.0), (0.25, 1, f64::NAN)].into_iter().enumerate().map(cell)).fact("batch_size", 100)
    }

    #[test]
    fn numbers_stand_at_their_places_and_nothing_that_is_no_number() {
        let settings = json!([
            { "p": 0.0, "L": 1, "accuracy": 0.9 },
            { "p": 0.0, "L": 12, "accuracy": 1.0 },
            { "p": 0.25, "L": 1, "accuracy": null },
        ]);
        assert_eq!(grid().json(), json!({ "settings": settings, "batch_size": 100 }));
        let flat = Results::of([Measured::nats("nll", 3.5), Measured::share("test_eps_0.1", 0.5).along("eps", 0.1).at("test_eps_0.1")]);
        assert_eq!(flat.fact("level/0/name", "z").json(), json!({ "nll": 3.5, "test_eps_0.1": 0.5, "level": [{ "name": "z" }] }));
    }

    #[test]
    fn one_table_is_shown_and_written() {
        let table = grid().table();
        assert_eq!(table[0], ["p", "L", "accuracy / share"]);
        assert_eq!(table[1..], [["0", "1", "0.9000"], ["0", "12", "1"], ["0.25", "1", "-"]]);
        assert_eq!(grid().csv().unwrap(), "p,L,accuracy / share\n0,1,0.9\n0,12,1\n0.25,1,\n");
        let mixed = Results::of([Measured::nats("rate", 0.125).along("level", "z1"), Measured::nats("total", 1234.5)]).fact("samples", 7);
        assert_eq!(mixed.table()[1..], [["z1", "rate", "0.1250", "nats"], ["", "total", "1234.50", "nats"], ["", "samples", "7", ""]]);
        assert!(Results::default().table().is_empty() && Results::default().csv().is_none());
    }

    #[test]
    fn numbers_are_read_back_also_from_documents_of_earlier_versions() {
        let results = grid();
        let back = values_of(&json!({ "values": results.values_json() }));
        assert!(back[2].value.is_nan() && back[..2] == results.values[..2], "{back:?}");
        let old = values_of(
            &json!({ "result": { "categories": { "fog": [{ "severity": 2, "metrics": [{ "L": 12, "accuracy": 0.5 }] }] }, "n": 3 } }),
        );
        assert_eq!((old[0].name.as_str(), old[0].value, old[0].place.as_str()), ("accuracy", 0.5, "categories/fog/0/metrics/0/accuracy"));
        assert_eq!(Value::Object(old[0].axes.clone()), json!({ "category": "fog", "severity": 2, "L": 12 }));
        assert_eq!((old[1].name.as_str(), old[1].axes.len()), ("n", 0));
    }
}
