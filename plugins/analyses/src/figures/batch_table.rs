//! Tables over repeated runs: mean and standard deviation by two settings, and the metrics they are made of.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ibhost_framework::csv_text::csv_text;
use ibhost_framework::storage::{MetricsSplit, Row};

use crate::figures::tables::mean_and_std;

/// A number measured on one run, placed in a table.
#[derive(Clone, Debug, PartialEq)]
pub struct RunValue {
    /// Row, e.g. the strategy.
    pub row: String,
    /// Column, e.g. `M=12` or `1.0e-03`.
    pub column: String,
    /// The number, a share for percent tables.
    pub value: f64,
}

/// How cells are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellFormat {
    /// `1.50±0.0712% (n=5)`: 100 times the share, mean with two and standard deviation with four decimals, and the number of runs.
    Percent,
    /// `0.0150±0.0016 (n=5)`.
    Plain,
}

/// Means over runs by row and column.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchTable {
    /// Above the row names.
    pub corner: String,
    /// Column names in order of first appearance.
    pub columns: Vec<String>,
    /// Row names in order of first appearance, with mean, sample standard deviation and number of runs per column.
    pub rows: Vec<(String, Vec<Option<[f64; 3]>>)>,
    /// How cells are written.
    pub format: CellFormat,
}

/// `M=12::beta=1.0e-03::strategy=oneshot`, what repeated runs have in common.
pub fn run_key(m: usize, beta: f64, strategy: &str) -> String {
    format!("M={m}::beta={}::strategy={strategy}", scientific(beta))
}

/// One decimal and an exponent of at least two digits: `1.0e-03`.
pub fn scientific(value: f64) -> String {
    let text = format!("{value:.1e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// Mean of `metric` on `split` over the last `epochs` epochs in which it was measured; nothing when it never was.
pub fn last_epochs_mean(rows: &[Row], split: MetricsSplit, metric: &str, epochs: usize) -> Option<f64> {
    let by_epoch: BTreeMap<u64, f64> =
        rows.iter().filter(|row| row.split == split).filter_map(|row| Some((row.epoch, row.metrics.get(metric)?))).collect();
    let last: Vec<f64> = by_epoch.values().rev().take(epochs).copied().collect();
    (!last.is_empty()).then(|| last.iter().sum::<f64>() / last.len() as f64)
}

/// Groups `values` by row and column; cells without a run stay empty. Table of strategy by M, or of strategy by beta for folds.
pub fn batch_table(corner: &str, values: &[RunValue], format: CellFormat) -> BatchTable {
    let mut columns: Vec<String> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let mut cells: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for RunValue { row, column, value } in values {
        if !columns.contains(column) {
            columns.push(column.clone());
        }
        if !names.contains(row) {
            names.push(row.clone());
        }
        cells.entry((row, column)).or_default().push(*value);
    }
    let cell = |row: &str, column: &str| {
        cells.get(&(row, column)).map(|values| {
            let [mean, std] = mean_and_std(values);
            [mean, std, values.len() as f64]
        })
    };
    let rows = names.iter().map(|row| (row.clone(), columns.iter().map(|column| cell(row, column)).collect())).collect();
    BatchTable { corner: corner.to_owned(), columns, rows, format }
}

impl BatchTable {
    /// Header and rows of text cells.
    pub fn cells(&self) -> Vec<Vec<String>> {
        let text = |cell: &Option<[f64; 3]>| match (cell, self.format) {
            (None, _) => String::new(),
            (Some([mean, std, n]), CellFormat::Percent) => format!("{:.2}±{:.4}% (n={n})", 100.0 * mean, 100.0 * std),
            (Some([mean, std, n]), CellFormat::Plain) => format!("{mean:.4}±{std:.4} (n={n})"),
        };
        let header = std::iter::once(self.corner.clone()).chain(self.columns.iter().cloned()).collect();
        let body = self.rows.iter().map(|(name, cells)| std::iter::once(name.clone()).chain(cells.iter().map(text)).collect());
        std::iter::once(header).chain(body).collect()
    }

    /// The same as CSV.
    pub fn csv(&self) -> String {
        csv_text(self.cells())
    }

    /// The same as a LaTeX `tabular`.
    pub fn latex(&self) -> String {
        let escape = |cell: &String| cell.replace('%', "\\%").replace('_', "\\_").replace('±', "$\\pm$");
        let mut text = format!("\\begin{{tabular}}{{l{}}}\n\\toprule\n", "r".repeat(self.columns.len()));
        for (line, row) in self.cells().iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{} \\\\", row.iter().map(escape).collect::<Vec<_>>().join(" & "));
            if line == 0 {
                text += "\\midrule\n";
            }
        }
        text + "\\bottomrule\n\\end{tabular}\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(row: &str, column: &str, value: f64) -> RunValue {
        RunValue { row: row.to_owned(), column: column.to_owned(), value }
    }

    #[test]
    fn cells_hold_mean_and_sample_deviation_in_percent() {
        let values = [
            value("oneshot", "M=1", 0.015),
            value("oneshot", "M=1", 0.016),
            value("algo1/d:5|e:1", "M=12", 0.02),
            value("oneshot", "M=12", 0.014),
        ];
        let table = batch_table("strategy", &values, CellFormat::Percent);
        let cells = table.cells();
        assert_eq!(cells[0], ["strategy", "M=1", "M=12"]);
        assert_eq!(cells[1], ["oneshot", "1.55±0.0707% (n=2)", "1.40±0.0000% (n=1)"]);
        assert_eq!(cells[2], ["algo1/d:5|e:1", "", "2.00±0.0000% (n=1)"]);
        assert!(table.csv().contains("algo1/d:5|e:1,,2.00"));
        assert!(table.latex().contains("oneshot & 1.55$\\pm$0.0707\\% (n=2) & 1.40"));
        assert_eq!(BatchTable { format: CellFormat::Plain, ..table }.cells()[1][1], "0.0155±0.0007 (n=2)");
    }

    #[test]
    fn keys_are_written_like_the_originals() {
        assert_eq!(run_key(12, 1e-3, "algo2/k:10"), "M=12::beta=1.0e-03::strategy=algo2/k:10");
        assert_eq!([0.0, 5e-5, 12.0, 1e-10].map(scientific), ["0.0e+00", "5.0e-05", "1.2e+01", "1.0e-10"]);
    }

    #[test]
    fn the_last_epochs_are_averaged() {
        let row = |epoch, split, error: f64| Row {
            step: epoch * 10,
            epoch,
            split,
            metrics: [("error", error)].into_iter().collect(),
            time_s: 0.0,
            samples_per_s: 0.0,
        };
        let rows = [
            row(1, MetricsSplit::Test, 9.0),
            row(2, MetricsSplit::Test, 4.0),
            row(2, MetricsSplit::Train, 100.0),
            row(3, MetricsSplit::Test, 2.0),
        ];
        assert_eq!(last_epochs_mean(&rows, MetricsSplit::Test, "error", 2), Some(3.0));
        assert_eq!(last_epochs_mean(&rows, MetricsSplit::Test, "error", 9), Some(5.0));
        assert_eq!(last_epochs_mean(&rows, MetricsSplit::Test, "loss", 2), None);
    }
}
