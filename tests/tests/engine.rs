//! The engine's plan: which parameters move on which step, how repeated phases count, and that skipped groups cost no gradient.

use std::collections::BTreeMap;

use ibhost_framework::dataset::{Batch, DataRoot};
use ibhost_framework::engine::{Session, State, Stepper};
use ibhost_framework::parameters;
use ibhost_framework::plan::Cadence;
use ibhost_framework::run::Settings;
use ibhost_framework::storage::HostTensor;

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
    let (mut stepper, mut seen) = (Stepper::default(), Vec::new());
    state.average = None;
    for epoch in epochs {
        let before = parameters::to_host(&state.model);
        let measures;
        (state, measures) = stepper.step_on(session, state, *epoch, &batch).unwrap();
        assert!(measures.iter().any(|m| m.name == "loss"), "a step that moves nothing still reports");
        seen.push(moved(&before, &parameters::to_host(&state.model)));
    }
    (seen, state.optimisers.iter().map(|o| o.step).collect())
}

#[test]
fn alternation_moves_one_group_at_a_time_and_each_optimiser_counts_its_own_updates() {
    let (session, state) = open("alternate/k:2");
    let (seen, steps) = run(&session, state, &[1; 6]);
    assert_eq!(seen, [(true, false), (true, false), (false, true), (true, false), (true, false), (false, true)]);
    assert_eq!(steps, [4, 2]);
}

#[test]
fn by_epoch_moves_both_in_an_epoch_both_periods_divide_and_nothing_where_neither_does() {
    let (session, state) = open("by_epoch/d:2|e:3");
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

/// A session of the disentangled bottleneck: two main updates a step of the paper, the estimator's term from the second step on.
fn open_disenib(more: &str) -> (Session, State) {
    let mut settings = Settings::new();
    let objective = format!("disenib/n_samples:2|n_times_main:2|n_times_est:2|est_thr:1|est_style_optimize:1|rec_hidden:[8]{more}");
    for (key, value) in [("objective", objective.as_str()), ("encoder", "dense/hidden:[12]|z:4|cov:point"), ("decoder", "dense_classifier")]
    {
        settings.set(key, value.into()).unwrap();
    }
    settings.set("batch_size", 32.into()).unwrap();
    Session::open(settings.resolve().unwrap(), &DataRoot("absent".into())).unwrap()
}

/// Steps of `session` on one batch: the state afterwards and the names of the measures of each step.
fn measured(session: &Session, mut state: State, steps: u64) -> (State, Vec<Vec<String>>) {
    let (batch, mut stepper, mut names) = (batch(session), Stepper::default(), Vec::new());
    for _ in 0..steps {
        let measures;
        (state, measures) = stepper.step_on(session, state, 1, &batch).unwrap();
        names.push(measures.iter().map(|m| m.name.to_string()).collect());
    }
    (state, names)
}

#[test]
fn an_objective_with_phases_of_its_own_is_run_by_them() {
    let (session, state) = open_disenib("");
    let (state, names) = measured(&session, state, 4);
    let estimated: Vec<bool> = names.iter().map(|names| names.iter().any(|n| n == "est_real")).collect();
    assert_eq!(estimated, [false, true, false, true], "the estimator's measures come with its updates");
    assert!(names.iter().all(|names| names.iter().filter(|n| *n == "loss").count() == 1), "{names:?}");
    assert_eq!(state.optimisers.iter().map(|o| o.step).collect::<Vec<_>>(), [4, 4]);
    let mut settings = Settings::new();
    for (key, value) in [("objective", "disenib"), ("encoder", "dense/cov:point"), ("strategy", "algo2/k:3")] {
        settings.set(key, value.into()).unwrap();
    }
    let refused = Session::open(settings.resolve().unwrap(), &DataRoot("absent".into())).err().unwrap().to_string();
    assert!(refused.contains("phases of its own") && refused.contains("alternate/k:3"), "{refused}");
}

#[test]
fn a_phase_that_reached_its_limit_is_measured_but_moves_nothing() {
    let (mut session, state) = open_disenib("");
    for phase in session.plan.phases.iter_mut().filter(|phase| phase.name == "estimator") {
        phase.hold_at = Some(("loss_est_real", 0.0));
    }
    let before = parameters::to_host(&state.model);
    let (state, names) = measured(&session, state, 2);
    assert!(names[1].iter().any(|n| n == "loss_est_real"));
    assert_eq!(state.optimisers.iter().map(|o| o.step).collect::<Vec<_>>(), [2, 0]);
    let after = parameters::to_host(&state.model);
    let moved: Vec<&String> = before.iter().filter(|(path, value)| after[*path] != **value).map(|(path, _)| path).collect();
    assert!(moved.iter().all(|path| !path.starts_with("estimator") || path.rsplit('.').next() == Some("u")), "{moved:?}");
    assert!(moved.iter().any(|path| path.starts_with("encoder_class")));
}
