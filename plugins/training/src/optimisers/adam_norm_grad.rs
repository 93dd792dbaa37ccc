//! Optimiser `adam_norm_grad`: Adam on gradients scaled to unit length, parameter by parameter.

use burn::tensor::Tensor;
use ibhost_framework::optimiser::{Float, HostParameter, OptimiserConfig, Rule, elementwise, real};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adam::AdamRule;

/// Adam on normalised gradients: every parameter's gradient is divided by its own Euclidean norm first.
///
/// g <- g / (|g|_2 + 1e-7) for each parameter tensor, then g <- g + weight_decay p, then m = beta1 m + (1-beta1) g,
/// s = beta2 s + (1-beta2) g^2 and p -= lr sqrt(1-beta2^t)/(1-beta1^t) m / (sqrt(s) + epsilon): epsilon is not bias-corrected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AdamNormGrad {
    /// Decay of the mean gradient.
    #[schemars(range(min = 0.0, max = 0.999_999_9))]
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    #[schemars(range(min = 0.0, max = 0.999_999_999))]
    pub beta2: f64,
    /// Added to the denominator.
    #[schemars(range(min = 1e-30, max = 1.0))]
    pub epsilon: f64,
    /// Share of the parameter added to its normalised gradient.
    #[schemars(range(min = 0.0, max = 1e3))]
    pub weight_decay: f64,
}

impl Default for AdamNormGrad {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

#[typetag::serde(name = "adam_norm_grad")]
impl OptimiserConfig for AdamNormGrad {
    fn rule(&self, step: u64, rate: f64) -> Box<dyn Rule> {
        let t = step as f64;
        let rate = rate * (1.0 - self.beta2.powf(t)).sqrt() / (1.0 - self.beta1.powf(t));
        let adam = elementwise(AdamRule { rate, beta1: self.beta1, beta2: self.beta2, epsilon: self.epsilon, root: 1.0 });
        Box::new(NormalisedRule { adam, weight_decay: self.weight_decay })
    }
}

ibhost_framework::register! {
    Optimiser: AdamNormGrad as OptimiserConfig, aliases: [], paper: "Tomczak & Welling 2018, arXiv:1705.07120", example: "adam_norm_grad"
}

/// Adam for the gradient g / (|g|_2 + 1e-7) + weight_decay p, the norm taken over the whole parameter.
#[derive(Debug)]
struct NormalisedRule {
    adam: Box<dyn Rule>,
    weight_decay: f64,
}

/// Added to the norm of a gradient that is divided by it.
const NORM_FLOOR: f64 = 1e-7;

impl NormalisedRule {
    /// The gradient that Adam follows, and whether the one it came from was finite: it is reported as it came.
    fn adjusted<T: Float>(&self, values: &[T], gradient: &[T]) -> (Vec<T>, bool) {
        let scale = inverse_norm(gradient);
        let adjusted = values.iter().zip(gradient).map(|(&p, &g)| g * real(scale) + real::<T>(self.weight_decay) * p).collect();
        (adjusted, gradient.iter().all(|g| g.is_finite()))
    }
}

/// 1 / (|g|_2 + 1e-7), accumulated in double precision.
fn inverse_norm<T: Float>(g: &[T]) -> f64 {
    let squares: f64 = g.iter().filter_map(T::to_f64).map(|g| g * g).sum();
    1.0 / (squares.sqrt() + NORM_FLOOR)
}

/// The same parameter with another gradient.
fn with_gradient<'a, T>(parameter: &'a mut HostParameter<'_, T>, gradient: &'a [T]) -> HostParameter<'a, T> {
    HostParameter {
        shape: parameter.shape,
        values: parameter.values,
        gradient,
        buffers: parameter.buffers.iter_mut().map(|buffer| &mut **buffer).collect(),
        average: parameter.average.take(),
    }
}

impl Rule for NormalisedRule {
    fn buffers(&self) -> usize {
        self.adam.buffers()
    }

    fn update_f32(&self, parameter: &mut HostParameter<'_, f32>) -> bool {
        let (gradient, finite) = self.adjusted(parameter.values, parameter.gradient);
        self.adam.update_f32(&mut with_gradient(parameter, &gradient)) && finite
    }

    fn update_f64(&self, parameter: &mut HostParameter<'_, f64>) -> bool {
        let (gradient, finite) = self.adjusted(parameter.values, parameter.gradient);
        self.adam.update_f64(&mut with_gradient(parameter, &gradient)) && finite
    }

    fn update_tensors(&self, p: Tensor<1>, g: Tensor<1>, shape: &[usize], buffers: &mut [Tensor<1>]) -> Tensor<1> {
        let norm = g.clone().powi_scalar(2).sum().sqrt().add_scalar(NORM_FLOOR);
        let adjusted = g / norm + p.clone().mul_scalar(self.weight_decay);
        self.adam.update_tensors(p, adjusted, shape, buffers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_framework::optimiser::testing::{buffers, check, descend};

    #[test]
    fn the_size_of_a_gradient_does_not_matter() {
        let step = |scale: f64| descend(&AdamNormGrad::default(), 0.1, &[1.0, -2.0], &[3.0 * scale, -4.0 * scale], 3);
        let (small, large) = (step(1.0), step(1e4));
        assert!(small.iter().zip(large).all(|(a, b)| (a - b).abs() < 1e-7), "{small:?}");
        assert!((small[0] - 0.7).abs() < 1e-4, "{small:?}");
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_reported() {
        let rule = AdamNormGrad::default().rule(1, 0.1);
        let (mut values, mut kept) = ([1.0f32, 2.0], buffers(&*rule, 2));
        let buffers = kept.iter_mut().map(Vec::as_mut_slice).collect();
        let gradient = [f32::INFINITY, 1.0];
        let mut parameter = HostParameter { shape: &[2], values: &mut values, gradient: &gradient, buffers, average: None };
        assert!(!rule.update_f32(&mut parameter));
    }

    #[test]
    fn one_pass_equals_the_tensor_formula() {
        check(&AdamNormGrad { weight_decay: 0.1, ..AdamNormGrad::default() });
    }
}
