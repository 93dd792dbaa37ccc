//! Flags of the commands that look at finished runs: `analyze`, `evaluate`, `tabulate`, `plot`, `report`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

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
    /// Folders of runs
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// Analysis, e.g. salt_pepper/p:[0.1;0.2]; may be repeated
    #[arg(long, required = true, value_name = "COMPONENT")]
    pub analysis: Vec<String>,
    /// Write results into a folder of the run's name below this one, and nothing into the run, which may be read-only
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Weights, seed, format and data.
    #[command(flatten)]
    pub look: LookArgs,
}

/// Flags of `evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Folders of runs, or folders with runs in them, such as a sweep's
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// Folder of the table and the figures
    #[arg(long, default_value = "evaluation", value_name = "DIR")]
    pub output: PathBuf,
    /// A finished classifier's run, beside the runs or in a folder above: its name (`--name`), folder, id or the start of its id (4 digits at least); without it
    /// samples and reconstructions are not judged
    #[arg(long, value_name = "RUN")]
    pub classifier: Option<String>,
    /// Analysis in place of the usual settings, e.g. probes/points:2000, or in addition; may be repeated
    #[arg(long, value_name = "COMPONENT")]
    pub analysis: Vec<String>,
    /// Analysis to leave out, e.g. fid; may be repeated
    #[arg(long, value_name = "NAME")]
    pub skip: Vec<String>,
    /// Setting with the weight of the lower levels' rate
    #[arg(long, default_value = "objective.beta_y", value_name = "SETTING")]
    pub lower: String,
    /// Setting with the weight of the top level's rate
    #[arg(long, default_value = "objective.beta_z", value_name = "SETTING")]
    pub top: String,
    /// Runs evaluated at once; as many as there are processors without it
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Make every evaluation again, also those on disk from the same weights, settings, seed, data, judge and program
    #[arg(long)]
    pub fresh: bool,
    /// Read and write results of analyses in folders of the runs' names below this one, and nothing in the runs
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// Evaluate runs too that are not completed
    #[arg(long)]
    pub unfinished: bool,
    /// Weights, seed, format and data.
    #[command(flatten)]
    pub look: LookArgs,
}

/// Tables `tabulate` can make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TableKind {
    /// Mean and standard deviation of a metric over runs, by two settings
    #[default]
    Batch,
    /// mCE and relative mCE of runs analysed with `mnistc`
    Mnistc,
    /// mCE and relative mCE of runs analysed with `cifar10c`
    Cifar10c,
}

/// What `plot` draws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FigureKind {
    /// Metrics against a setting, mean and standard deviation over runs
    #[default]
    Setting,
    /// Metrics per epoch, mean and standard deviation over runs
    Curves,
    /// Results of runs or of tables against a setting, a line for each `--lines`, error bars over the runs at a place
    Axis,
    /// Accuracy against salt-and-pepper noise, a panel for each `--rows`
    SaltPepper,
    /// Accuracy against severity, a panel for each corruption of CIFAR-10-C
    Cifar10c,
    /// Planes of two-dimensional codes, `--rows` by `--columns`
    LatentGrid,
}

/// Flags of `plot`.
#[derive(Debug, Args)]
pub struct PlotArgs {
    /// Folders of runs
    #[arg(required_unless_present = "values")]
    pub runs: Vec<PathBuf>,
    /// Which figure
    #[arg(long, value_enum, default_value_t)]
    pub figure: FigureKind,
    /// Setting on the horizontal axis of `setting` and `axis`
    #[arg(long, default_value = "objective.beta", value_name = "SETTING")]
    pub x: String,
    /// Setting that makes panels or rows
    #[arg(long, default_value = "strategy", value_name = "SETTING")]
    pub rows: String,
    /// Setting that makes curves or columns
    #[arg(long, default_value = "objective.m", value_name = "SETTING")]
    pub columns: String,
    /// Setting that makes the lines of `axis`
    #[arg(long, default_value = "objective", value_name = "SETTING")]
    pub lines: String,
    /// Values for `axis` beside those of the runs: a table with the columns line, x, metric, value and perhaps spread
    #[arg(long, value_name = "CSV")]
    pub values: Vec<PathBuf>,
    /// Values for `axis` to draw dashed, e.g. published ones; the columns of `--values`
    #[arg(long, value_name = "CSV")]
    pub reference: Vec<PathBuf>,
    /// Metrics of `setting` and `curves`; `error...` is 1 - `accuracy...`. Of `axis`: `<split>.<metric>` of the log or
    /// `<analysis>.<path in its result>` of runs, names of tables
    #[arg(long, value_delimiter = ',', default_value = "error,error_l12,izx_bits,izy_bits,loss", value_name = "METRICS")]
    pub metrics: Vec<String>,
    /// Average `setting` over so many last evaluations
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub last: usize,
    /// Codes averaged for the accuracies of robustness figures
    #[arg(long, default_value_t = 12, value_name = "L")]
    pub codes: u64,
    /// Draw the latent planes under noise (`latent_plot/salt_pepper:P`)
    #[arg(long)]
    pub noisy: bool,
    /// Axes of latent planes from minus to plus this value
    #[arg(long, value_name = "Z")]
    pub limit: Option<f64>,
    /// Result to read where there are several: an analysis with parameters, e.g. salt_pepper/p:[0.2], or a file's name before `.json`
    #[arg(long, value_name = "RESULT")]
    pub analysis: Option<String>,
    /// Where results of analyses are, as written by `ibhost analyze --output DIR`; in the runs without it
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// Setting that means go over besides the seed, e.g. dataset.fold; may be repeated
    #[arg(long, value_name = "SETTING")]
    pub over: Vec<String>,
    /// Show runs too that are not completed
    #[arg(long)]
    pub unfinished: bool,
    /// File to write
    #[arg(long, default_value = "figure.png", value_name = "PNG")]
    pub output: PathBuf,
}

/// Flags of `tabulate`.
#[derive(Debug, Args)]
pub struct TabulateArgs {
    /// Folders of runs
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// Which table
    #[arg(long, value_enum, default_value_t)]
    pub table: TableKind,
    /// Setting that makes the rows of a batch table
    #[arg(long, default_value = "strategy", value_name = "SETTING")]
    pub rows: String,
    /// Setting that makes the columns of a batch table
    #[arg(long, default_value = "objective.m", value_name = "SETTING")]
    pub columns: String,
    /// Metric of a batch table
    #[arg(long, default_value = "test.accuracy_l12", value_name = "SPLIT.METRIC")]
    pub metric: String,
    /// Average the metric over so many last evaluations
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub last: usize,
    /// Show 1 - metric
    #[arg(long)]
    pub error: bool,
    /// Show cells in percent
    #[arg(long)]
    pub percent: bool,
    /// Key of the runs that corruption errors are relative to
    #[arg(long, value_name = "KEY")]
    pub reference: Option<String>,
    /// Result to read where there are several: an analysis with parameters, e.g. salt_pepper/p:[0.2], or a file's name before `.json`
    #[arg(long, value_name = "RESULT")]
    pub analysis: Option<String>,
    /// Where results of analyses are, as written by `ibhost analyze --output DIR`; in the runs without it
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// Setting that means go over besides the seed, e.g. dataset.fold; may be repeated
    #[arg(long, value_name = "SETTING")]
    pub over: Vec<String>,
    /// Show runs too that are not completed
    #[arg(long)]
    pub unfinished: bool,
    /// Folder to write CSV and LaTeX to
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
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
