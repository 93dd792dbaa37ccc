//! The sampled branch of S-MIM: codes from the prior, images made of them, and their loss.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ibhost_framework::noise::Draws;
use ibhost_framework::posterior::Posterior;

use super::{HierarchicalObjective, Levels, checked, moments};
use crate::terms::with_score_function;

/// Which pseudo-inputs codes are sampled from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// The first ones in order, one code each, at most as many codes as there are: the original's.
    First,
    /// Random ones, so that codes are independent draws of the prior.
    Random,
}

impl HierarchicalObjective {
    /// Codes sampled for the images of a loss: `count` of them, or as many as there are pseudo-inputs, unless `sample_components` is set;
    /// bottom first.
    pub fn sampled_codes(&self, count: usize, components: Option<&Posterior>, device: &Device, draws: &mut Draws) -> Vec<Tensor<2>> {
        let choice = if self.config.sample_components { Choice::Random } else { Choice::First };
        self.chosen_codes(choice, count, components, device, draws)
    }

    /// `count` independent codes of the prior, bottom first.
    pub fn prior_codes(&self, count: usize, device: &Device, draws: &mut Draws) -> Vec<Tensor<2>> {
        self.chosen_codes(Choice::Random, count, self.components().as_ref(), device, draws)
    }

    fn chosen_codes(
        &self,
        choice: Choice,
        count: usize,
        components: Option<&Posterior>,
        device: &Device,
        draws: &mut Draws,
    ) -> Vec<Tensor<2>> {
        let top = self.latents.len() - 1;
        let name = |level: usize| format!("sampled z{}", level + 1);
        let z_top = match components {
            None => draws.normal(&name(top), [count, self.latents[top]], device),
            Some(components) => {
                let (mean, scale) = moments(components);
                let available = mean.dims()[0];
                let (mean, scale) = match choice {
                    Choice::Random => {
                        let mut stream = draws.host("pseudo-input");
                        let chosen: Vec<i64> = (0..count).map(|_| stream.below(available) as i64).collect();
                        let index = Tensor::<1, burn::tensor::Int>::from_data(chosen.as_slice(), device);
                        (mean.select(0, index.clone()), scale.select(0, index))
                    }
                    Choice::First => {
                        let rows = count.min(available);
                        (mean.narrow(0, 0, rows), scale.narrow(0, 0, rows))
                    }
                };
                let noise = draws.normal(&name(top), mean.dims(), device);
                mean + scale * noise
            }
        };
        let mut codes = vec![z_top];
        for level in (0..top).rev() {
            let above: Vec<Tensor<2>> = codes.iter().rev().cloned().collect();
            let (mean, scale) = moments(&checked(self.decoder.prior(level, &above)));
            let noise = draws.normal(&name(level), mean.dims(), device);
            codes.push(mean + scale * noise);
        }
        codes.reverse();
        codes
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
    pub fn sampled_loss(&self, count: usize, components: Option<&Posterior>, device: &Device, draws: &mut Draws) -> Tensor<1> {
        let codes = self.sampled_codes(count, components, device, draws);
        // One pass gives the means and the likelihood unless pixels are drawn one after the other.
        let decoded = (!self.decoder.is_autoregressive()).then(|| self.decoder.generate(&codes, None));
        let x = match &decoded {
            Some(density) => density.mean().detach(),
            None => self.drawn_images(&codes, draws),
        };
        let images = self.images(x.clone());
        let features = self.hierarchy().features(images.clone());
        let posteriors: Vec<Posterior> =
            (0..codes.len()).map(|level| self.hierarchy().level(level, features[level].clone(), &codes[level + 1..])).collect();
        let density = decoded.unwrap_or_else(|| self.decoder.generate(&codes, Some(images)));
        let Levels { likelihood: a, below, top, posterior: c } = self.densities(x.clone(), &codes, &posteriors, &density, components);
        let d = self.pseudo_marginal(x).unwrap_or_else(|| a.clone());
        let loss = (a.clone() + below + top + c + d).mul_scalar(-0.5);
        with_score_function(loss, a)
    }
}
