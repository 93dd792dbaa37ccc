//! Likelihoods of pixels given the decoder's last maps.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use ibhost_framework::build::{BuildContext, BuildError};
use ibhost_framework::distributions::{Bernoulli, BoxedDistribution, Distribution, LogisticMixture, SharedScaleNormal, channels};
use ibhost_kernels::softplus;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::layers::to_rows;

/// Smallest ln of a learned sigma.
const LOG_SIGMA_FLOOR: f64 = -6.0;
/// Added to Bernoulli probabilities below the logarithm.
const GUARD: f64 = 1e-8;
/// Components of the mixture of logistics.
const COMPONENTS: usize = 10;

/// Distribution of a pixel, f being the decoder's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PixelFamily {
    /// N(f, sigma^2).
    #[default]
    GaussianFixedSigma,
    /// N(f, s^2) with one learned s: ln s = -6 + softplus(log_sigma + 6), log_sigma starting at 0.
    GaussianLearnedSigma,
    /// 1 with probability sigmoid(f); grey values count with their share. ln p = x ln(p + 1e-8) + (1 - x) ln(1 - p + 1e-8).
    Bernoulli,
    /// Mixture of ten discretised logistics over the colours of RGB pixels.
    MixtureOfLogistics,
}

/// The likelihood as a module.
#[derive(Module, Debug)]
pub struct PixelLikelihood {
    /// Parameter of a learned sigma, `[1]`.
    pub log_sigma: Option<Param<Tensor<1>>>,
    #[module(skip)]
    family: PixelFamily,
    sigma: f64,
}

impl PixelLikelihood {
    /// The likelihood of `family` for images of `channels` channels.
    ///
    /// # Errors
    /// [`BuildError`] in the name of `component` for a mixture of logistics over anything but three colours.
    pub fn new(component: &str, family: PixelFamily, sigma: f64, channels: usize, context: &BuildContext) -> Result<Self, BuildError> {
        if family == PixelFamily::MixtureOfLogistics && channels != 3 {
            let problem = format!("px:mixture_of_logistics ties three colours, but images have {channels} channels; use px:bernoulli");
            return Err(BuildError::new(component, problem));
        }
        let log_sigma = (family == PixelFamily::GaussianLearnedSigma).then(|| context.constant([1], 0.0));
        Ok(Self { log_sigma, family, sigma })
    }

    /// Channels the last maps must have for images of `images` channels.
    pub fn channels(&self, images: usize) -> usize {
        if self.family == PixelFamily::MixtureOfLogistics { channels(COMPONENTS) } else { images }
    }

    /// Whether the last maps are those of a mixture.
    pub fn is_mixture(&self) -> bool {
        self.family == PixelFamily::MixtureOfLogistics
    }

    /// p(x|y) from the last maps `[batch, height, width, channels]`.
    pub fn density(&self, maps: Tensor<4>) -> BoxedDistribution {
        match (self.family, &self.log_sigma) {
            (PixelFamily::MixtureOfLogistics, _) => LogisticMixture { parameters: maps }.boxed(),
            (PixelFamily::Bernoulli, _) => Bernoulli { probabilities: sigmoid(to_rows(maps)), guard: GUARD }.boxed(),
            (PixelFamily::GaussianLearnedSigma, Some(raw)) => {
                let log_sigma = softplus(raw.val(), LOG_SIGMA_FLOOR).add_scalar(LOG_SIGMA_FLOOR);
                SharedScaleNormal { mean: to_rows(maps), scale: log_sigma.exp() }.boxed()
            }
            _ => {
                let scale = Tensor::full([1], self.sigma, &maps.device());
                SharedScaleNormal { mean: to_rows(maps), scale }.boxed()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn mixtures_need_three_colours() {
        let context = BuildContext::new(Device::flex(), 1);
        let likelihood = |channels| PixelLikelihood::new("hvae", PixelFamily::MixtureOfLogistics, 1.0, channels, &context);
        assert!(likelihood(1).is_err());
        assert_eq!(likelihood(3).unwrap().channels(3), 100);
    }

    #[test]
    fn a_learned_sigma_starts_near_one_and_stays_above_its_floor() {
        let context = BuildContext::new(Device::flex(), 1);
        let mut likelihood = PixelLikelihood::new("hvae", PixelFamily::GaussianLearnedSigma, 9.0, 1, &context).unwrap();
        let sigma = |likelihood: &PixelLikelihood| {
            likelihood.density(Tensor::zeros([1, 1, 1, 1], &Device::flex())).as_normal().unwrap().1.into_scalar::<f32>()
        };
        assert!((f64::from(sigma(&likelihood)).ln() - ((6f64.exp() + 1.0).ln() - 6.0)).abs() < 1e-5);
        likelihood.log_sigma = Some(context.constant([1], -40.0));
        assert!((sigma(&likelihood).ln() + 6.0).abs() < 1e-4);
    }
}
