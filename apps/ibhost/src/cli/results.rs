//! Flags of the commands that look at finished runs: `analyze`, `compare`, `report`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::{DataDir, Format};

/// What runs are looked at with.
#[derive(Debug, Args)]
pub struct LookArgs {
    /// Which weights: `last` or `best`
    #[arg(long, default_value = "last", value_name = "LABEL")]
    pub checkpoint: String,
    /// Use the averaged weights
    #[arg(long)]
    pub average: bool,
    /// Seed of the analyses; each run's own without it
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
    /// Look at runs on data other than those they were trained on; the results say so
    #[arg(long)]
    pub other_data: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Where data sets are.
    #[command(flatten)]
    pub data: DataDir,
}

/// Flags of `analyze`.
#[derive(Debug, Args)]
pub struct AnalyzeArgs {
    /// Folders of runs, or folders with runs in them, such as a sweep's
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// Analysis, e.g. salt_pepper/p:[0.1;0.2]; may be repeated
    #[arg(long, required = true, value_name = "COMPONENT")]
    pub analysis: Vec<String>,
    /// Write results into a folder of the run's name below this one, and nothing into the run, which may be read-only
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// A finished classifier's run that judges where an analysis takes one and names none, beside the runs or in a folder above: its name (`--name`),
    /// folder, id or the start of its id (4 digits at least)
    #[arg(long, value_name = "RUN")]
    pub classifier: Option<String>,
    /// Make only what is not there yet from the same weights, settings, seed, data, judge and program
    #[arg(long)]
    pub missing: bool,
    /// Runs analysed at once
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: u16,
    /// Weights, seed, format and data.
    #[command(flatten)]
    pub look: LookArgs,
}

/// Flags of `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Folders of runs, or folders with runs in them, such as a sweep's
    #[arg(required_unless_present = "values")]
    pub runs: Vec<PathBuf>,
    /// Comparison, e.g. mean_curves/series:[strategy]; may be repeated
    #[arg(long, required = true, value_name = "COMPONENT")]
    pub comparison: Vec<String>,
    /// Setting that means go over besides the seed, e.g. dataset.fold; may be repeated
    #[arg(long, value_name = "SETTING")]
    pub over: Vec<String>,
    /// Result to read where an analysis has several: with its parameters, e.g. salt_pepper/p:[0.2], or a file's name before `.json`; may be repeated
    #[arg(long, value_name = "RESULT")]
    pub result: Vec<String>,
    /// Where results of analyses are, as written by `ibhost analyze --output DIR`; in the runs without it
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// Values beside those of the runs: a table with the columns line, x, metric, value and perhaps spread; may be repeated
    #[arg(long, value_name = "CSV")]
    pub values: Vec<PathBuf>,
    /// Values to draw dashed, e.g. published ones; the columns of `--values`
    #[arg(long, value_name = "CSV")]
    pub reference: Vec<PathBuf>,
    /// Show runs too that are not completed
    #[arg(long)]
    pub unfinished: bool,
    /// Folder of the pictures and tables
    #[arg(long, default_value = "comparison", value_name = "DIR")]
    pub output: PathBuf,
    /// Output format of tables
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// A command of earlier versions with whatever was given to it.
#[derive(Debug, Args)]
pub struct Replaced {
    /// Everything
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<OsString>,
}

/// Flags of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Folders of runs, or folders that hold such folders
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// File that says what is shown; by what the runs differ in without it
    #[arg(long, value_name = "YAML")]
    pub template: Option<PathBuf>,
    /// Heading of the page
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// Page to write; tables as CSV and LaTeX are written beside it
    #[arg(long, default_value = "report.html", value_name = "HTML")]
    pub output: PathBuf,
}
