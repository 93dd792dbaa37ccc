//! Posteriors and sampled codes of every level of a model's code, on the host.

use burn::tensor::Tensor;
use ibhost_framework::analysis::{AnalysisContext, AnalysisError};
use ibhost_framework::capability::{Encode, LogDensity};
use ibhost_framework::dataset::Split;
use ibhost_framework::distributions::{Distribution, MultivariateNormal, one_sample};
use ibhost_framework::noise::{Draws, Noise};

use crate::model::{not_empty, undefined};

/// Samples encoded at once.
const BATCH: usize = 250;
/// Standard deviations and entries of covariances kept at most, 1 GiB.
const MOST_SPREADS: usize = 1 << 27;

/// One level of the code for a number of inputs, sample-major.
#[derive(Clone, Debug, Default)]
pub(crate) struct LevelCodes {
    /// `z` for a plain code, `z1` (bottom), `z2` ... for the levels of a hierarchical one.
    pub(crate) name: String,
    /// Values of a code.
    pub(crate) dim: usize,
    /// Posterior means.
    pub(crate) mean: Vec<f64>,
    /// Posterior standard deviations, or lower-triangular Cholesky factors of `dim * dim` values for full covariances; nothing for codes that
    /// are not normal.
    pub(crate) scale: Option<Vec<f64>>,
    /// One code drawn from each posterior.
    pub(crate) code: Vec<f64>,
}

/// Levels of the first `points` samples of a split, bottom first, and their labels. The posterior of a level below the top is the one at
/// the means of the levels above it.
pub(crate) fn level_codes(
    analysis: &str,
    context: &AnalysisContext<'_>,
    split: Split,
    points: usize,
) -> Result<(Vec<LevelCodes>, Vec<u8>), AnalysisError> {
    let (model, samples) = (context.require::<Encode>(analysis)?, context.data.split(split));
    not_empty(samples, analysis)?;
    let indices: Vec<usize> = (0..samples.len().min(points)).collect();
    let mut levels: Vec<LevelCodes> = Vec::new();
    for (number, chunk) in indices.chunks(BATCH).enumerate() {
        let mut draws = Draws::seeded(Noise::new(context.seed), number as u64, "level codes");
        let posteriors = model.level_posteriors(samples.batch(chunk, context.device).inputs);
        let (batch, latent) = (chunk.len(), posteriors.iter().map(|posterior| posterior.dims()[1]).sum::<usize>());
        let noise_columns = posteriors.iter().map(|posterior| posterior.noise_features()).sum();
        let noise: Tensor<3> = draws.normal("posterior", [1, batch, noise_columns], context.device);
        // One distribution may hold several levels side by side.
        let sizes = match (&posteriors[..], context.model.capability::<LogDensity>()) {
            ([_], Some(model)) => model.level_sizes(),
            _ => posteriors.iter().map(|posterior| posterior.dims()[1]).collect(),
        };
        let whole: Vec<Spread> = posteriors.iter().map(|posterior| Spread::of(&**posterior, posteriors.len() == sizes.len())).collect();
        let spreads = whole.iter().map(Spread::columns).sum::<usize>();
        if spreads.saturating_mul(indices.len()) > MOST_SPREADS {
            return Err(AnalysisError::Request(format!(
                "`{analysis}`: the covariances of {} samples in {latent} dimensions are more than it keeps in memory\n  hint: write \
                 `{analysis}/points:{}`",
                indices.len(),
                (MOST_SPREADS / spreads).max(1)
            )));
        }
        if levels.is_empty() {
            levels = named(&sizes);
        }
        let (mut left, mut used) = (levels.iter_mut(), 0);
        for (posterior, spread) in posteriors.iter().zip(whole) {
            let [_, width] = posterior.dims();
            let columns = posterior.noise_features();
            let code =
                one_sample(&**posterior, noise.clone().narrow(2, used, columns).reshape([batch, columns])).map_err(undefined(analysis))?;
            used += columns;
            let (mean, mut from) = (posterior.point(), 0);
            while from < width
                && let Some(level) = left.next()
            {
                let columns = |values: &Tensor<2>| read(values.clone().narrow(1, from, level.dim));
                level.mean.extend(columns(&mean));
                level.code.extend(columns(&code));
                match (&spread, &mut level.scale) {
                    (Spread::Deviations(scale), Some(all)) => all.extend(columns(scale).into_iter().map(positive)),
                    (Spread::Factors(factors), Some(all)) => all.extend(
                        read(factors.clone())
                            .into_iter()
                            .enumerate()
                            .map(|(i, s)| if (i % (width * width)).is_multiple_of(width + 1) { positive(s) } else { s }),
                    ),
                    (_, scale) => *scale = None,
                }
                from += level.dim;
            }
        }
    }
    for level in &levels {
        if let Some(bad) = level.mean.iter().chain(&level.code).position(|x| !x.is_finite()) {
            let sample = bad % level.mean.len().max(1) / level.dim.max(1);
            return Err(AnalysisError::Request(format!(
                "`{analysis}` cannot use this model: {} of sample {sample} is not finite; analyse an earlier checkpoint",
                level.name
            )));
        }
    }
    Ok((levels, indices.iter().map(|&i| samples.label(i)).collect()))
}

/// What a distribution tells of the spread of its codes.
enum Spread {
    /// Standard deviations, `[batch, latent]`.
    Deviations(Tensor<2>),
    /// Cholesky factors, `[batch, latent * latent]`.
    Factors(Tensor<2>),
    /// Nothing: its codes are not normal, or its covariance ties levels to each other.
    Unknown,
}

impl Spread {
    /// Of a distribution that is one level `alone`, or holds several.
    fn of(posterior: &dyn Distribution, alone: bool) -> Self {
        if let Some((_, scale)) = posterior.as_normal() {
            return Self::Deviations(scale);
        }
        match posterior.downcast::<MultivariateNormal>().filter(|_| alone) {
            Some(MultivariateNormal { cholesky, .. }) => {
                let [batch, latent, _] = cholesky.dims();
                Self::Factors(cholesky.clone().reshape([batch, latent * latent]))
            }
            None => Self::Unknown,
        }
    }

    /// Numbers kept of every code.
    fn columns(&self) -> usize {
        match self {
            Self::Deviations(values) | Self::Factors(values) => values.dims()[1],
            Self::Unknown => 0,
        }
    }
}

fn read(values: Tensor<2>) -> Vec<f64> {
    values.into_data().iter::<f64>().collect()
}

/// Scales that have shrunk to 0 in single precision would make densities infinite.
fn positive(scale: f64) -> f64 {
    scale.max(f64::from(f32::MIN_POSITIVE))
}

/// Empty levels of the given sizes, bottom first.
fn named(sizes: &[usize]) -> Vec<LevelCodes> {
    let level = |(number, &dim): (usize, &usize)| LevelCodes {
        name: if sizes.len() == 1 { "z".to_owned() } else { format!("z{}", number + 1) },
        dim,
        scale: Some(Vec::new()),
        ..LevelCodes::default()
    };
    sizes.iter().enumerate().map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, Shape};
    use burn::module::Module;
    use ibhost_framework::dataset::Batch;
    use ibhost_framework::distributions::{BoxedDistribution, Categorical, Normal, Relaxation};
    use ibhost_framework::objective::{Loss, Measure, Objective, PosteriorModel, Progress};

    /// A normal level of two numbers below a categorical one of three classes.
    #[derive(Module, Debug)]
    struct TwoLevels {
        #[module(skip)]
        side: usize,
    }

    impl Objective for TwoLevels {
        fn loss(&self, _phase: &str, _at: Progress, batch: &Batch, _draws: &mut Draws) -> Loss {
            Loss { total: batch.inputs.clone().mean(), measures: Vec::new() }
        }
        fn evaluate(&self, _at: Progress, _batch: &Batch, _draws: &mut Draws) -> Vec<Measure> {
            Vec::new()
        }
    }

    ibhost_framework::offer! { TwoLevels: [Encode] }

    impl PosteriorModel for TwoLevels {
        fn posterior(&self, inputs: Tensor<4>) -> BoxedDistribution {
            let normal = |q: &BoxedDistribution| (q.point(), q.deviation().unwrap());
            let (means, scales) = self.level_posteriors(inputs).iter().map(normal).unzip();
            Normal { mean: Tensor::cat(means, 1), scale: Tensor::cat(scales, 1) }.boxed()
        }
        fn level_posteriors(&self, inputs: Tensor<4>) -> Vec<BoxedDistribution> {
            let batch = inputs.dims()[0];
            let rows = inputs.reshape([batch, self.side * self.side]);
            let mean = rows.clone().narrow(1, 0, 2);
            let relaxation = Relaxation { temperature: 0.4, hard: true };
            vec![Normal { scale: mean.full_like(0.5), mean }.boxed(), Categorical { logits: rows.narrow(1, 2, 3), relaxation }.boxed()]
        }
    }

    #[test]
    fn every_level_is_the_distribution_that_it_is() {
        let fixture = Fixture::new(Shape::Diagonal, 60);
        let model = TwoLevels { side: crate::fixture::SIDE };
        let context = AnalysisContext { model: &model, ..fixture.context() };
        let (levels, labels) = level_codes("t", &context, Split::Test, 60).unwrap();
        assert_eq!((levels.len(), labels.len()), (2, 60));
        let [below, top] = &levels[..] else { panic!("two levels") };
        assert_eq!((below.name.as_str(), below.dim, top.name.as_str(), top.dim), ("z1", 2, "z2", 3));
        assert!(below.scale.as_ref().is_some_and(|scale| scale.len() == 120 && scale.iter().all(|s| *s == 0.5)));
        // Codes of classes are one-hot and have no standard deviation that a normal density could be made of.
        assert!(top.scale.is_none());
        assert!(top.code.chunks_exact(3).all(|row| row.iter().sum::<f64>() == 1.0 && row.contains(&1.0)), "{:?}", &top.code[..6]);
    }
}
