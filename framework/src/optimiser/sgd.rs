//! Optimiser `sgd`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OptimiserConfig, Rule};

/// Stochastic gradient descent with heavy-ball momentum.
///
/// m = momentum m + g, p -= lr m.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Sgd {
    /// Decay of the velocity.
    #[schemars(range(min = 0.0, max = 0.999_999_9))]
    pub momentum: f64,
}

#[typetag::serde(name = "sgd")]
impl OptimiserConfig for Sgd {
    fn rule(&self, _step: u64, rate: f64) -> Rule {
        Rule::Sgd { rate, momentum: self.momentum }
    }
}

crate::register! { Optimiser: Sgd as OptimiserConfig, aliases: [], paper: "", example: "sgd/momentum:0.9" }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn velocity_builds_up() {
        let (mut p, mut m, mut s) = ([0.0f64], [0.0], [0.0]);
        for step in 1..=2 {
            Sgd { momentum: 0.5 }.rule(step, 0.1).update(&mut p, &[1.0], &mut m, &mut s, None);
        }
        assert!((p[0] + 0.1 + 0.15).abs() < 1e-12);
    }
}
