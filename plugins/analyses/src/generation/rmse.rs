//! Analysis `rmse`: reconstruction error of the test samples.

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Direction, Measured, Results};
use ibhost_framework::capability::Reconstruct;
use ibhost_framework::dataset::Split;
use ibhost_framework::noise::{Draws, Noise};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::generation::decoding::Decoding;
use crate::model::{BATCH, not_empty, undefined};

const NAME: &str = "rmse";

/// Reconstruction error: mean Euclidean distance between test samples and reconstructions from one sampled code each.
///
/// `x_recon_err` = mean |x - x^|_2, neither squared nor divided by the number of values, is what the published figures call RMSE;
/// `rmse` = sqrt(mean over samples and values of (x - x^)^2). x^ is a draw from p(x|z) as in the published figures, with the noise of the
/// decoder; `decode:mean` measures its mean instead, which is also what the original takes for a draw of Bernoulli values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Rmse {
    /// Test samples used at most.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub points: usize,
    /// Whether x^ is the mean of p(x|z) or a draw from it.
    pub decode: Decoding,
}

impl Default for Rmse {
    fn default() -> Self {
        Self { points: 10_000, decode: Decoding::Sample }
    }
}

#[typetag::serde(name = "rmse")]
impl AnalysisConfig for Rmse {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let model = context.require::<Reconstruct>(NAME)?;
        let test = context.data.split(Split::Test);
        not_empty(test, NAME)?;
        let indices: Vec<usize> = (0..test.len().min(self.points)).collect();
        let (mut distance, mut square, mut values) = (0.0, 0.0, 0.0);
        for (number, chunk) in indices.chunks(BATCH).enumerate() {
            let mut draws = Draws::seeded(Noise::new(context.seed), number as u64, NAME);
            let inputs = test.batch(chunk, context.device).inputs;
            let codes = model.sample_codes(inputs.clone(), &mut draws).map_err(undefined(NAME))?;
            let found = self.decode.decode(model, codes, &mut draws);
            let [batch, features] = found.dims();
            let squares = (inputs.reshape([batch as i32, -1]).narrow(1, 0, features) - found).powi_scalar(2).sum_dim(1);
            for square_of in squares.into_data().iter::<f64>() {
                distance += square_of.sqrt();
                square += square_of;
            }
            values += (batch * features) as f64;
        }
        let (mean, rmse) = (distance / indices.len() as f64, (square / values).sqrt());
        let of = |name: &str, value: f64| Measured::new(name, value, "1", Direction::Minimise);
        let results = Results::of([of("x_recon_err", mean), of("rmse", rmse)]);
        Ok(results.fact("samples", indices.len()).fact("decoding", self.decode.name()))
    }
}

ibhost_framework::register! {
    Analysis: Rmse as AnalysisConfig, aliases: [], paper: "Livne et al. 2019, arXiv:1910.03175", example: "rmse", needs: [Reconstruct],
}
