//! Analysis `embedding`: UMAP or t-SNE map of the posteriors of the test samples, and the files of TensorBoard's projector.

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Output, Results};
use ibhost_framework::capability::Encode;
use ibhost_framework::dataset::Split;
use ibhost_framework::noise::Noise;
use ibhost_framework::storage::StorageError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;

use crate::figures::plot::colour::spectral;
use crate::figures::plot::{Figure, Layer, Mark, png};
use crate::figures::{tsne, umap};
use crate::model::{Codes, encode, not_empty};
use crate::output::{picture, write};
use crate::probes::neighbours::nearest;

const NAME: &str = "embedding";
/// Half the size of the published maps.
const LIMIT: f64 = 10.0;
/// Folder of the projector's files, and what they are called.
const PROJECTOR: &str = "tensorboard/test";
const VECTORS: &str = "embedding-vec";
const META: &str = "embedding-meta";

/// How the map is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// UMAP of the `neighbours` nearest posteriors.
    #[default]
    Umap,
    /// t-SNE of perplexity `perplexity`.
    Tsne,
}

/// Distance between two posteriors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Euclidean distance of the means.
    #[default]
    Euclidean,
    /// Squared 2-Wasserstein distance of the diagonal normal distributions, |mean difference|^2 + |sigma difference|^2.
    W2,
}

/// UMAP or t-SNE map of the posteriors of all test samples, coloured by class.
///
/// Writes `analyses/umap-embedding.png` (`umap-embedding-w2.png` for the metric w2, `tsne-embedding...` for t-SNE) and, for TensorBoard's
/// projector, the posterior means with their labels: `tensorboard/test/embedding-vec.tsv`, `embedding-meta.tsv` and `projector_config.pbtxt`.
/// Distances are between codes as they are, without scaling. The metric `w2` compares standard deviations too; of a full covariance it uses the diagonal. Neighbours are exact, the start is the first two
/// principal components, every draw follows the seed. The map is centred; its axes are ±10, or wider when the map is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Embedding {
    /// How the map is made.
    pub method: Method,
    /// Distance between posteriors.
    pub metric: Metric,
    /// Neighbours of each point, itself included (UMAP).
    #[schemars(range(min = 2, max = 1000))]
    pub neighbours: usize,
    /// Smallest distance between points of the map (UMAP).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_dist: f64,
    /// Number of neighbours a point effectively has (t-SNE).
    #[schemars(range(min = 1.0, max = 1000.0))]
    pub perplexity: f64,
    /// Use only the first test samples.
    #[schemars(range(min = 3, max = 10_000_000))]
    pub points: Option<usize>,
}

impl Default for Embedding {
    fn default() -> Self {
        Self { method: Method::Umap, metric: Metric::Euclidean, neighbours: 15, min_dist: 0.1, perplexity: 30.0, points: None }
    }
}

impl Embedding {
    /// What distances are measured between: means, or means and standard deviations side by side.
    fn rows(&self, codes: &Codes) -> (Vec<f32>, usize) {
        let single = |values: &[f64]| values.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        match self.metric {
            Metric::Euclidean => (single(&codes.means), codes.latent),
            Metric::W2 => {
                let pairs = codes.means.chunks_exact(codes.latent).zip(codes.deviations.chunks_exact(codes.latent));
                (pairs.flat_map(|(mean, sigma)| [single(mean), single(sigma)].concat()).collect(), 2 * codes.latent)
            }
        }
    }

    /// One point per row of `dim` values.
    fn map(&self, rows: &[f32], dim: usize, noise: Noise) -> Result<Vec<[f64; 2]>, String> {
        let start = umap::principal_start(rows, dim, noise);
        let mut map = match self.method {
            Method::Umap => {
                let neighbours = nearest(rows, dim, self.neighbours);
                let distances: Vec<f32> = match self.metric {
                    Metric::Euclidean => neighbours.squared.iter().map(|d| d.sqrt()).collect(),
                    // Squared on purpose, as the published maps have it.
                    Metric::W2 => neighbours.squared.clone(),
                };
                umap::layout(&neighbours, &distances, &start, self.min_dist, noise)?
            }
            Method::Tsne => tsne::layout(&nearest(rows, dim, tsne::neighbours_needed(self.perplexity)), &start, self.perplexity)?,
        };
        centre(&mut map);
        Ok(map)
    }
}

#[typetag::serde(name = "embedding")]
impl AnalysisConfig for Embedding {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let model = context.require::<Encode>(NAME)?;
        let test = context.data.split(Split::Test);
        not_empty(test, NAME)?;
        let indices: Vec<usize> = (0..test.len().min(self.points.unwrap_or(usize::MAX))).collect();
        let codes = encode(NAME, model, test, &indices, context)?;
        codes.need_finite(NAME)?;
        let labels: Vec<u8> = indices.iter().map(|&i| test.label(i)).collect();
        let mut files = projector_files(context, &codes, &labels)?;

        let (rows, dim) = self.rows(&codes);
        let map = self.map(&rows, dim, Noise::new(context.seed)).map_err(AnalysisError::Request)?;

        let (suffix, metric) = match self.metric {
            Metric::Euclidean => ("", "Euclidean distance of the means"),
            Metric::W2 => ("-w2", "squared 2-Wasserstein distance"),
        };
        let (stem, name) = match self.method {
            Method::Umap => ("umap", "UMAP"),
            Method::Tsne => ("tsne", "t-SNE"),
        };
        let classes = &context.data.info().classes;
        let limit = map.iter().flatten().fold(LIMIT, |limit, x| limit.max((1.03 * x.abs()).ceil()));
        let mut figure = Figure::new(format!("{}: {metric}", context.label), format!("{name} 1"), format!("{name} 2")).within(limit);
        let shade = |class: usize| spectral(class as f64 / (classes.len().max(2) - 1) as f64);
        for (point, &label) in map.iter().zip(&labels) {
            let colour = shade(usize::from(label));
            figure.layers.push(Layer::Points { points: vec![*point], colour, opacity: 1.0, radius: 2 });
        }
        for (class, name) in classes.iter().enumerate() {
            figure.entry(name.as_str(), shade(class), Mark::Swatch);
        }
        files.insert(0, picture(context.output, &format!("analyses/{stem}-embedding{suffix}.png"), png(&figure, (900, 700)))?);
        let points: Vec<Value> = map.iter().zip(&labels).map(|(p, label)| json!([p[0], p[1], label])).collect();
        let results = Results::default().fact("points", indices.len()).fact("latent", codes.latent).fact("method", json!(self.method));
        let results = results.fact("metric", json!(self.metric)).fact("neighbours", self.neighbours).fact("min_dist", self.min_dist);
        Ok(results.fact("perplexity", self.perplexity).fact("map", points).with_files(files))
    }
}

fn centre(map: &mut [[f64; 2]]) {
    let n = map.len().max(1) as f64;
    let middle = [0, 1].map(|c| map.iter().map(|p| p[c]).sum::<f64>() / n);
    for p in map.iter_mut() {
        *p = [p[0] - middle[0], p[1] - middle[1]];
    }
}

fn projector_files(context: &AnalysisContext<'_>, codes: &Codes, labels: &[u8]) -> Result<Vec<std::path::PathBuf>, AnalysisError> {
    let mut vectors = String::new();
    for i in 0..codes.len() {
        for (k, x) in codes.mean(i).iter().enumerate() {
            let separator = if k == 0 { "" } else { "\t" };
            // Writing to a string cannot fail.
            let _ = write!(vectors, "{separator}{x}");
        }
        vectors.push('\n');
    }
    let mut meta = String::new();
    for label in labels {
        let _ = writeln!(meta, "{label}");
    }
    let mut files = vec![
        write(context.output, &format!("{PROJECTOR}/{VECTORS}.tsv"), vectors.as_bytes())?,
        write(context.output, &format!("{PROJECTOR}/{META}.tsv"), meta.as_bytes())?,
    ];
    // The projector reads one file of this name, which lists the codes of all settings.
    let all = Output::of_run(&context.output.folder);
    files.push(write(&all, &format!("{PROJECTOR}/projector_config.pbtxt"), projector_config(&all.path(PROJECTOR))?.as_bytes())?);
    Ok(files)
}

/// An entry for each file of codes in `folder`.
fn projector_config(folder: &Path) -> Result<String, AnalysisError> {
    let failed = |source| StorageError::Io { action: "list", path: folder.to_path_buf(), source };
    let mut suffixes = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let suffix = name.strip_prefix(VECTORS).and_then(|rest| rest.strip_suffix(".tsv"));
        let plain = |suffix: &&str| suffix.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        suffixes.extend(suffix.filter(plain).map(str::to_owned));
    }
    suffixes.sort();
    let entry = |suffix: &String| {
        format!(
            "embeddings {{\n  tensor_name: \"posterior means{suffix}\"\n  tensor_path: \"{VECTORS}{suffix}.tsv\"\n  metadata_path: \
             \"{META}{suffix}.tsv\"\n}}\n"
        )
    };
    Ok(suffixes.iter().map(entry).collect())
}

ibhost_framework::register! {
    Analysis: Embedding as AnalysisConfig,
    paper: "Banerjee & Montúfar 2020, arXiv:1810.11677; UMAP: McInnes et al. 2018, arXiv:1802.03426; t-SNE: van der Maaten 2014",
    example: "embedding/metric:euclidean|neighbours:15|min_dist:0.1",
    needs: [Encode],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::plot::{decode_png, show};
    use crate::fixture::{Bars, Fixture, Shape};
    use crate::generation::wasserstein::squared_w2;

    #[test]
    fn map_and_projector_files_are_written() {
        let fixture = Fixture::on(Shape::Diagonal, Bars::new("bars", [1, 8, 8], 500), 6);
        for metric in [Metric::Euclidean, Metric::W2] {
            let config = Embedding { metric, points: Some(400), ..Embedding::default() };
            let report = config.run(&fixture.context()).unwrap();
            let bytes = std::fs::read(&report.files[0]).unwrap();
            show(&format!("embedding-{metric:?}.png"), &bytes);
            assert_eq!(decode_png(&bytes).0, (900, 700));
            assert_eq!(report.json()["map"].as_array().unwrap().len(), 400);
            assert_eq!(config.run(&fixture.context()).unwrap().json(), report.json());
            let vectors = std::fs::read_to_string(&report.files[1]).unwrap();
            assert_eq!(vectors.lines().count(), 400);
            assert!(vectors.lines().all(|line| line.split('\t').filter(|x| x.parse::<f64>().is_ok()).count() == 6));
            let meta = std::fs::read_to_string(&report.files[2]).unwrap();
            assert!(meta.starts_with("0\n1\n2\n") && meta.lines().count() == 400);
        }
    }

    #[test]
    fn rows_of_w2_have_its_distance() {
        let codes = Codes { latent: 2, means: vec![0.0, 1.0, 3.0, 1.5], deviations: vec![0.5, 2.0, 1.0, 0.1], covariances: Vec::new() };
        let (rows, dim) = Embedding { metric: Metric::W2, ..Embedding::default() }.rows(&codes);
        let euclidean: f64 = (0..dim).map(|k| f64::from(rows[k] - rows[dim + k]).powi(2)).sum();
        let variances: Vec<f64> = codes.deviations.iter().map(|s| s * s).collect();
        let w2 = squared_w2(&codes.means[..2], &variances[..2], &codes.means[2..], &variances[2..]);
        assert!((euclidean - w2).abs() < 1e-5, "{euclidean} {w2}");
    }

    #[test]
    fn the_projector_is_told_of_the_codes_of_all_settings() {
        let fixture = Fixture::on(Shape::Diagonal, Bars::new("bars", [1, 8, 8], 60), 3);
        Embedding::default().run(&fixture.context()).unwrap();
        let output = Output { suffix: "-best".to_owned(), ..fixture.output.clone() };
        let context = AnalysisContext { output: &output, ..fixture.context() };
        let report = Embedding { neighbours: 5, ..Embedding::default() }.run(&context).unwrap();
        assert!(report.files[0].ends_with("analyses/umap-embedding-best.png"), "{:?}", report.files);
        let config = std::fs::read_to_string(fixture.run_dir().join("tensorboard/test/projector_config.pbtxt")).unwrap();
        let paths: Vec<&str> = config.lines().filter(|line| line.contains("_path")).map(str::trim).collect();
        let [vectors, meta] = ["tensor_path: \"embedding-vec", "metadata_path: \"embedding-meta"];
        let expected = ["", "-best"].map(|suffix| [format!("{vectors}{suffix}.tsv\""), format!("{meta}{suffix}.tsv\"")]).concat();
        assert_eq!(paths, expected);
        for (file, lines) in [("embedding-vec.tsv", 60), ("embedding-vec-best.tsv", 60)] {
            assert_eq!(std::fs::read_to_string(fixture.run_dir().join("tensorboard/test").join(file)).unwrap().lines().count(), lines);
        }
    }

    #[test]
    fn the_map_of_tsne_has_its_own_file() {
        let fixture = Fixture::on(Shape::Diagonal, Bars::new("bars", [1, 8, 8], 200), 6);
        let config = Embedding { method: Method::Tsne, perplexity: 10.0, ..Embedding::default() };
        let report = config.run(&fixture.context()).unwrap();
        assert!(report.files[0].ends_with("tsne-embedding.png"));
        show("embedding-tsne.png", &std::fs::read(&report.files[0]).unwrap());
        assert_eq!(report.json()["map"].as_array().unwrap().len(), 200);
        let error = Embedding { perplexity: 100.0, ..config }.run(&fixture.context()).unwrap_err().to_string();
        assert!(error.contains("200 points") && error.contains("perplexity"), "{error}");
    }

    #[test]
    fn too_few_points_are_an_error() {
        let fixture = Fixture::new(Shape::Full, 10);
        let error = Embedding::default().run(&fixture.context()).unwrap_err().to_string();
        assert!(error.contains("10 points"), "{error}");
    }
}
