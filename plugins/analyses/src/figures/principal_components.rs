//! Analysis `principal_components`: the first principal components of every level of the code.

use std::sync::Arc;

use ibhost_datasets::pca::Projection;
use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Direction, Measured, Results};
use ibhost_framework::dataset::{Samples, Scaling, Split, Values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::figures::plot::colour::spectral;
use crate::figures::plot::{Figure, Layer, Mark, panels_png};
use crate::information::levels::{LevelCodes, level_codes};
use crate::output::picture;

const NAME: &str = "principal_components";
/// Components drawn against each other; a third has no panel of its own for every pair.
const PAIRS: [[usize; 2]; 2] = [[0, 1], [0, 2]];

/// The first `k` principal components of the posterior means of the test samples, every level of the code for itself.
///
/// Centred, not scaled: scores = (mean_i - average) V with V the leading eigenvectors of the covariance (divisor n - 1), the largest entry
/// of each positive. `explained` is a component's share of the level's variance. Levels below the top are taken at the means of those above.
/// Writes `plots/principal-components.png`, the first component against the second and the third, coloured by class. z1 is the bottom level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PrincipalComponents {
    /// Components of a level, or as many as the level has numbers.
    #[schemars(range(min = 1, max = 4096))]
    pub k: usize,
    /// Test samples used at most.
    #[schemars(range(min = 3, max = 1_000_000))]
    pub points: usize,
}

impl Default for PrincipalComponents {
    fn default() -> Self {
        Self { k: 3, points: 10_000 }
    }
}

/// Directions of a level's means, and its scores: `k` numbers a sample.
fn components(level: &LevelCodes, labels: &[u8], k: usize) -> Result<(Projection, Vec<f32>), AnalysisError> {
    let refuse = |error| AnalysisError::Request(format!("`{NAME}`, level {}: {error}", level.name));
    let values: Vec<f32> = level.mean.iter().map(|&x| x as f32).collect();
    let shape = [1, 1, level.dim];
    let samples = Samples::new(Values::F32(Arc::new(values.clone())), labels.to_vec(), shape, Scaling::uniform(1, 1.0, 0.0));
    let projection = samples.and_then(|samples| Projection::fit(&samples, k)).map_err(refuse)?;
    let mut scores = Vec::with_capacity(labels.len() * k);
    values.chunks_exact(level.dim).for_each(|row| projection.project(row, &mut scores));
    Ok((projection, scores))
}

/// Sum of the variances of all numbers of a level, divisor n - 1.
fn total_variance(level: &LevelCodes) -> f64 {
    let n = (level.mean.len() / level.dim.max(1)) as f64;
    let variance = |column: usize| {
        let values = || level.mean.iter().skip(column).step_by(level.dim);
        let mean = values().sum::<f64>() / n;
        values().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)
    };
    (0..level.dim).map(variance).sum()
}

fn figure(name: &str, [x, y]: [usize; 2], scores: &[f32], k: usize, labels: &[u8], classes: &[String]) -> Figure {
    let mut figure = Figure::new(format!("means of {name}"), format!("component {}", x + 1), format!("component {}", y + 1));
    let shade = |class: usize| spectral(class as f64 / (classes.len().max(2) - 1) as f64);
    for (row, &label) in scores.chunks_exact(k).zip(labels) {
        let points = vec![[f64::from(row[x]), f64::from(row[y])]];
        figure.layers.push(Layer::Points { points, colour: shade(usize::from(label)), opacity: 1.0, radius: 2 });
    }
    for (class, name) in classes.iter().enumerate() {
        figure.entry(name.as_str(), shade(class), Mark::Swatch);
    }
    figure
}

#[typetag::serde(name = "principal_components")]
impl AnalysisConfig for PrincipalComponents {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let (levels, labels) = level_codes(NAME, context, Split::Test, self.points)?;
        let classes = &context.data.info().classes;
        let mut figures = Vec::new();
        let mut results = Results::default();
        for (at, level) in levels.iter().enumerate() {
            let k = self.k.min(level.dim);
            let (projection, scores) = components(level, &labels, k)?;
            let total = total_variance(level);
            let explained: Vec<f64> = projection.variances.iter().map(|v| if total > 0.0 { v / total } else { 0.0 }).collect();
            for (number, (&variance, &share)) in projection.variances.iter().zip(&explained).enumerate() {
                let along = |measured: Measured, list: &str| {
                    measured.along("level", level.name.as_str()).along("component", number + 1).at(format!("levels/{at}/{list}/{number}"))
                };
                results.values.push(along(Measured::plain("variance", variance), "variances"));
                results.values.push(along(Measured::new("explained", share, "share", Direction::Neutral), "explained"));
            }
            let pairs = PAIRS.iter().filter(|pair| pair[1] < k);
            figures.extend(pairs.map(|&pair| figure(&level.name, pair, &scores, k, &labels, classes)));
            let scores: Vec<Value> = scores.chunks_exact(k).zip(&labels).map(|(row, label)| json!({"label": label, "at": row})).collect();
            let place = |key: &str| format!("levels/{at}/{key}");
            results = results.fact(place("level"), level.name.as_str()).fact(place("mean"), json!(projection.mean));
            results = results.fact(place("directions"), json!(projection.directions)).fact(place("scores"), scores);
        }
        let columns = figures.len().clamp(1, PAIRS.len());
        let size = (560 * columns as u32, 460 * figures.len().div_ceil(columns) as u32);
        let files = if figures.is_empty() {
            Vec::new()
        } else {
            vec![picture(context.output, "plots/principal-components.png", panels_png(&figures, columns, size))?]
        };
        Ok(results.fact("samples", labels.len()).with_files(files))
    }
}

ibhost_framework::register! {
    Analysis: PrincipalComponents as AnalysisConfig, aliases: [], paper: "Xiao & Bamler 2023, arXiv:2302.04855",
    example: "principal_components/k:2", needs: [Encode],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Bars, Fixture, Shape};

    #[test]
    fn components_are_centred_uncorrelated_and_explain_what_they_say() {
        let fixture = Fixture::new(Shape::Diagonal, 300);
        let report = PrincipalComponents::default().run(&fixture.context()).unwrap();
        let level = &report.json()["levels"][0];
        let numbers = |value: &Value| value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<f64>>();
        let rows: Vec<Vec<f64>> = level["scores"].as_array().unwrap().iter().map(|row| numbers(&row["at"])).collect();
        let (variances, explained, n) = (numbers(&level["variances"]), numbers(&level["explained"]), rows.len() as f64);
        assert!(rows.len() == 300 && variances.windows(2).all(|v| v[0] >= v[1]) && explained.iter().sum::<f64>() <= 1.0 + 1e-6);
        for a in 0..variances.len() {
            let column = |c: usize| rows.iter().map(move |row| row[c]);
            assert!((column(a).sum::<f64>() / n).abs() < 1e-4 * variances[0].sqrt());
            for (b, _) in variances.iter().enumerate() {
                let product = column(a).zip(column(b)).map(|(x, y)| x * y).sum::<f64>() / (n - 1.0);
                let expected = if a == b { variances[a] } else { 0.0 };
                assert!((product - expected).abs() < 2e-3 * variances[0], "{a} {b}: {product}, not {expected}");
            }
        }
        assert_eq!(report.table().len(), 1 + variances.len());
        assert!(report.files.iter().all(|file| file.is_file()) && report.files.len() == usize::from(variances.len() > 1));
    }

    #[test]
    fn too_few_samples_are_refused() {
        let fixture = Fixture::on(Shape::Diagonal, Bars::new("bars", [1, 8, 8], 300), 6);
        let error = PrincipalComponents { points: 5, k: 4096 }.run(&fixture.context());
        assert!(error.is_err_and(|e| e.to_string().contains("use a smaller k")));
    }
}
