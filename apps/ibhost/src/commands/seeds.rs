//! `ibhost run --seeds`: runs that differ in their seed, trained side by side, each in a process of its own.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use ibhost_sweep::Pool;
use ibhost_sweep::process::{describe, end_with, spawn, this_program};

use super::run::configure;
use crate::cli::RunArgs;
use crate::exit::{FAILED, Failure, INTERRUPTED};
use crate::messages::say;
use crate::paths::data_root;
use crate::signals;
use crate::table;

/// Most seeds of one command.
const MOST: u64 = 10_000;
/// Environment variable that tells a process by which other one it was started.
const PARENT: &str = "IBHOST_PARENT";

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
            if seeds.len() as u64 > MOST {
                return Err(format!("these are more than {MOST} seeds; start fewer at a time"));
            }
        }
        let mut seen = BTreeSet::new();
        match seeds.iter().find(|seed| !seen.insert(**seed)) {
            Some(twice) => Err(format!("seed {twice} is there twice; its two runs would be the same")),
            None => Ok(Self(seeds)),
        }
    }
}

/// What a run in a process of its own writes.
struct Output {
    place: usize,
    messages: JoinHandle<()>,
    result: JoinHandle<String>,
}

/// Trains one run for each seed, as many at once as there are threads, each in a process of its own on one thread. Runs share nothing, not
/// even the locks of a graph, and one that dies takes no other with it; what they say is marked with their seed.
pub fn run(seeds: &Seeds, arguments: &RunArgs) -> Result<u8, Failure> {
    let configs = seeds.0.iter().map(|seed| configure(arguments, Some(*seed))).collect::<Result<Vec<_>, _>>()?;
    if arguments.dry_run {
        return table::print_json(&serde_json::to_value(&configs).map_err(Failure::failed)?).map(|()| 0);
    }
    data_root(&arguments.data)?;
    let requests = signals::requests("runs");
    let mut pool = Pool::default();
    let mut waiting = 0..seeds.0.len();
    let mut results: Vec<Option<String>> = vec![None; seeds.0.len()];
    let mut code = 0;
    loop {
        while !pool.is_stopped() && pool.running().len() < rayon::current_num_threads() {
            let Some(place) = waiting.next() else { break };
            let (output, process) = start(place, seeds.0[place])?;
            pool.push(output, process);
        }
        for (output, status) in pool.ended().map_err(|e| Failure::failed(format!("cannot wait for a run: {e}")))? {
            let Output { place, messages, result } = output;
            // The pipes end with the process; a reader that panicked has nothing to give.
            let _ = messages.join();
            results[place] = result.join().ok();
            code = code.max(exit_code(seeds.0[place], status, pool.is_stopped()));
        }
        pool.obey(requests.load(Ordering::Relaxed));
        if pool.running().len() == 0 && (pool.is_stopped() || waiting.is_empty()) {
            break;
        }
        pool.pause();
    }
    for place in waiting {
        say!("seed {} | not started", seeds.0[place]);
        code = code.max(INTERRUPTED);
    }
    for result in results.into_iter().flatten().filter(|result| !result.is_empty()) {
        table::print(result.trim_end())?;
    }
    Ok(code)
}

/// Starts the run of `seed`; its messages are passed on line by line, its result is kept until the end.
fn start(place: usize, seed: u64) -> Result<(Output, Child), Failure> {
    let cannot = |e: std::io::Error| Failure::failed(format!("cannot start the run of seed {seed}: {e}"));
    let mut command = this_program().map_err(cannot)?;
    command.args(command_for(seed, std::env::args_os().skip(1))).env(PARENT, std::process::id().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = spawn(&mut command).map_err(cannot)?;
    let (messages, result) = (process.stderr.take(), process.stdout.take());
    let messages = std::thread::spawn(move || {
        for line in messages.into_iter().flat_map(|pipe| BufReader::new(pipe).split(b'\n')).map_while(Result::ok) {
            say!("seed {seed} | {}", String::from_utf8_lossy(&line));
        }
    });
    let result = std::thread::spawn(move || {
        let mut text = Vec::new();
        // What came before a broken end is still worth printing.
        let _ = result.map(|mut pipe| pipe.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    });
    Ok((Output { place, messages, result }, process))
}

/// Ends this process with the one that started it as one of several seeds, if that is how it began.
pub fn end_with_parent() -> Result<(), Failure> {
    let parent = std::env::var(PARENT).ok().and_then(|text| text.parse().ok());
    match parent {
        Some(parent) if !end_with(parent) => Err(Failure::failed("the process that started this run is gone")),
        _ => Ok(()),
    }
}

/// The exit code of the run of `seed`; the end of one that has none is told, and is no failure when all were `stopped`.
fn exit_code(seed: u64, status: ExitStatus, stopped: bool) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or_else(|| {
        say!("seed {seed} | error: the run was {}", describe(status).0);
        if stopped { INTERRUPTED } else { FAILED }
    })
}

/// The arguments of this process as they would start the run of `seed` alone, on one thread.
fn command_for(seed: u64, words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut command = Vec::new();
    let mut dropped = false;
    for word in words {
        let value_of_dropped = std::mem::take(&mut dropped);
        // Words that are no text are paths or their flags' values.
        let text = word.to_str().unwrap_or_default();
        match text.split_once('=').map_or((text, false), |(flag, _)| (flag, true)) {
            _ if value_of_dropped => {}
            ("--seeds", whole) => {
                command.extend(["--seed".into(), seed.to_string().into()]);
                dropped = !whole;
            }
            ("--threads", whole) => dropped = !whole,
            _ => command.push(word),
        }
    }
    command.extend(["--threads", "1"].map(OsString::from));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_names_its_own_seed_alone() {
        for line in ["run --seeds 0..9 --lr 0.1", "run --threads 4 --seeds=0..9 --lr 0.1", "--threads=2 run --seeds 1 --lr 0.1"] {
            let words = command_for(7, line.split(' ').map(OsString::from));
            assert_eq!(words.join(" ".as_ref()), "run --seed 7 --lr 0.1 --threads 1");
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
            ("0..9999,10000", "more than 10000"),
            ("-1", "not a seed"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
