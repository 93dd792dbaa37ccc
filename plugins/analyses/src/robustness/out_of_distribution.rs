//! Analysis `ood`: telling inputs of another kind from the test set by the model's confidence.

use std::path::Path;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Direction, Measured, Results, Sources};
use ibhost_framework::capability::Classify;
use ibhost_framework::component::resolve;
use ibhost_framework::dataset::{DataRoot, DatasetConfig, Split};
use ibhost_framework::noise::{Draws, Noise};
use ibhost_framework::objective::Classifier;
use ibhost_framework::registry::Kind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{BATCH, not_empty};
use crate::robustness::attack::{Target, differentiable, differentiable_classifier, gradient_by};
use crate::robustness::detection::{Detection, Scores};

const NAME: &str = "ood";

/// Out-of-distribution detection: how well the model's confidence tells the test set from other inputs.
///
/// score = max softmax(logits(x') / T) in double precision with x' = clamp(x - m sgn(g), range), g the input gradient of the mean
/// cross-entropy of logits / T at their own argmax, sgn(0) = +1 (ODIN). T = 1, m = 0 is the maximum softmax. Inside (the test set) is the
/// positive class. `grid` gives the paper's metrics on `num_delta` thresholds, `exact` the sort-based ones; `tpr95` is the false-positive
/// rate at 95 % true positives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OutOfDistribution {
    /// The outside: `gauss` or `uniform` noise clamped to the range of the data, one image for each test image, or the name of a data set.
    pub out: String,
    /// Temperature T.
    #[schemars(range(min = 0.000_001, max = 1e9))]
    pub temper: f64,
    /// Size m of the input's change.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub noise_mag: f64,
    /// Thresholds of the paper's grid.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub num_delta: usize,
}

impl Default for OutOfDistribution {
    fn default() -> Self {
        Self { out: "gauss".to_owned(), temper: 1000.0, noise_mag: 0.0014, num_delta: 10_000 }
    }
}

/// Highest softmax probability of rows of `logits` divided by `temper`, in double precision.
fn confidence(logits: Tensor<2>, temper: f64) -> Vec<f64> {
    let classes = logits.dims()[1];
    let values: Vec<f64> = logits.into_data().iter::<f64>().collect();
    values
        .chunks_exact(classes.max(1))
        .map(|row| {
            let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            row.iter().map(|l| ((l - top) / temper).exp()).sum::<f64>().recip()
        })
        .collect()
}

/// Scores of inputs, see [`OutOfDistribution`].
///
/// # Errors
/// [`AnalysisError::Request`] where the inputs are to be changed and the model's scores have no gradient, or one that is not finite.
pub fn scores(target: &Target<'_>, inputs: Tensor<4>, temper: f64, noise_mag: f64, draws: &mut Draws) -> Result<Vec<f64>, AnalysisError> {
    let inputs = if noise_mag > 0.0 {
        let x = Tensor::<4>::from_inner(inputs.clone()).require_grad();
        let logits = target.gradient_model.logits(x.clone(), draws).div_scalar(temper);
        let own: Tensor<2, Int> = logits.clone().detach().argmax(1);
        let gradient = gradient_by(NAME, &log_softmax(logits, 1).gather(1, own).mean().neg(), &x)?;
        let sign = gradient.greater_equal_scalar(0.0).float().cast(inputs.dtype()).mul_scalar(2.0).sub_scalar(1.0);
        (inputs - sign.mul_scalar(noise_mag)).clamp(target.range.0, target.range.1)
    } else {
        inputs
    };
    Ok(confidence(target.model.logits(inputs, draws), temper))
}

/// Makes the images of the given numbers.
type Batches<'a> = Box<dyn Fn(&[usize]) -> Tensor<4> + 'a>;

impl OutOfDistribution {
    /// The outside in batches, each made when it is asked for, and the hash of its samples where they are those of a data set.
    fn outside<'a>(&self, context: &'a AnalysisContext<'_>, range: (f32, f32)) -> Result<(Batches<'a>, Option<String>), AnalysisError> {
        let test = context.data.split(Split::Test);
        let shape = test.shape();
        let [c, h, w] = shape;
        if matches!(self.out.as_str(), "gauss" | "uniform") {
            let gauss = self.out == "gauss";
            let (noise, device) = (Noise::new(context.seed), context.device);
            let drawn = move |indices: &[usize]| {
                let mut values = Vec::with_capacity(indices.len() * c * h * w);
                for &index in indices {
                    let mut stream = noise.stream("out of distribution/outside", index as u64);
                    values.extend((0..c * h * w).map(|_| {
                        if gauss {
                            stream.normal_f32().clamp(range.0, range.1)
                        } else {
                            range.0 + (range.1 - range.0) * stream.uniform() as f32
                        }
                    }));
                }
                Tensor::from_data(TensorData::new(values, [indices.len(), c, h, w]), device)
            };
            return Ok((Box::new(drawn), None));
        }
        let (component, _) = resolve::<dyn DatasetConfig>(Kind::Dataset, &self.out)
            .map_err(|error| AnalysisError::Request(format!("`out:{}` is neither gauss nor uniform nor a data set: {error}", self.out)))?;
        let other = context.library.get(&component, context.seed)?;
        let samples = other.data.split(Split::Test).clone();
        not_empty(&samples, NAME)?;
        if samples.shape() != shape {
            return Err(AnalysisError::Request(format!(
                "`{NAME}` compares images of one shape, but `{}` has {:?} and this run's data {shape:?}",
                self.out,
                samples.shape()
            )));
        }
        let device = context.device;
        // A larger outside is cut to the size of the inside, a smaller one repeats.
        let hash = other.identity().test.hash.clone();
        let taken = move |indices: &[usize]| {
            let wrapped: Vec<usize> = indices.iter().map(|i| i % samples.len()).collect();
            samples.batch(&wrapped, device).inputs
        };
        Ok((Box::new(taken), Some(hash)))
    }
}

/// The scores of one way to choose thresholds.
fn measured(way: &str, found: &Detection) -> [Measured; 5] {
    [
        Measured::new("tpr95", found.fpr_at_tpr95, "share", Direction::Minimise),
        Measured::share("auroc", found.auroc),
        Measured::share("aupr_in", found.aupr_in),
        Measured::share("aupr_out", found.aupr_out),
        Measured::new("detect_err", found.detection_error, "share", Direction::Minimise),
    ]
    .map(|measured| {
        let place = format!("{way}/{}", measured.name);
        measured.along("thresholds", way).at(place)
    })
}

fn autodiff_of(device: &Device) -> Device {
    device.clone().autodiff()
}

#[typetag::serde(name = "ood")]
impl AnalysisConfig for OutOfDistribution {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let model: &dyn Classifier = context.require::<Classify>(NAME)?;
        let test = context.data.split(Split::Test);
        not_empty(test, NAME)?;
        let (low, high) = test.value_range();
        let (outside, hash) = self.outside(context, (low, high))?;
        let boxed = differentiable(context);
        let autodiff = autodiff_of(context.device);
        let target = Target {
            model,
            gradient_model: differentiable_classifier(&boxed, NAME)?,
            autodiff: &autodiff,
            range: (f64::from(low), f64::from(high)),
        };
        let noise = Noise::new(context.seed);
        let collect = |side: &str, count: usize, make: &dyn Fn(&[usize]) -> Tensor<4>| {
            let order: Vec<usize> = (0..count).collect();
            let mut all = Vec::with_capacity(count);
            for (number, indices) in order.chunks(BATCH).enumerate() {
                let mut draws = Draws::seeded(noise, number as u64, &format!("{NAME}/{side}"));
                all.extend(scores(&target, make(indices), self.temper, self.noise_mag, &mut draws)?);
            }
            Ok::<_, AnalysisError>(all)
        };
        let inside = collect("inside", test.len(), &|indices| test.batch(indices, context.device).inputs)?;
        let outside = collect("outside", context.data.split(Split::Test).len(), &*outside)?;
        let scores = Scores::new(inside, outside).ok_or_else(|| {
            AnalysisError::Request(format!("`{NAME}` cannot use this model: a score is not finite; analyse an earlier checkpoint"))
        })?;
        let (grid, exact) = (scores.on_grid(self.num_delta), scores.exact());
        let found = Results::of(measured("grid", &grid).into_iter().chain(measured("exact", &exact)));
        let found = found.fact("out", self.out.as_str()).fact("inputs", test.len());
        Ok(if let Some(hash) = hash { found.fact("out_hash", hash) } else { found })
    }

    fn sources(&self, _run_dir: &Path, _root: &DataRoot) -> Result<Option<Sources>, AnalysisError> {
        // Noise is drawn from the seed; another data set may have changed.
        Ok(matches!(self.out.as_str(), "gauss" | "uniform").then(Sources::new))
    }
}

ibhost_framework::register! {
    Analysis: OutOfDistribution as AnalysisConfig, aliases: ["odin"],
    paper: "Liang et al. 2018, arXiv:1706.02690; Hendrycks & Gimpel 2017, arXiv:1610.02136",
    example: "ood/out:gauss|temper:1000|noise_mag:0.0014", needs: [Classify, InputGradient],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, Shape};

    #[test]
    fn every_outside_is_measured_and_unknown_ones_are_refused() {
        let fixture = Fixture::new(Shape::Point, 200);
        for out in ["gauss", "uniform", "digits"] {
            let config = OutOfDistribution { out: out.to_owned(), temper: 10.0, ..OutOfDistribution::default() };
            let report = config.run(&fixture.context()).unwrap();
            for kind in ["grid", "exact"] {
                for key in ["tpr95", "auroc", "aupr_in", "aupr_out", "detect_err"] {
                    let value = report.json()[kind][key].as_f64().unwrap();
                    assert!((0.0..=1.0).contains(&value), "{kind} {key} {value}");
                }
            }
            assert_eq!(report.table().len(), 3);
            assert_eq!(report.json()["out_hash"].is_string(), out == "digits", "what other data were is recorded");
        }
        let bad = OutOfDistribution { out: "nowhere".to_owned(), ..OutOfDistribution::default() };
        assert!(bad.run(&fixture.context()).unwrap_err().to_string().contains("out:nowhere"));
    }

    #[test]
    fn the_confidence_of_equal_logits_is_one_over_the_classes() {
        let logits = Tensor::<2>::from_floats([[3.0, 3.0, 3.0, 3.0], [1000.0, 0.0, 0.0, 0.0]], &Device::flex());
        assert_eq!(confidence(logits.clone(), 7.0)[0], 0.25);
        assert_eq!(confidence(logits, 1.0)[1], 1.0);
    }

    #[test]
    fn the_change_raises_the_confidence() {
        let fixture = Fixture::new(Shape::Point, 50);
        let context = fixture.context();
        let boxed = differentiable(&context);
        let autodiff = autodiff_of(context.device);
        let model = context.model.capability::<Classify>().unwrap();
        let target = Target { model, gradient_model: boxed.capability::<Classify>().unwrap(), autodiff: &autodiff, range: (-1.0, 1.0) };
        let inputs = context.data.split(Split::Test).batch(&(0..50).collect::<Vec<_>>(), context.device).inputs;
        let mut draws = Draws::seeded(Noise::new(1), 0, "t");
        let before: f64 = scores(&target, inputs.clone(), 2.0, 0.0, &mut draws).unwrap().iter().sum();
        let after: f64 = scores(&target, inputs, 2.0, 0.02, &mut draws).unwrap().iter().sum();
        assert!(after > before, "{before} {after}");
    }

    /// Scores that do not depend on the inputs.
    #[derive(Debug)]
    struct Blind;

    impl Classifier for Blind {
        fn class_log_probabilities(&self, inputs: Tensor<4>, _samples: usize, _draws: &mut Draws) -> Tensor<2> {
            log_softmax(Tensor::<2>::from_floats([[1.0, 2.0]], &inputs.device()).expand([inputs.dims()[0], 2]), 1)
        }
    }

    #[test]
    fn a_change_of_the_input_needs_a_gradient_and_the_maximum_softmax_does_not() {
        let (device, autodiff) = (Device::flex(), autodiff_of(&Device::flex()));
        let target = Target { model: &Blind, gradient_model: &Blind, autodiff: &autodiff, range: (-1.0, 1.0) };
        let scores_at =
            |size: f64| scores(&target, Tensor::zeros([3, 1, 2, 2], &device), 1.0, size, &mut Draws::seeded(Noise::new(1), 0, "t"));
        assert_eq!(scores_at(0.0).unwrap().len(), 3);
        let error = scores_at(0.1).unwrap_err().to_string();
        assert!(error.contains("`ood`") && error.contains("have none"), "{error}");
    }
}
