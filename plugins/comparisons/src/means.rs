//! Comparison `means`: a table of means over seeds by settings.

use ibhost_analyses::figures::tables::mean_and_std;
use ibhost_framework::comparison::{Compared, Comparison, ComparisonConfig, ComparisonTable};
use ibhost_framework::engine::EngineError;
use ibhost_framework::finished::split_of;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::group::{check_same_analysis, grouped};
use crate::reading::{check, each, values};

/// A table of a number by settings: mean and sample standard deviation over seeds, and how many runs there are.
///
/// `value` is `<split>.<metric>` of the log or `<analysis>.<path in its result>`. Runs of a cell may differ in their seed and the
/// settings of `--over` alone. One run has no deviation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Means {
    /// Settings of the rows.
    pub rows: Vec<String>,
    /// Settings of the columns.
    pub columns: Vec<String>,
    /// What is shown.
    pub value: String,
    /// Last evaluations of the log that are averaged.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub last: usize,
    /// Shows 1 - value.
    pub error: bool,
    /// Shows values times 100.
    pub percent: bool,
}

impl Default for Means {
    fn default() -> Self {
        let (rows, columns) = (vec!["objective.name".to_owned()], Vec::new());
        Self { rows, columns, value: "test.loss".to_owned(), last: 1, error: false, percent: false }
    }
}

impl Means {
    /// `1.50±0.0712% (n=5)` or `0.0150±0.0016 (n=5)`; of one run, without the deviation.
    fn cell(&self, numbers: &[f64]) -> String {
        let n = numbers.len();
        let [mean, std] = mean_and_std(numbers);
        match (self.percent, n) {
            (_, 0) => String::new(),
            (true, 1) => format!("{:.2}% (n=1)", 100.0 * mean),
            (true, _) => format!("{:.2}±{:.4}% (n={n})", 100.0 * mean, 100.0 * std),
            (false, 1) => format!("{mean:.4} (n=1)"),
            (false, _) => format!("{mean:.4}±{std:.4} (n={n})"),
        }
    }
}

#[typetag::serde(name = "means")]
impl ComparisonConfig for Means {
    fn compare(&self, compared: &Compared<'_>) -> Result<Comparison, EngineError> {
        let of = &self.value;
        let is_logged = of.split_once('.').is_none_or(|(split, _)| split_of(split).is_some());
        let (found, left_out) = each(compared.runs, |run| {
            let (number, document) = if is_logged {
                (run.value(of, self.last)?, None)
            } else {
                run.number_by(of, |analysis| compared.selector(analysis).to_owned()).map(|(number, document)| (number, Some(document)))?
            };
            let number = if self.error { 1.0 - number } else { number };
            Ok((values(run, &self.rows)?, values(run, &self.columns)?, number, document))
        });
        let key = |row: &[String], column: &[String]| (row.join(", "), column.join(", "));
        let cells = found.iter().map(|(run, (row, column, number, document))| (key(row, column), (*run, *number, document.as_ref())));
        let cells = grouped(cells);
        let name = |(row, column): &(String, String)| {
            format!(
                "`{of}` at {}",
                [row.as_str(), column.as_str()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
            )
        };
        check(compared, cells.iter().flat_map(|(key, members)| members.iter().map(move |(run, ..)| (key.clone(), *run))), name)?;
        for (key, members) in &cells {
            let results: Vec<_> = members.iter().filter_map(|(run, _, document)| Some((*run, (*document)?))).collect();
            check_same_analysis(&name(key), &results)?;
        }
        let rows = grouped(found.iter().map(|(_, (row, ..))| (row.clone(), ())));
        let columns = grouped(found.iter().map(|(_, (_, column, ..))| (column.clone(), ())));
        let title = |(column, _): &(Vec<String>, Vec<()>)| if column.is_empty() { of.clone() } else { column.join(", ") };
        let corner = if self.columns.is_empty() {
            self.rows.clone()
        } else {
            vec![format!("{} \\ {}", self.rows.join(", "), self.columns.join(", "))]
        };
        let corner_width = corner.len();
        let header = corner.into_iter().chain(columns.iter().map(title)).collect::<Vec<String>>();
        let body = rows.iter().map(|(row, _)| {
            let names = if corner_width == row.len() { row.clone() } else { vec![row.join(", ")] };
            let numbers = columns.iter().map(|(column, _)| {
                let members = cells.iter().find(|(known, _)| *known == key(row, column)).map_or(&[][..], |(_, members)| members.as_slice());
                self.cell(&members.iter().map(|(_, number, _)| *number).collect::<Vec<f64>>())
            });
            names.into_iter().chain(numbers).collect::<Vec<String>>()
        });
        let table = ComparisonTable { name: "means".to_owned(), cells: std::iter::once(header).chain(body).collect() };
        let tables = if found.is_empty() { Vec::new() } else { vec![table] };
        Ok(Comparison { tables, left_out, ..Comparison::default() })
    }
}

ibhost_framework::register! {
    Comparison: Means as ComparisonConfig, aliases: [], paper: "", example: "means/rows:[strategy]|columns:[encoder.name]|value:test.accuracy|error:true|percent:true",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_has_no_deviation() {
        let shown = |percent: bool, numbers: &[f64]| Means { percent, ..Means::default() }.cell(numbers);
        assert_eq!(shown(true, &[0.015, 0.016]), "1.55±0.0707% (n=2)");
        assert_eq!([shown(true, &[0.02]), shown(false, &[0.02]), shown(false, &[])], ["2.00% (n=1)", "0.0200 (n=1)", ""]);
    }
}
