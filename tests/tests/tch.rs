//! The same seed gives the same first step on flex and on LibTorch: parameters, noise and data order do not come from the backend.

use ibhost_datasets as _;
use ibhost_framework::dataset::DataRoot;
use ibhost_framework::engine::{Orders, Session, StepState, training_step};
use ibhost_framework::objective::read_measures;
use ibhost_framework::run::Settings;
use ibhost_nets as _;
use ibhost_vdb as _;
use ibhost_vib as _;

/// Quantities of the first `steps` steps on `device`.
fn first_steps(device: &str, objective: &str, encoder: &str, steps: u64) -> Vec<Vec<(String, f64)>> {
    let mut settings = Settings::new();
    for (key, value) in [("objective", objective), ("encoder", encoder), ("device", device)] {
        settings.set(key, value.into()).unwrap();
    }
    settings.set("average", 0.9.into()).unwrap();
    let (session, mut state) = Session::open(settings.resolve().unwrap(), &DataRoot("absent".into())).unwrap();
    let train_device = session.device.clone().autodiff();
    let order = session.noise.stream("data order", 1).permutation(session.train.len());
    let mut moving = Vec::new();
    let mut seen = Vec::new();
    for step in 0..steps {
        let size = session.config.training.batch_size;
        let batch = session.train.batch(&order[step as usize * size..(step as usize + 1) * size], &train_device);
        let mut parts = StepState {
            optimisers: &mut state.optimisers,
            average: state.average.as_mut(),
            moving: &mut moving,
            orders: &mut Orders::new(),
        };
        let (model, measures) = training_step(&session, state.model, &mut parts, 1, step, &batch).unwrap();
        state.model = model;
        seen.push(read_measures(measures));
    }
    seen
}

fn compare(objective: &str, encoder: &str, steps: u64, tolerance: f64) {
    let (flex, torch) = (first_steps("flex", objective, encoder, steps), first_steps("tch", objective, encoder, steps));
    for (step, (a, b)) in flex.iter().zip(&torch).enumerate() {
        let loss = |measures: &[(String, f64)]| measures.iter().find(|(name, _)| name == "loss").unwrap().1;
        let (a, b) = (loss(a), loss(b));
        assert!((a - b).abs() <= tolerance * a.abs().max(1.0), "{objective} {encoder} step {step}: flex {a}, tch {b}");
    }
    println!("{objective} with {encoder}: {steps} steps agree");
}

#[test]
fn first_step_losses_agree_to_1e_4() {
    compare("vib", "mlp/e1:64|e2:64|z:8", 1, 1e-4);
    compare("vdb/m:4", "mlp/e1:64|e2:64|z:3|cov:full", 1, 1e-4);
    compare("vdb", "resnet20/z:2", 1, 1e-4);
}

#[test]
fn training_goes_the_same_way() {
    compare("vib", "mlp/e1:64|e2:64|z:8", 10, 1e-3);
    compare("vdb/m:4", "resnet20/z:2", 5, 2e-2);
}
