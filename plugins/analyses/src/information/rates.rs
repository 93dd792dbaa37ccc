//! Analysis `rates`: what every level of the code costs.

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Measured, Results};
use ibhost_framework::capability::LogDensity;
use ibhost_framework::dataset::Split;
use ibhost_framework::noise::{Draws, Noise};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{not_empty, undefined};

const NAME: &str = "rates";
const BATCH: usize = 250;

/// Rate R(z_l | levels above) of every level of the code in nats, mean over the test samples, and their sum, the total rate.
///
/// KL(q(z_l | x, above) || p(z_l | above)), exact given one sample of the levels above where the posterior allows, else estimated from one
/// code. z1 is the bottom level. The total is an upper bound on I(x;z) of all levels, the top one's rate that of the top level alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Rates {
    /// Test samples used at most.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub points: usize,
}

impl Default for Rates {
    fn default() -> Self {
        Self { points: 100_000 }
    }
}

#[typetag::serde(name = "rates")]
impl AnalysisConfig for Rates {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let model = context.require::<LogDensity>(NAME)?;
        let test = context.data.split(Split::Test);
        not_empty(test, NAME)?;
        let indices: Vec<usize> = (0..test.len().min(self.points)).collect();
        let mut sums: Vec<f64> = Vec::new();
        for (number, chunk) in indices.chunks(BATCH).enumerate() {
            let mut draws = Draws::seeded(Noise::new(context.seed), number as u64, NAME);
            let levels = model.level_rates(test.batch(chunk, context.device).inputs, &mut draws).map_err(undefined(NAME))?;
            sums.resize(levels.len(), 0.0);
            for (sum, level) in sums.iter_mut().zip(levels) {
                *sum += level.into_data().iter::<f64>().sum::<f64>();
            }
        }
        let rates: Vec<f64> = sums.iter().map(|sum| sum / indices.len() as f64).collect();
        let name = |level: usize| if rates.len() == 1 { "z".to_owned() } else { format!("z{}", level + 1) };
        let total: f64 = rates.iter().sum();
        let of =
            |(level, rate): (usize, &f64)| Measured::nats("rate", *rate).along("level", name(level)).within(&format!("levels/{level}"));
        let results = Results::of(rates.iter().enumerate().map(of)).and(Measured::nats("total", total));
        Ok(results.fact("samples", indices.len()))
    }
}

ibhost_framework::register! {
    Analysis: Rates as AnalysisConfig, aliases: [], paper: "Xiao & Bamler 2023, arXiv:2302.04855", example: "rates", needs: [LogDensity],
}
