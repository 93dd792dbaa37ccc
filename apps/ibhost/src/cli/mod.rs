//! The command line as clap sees it.

mod results;
mod training;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ibhost_framework::registry::Kind;

pub use results::{AnalyzeArgs, CompareArgs, LookArgs, Replaced, ReportArgs};
pub use training::{Launcher, ResumeArgs, RunArgs, SweepArgs, TrialArgs};

/// Run, compare and extend information-bottleneck and latent-variable methods.
#[derive(Debug, Parser)]
#[command(
    name = "ibhost",
    version = crate::program::version(),
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
    /// Threads to compute with; all processors without it. On flex the result does not depend on it.
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
    /// Figures and tables of many runs: metrics against a setting, curves, robustness, planes, means
    Compare(CompareArgs),
    /// Now `analyze` and `compare`
    #[command(hide = true, disable_help_flag = true)]
    Evaluate(Replaced),
    /// Now `compare`
    #[command(hide = true, disable_help_flag = true)]
    Tabulate(Replaced),
    /// Now `compare`
    #[command(hide = true, disable_help_flag = true)]
    Plot(Replaced),
    /// Runs or sweeps on one page: tables, figures, pictures, and the command behind every number
    Report(ReportArgs),
    /// Check every file of a run against its hash
    Verify(VerifyArgs),
    /// List, download and verify data sets
    #[command(subcommand)]
    Data(DataCommand),
    /// Show what this build and machine can compute on
    Devices(FormatArgs),
    /// Write a new plugin crate with a working component
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

/// Folder of data sets.
#[derive(Debug, Args)]
pub struct DataDir {
    /// Folder of data sets; the platform's cache folder without it
    #[arg(long, env = "IBHOST_DATA", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Flags of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// objective, encoder, decoder, dataset, analysis, comparison, strategy, optimiser, schedule or preset
    #[arg(long, value_name = "KIND", value_parser = parse_listed)]
    pub kind: Option<Listed>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Flags of `runs`.
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// Folders (`runs` without one), and filters such as objective=vdb, objective.beta<0.01, test.accuracy>=0.9 or dataset~mnist
    #[arg(value_name = "FOLDER|FILTER")]
    pub wanted: Vec<std::ffi::OsString>,
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
    /// Show what a run would load: counts, shapes, ranges, classes, hashes, and a picture of samples
    Inspect(InspectArgs),
    /// Verify that what a run would read is what was published, by checksum
    Verify {
        /// Data sets; all without it
        names: Vec<String>,
        /// Where data sets are.
        #[command(flatten)]
        data: DataDir,
    },
}

/// Flags of `data inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Data set, or the path of a file or folder
    #[arg(value_name = "DATASET|PATH")]
    pub dataset: String,
    /// Draw the first training samples into this PNG file
    #[arg(long, value_name = "FILE.png")]
    pub picture: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Where data sets are.
    #[command(flatten)]
    pub data: DataDir,
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
    /// Name of the component, e.g. cib; the crate is called ibhost-<name>
    pub name: String,
    /// What it is
    #[arg(long, value_enum, default_value_t)]
    pub kind: PluginKind,
    /// Folder to write the crate to; ./ibhost-<name> without it
    #[arg(long, value_name = "DIR")]
    pub path: Option<PathBuf>,
    /// Checkout of ibhost the crate depends on; found from the current folder upwards without it
    #[arg(long, value_name = "DIR")]
    pub ibhost: Option<PathBuf>,
}

/// What a new plug-in can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PluginKind {
    /// A loss with its model
    #[default]
    Objective,
    /// Inputs to codes
    Encoder,
    /// Codes to class scores
    Decoder,
    /// Samples
    Dataset,
    /// An evaluation of finished runs
    Analysis,
}

/// Flags of `completions`.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// Shell
    pub shell: clap_complete::Shell,
}
