//! The losses as functions of the four log densities of a joint sample.

use burn::tensor::Tensor;
use ibhost_framework::math::weighted_sum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::f64::consts::LN_2;

/// The four log densities of one joint sample (x, z) in nats, `[batch]` each.
#[derive(Clone, Debug)]
pub struct LogTerms {
    /// ln p(x|z).
    pub likelihood: Tensor<1>,
    /// ln p(z).
    pub prior: Tensor<1>,
    /// ln q(z|x).
    pub posterior: Tensor<1>,
    /// ln q(x), by the objective's definition.
    pub marginal: Tensor<1>,
}

/// What was found to be there when the objective was built.
///
/// # Panics
/// Never: a model that lacks it is not built.
pub(crate) fn checked<T>(found: Option<T>) -> T {
    found.unwrap_or_else(|| unreachable!("checked when the objective was built"))
}

/// Which loss a pair of networks is trained with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    /// Variational auto-encoder with a single-sample rate.
    Vae,
    /// Mutual information machine.
    #[default]
    Mim,
    /// Auto-encoder: a posterior of the smallest scale, and the distortion alone.
    Ae,
}

/// ln(exp(a) + exp(b)), elementwise.
pub fn log_add_exp(a: Tensor<1>, b: Tensor<1>) -> Tensor<1> {
    let largest = a.clone().detach().max_pair(b.clone().detach());
    ((a - largest.clone()).exp() + (b - largest.clone()).exp()).log() + largest
}

/// Loss of every sample in nats, `[batch]`.
///
/// With a = ln p(x|z), b = ln p(z), c = ln q(z|x), d = ln q(x):
/// vae -a + beta (c - b), with entropy -(c + d) more; mim -(a + b + beta (c + d)) / 2, with entropy
/// ln(exp(a+b)/2 + exp(c+d)/2) more; ae -a.
pub fn per_sample(criterion: Criterion, entropy: bool, beta: f64, terms: &LogTerms) -> Tensor<1> {
    let LogTerms { likelihood: a, prior: b, posterior: c, marginal: d } = terms.clone();
    match (criterion, entropy) {
        (Criterion::Ae, _) => a.neg(),
        (Criterion::Vae, false) => weighted_sum([a, b, c], [-1.0, -beta, beta]),
        (Criterion::Vae, true) => weighted_sum([a, b, c, d], [-1.0, -beta, beta - 1.0, -1.0]),
        (Criterion::Mim, false) => weighted_sum([a, b, c, d], [-0.5, -0.5, -0.5 * beta, -0.5 * beta]),
        (Criterion::Mim, true) => {
            let (decoding, encoding) = (a + b, c + d);
            let cross = (decoding.clone() + encoding.clone().mul_scalar(beta)).mul_scalar(-0.5);
            cross + log_add_exp(decoding - LN_2, encoding - LN_2)
        }
    }
}

/// `loss` `[batch]` of inputs sampled from p(x|z) without reparameterisation, with the score-function term L + sg(L) a - sg(L a): the value
/// stays, the gradient gains L grad a; a = ln p(x|z).
pub fn with_score_function(loss: Tensor<1>, likelihood: Tensor<1>) -> Tensor<1> {
    let fixed = loss.clone().detach();
    loss + fixed.clone() * likelihood.clone() - fixed * likelihood.detach()
}

/// `loss` `[batch]` of samples whose mixture component was drawn, with the score of that choice: L + sg(L - l) (c - sg(c)), c = ln of the
/// component's weight `[batch]`. The value stays, the gradient gains (L - l) grad c.
///
/// l is the mean loss of the other samples of the batch. They are independent of c, so that it changes no expectation, and it takes out what
/// all losses have in common, which is mostly noise here.
pub fn with_choice(loss: Tensor<1>, choice: Tensor<1>) -> Tensor<1> {
    let fixed = loss.clone().detach();
    let [batch] = fixed.dims();
    let centred = if batch > 1 {
        // L - l = (L - mean) batch / (batch - 1).
        (fixed.clone() - fixed.mean()).mul_scalar(batch as f64 / (batch - 1) as f64)
    } else {
        fixed
    };
    // The difference comes first and is exactly 0.
    loss + centred * (choice.clone() - choice.detach())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use ibhost_framework::distributions::NormalMixture;

    fn values(x: Tensor<1>) -> Vec<f64> {
        x.into_data().iter::<f64>().collect()
    }

    fn terms() -> LogTerms {
        let t = |v: [f32; 2]| Tensor::<1>::from_floats(v, &Device::flex());
        LogTerms { likelihood: t([-1.0, -2.0]), prior: t([-0.5, -0.25]), posterior: t([1.0, 0.0]), marginal: t([-2.0, -3.0]) }
    }

    #[test]
    fn losses_match_hand_computed_values() {
        let close = |found: Tensor<1>, expected: [f64; 2]| {
            let found = values(found);
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} {expected:?}");
        };
        let t = terms();
        close(per_sample(Criterion::Vae, false, 0.5, &t), [1.0 + 0.75, 2.0 + 0.125]);
        close(per_sample(Criterion::Vae, true, 0.5, &t), [1.0 + 0.75 + 1.0, 2.0 + 0.125 + 3.0]);
        close(per_sample(Criterion::Mim, false, 0.5, &t), [-0.5 * (-1.5 - 0.5), -0.5 * (-2.25 - 1.5)]);
        close(per_sample(Criterion::Ae, false, 0.0, &t), [1.0, 2.0]);
        let mixed = |dec: f64, enc: f64| -0.5 * (dec + enc) + (0.5 * (dec.exp() + enc.exp())).ln();
        close(per_sample(Criterion::Mim, true, 1.0, &t), [mixed(-1.5, -1.0), mixed(-2.25, -3.0)]);
    }

    #[test]
    fn sums_of_exponentials_survive_extreme_inputs() {
        let t = |v: f32| Tensor::<1>::from_floats([v], &Device::flex());
        assert!((values(log_add_exp(t(1e4), t(-1e4)))[0] - 1e4).abs() < 1e-2);
        assert!((values(log_add_exp(t(-1e4), t(-1e4)))[0] + 1e4 - LN_2).abs() < 1e-2);
    }

    #[test]
    fn the_score_function_keeps_the_value_and_adds_its_gradient() {
        let a = Tensor::<1>::from_floats([-2.0], &Device::flex().autodiff()).require_grad();
        let loss = with_score_function(a.clone().mul_scalar(3.0), a.clone());
        assert!((values(loss.clone().inner())[0] + 6.0).abs() < 1e-6);
        let gradients = loss.sum().backward();
        assert!((values(a.grad(&gradients).unwrap())[0] - (3.0 - 6.0)).abs() < 1e-6);
    }

    #[test]
    fn the_score_of_a_choice_makes_the_gradient_of_an_expectation_reach_the_weights() {
        use burn::tensor::activation::log_softmax;
        use ibhost_framework::noise::{Draws, Noise};
        // The mean of z^2 + 50 under w_1 N(1, 0.5^2) + w_2 N(-2, 1) has the derivative w_1 w_2 ((1 + 0.25) - (4 + 1)) by the first raw log
        // weight, 2 w_1 by the first mean and 2 w_2 scale_2 by the second scale.
        let (device, count) = (Device::flex().autodiff(), 100_000);
        let raw = Tensor::<2>::from_floats([[0.3, -0.4]], &device).require_grad();
        let mean = Tensor::<3>::from_floats([[[1.0], [-2.0]]], &device).require_grad();
        let scale = Tensor::<3>::from_floats([[[0.5], [1.0]]], &device).require_grad();
        let mixture = NormalMixture {
            log_weights: log_softmax(raw.clone(), 1).expand([count, 2]),
            mean: mean.clone().expand([count, 2, 1]),
            scale: scale.clone().expand([count, 2, 1]),
        };
        let (z, choice) = mixture.choose(Draws::seeded(Noise::new(2), 0, "test").normal("mixture", [count, 2], &device));
        let loss = z.powi_scalar(2).reshape([count]) + 50.0;
        let whole = with_choice(loss.clone(), choice);
        assert!(values(whole.clone()) == values(loss), "the value changed");
        let gradients = whole.mean().backward();
        let all = |x: Option<Tensor<3>>| x.map(|x| x.into_data().iter::<f64>().collect::<Vec<_>>()).unwrap();
        let to_raw: Vec<f64> = raw.grad(&gradients).unwrap().into_data().iter::<f64>().collect();
        let (to_mean, to_scale) = (all(mean.grad(&gradients)), all(scale.grad(&gradients)));
        let first = 1.0 / (1.0 + (-0.7f64).exp());
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 0.03, "{found} {expected}");
        close(to_raw[0], first * (1.0 - first) * (1.25 - 5.0));
        close(to_raw[1], -first * (1.0 - first) * (1.25 - 5.0));
        close(to_mean[0], 2.0 * first);
        close(to_mean[1], -4.0 * (1.0 - first));
        close(to_scale[0], 2.0 * first * 0.5);
        close(to_scale[1], 2.0 * (1.0 - first));
    }

    #[test]
    fn one_sample_has_no_others_to_compare_with() {
        let c = Tensor::<1>::from_floats([-0.5], &Device::flex().autodiff()).require_grad();
        let loss = Tensor::<1>::from_floats([3.0], &Device::flex().autodiff());
        let gradients = with_choice(loss, c.clone()).sum().backward();
        assert_eq!(values(c.grad(&gradients).unwrap()), [3.0]);
    }
}
