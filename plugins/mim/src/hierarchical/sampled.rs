//! The sampled branch of S-MIM: codes from the prior, images made of them, and their loss.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ibhost_framework::distributions::{BoxedDistribution, Normal, one_sample};
use ibhost_framework::noise::Draws;

use super::{HierarchicalObjective, Levels};
use crate::terms::{checked, with_score_function};

/// Which pseudo-inputs codes are sampled from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The first ones in order, one code each, at most as many codes as there are: the original's.
    First,
    /// Random ones, so that codes are independent draws of the prior.
    Random,
}

impl HierarchicalObjective {
    /// Codes sampled for the images of a loss: `count` of them, or as many as there are pseudo-inputs, unless `sample_components` is set;
    /// bottom first.
    pub fn sampled_codes(&self, count: usize, components: Option<&Normal>, device: &Device, draws: &mut Draws) -> Vec<Tensor<2>> {
        let choice = if self.config.sample_components { Choice::Random } else { Choice::First };
        let mut codes = vec![self.chosen_top(choice, count, components, device, draws)];
        for level in (0..self.latents.len() - 1).rev() {
            let prior = checked(self.decoder.prior(level, &codes));
            let noise = draws.normal(&Self::name(level), prior.dims(), device);
            codes.insert(0, checked(one_sample(&*prior, noise).ok()));
        }
        codes
    }

    fn name(level: usize) -> String {
        format!("sampled z{}", level + 1)
    }

    /// Codes of the top level.
    pub(super) fn chosen_top(
        &self,
        choice: Choice,
        count: usize,
        components: Option<&Normal>,
        device: &Device,
        draws: &mut Draws,
    ) -> Tensor<2> {
        let name = Self::name(self.latents.len() - 1);
        let Some(Normal { mean, scale }) = components else {
            return draws.normal(&name, [count, self.latents[self.latents.len() - 1]], device);
        };
        let available = mean.dims()[0];
        let (mean, scale) = match choice {
            Choice::Random => {
                let mut stream = draws.host("pseudo-input");
                let chosen: Vec<i64> = (0..count).map(|_| stream.below(available) as i64).collect();
                let index = Tensor::<1, burn::tensor::Int>::from_data(chosen.as_slice(), device);
                (mean.clone().select(0, index.clone()), scale.clone().select(0, index))
            }
            Choice::First => {
                let rows = count.min(available);
                (mean.clone().narrow(0, 0, rows), scale.clone().narrow(0, 0, rows))
            }
        };
        let noise = draws.normal(&name, mean.dims(), device);
        mean + scale * noise
    }

    /// The device the parameters live on.
    pub(super) fn device(&self) -> Device {
        self.collect_devices(Vec::new()).into_iter().next().unwrap_or_default()
    }

    /// Images of codes without gradient, pixels drawn one after the other.
    fn drawn_images(&self, codes: &[Tensor<2>], draws: &mut Draws) -> Tensor<2> {
        let tracked = codes[0].is_autodiff();
        let bare: Vec<Tensor<2>> = codes.iter().map(|z| if tracked { z.clone().inner() } else { z.clone() }).collect();
        let features: usize = self.shape.iter().product();
        let uniform = draws.uniform("sampled pixels", [bare[0].dims()[0], features], &bare[0].device());
        // Batch normalisation must not see the crops that sampling works on.
        let (images, _) = if tracked { self.decoder.valid().ancestral(&bare, uniform) } else { self.decoder.ancestral(&bare, uniform) };
        if tracked { Tensor::from_inner(images) } else { images }
    }

    /// Loss of every sample of the sampled branch, `[samples]`.
    pub fn sampled_loss(&self, count: usize, components: Option<&Normal>, device: &Device, draws: &mut Draws) -> Tensor<1> {
        let codes = self.sampled_codes(count, components, device, draws);
        // One pass gives the means and the likelihood unless pixels are drawn one after the other.
        let decoded = (!self.decoder.is_autoregressive()).then(|| self.decoder.decode(&codes, None));
        let x = match &decoded {
            Some(density) => density.mean().detach(),
            None => self.drawn_images(&codes, draws),
        };
        let images = self.images(x.clone());
        let features = self.hierarchy().features(images.clone());
        let posteriors: Vec<BoxedDistribution> =
            (0..codes.len()).map(|level| self.hierarchy().level(level, features[level].clone(), &codes[level + 1..])).collect();
        let density = decoded.unwrap_or_else(|| self.decoder.decode(&codes, Some(images)));
        let Levels { likelihood: a, below, top, posterior: c } = self.densities(x.clone(), &codes, &posteriors, &*density, components);
        let d = self.pseudo_marginal(x).unwrap_or_else(|| a.clone());
        let loss = (a.clone() + below + top + c + d).mul_scalar(-0.5);
        with_score_function(loss, a)
    }
}
