//! Densities that stand for p(z) and q(x): fixed, learned normal, learned mixture, learned Bernoulli, pseudo-inputs, the density of the data.

use burn::module::{Module, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Tensor, TensorData};
use ibhost_framework::build::BuildContext;
use ibhost_framework::distributions::{Bernoulli, BoxedDistribution, Distribution, EqualMixture, Normal, NormalComponents};
use ibhost_framework::noise::Draws;
use ibhost_nets::pseudo_inputs::PseudoInputs;
use ibhost_nets::vector_mlp::probabilities;

use crate::packing::pack;

/// Subtracted from the raw log weight of a component that is switched off.
const SWITCHED_OFF: f64 = 1e5;
/// Spread of raw parameters that should start near zero.
const NEAR_ZERO: f64 = 1e-3;
/// Binary values are moved this far from 0 and 1 before they are scored.
pub const BINARY_MARGIN: f64 = 1e-3;

/// N(loc, diag(exp(logscale) + min_scale)^2) with learned parameters.
#[derive(Module, Debug)]
pub struct LearnedNormal {
    /// `[1, dim]`.
    pub loc: Param<Tensor<2>>,
    /// Logarithm of the standard deviation, `[1, dim]`.
    pub logscale: Param<Tensor<2>>,
    min_scale: f64,
}

impl LearnedNormal {
    /// Location from N(0, 1), log scale from N(0, 0.001^2).
    pub fn new(dim: usize, min_scale: f64, context: &BuildContext) -> Self {
        Self { loc: context.normal([1, dim], 0.0, 1.0), logscale: context.normal([1, dim], 0.0, NEAR_ZERO), min_scale }
    }

    /// Location and scale, `[1, dim]` each.
    pub fn parameters(&self) -> (Tensor<2>, Tensor<2>) {
        (self.loc.val(), self.logscale.val().exp().add_scalar(self.min_scale))
    }
}

/// Mixture of learned normals whose weak components are switched off.
///
/// Raw log weights below their mean minus their (unbiased) standard deviation lose 1e5 before normalisation: such a component has no weight
/// and no gradient.
#[derive(Module, Debug)]
pub struct LearnedMixture {
    /// Raw log weights, `[1, components]`.
    pub logcoefs: Param<Tensor<2>>,
    /// `[components, dim]`.
    pub locs: Param<Tensor<2>>,
    /// Logarithms of the standard deviations, `[components, dim]`.
    pub logscales: Param<Tensor<2>>,
    min_scale: f64,
}

impl LearnedMixture {
    /// Components drawn like [`LearnedNormal`], raw weights from N(0, 1).
    pub fn random(components: usize, dim: usize, min_scale: f64, context: &BuildContext) -> Self {
        Self {
            logcoefs: context.normal([1, components], 0.0, 1.0),
            locs: context.normal([components, dim], 0.0, 1.0),
            logscales: context.normal([components, dim], 0.0, NEAR_ZERO),
            min_scale,
        }
    }

    /// Equal weights on equal circles packed into the unit circle: means at the centres (0 beyond two dimensions), scales the radius.
    pub fn packed(components: usize, dim: usize, min_scale: f64, context: &BuildContext) -> Self {
        let circles = pack(components);
        let centre = |c: &crate::packing::Circle, d: usize| c.centre.get(d).copied().unwrap_or(0.0);
        let locs = circles.iter().flat_map(|c| (0..dim).map(move |d| centre(c, d))).collect();
        let logscales = circles.iter().flat_map(|c| std::iter::repeat_n(c.radius.ln(), dim)).collect();
        Self {
            logcoefs: context.constant([1, components], 0.0),
            locs: context.given([components, dim], locs),
            logscales: context.given([components, dim], logscales),
            min_scale,
        }
    }

    /// Normalised log weights, `[components]`.
    pub fn log_weights(&self) -> Tensor<1> {
        let raw = self.logcoefs.val();
        let components = raw.dims()[1];
        let fixed = raw.clone().detach();
        let mean = fixed.clone().mean_dim(1);
        let deviation = if components > 1 {
            (fixed.clone() - mean.clone()).powi_scalar(2).sum_dim(1).div_scalar((components - 1) as f64).sqrt()
        } else {
            mean.zeros_like()
        };
        let off = fixed.lower((mean - deviation).expand([1, components])).float().mul_scalar(SWITCHED_OFF);
        log_softmax(raw - off, 1).reshape([components])
    }

    /// The mixture.
    pub fn components(&self) -> NormalComponents {
        let scale = self.logscales.val().exp().add_scalar(self.min_scale);
        NormalComponents { mean: self.locs.val(), scale, log_weights: Some(self.log_weights()) }
    }
}

/// Independent Bernoulli variables with learned logits.
#[derive(Module, Debug)]
pub struct LearnedBernoulli {
    /// `[1, dim]`.
    pub logits: Param<Tensor<2>>,
    min_scale: f64,
}

impl LearnedBernoulli {
    /// Logits from N(0, 0.001^2).
    pub fn new(dim: usize, min_scale: f64, context: &BuildContext) -> Self {
        Self { logits: context.normal([1, dim], 0.0, NEAR_ZERO), min_scale }
    }

    /// Probabilities, `[1, dim]`.
    pub fn probabilities(&self) -> Tensor<2> {
        probabilities(self.logits.val(), self.min_scale)
    }
}

/// The density the data are known to come from: an equal mixture of axis-aligned normals without anything to learn.
#[derive(Clone, Debug)]
pub struct KnownMixture {
    means: Vec<f64>,
    scales: Vec<f64>,
}

impl KnownMixture {
    /// The density of the data set, where it is known.
    pub fn of(context: &BuildContext) -> Option<Self> {
        context.density().map(|[means, scales]| Self { means: means.clone(), scales: scales.clone() })
    }

    /// P(x) as a mixture, with the device and the precision of `like` `[batch, dim]`.
    fn components(&self, like: &Tensor<2>) -> NormalComponents {
        let (dim, device, precision) = (like.dims()[1], like.device(), like.dtype());
        let tensor =
            |values: &[f64]| Tensor::<2>::from_data(TensorData::new(values.to_vec(), [values.len() / dim, dim]), (&device, precision));
        NormalComponents { mean: tensor(&self.means), scale: tensor(&self.scales), log_weights: None }
    }
}

/// The parameters of p(z) or q(x); which of them are there says which density it is. Without any it is fixed, or derived from the other
/// densities.
#[derive(Module, Debug)]
pub struct Marginal {
    /// Learned normal.
    pub normal: Option<LearnedNormal>,
    /// Learned mixture.
    pub mixture: Option<LearnedMixture>,
    /// Learned Bernoulli variables.
    pub bernoulli: Option<LearnedBernoulli>,
    /// Pseudo-inputs of a network that gives the components.
    pub pseudo: Option<PseudoInputs>,
    /// No parameters, but the density of the data.
    #[module(skip)]
    pub known: Option<KnownMixture>,
}

impl Marginal {
    /// No parameters.
    pub fn fixed() -> Self {
        Self { normal: None, mixture: None, bernoulli: None, pseudo: None, known: None }
    }

    /// The density where the parameters alone decide it, one for all values; `components` turns pseudo-inputs into distributions, whose
    /// equal mixture it is. `like` has the device and the precision of the values. `None` when there is no parameter.
    pub fn distribution(&self, like: &Tensor<2>, components: impl Fn(Tensor<2>) -> BoxedDistribution) -> Option<BoxedDistribution> {
        if let Some(normal) = &self.normal {
            let (mean, scale) = normal.parameters();
            return Some(Normal { mean, scale }.boxed());
        }
        if let Some(mixture) = &self.mixture {
            return Some(mixture.components().boxed());
        }
        if let Some(bernoulli) = &self.bernoulli {
            return Some(Bernoulli::new(bernoulli.probabilities()).boxed());
        }
        if let Some(known) = &self.known {
            return Some(known.components(like).boxed());
        }
        let each = components(self.pseudo.as_ref()?.inputs.val());
        Some(NormalComponents::equal(&*each).map_or_else(|| EqualMixture { each }.boxed(), Distribution::boxed))
    }

    /// `count` samples without gradient, of components chosen at random by their weights; `None` when there is no parameter or the density is
    /// not over codes.
    pub fn sample(&self, count: usize, draws: &mut Draws, components: impl Fn(Tensor<2>) -> BoxedDistribution) -> Option<Tensor<2>> {
        let prior = match (&self.normal, &self.mixture) {
            (Some(normal), _) => {
                let (mean, scale) = normal.parameters();
                NormalComponents { mean, scale, log_weights: None }
            }
            (None, Some(mixture)) => mixture.components(),
            (None, None) => NormalComponents::equal(&*components(self.pseudo.as_ref()?.inputs.val()))?,
        };
        Some(prior.draw(count, ["prior component", "prior codes"], draws))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use ibhost_framework::distributions::NormalMixture;
    use ibhost_framework::noise::Noise;
    use ibhost_nets::pseudo_inputs::Start;

    #[test]
    fn weak_components_are_switched_off() {
        let context = BuildContext::new(Device::flex(), 1);
        let mut mixture = LearnedMixture::packed(4, 3, 1e-6, &context);
        let weights = |m: &LearnedMixture| m.log_weights().exp().into_data().iter::<f64>().collect::<Vec<_>>();
        assert!(weights(&mixture).iter().all(|w| (w - 0.25).abs() < 1e-6));
        mixture.logcoefs = context.given([1, 4], vec![0.0, 0.0, 0.0, -1.0]);
        let found = weights(&mixture);
        assert!(found[3] == 0.0 && (found[0] - 1.0 / 3.0).abs() < 1e-6, "{found:?}");
        assert_eq!(weights(&LearnedMixture::random(1, 2, 0.1, &context)), [1.0]);
    }

    #[test]
    fn samples_follow_the_weights_and_scales() {
        let context = BuildContext::new(Device::flex(), 1);
        let mut mixture = LearnedMixture::random(2, 1, 1e-6, &context);
        mixture.logcoefs = context.given([1, 2], vec![3f64.ln(), 0.0]);
        mixture.locs = context.given([2, 1], vec![-10.0, 10.0]);
        mixture.logscales = context.given([2, 1], vec![0.0, -20.0]);
        let prior = Marginal { mixture: Some(mixture), ..Marginal::fixed() };
        let mut draws = Draws::seeded(Noise::new(1), 0, "test");
        let x = prior.sample(4000, &mut draws, |u| Bernoulli::new(u).boxed()).unwrap();
        let x: Vec<f64> = x.into_data().iter::<f64>().collect();
        let low = x.iter().filter(|v| **v < 0.0).count() as f64 / 4000.0;
        assert!((low - 0.75).abs() < 0.03, "{low}");
        assert!(x.iter().filter(|v| **v > 0.0).all(|v| (v - 10.0).abs() < 1e-4));
        assert!(Marginal::fixed().sample(1, &mut draws, |u| Bernoulli::new(u).boxed()).is_none());
    }

    #[test]
    fn the_mixture_of_mixtures_of_pseudo_inputs_has_all_their_components() {
        let context = BuildContext::new(Device::flex(), 1);
        let pseudo = PseudoInputs::new(2, 1, Start::Normal { mean: 0.0, std: 1.0 }, &context);
        let prior = Marginal { pseudo: Some(pseudo), ..Marginal::fixed() };
        let device = Device::flex();
        let mixtures = |_| {
            let log_weights = Tensor::<2>::from_floats([[0.8f32.ln(), 0.2f32.ln()], [0.5f32.ln(), 0.5f32.ln()]], &device);
            let mean = Tensor::<3>::from_floats([[[-30.0], [-10.0]], [[10.0], [30.0]]], &device);
            NormalMixture { log_weights, scale: mean.ones_like(), mean }.boxed()
        };
        let places = Tensor::<2>::from_floats([[-30.0], [-10.0], [10.0], [30.0]], &device);
        let found: Vec<f64> =
            prior.distribution(&places, mixtures).unwrap().log_prob(places.clone()).unwrap().into_data().iter::<f64>().collect();
        let weights = [0.4, 0.1, 0.25, 0.25];
        let top = -0.918_938_533_204_672_7;
        assert!(found.iter().zip(weights).all(|(f, w): (&f64, f64)| (f - w.ln() - top).abs() < 1e-5), "{found:?}");
        let mut draws = Draws::seeded(Noise::new(1), 0, "test");
        let sample: Vec<f64> = prior.sample(8000, &mut draws, mixtures).unwrap().into_data().iter::<f64>().collect();
        for (place, weight) in [-30.0, -10.0, 10.0, 30.0].into_iter().zip(weights) {
            let share = sample.iter().filter(|z| (**z - place).abs() < 8.0).count() as f64 / 8000.0;
            assert!((share - weight).abs() < 0.025, "{place}: {share}");
        }
    }
}
