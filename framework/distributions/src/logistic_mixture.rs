//! Mixtures of discretised logistic distributions over the colours of a pixel (Salimans et al. 2017, arXiv:1701.05517).

use burn::tensor::activation::{log_softmax, sigmoid, softmax};
use burn::tensor::{Device, Tensor};
use ibhost_kernels::softplus;

use crate::categorical::one_hot_of_largest;
use crate::distribution::{BoxedDistribution, Distribution, Support, Undefined, repeat_rows};
use crate::logistic::inside;
use crate::math::log_sum_exp;
use crate::noise::Draws;

/// Smallest ln scale.
const LOG_SCALE_FLOOR: f64 = -7.0;
/// Half the distance of two grey levels in [-1, 1].
const HALF_BIN: f64 = 1.0 / 255.0;
/// From this mass of a level on its logarithm is taken directly; below, the density at its middle stands for it.
const SMALL_MASS: f64 = 1e-5;

/// Channels a mixture of `components` needs for every pixel: a logit each, and for each of three colours mean, ln scale and coefficient.
pub fn channels(components: usize) -> usize {
    10 * components
}

/// A batch of mixtures, one for every pixel of colour images.
#[derive(Clone, Debug)]
pub struct LogisticMixture {
    /// `[batch, height, width, 10 components]`: mixture logits, then for red, green and blue the means, the ln scales (raised to -7) and the
    /// raw coefficients, whose tanh ties a colour to those before it.
    pub parameters: Tensor<4>,
}

/// One number for each pixel, colour and component: `[batch, pixels, colour, component]`.
struct Parts {
    logits: Tensor<3>,
    means: Tensor<4>,
    log_scales: Tensor<4>,
    coefficients: Tensor<4>,
}

impl LogisticMixture {
    /// Components of each mixture.
    pub fn components(&self) -> usize {
        self.parameters.dims()[3] / 10
    }

    fn parts(&self) -> Parts {
        let [batch, height, width, _] = self.parameters.dims();
        let (pixels, k) = (height * width, self.components());
        let all = self.parameters.clone().reshape([batch, pixels, 10 * k]);
        let colours = all.clone().narrow(2, k, 9 * k).reshape([batch, pixels, 3, 3 * k]);
        let part = |index: usize| colours.clone().narrow(3, index * k, k);
        Parts { logits: all.narrow(2, 0, k), means: part(0), log_scales: part(1).clamp_min(LOG_SCALE_FLOOR), coefficients: part(2).tanh() }
    }

    /// Images `[batch, 3 height width]` in [0, 1], a colour at a time, as `[batch, pixels, 3, 1]` in [-1, 1].
    fn pixels(x: Tensor<2>) -> Tensor<4> {
        let [batch, values] = x.dims();
        let pixels = values / 3;
        x.mul_scalar(2.0).sub_scalar(1.0).reshape([batch, 3, pixels]).swap_dims(1, 2).reshape([batch, pixels, 3, 1])
    }

    /// Values `[batch, pixels, 3, 1]` in [-1, 1] as images `[batch, 3 height width]` in [0, 1].
    fn images(values: Tensor<4>) -> Tensor<2> {
        let [batch, pixels, _, _] = values.dims();
        let flat = values.reshape([batch, pixels, 3]).swap_dims(1, 2).reshape([batch, 3 * pixels]);
        flat.add_scalar(1.0).mul_scalar(0.5).clamp(0.0, 1.0)
    }

    /// Images from uniform draws in (0, 1): `mixture` `[batch, pixels, components]` chooses components, `logistic` `[batch, pixels, 3]`
    /// values; `[batch, 3 height width]` in [0, 1].
    pub fn from_uniform(&self, mixture: Tensor<3>, logistic: Tensor<3>) -> Tensor<2> {
        let Parts { logits, means, log_scales, coefficients } = self.parts();
        let [batch, pixels, k] = logits.dims();
        let gumbel = mixture.log().neg().log().neg();
        let chosen = one_hot_of_largest(logits + gumbel).reshape([batch, pixels, 1, k]);
        let pick = |part: Tensor<4>| (part * chosen.clone()).sum_dim(3);
        let u = logistic.reshape([batch, pixels, 3, 1]);
        let logit = u.clone().log() - u.neg().add_scalar(1.0).log();
        let values = pick(means) + pick(log_scales).exp() * logit;
        Self::images(tied(values, pick(coefficients)))
    }
}

impl Distribution for LogisticMixture {
    fn family(&self) -> &'static str {
        "discretised logistic mixture"
    }

    /// Number of images and of values in each.
    fn dims(&self) -> [usize; 2] {
        let [batch, height, width, _] = self.parameters.dims();
        [batch, 3 * height * width]
    }

    fn device(&self) -> Device {
        self.parameters.device()
    }

    fn support(&self) -> Support {
        Support::Unit
    }

    /// Weighted centres of the components, `[batch, 3 height width]` in [0, 1]: every centre is moved by the colours before it and cut to the
    /// range of colours, then they are averaged. Draws are cut one by one, so that where much of a component lies beyond black or white their
    /// average is nearer to the middle than this mean.
    fn mean(&self) -> Tensor<2> {
        let Parts { logits, means, coefficients, .. } = self.parts();
        let [batch, pixels, k] = logits.dims();
        let weights = softmax(logits, 2).reshape([batch, pixels, 1, k]);
        Self::images((tied(means, coefficients) * weights).sum_dim(3))
    }

    /// ln of the probability of the levels of x `[batch, 3 height width]` in [0, 1], in nats, `[batch]`.
    fn log_prob(&self, x: Tensor<2>) -> Result<Tensor<1>, Undefined> {
        let [batch, _] = x.dims();
        let Parts { logits, means, log_scales, coefficients } = self.parts();
        let x = Self::pixels(x);
        let (red, green) = (x.clone().narrow(2, 0, 1), x.clone().narrow(2, 1, 1));
        let [mean_r, mean_g, mean_b] = [0, 1, 2].map(|colour| means.clone().narrow(2, colour, 1));
        let [t_r, t_g, t_b] = [0, 1, 2].map(|colour| coefficients.clone().narrow(2, colour, 1));
        let means = Tensor::cat(vec![mean_r, mean_g + t_r * red.clone(), mean_b + t_g * red + t_b * green], 2);
        let inverse = log_scales.clone().neg().exp();
        let distance = x.clone() - means;
        let above = inverse.clone() * distance.clone().add_scalar(HALF_BIN);
        let below = inverse.clone() * distance.clone().sub_scalar(HALF_BIN);
        let middle = inverse * distance;
        let mass = sigmoid(above.clone()) - sigmoid(below.clone());
        let density = middle.clone() - log_scales - softplus(middle, 0.0).mul_scalar(2.0) - 127.5f64.ln();
        let inner = density.mask_where(mass.clone().greater_elem(SMALL_MASS), mass.clamp_min(1e-12).log());
        let lowest = above.clone() - softplus(above, 0.0);
        let highest = softplus(below, 0.0).neg();
        let shape = inner.dims();
        let log_prob =
            inner.mask_where(x.clone().lower_elem(-0.999).expand(shape), lowest).mask_where(x.greater_elem(0.999).expand(shape), highest);
        let [_, pixels, _, k] = shape;
        let each = log_prob.sum_dim(2).reshape([batch, pixels, k]) + log_softmax(logits, 2);
        Ok(log_sum_exp(each, 2).reshape([batch, pixels]).sum_dim(1).reshape([batch]))
    }

    /// Draws without their rounding to levels.
    fn sample(&self, purpose: &str, draws: &mut Draws) -> Tensor<2> {
        let ([batch, features], device) = (self.dims(), self.device());
        let mut uniform =
            |what: &str, last: usize| inside(draws.uniform(&format!("{purpose} {what}"), [batch, features / 3, last], &device));
        let component = uniform("component", self.components());
        self.from_uniform(component, uniform("value", 3))
    }

    fn repeat(&self, times: usize) -> Option<BoxedDistribution> {
        let [batch, height, width, channels] = self.parameters.dims();
        let rows = repeat_rows(&self.parameters.clone().reshape([batch, height * width * channels]), times);
        Some(Self { parameters: rows.reshape([times * batch, height, width, channels]) }.boxed())
    }
}

/// Colours `[batch, pixels, 3, n]` with every one moved by those before it, cut to [-1, 1] one after the other.
fn tied(values: Tensor<4>, coefficients: Tensor<4>) -> Tensor<4> {
    let [v_r, v_g, v_b] = [0, 1, 2].map(|colour| values.clone().narrow(2, colour, 1));
    let [t_r, t_g, t_b] = [0, 1, 2].map(|colour| coefficients.clone().narrow(2, colour, 1));
    let red = v_r.clamp(-1.0, 1.0);
    let green = (v_g + t_r * red.clone()).clamp(-1.0, 1.0);
    let blue = (v_b + t_g * red.clone() + t_b * green.clone()).clamp(-1.0, 1.0);
    Tensor::cat(vec![red, green, blue], 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Int;

    /// One pixel with two components at different places.
    fn mixture(log_scale: f32) -> LogisticMixture {
        let parameters = [
            [0.3, -0.4].to_vec(),
            [[0.1, -0.5], [log_scale; 2], [0.4, -0.2]].concat(),
            [[0.0, 0.6], [log_scale; 2], [0.1, 0.3]].concat(),
            [[-0.3, 0.2], [log_scale; 2], [-0.6, 0.2]].concat(),
        ];
        let values: Vec<f32> = parameters.concat();
        LogisticMixture { parameters: Tensor::<1>::from_floats(values.as_slice(), &Device::flex()).reshape([1, 1, 1, 20]) }
    }

    #[test]
    fn the_levels_of_a_colour_sum_to_one_given_the_others() {
        // p(blue | red, green) is a ratio of two sums; the levels of blue therefore sum to p(red, green), here compared with its own sum.
        let levels = Tensor::<1, Int>::arange(0..256, &Device::flex()).float().div_scalar(255.0).reshape([256, 1]);
        let mixture = mixture(-3.0);
        let repeated = LogisticMixture { parameters: mixture.parameters.expand([256, 1, 1, 20]) };
        let at = |red: f32, green: f32| {
            let fixed = |x: f32| Tensor::<2>::full([256, 1], x, &Device::flex());
            let x = Tensor::cat(vec![fixed(red), fixed(green), levels.clone()], 1);
            repeated.log_prob(x).unwrap().exp().into_data().iter::<f64>().sum::<f64>()
        };
        let total: f64 =
            (0..256).step_by(15).map(|red| (0..256).step_by(15).map(|g| at(red as f32 / 255.0, g as f32 / 255.0)).sum::<f64>()).sum();
        // Every fifteenth level of two colours stands for all of them.
        assert!((total * 15.0 * 15.0 - 1.0).abs() < 0.05, "{total}");
    }

    #[test]
    fn samples_of_narrow_mixtures_lie_at_the_means_of_the_chosen_component() {
        let mixture = mixture(-7.0);
        let half = Tensor::<3>::full([1, 1, 3], 0.5, &Device::flex());
        let first = mixture.from_uniform(Tensor::<1>::from_floats([0.9, 0.1], &Device::flex()).reshape([1, 1, 2]), half);
        let found: Vec<f64> = first.into_data().iter::<f64>().collect();
        let red = 0.1f64;
        let green = 0.4f64.tanh() * red;
        let blue = -0.3 + 0.1f64.tanh() * red - 0.6f64.tanh() * green;
        for (found, expected) in found.iter().zip([red, green, blue]) {
            assert!((found - f64::midpoint(expected, 1.0)).abs() < 1e-5, "{found} {expected}");
        }
        let mean: Vec<f64> = mixture.mean().into_data().iter::<f64>().collect();
        let weight = 0.7f64.exp() / (1.0 + 0.7f64.exp());
        assert!((mean[0] - f64::midpoint(0.1 * weight - 0.5 * (1.0 - weight), 1.0)).abs() < 1e-5);
    }
}
