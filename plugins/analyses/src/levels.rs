//! Posteriors and sampled codes of every level of a model's code, on the host.

use burn::tensor::Tensor;
use ibhost_framework::analysis::{AnalysisContext, AnalysisError};
use ibhost_framework::dataset::Split;
use ibhost_framework::noise::{Draws, Noise};
use ibhost_framework::posterior::Posterior;

use crate::model::{encoder, not_empty};

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
    let (model, samples) = (encoder(context, analysis)?, context.data.split(split));
    not_empty(samples, analysis)?;
    let indices: Vec<usize> = (0..samples.len().min(points)).collect();
    let mut levels: Vec<LevelCodes> = Vec::new();
    for (number, chunk) in indices.chunks(BATCH).enumerate() {
        let mut draws = Draws::seeded(Noise::new(context.seed), number as u64, "level codes");
        let posterior = model.posterior(samples.batch(chunk, context.device).inputs);
        let [batch, latent] = posterior.dims();
        let code = posterior.sample(draws.normal("posterior", [1, batch, latent], context.device)).reshape([batch, latent]);
        let sizes = context.model.as_generative().map_or_else(|| vec![latent], |model| model.level_sizes(latent));
        let scale = match &posterior {
            Posterior::Diagonal { scale, .. } => Some(scale.clone()),
            Posterior::Full { cholesky, .. } if sizes.len() == 1 => Some(cholesky.clone().reshape([batch, latent * latent])),
            _ => None,
        };
        let spreads = scale.as_ref().map_or(0, |scale| scale.dims()[1]);
        if spreads.saturating_mul(indices.len()) > MOST_SPREADS {
            return Err(AnalysisError::Request(format!(
                "`{analysis}`: the covariances of {} samples in {latent} dimensions are more than it keeps in memory\n  hint: write \
                 `{analysis}/points:{}`",
                indices.len(),
                (MOST_SPREADS / spreads).max(1)
            )));
        }
        if levels.is_empty() {
            levels = named(&sizes, scale.is_some());
        }
        let mut from = 0;
        for level in &mut levels {
            let read = |values: Tensor<2>| values.into_data().iter::<f64>().collect::<Vec<_>>();
            let columns = |values: &Tensor<2>| read(values.clone().narrow(1, from, level.dim));
            // Scales that have shrunk to 0 in single precision would make densities infinite.
            let positive = |s: f64| s.max(f64::from(f32::MIN_POSITIVE));
            level.mean.extend(columns(&posterior.mean()));
            level.code.extend(columns(&code));
            match (&scale, &mut level.scale) {
                (Some(factors), Some(all)) if spreads > latent => {
                    let on_diagonal = |i: usize| (i % spreads).is_multiple_of(latent + 1);
                    all.extend(read(factors.clone()).into_iter().enumerate().map(|(i, s)| if on_diagonal(i) { positive(s) } else { s }));
                }
                (Some(scale), Some(all)) => all.extend(columns(scale).into_iter().map(positive)),
                (_, scale) => *scale = None,
            }
            from += level.dim;
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

/// Empty levels of the given sizes, bottom first.
fn named(sizes: &[usize], scaled: bool) -> Vec<LevelCodes> {
    let level = |(number, &dim): (usize, &usize)| LevelCodes {
        name: if sizes.len() == 1 { "z".to_owned() } else { format!("z{}", number + 1) },
        dim,
        scale: scaled.then(Vec::new),
        ..LevelCodes::default()
    };
    sizes.iter().enumerate().map(level).collect()
}
