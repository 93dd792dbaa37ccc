//! Analysis `mutual_information`: I(X;T) and I(Y;T) of a noisy code, and I(X;S) where the model has a style code.

use burn::tensor::Tensor;
use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Measured, Results};
use ibhost_framework::capability::{Classify, Encode, Restyle};
use ibhost_framework::dataset::Samples;
use ibhost_framework::distributions::BoxedDistribution;
use ibhost_framework::noise::{Draws, Noise};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Map;

use crate::information::aggregate::{Scales, aggregated_information, label_entropy, prediction_entropy};
use crate::model::{BATCH, log_probabilities, not_empty};
use crate::robustness::attack::Splits;

const NAME: &str = "mutual_information";

/// Where the codes that are asked about lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Both of the following.
    #[default]
    Both,
    /// At the means: not an estimate of the noisy channel's information, but what the DisenIB code reports for its model.
    Mean,
    /// One draw an input: what the DisenIB code reports for VIB and NIB.
    Sampled,
}

/// Information the code keeps, in nats: I(X;T) from the aggregated posterior, I(Y;T) from the class probabilities and from the labels.
///
/// `mi_x_class_sampled` = ln N - mean_i H(softmax_j ln N(t_i; mean_j, std_j)) over the N inputs of a split, one draw t_i each: a lower bound
/// on I(X;T) in expectation, never above ln N (`ceiling`); `mi_x_class_mean`, the same at the means, bounds nothing. Memory grows with N, time
/// with its square. `mi_y_class_lower` = H(Y) + mean_i ln q(y_i|t_i), one code each, or the mean where the model decides by it: a lower bound
/// on I(Y;T), as `izy_nats` is. `mi_y_class_confidence` = H(Y) - mean_i H(q(y|t_i)), what the DisenIB code calls I(Y;T), looks at no label: it
/// is computed from the model's own probabilities and bounds nothing, below I(Y;T) where these are too flat and above where they are too sure.
/// Models with a style code report I(X;S) as `mi_x_style`. `bounds` says the same of every number. Needs codes whose noise has a standard
/// deviation per dimension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MutualInformation {
    /// Where the codes lie.
    pub variant: Variant,
    /// Which splits are measured.
    pub split: Splits,
    /// Measure on the first N samples of a split only.
    #[schemars(range(min = 2))]
    pub first: Option<usize>,
}

impl Default for MutualInformation {
    fn default() -> Self {
        Self { variant: Variant::Both, split: Splits::Both, first: None }
    }
}

/// Names and what each says about the information of the noisy code; the style code's are those of the class code.
const BOUNDS: [(&str, &str); 8] = [
    ("mi_x_class_mean", "none: at the means, not of the noisy code"),
    ("mi_x_class_sampled", "lower bound on I(X;T) in expectation"),
    ("mi_x_style_mean", "none: at the means, not of the noisy code"),
    ("mi_x_style_sampled", "lower bound on I(X;S) in expectation"),
    ("mi_y_class_lower", "lower bound on I(Y;T)"),
    ("mi_y_class_confidence", "none: from the model's own probabilities"),
    ("h_y", "H(Y), upper bound on I(Y;T)"),
    ("ceiling", "ln N, the most that mi_x can be"),
];

/// What the quantity `key` bounds.
fn bound(key: &str) -> &'static str {
    BOUNDS.iter().find(|(name, _)| *name == key).map_or("", |(_, bound)| bound)
}

/// Means and standard deviations of a split's codes on the host.
struct Noisy {
    latent: usize,
    means: Vec<f64>,
    scales: Vec<f64>,
}

impl Noisy {
    fn of(
        encode: &dyn Fn(Tensor<4>) -> BoxedDistribution,
        samples: &Samples,
        count: usize,
        context: &AnalysisContext<'_>,
    ) -> Result<Self, AnalysisError> {
        let order: Vec<usize> = (0..count).collect();
        let mut codes = Self { latent: 0, means: Vec::new(), scales: Vec::new() };
        for indices in order.chunks(BATCH) {
            let Some((mean, scale)) = encode(samples.batch(indices, context.device).inputs).as_normal() else {
                return Err(AnalysisError::Request(format!(
                    "`{NAME}` needs codes whose noise has one standard deviation per dimension; train with an encoder of `cov:diag`"
                )));
            };
            codes.latent = mean.dims()[1];
            codes.means.extend(mean.into_data().iter::<f64>());
            codes.scales.extend(scale.into_data().iter::<f64>());
        }
        let bad = codes.means.iter().any(|m| !m.is_finite()) || codes.scales.iter().any(|s| !(s.is_finite() && *s > 0.0));
        if bad {
            return Err(AnalysisError::Request(format!(
                "`{NAME}` cannot use this model: a code is not finite; analyse an earlier checkpoint"
            )));
        }
        Ok(codes)
    }

    fn scales(&self) -> Scales<'_> {
        match self.scales.first() {
            Some(first) if self.scales.iter().all(|s| s == first) => Scales::Shared(*first),
            _ => Scales::Each(&self.scales),
        }
    }

    fn at_means(&self) -> f64 {
        aggregated_information(&self.means, &self.means, self.scales(), self.latent)
    }

    /// One draw of noise for each input, which depends on the seed and the input's position alone.
    fn sampled(&self, noise: Noise, purpose: &str) -> f64 {
        let mut codes = self.means.clone();
        for (index, (row, scales)) in codes.chunks_exact_mut(self.latent).zip(self.scales.chunks_exact(self.latent)).enumerate() {
            let mut stream = noise.stream(purpose, index as u64);
            row.iter_mut().zip(scales).for_each(|(x, s)| *x += s * stream.normal());
        }
        aggregated_information(&codes, &self.means, self.scales(), self.latent)
    }
}

#[typetag::serde(name = "mutual_information")]
impl AnalysisConfig for MutualInformation {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let (classes, codes) = (context.require::<Classify>(NAME)?, context.require::<Encode>(NAME)?);
        let noise = Noise::new(context.seed);
        let (mut results, mut bounds) = (Results::default(), Map::new());
        for (name, split) in self.split.list() {
            let samples = context.data.split(split);
            not_empty(samples, NAME)?;
            let count = self.first.map_or(samples.len(), |n| n.min(samples.len()));
            let mut put = |key: &str, value: f64| {
                let place = format!("{name}_{key}");
                results.values.push(Measured::nats(key, value).along("split", name).at(place.as_str()));
                bounds.insert(place, bound(key).into());
            };
            let mut both = |key: &str, codes: &Noisy| {
                if self.variant != Variant::Sampled {
                    put(&format!("{key}_mean"), codes.at_means());
                }
                if self.variant != Variant::Mean {
                    put(&format!("{key}_sampled"), codes.sampled(noise, &format!("{NAME}/{name}/{key}")));
                }
            };
            both("mi_x_class", &Noisy::of(&|x| codes.posterior(x), samples, count, context)?);
            if let Some(style) = context.model.capability::<Restyle>() {
                both("mi_x_style", &Noisy::of(&|x| style.style(x), samples, count, context)?);
            }
            let order: Vec<usize> = (0..count).collect();
            let (mut uncertainty, mut likelihood, mut labels) = (0.0, 0.0, Vec::with_capacity(count));
            for (number, indices) in order.chunks(BATCH).enumerate() {
                let mut draws = Draws::seeded(noise, number as u64, &format!("{NAME}/{name}/classes"));
                let rows = log_probabilities(classes, samples.batch(indices, context.device).inputs, 1, &mut draws);
                uncertainty += rows.iter().map(|row| prediction_entropy(row)).sum::<f64>();
                for (row, &index) in rows.iter().zip(indices) {
                    let label = samples.label(index);
                    likelihood += row.get(usize::from(label)).copied().unwrap_or(f64::NEG_INFINITY);
                    labels.push(label);
                }
            }
            let entropy = label_entropy(&labels);
            put("mi_y_class_lower", entropy + likelihood / count as f64);
            put("mi_y_class_confidence", entropy - uncertainty / count as f64);
            put("h_y", entropy);
            put("ceiling", (count as f64).ln());
        }
        Ok(results.fact("bounds", bounds))
    }
}

ibhost_framework::register! {
    Analysis: MutualInformation as AnalysisConfig, aliases: ["mi"], paper: "Pan et al. 2021, arXiv:2012.07372",
    example: "mutual_information/variant:both|split:test", needs: [Classify, Encode],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, Shape};

    #[test]
    fn both_variants_lie_between_nothing_and_the_ceiling() {
        let fixture = Fixture::new(Shape::Diagonal, 400);
        let report = MutualInformation { split: Splits::Test, ..MutualInformation::default() }.run(&fixture.context()).unwrap();
        let value = |key: &str| report.json()[key].as_f64().unwrap_or_else(|| panic!("{key} in {}", report.json()));
        let ceiling = value("test_ceiling");
        assert!((ceiling - 400f64.ln()).abs() < 1e-12 && (value("test_h_y") - 10f64.ln()).abs() < 1e-12);
        for key in ["test_mi_x_class_mean", "test_mi_x_class_sampled"] {
            assert!(value(key) > 0.5 && value(key) <= ceiling, "{key} {}", value(key));
        }
        for key in ["test_mi_y_class_confidence", "test_mi_y_class_lower"] {
            assert!(value(key) > 0.5 && value(key) <= value("test_h_y"), "{key} {}", value(key));
        }
        let result = report.json();
        let bounds = result["bounds"].as_object().unwrap();
        assert!(
            bounds["test_mi_y_class_lower"] == "lower bound on I(Y;T)"
                && bounds["test_mi_y_class_confidence"].as_str().unwrap().contains("none")
        );
        assert!(bounds.values().all(|bound| bound != ""), "{bounds:?}");
        assert_eq!((report.table().len(), report.table()[0][0].as_str()), (2, "split"));
        assert!(report.json().get("train_h_y").is_none() && report.json().get("test_mi_x_style_mean").is_none());
        let fewer = MutualInformation { first: Some(50), variant: Variant::Mean, ..MutualInformation::default() };
        let fewer = fewer.run(&fixture.context()).unwrap().json();
        assert!((fewer["train_ceiling"].as_f64().unwrap() - 50f64.ln()).abs() < 1e-12 && fewer.get("train_mi_x_class_sampled").is_none());
    }

    #[test]
    fn codes_without_such_noise_are_refused() {
        for shape in [Shape::Point, Shape::Full] {
            let error = MutualInformation::default().run(&Fixture::new(shape, 20).context()).unwrap_err().to_string();
            assert!(error.contains("cov:diag"), "{error}");
        }
    }
}
