//! Tables of a report: groups of runs by settings, and what each group measured.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use ibhost_analyses::figures::tables::mean_and_std;
use ibhost_framework::comparison::escape_latex;
use ibhost_framework::csv_text::csv_text;

use super::alike::{check_known, told_apart_by};
use super::template::{Quantity, Section, TableTemplate};
use super::value::{Trial, heading};
use crate::exit::Failure;

/// A table of means.
#[derive(Debug)]
pub struct ReportTable {
    /// Heading.
    pub title: String,
    /// Names of the settings in front of each row.
    pub settings: Vec<String>,
    /// Names of the columns.
    pub columns: Vec<Column>,
    /// What the figures beside ours are called.
    pub reference: String,
    /// Values of the settings and one cell a column.
    pub rows: Vec<(Vec<String>, Vec<Option<Cell>>)>,
}

/// One column.
#[derive(Debug)]
pub struct Column {
    /// Quantity, and the setting it is repeated for.
    pub name: String,
    /// What is shown in it.
    pub quantity: Quantity,
}

/// A number over the runs of a group.
#[derive(Debug)]
pub struct Cell {
    /// Mean over the runs.
    pub mean: f64,
    /// Sample standard deviation, 0 for one run.
    pub std: f64,
    /// Positions of the runs among those of the report, each with its own value.
    pub runs: Vec<(usize, f64)>,
    /// Published figure.
    pub published: Option<String>,
    /// Place of the mean among the means of its quantity in `[0, 1]`, for shaded tables.
    pub shade: Option<f64>,
}

impl Cell {
    /// `1.50 ± 0.07`, or `1.50` for one run.
    pub fn text(&self, quantity: &Quantity) -> String {
        let mean = quantity.text(self.mean);
        if self.runs.len() > 1 { format!("{mean} ± {}", quantity.text(self.std)) } else { mean }
    }
}

/// Every distinct entry: numbers in their order and before texts, texts as they came, which is the order of a sweep's axis.
fn distinct(keys: impl Iterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    let mut seen = HashSet::new();
    let mut found: Vec<Vec<String>> = keys.filter(|key| seen.insert(key.clone())).collect();
    let mut came: HashMap<(usize, String), usize> = HashMap::new();
    for (order, key) in found.iter().enumerate() {
        for (place, text) in key.iter().enumerate() {
            came.entry((place, text.clone())).or_insert(order);
        }
    }
    let one = |place: usize, a: &String, b: &String| match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a.total_cmp(&b),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => came.get(&(place, a.clone())).cmp(&came.get(&(place, b.clone()))),
    };
    found.sort_by(|a, b| {
        let mut orders = a.iter().zip(b).enumerate().map(|(place, (a, b))| one(place, a, b));
        orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    found
}

/// The table over `trials`, each with its position in the report. Runs that differ in more than their seed stand in rows of their own, also
/// where the template does not name what they differ in.
pub fn table(section: &Section, template: &TableTemplate, trials: &[(usize, &Trial)]) -> Result<ReportTable, Failure> {
    let repeated: Vec<String> = template.columns.iter().cloned().collect();
    let named: Vec<String> = template.rows.iter().chain(&repeated).cloned().collect();
    check_known(&named, trials)?;
    let quantities: Vec<&str> = template.values.iter().map(Quantity::of).collect();
    let row_settings = [template.rows.clone(), told_apart_by(trials, &named, &quantities)].concat();
    let shown = |trial: &Trial, names: &[String]| names.iter().map(|name| trial.shown(name, &quantities)).collect::<Vec<String>>();
    let mut placed = Vec::new();
    for (at, trial) in trials {
        placed.push((*at, *trial, shown(trial, &row_settings), shown(trial, &repeated)));
    }
    let rows = distinct(placed.iter().map(|(_, _, row, _)| row.clone()));
    let groups = distinct(placed.iter().map(|(_, _, _, column)| column.clone()));
    let mut columns = Vec::new();
    for group in &groups {
        for quantity in &template.values {
            let name = match (&template.columns, group.first()) {
                (Some(setting), Some(value)) => {
                    let what = if template.values.len() > 1 { format!(": {}", heading(quantity, trials)) } else { String::new() };
                    // A word speaks for itself, a number does not.
                    let of = setting.rsplit('.').next().filter(|_| value.parse::<f64>().is_ok()).map(|name| format!("{name}="));
                    format!("{}{value}{what}", of.unwrap_or_default())
                }
                _ => heading(quantity, trials),
            };
            columns.push(Column { name, quantity: quantity.clone() });
        }
    }
    let cell = |row: &Vec<String>, group: &Vec<String>, quantity: &Quantity| {
        let members = placed.iter().filter(|(_, _, r, c)| r == row && c == group);
        let runs: Vec<(usize, f64)> =
            members.filter_map(|(at, trial, ..)| Some((*at, quantity.factor() * trial.value(quantity.of())?))).collect();
        let (first, _) = runs.first()?;
        let [mean, std] = mean_and_std(&runs.iter().map(|run| run.1).collect::<Vec<f64>>());
        let of_group = trials.iter().find(|(at, _)| at == first).map(|(_, trial)| *trial);
        let published = of_group.and_then(|trial| published(template, trial, quantity));
        Some(Cell { mean, std, runs, published, shade: None })
    };
    let mut filled: Vec<(Vec<String>, Vec<Option<Cell>>)> = rows
        .iter()
        .map(|row| (row.clone(), groups.iter().flat_map(|group| template.values.iter().map(|q| cell(row, group, q))).collect()))
        .collect();
    for quantity in &template.values {
        if !trials.is_empty() && trials.iter().all(|(_, trial)| trial.value(quantity.of()).is_none()) {
            return Err(super::unmeasured(section, quantity.of(), trials));
        }
    }
    if template.shade {
        shade(&mut filled, template.values.len());
    }
    let (title, reference) = (section.title.clone(), template.reference.0.clone());
    Ok(ReportTable { title, settings: row_settings, columns, reference, rows: filled })
}

/// The published figure of the group a run belongs to.
fn published(template: &TableTemplate, trial: &Trial, quantity: &Quantity) -> Option<String> {
    let entry = template.published.iter().find(|entry| entry.values.contains_key(quantity.of()) && trial.is_at(entry, None))?;
    entry.values.get(quantity.of()).map(ibhost_framework::component::text_of)
}

/// Sets the place of every mean between the smallest and the largest of its quantity.
fn shade(rows: &mut [(Vec<String>, Vec<Option<Cell>>)], quantities: usize) {
    for quantity in 0..quantities {
        let means: Vec<f64> = rows
            .iter()
            .flat_map(|(_, cells)| cells.iter().skip(quantity).step_by(quantities).flatten().map(|cell| cell.mean))
            .filter(|mean| mean.is_finite())
            .collect();
        let (low, high) = means.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &m| (low.min(m), high.max(m)));
        for (_, cells) in rows.iter_mut() {
            for cell in cells.iter_mut().skip(quantity).step_by(quantities).flatten() {
                cell.shade = cell.mean.is_finite().then(|| if high > low { (cell.mean - low) / (high - low) } else { 0.5 });
            }
        }
    }
}

impl ReportTable {
    /// Number of runs behind every cell, when it is the same for all.
    pub fn same_count(&self) -> Option<usize> {
        let mut counts = self.rows.iter().flat_map(|(_, cells)| cells.iter().flatten().map(|cell| cell.runs.len()));
        let first = counts.next()?;
        counts.all(|count| count == first).then_some(first)
    }

    /// Mean, standard deviation, number of runs and published figure of every cell, in full precision.
    pub fn csv(&self) -> String {
        let parts = |c: &Column| ["mean", "std", "n", self.reference.as_str()].map(|part| format!("{} ({part})", c.name));
        let header = self.settings.iter().cloned().chain(self.columns.iter().flat_map(parts));
        let body = self.rows.iter().map(|(settings, cells)| {
            let parts = |cell: &Option<Cell>| match cell {
                Some(c) => {
                    // One run has no deviation.
                    let std = if c.runs.len() > 1 { c.std.to_string() } else { String::new() };
                    [c.mean.to_string(), std, c.runs.len().to_string(), c.published.clone().unwrap_or_default()]
                }
                None => [const { String::new() }; 4],
            };
            settings.iter().cloned().chain(cells.iter().flat_map(parts)).collect::<Vec<String>>()
        });
        csv_text(std::iter::once(header.collect::<Vec<String>>()).chain(body))
    }

    /// A LaTeX `tabular` (package booktabs).
    pub fn latex(&self) -> String {
        let line = |cells: Vec<String>| cells.join(" & ") + " \\\\\n";
        let mut text = format!("\\begin{{tabular}}{{{}{}}}\n\\toprule\n", "l".repeat(self.settings.len()), "r".repeat(self.columns.len()));
        let header = self.settings.iter().chain(self.columns.iter().map(|column| &column.name));
        text += &line(header.map(|name| escape_latex(name)).collect());
        text += "\\midrule\n";
        for (settings, cells) in &self.rows {
            let number = |(cell, column): (&Option<Cell>, &Column)| match cell {
                Some(cell) => {
                    let mut shown = cell.text(&column.quantity).replace('±', "$\\pm$");
                    // Writing to a string cannot fail.
                    let _ = write!(shown, " {{\\scriptsize n={}}}", cell.runs.len());
                    if let Some(published) = &cell.published {
                        let _ = write!(shown, " ({})", escape_latex(published));
                    }
                    shown
                }
                None => "--".to_owned(),
            };
            text += &line(settings.iter().map(|value| escape_latex(value)).chain(cells.iter().zip(&self.columns).map(number)).collect());
        }
        text + "\\bottomrule\n\\end{tabular}\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(mean: f64, runs: &[f64]) -> Cell {
        let runs = runs.iter().enumerate().map(|(i, value)| (i, *value)).collect();
        Cell { mean, std: 0.5, runs, published: Some("1.6 ± .1".to_owned()), shade: None }
    }

    fn example() -> ReportTable {
        let column = |name: &str| Column { name: name.to_owned(), quantity: Quantity::Short("test.izx_bits".to_owned()) };
        ReportTable {
            title: "Rate".to_owned(),
            settings: vec!["objective.beta".to_owned()],
            columns: vec![column("m=1"), column("m=12, 50 %")],
            reference: "published".to_owned(),
            rows: vec![(vec!["0.01".to_owned()], vec![Some(cell(1.5, &[1.0, 2.0])), None])],
        }
    }

    #[test]
    fn numbers_are_ordered_as_numbers_and_texts_as_they_came() {
        let key = |text: &str| vec![text.to_owned()];
        assert_eq!(distinct(["10", "9", "1e-3", "none", "9"].map(key).into_iter()), ["1e-3", "9", "10", "none"].map(key));
        let pair = |(a, b): (&str, &str)| vec![a.to_owned(), b.to_owned()];
        let found = distinct([("VIB", "2"), ("NIB", "1"), ("VIB", "1"), ("VIB", "2")].map(pair).into_iter());
        assert_eq!(found, [("VIB", "1"), ("VIB", "2"), ("NIB", "1")].map(pair));
    }

    #[test]
    fn csv_keeps_precision_and_latex_is_escaped() {
        let table = example();
        assert!(table.csv().ends_with("0.01,1.5,0.5,2,1.6 ± .1,,,,\n"), "{}", table.csv());
        let latex = table.latex();
        assert!(latex.contains("objective.beta & m=1 & m=12, 50 \\% \\\\"), "{latex}");
        assert!(latex.contains("0.01 & 1.500 $\\pm$ 0.5000 {\\scriptsize n=2} (1.6 $\\pm$ .1) & --"), "{latex}");
        assert_eq!(table.same_count(), Some(2));
    }

    #[test]
    fn shades_run_from_the_smallest_to_the_largest() {
        let mut rows =
            vec![(Vec::new(), vec![Some(cell(1.0, &[1.0])), Some(cell(5.0, &[1.0]))]), (Vec::new(), vec![None, Some(cell(2.0, &[1.0]))])];
        shade(&mut rows, 1);
        let shades: Vec<Option<f64>> = rows.iter().flat_map(|(_, cells)| cells.iter().map(|c| c.as_ref().and_then(|c| c.shade))).collect();
        assert_eq!(shades, [Some(0.0), Some(1.0), None, Some(0.25)]);
    }
}
