//! Optimiser `adam`, in the standard and in TensorFlow's form.

use burn::tensor::Tensor;
use ibhost_framework::optimiser::{Elementwise, Float, OptimiserConfig, Rule, elementwise, real};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    fn rule(&self, step: u64, rate: f64) -> Box<dyn Rule> {
        let t = step as f64;
        let (first, second) = (1.0 - self.beta1.powf(t), (1.0 - self.beta2.powf(t)).sqrt());
        let (rate, root) = match self.form {
            AdamForm::Standard => (rate / first, 1.0 / second),
            AdamForm::Tensorflow => (rate * second / first, 1.0),
        };
        elementwise(AdamRule { rate, beta1: self.beta1, beta2: self.beta2, epsilon: self.epsilon, root })
    }
}

ibhost_framework::register! {
    Optimiser: Adam as OptimiserConfig, aliases: [], paper: "Kingma & Ba 2015, arXiv:1412.6980",
    example: "adam/beta1:0.5|form:tensorflow"
}

/// m = b1 m + (1-b1) g; s = b2 s + (1-b2) g^2; p -= rate m / (sqrt(s) root + epsilon).
#[derive(Clone, Copy, Debug)]
pub(super) struct AdamRule {
    /// Learning rate with the bias correction of m (and, in TensorFlow's form, of s).
    pub rate: f64,
    /// Decay of m.
    pub beta1: f64,
    /// Decay of s.
    pub beta2: f64,
    /// Added to the denominator.
    pub epsilon: f64,
    /// Factor on sqrt(s): its bias correction in the standard form, 1 in TensorFlow's.
    pub root: f64,
}

impl Elementwise<2> for AdamRule {
    #[allow(clippy::inline_always)] // Only what is inlined is compiled for wide vectors.
    #[inline(always)]
    fn update<T: Float>(&self, p: &mut [T], g: &[T], [m, s]: [&mut [T]; 2]) -> bool {
        let [rate, b1, b2, epsilon, root]: [T; 5] = [self.rate, self.beta1, self.beta2, self.epsilon, self.root].map(real);
        let [c1, c2]: [T; 2] = [1.0 - self.beta1, 1.0 - self.beta2].map(real);
        let mut finite = true;
        for ((p, &g), (m, s)) in p.iter_mut().zip(g).zip(m.iter_mut().zip(s.iter_mut())) {
            finite &= g.is_finite();
            *m = b1 * *m + c1 * g;
            *s = b2 * *s + c2 * g * g;
            *p = *p - rate * *m / (s.sqrt() * root + epsilon);
        }
        finite
    }

    fn update_tensors(&self, p: Tensor<1>, g: Tensor<1>, [m, s]: [Tensor<1>; 2]) -> (Tensor<1>, [Tensor<1>; 2]) {
        let m = m.mul_scalar(self.beta1) + g.clone().mul_scalar(1.0 - self.beta1);
        let s = s.mul_scalar(self.beta2) + g.powi_scalar(2).mul_scalar(1.0 - self.beta2);
        (p - m.clone().mul_scalar(self.rate) / (s.clone().sqrt().mul_scalar(self.root) + self.epsilon), [m, s])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_framework::optimiser::testing::{check, descend};

    #[test]
    fn the_first_step_moves_by_the_learning_rate_in_both_forms() {
        for form in [AdamForm::Standard, AdamForm::Tensorflow] {
            let p = descend(&Adam { form, epsilon: 1e-12, ..Adam::default() }, 0.1, &[1.0, -2.0], &[3.0, -0.5], 1);
            assert!((p[0] - 0.9).abs() < 1e-6 && (p[1] + 1.9).abs() < 1e-6, "{form:?} {p:?}");
        }
    }

    #[test]
    fn one_pass_equals_the_tensor_formula_in_both_forms() {
        check(&Adam::default());
        check(&Adam { form: AdamForm::Tensorflow, beta1: 0.5, ..Adam::default() });
    }
}
