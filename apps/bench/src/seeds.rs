//! Ten seeds of a small model trained as one job: the time of a step of one seed.

use std::sync::Barrier;
use std::time::Instant;

use ibhost_framework::engine::side_by_side;
use ibhost_framework::run::RunConfig;

use crate::measure::Stepper;
use crate::workload::{Workload, workloads};

/// Name of the workload.
pub const SEEDS: &str = "mim-toy4-seeds";
/// What each seed trains.
const SINGLE: &str = "mim-toy4";
/// Seeds of the job.
pub const RUNS: usize = 10;

/// What was measured.
pub struct TimedSeeds {
    /// Milliseconds of a step of one seed, that is wall time over all steps of all seeds, of each repeat.
    pub milliseconds: Vec<f64>,
    /// Steps of each seed in a repeat.
    pub steps: usize,
    /// Seconds from the start to the first repeat.
    pub warmup: f64,
}

/// Times `repeats` repeats on `threads` threads, a run on each at a time; `config` gives the settings of a run and `steps` how many are
/// timed and how many come before.
///
/// # Errors
/// A message when a run cannot be built or a gradient is not finite.
pub fn time_seeds(
    config: impl Fn(&Workload, u64) -> Result<RunConfig, String> + Sync,
    steps: impl Fn(&Workload) -> [usize; 2],
    repeats: usize,
    threads: usize,
) -> Result<TimedSeeds, String> {
    let workload = workloads().into_iter().find(|w| w.name == SINGLE).ok_or_else(|| format!("there is no workload `{SINGLE}`"))?;
    let [steps, warmup] = steps(&workload).map(|n| n.max(1));
    let workers = threads.clamp(1, RUNS);
    let together = Barrier::new(workers);
    let begin = Instant::now();
    // One piece of work a thread, so that all threads meet at the barrier around every repeat.
    let work = |worker: usize| -> Result<(f64, Vec<f64>), String> {
        let prepare = |run: usize| -> Result<Stepper, String> {
            let mut stepper = Stepper::new(config(&workload, run as u64)?).map_err(|e| e.to_string())?;
            stepper.time_steps(warmup).map_err(|e| e.to_string())?;
            Ok(stepper)
        };
        let mut steppers: Result<Vec<Stepper>, String> = (worker..RUNS).step_by(workers).map(prepare).collect();
        let (warm, mut walls) = (begin.elapsed().as_secs_f64(), Vec::new());
        for _ in 0..repeats {
            together.wait();
            let begin = Instant::now();
            let done = match &mut steppers {
                Ok(steppers) => steppers.iter_mut().try_for_each(|s| s.time_steps(steps).map(|_| ()).map_err(|e| e.to_string())),
                Err(_) => Ok(()),
            };
            // A worker that failed still comes to the barrier, or the others would wait for ever.
            together.wait();
            walls.push(begin.elapsed().as_secs_f64());
            if let Err(error) = done {
                steppers = Err(error);
            }
        }
        steppers.map(|_| (warm, walls))
    };
    let timed = side_by_side(workers, workers, work).map_err(|e| e.to_string())?.into_iter().collect::<Result<Vec<_>, _>>()?;
    let slowest = |repeat: usize| timed.iter().map(|(_, walls)| walls[repeat]).fold(0.0, f64::max);
    let milliseconds = (0..repeats).map(|repeat| 1e3 * slowest(repeat) / (RUNS * steps) as f64).collect();
    Ok(TimedSeeds { milliseconds, steps, warmup: timed.iter().map(|(warm, _)| *warm).fold(0.0, f64::max) })
}
