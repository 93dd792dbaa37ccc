//! A mutation fuzzer that needs nothing but a stable compiler: inputs grow out of a committed corpus, and one whose outcome was never seen
//! before joins the pool.
//!
//! The outcome of an input is what the code under test says about it without digits, so that a new message, which means a new path through
//! the code, is kept and mutated further. `IBHOST_FUZZ_RUNS` sets the executions per target, `IBHOST_FUZZ_SEED` the random stream.

use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ibhost_framework::noise::{Noise, Stream};

/// Executions per target without [`RUNS`].
const DEFAULT_RUNS: u64 = 3000;
const RUNS: &str = "IBHOST_FUZZ_RUNS";
const SEED: &str = "IBHOST_FUZZ_SEED";
/// Longest input, in bytes.
const MAX_INPUT: usize = 1 << 16;
/// Most inputs kept at once.
const MAX_POOL: usize = 4000;
/// Longest time one input may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Growth of the process's address space over all targets that no input of [`MAX_INPUT`] bytes explains, in bytes.
const MEMORY: u64 = 1 << 30;

/// What a target did.
#[derive(Clone, Debug)]
pub struct Report {
    /// Inputs tried.
    pub executions: u64,
    /// Outcomes that differ in more than digits.
    pub outcomes: usize,
}

/// Folder of the inputs that target `name` starts from.
pub fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz-corpus").join(name)
}

/// Feeds mutations of the corpus of `name`, spliced with the words of `dictionary`, to `target`, which returns what became of an input.
///
/// # Panics
/// When the target panics, hangs, or takes memory that its input does not explain; the input is then in the corpus as `found-<hash>`.
pub fn fuzz(name: &str, dictionary: &[&[u8]], scale: f64, mut target: impl FnMut(&[u8]) -> String) -> Report {
    let number = |variable: &str, default: u64| std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let runs = ((number(RUNS, DEFAULT_RUNS) as f64) * scale).ceil() as u64;
    let mut random = Noise::new(number(SEED, 1)).stream(name, runs);
    let mut pool = seeds(name);
    let (mut seen, mut executions) = (HashSet::new(), 0);
    let memory = peak_memory();
    let begin = Instant::now();
    // The corpus itself first: it holds every input that ever failed.
    let mut queue: Vec<Vec<u8>> = pool.clone();
    while executions < runs.max(pool.len() as u64) {
        let input = queue.pop().unwrap_or_else(|| mutate(&pool, dictionary, &mut random));
        let mut attempt = || {
            let started = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| target(&input)));
            (outcome, started.elapsed())
        };
        let (mut outcome, mut taken) = attempt();
        if taken > PATIENCE {
            // A stall of the machine is not the input's fault and does not come twice.
            (outcome, taken) = attempt();
        }
        let Ok(outcome) = outcome else {
            panic!("{name} panicked on {}", keep(name, &input).display());
        };
        assert!(taken < PATIENCE, "{name} took {taken:?} for {}", keep(name, &input).display());
        executions += 1;
        let outcome: String = outcome.chars().filter(|c| !c.is_ascii_digit()).take(200).collect();
        if seen.insert(outcome) && pool.len() < MAX_POOL {
            pool.push(input);
        }
    }
    let grown = peak_memory().saturating_sub(memory);
    assert!(grown < MEMORY, "{name} took {grown} bytes of memory for inputs of at most {MAX_INPUT}");
    println!("{name}: {executions} inputs, {} outcomes, {:.1} s", seen.len(), begin.elapsed().as_secs_f64());
    Report { executions, outcomes: seen.len() }
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = corpus(name);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.iter().map(|path| fs::read(path).expect("the corpus is readable")).collect()
}

/// Puts an input that failed into the corpus, so that it is tried first from now on.
fn keep(name: &str, input: &[u8]) -> PathBuf {
    let hash = ibhost_framework::storage::FileHash::of(input).blake3;
    let path = corpus(name).join(format!("found-{}", &hash[..16]));
    fs::write(&path, input).expect("the corpus is writable");
    path
}

/// Numbers at the edges of the integer types, which lying headers are made of.
const EDGES: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, 0xffff_ffff_ffff_ffff];

fn mutate(pool: &[Vec<u8>], dictionary: &[&[u8]], random: &mut Stream) -> Vec<u8> {
    let mut bytes = pool[random.below(pool.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let to = (at + 1 + random.below(16)).min(bytes.len());
        let kind = random.below(10);
        match kind {
            0..=2 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            3 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            4 => bytes.truncate(at),
            5 => drop(bytes.splice(at..to.max(at), std::iter::empty())),
            6 => {
                let edge = EDGES[random.below(EDGES.len())];
                let (little, big, width) = (edge.to_le_bytes(), edge.to_be_bytes(), 1 << random.below(4));
                let value = if random.below(2) == 0 { &little[..width] } else { &big[8 - width..] };
                let end = (at + width).min(bytes.len());
                bytes.splice(at..end, value.iter().copied());
            }
            7 if !dictionary.is_empty() => {
                let word = dictionary[random.below(dictionary.len())];
                let end = if random.below(2) == 0 { at } else { (at + word.len()).min(bytes.len()) };
                bytes.splice(at..end, word.iter().copied());
            }
            8 => {
                let other = &pool[random.below(pool.len())];
                let from = random.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                let copy = bytes[at..to.max(at)].repeat(1 + random.below(40));
                bytes.splice(at..at, copy);
            }
        }
    }
    bytes.truncate(MAX_INPUT);
    bytes
}

/// Largest address space the process ever had, in bytes; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    line.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutations_reach_lengths_and_values_the_corpus_does_not_have() {
        let mut random = Noise::new(1).stream("mutations", 0);
        let pool = vec![b"shape: 3".to_vec(), vec![0; 64]];
        let made: Vec<Vec<u8>> = (0..2000).map(|_| mutate(&pool, &[b"u1"], &mut random)).collect();
        assert!(made.iter().any(Vec::is_empty) && made.iter().any(|m| m.len() > 200) && made.iter().all(|m| m.len() <= MAX_INPUT));
        assert!(made.iter().any(|m| m.windows(2).any(|pair| pair == b"u1")));
        assert!(made.iter().any(|m| m.windows(4).any(|four| four == u32::MAX.to_le_bytes())));
        let distinct: HashSet<&Vec<u8>> = made.iter().collect();
        assert!(distinct.len() > 1000, "{}", distinct.len());
    }
}
