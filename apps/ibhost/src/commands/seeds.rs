//! `ibhost run --seeds`: runs that differ in their seed, trained side by side in one process.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::Ordering;

use ibhost_framework::dataset::DataRoot;
use ibhost_framework::engine::{Job, Outcome, side_by_side};
use ibhost_framework::objective::Quantity;
use ibhost_framework::run::RunConfig;
use ibhost_framework::storage::Summary;

use super::run::{conduct, configure, early_end, how_to_continue, log_file, report, stop_on_signal};
use crate::cli::RunArgs;
use crate::exit::{BUG, Failure, INTERRUPTED};
use crate::logging::RunLog;
use crate::panics;
use crate::paths::data_root;
use crate::progress::Progress;
use crate::table;

/// Most seeds of one command.
const MOST: u64 = 10_000;

/// Different seeds in the order they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds(Vec<u64>);

impl FromStr for Seeds {
    type Err = String;

    /// Numbers and ranges a..b, both ends included, separated by commas.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| format!("`{text}` is not a seed; write e.g. 0..9 or 1,5,7"));
        let mut seeds = Vec::new();
        for part in text.split(',') {
            match part.split_once("..") {
                None => seeds.push(number(part)?),
                Some((from, to)) => {
                    let (from, to) = (number(from)?, number(to)?);
                    if from > to {
                        return Err(format!("the range `{part}` ends before it begins; write {to}..{from}"));
                    }
                    if to - from >= MOST {
                        return Err(format!("the range `{part}` holds more than {MOST} seeds; start fewer at a time"));
                    }
                    seeds.extend(from..=to);
                }
            }
        }
        let mut seen = BTreeSet::new();
        match seeds.iter().find(|seed| !seen.insert(**seed)) {
            Some(twice) => Err(format!("seed {twice} is there twice; its two runs would be the same")),
            None if seeds.len() as u64 > MOST => Err(format!("{} seeds are more than {MOST}; start fewer at a time", seeds.len())),
            None => Ok(Self(seeds)),
        }
    }
}

/// How one of the runs ended.
enum End {
    /// Trained, or interrupted after saving.
    Trained { run: PathBuf, quantities: Vec<Quantity>, summary: Box<Summary>, outcome: Outcome },
    /// Could not be started or failed.
    Failed(Failure),
    /// A bug.
    Panicked(String),
    /// The others were interrupted before its turn came.
    NotStarted,
}

/// Trains one run for each seed, as many at once as there are threads, each with its folder as if it ran alone.
pub fn run(seeds: &Seeds, arguments: &RunArgs, quiet: bool) -> Result<u8, Failure> {
    let configs = seeds.0.iter().map(|seed| configure(arguments, Some(*seed))).collect::<Result<Vec<_>, _>>()?;
    if arguments.dry_run {
        return table::print_json(&serde_json::to_value(&configs).map_err(Failure::failed)?).map(|()| 0);
    }
    let root = data_root(&arguments.data)?;
    let stop = stop_on_signal();
    let train = |config: &RunConfig| -> Result<End, Failure> {
        let mut job = Job::create(config.clone(), &root, &arguments.output_dir, command_for(config.training.seed, std::env::args()))?;
        RunLog::open_for_this_thread(Some(log_file(&job)?));
        let mut progress = Progress::labelled(format!("seed {} | ", config.training.seed), quiet);
        let (outcome, summary) = conduct(&mut job, &root, &mut progress, &stop)?;
        let (run, quantities) = (job.run.path().to_path_buf(), job.session.quantities.clone());
        Ok(End::Trained { run, quantities, summary: Box::new(summary), outcome })
    };
    let ends = side_by_side(configs.len(), rayon::current_num_threads(), |i| {
        if stop.load(Ordering::Relaxed) {
            return End::NotStarted;
        }
        let end = catch_unwind(AssertUnwindSafe(|| train(&configs[i]).unwrap_or_else(End::Failed)));
        RunLog::open_for_this_thread(None);
        end.unwrap_or_else(|_| End::Panicked(panics::last().unwrap_or_else(|| "it panicked without a message".to_owned())))
    })?;
    let mut code = 0;
    for (seed, end) in seeds.0.iter().zip(ends) {
        code = code.max(tell(*seed, end, arguments, &root, quiet)?);
    }
    Ok(code)
}

/// The command line of this process as it would start the run of `seed` alone.
fn command_for(seed: u64, mut words: impl Iterator<Item = String>) -> Vec<String> {
    let mut command = Vec::new();
    while let Some(word) = words.next() {
        let all = if word == "--seeds" { words.next().is_some() } else { word.starts_with("--seeds=") };
        if all {
            command.extend(["--seed".to_owned(), seed.to_string()]);
        } else {
            command.push(word);
        }
    }
    command
}

/// Prints how the run with `seed` ended; its exit code.
fn tell(seed: u64, end: End, arguments: &RunArgs, root: &DataRoot, quiet: bool) -> Result<u8, Failure> {
    match end {
        End::Trained { run, quantities, summary, outcome } => {
            report(&run, &quantities, &summary, arguments.format)?;
            if outcome == Outcome::EarlyStopped && !quiet {
                eprintln!("seed {seed}: {}", early_end(&summary));
            }
            if outcome == Outcome::Interrupted {
                eprintln!("seed {seed}: {}", how_to_continue(&run, &summary, root));
                return Ok(INTERRUPTED);
            }
            Ok(0)
        }
        End::Failed(failure) => {
            eprintln!("error: seed {seed}: {}", failure.reason());
            Ok(failure.code())
        }
        End::Panicked(what) => {
            eprintln!("error: seed {seed}: this is a bug in ibhost: {what}");
            Ok(BUG)
        }
        End::NotStarted => {
            eprintln!("seed {seed}: not started");
            Ok(INTERRUPTED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_names_its_own_seed_alone() {
        for line in ["ibhost run --seeds 0..9 --lr 0.1", "ibhost run --seeds=0..9 --lr 0.1"] {
            assert_eq!(command_for(7, line.split(' ').map(str::to_owned)).join(" "), "ibhost run --seed 7 --lr 0.1");
        }
    }

    #[test]
    fn numbers_and_ranges_are_read_and_mistakes_named() {
        let read = |text: &str| text.parse::<Seeds>();
        assert_eq!(read("0..3").unwrap().0, [0, 1, 2, 3]);
        assert_eq!(read("7, 2..2,5").unwrap().0, [7, 2, 5]);
        for (text, part) in [
            ("", "not a seed"),
            ("1,x", "`x`"),
            ("3..1", "1..3"),
            ("1,0..2", "seed 1 is there twice"),
            ("0..18446744073709551615", "more than 10000"),
            ("-1", "not a seed"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
