//! A grid of runs from code, one after the other. `cargo run --release -p ibhost --example sweep`

use std::error::Error;
use std::sync::atomic::AtomicBool;

use ibhost_all as _;
use ibhost_framework::prelude::*;
use ibhost_sweep::{Definition, Plan};
use serde_json::json;

/// Two weights of the rate and two seeds; a larger weight leaves less of the input in the code.
pub fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let data = DataRoot(folder.path().join("data"));
    // What a sweep file holds; `Definition::read` reads one.
    let definition: Definition = serde_json::from_value(json!({
        "name": "rates",
        "run": {"objective": "vib", "encoder": "mlp/e1:32|e2:32|z:4", "lr": 1e-3, "epochs": 5},
        "axes": {"objective.beta": [0.001, 1.0], "seed": "0..1"},
    }))?;
    let plan = Plan::new(definition)?;
    let mut rates = Vec::new();
    for trial in &plan.trials {
        let mut trainer = Trainer::create(plan.resolve(trial)?, &data, folder.path(), Vec::new())?;
        let (_, summary) = trainer.train(&mut Quiet, &AtomicBool::new(false))?;
        let rate = summary.final_metrics.test.get("izx_bits").ok_or("vib measures its rate")?;
        println!("trial {}: I(X;Z) <= {rate:.2} bits", trial.title());
        rates.push(rate);
    }
    let lower = rates.len() == 4 && rates[..2].iter().all(|weak| rates[2..].iter().all(|strong| strong < weak));
    if lower { Ok(()) } else { Err(format!("the rates are {rates:?}").into()) }
}
