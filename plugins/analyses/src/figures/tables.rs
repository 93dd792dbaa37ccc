//! Corruption errors over several runs: CE, relative CE and their means, as tables in CSV and LaTeX.

use std::collections::{BTreeMap, BTreeSet};

use ibhost_framework::csv_text::csv_text;

/// Accuracies of one run on corrupted images.
#[derive(Clone, Debug, PartialEq)]
pub struct RunCorruption {
    /// Name of the run, unique.
    pub name: String,
    /// What the run is grouped by.
    pub key: String,
    /// Training strategy.
    pub strategy: String,
    /// Share of clean test images classified right.
    pub clean_accuracy: f64,
    /// One entry per category and severity.
    pub cells: Vec<CorruptionCell>,
}

/// Accuracy in one category at one severity.
#[derive(Clone, Debug, PartialEq)]
pub struct CorruptionCell {
    /// Category, e.g. `fog`.
    pub category: String,
    /// From 1; 1 for sets without severities.
    pub severity: u8,
    /// Share of images classified right.
    pub accuracy: f64,
}

/// Mean and sample standard deviation (0 for a single value).
pub fn mean_and_std(values: &[f64]) -> [f64; 2] {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let spread = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
    [mean, if values.len() > 1 { (spread / (n - 1.0)).sqrt() } else { 0.0 }]
}

/// All runs with one key.
#[derive(Clone, Debug, PartialEq)]
pub struct TableRow {
    /// Key of the runs.
    pub key: String,
    /// Number of runs.
    pub runs: usize,
    /// Mean and sample standard deviation over runs of the clean error, in percent.
    pub clean_error: [f64; 2],
    /// Per category: mean over runs of the error in percent, summed over severities.
    pub errors: Vec<f64>,
    /// Per category: the same minus the clean error, subtracted once.
    pub relative_errors: Vec<f64>,
    /// Mean over categories of 100 times the error over the reference's.
    pub mce: f64,
    /// Mean over categories of 100 times the relative error over the reference's, the clean error subtracted once.
    pub rel_mce: f64,
    /// As `rel_mce` with the clean error subtracted at each severity (Hendrycks & Dietterich 2019).
    pub rel_mce_standard: f64,
}

/// Corruption errors by key.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Categories in the order of the columns.
    pub categories: Vec<String>,
    /// Rows in the order of the keys.
    pub rows: Vec<TableRow>,
}

/// Why runs do not form a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Nothing is left after filtering.
    #[error("no run has one of the strategies {strategies} and one of the categories; name the strategies of your runs")]
    Empty {
        /// Strategies asked for.
        strategies: String,
    },
    /// The reference is not among the runs.
    #[error("no run has the reference key `{reference}`; the keys are {keys}")]
    NoReference {
        /// Key asked for.
        reference: String,
        /// Keys there are.
        keys: String,
    },
    /// Numbers of runs differ between keys.
    #[error("`{key}` has {found} runs and the reference {expected}; sums over runs compare only with equal numbers, leave some runs out")]
    Runs {
        /// Key.
        key: String,
        /// Runs of the key.
        found: usize,
        /// Runs of the reference.
        expected: usize,
    },
    /// A run was measured on other categories or severities than the first one.
    #[error("run `{run}` was not measured on the same categories and severities as run `{first}`; analyse both on the same data")]
    Cells {
        /// Run.
        run: String,
        /// First run.
        first: String,
    },
    /// The reference makes no error to compare with.
    #[error("the reference `{reference}` has a summed error of 0 for `{category}`, so nothing can be given relative to it")]
    Zero {
        /// Key.
        reference: String,
        /// Category.
        category: String,
    },
}

/// Sums over the runs of one key.
#[derive(Default)]
struct Sums<'a> {
    runs: Vec<&'a RunCorruption>,
    clean: Vec<f64>,
    /// Per category.
    error: Vec<f64>,
    relative: Vec<f64>,
    standard: Vec<f64>,
}

/// Builds the table of `runs` with one of `strategies`, over those of `categories` that were measured, relative to key `reference`.
///
/// error = 100 (1 - accuracy) in percent. CE = 100 times the error summed over runs and severities over the same sum of the reference;
/// relative CE subtracts each run's clean error from its sum over severities. mCE and relative mCE are plain means over categories.
///
/// # Errors
/// [`TableError`] when the runs cannot be compared.
pub fn corruption_table(
    runs: &[RunCorruption],
    reference: &str,
    strategies: &[String],
    categories: &[String],
) -> Result<Table, TableError> {
    let chosen: Vec<&RunCorruption> = runs.iter().filter(|run| strategies.contains(&run.strategy)).collect();
    let empty = || TableError::Empty { strategies: strategies.join(", ") };
    let first = *chosen.first().ok_or_else(empty)?;
    let wanted = |run: &RunCorruption| -> BTreeSet<(String, u8)> {
        run.cells.iter().filter(|c| categories.contains(&c.category)).map(|c| (c.category.clone(), c.severity)).collect()
    };
    let layout = wanted(first);
    let categories: Vec<String> = categories.iter().filter(|c| layout.iter().any(|(name, _)| name == *c)).cloned().collect();
    if categories.is_empty() {
        return Err(empty());
    }
    let mut groups: BTreeMap<&str, Sums<'_>> = BTreeMap::new();
    for run in chosen {
        if wanted(run) != layout {
            return Err(TableError::Cells { run: run.name.clone(), first: first.name.clone() });
        }
        groups.entry(&run.key).or_default().add(run, &categories);
    }
    let Some(base) = groups.get(reference) else {
        let keys = groups.keys().copied().collect::<Vec<_>>().join(", ");
        return Err(TableError::NoReference { reference: reference.to_owned(), keys });
    };
    for (sums, category) in [&base.error, &base.relative, &base.standard].into_iter().flat_map(|s| s.iter().zip(&categories)) {
        if *sums == 0.0 {
            return Err(TableError::Zero { reference: reference.to_owned(), category: category.clone() });
        }
    }
    let rows = groups.iter().map(|(key, sums)| sums.row(key, base)).collect::<Result<_, _>>()?;
    Ok(Table { categories, rows })
}

impl<'a> Sums<'a> {
    fn add(&mut self, run: &'a RunCorruption, categories: &[String]) {
        let clean = 100.0 * (1.0 - run.clean_accuracy);
        self.runs.push(run);
        self.clean.push(clean);
        for sums in [&mut self.error, &mut self.relative, &mut self.standard] {
            sums.resize(categories.len(), 0.0);
        }
        for (i, category) in categories.iter().enumerate() {
            let cells = run.cells.iter().filter(|c| c.category == *category);
            let (severities, error) = cells.fold((0.0, 0.0), |(n, sum), c| (n + 1.0, sum + 100.0 * (1.0 - c.accuracy)));
            self.error[i] += error;
            self.relative[i] += error - clean;
            self.standard[i] += error - severities * clean;
        }
    }

    fn row(&self, key: &str, base: &Self) -> Result<TableRow, TableError> {
        if self.runs.len() != base.runs.len() {
            return Err(TableError::Runs { key: key.to_owned(), found: self.runs.len(), expected: base.runs.len() });
        }
        let n = self.runs.len() as f64;
        let mean_ratio = |own: &[f64], base: &[f64]| own.iter().zip(base).map(|(a, b)| 100.0 * a / b).sum::<f64>() / own.len() as f64;
        Ok(TableRow {
            key: key.to_owned(),
            runs: self.runs.len(),
            clean_error: mean_and_std(&self.clean),
            errors: self.error.iter().map(|e| e / n).collect(),
            relative_errors: self.relative.iter().map(|e| e / n).collect(),
            mce: mean_ratio(&self.error, &base.error),
            rel_mce: mean_ratio(&self.relative, &base.relative),
            rel_mce_standard: mean_ratio(&self.standard, &base.standard),
        })
    }
}

impl TableRow {
    /// `1.61±0.72\%`.
    pub fn clean_error_latex(&self) -> String {
        format!("{:.2}±{:.2}\\%", self.clean_error[0], self.clean_error[1])
    }
}

impl Table {
    /// The row of a key.
    pub fn row(&self, key: &str) -> Option<&TableRow> {
        self.rows.iter().find(|row| row.key == key)
    }

    /// Key, number of runs, clean error (mean, standard deviation) and the error of each category summed over severities, in percent.
    pub fn errors_csv(&self) -> String {
        self.csv(|row| &row.errors)
    }

    /// As [`Self::errors_csv`], minus the clean error.
    pub fn relative_errors_csv(&self) -> String {
        self.csv(|row| &row.relative_errors)
    }

    fn csv(&self, values: impl Fn(&TableRow) -> &[f64]) -> String {
        let fixed = ["key", "n", "error_clean_mean", "error_clean_std"].map(str::to_owned);
        let header = fixed.into_iter().chain(self.categories.iter().cloned()).collect();
        let row = |row: &TableRow| {
            let numbers = row.clean_error.iter().chain(values(row)).map(f64::to_string);
            [row.key.clone(), row.runs.to_string()].into_iter().chain(numbers).collect::<Vec<String>>()
        };
        csv_text(std::iter::once(header).chain(self.rows.iter().map(row)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, key: &str, clean: f64, accuracies: &[(&str, u8, f64)]) -> RunCorruption {
        let cell = |&(category, severity, accuracy): &(&str, u8, f64)| CorruptionCell { category: category.to_owned(), severity, accuracy };
        let cells = accuracies.iter().map(cell).collect();
        RunCorruption { name: name.to_owned(), key: key.to_owned(), strategy: "oneshot".to_owned(), clean_accuracy: clean, cells }
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    fn table(runs: &[RunCorruption]) -> Result<Table, TableError> {
        corruption_table(runs, "a", &words(&["oneshot"]), &words(&["fog", "snow"]))
    }

    #[test]
    fn both_relative_errors_of_hand_made_runs() {
        let runs = [
            run("1", "a", 0.9, &[("fog", 1, 0.8), ("fog", 2, 0.5), ("other", 1, 0.0)]),
            run("2", "b", 0.8, &[("fog", 1, 0.7), ("fog", 2, 0.6), ("other", 1, 0.0)]),
        ];
        let table = table(&runs).unwrap();
        assert_eq!(table.categories, ["fog"]);
        let b = table.row("b").unwrap();
        // a: 20 + 50 = 70, clean 10; b: 30 + 40 = 70, clean 20.
        assert!((b.mce - 100.0).abs() < 1e-9);
        assert!((b.rel_mce - 100.0 * 50.0 / 60.0).abs() < 1e-9);
        assert!((b.rel_mce_standard - 100.0 * 30.0 / 50.0).abs() < 1e-9);
        assert_eq!(b.clean_error_latex(), "20.00±0.00\\%");
        let csv = table.errors_csv();
        assert!(csv.starts_with("key,n,error_clean_mean,error_clean_std,fog\na,1,"), "{csv}");
        assert_eq!(csv.lines().count(), 3);
    }

    #[test]
    fn runs_that_do_not_compare_are_named() {
        let a = run("1", "a", 0.9, &[("fog", 1, 0.8)]);
        let b = |name: &str| run(name, "b", 0.9, &[("fog", 1, 0.8)]);
        assert!(matches!(table(&[]), Err(TableError::Empty { .. })));
        assert!(matches!(table(&[b("2")]), Err(TableError::NoReference { keys, .. }) if keys == "b"));
        assert!(matches!(table(&[a.clone(), b("2"), b("3")]), Err(TableError::Runs { found: 2, expected: 1, .. })));
        let other = run("4", "b", 0.9, &[("snow", 1, 0.8)]);
        assert!(matches!(table(&[a.clone(), other]), Err(TableError::Cells { run, .. }) if run == "4"));
        let perfect = run("5", "a", 1.0, &[("fog", 1, 1.0)]);
        assert!(matches!(table(&[perfect]), Err(TableError::Zero { category, .. }) if category == "fog"));
    }

    #[test]
    fn the_deviation_is_that_of_a_sample() {
        assert_eq!(mean_and_std(&[1.0, 3.0]), [2.0, 2f64.sqrt()]);
    }
}
