//! The examples of `apps/ibhost/examples` do what they say: each ends with an error where its result is not the one it explains.

#[path = "../../apps/ibhost/examples/load_checkpoint.rs"]
mod load_checkpoint;
#[path = "../../apps/ibhost/examples/sweep.rs"]
mod sweep;
#[path = "../../apps/ibhost/examples/train.rs"]
mod train;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[test]
fn a_run_trains_from_code() -> Outcome {
    train::main()
}

#[test]
fn a_checkpoint_is_loaded_and_measures_what_its_run_recorded() -> Outcome {
    load_checkpoint::main()
}

#[test]
fn a_sweep_runs_from_code() -> Outcome {
    sweep::main()
}

#[test]
fn every_example_is_run_here() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../apps/ibhost/examples");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(include_str!("examples.rs").contains(&format!("examples/{name}\"]")), "{name}");
    }
}
