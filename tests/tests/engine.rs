//! The engine's plan: which parameters move on which step, how repeated phases count, and that skipped groups cost no gradient.

use std::collections::BTreeMap;

use ibhost_datasets as _;
use ibhost_framework::dataset::{Batch, DataRoot};
use ibhost_framework::engine::{Orders, Session, State, StepState, training_step};
use ibhost_framework::parameters;
use ibhost_framework::run::Settings;
use ibhost_framework::storage::HostTensor;
use ibhost_framework::strategy::Cadence;
use ibhost_nets as _;
use ibhost_vdb as _;
use ibhost_vib as _;

fn open(strategy: &str) -> (Session, State) {
    let mut settings = Settings::new();
    for (key, value) in [("objective", "vdb/m:2"), ("encoder", "mlp/e1:16|e2:16|z:4"), ("strategy", strategy)] {
        settings.set(key, value.into()).unwrap();
    }
    Session::open(settings.resolve().unwrap(), &DataRoot("absent".into())).unwrap()
}

fn batch(session: &Session) -> Batch {
    session.train.batch(&(0..32).collect::<Vec<_>>(), &session.device.clone().autodiff())
}

/// Which of encoder and decoder differ between two snapshots.
fn moved(before: &BTreeMap<String, HostTensor>, after: &BTreeMap<String, HostTensor>) -> (bool, bool) {
    let differs = |part: &str| before.iter().any(|(path, value)| path.contains(part) && after[path] != *value);
    (differs("encoder"), differs("decoder"))
}

/// Snapshots around each of `steps` steps, and the optimisers' own step counts at the end.
fn run(session: &Session, mut state: State, epochs: &[u64]) -> (Vec<(bool, bool)>, Vec<u64>) {
    let batch = batch(session);
    let (mut moving, mut seen) = (Vec::new(), Vec::new());
    for (step, epoch) in epochs.iter().enumerate() {
        let before = parameters::to_host(&state.model);
        let mut parts = StepState { optimisers: &mut state.optimisers, average: None, moving: &mut moving, orders: &mut Orders::new() };
        let (model, measures) = training_step(session, state.model, &mut parts, *epoch, step as u64, &batch).unwrap();
        assert!(measures.iter().any(|m| m.name == "loss"), "a step that moves nothing still reports");
        state.model = model;
        seen.push(moved(&before, &parameters::to_host(&state.model)));
    }
    (seen, state.optimisers.iter().map(|o| o.step).collect())
}

#[test]
fn algo2_moves_one_group_at_a_time_and_each_optimiser_counts_its_own_updates() {
    let (session, state) = open("algo2/k:2");
    let (seen, steps) = run(&session, state, &[1; 6]);
    assert_eq!(seen, [(true, false), (true, false), (false, true), (true, false), (true, false), (false, true)]);
    assert_eq!(steps, [4, 2]);
}

#[test]
fn algo1_moves_both_in_an_epoch_both_periods_divide_and_nothing_where_neither_does() {
    let (session, state) = open("algo1/d:2|e:3");
    let (seen, steps) = run(&session, state, &[1, 2, 3, 6]);
    assert_eq!(seen, [(false, false), (false, true), (true, false), (true, true)]);
    assert_eq!(steps, [2, 2]);
}

#[test]
fn a_repeated_phase_draws_fresh_batches_and_counts_every_update() {
    let (mut session, state) = open("oneshot");
    session.plan.phases[0].repeats = 3;
    let mut second = session.plan.phases[0].clone();
    second.when = Cadence::Cycle { period: 2, from: 1, to: 2 };
    second.repeats = 1;
    session.plan.phases.push(second);
    let (seen, steps) = run(&session, state, &[1, 1]);
    assert_eq!(seen, [(true, true), (true, true)]);
    assert_eq!(steps, [3 + 3 + 1]);
}
