//! Opens a finished run and asks its model. `cargo run --release -p ibhost --example load_checkpoint`

use std::error::Error;
use std::sync::atomic::AtomicBool;

use ibhost_all as _;
use ibhost_framework::engine::evaluate;
use ibhost_framework::finished::{DataLibrary, FinishedRun, Look};
use ibhost_framework::prelude::*;

/// Trains for two epochs, opens what was written, and measures it again.
pub fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let data = DataRoot(folder.path().join("data"));
    let mut settings = Settings::new();
    settings.set("objective", "vib".into())?;
    settings.set("encoder", "mlp/e1:64|e2:64|z:8".into())?;
    settings.set("epochs", 2.into())?;
    let mut trainer = Trainer::create(settings.resolve()?, &data, folder.path(), Vec::new())?;
    let (_, summary) = trainer.train(&mut Quiet, &AtomicBool::new(false))?;
    let path = trainer.run.path().to_path_buf();
    drop(trainer);

    // The newest checkpoint, on the data the run was trained on and no others.
    let run = FinishedRun::open(&path, OtherDataPolicy::Refuse)?;
    let measured = run.with_weights(&DataLibrary::new(data), Label::Last, |Look { session, state, .. }| {
        let model = Session::evaluation_model(state, false);
        let ended = session.progress(summary.epochs, summary.steps);
        evaluate(&*model, session.data.split(Split::Test), session.config.training.batch_size, &session.device, session.noise, ended)
    })?;
    for (name, value) in &measured {
        println!("{name} {value:.4}");
    }
    let of = |name: &str| measured.iter().find(|(found, _)| found == name).map(|(_, value)| *value);
    match (of("izx_bits"), summary.final_metrics.test.get("izx_bits")) {
        // The rate has a closed form, so no draw stands between the two.
        (Some(again), Some(then)) if (again - then).abs() <= 1e-6 * then.abs() => Ok(()),
        (again, then) => Err(format!("the rate is {again:?}, the run recorded {then:?}").into()),
    }
}
