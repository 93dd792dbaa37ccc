//! What analyses ask of a model, over whole splits in bounded batches.

use burn::tensor::Tensor;
use ibhost_framework::analysis::{AnalysisContext, AnalysisError};
use ibhost_framework::capability::{Encode, Reconstruct};
use ibhost_framework::dataset::Samples;
use ibhost_framework::distributions::Undefined;
use ibhost_framework::latent_model::LatentModel;
use ibhost_framework::math;
use ibhost_framework::noise::Draws;
use ibhost_framework::objective::{Classifier, PosteriorModel};

use crate::generation::decoding::Decoding;

/// Samples classified at once.
pub(crate) const BATCH: usize = 1000;
/// Samples encoded at once; a full covariance takes the square of the latent size for each.
const ENCODE_BATCH: usize = 100;

/// What `analysis` says of a number that the model does not have.
pub fn undefined(analysis: &str) -> impl Fn(Undefined) -> AnalysisError + '_ {
    move |error| AnalysisError::Request(format!("`{analysis}` cannot use this model: {error}"))
}

/// `count` codes drawn from the prior, `[count, latent]`.
///
/// # Errors
/// [`AnalysisError::Request`] where the prior cannot be drawn from, or gives another number of codes.
pub fn prior_codes(analysis: &str, model: &dyn LatentModel, count: usize, draws: &mut Draws) -> Result<Tensor<2>, AnalysisError> {
    let codes = model.sample_prior(count, draws).map_err(undefined(analysis))?;
    let found = codes.dims()[0];
    if found != count {
        return Err(AnalysisError::Request(format!("`{analysis}` asked the model's prior for {count} codes and got {found}")));
    }
    Ok(codes)
}

/// Reconstructions `[batch, channels, height, width]` of `inputs`, decoded as `decode` says from the mean code where the model tells it, else
/// from a sampled one.
pub(crate) fn reconstructions(
    analysis: &str,
    context: &AnalysisContext<'_>,
    inputs: Tensor<4>,
    decode: Decoding,
    draws: &mut Draws,
) -> Result<Tensor<4>, AnalysisError> {
    let model = context.require::<Reconstruct>(analysis)?;
    let shape = inputs.dims();
    let codes = match context.model.capability::<Encode>() {
        Some(posterior) => posterior.posterior(inputs).point(),
        None => model.sample_codes(inputs, draws).map_err(undefined(analysis))?,
    };
    let made = decode.decode(model, codes, draws);
    let features = made.dims()[1];
    if features != shape[1] * shape[2] * shape[3] {
        return Err(AnalysisError::Request(format!(
            "`{analysis}`: this model makes {features} values an input, its data set has {} x {} x {}",
            shape[1], shape[2], shape[3]
        )));
    }
    Ok(made.reshape(shape))
}

/// Refuses an empty split.
///
/// # Errors
/// [`AnalysisError::Request`] when there is no sample.
pub fn not_empty(samples: &Samples, analysis: &str) -> Result<(), AnalysisError> {
    if samples.is_empty() {
        return Err(AnalysisError::Request(format!("`{analysis}` needs test samples, but the test split of this run's data set is empty")));
    }
    Ok(())
}

/// ln of the class probabilities averaged over `samples` codes, row by row on the host.
pub(crate) fn log_probabilities(model: &dyn Classifier, inputs: Tensor<4>, samples: usize, draws: &mut Draws) -> Vec<Vec<f64>> {
    let scores = model.class_log_probabilities(inputs, samples, draws);
    let classes = scores.dims()[1];
    let values: Vec<f64> = scores.into_data().iter::<f64>().collect();
    values.chunks_exact(classes.max(1)).map(<[f64]>::to_vec).collect()
}

/// How many inputs have their label as the most probable class.
pub(crate) fn count_correct(model: &dyn Classifier, inputs: Tensor<4>, labels: &[u8], samples: usize, draws: &mut Draws) -> usize {
    let predicted = math::predicted(model.class_log_probabilities(inputs, samples, draws)).into_data();
    predicted.iter::<i64>().zip(labels).filter(|(p, label)| *p == i64::from(**label)).count()
}

/// Posteriors of some samples on the host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Codes {
    /// Latent dimensions.
    pub(crate) latent: usize,
    /// Means, sample-major.
    pub(crate) means: Vec<f64>,
    /// Marginal standard deviations, sample-major.
    pub(crate) deviations: Vec<f64>,
    /// Covariance matrices of two-dimensional posteriors, empty for other sizes.
    pub(crate) covariances: Vec<[[f64; 2]; 2]>,
}

impl Codes {
    /// Number of samples.
    pub(crate) fn len(&self) -> usize {
        self.means.len().checked_div(self.latent).unwrap_or(0)
    }

    /// Mean of sample `i`.
    pub(crate) fn mean(&self, i: usize) -> &[f64] {
        &self.means[i * self.latent..(i + 1) * self.latent]
    }

    /// Mean of sample `i` of two-dimensional codes.
    pub(crate) fn point(&self, i: usize) -> [f64; 2] {
        [self.means[2 * i], self.means[2 * i + 1]]
    }

    /// An error unless the codes have two dimensions and are finite.
    pub(crate) fn need_plane(&self, analysis: &str) -> Result<(), AnalysisError> {
        if self.latent != 2 {
            return Err(AnalysisError::Request(format!(
                "`{analysis}` draws two-dimensional codes, but this model has {}; train one with `z:2` or use `embedding`",
                self.latent
            )));
        }
        self.need_finite(analysis)
    }

    /// An error when the model returned something that is no number.
    pub(crate) fn need_finite(&self, analysis: &str) -> Result<(), AnalysisError> {
        if let Some(bad) = self.means.iter().chain(&self.deviations).position(|x| !x.is_finite()) {
            let sample = bad % self.means.len() / self.latent;
            return Err(AnalysisError::Request(format!(
                "`{analysis}` cannot use this model: the posterior of test sample {sample} is not finite; analyse an earlier checkpoint"
            )));
        }
        Ok(())
    }
}

/// Encodes the samples at `indices`.
pub(crate) fn encode(
    analysis: &str,
    model: &dyn PosteriorModel,
    samples: &Samples,
    indices: &[usize],
    context: &AnalysisContext<'_>,
) -> Result<Codes, AnalysisError> {
    let mut codes = Codes::default();
    for chunk in indices.chunks(ENCODE_BATCH) {
        let posterior = model.posterior(samples.batch(chunk, context.device).inputs);
        let missing = |what: &str| {
            AnalysisError::Request(format!("`{analysis}` cannot use this model: the {what} of a {} code is not known", posterior.family()))
        };
        let [_, latent] = posterior.dims();
        codes.latent = latent;
        let deviations = posterior.deviation().ok_or_else(|| missing("standard deviation"))?;
        codes.means.extend(posterior.point().into_data().iter::<f64>());
        codes.deviations.extend(deviations.into_data().iter::<f64>());
        if latent == 2 {
            let covariance = posterior.covariance().ok_or_else(|| missing("covariance"))?;
            let flat: Vec<f64> = covariance.into_data().iter::<f64>().collect();
            codes.covariances.extend(flat.chunks_exact(4).map(|c| [[c[0], c[1]], [c[2], c[3]]]));
        }
    }
    Ok(codes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, Shape};
    use burn::module::{Module, Param};
    use burn::tensor::Device;
    use ibhost_framework::dataset::{Dataset, Split};
    use ibhost_framework::decoder::Decoder;
    use ibhost_framework::distributions::{BoxedDistribution, Delta, Distribution, Normal};
    use ibhost_framework::noise::Noise;

    #[test]
    fn codes_of_all_posteriors_agree_with_the_model() {
        for shape in [Shape::Diagonal, Shape::Full, Shape::Point] {
            let fixture = Fixture::new(shape, 230);
            let context = fixture.context();
            let indices: Vec<usize> = (0..230).collect();
            let model = context.require::<Encode>("t").unwrap();
            let codes = encode("t", model, fixture.data.split(Split::Test), &indices, &context).unwrap();
            assert_eq!((codes.len(), codes.covariances.len()), (230, 230));
            codes.need_plane("t").unwrap();
            for (i, c) in codes.covariances.iter().enumerate() {
                for (k, row) in c.iter().enumerate() {
                    assert!((row[k].sqrt() - codes.deviations[2 * i + k]).abs() < 1e-5);
                }
            }
            let off = codes.covariances[7][0][1].abs();
            assert_eq!(off > 1e-4, shape == Shape::Full, "{off}");
        }
    }

    #[test]
    fn wrong_sizes_and_numbers_are_refused() {
        let three = Codes { latent: 3, means: vec![0.0; 3], deviations: vec![1.0; 3], covariances: Vec::new() };
        assert!(three.need_plane("latent_plot").unwrap_err().to_string().contains("this model has 3"));
        let nan = Codes { latent: 2, means: vec![0.0, 1.0, f64::NAN, 0.0], deviations: vec![1.0; 4], covariances: Vec::new() };
        assert!(nan.need_plane("x").unwrap_err().to_string().contains("test sample 1"));
    }

    /// A model whose prior has two codes and no third one, and decodes a code to itself and 1 beside it.
    #[derive(Module, Debug)]
    struct TwoCodes {
        one: Option<Param<Tensor<1>>>,
    }

    impl Decoder for TwoCodes {
        fn decode(&self, codes: &[Tensor<2>], _teacher: Option<Tensor<4>>) -> BoxedDistribution {
            Normal { mean: codes[0].clone(), scale: codes[0].ones_like() }.boxed()
        }
    }

    impl LatentModel for TwoCodes {
        fn level_sizes(&self) -> Vec<usize> {
            vec![1]
        }
        fn features(&self, inputs: Tensor<4>) -> Vec<Tensor<2>> {
            vec![Tensor::zeros([inputs.dims()[0], 1], &inputs.device())]
        }
        fn level_posterior(&self, _level: usize, features: Tensor<2>, _above: &[Tensor<2>]) -> BoxedDistribution {
            Delta { value: features }.boxed()
        }
        fn level_prior(&self, _level: usize, _above: &[Tensor<2>]) -> Result<BoxedDistribution, Undefined> {
            Err(Undefined::Prior("the prior of two codes"))
        }
        fn sample_top(&self, count: usize, _draws: &mut Draws) -> Result<Tensor<2>, Undefined> {
            if count == 0 { Err(Undefined::Prior("the prior of two codes")) } else { Ok(Tensor::zeros([count.min(2), 1], &Device::flex())) }
        }
        fn decoder(&self) -> &dyn Decoder {
            self
        }
        fn observed_features(&self) -> usize {
            1
        }
    }

    #[test]
    fn a_prior_that_gives_other_codes_than_asked_for_is_named_and_decoding_is_what_it_says() {
        let mut draws = Draws::seeded(Noise::new(1), 0, "test");
        assert_eq!(prior_codes("t", &TwoCodes { one: None }, 2, &mut draws).unwrap().dims(), [2, 1]);
        let short = prior_codes("t", &TwoCodes { one: None }, 3, &mut draws).unwrap_err().to_string();
        assert!(short.contains("`t`") && short.contains("3 codes and got 2"), "{short}");
        let none = prior_codes("t", &TwoCodes { one: None }, 0, &mut draws).unwrap_err().to_string();
        assert!(none.contains("the prior of two codes"), "{none}");
        let codes = Tensor::<2>::zeros([1, 1], &Device::flex());
        for (decode, name, exact) in [(Decoding::Mean, "mean", true), (Decoding::Sample, "sample", false)] {
            let made = decode.decode(&TwoCodes { one: None }, codes.clone(), &mut draws);
            assert_eq!((decode.name(), made.into_scalar::<f32>() == 0.0), (name, exact));
        }
    }
}
