//! Comparisons: figures and tables of many finished runs, made of their configurations, logs and results.

use std::path::PathBuf;

use crate::component::Configured;
use crate::csv_text::csv_text;
use crate::engine::EngineError;
use crate::finished::FinishedRun;

/// What is compared, and what a command says about it that no component string can hold.
pub struct Compared<'a> {
    /// The runs, each once.
    pub runs: &'a [FinishedRun],
    /// Settings besides the seed that means may go over, e.g. `dataset.fold`.
    pub over: &'a [String],
    /// Which result is read of an analysis that has several: an analysis with its parameters, or the name of a file without its ending.
    pub results: &'a [String],
    /// Tables of values beside those of the runs.
    pub values: &'a [PathBuf],
    /// Tables of values that are drawn dashed, such as published ones.
    pub references: &'a [PathBuf],
}

impl Compared<'_> {
    /// The result of `analysis` that was asked for; `analysis` itself when none was.
    pub fn selector<'s>(&'s self, analysis: &'s str) -> &'s str {
        let is_of = |text: &&String| text.split(['/', '-']).next() == Some(analysis);
        self.results.iter().find(is_of).map_or(analysis, String::as_str)
    }
}

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Start of the name of its file.
    pub name: String,
    /// PNG file.
    pub png: Vec<u8>,
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComparisonTable {
    /// Start of the name of its files.
    pub name: String,
    /// Header and rows.
    pub cells: Vec<Vec<String>>,
}

impl ComparisonTable {
    /// Comma-separated values.
    pub fn csv(&self) -> String {
        csv_text(&self.cells)
    }

    /// A LaTeX `tabular` (package booktabs) of which the first column is a text and the others are numbers.
    pub fn latex(&self) -> String {
        let line = |cells: &Vec<String>| cells.iter().map(|cell| escape_latex(cell)).collect::<Vec<_>>().join(" & ") + " \\\\\n";
        let Some((header, rows)) = self.cells.split_first() else { return String::new() };
        let columns = format!("l{}", "r".repeat(header.len().saturating_sub(1)));
        let rows: String = rows.iter().map(line).collect();
        format!("\\begin{{tabular}}{{{columns}}}\n\\toprule\n{}\\midrule\n{rows}\\bottomrule\n\\end{{tabular}}\n", line(header))
    }
}

/// Text that LaTeX shows as it is.
pub fn escape_latex(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '%' | '_' | '&' | '#' | '$' | '{' | '}' => escaped.extend(['\\', c]),
            '\\' => escaped += "\\textbackslash{}",
            '~' => escaped += "\\textasciitilde{}",
            '^' => escaped += "\\textasciicircum{}",
            '±' => escaped += "$\\pm$",
            other => escaped.push(other),
        }
    }
    escaped
}

/// What runs show together.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Pictures.
    pub pictures: Vec<Picture>,
    /// Tables.
    pub tables: Vec<ComparisonTable>,
    /// Further files, by name: documents for other programs, interactive pages.
    pub files: Vec<(String, String)>,
    /// Runs that have not what is shown, with the reason.
    pub left_out: Vec<(PathBuf, EngineError)>,
}

/// Configuration of a comparison, found by name in the registry.
#[typetag::serde(tag = "name")]
pub trait ComparisonConfig: Configured + Send + Sync {
    /// Compares runs. One that lacks what is shown is left out by name; nothing is shown when all do.
    ///
    /// # Errors
    /// [`EngineError::Request`] for what cannot be compared or does not make sense.
    fn compare(&self, compared: &Compared<'_>) -> Result<Comparison, EngineError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_escaped_for_latex() {
        let cells = [["objective.m", "error %"], ["vdb", "1.50 ± 0.07"]].map(|row| row.map(str::to_owned).to_vec()).to_vec();
        let table = ComparisonTable { name: "means".to_owned(), cells };
        assert_eq!(table.csv(), "objective.m,error %\nvdb,1.50 ± 0.07\n");
        assert!(
            table.latex().starts_with("\\begin{tabular}{lr}\n\\toprule\nobjective.m & error \\% \\\\\n\\midrule\nvdb & 1.50 $\\pm$ 0.07")
        );
        assert_eq!(escape_latex("a_b~^\\"), "a\\_b\\textasciitilde{}\\textasciicircum{}\\textbackslash{}");
    }

    #[test]
    fn the_result_that_was_asked_for_is_read() {
        let results = ["ksg/k:3".to_owned(), "nll-best".to_owned()];
        let compared = Compared { runs: &[], over: &[], results: &results, values: &[], references: &[] };
        assert_eq!(["ksg", "nll", "psnr"].map(|analysis| compared.selector(analysis)), ["ksg/k:3", "nll-best", "psnr"]);
    }
}
