//! Trains without the command line: settings, a run's folder, the summary. `cargo run --release -p ibhost --example train`

use std::error::Error;
use std::sync::atomic::AtomicBool;

// The components of every plug-in; a program may name single crates instead.
use ibhost_all as _;
use ibhost_framework::prelude::*;

/// Trains a perceptron with a code of eight numbers on the embedded digits.
pub fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    // What is not set has the value the objective recommends, as on the command line.
    let mut settings = Settings::new();
    settings.set("objective", "vib/beta:0.01".into())?;
    settings.set("encoder", "mlp/e1:64|e2:64|z:8".into())?;
    settings.set("dataset", "digits".into())?;
    settings.set("lr", 3e-3.into())?;
    settings.set("epochs", 20.into())?;

    // A run is a folder with configuration, metrics, checkpoints and summary, which every command of `ibhost` reads.
    let data = DataRoot(folder.path().join("data"));
    let mut trainer = Trainer::create(settings.resolve()?, &data, folder.path(), Vec::new())?;
    // `Quiet` tells nobody how training goes on; setting the flag, from another thread, saves and ends it.
    let (_, summary) = trainer.train(&mut Quiet, &AtomicBool::new(false))?;

    let accuracy = summary.final_metrics.test.get("accuracy").ok_or("vib measures its accuracy")?;
    println!("{}: accuracy {accuracy:.3} on the test set after {} steps", trainer.run.path().display(), summary.steps);
    if accuracy < 0.5 { Err(format!("an accuracy of {accuracy} is too low").into()) } else { Ok(()) }
}
