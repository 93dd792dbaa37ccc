//! Puts a target under bolero and adds what its random engine does not have: inputs that are mutations of valid files, a pool that grows
//! by every new outcome, and bounds on the time and memory of one input.
//!
//! The outcome of an input is what the code under test says about it without digits, so that a new message, which means a new path through
//! the code, is kept and mutated further.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::ops::Bound::{Excluded, Included};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bolero::{ByteSliceGenerator, DefaultEngine, Driver, TestTarget, ValueGenerator};
use ibhost_framework::storage::FileHash;

/// Inputs per target without [`RUNS`].
const DEFAULT_RUNS: f64 = 3000.0;
const RUNS: &str = "IBHOST_FUZZ_RUNS";
/// Longest mutated input, in bytes.
const MAX_INPUT: usize = 1 << 16;
/// Longest input of random bytes alone: what these reach is near the beginning of a file.
const MAX_RANDOM: usize = 1 << 10;
/// Most inputs kept at once.
const MAX_POOL: usize = 4000;
/// Longest time one input may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Memory, in bytes, that a target may ask for at one time whatever its input is: the data set and the model it works with, and the 64 MiB
/// of address space that the reader of IDX files reserves.
const BASE_MEMORY: u64 = 80 << 20;
/// Further memory for each byte of an input: deflate packs a thousand bytes into one, and a buffer that grows holds them three times.
const MEMORY_PER_BYTE: u64 = 3300;

/// A target as `bolero::check!` makes it.
pub type Check = TestTarget<ByteSliceGenerator, DefaultEngine, bolero::BorrowedInput>;

/// Folder of the inputs that target `name` starts from, where bolero looks for it.
pub fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/__fuzz__").join(name).join("corpus")
}

/// Feeds `target`, which returns what became of an input, with the corpus of `name` and random bytes through the first of `checks`, and
/// with mutations of the corpus, spliced with the words of `dictionary`, through the second. `scale` is the share of [`RUNS`] it gets.
///
/// # Panics
/// When the target panics, hangs, or takes memory that its input does not explain; the input is then in the corpus as `found-<hash>`.
pub fn drive(name: &str, checks: [Check; 2], dictionary: &[&[u8]], scale: f64, target: impl FnMut(&[u8]) -> String) {
    let runs = std::env::var(RUNS).ok().and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_RUNS) * scale;
    let pool = RefCell::new(seeds(name));
    let begin = Instant::now();
    let mut judge = AssertUnwindSafe(Judge { name, target, pool: &pool, outcomes: HashSet::new(), inputs: 0, most_memory: 0 });
    let [random, mutated] = checks;
    // The input that failed is kept whole; making it shorter would run the target again without the pool it grew out of.
    random
        .with_iterations((runs / 10.0).ceil() as usize)
        .with_max_len(MAX_RANDOM)
        .with_shrink_time(Duration::ZERO)
        .for_each(|bytes: &[u8]| judge.look(bytes));
    let generator = Mutations { pool: AssertUnwindSafe(&pool), dictionary: dictionary.iter().map(|word| word.to_vec()).collect() };
    mutated
        .with_iterations((runs * 0.9).ceil() as usize)
        .with_shrink_time(Duration::ZERO)
        .with_generator(generator)
        .for_each(|input: &Input| judge.look(&input.0));
    println!(
        "{name}: {} inputs, {} outcomes, at most {:.1} MB, {:.1} s",
        judge.inputs,
        judge.outcomes.len(),
        judge.most_memory as f64 / 1e6,
        begin.elapsed().as_secs_f64()
    );
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = corpus(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let seeds: Vec<Vec<u8>> = entries.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(!seeds.is_empty(), "{} is empty", folder.display());
    seeds
}

/// Runs one target and decides about each input.
struct Judge<'a, F> {
    name: &'a str,
    target: F,
    pool: &'a RefCell<Vec<Vec<u8>>>,
    outcomes: HashSet<String>,
    inputs: u64,
    /// Most memory that one input held at one time, in bytes.
    most_memory: u64,
}

impl<F: FnMut(&[u8]) -> String> Judge<'_, F> {
    fn look(&mut self, input: &[u8]) {
        let (mut outcome, mut taken, memory) = self.attempt(input);
        if taken > PATIENCE {
            // A stall of the machine is not the input's fault and does not come twice.
            (outcome, taken, _) = self.attempt(input);
        }
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(panic) => {
                eprintln!("{} panicked on {}", self.name, self.keep(input).display());
                resume_unwind(panic);
            }
        };
        assert!(taken < PATIENCE, "{} took {taken:?} for {}", self.name, self.keep(input).display());
        let bound = BASE_MEMORY + MEMORY_PER_BYTE * input.len() as u64;
        assert!(memory < bound, "{} took {memory} bytes of memory for {}", self.name, self.keep(input).display());
        self.inputs += 1;
        self.most_memory = self.most_memory.max(memory);
        let outcome: String = outcome.chars().filter(|c| !c.is_ascii_digit()).take(200).collect();
        let mut pool = self.pool.borrow_mut();
        if self.outcomes.insert(outcome) && pool.len() < MAX_POOL {
            pool.push(input.to_vec());
        }
    }

    /// The outcome, how long it took, and the most memory this thread held for it.
    fn attempt(&mut self, input: &[u8]) -> (std::thread::Result<String>, Duration, u64) {
        let started = Instant::now();
        let mut outcome = None;
        let memory = allocation_counter::measure(|| outcome = Some(catch_unwind(AssertUnwindSafe(|| (self.target)(input)))));
        (outcome.unwrap(), started.elapsed(), memory.bytes_max)
    }

    /// Puts an input that failed into the corpus, so that it is tried first from now on.
    fn keep(&self, input: &[u8]) -> PathBuf {
        let path = corpus(self.name).join(format!("found-{}", &FileHash::of(input).blake3[..16]));
        fs::write(&path, input).unwrap();
        path
    }
}

/// Bytes that are not printed: what failed is in the corpus.
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Draws mutations of what the pool holds.
struct Mutations<'a> {
    pool: AssertUnwindSafe<&'a RefCell<Vec<Vec<u8>>>>,
    dictionary: Vec<Vec<u8>>,
}

/// Numbers at the edges of the integer types, which lying headers are made of.
const EDGES: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, 0xffff_ffff_ffff_ffff];

fn below<D: Driver>(driver: &mut D, bound: usize) -> Option<usize> {
    driver.gen_usize(Included(&0), Excluded(&bound))
}

impl ValueGenerator for Mutations<'_> {
    type Output = Input;

    fn generate<D: Driver>(&self, driver: &mut D) -> Option<Input> {
        let pool = self.pool.borrow();
        let mut bytes = pool[below(driver, pool.len())?].clone();
        for _ in 0..=below(driver, 4)? {
            let at = below(driver, bytes.len() + 1)?;
            let to = (at + 1 + below(driver, 16)?).min(bytes.len());
            match below(driver, 10)? {
                0..=2 if at < bytes.len() => bytes[at] ^= 1 << below(driver, 8)?,
                3 if at < bytes.len() => bytes[at] = below(driver, 256)? as u8,
                4 => bytes.truncate(at),
                5 => drop(bytes.splice(at..to.max(at), std::iter::empty())),
                6 => {
                    let edge = EDGES[below(driver, EDGES.len())?];
                    let (little, big, width) = (edge.to_le_bytes(), edge.to_be_bytes(), 1 << below(driver, 4)?);
                    let value = if below(driver, 2)? == 0 { &little[..width] } else { &big[8 - width..] };
                    let end = (at + width).min(bytes.len());
                    bytes.splice(at..end, value.iter().copied());
                }
                7 if !self.dictionary.is_empty() => {
                    let word = &self.dictionary[below(driver, self.dictionary.len())?];
                    let end = if below(driver, 2)? == 0 { at } else { (at + word.len()).min(bytes.len()) };
                    bytes.splice(at..end, word.iter().copied());
                }
                8 => {
                    let other = &pool[below(driver, pool.len())?];
                    let from = below(driver, other.len() + 1)?;
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[from..]);
                }
                _ => {
                    let copy = bytes[at..to.max(at)].repeat(1 + below(driver, 40)?);
                    bytes.splice(at..at, copy);
                }
            }
        }
        bytes.truncate(MAX_INPUT);
        Some(Input(bytes))
    }
}

#[test]
fn mutations_reach_lengths_and_values_the_corpus_does_not_have() {
    let pool = RefCell::new(vec![b"shape: 3".to_vec(), vec![0; 64]]);
    let made = RefCell::new(HashSet::new());
    let seen = AssertUnwindSafe(&made);
    bolero::check!()
        .with_iterations(2000)
        .with_generator(Mutations { pool: AssertUnwindSafe(&pool), dictionary: vec![b"u1".to_vec()] })
        .for_each(|input: &Input| {
            seen.borrow_mut().insert(input.0.clone());
        });
    let made = made.into_inner();
    assert!(made.len() > 1000, "{}", made.len());
    assert!(made.iter().any(Vec::is_empty) && made.iter().any(|m| m.len() > 200) && made.iter().all(|m| m.len() <= MAX_INPUT));
    assert!(made.iter().any(|m| m.windows(2).any(|pair| pair == b"u1")));
    assert!(made.iter().any(|m| m.windows(4).any(|four| four == u32::MAX.to_le_bytes())));
}

/// What bolero catches, this harness must not have swallowed before, and the input must be there afterwards.
#[test]
fn a_target_that_panics_hangs_or_takes_too_much_fails_and_its_input_is_kept() {
    let folder = corpus("harness");
    for (fault, part) in [("panic", "panicked"), ("memory", "of memory")] {
        let run = || {
            drive("harness", [bolero::check!(name = "harness"), bolero::check!(name = "harness")], &[], 0.1, |bytes| {
                if bytes.starts_with(b"faulty") {
                    match fault {
                        "panic" => panic!("{part}"),
                        _ => drop(std::hint::black_box(vec![1u8; 1 << 27])),
                    }
                }
                "fine".to_owned()
            });
        };
        catch_unwind(run).unwrap_err();
        let found = folder.join(format!("found-{}", &FileHash::of(b"faulty").blake3[..16]));
        assert_eq!(fs::read(&found).unwrap(), b"faulty");
        fs::remove_file(found).unwrap();
    }
}
