//! What holds for a training step on any machine: nothing is read back to the host, no operation falls back to its plain formula, and the
//! number of allocations is bounded.

// A test that unwraps says where it failed.
#![allow(clippy::unwrap_used)]

use burn::tensor::{DType, Device, Tensor};
use ibhost_all as _;
use ibhost_bench::measure::Stepper;
use ibhost_bench::phases::Phases;
use ibhost_bench::workload::workloads;
use ibhost_framework::engine::{BACKWARD, BATCH, FORWARD, UPDATE};
use ibhost_framework::objective::READ_BACK;
use ibhost_kernels::{PLAIN, relu};
use tracing_subscriber::layer::SubscriberExt;

/// Allocations of a step on the calling thread may not exceed these; about twice what was counted when they were written down.
const BOUNDS: [(&str, u64); 2] = [("vib-mlp-mnist", 3_000), ("vdb-mlp-mnist", 3_000)];

fn warm(name: &str) -> Stepper {
    let all = workloads();
    let workload = all.iter().find(|w| w.name == name).unwrap();
    let mut stepper = Stepper::new(workload.config("flex", 0, Some(8)).unwrap()).unwrap();
    assert_eq!(stepper.parameters(), workload.parameters, "{name}");
    stepper.time_steps(2).unwrap();
    stepper
}

// One test, because spans that a second thread meets first without a subscriber are switched off for both.
#[test]
fn steps_run_on_kernels_read_nothing_and_allocations_stay_below_the_recorded_bounds() {
    steps_read_nothing_run_on_kernels_and_pass_through_every_phase();
    allocations_of_a_step_stay_below_the_recorded_bounds();
}

fn steps_read_nothing_run_on_kernels_and_pass_through_every_phase() {
    for workload in workloads() {
        let mut stepper = warm(workload.name);
        let phases = Phases::default();
        let subscriber = tracing_subscriber::registry().with(phases.clone());
        tracing::subscriber::with_default(subscriber, || {
            stepper.step().unwrap();
            stepper.step().unwrap();
            let seen = phases.take();
            assert_eq!(seen.events.get(READ_BACK), None, "{}: {:?}", workload.name, seen.events);
            assert_eq!(seen.events.get(PLAIN), None, "{}: {:?}", workload.name, seen.events);
            for name in [BATCH, FORWARD, BACKWARD, UPDATE] {
                assert!(seen.seconds.contains_key(name), "{}: {:?}", workload.name, seen.seconds);
            }
            assert!(stepper.last_value().is_finite());
            assert_eq!(phases.take().events.get(READ_BACK), Some(&1), "the check sees reading");
            let _ = relu(Tensor::<1>::zeros([2], (&Device::flex(), DType::F16)));
            assert_eq!(phases.take().events.get(PLAIN), Some(&1), "the check sees plain formulas");
        });
    }
}

fn allocations_of_a_step_stay_below_the_recorded_bounds() {
    for (name, bound) in BOUNDS {
        let mut stepper = warm(name);
        let counted = allocation_counter::measure(|| stepper.step().unwrap()).count_total;
        println!("{name}: {counted} allocations a step");
        assert!(counted > 0 && counted <= bound, "{name}: {counted} allocations, at most {bound}");
    }
}
