//! Analysis `knn_accuracy`: how well classes can be read off codes by their nearest neighbours, and whether clusters of codes are classes.

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Measured, Results};
use ibhost_framework::capability::{Encode, LogDensity};
use ibhost_framework::dataset::{Samples, Split};
use ibhost_framework::distributions::one_sample;
use ibhost_framework::noise::{Draws, Noise, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{BATCH, not_empty, undefined};
use crate::probes::neighbour_accuracy::{neighbour_accuracies, normalised_mutual_information};

const NAME: &str = "knn_accuracy";
/// Restarts of k-means.
const RESTARTS: u64 = 10;
/// Most rounds of one start.
const ROUNDS: usize = 300;

/// Which codes are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Codes {
    /// One sample of q(z|x) each, as published.
    #[default]
    Sampled,
    /// The means.
    Mean,
}

/// Share of test samples whose class the nearest training codes vote for, and the agreement of k-means clusters with classes.
///
/// Euclidean distance between codes as they are: no dimension is scaled, so that a wide one counts for more, in the clusters too. One vote a
/// neighbour, ties to the smaller class. Clusters: k-means++ on the test codes with as many clusters as
/// classes occur, best of 10 starts; agreement is I(class; cluster) / max(H(class), H(cluster)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KnnAccuracy {
    /// Numbers of neighbours.
    pub k: Vec<usize>,
    /// Which codes.
    pub codes: Codes,
    /// Training and test samples used at most, each.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub points: Option<usize>,
}

impl Default for KnnAccuracy {
    fn default() -> Self {
        Self { k: vec![1, 3, 5, 10], codes: Codes::Sampled, points: None }
    }
}

impl KnnAccuracy {
    fn codes_of(
        &self,
        context: &AnalysisContext<'_>,
        samples: &Samples,
        purpose: &str,
    ) -> Result<(Vec<f64>, Vec<u8>, usize), AnalysisError> {
        let model = context.require::<Encode>(NAME)?;
        let indices: Vec<usize> = (0..samples.len().min(self.points.unwrap_or(usize::MAX))).collect();
        let (mut codes, mut latent) = (Vec::new(), 0);
        for (number, chunk) in indices.chunks(BATCH).enumerate() {
            let mut draws = Draws::seeded(Noise::new(context.seed), number as u64, purpose);
            let inputs = samples.batch(chunk, context.device).inputs;
            let code = match (self.codes, context.model.capability::<LogDensity>()) {
                (Codes::Sampled, Some(generative)) => generative.sample_codes(inputs, &mut draws).map_err(undefined(NAME))?,
                (Codes::Sampled, None) => {
                    let posterior = model.posterior(inputs);
                    let noise = draws.normal("posterior", [posterior.dims()[0], posterior.noise_features()], context.device);
                    one_sample(&*posterior, noise).map_err(undefined(NAME))?
                }
                (Codes::Mean, _) => model.posterior(inputs).point(),
            };
            latent = code.dims()[1];
            codes.extend(code.into_data().iter::<f64>());
        }
        if let Some(bad) = codes.iter().position(|z| !z.is_finite()) {
            return Err(AnalysisError::Request(format!(
                "`{NAME}`: the code of sample {} is not finite; analyse an earlier checkpoint",
                bad / latent
            )));
        }
        Ok((codes, indices.iter().map(|&i| samples.label(i)).collect(), latent))
    }
}

#[typetag::serde(name = "knn_accuracy")]
impl AnalysisConfig for KnnAccuracy {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        if self.k.is_empty() || self.k.contains(&0) {
            return Err(AnalysisError::Request(format!("`{NAME}`: every number of neighbours must be at least 1, e.g. k:[1;5]")));
        }
        let (train, test) = (context.data.split(Split::Train), context.data.split(Split::Test));
        not_empty(test, NAME)?;
        let (train_codes, train_labels, latent) = self.codes_of(context, train, "training codes")?;
        let (test_codes, test_labels, _) = self.codes_of(context, test, "test codes")?;
        let found = neighbour_accuracies((&train_codes, &train_labels), (&test_codes, &test_labels), latent, &self.k);
        let mut classes: Vec<usize> = test_labels.iter().map(|&l| usize::from(l)).collect();
        let clusters = k_means(
            &test_codes,
            latent,
            {
                classes.sort_unstable();
                classes.dedup();
                classes.len()
            },
            Noise::new(context.seed),
        );
        let labels: Vec<usize> = test_labels.iter().map(|&l| usize::from(l)).collect();
        let agreement = normalised_mutual_information(&labels, &clusters);
        let accuracy =
            |(k, (accuracy, _)): (&usize, &(f64, _))| Measured::share("accuracy", *accuracy).along("k", *k).at(format!("accuracy_{k}"));
        let results = Results::of(self.k.iter().zip(&found).map(accuracy)).and(Measured::share("cluster_agreement", agreement));
        Ok(results.fact("train", train_labels.len()).fact("test", test_labels.len()))
    }
}

fn squared(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// Number of the nearest centre and the squared distance to it.
fn nearest(centres: &[Vec<f64>], row: &[f64]) -> (usize, f64) {
    let all = centres.iter().enumerate().map(|(i, c)| (i, squared(c, row)));
    all.fold((0, f64::INFINITY), |best, each| if each.1 < best.1 { each } else { best })
}

/// Cluster of every row by Lloyd's rounds from k-means++ starts; the start with the smallest sum of squares wins.
pub fn k_means(rows: &[f64], dim: usize, clusters: usize, noise: Noise) -> Vec<usize> {
    let points: Vec<&[f64]> = rows.chunks_exact(dim.max(1)).collect();
    if points.is_empty() || clusters == 0 {
        return vec![0; points.len()];
    }
    let starts = (0..RESTARTS).map(|start| one_start(&points, clusters.min(points.len()), &mut noise.stream("k-means", start)));
    let best = starts.reduce(|best, next| if next.0 < best.0 { next } else { best });
    best.map_or_else(Vec::new, |(_, assignment)| assignment)
}

fn one_start(points: &[&[f64]], clusters: usize, stream: &mut Stream) -> (f64, Vec<usize>) {
    let mut centres = vec![points[stream.below(points.len())].to_vec()];
    let mut gaps: Vec<f64> = points.iter().map(|p| squared(p, &centres[0])).collect();
    while centres.len() < clusters {
        let mut left = stream.uniform() * gaps.iter().sum::<f64>();
        let chosen = gaps
            .iter()
            .position(|gap| {
                left -= gap;
                left < 0.0
            })
            .unwrap_or(points.len() - 1);
        centres.push(points[chosen].to_vec());
        gaps.iter_mut().zip(points).for_each(|(gap, p)| *gap = gap.min(squared(p, points[chosen])));
    }
    let mut assignment = vec![usize::MAX; points.len()];
    let mut total = f64::INFINITY;
    for _ in 0..ROUNDS {
        let found: Vec<(usize, f64)> = points.iter().map(|p| nearest(&centres, p)).collect();
        total = found.iter().map(|f| f.1).sum();
        let same = found.iter().zip(&assignment).all(|(f, old)| f.0 == *old);
        assignment = found.into_iter().map(|f| f.0).collect();
        if same {
            break;
        }
        for (cluster, centre) in centres.iter_mut().enumerate() {
            let members: Vec<&&[f64]> = points.iter().zip(&assignment).filter(|(_, a)| **a == cluster).map(|(p, _)| p).collect();
            if !members.is_empty() {
                for (d, value) in centre.iter_mut().enumerate() {
                    *value = members.iter().map(|p| p[d]).sum::<f64>() / members.len() as f64;
                }
            }
        }
    }
    (total, assignment)
}

ibhost_framework::register! {
    Analysis: KnnAccuracy as AnalysisConfig, aliases: [], paper: "Livne et al. 2019, arXiv:1910.03175", example: "knn_accuracy/k:[1;5]",
    needs: [Encode],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, Shape};

    #[test]
    fn accuracies_are_reported_for_any_encoder() {
        let fixture = Fixture::new(Shape::Diagonal, 300);
        for codes in [Codes::Sampled, Codes::Mean] {
            let report = KnnAccuracy { codes, points: Some(200), ..KnnAccuracy::default() }.run(&fixture.context()).unwrap();
            let share = report.json()["accuracy_5"].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&share) && report.json()["test"] == 200);
            assert!(report.json()["cluster_agreement"].as_f64().is_some());
        }
        assert!(KnnAccuracy { k: vec![0], ..KnnAccuracy::default() }.run(&fixture.context()).is_err());
    }

    #[test]
    fn separate_clouds_are_found() {
        let mut stream = Noise::new(3).stream("clouds", 0);
        let rows: Vec<f64> = (0..300).flat_map(|i| [f64::from(i % 3) * 20.0 + stream.normal(), stream.normal()]).collect();
        let clusters = k_means(&rows, 2, 3, Noise::new(1));
        let truth: Vec<usize> = (0..300).map(|i| i % 3).collect();
        assert!((normalised_mutual_information(&truth, &clusters) - 1.0).abs() < 1e-12);
        assert_eq!(k_means(&[1.0, 2.0], 1, 5, Noise::new(1)).len(), 2);
    }
}
