//! What a report shows: the `report:` part of a sweep file, or a file of its own.

use std::collections::BTreeMap;

use ibhost_framework::comparison::ComparisonConfig;
use ibhost_framework::component::{resolve, text_of};
use ibhost_framework::plain::plain;
use ibhost_framework::registry::Kind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::exit::Failure;

/// Title and sections of a report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Heading of the page.
    #[serde(default)]
    pub title: Option<String>,
    /// A paragraph below it.
    #[serde(default)]
    pub text: Option<String>,
    /// From top to bottom.
    pub sections: Vec<Section>,
    /// Line of each section in the file of the template; nothing where it comes from no file.
    #[serde(skip)]
    pub lines: Vec<u64>,
}

/// One part of the page; exactly one of the kinds is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// A paragraph below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Settings and the values the section's runs have, one or a list: `{strategy: oneshot, objective.m: [1, 12]}`.
    #[serde(default, rename = "where", skip_serializing_if = "BTreeMap::is_empty")]
    pub filter: BTreeMap<String, Value>,
    /// Mean, standard deviation and number of runs by settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableTemplate>,
    /// Values against a setting, one curve a series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<AgainstTemplate>,
    /// Metrics per epoch, mean over the runs of a series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curves: Option<CurvesTemplate>,
    /// One quantity against another: the information plane, rate and distortion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plane: Option<PlaneTemplate>,
    /// Accuracy under growing corruption, from an analysis such as `salt_pepper`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub robustness: Option<RobustnessTemplate>,
    /// Pictures of the runs side by side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pictures: Option<PicturesTemplate>,
    /// A comparison as `ibhost compare` takes it, e.g. `corruption/rows:[strategy]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<String>,
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableTemplate {
    /// Settings whose values name the rows.
    pub rows: Vec<String>,
    /// Setting whose values repeat the columns.
    #[serde(default)]
    pub columns: Option<String>,
    /// What is shown.
    pub values: Vec<Quantity>,
    /// Colours cells by their value, for maps over two settings.
    #[serde(default)]
    pub shade: bool,
    /// Figures of the paper, shown beside ours.
    #[serde(default)]
    pub published: Vec<Published>,
    /// What these are called; `published` without it.
    #[serde(default)]
    pub reference: Reference,
}

/// What the figures beside ours are called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reference(pub String);

impl Default for Reference {
    fn default() -> Self {
        Self("published".to_owned())
    }
}

/// Published figures of one group of runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Settings of the group.
    pub at: BTreeMap<String, Value>,
    /// Value, or text such as `2.2 ± .1`, by quantity (`of`).
    pub values: BTreeMap<String, Value>,
}

/// A number of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a value such as `test.accuracy`, or {of: test.accuracy, name: ..., decimals: 2, percent: true}")]
pub enum Quantity {
    /// Only where it is found.
    Short(String),
    /// With its looks.
    Long(LongQuantity),
}

/// A number of a run with a name and a form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongQuantity {
    /// `test.accuracy`, `train.loss`, `test_average.loss`, `elapsed_time_s`, or `<analysis>.<key>...` of an analysis' result.
    pub of: String,
    /// Name with unit.
    #[serde(default)]
    pub name: Option<String>,
    /// Digits after the point; as many as the size asks for without it.
    #[serde(default)]
    pub decimals: Option<usize>,
    /// Shown times 100.
    #[serde(default)]
    pub percent: bool,
}

impl Quantity {
    /// Where it is found.
    pub fn of(&self) -> &str {
        match self {
            Self::Short(of) => of,
            Self::Long(long) => &long.of,
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        match self {
            Self::Short(of) => of,
            Self::Long(long) => long.name.as_deref().unwrap_or(&long.of),
        }
    }

    /// 100 for percentages.
    pub fn factor(&self) -> f64 {
        if matches!(self, Self::Long(LongQuantity { percent: true, .. })) { 100.0 } else { 1.0 }
    }

    /// `value`, already multiplied, as text.
    pub fn text(&self, value: f64) -> String {
        let decimals = match self {
            Self::Long(LongQuantity { decimals: Some(decimals), .. }) => *decimals,
            _ => match value.abs() {
                size if size >= 100.0 => 1,
                size if size >= 10.0 => 2,
                size if size >= 1.0 => 3,
                _ => 4,
            },
        };
        format!("{value:.decimals$}")
    }
}

/// Values against a setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgainstTemplate {
    /// Setting that is a number.
    pub x: String,
    /// What it is called, with its unit.
    #[serde(default)]
    pub x_name: Option<String>,
    /// Settings that make curves.
    #[serde(default)]
    pub series: Vec<String>,
    /// One panel each.
    pub values: Vec<Quantity>,
    /// Figures of the paper, each at a value of `x`, drawn as dashed curves.
    #[serde(default)]
    pub published: Vec<Published>,
    /// What these are called; `published` without it.
    #[serde(default)]
    pub reference: Reference,
}

/// Metrics per epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurvesTemplate {
    /// Metrics without their split: `loss`, `error_l12`; one panel each, train dashed, test solid.
    pub metrics: Vec<String>,
    /// Settings that make curves.
    #[serde(default)]
    pub series: Vec<String>,
}

/// One quantity against another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaneTemplate {
    /// To the right.
    pub x: Quantity,
    /// Upwards.
    pub y: Quantity,
    /// Settings that make colours.
    #[serde(default)]
    pub series: Vec<String>,
    /// Draws the way of each run over training, with a disc at its end; both quantities are then metrics such as `test.izx_bits`.
    #[serde(default)]
    pub training: bool,
}

/// Accuracy under growing corruption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RobustnessTemplate {
    /// Analysis whose result lists `settings` with a strength and an accuracy.
    #[serde(default = "salt_pepper")]
    pub analysis: String,
    /// Name of the strength in this list.
    #[serde(default = "strength")]
    pub strength: String,
    /// Codes averaged.
    #[serde(default = "codes")]
    pub codes: u64,
    /// Settings that make curves.
    #[serde(default)]
    pub series: Vec<String>,
}

fn salt_pepper() -> String {
    "salt_pepper".to_owned()
}

fn strength() -> String {
    "p".to_owned()
}

fn codes() -> u64 {
    12
}

/// Pictures of the runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PicturesTemplate {
    /// PNG files below a run's folder, e.g. `plots/latent-representation.png`.
    pub files: Vec<String>,
    /// Settings written below each picture.
    #[serde(default)]
    pub label: Vec<String>,
    /// Only the first run of each label.
    #[serde(default)]
    pub one_each: bool,
}

impl Section {
    /// Names of the kinds that are given.
    fn kinds(&self) -> Vec<&'static str> {
        let given = [
            ("table", self.table.is_some()),
            ("against", self.against.is_some()),
            ("curves", self.curves.is_some()),
            ("plane", self.plane.is_some()),
            ("robustness", self.robustness.is_some()),
            ("pictures", self.pictures.is_some()),
            ("comparison", self.comparison.is_some()),
        ];
        given.into_iter().filter_map(|(name, given)| given.then_some(name)).collect()
    }
}

impl Section {
    /// Where the numbers are found that it shows.
    pub fn quantities(&self) -> Vec<String> {
        let table = self.table.iter().flat_map(|table| &table.values);
        let against = self.against.iter().flat_map(|against| &against.values);
        let plane = self.plane.iter().flat_map(|plane| [&plane.x, &plane.y]);
        table.chain(against).chain(plane).map(|quantity| quantity.of().to_owned()).collect()
    }
}

impl Template {
    /// Reads a template from what is written in `text`; `value` is the same as a tree.
    ///
    /// # Errors
    /// What is wrong, with the section and its line.
    pub fn read(value: &Value, text: Option<&str>) -> Result<Self, String> {
        let sections = value.get("sections").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let lines = text.map(|text| section_lines(text, sections)).unwrap_or_default();
        for (at, section) in sections.iter().enumerate() {
            if let Err(error) = serde_json::from_value::<Section>(section.clone()) {
                let title = section.get("title").map_or_else(|| format!("number {}", at + 1), |title| format!("`{}`", text_of(title)));
                return Err(format!("section {title}{}: {}", line_words(&lines, at), plain(&error.to_string())));
            }
        }
        let mut template: Self = serde_json::from_value(value.clone()).map_err(|error| plain(&error.to_string()))?;
        template.lines = lines;
        template.check()?;
        Ok(template)
    }

    /// `failure` of filling the section number `at`, with its title and line.
    pub fn located(&self, at: usize, failure: Failure) -> Failure {
        let Some(section) = self.sections.get(at) else { return failure };
        let name = format!("section `{}`", section.title);
        let reason = failure.reason().strip_prefix(&format!("{name}: ")).unwrap_or(failure.reason());
        Failure::with_code(format!("{name}{}: {reason}", line_words(&self.lines, at)), failure.code())
    }

    /// What is wrong with it, if something is.
    pub fn check(&self) -> Result<(), String> {
        for (at, section) in self.sections.iter().enumerate() {
            Self::check_section(section)
                .map_err(|problem| format!("section `{}`{}: {problem}", section.title, line_words(&self.lines, at)))?;
        }
        Ok(())
    }

    fn check_section(section: &Section) -> Result<(), String> {
        let kinds = section.kinds();
        if kinds.len() != 1 {
            let found = if kinds.is_empty() { "none".to_owned() } else { kinds.join(" and ") };
            return Err(format!("has {found} of table, against, curves, plane, robustness, pictures, comparison, expected exactly one"));
        }
        if section.table.as_ref().is_some_and(|table| table.rows.is_empty() || table.values.is_empty()) {
            return Err("the table needs at least one entry in `rows` and in `values`".to_owned());
        }
        if let Some(pictures) = &section.pictures {
            pictures.files.iter().try_for_each(|file| super::picture::check_name(file))?;
        }
        if let Some(comparison) = &section.comparison {
            resolve::<dyn ComparisonConfig>(Kind::Comparison, comparison).map_err(|error| error.to_string())?;
        }
        if let Some(against) = &section.against
            && against.published.iter().any(|entry| !entry.at.get(&against.x).is_some_and(Value::is_number))
        {
            return Err(format!("every published figure needs a number for `{}` in `at`", against.x));
        }
        let plane = section.plane.as_ref().filter(|plane| plane.training);
        match plane.and_then(|plane| [&plane.x, &plane.y].into_iter().find(|q| super::value::metric_of(q.of()).is_none())) {
            Some(axis) => Err(format!("it draws training, so `{}` must be a metric with its split, e.g. test.izx_bits", axis.of())),
            None => Ok(()),
        }
    }
}

/// The lines on which sections begin, found by their titles one after the other.
fn section_lines(text: &str, sections: &[Value]) -> Vec<u64> {
    let lines: Vec<&str> = text.lines().collect();
    let mut from = lines.iter().position(|line| line.trim_start().starts_with("sections:")).map_or(0, |at| at + 1);
    let begins = |section: &Value| {
        let title = section.get("title").map(text_of);
        let is_here = |line: &&str| {
            let entry = line.trim_start().starts_with('-');
            title.as_ref().map_or(entry, |title| line.contains("title") && line.contains(title.as_str()))
        };
        let at = lines.get(from..)?.iter().position(is_here)? + from;
        from = at + 1;
        Some(at as u64 + 1)
    };
    sections.iter().map_while(begins).collect()
}

/// `, line 7`.
fn line_words(lines: &[u64], at: usize) -> String {
    lines.get(at).map_or_else(String::new, |line| format!(", line {line}"))
}

/// Whether `text`, a setting of a run, is the value a template gives: the same number or the same text.
pub fn is_value(text: &str, wanted: &Value) -> bool {
    match (text.parse::<f64>(), wanted.as_f64()) {
        (Ok(a), Some(b)) => a == b,
        _ => text == text_of(wanted),
    }
}

#[cfg(test)]
mod tests {
    use ibhost_framework::storage::run_dir::yaml_from_str;

    use super::*;

    #[test]
    fn a_section_has_exactly_one_kind() {
        let text = "sections:\n- {title: a, table: {rows: [seed], values: [test.loss]}}\n";
        let template: Template = yaml_from_str(text).unwrap();
        assert_eq!(template.check(), Ok(()));
        let mut none = template.clone();
        none.sections[0].table = None;
        assert!(none.check().unwrap_err().contains("section `a`: has none of"));
        let mut two = template;
        two.sections[0].curves = Some(CurvesTemplate { metrics: vec!["loss".to_owned()], series: Vec::new() });
        assert!(two.check().unwrap_err().contains("table and curves"));
        let placeless =
            "sections:\n- {title: a, against: {x: lr, values: [test.loss], published: [{at: {seed: 1}, values: {test.loss: 2}}]}}\n";
        assert!(yaml_from_str::<Template>(placeless).unwrap().check().unwrap_err().contains("needs a number for `lr`"));
        let outside = "sections:\n- {title: a, pictures: {files: [plots/a.png, /etc/passwd]}}\n";
        let problem = yaml_from_str::<Template>(outside).unwrap().check().unwrap_err();
        assert!(problem.contains("section `a`: `/etc/passwd`"), "{problem}");
        let unknown = yaml_from_str::<Template>("sections:\n- {title: a, tabel: {}}\n").unwrap_err();
        assert!(unknown.contains("tabel"), "{unknown}");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_section_and_line() {
        let text = "title: x\nsections:\n- title: a\n  table: {rows: [seed], values: [test.loss]}\n- {title: b, tabel: {}}\n";
        let value: Value = yaml_from_str(text).unwrap();
        let problem = Template::read(&value, Some(text)).unwrap_err();
        assert!(problem.starts_with("section `b`, line 5: ") && problem.contains("tabel"), "{problem}");
        let text = text.replace("tabel: {}", "comparison: meens");
        let problem = Template::read(&yaml_from_str(&text).unwrap(), Some(&text)).unwrap_err();
        assert!(problem.starts_with("section `b`, line 5: ") && problem.contains("meens"), "{problem}");
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        assert!(is_value("0.001", &serde_json::json!(1e-3)) && is_value("12", &serde_json::json!(12)));
        assert!(is_value("oneshot", &serde_json::json!("oneshot")) && !is_value("1", &serde_json::json!(2)));
    }

    #[test]
    fn digits_follow_the_size_or_the_template() {
        let short = Quantity::Short("test.loss".to_owned());
        assert_eq!([123.456, 12.3456, 1.23456, 0.123_456].map(|v| short.text(v)), ["123.5", "12.35", "1.235", "0.1235"]);
        let long: Quantity = serde_json::from_str(r#"{"of":"test.accuracy","percent":true,"decimals":1}"#).unwrap();
        assert_eq!((long.text(98.765), long.factor(), long.name()), ("98.8".to_owned(), 100.0, "test.accuracy"));
    }
}
