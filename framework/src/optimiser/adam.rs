//! Optimiser `adam`, in the standard and in TensorFlow's form.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OptimiserConfig, Rule};

/// Where the bias correction of the second moment goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdamForm {
    /// p -= lr m^ / (sqrt(s^) + epsilon) with both moments bias-corrected (Kingma & Ba, algorithm 1; PyTorch, JAX).
    #[default]
    Standard,
    /// p -= lr sqrt(1-b2^t)/(1-b1^t) m / (sqrt(s) + epsilon): epsilon is not corrected (TensorFlow's "epsilon hat").
    Tensorflow,
}

/// Adam: steps by the mean gradient over the root of the mean squared gradient.
///
/// m = beta1 m + (1-beta1) g, s = beta2 s + (1-beta2) g^2; see `form` for the step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Adam {
    /// Decay of the mean gradient.
    #[schemars(range(min = 0.0, max = 0.999_999_9))]
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    #[schemars(range(min = 0.0, max = 0.999_999_999))]
    pub beta2: f64,
    /// Added to the denominator.
    #[schemars(range(min = 1e-30, max = 1.0))]
    pub epsilon: f64,
    /// Where the bias correction goes.
    pub form: AdamForm,
}

impl Default for Adam {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, form: AdamForm::Standard }
    }
}

#[typetag::serde(name = "adam")]
impl OptimiserConfig for Adam {
    fn rule(&self, step: u64, rate: f64) -> Rule {
        let t = step as f64;
        let (first, second) = (1.0 - self.beta1.powf(t), (1.0 - self.beta2.powf(t)).sqrt());
        let (rate, root) = match self.form {
            AdamForm::Standard => (rate / first, 1.0 / second),
            AdamForm::Tensorflow => (rate * second / first, 1.0),
        };
        Rule::Adam { rate, beta1: self.beta1, beta2: self.beta2, epsilon: self.epsilon, root }
    }
}

crate::register! {
    Optimiser: Adam as OptimiserConfig, aliases: [], paper: "Kingma & Ba 2015, arXiv:1412.6980",
    example: "adam/beta1:0.5|form:tensorflow"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_moves_by_the_learning_rate_in_both_forms() {
        for form in [AdamForm::Standard, AdamForm::Tensorflow] {
            let rule = Adam { form, epsilon: 1e-12, ..Adam::default() }.rule(1, 0.1);
            let (mut p, mut m, mut s) = ([1.0f64, -2.0], [0.0; 2], [0.0; 2]);
            rule.update(&mut p, &[3.0, -0.5], &mut m, &mut s, None);
            assert!((p[0] - 0.9).abs() < 1e-6 && (p[1] + 1.9).abs() < 1e-6, "{form:?} {p:?}");
        }
    }
}
