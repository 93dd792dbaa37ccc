//! Analysis `mnistc`: accuracy on MNIST-C.

use std::path::Path;

use ibhost_framework::analysis::{AnalysisConfig, AnalysisContext, AnalysisError, Results, Sources};
use ibhost_framework::capability::Classify;
use ibhost_framework::dataset::{DataError, DataRoot};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::BATCH;
use crate::npy::Array;
use crate::robustness::corruption::{Counter, find_categories, need_data_set};

const NAME: &str = "mnistc";

/// The fifteen corruptions of the tables.
pub const CATEGORIES: [&str; 15] = [
    "shot_noise",
    "impulse_noise",
    "glass_blur",
    "motion_blur",
    "shear",
    "scale",
    "rotate",
    "brightness",
    "translate",
    "stripe",
    "fog",
    "spatter",
    "dotted_line",
    "canny_edges",
    "zigzag",
];

/// Accuracy on the corrupted digits of MNIST-C, category by category.
///
/// Reads `mnist_c/<category>/test_{images,labels}.npy` below the data folder (fifteen corruptions and `identity`, 10,000 images each when
/// complete), scaled as the run's own data. Reported is the share of images classified right by the class probabilities averaged over L
/// codes. A folder with some of the categories is enough; the result lists those found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MnistC {
    /// Numbers of codes the prediction is averaged over.
    #[schemars(length(min = 1, max = 16), inner(range(min = 1, max = 10_000)))]
    pub l: Vec<usize>,
}

impl Default for MnistC {
    fn default() -> Self {
        Self { l: vec![1, 12] }
    }
}

#[typetag::serde(name = "mnistc")]
impl AnalysisConfig for MnistC {
    fn run(&self, context: &AnalysisContext<'_>) -> Result<Results, AnalysisError> {
        let counter = Counter { model: context.require::<Classify>(NAME)?, context, l: &self.l };
        need_data_set(context, NAME, "mnist", [1, 28, 28])?;
        let folder = context.library.root().join("mnist_c");
        let mut known = CATEGORIES.to_vec();
        known.push("identity");
        let found = find_categories(&folder, &known, "fog/test_images.npy", |folder, category| folder.join(category).is_dir())?;
        let mut results = Results::default();
        for category in found {
            let place = folder.join(category);
            let mut images = Array::open(&place.join("test_images.npy"))?;
            let count = images.expect_bytes(&[28, 28, 1])?;
            let labels = Array::open(&place.join("test_labels.npy"))?;
            let shape = labels.shape.clone();
            let labels = labels.labels(context.data.info().classes.len())?;
            if labels.len() != count {
                let problem = format!("`{}` has labels of shape {shape:?}, but there are {count} images beside it", place.display());
                return Err(DataError::Inconsistent(problem).into());
            }
            let correct = counter.file(&mut images, &labels, &format!("{NAME}/{category}"))?;
            tracing::info!(category, images = count, ?correct, "MNIST-C");
            results.values.extend(counter.measured(&correct, count, &format!("categories/{category}"), &[("category", category.into())]));
        }
        Ok(results.fact("batch_size", BATCH))
    }

    fn sources(&self, _run_dir: &Path, _root: &DataRoot) -> Result<Option<Sources>, AnalysisError> {
        // The corrupted images are other data than the run's.
        Ok(None)
    }
}

ibhost_framework::register! {
    Analysis: MnistC as AnalysisConfig,
    paper: "Mu & Gilmer 2019, arXiv:1906.02337; tables of Banerjee & Montúfar 2020, arXiv:1810.11677",
    example: "mnistc/l:[1;12]",
    needs: [Classify],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Bars, Fixture, Shape};
    use crate::npy::testing::write;
    use ibhost_framework::dataset::{Dataset, Split};

    fn bytes_of(fixture: &Fixture, n: usize) -> (Vec<u8>, Vec<i64>) {
        let test = fixture.data.split(Split::Test);
        let mut values = Vec::new();
        test.gather(&(0..n).collect::<Vec<_>>(), &mut values);
        (values.iter().map(|v| ((v + 1.0) * 127.5).round() as u8).collect(), (0..n).map(|i| i64::from(test.label(i))).collect())
    }

    #[test]
    fn categories_on_disk_are_measured_and_named() {
        let fixture = Fixture::on(Shape::Point, Bars::new("mnist", [1, 28, 28], 1100), 4);
        let (images, labels) = bytes_of(&fixture, 1100);
        let dark = vec![0u8; images.len()];
        for (category, pixels) in [("identity", &images), ("fog", &dark)] {
            let place = fixture.library.root().join("mnist_c").join(category);
            write(&place.join("test_images.npy"), &[1100, 28, 28, 1], pixels);
            // A column is as good as a row.
            let shape: &[u64] = if category == "fog" { &[1100, 1] } else { &[1100] };
            write(&place.join("test_labels.npy"), shape, &labels);
        }
        let report = MnistC { l: vec![1] }.run(&fixture.context()).unwrap();
        let accuracy = |category: &str| report.json()["categories"][category][0]["accuracy"].as_f64().unwrap();
        assert_eq!(report.json()["categories"].as_object().unwrap().len(), 2);
        assert!(accuracy("identity") > 0.9 && (accuracy("fog") - 0.1).abs() < 1e-9, "{:?}", report.table());
        assert_eq!(report.table()[1][..2], ["fog".to_owned(), "1".to_owned()]);
    }

    #[test]
    fn missing_and_damaged_files_are_named() {
        let fixture = Fixture::on(Shape::Point, Bars::new("mnist", [1, 28, 28], 20), 2);
        let fails = || MnistC::default().run(&fixture.context()).unwrap_err().to_string();
        assert!(fails().contains("mnist_c"));
        let place = fixture.library.root().join("mnist_c/fog");
        write(&place.join("test_images.npy"), &[20, 28, 28], &vec![0u8; 20 * 784]);
        assert!(fails().contains("test_images.npy") && fails().contains("[28, 28, 1]"));
        write(&place.join("test_images.npy"), &[20, 28, 28, 1], &vec![0u8; 20 * 784]);
        assert!(fails().contains("test_labels.npy"));
        write(&place.join("test_labels.npy"), &[19], &[0i64; 19]);
        assert!(fails().contains("[19]") && fails().contains("20 images"));
        let other = Fixture::new(Shape::Point, 20);
        assert!(MnistC::default().run(&other.context()).unwrap_err().to_string().contains("this run used `bars`"));
    }
}
