//! The sampled branch of S-MIM: codes from the prior, images made of them, and their loss.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ibhost_framework::noise::Draws;
use ibhost_framework::posterior::Posterior;

use super::{HierarchicalObjective, Levels, moments};
use crate::terms::with_score_function;

impl HierarchicalObjective {
    /// Codes sampled for images to be made of: `count` of them, or as many as there are pseudo-inputs; bottom first.
    pub fn sampled_codes(&self, count: usize, components: Option<&Posterior>, device: &Device, draws: &mut Draws) -> Vec<Tensor<2>> {
        let top = self.latents.len() - 1;
        let name = |level: usize| format!("sampled z{}", level + 1);
        let z_top = match components {
            None => draws.normal(&name(top), [count, self.latents[top]], device),
            Some(components) => {
                let (mean, scale) = moments(components);
                let available = mean.dims()[0];
                let (mean, scale) = if self.config.sample_components {
                    let mut stream = draws.host("pseudo-input");
                    let chosen: Vec<i64> = (0..count).map(|_| stream.below(available) as i64).collect();
                    let index = Tensor::<1, burn::tensor::Int>::from_data(chosen.as_slice(), device);
                    (mean.select(0, index.clone()), scale.select(0, index))
                } else {
                    let rows = count.min(available);
                    (mean.narrow(0, 0, rows), scale.narrow(0, 0, rows))
                };
                let noise = draws.normal(&name(top), mean.dims(), device);
                mean + scale * noise
            }
        };
        let mut codes = vec![z_top];
        for level in (0..top).rev() {
            let above: Vec<Tensor<2>> = codes.iter().rev().cloned().collect();
            let Some(prior) = self.decoder.prior(level, &above) else { break };
            let (mean, scale) = moments(&prior);
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
