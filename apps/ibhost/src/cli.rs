//! The command line as clap sees it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ibhost_framework::registry::Kind;

use crate::commands::Seeds;

/// Run, compare and extend information-bottleneck and latent-variable methods.
#[derive(Debug, Parser)]
#[command(
    name = "ibhost",
    version,
    about,
    after_help = "Exit codes: 0 done; 1 the work failed (bad numbers, disk, damaged or locked run); 2 the request cannot be carried out \
                  (flag, component, data, device); 101 a bug; 130 interrupted after saving. A process killed by the system has none.\n\
                  Components are written `name/key:value|key:value`; `,` may stand for `|`. `ibhost list` shows them all."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// More messages on stderr; twice for everything.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Only errors on stderr, no progress.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Threads to compute with; all processors without it. The result does not depend on it.
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<usize>,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train an objective and evaluate it
    Run(Box<RunArgs>),
    /// Continue an interrupted run to its planned end
    Resume(ResumeArgs),
    /// List components and presets
    List(ListArgs),
    /// Run a grid of settings, here or through Slurm, and continue it after anything that stopped it
    Sweep(Box<SweepArgs>),
    /// Run one trial of a sweep, as its launchers do
    Trial(TrialArgs),
    /// List the runs in a folder and below: status, settings, measurements; filtered and sorted
    #[command(visible_alias = "list-runs")]
    Runs(RunsArgs),
    /// Explain one component: formula, parameters, paper, example
    Describe(DescribeArgs),
    /// Run analyses on finished runs
    Analyze(AnalyzeArgs),
    /// Evaluate a grid of generative models: rates, distortion, information, probes, samples; table and figures
    Evaluate(EvaluateArgs),
    /// One table from many runs: a metric by two settings, or corruption errors
    Tabulate(TabulateArgs),
    /// Draw one figure from several runs: metrics against a setting, mean curves, robustness or latent planes
    Plot(PlotArgs),
    /// Runs or sweeps on one page: tables, figures, pictures, and the command behind every number
    Report(ReportArgs),
    /// Check every file of a run against its hash
    Verify(VerifyArgs),
    /// List, download and verify data sets
    #[command(subcommand)]
    Data(DataCommand),
    /// Show what this build and machine can compute on
    Devices(FormatArgs),
    /// Write a new plugin crate with a working objective
    NewPlugin(NewPluginArgs),
    /// Print shell completions
    Completions(CompletionArgs),
    /// Print the man page
    Man,
}

/// Output format of tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
    /// For documents
    Markdown,
}

/// Flags of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Objective, e.g. vdb/beta:0.001|m:4
    #[arg(long, value_name = "COMPONENT")]
    pub objective: Option<String>,
    /// Encoder, e.g. resnet20/z:2
    #[arg(long, value_name = "COMPONENT")]
    pub encoder: Option<String>,
    /// Decoder; the objective's own without it
    #[arg(long, value_name = "COMPONENT")]
    pub decoder: Option<String>,
    /// Data set; the embedded `digits` without it
    #[arg(long, value_name = "COMPONENT")]
    pub dataset: Option<String>,
    /// Which parameters move when, e.g. algo1/d:10|e:1
    #[arg(long, value_name = "COMPONENT")]
    pub strategy: Option<String>,
    /// Optimiser, e.g. adam/beta1:0.5
    #[arg(long, alias = "optimizer", value_name = "COMPONENT")]
    pub optimiser: Option<String>,
    /// Learning-rate schedule, e.g. exponential/decay:0.97
    #[arg(long, alias = "lr-schedule", value_name = "COMPONENT")]
    pub schedule: Option<String>,
    /// Start from a preset (`ibhost list --kind preset`); flags override it
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Start from a configuration file such as a run's config.yml; flags override it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one value by its path, e.g. objective.beta=0.01 or lr=1e-3; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Passes over the training split
    #[arg(long, alias = "epoch", value_name = "N")]
    pub epochs: Option<u64>,
    /// Optimisation steps, instead of epochs
    #[arg(long, value_name = "N", conflicts_with = "epochs")]
    pub steps: Option<u64>,
    /// Samples a step
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Base learning rate
    #[arg(long, alias = "learning-rate", value_name = "RATE")]
    pub lr: Option<f64>,
    /// Decay of the moving average of the weights; `none` keeps none
    #[arg(long, value_name = "DECAY")]
    pub average: Option<String>,
    /// Seed of every random draw
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
    /// Seeds of several runs trained side by side in this process, one a thread, e.g. 0..9 (both ends count) or 1,5,7
    #[arg(long, value_name = "SEEDS", conflicts_with = "seed")]
    pub seeds: Option<Seeds>,
    /// Use only the first N training samples
    #[arg(long, value_name = "N")]
    pub limit_train: Option<usize>,
    /// Device, see `ibhost devices`
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Epochs between evaluations
    #[arg(long, value_name = "N")]
    pub evaluate_every: Option<u64>,
    /// Metric that decides what is best, e.g. test.accuracy
    #[arg(long, value_name = "SPLIT.METRIC")]
    pub watch: Option<String>,
    /// Stop after N evaluations without improvement of the watched metric
    #[arg(long, value_name = "N")]
    pub patience: Option<u64>,
    /// How often a checkpoint is written: 500steps, 2epochs or 10min
    #[arg(long, value_name = "INTERVAL")]
    pub checkpoint_every: Option<String>,
    /// Name of the run, part of its folder's name
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Folder the run's own folder is created in
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub output_dir: PathBuf,
    /// Print the resolved configuration and stop
    #[arg(long)]
    pub dry_run: bool,
    /// `json` ends stdout with one line {"run_dir": ..., "final": ...}
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Where data sets are.
    #[command(flatten)]
    pub data: DataDir,
}

/// Folder of data sets.
#[derive(Debug, Args)]
pub struct DataDir {
    /// Folder of data sets; the platform's cache folder without it
    #[arg(long, env = "IBHOST_DATA", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Flags of `resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Folder of the run
    pub run_dir: PathBuf,
    /// Remove checkpoints that are damaged and continue from the newest sound one
    #[arg(long)]
    pub skip_damaged: bool,
    /// `json` ends stdout with one line {"run_dir": ..., "final": ...}
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Where data sets are.
    #[command(flatten)]
    pub data: DataDir,
}

/// Flags of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// objective, encoder, decoder, dataset, analysis, strategy, optimiser, schedule or preset
    #[arg(long, value_name = "KIND", value_parser = parse_listed)]
    pub kind: Option<Listed>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// What a sweep is launched with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Launcher {
    /// Child processes on this machine
    #[default]
    Local,
    /// Job arrays of a Slurm cluster
    Slurm,
}

/// Flags of `sweep`.
#[derive(Debug, Args)]
#[command(mut_arg("name", |name| name.help("Name of the sweep; its folder is <output-dir>/sweeps/<name>")))]
#[command(mut_arg("dry_run", |dry_run| dry_run.help("Print the numbered trials with their commands and stop")))]
#[command(mut_arg("format", |format| format.help("Output format of the tables of trials")))]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct SweepArgs {
    /// File of the sweep, or folder of one that was begun; none when the flags say it all
    #[arg(value_name = "FILE")]
    pub target: Option<PathBuf>,
    /// Axis: values or a range of one setting, e.g. objective.beta=0.001,0.01 or seed=0..9; may be repeated
    #[arg(long = "sweep", value_name = "KEY=VALUES")]
    pub axes: Vec<String>,
    /// Where trials run
    #[arg(long, value_enum, default_value_t)]
    pub launcher: Launcher,
    /// Trials at once; locally one a processor without it, on a cluster its throttle
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Go on when a trial fails (the default)
    #[arg(long, conflicts_with = "fail_fast")]
    pub keep_going: bool,
    /// Stop the other trials, which save, when one fails
    #[arg(long)]
    pub fail_fast: bool,
    /// Run what is not completed of a sweep that was begun
    #[arg(long)]
    pub resume: bool,
    /// Most memory a trial may address, e.g. 4GiB
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Option of the cluster such as partition=gpu, time=4:00:00 or extra=--constraint=a100; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub slurm: Vec<String>,
    /// Show how far the trials got and stop
    #[arg(long, group = "instead")]
    pub status: bool,
    /// Write trials.csv and the index of runs, and stop
    #[arg(long, group = "instead")]
    pub collect: bool,
    /// Cancel the jobs of the cluster; trials that run save first
    #[arg(long, group = "instead")]
    pub cancel: bool,
    /// The base run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Flags of `trial`.
#[derive(Debug, Args)]
pub struct TrialArgs {
    /// Folder of the trial, <sweep>/trials/<number>
    pub folder: PathBuf,
    /// End when the process with this number ends
    #[arg(long, value_name = "PID")]
    pub parent: Option<u32>,
    /// Most memory to address, e.g. 4GiB
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Where data sets are.
    #[command(flatten)]
    pub data: DataDir,
}

/// Flags of `runs`.
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// Folders (`runs` without one), and filters such as objective=vdb, objective.beta<0.01, test.accuracy>=0.9 or dataset~mnist
    #[arg(value_name = "FOLDER|FILTER")]
    pub wanted: Vec<String>,
    /// Field to sort by, e.g. test.accuracy; falling with a `-` before it
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// Fields shown as further columns; `all` lists the fields there are
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Show at most N runs
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// What `list --kind` accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Components of one kind.
    Components(Kind),
    /// Presets.
    Presets,
}

fn parse_listed(text: &str) -> Result<Listed, String> {
    if matches!(text, "preset" | "presets") {
        return Ok(Listed::Presets);
    }
    text.parse().map(Listed::Components).map_err(|e: ibhost_framework::registry::UnknownKind| format!("{e}, or preset"))
}

/// Flags of `describe`.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// Name of a component or preset
    pub name: String,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
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
    /// Which weights: `last` or `best`
    #[arg(long, default_value = "last", value_name = "LABEL")]
    pub checkpoint: String,
    /// Use the averaged weights
    #[arg(long)]
    pub average: bool,
    /// Seed of the analysis; the run's own without it
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Where data sets are.
    #[command(flatten)]
    pub data: DataDir,
}

/// Flags of `evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Folders of runs
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// Folder of the table and the figures
    #[arg(long, default_value = "evaluation", value_name = "DIR")]
    pub output: PathBuf,
    /// Name of a finished classifier's run, beside the runs or in a folder above; without it samples and reconstructions are not judged
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
    /// Make every evaluation again, also those on disk from the same weights and settings
    #[arg(long)]
    pub fresh: bool,
    /// Which weights: `last` or `best`
    #[arg(long, default_value = "last", value_name = "LABEL")]
    pub checkpoint: String,
    /// Use the averaged weights
    #[arg(long)]
    pub average: bool,
    /// Seed of the analyses; each run's own without it
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Where data sets are.
    #[command(flatten)]
    pub data: DataDir,
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

/// Flags of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Folder of the run
    pub run_dir: PathBuf,
}

/// Commands below `data`.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// List data sets and whether their files are there
    List {
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        /// Where data sets are.
        #[command(flatten)]
        data: DataDir,
    },
    /// Download the files of a data set and verify them
    Fetch {
        /// Data set
        name: String,
        /// Where data sets are.
        #[command(flatten)]
        data: DataDir,
    },
    /// Verify the files of data sets against their published checksums
    Verify {
        /// Data sets; all without it
        names: Vec<String>,
        /// Where data sets are.
        #[command(flatten)]
        data: DataDir,
    },
}

/// Only a format.
#[derive(Debug, Args)]
pub struct FormatArgs {
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Flags of `new-plugin`.
#[derive(Debug, Args)]
pub struct NewPluginArgs {
    /// Name of the objective, e.g. cib; the crate is called ibhost-<name>
    pub name: String,
    /// Folder to write the crate to; ./ibhost-<name> without it
    #[arg(long, value_name = "DIR")]
    pub path: Option<PathBuf>,
    /// Checkout of ibhost the crate depends on; found from the current folder upwards without it
    #[arg(long, value_name = "DIR")]
    pub ibhost: Option<PathBuf>,
}

/// Flags of `completions`.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// Shell
    pub shell: clap_complete::Shell,
}
