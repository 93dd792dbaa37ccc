//! Analysis `cifar10c`: accuracy on CIFAR-10-C.

use std::path::Path;

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Results, Sources};
use ibhost_framework::capability::Classify;
use ibhost_framework::dataset::{DataError, DataRoot, Split};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{BATCH, not_empty};
use crate::npy::Array;
use crate::robustness::corruption::{Counter, find_categories, need_data_set};

const NAME: &str = "cifar10c";

/// Severities of each corruption, in order in the files.
const SEVERITIES: usize = 5;

/// The fifteen corruptions of the tables.
pub const CATEGORIES: [&str; 15] = [
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
];

/// Corruptions that are published beside the fifteen.
pub const EXTRA_CATEGORIES: [&str; 4] = ["gaussian_blur", "saturate", "spatter", "speckle_noise"];

/// Accuracy on the corrupted images of CIFAR-10-C, category by category and severity by severity.
///
/// Reads `CIFAR-10-C/<category>.npy` and `labels.npy` below the data folder (nineteen corruptions, five severities of 10,000 images each
/// when complete; the labels must repeat from severity to severity), scaled as the run's own data. Reported is the share of images classified right by the class probabilities averaged
/// over L codes, also on the clean test set. A folder with some of the categories is enough; the result lists those found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Cifar10C {
    /// Numbers of codes the prediction is averaged over.
    #[schemars(length(min = 1, max = 16), inner(range(min = 1, max = 10_000)))]
    pub l: Vec<usize>,
}

impl Default for Cifar10C {
    fn default() -> Self {
        Self { l: vec![1, 12] }
    }
}

#[typetag::serde(name = "cifar10c")]
impl AnalysisConfig for Cifar10C {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let counter = Counter { model: context.require::<Classify>(NAME)?, context, l: &self.l };
        need_data_set(context, NAME, "cifar10", [3, 32, 32])?;
        let test = context.data.split(Split::Test);
        not_empty(test, NAME)?;
        let folder = context.library.root().join("CIFAR-10-C");
        let known: Vec<&'static str> = CATEGORIES.into_iter().chain(EXTRA_CATEGORIES).collect();
        let found = find_categories(&folder, &known, "fog.npy", |folder, category| folder.join(format!("{category}.npy")).is_file())?;
        let labels = Array::open(&folder.join("labels.npy"))?.labels(context.data.info().classes.len())?;
        check_repeated(&folder.join("labels.npy"), &labels)?;
        let clean = counter.samples(test, &format!("{NAME}/clean"))?;
        let mut results =
            Results::of(counter.measured(&clean, test.len(), "clean_image", &[("category", "clean".into()), ("severity", 0.into())]));
        for category in found {
            let mut images = Array::open(&folder.join(format!("{category}.npy")))?;
            let count = images.expect_bytes(&[32, 32, 3])?;
            if count != labels.len() || count % SEVERITIES != 0 {
                return Err(DataError::Inconsistent(format!(
                    "`{}` has {count} images, `labels.npy` beside it {} labels; both must be the same multiple of {SEVERITIES}",
                    images.path.display(),
                    labels.len()
                ))
                .into());
            }
            let per_severity = count / SEVERITIES;
            for (at, labels) in labels.chunks(per_severity.max(1)).enumerate() {
                let severity = at + 1;
                let correct = counter.file(&mut images, labels, &format!("{NAME}/{category}/{severity}"))?;
                tracing::info!(category, severity, images = per_severity, ?correct, "CIFAR-10-C");
                let axes = [("category", category.into()), ("severity", severity.into())];
                results.values.extend(counter.measured(&correct, per_severity, &format!("categories/{category}/{at}/metrics"), &axes));
                results = results.fact(format!("categories/{category}/{at}/severity"), severity);
            }
        }
        Ok(results.fact("batch_size", BATCH))
    }

    fn sources(&self, _run_dir: &Path, _root: &DataRoot) -> Result<Option<Sources>, AnalysisError> {
        // The corrupted images are other data than the run's.
        Ok(None)
    }
}

/// Refuses labels that are not the same for each of the five severities: a file of one severity has as many images as labels, too, and its
/// fifths would pass for severities.
fn check_repeated(path: &Path, labels: &[u8]) -> Result<(), DataError> {
    let count = labels.len() / SEVERITIES;
    let other = labels.chunks(count.max(1)).skip(1).position(|fifth| fifth != &labels[..count]);
    match other {
        Some(severity) if labels.len().is_multiple_of(SEVERITIES) => Err(DataError::Inconsistent(format!(
            "`{}`: the labels of severity {} are not those of severity 1, so its {} labels are no {SEVERITIES} severities of the same {count} \
             images\n  hint: use the published files, in which the {SEVERITIES} severities follow one another",
            path.display(),
            severity + 2,
            labels.len()
        ))),
        // Another number is refused together with the images.
        _ => Ok(()),
    }
}

ibhost_framework::register! {
    Analysis: Cifar10C as AnalysisConfig,
    paper: "Hendrycks & Dietterich 2019, arXiv:1903.12261; tables of Banerjee & Montúfar 2020, arXiv:1810.11677",
    example: "cifar10c/l:[1;12]",
    needs: [Classify],
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::fixture::{Bars, Fixture, Shape};
    use crate::npy::testing::{write, write_by_column};
    use ibhost_framework::dataset::Dataset;

    #[test]
    fn severities_are_measured_one_after_the_other() {
        let fixture = Fixture::on(Shape::Point, Bars::new("cifar10", [3, 32, 32], 50), 6);
        let test = fixture.data.split(Split::Test);
        let mut values = Vec::new();
        test.gather(&(0..50).collect::<Vec<_>>(), &mut values);
        let mut stored = Vec::new();
        for severity in 0..5 {
            for image in values.chunks_exact(3 * 1024) {
                // From severity 3 on nothing but grey is left.
                let byte = |v: f32| if severity < 2 { ((v + 1.0) * 127.5).round() as u8 } else { 90 };
                stored.extend((0..1024).flat_map(|p| [0, 1, 2].map(|c| byte(image[c * 1024 + p]))));
            }
        }
        let labels: Vec<u8> = (0..5).flat_map(|_| test.labels()).collect();
        let folder = fixture.library.root().join("CIFAR-10-C");
        write(&folder.join("snow.npy"), &[250, 32, 32, 3], &stored);
        write(&folder.join("labels.npy"), &[250], &labels);
        let report = Cifar10C { l: vec![1, 3] }.run(&fixture.context()).unwrap();
        let accuracy = |v: &Value| v[1]["accuracy"].as_f64().unwrap();
        let snow: Vec<f64> = report.json()["categories"]["snow"].as_array().unwrap().iter().map(|s| accuracy(&s["metrics"])).collect();
        let clean = accuracy(&report.json()["clean_image"]);
        assert!(clean > 0.9 && snow[0] == clean && snow[1] == clean, "{:?}", report.table());
        assert!(snow[2..].iter().all(|a| (a - 0.1).abs() < 1e-9));
        assert_eq!(report.table().len(), 13);
        // The same in the order of columns, with a column of other integers for labels.
        write(&folder.join("labels.npy"), &[250, 1], &labels.iter().map(|&label| i64::from(label)).collect::<Vec<_>>());
        write_by_column(&folder.join("snow.npy"), &[250, 32, 32, 3], &stored);
        let columns = Cifar10C { l: vec![1, 3] }.run(&fixture.context()).unwrap();
        assert_eq!(columns.json(), report.json());
        write(&folder.join("labels.npy"), &[245], &(0..5).flat_map(|_| labels[..49].to_vec()).collect::<Vec<u8>>());
        let error = Cifar10C::default().run(&fixture.context()).unwrap_err().to_string();
        assert!(error.contains("snow.npy") && error.contains("250 images") && error.contains("245 labels"), "{error}");
    }

    #[test]
    fn one_severity_does_not_pass_for_five() {
        let fixture = Fixture::on(Shape::Point, Bars::new("cifar10", [3, 32, 32], 50), 6);
        let folder = fixture.library.root().join("CIFAR-10-C");
        let labels: Vec<u8> = (0..20).map(|i| i * 7 % 10).collect();
        write(&folder.join("fog.npy"), &[20, 32, 32, 3], &vec![9u8; 20 * 3072]);
        write(&folder.join("labels.npy"), &[20], &labels);
        let error = Cifar10C::default().run(&fixture.context()).unwrap_err().to_string();
        for part in ["labels.npy", "severity 2", "20 labels", "same 4 images", "hint:"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(check_repeated(Path::new("l"), &[1, 2, 1, 2, 1, 2, 1, 2, 1, 2]).is_ok());
        assert!(check_repeated(Path::new("l"), &[1, 2, 1, 2, 1, 2, 1, 2, 1, 3]).unwrap_err().to_string().contains("severity 5"));
        assert!(check_repeated(Path::new("l"), &[]).is_ok());
    }
}
