//! Analysis `salt_pepper`: accuracy under salt-and-pepper noise.

use burn::tensor::{Tensor, TensorData};
use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Measured, Results};
use ibhost_framework::capability::Classify;
use ibhost_framework::dataset::Split;
use ibhost_framework::noise::{Draws, Noise};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{BATCH, count_correct, not_empty};
use crate::numbers::share;

const NAME: &str = "salt_pepper";

/// Accuracy on test images whose entries are replaced by the extremes with probability `p`.
///
/// Each scalar entry, channels independently, is hit when u <= p for u uniform on `[0, 1)` and becomes the smallest or the largest value
/// of the scaled test set with equal probability. p = 0 (clean) is always measured first. Reported is the share of test images whose
/// class probability, averaged over L codes, is largest at the label. The noise depends on the seed and the image alone, so models that
/// are analysed with one seed see the same noisy images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SaltPepper {
    /// Probabilities that an entry is hit.
    #[schemars(length(min = 1, max = 100), inner(range(min = 0.0, max = 1.0)))]
    pub p: Vec<f64>,
    /// Numbers of codes the prediction is averaged over.
    #[schemars(length(min = 1, max = 16), inner(range(min = 1, max = 10_000)))]
    pub l: Vec<usize>,
}

impl Default for SaltPepper {
    fn default() -> Self {
        Self { p: vec![0.1, 0.2, 0.4], l: vec![1, 12] }
    }
}

/// Replaces the entries for which `u() <= p` by `extremes[pick()]`; `u` is drawn for every entry in order, `pick` (0 or 1) for every
/// entry that is hit.
pub fn corrupt<T: Copy>(values: &mut [T], p: f64, extremes: [T; 2], mut u: impl FnMut() -> f64, mut pick: impl FnMut() -> usize) {
    for value in values {
        if u() <= p {
            *value = if pick() == 0 { extremes[0] } else { extremes[1] };
        }
    }
}

/// [`corrupt`]s images of `size` values, the samples `indices`, each with its own streams of `noise`.
pub(crate) fn add_salt_pepper(values: &mut [f32], size: usize, indices: &[usize], p: f64, (low, high): (f32, f32), noise: Noise) {
    for (image, &index) in values.chunks_exact_mut(size).zip(indices) {
        let mut hits = noise.stream(&format!("salt and pepper/{p}/hits"), index as u64);
        let mut picks = noise.stream(&format!("salt and pepper/{p}/picks"), index as u64);
        corrupt(image, p, [low, high], || hits.uniform(), || picks.below(2));
    }
}

#[typetag::serde(name = "salt_pepper")]
impl AnalysisConfig for SaltPepper {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let model = context.require::<Classify>(NAME)?;
        let test = context.data.split(Split::Test);
        not_empty(test, NAME)?;
        let noise = Noise::new(context.seed);
        let extremes = test.value_range();
        let [c, h, w] = test.shape();
        let order: Vec<usize> = (0..test.len()).collect();
        let mut levels = vec![0.0];
        levels.extend(self.p.iter().copied().filter(|p| *p != 0.0));
        let mut results = Results::default();
        let mut values = Vec::new();
        for (at, p) in levels.into_iter().enumerate() {
            let mut correct = vec![0; self.l.len()];
            for (step, indices) in order.chunks(BATCH).enumerate() {
                values.clear();
                test.gather(indices, &mut values);
                if p > 0.0 {
                    add_salt_pepper(&mut values, c * h * w, indices, p, extremes, noise);
                }
                let labels: Vec<u8> = indices.iter().map(|&i| test.label(i)).collect();
                let inputs = Tensor::<4>::from_data(TensorData::new(values.clone(), [indices.len(), c, h, w]), context.device);
                for (count, &l) in correct.iter_mut().zip(&self.l) {
                    let mut draws = Draws::seeded(noise, step as u64, &format!("{NAME}/{p}/{l}"));
                    *count += count_correct(model, inputs.clone(), &labels, l, &mut draws);
                }
            }
            let accuracies: Vec<f64> = correct.iter().map(|&count| share(count, test.len())).collect();
            tracing::info!(p, ?accuracies, "salt and pepper");
            results.values.extend(self.l.iter().zip(&accuracies).enumerate().map(|(i, (&l, &accuracy))| {
                let record = format!("settings/{}", at * self.l.len() + i);
                Measured::share("accuracy", accuracy).along("p", p).along("L", l).within(&record)
            }));
        }
        Ok(results.fact("batch_size", BATCH))
    }
}

ibhost_framework::register! {
    Analysis: SaltPepper as AnalysisConfig,
    paper: "Banerjee & Montúfar 2020, arXiv:1810.11677",
    example: "salt_pepper/p:[0.1;0.2;0.4]|l:[1;12]",
    needs: [Classify],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, Shape};

    #[test]
    fn hit_entries_take_the_picks_in_order() {
        let mut values = [0.5, 0.6, 0.7, 0.8];
        let mut u = [0.3, 0.31, 0.0, 0.1].into_iter();
        let mut picks = [1, 0, 1].into_iter();
        corrupt(&mut values, 0.3, [-1.0, 1.0], || u.next().unwrap(), || picks.next().unwrap());
        assert_eq!(values, [1.0, 0.6, -1.0, 1.0]);
    }

    #[test]
    fn accuracy_falls_with_the_noise_and_is_reproducible() {
        let fixture = Fixture::new(Shape::Diagonal, 1200);
        let config = SaltPepper { p: vec![0.0, 0.2, 1.0], l: vec![1, 12] };
        let report = config.run(&fixture.context()).unwrap();
        let result = report.json();
        let settings = result["settings"].as_array().unwrap();
        let places: Vec<(f64, u64)> = settings.iter().map(|s| (s["p"].as_f64().unwrap(), s["L"].as_u64().unwrap())).collect();
        assert_eq!(places, [(0.0, 1), (0.0, 12), (0.2, 1), (0.2, 12), (1.0, 1), (1.0, 12)]);
        let accuracy = |i: usize| settings[i]["accuracy"].as_f64().unwrap();
        assert!(accuracy(1) > 0.5 && accuracy(1) > accuracy(3) && accuracy(3) > accuracy(5), "{:?}", report.table());
        assert!(accuracy(1) > accuracy(0), "averaging helps");
        assert!((accuracy(5) - 0.1).abs() < 0.05, "nothing is left of the image");
        assert_eq!(report.table().len(), 7);
        assert_eq!(config.run(&fixture.context()).unwrap().json(), report.json());
    }
}
