//! `ibhost-bench`: one JSON line a workload with the time of a training step or an estimate, and the throughput of an evaluation.

use std::process::{Command, ExitCode};
use std::time::Instant;

use burn::tensor::{Distribution, Tensor};
use clap::Parser;
use ibhost_all as _;
use ibhost_bench::estimator::{Estimator, estimators};
use ibhost_bench::measure::{Stepper, peak_memory, per_step, spread};
use ibhost_bench::phases::Phases;
use ibhost_bench::seeds::{RUNS, SEEDS, SINGLE, serve, time_seeds};
use ibhost_bench::workload::{Workload, workloads};
use ibhost_framework::dataset::{DataRoot, DatasetConfig};
use ibhost_framework::device;
use serde_json::{Value, json};
use tracing_subscriber::layer::SubscriberExt;

#[global_allocator]
static ALLOCATOR: ibhost_kernels::Allocator = ibhost_kernels::Allocator;

/// The workload that times reading data instead of training.
const DATA: &str = "data-mnist";

/// Times training steps of the papers' models and their estimators; one JSON line a workload.
#[derive(Parser)]
struct Arguments {
    /// Workloads, or `all`
    #[arg(default_value = "all")]
    names: Vec<String>,
    /// Print the workloads' names and stop
    #[arg(long)]
    list: bool,
    /// Threads; all of the machine without it
    #[arg(long)]
    threads: Option<usize>,
    /// Timed repeats
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Steps in a repeat instead of the workload's own number
    #[arg(long)]
    steps: Option<usize>,
    /// Steps before the first repeat instead of the workload's own number
    #[arg(long)]
    warmup: Option<usize>,
    /// Batch size, or samples of an estimator, instead of the workload's own
    #[arg(long)]
    batch: Option<usize>,
    /// Device
    #[arg(long, default_value = "flex")]
    device: String,
    /// Folder with the MNIST files, for `data-mnist`
    #[arg(long)]
    data: Option<std::path::PathBuf>,
    /// Seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Leave the evaluation out
    #[arg(long)]
    no_eval: bool,
    /// Say where the time of a step goes, and how fast a large matrix product is
    #[arg(long)]
    phases: bool,
    /// Train this share of the seeds of the job of several, of so many, when asked on stdin
    #[arg(long, num_args = 2, hide = true)]
    share: Option<Vec<usize>>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let (all, estimators) = (workloads(), estimators());
    let names: Vec<&str> = all.iter().map(|w| w.name).chain(estimators.iter().map(|e| e.name)).chain([SEEDS, DATA]).collect();
    if arguments.list {
        println!("{}", names.join("\n"));
        return Ok(());
    }
    ibhost_kernels::keep_freed_memory();
    let all_processors = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = if arguments.share.is_some() { 1 } else { arguments.threads.unwrap_or_else(all_processors).max(1) };
    rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global().map_err(|e| e.to_string())?;
    if let Some([share, workers]) = arguments.share.as_deref() {
        let (single, steps) = seed_steps(arguments)?;
        let config = |run: u64| single.config(&arguments.device, arguments.seed + run, arguments.batch).map_err(|e| e.to_string());
        return serve(config, [*share, *workers], steps);
    }
    let wanted: Vec<&str> =
        if arguments.names.iter().any(|n| n == "all") { names.clone() } else { arguments.names.iter().map(String::as_str).collect() };
    for name in wanted {
        let mut line = json!({
            "workload": name, "variant": format!("ibhost-{}", arguments.device), "threads": threads, "ibhost": env!("CARGO_PKG_VERSION"),
        });
        let result = match (all.iter().find(|w| w.name == name), estimators.iter().find(|e| e.name == name)) {
            (Some(workload), _) => training(workload, arguments)?,
            (None, Some(estimator)) => estimating(estimator, arguments),
            (None, None) if name == DATA => loading(arguments)?,
            (None, None) if name == SEEDS => seeds(arguments, threads)?,
            (None, None) => return Err(format!("there is no workload `{name}`; they are {}", names.join(", "))),
        };
        if let (Some(line), Some(result)) = (line.as_object_mut(), result.as_object()) {
            line.extend(result.clone());
            line.insert("peak_rss_mb".to_owned(), peak_memory().into());
        }
        println!("{line}");
    }
    Ok(())
}

fn training(workload: &Workload, arguments: &Arguments) -> Result<Value, String> {
    let config = workload.config(&arguments.device, arguments.seed, arguments.batch).map_err(|e| e.to_string())?;
    let batch = config.training.batch_size;
    let mut stepper = Stepper::new(config).map_err(|e| e.to_string())?;
    if stepper.parameters() != workload.parameters {
        return Err(format!("{} has {} parameters, not {}", workload.name, stepper.parameters(), workload.parameters));
    }
    let [steps, warmup] = [arguments.steps.unwrap_or(workload.steps[0]).max(1), arguments.warmup.unwrap_or(workload.steps[1])];
    let begin = Instant::now();
    stepper.time_steps(warmup.max(1) * workload.inner).map_err(|e| e.to_string())?;
    let warm = begin.elapsed().as_secs_f64();
    let mut times = Vec::new();
    for _ in 0..arguments.repeats.max(1) {
        times.push(stepper.time_steps(steps * workload.inner).map_err(|e| e.to_string())? * workload.inner as f64);
    }
    let [low, middle, high] = spread(&times);
    let mut result = json!({
        "status": "ok", "batch": batch, "steps": steps, "repeats": times.len(), "ms_per_step_median": middle, "ms_per_step_min": low,
        "ms_per_step_max": high, "warmup_s": warm, "eval_batch": workload.evaluation_batch, "parameters": workload.parameters,
        "gflops": workload.operations / low / 1e6,
    });
    if arguments.phases {
        let phases = Phases::default();
        let subscriber = tracing_subscriber::registry().with(phases.clone());
        let milliseconds =
            tracing::subscriber::with_default(subscriber, || stepper.time_steps(steps * workload.inner)).map_err(|e| e.to_string())?;
        result["phases_ms"] = json!(per_step(&phases.take().seconds, milliseconds * workload.inner as f64, steps));
        result["gemm_peak_gflops"] = product_rate(&arguments.device)?.into();
    }
    if !arguments.no_eval {
        let rates: Vec<f64> = (0..arguments.repeats.max(1)).map(|_| stepper.evaluation_rate(0.15, workload.evaluation)).collect();
        result["eval_samples_per_s"] = spread(&rates)[1].into();
    }
    stepper.time_steps(1).map_err(|e| e.to_string())?;
    Ok(result)
}

fn estimating(estimator: &Estimator, arguments: &Arguments) -> Value {
    let samples = arguments.batch.unwrap_or(estimator.samples);
    let [steps, warmup] = [arguments.steps.unwrap_or(estimator.steps[0]).max(1), arguments.warmup.unwrap_or(estimator.steps[1])];
    let timed = estimator.time(samples, arguments.repeats.max(1), steps, warmup);
    let [low, middle, high] = spread(&timed.milliseconds);
    json!({
        "status": "ok", "batch": samples, "steps": steps, "repeats": timed.milliseconds.len(), "ms_per_step_median": middle,
        "ms_per_step_min": low, "ms_per_step_max": high, "warmup_s": timed.warmup, "last_value": timed.value,
        "eval_samples_per_s": 1e3 * samples as f64 / middle,
    })
}

/// What each of the seeds trains, its timed steps and those before.
fn seed_steps(arguments: &Arguments) -> Result<(Workload, [usize; 2]), String> {
    let single = workloads().into_iter().find(|w| w.name == SINGLE).ok_or_else(|| format!("there is no workload `{SINGLE}`"))?;
    let steps = [arguments.steps.unwrap_or(single.steps[0]).max(1), arguments.warmup.unwrap_or(single.steps[1])];
    Ok((single, steps))
}

fn seeds(arguments: &Arguments, threads: usize) -> Result<Value, String> {
    let (_, [steps, _]) = seed_steps(arguments)?;
    let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    let worker = |share: usize, workers: usize| {
        let mut command = Command::new(&program);
        command.args(std::env::args().skip(1)).args(["--share", &share.to_string(), &workers.to_string()]);
        command
    };
    let timed = time_seeds(worker, steps, arguments.repeats.max(1), threads)?;
    let [low, middle, high] = spread(&timed.milliseconds);
    Ok(json!({
        "status": "ok", "steps": steps, "repeats": timed.milliseconds.len(), "seeds": RUNS, "ms_per_step_median": middle,
        "ms_per_step_min": low, "ms_per_step_max": high, "warmup_s": timed.warmup,
    }))
}

/// Best of ten products of two 1024x1024 matrices, in billions of operations a second.
fn product_rate(name: &str) -> Result<f64, String> {
    let device = device::parse(name).map_err(|e| e.to_string())?;
    let matrix = || Tensor::<2>::random([1024, 1024], Distribution::Default, &device);
    let (a, b) = (matrix(), matrix());
    let mut best = f64::INFINITY;
    for _ in 0..10 {
        let begin = Instant::now();
        let _ = a.clone().matmul(b.clone()).slice([0..1, 0..1]).into_data();
        best = best.min(begin.elapsed().as_secs_f64());
    }
    Ok(2.0 * 1024f64.powi(3) / best / 1e9)
}

/// Milliseconds to read all of MNIST into scaled samples ready for batches.
fn loading(arguments: &Arguments) -> Result<Value, String> {
    let folder = arguments.data.clone().ok_or("data-mnist needs --data FOLDER, the folder that holds `mnist/`")?;
    let root = DataRoot(folder);
    let mut times = Vec::new();
    let mut samples = 0;
    for _ in 0..=arguments.repeats.max(1) {
        let begin = Instant::now();
        let data = ibhost_datasets::mnist::MnistConfig::default().load(&root).map_err(|e| e.to_string())?;
        let [train, test] = [ibhost_framework::dataset::Split::Train, ibhost_framework::dataset::Split::Test].map(|s| data.split(s));
        let mut values = Vec::new();
        for split in [train, test] {
            values.clear();
            split.gather(&(0..split.len()).collect::<Vec<_>>(), &mut values);
        }
        samples = train.len() + test.len();
        times.push(1e3 * begin.elapsed().as_secs_f64());
    }
    let [low, middle, high] = spread(&times[1..]);
    Ok(json!({
        "status": "ok", "repeats": times.len() - 1, "ms_per_step_median": middle, "ms_per_step_min": low, "ms_per_step_max": high,
        "eval_samples_per_s": 1e3 * samples as f64 / middle,
    }))
}
