//! Codes of several levels drawn from the top down: posteriors, priors and the rate of every level.

use burn::tensor::Tensor;

use crate::distributions::{BoxedDistribution, Distribution, Normal, Undefined, kl, product};
use crate::encoder::{Encoder, Hierarchy};

/// One level of a code, with what it was drawn from and what it is charged against.
#[derive(Clone, Debug)]
pub struct Level {
    /// `[batch, latent]`.
    pub code: Tensor<2>,
    /// q(z_level | x, the levels above).
    pub posterior: BoxedDistribution,
    /// p(z_level | the levels above).
    pub prior: BoxedDistribution,
}

impl Level {
    /// Rate R(z_level | the levels above) = KL(posterior || prior) in nats, `[batch]`, exact given the codes above.
    ///
    /// # Errors
    /// [`Undefined`] of a deterministic level, and of a posterior and a prior without a closed form.
    pub fn rate(&self) -> Result<Tensor<1>, Undefined> {
        kl(&*self.posterior, &*self.prior)
    }
}

/// p(z_level | the levels above), the next level first.
pub type LevelPrior<'a> = &'a dyn Fn(usize, &[Tensor<2>]) -> Option<BoxedDistribution>;

/// Levels of the codes of inputs with `features`, bottom first; `code(level, posterior)` draws or chooses each code, top first. The
/// bottom-up estimates of a ladder are combined with the prior of their level. A level without a prior is charged against the standard
/// distribution of its values.
///
/// # Errors
/// [`Undefined::Product`] of a ladder whose estimates or priors are not diagonal normals.
pub fn descend(
    hierarchy: &dyn Hierarchy,
    features: &[Tensor<2>],
    prior: LevelPrior<'_>,
    mut code: impl FnMut(usize, &dyn Distribution) -> Tensor<2>,
) -> Result<Vec<Level>, Undefined> {
    let mut levels: Vec<Level> = Vec::with_capacity(features.len());
    for level in (0..features.len()).rev() {
        let above: Vec<Tensor<2>> = levels.iter().rev().map(|level| level.code.clone()).collect();
        let prior = prior(level, &above);
        let mut posterior = hierarchy.level(level, features[level].clone(), &above);
        if let (true, Some(prior)) = (hierarchy.is_ladder(), &prior) {
            posterior = product(&*posterior, &**prior)?.boxed();
        }
        let prior = prior.unwrap_or_else(|| posterior.standard());
        levels.push(Level { code: code(level, &*posterior), posterior, prior });
    }
    levels.reverse();
    Ok(levels)
}

/// The distribution of all levels side by side, bottom first, when the levels above each are at their means: normals with the deviation of
/// every number. Nothing where a level does not have it.
pub fn side_by_side(levels: &[Level]) -> Option<Normal> {
    let scales = levels.iter().map(|level| level.posterior.deviation()).collect::<Option<Vec<_>>>()?;
    Some(Normal { mean: Tensor::cat(levels.iter().map(|level| level.posterior.point()).collect(), 1), scale: Tensor::cat(scales, 1) })
}

/// Codes `[batch, latent]` of all levels side by side, split into levels of the given `sizes`.
pub fn split(codes: Tensor<2>, sizes: &[usize]) -> Vec<Tensor<2>> {
    let mut from = 0;
    let mut next = |&size: &usize| {
        from += size;
        codes.clone().narrow(1, from - size, size)
    };
    sizes.iter().map(&mut next).collect()
}

/// A plain encoder as a hierarchy of one level.
#[derive(Debug)]
pub struct OneLevel<'a> {
    /// The encoder.
    pub encoder: &'a dyn Encoder,
    /// Shape of its inputs, `[channels, height, width]`.
    pub shape: [usize; 3],
}

impl Hierarchy for OneLevel<'_> {
    fn features(&self, inputs: Tensor<4>) -> Vec<Tensor<2>> {
        let batch = inputs.dims()[0];
        vec![inputs.reshape([batch, self.shape.iter().product()])]
    }

    fn level(&self, _level: usize, features: Tensor<2>, _above: &[Tensor<2>]) -> BoxedDistribution {
        let [channels, height, width] = self.shape;
        let batch = features.dims()[0];
        self.encoder.encode(features.reshape([batch, channels, height, width]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributions::one_sample;
    use burn::tensor::Device;

    /// Two levels whose bottom mean is the code above.
    #[derive(Debug)]
    struct Chain {
        ladder: bool,
    }

    impl Hierarchy for Chain {
        fn features(&self, inputs: Tensor<4>) -> Vec<Tensor<2>> {
            let x = inputs.reshape([1, 1]);
            vec![x.clone(), x]
        }
        fn level(&self, level: usize, features: Tensor<2>, above: &[Tensor<2>]) -> BoxedDistribution {
            let mean = if level == 1 { features } else { above[0].clone() };
            Normal { scale: mean.ones_like(), mean }.boxed()
        }
        fn is_ladder(&self) -> bool {
            self.ladder
        }
    }

    fn value<const D: usize>(x: Tensor<D>) -> f64 {
        x.into_data().iter::<f64>().next().unwrap()
    }

    #[test]
    fn levels_see_the_codes_above_and_are_charged_against_their_priors() {
        let prior = |level: usize, above: &[Tensor<2>]| {
            (level == 0).then(|| Normal { mean: above[0].clone().mul_scalar(2.0), scale: above[0].ones_like() }.boxed())
        };
        for (ladder, mean, rate) in [(false, 3.0, 4.5), (true, 4.5, 0.5 * (0.5 + 2.25 - 1.0 - 0.5f64.ln()))] {
            let chain = Chain { ladder };
            let features = chain.features(Tensor::full([1, 1, 1, 1], 2.0, &Device::flex()));
            let levels =
                descend(&chain, &features, &prior, |level, q| one_sample(q, Tensor::full([1, 1], level as f64, &Device::flex())).unwrap())
                    .unwrap();
            assert_eq!(value(levels[1].code.clone()), 3.0);
            assert!((value(levels[0].posterior.mean()) - mean).abs() < 1e-6);
            assert!((value(levels[0].rate().unwrap()) - rate).abs() < 1e-5, "{} {rate}", value(levels[0].rate().unwrap()));
            assert!((value(levels[1].rate().unwrap()) - 2.0).abs() < 1e-6);
            assert_eq!(split(side_by_side(&levels).unwrap().mean, &[1, 1]).len(), 2);
        }
    }
}
