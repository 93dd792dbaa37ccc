//! Flags of the commands that train: `run`, `resume`, `sweep`, `trial`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{DataDir, Format};
use crate::commands::Seeds;

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
    /// Which parameters move when, e.g. by_epoch/d:10|e:1
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
    /// Seeds of several runs trained side by side, as many as there are threads, e.g. 0..9 (both ends count) or 1,5,7
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

/// Flags of `resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Folder of the run
    pub run_dir: PathBuf,
    /// Remove checkpoints that are damaged and continue from the newest sound one; what holds files of others, or was written by another run or version, stays
    #[arg(long)]
    pub skip_damaged: bool,
    /// `json` ends stdout with one line {"run_dir": ..., "final": ...}
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Where data sets are.
    #[command(flatten)]
    pub data: DataDir,
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
    /// Run the shell lines (`setup`) and further options of sbatch (`extra`) that the sweep's file brings; asked for once
    #[arg(long)]
    pub accept_setup: bool,
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
    /// Refuse to be another program than the one with this hash
    #[arg(long, value_name = "HASH")]
    pub program: Option<String>,
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
