//! What bookkeeping costs: a sweep of many trials that do nothing, and its resume.
//!
//! `IBHOST_SOAK=1` runs ten thousand trials instead of five hundred.

#![cfg(unix)]

use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use ibhost_framework::identity::Program;
use ibhost_sweep::folder::counts;
use ibhost_sweep::local::{Launch, Watcher, launch};
use ibhost_sweep::{Definition, Plan, SweepFolder, TrialFolder, TrialRecord, TrialStatus};
use ibhost_tests::outcome::soaking;
use serde_json::json;

/// Longest time a trial that does nothing may take, in milliseconds, the start of its process included.
const TRIAL_MS: f64 = 20.0;
/// Longest time that resuming ten thousand completed trials may take, in seconds.
const RESUME_S: f64 = 5.0;

#[derive(Default)]
struct Counter {
    started: usize,
    ended: usize,
}

impl Watcher for Counter {
    fn started(&mut self, _number: usize) {
        self.started += 1;
    }
    fn ended(&mut self, _number: usize, record: &TrialRecord, _left: usize) {
        assert_eq!(record.status, TrialStatus::Completed, "{record:?}");
        self.ended += 1;
    }
    fn tick(&mut self, _running: &[(usize, TrialFolder)]) {}
}

#[test]
fn bookkeeping_of_many_trials_is_cheap_and_so_is_their_resume() {
    let trials = if soaking() { 10_000 } else { 500 };
    let folder = tempfile::tempdir().unwrap();
    let path = SweepFolder::place(folder.path(), "trivial");
    let definition: Definition = serde_json::from_value(json!({
        "name": "trivial",
        "run": {"objective": "vib", "encoder": "mlp/e1:16|e2:16|z:4"},
        "axes": {"objective.beta": "log10(-4, 0, 100)", "seed": format!("0..{}", trials / 100 - 1)},
    }))
    .unwrap();
    // The process of a trial does nothing, so that what is measured is the launcher and the states on the disk.
    let options =
        Launch { program: Some("true".into()), done: |_| Ok(()), before: Vec::new(), after: Vec::new(), jobs: 2, fail_fast: false };
    let stop = AtomicUsize::new(0);

    let program = Program::this("1", None);
    let begin = Instant::now();
    let sweep = SweepFolder::begin(&path, Plan::new(definition.clone()).unwrap(), false, &program).unwrap();
    let planned = begin.elapsed().as_secs_f64();
    let mut counter = Counter::default();
    launch(&sweep, &sweep.unfinished(), &options, &mut counter, &stop).unwrap();
    let states = sweep.states();
    sweep.write_table(&states, &[]).unwrap();
    let each = begin.elapsed().as_secs_f64() * 1e3 / trials as f64;
    assert_eq!((counter.started, counter.ended), (trials, trials));
    assert_eq!(counts(&states)[2], (TrialStatus::Completed, trials));

    let begin = Instant::now();
    let sweep = SweepFolder::begin(&path, Plan::new(definition).unwrap(), true, &program).unwrap();
    let open = sweep.unfinished();
    launch(&sweep, &open, &options, &mut counter, &stop).unwrap();
    let states = sweep.states();
    let resumed = begin.elapsed().as_secs_f64();
    assert!(open.is_empty() && counter.started == trials && states.len() == trials);
    println!("{trials} trials: planned in {planned:.2} s, {each:.2} ms a trial in all, resumed in {resumed:.2} s");
    // The short version runs beside other tests, where only waste of another order shows.
    let patience = if soaking() { 1.0 } else { 20.0 };
    assert!(each <= patience * TRIAL_MS, "{each} ms a trial");
    assert!(resumed <= patience * RESUME_S, "{resumed} s");
}
