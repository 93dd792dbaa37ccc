//! Ten seeds of a small model trained as one job: the time of a step of one seed.
//!
//! As in `ibhost run --seeds`, every thread is a process of its own. A process trains its share of the seeds, one after the other, whenever it is
//! sent a line, and answers with one, so that all begin a repeat together.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use ibhost_framework::run::RunConfig;

use crate::measure::Stepper;

/// Name of the workload.
pub const SEEDS: &str = "mim-toy4-seeds";
/// What each seed trains.
pub const SINGLE: &str = "mim-toy4";
/// Seeds of the job.
pub const RUNS: usize = 10;

/// What was measured.
pub struct TimedSeeds {
    /// Milliseconds of a step of one seed, that is wall time over all steps of all seeds, of each repeat.
    pub milliseconds: Vec<f64>,
    /// Seconds from the start to the first repeat.
    pub warmup: f64,
}

/// Times `repeats` repeats of `steps` steps on at most `threads` processes; `worker` is the command of one that [`serve`]s its share of so many.
///
/// # Errors
/// A message when a process cannot be started or ends early; what it said is on stderr.
pub fn time_seeds(worker: impl Fn(usize, usize) -> Command, steps: usize, repeats: usize, threads: usize) -> Result<TimedSeeds, String> {
    let workers = threads.clamp(1, RUNS);
    let begin = Instant::now();
    let mut processes = (0..workers).map(|share| Worker::start(worker(share, workers))).collect::<Result<Vec<_>, _>>()?;
    processes.iter_mut().try_for_each(Worker::answer)?;
    let warmup = begin.elapsed().as_secs_f64();
    let mut milliseconds = Vec::new();
    for _ in 0..repeats {
        let begin = Instant::now();
        processes.iter_mut().try_for_each(Worker::ask)?;
        processes.iter_mut().try_for_each(Worker::answer)?;
        milliseconds.push(1e3 * begin.elapsed().as_secs_f64() / (RUNS * steps) as f64);
    }
    Ok(TimedSeeds { milliseconds, warmup })
}

/// Trains every `workers`th seed from `share` on: `steps` steps each for every line on stdin, after `warmup` steps at the start.
///
/// # Errors
/// A message when a run cannot be built, a gradient is not finite or the other side is gone.
pub fn serve(
    config: impl Fn(u64) -> Result<RunConfig, String>,
    [share, workers]: [usize; 2],
    [steps, warmup]: [usize; 2],
) -> Result<(), String> {
    let prepare = |run: usize| -> Result<Stepper, String> {
        let mut stepper = Stepper::new(config(run as u64)?).map_err(|e| e.to_string())?;
        stepper.time_steps(warmup.max(1)).map_err(|e| e.to_string())?;
        Ok(stepper)
    };
    let mut steppers = (share..RUNS).step_by(workers.max(1)).map(prepare).collect::<Result<Vec<_>, _>>()?;
    let answer = || std::io::stdout().write_all(b"done\n").and_then(|()| std::io::stdout().flush()).map_err(|e| e.to_string());
    answer()?;
    for line in std::io::stdin().lines() {
        line.map_err(|e| e.to_string())?;
        for stepper in &mut steppers {
            stepper.time_steps(steps).map_err(|e| e.to_string())?;
        }
        answer()?;
    }
    Ok(())
}

/// A process that trains a share of the seeds.
struct Worker {
    process: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    fn start(mut command: Command) -> Result<Self, String> {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = started.map_err(|e| format!("cannot start a process for the seeds: {e}"))?;
        let questions = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().ok_or("a process without output")?);
        Ok(Self { process, questions, answers })
    }

    fn ask(&mut self) -> Result<(), String> {
        let question = self.questions.as_mut().map_or(Ok(()), |pipe| pipe.write_all(b"\n").and_then(|()| pipe.flush()));
        question.map_err(|e| format!("a process for the seeds does not listen: {e}"))
    }

    fn answer(&mut self) -> Result<(), String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(length) if length > 0 => Ok(()),
            _ => Err("a process for the seeds ended early".to_owned()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Without questions a worker ends by itself.
        self.questions = None;
        let _ = self.process.wait();
    }
}
