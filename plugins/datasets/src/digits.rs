//! The 1,797 small handwritten digits embedded in the program.

use std::io::Read;
use std::sync::Arc;

use flate2::read::GzDecoder;
use ibhost_framework::dataset::{DataError, DataInfo, DataRoot, Dataset, DatasetConfig, Samples, Values};
use ibhost_framework::noise::Noise;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::image::{ImageDataset, names};
use crate::scaling::{DigitsScale, to_scaling};
use crate::view::View;

/// Gzip of the pixels (0 to 16) of all samples followed by all labels.
static PACKED: &[u8] = include_bytes!("../assets/digits.bin.gz");

const SAMPLES: usize = 1797;
/// Edge of an image.
pub(crate) const SIDE: usize = 8;
const PIXELS: usize = SIDE * SIDE;
const TEST_SAMPLES: usize = 360;

/// Digits: 1,797 handwritten digits, 8x8 grey, ten classes, part of the program.
///
/// The digits of scikit-learn, raw values 0 to 16. Fixed split of 1,437 training and 360 test samples: each class gives its share of
/// 360 test samples, fractions going to the classes that lose most by rounding down (the smaller class number first when equal);
/// within a class the test samples are the first ones of the permutation drawn from noise seed 0, purpose
/// `digits split`, step = class number. Both splits keep the published order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DigitsConfig {
    /// How stored values become model inputs.
    pub scale: DigitsScale,
    /// Which samples are used.
    #[serde(flatten)]
    pub view: View,
}

#[typetag::serde(name = "digits")]
impl DatasetConfig for DigitsConfig {
    fn load(&self, _root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
        let (pixels, labels) = unpack()?;
        let (train, test) = split(&labels);
        let all = Samples::new(Values::U8(Arc::new(pixels)), labels, [1, 8, 8], to_scaling(&[self.scale.affine()]))?;
        let info = DataInfo {
            name: "digits".to_owned(),
            classes: names(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]),
            shape: [1, 8, 8],
            note: None,
            class_entropy: None,
        };
        Ok(Box::new(ImageDataset::new(info, all.select(&train)?, all.select(&test)?, &self.view)?))
    }
}

ibhost_framework::register! {
    Dataset: DigitsConfig as DatasetConfig, aliases: [], paper: "Alpaydin and Kaynak 1998", example: "digits/scale:unit", default: true
}

/// Pixels and labels in the published order.
pub(crate) fn unpack() -> Result<(Vec<u8>, Vec<u8>), DataError> {
    let mut pixels = Vec::with_capacity(SAMPLES * (PIXELS + 1));
    let read = GzDecoder::new(PACKED).read_to_end(&mut pixels);
    if read.is_err() || pixels.len() != SAMPLES * (PIXELS + 1) {
        return Err(DataError::Inconsistent("the embedded digits are damaged; build the program anew".to_owned()));
    }
    let labels = pixels.split_off(SAMPLES * PIXELS);
    Ok((pixels, labels))
}

/// Ascending positions of the training and of the test samples, by the rule in the documentation of [`DigitsConfig`].
fn split(labels: &[u8]) -> (Vec<usize>, Vec<usize>) {
    let mut members = vec![Vec::new(); 10];
    for (index, &label) in labels.iter().enumerate() {
        members[usize::from(label)].push(index);
    }
    let mut counts: Vec<usize> = members.iter().map(|class| class.len() * TEST_SAMPLES / labels.len()).collect();
    let mut by_loss: Vec<usize> = (0..members.len()).collect();
    by_loss.sort_by_key(|&class| std::cmp::Reverse(members[class].len() * TEST_SAMPLES % labels.len()));
    let left = TEST_SAMPLES - counts.iter().sum::<usize>();
    for &class in by_loss.iter().take(left) {
        counts[class] += 1;
    }
    let mut is_test = vec![false; labels.len()];
    for (class, indices) in members.iter().enumerate() {
        let order = Noise::new(0).stream("digits split", class as u64).permutation(indices.len());
        for &chosen in &order[..counts[class]] {
            is_test[indices[chosen]] = true;
        }
    }
    (0..labels.len()).partition(|&index| !is_test[index])
}

#[cfg(test)]
mod tests {
    use ibhost_framework::dataset::Split;

    use super::*;
    use crate::image::real_data;

    fn load() -> Box<dyn Dataset> {
        DigitsConfig::default().load(&DataRoot("/nowhere".into())).unwrap()
    }

    #[test]
    fn sizes_range_and_classes() {
        let data = load();
        let (train, test) = (data.split(Split::Train), data.split(Split::Test));
        assert_eq!((train.len(), test.len(), train.shape()), (1437, 360, [1, 8, 8]));
        assert_eq!(train.value_range(), (-1.0, 1.0));
        let count = |samples: &Samples, class| samples.labels().into_iter().filter(|&label| label == class).count();
        for class in 0..10 {
            let (a, b) = (count(train, class), count(test, class));
            assert!((a + b).abs_diff(5 * b) <= 5, "class {class}: {a} and {b}");
        }
    }

    #[test]
    fn the_split_never_moves() {
        let (_, labels) = unpack().unwrap();
        let (train, test) = split(&labels);
        assert_eq!(train.len() + test.len(), SAMPLES);
        assert!(train.is_sorted() && test.is_sorted());
        assert_eq!(test.iter().sum::<usize>(), 309_334);
        assert_eq!(test[..5], [6, 8, 23, 24, 29]);
    }

    #[test]
    fn embedded_values_equal_the_published_file() {
        let Some(root) = real_data("optdigits") else { return };
        let (pixels, labels) = unpack().unwrap();
        let text = std::fs::read_to_string(root.join("optdigits/optdigits.tes")).unwrap();
        let rows: Vec<Vec<u8>> = text.lines().map(|line| line.split(',').map(|x| x.trim().parse().unwrap()).collect()).collect();
        assert_eq!(rows.len(), SAMPLES);
        for (index, row) in rows.iter().enumerate() {
            assert_eq!(row[..PIXELS], pixels[index * PIXELS..(index + 1) * PIXELS], "sample {index}");
            assert_eq!(row[PIXELS], labels[index]);
        }
    }

    #[test]
    fn configuration_round_trips() {
        let view = View { folds: Some(5), fold: 2, ..View::default() };
        let config: Box<dyn DatasetConfig> = Box::new(DigitsConfig { scale: DigitsScale::Unit, view });
        let text = serde_json::to_string(&config).unwrap();
        let back: Box<dyn DatasetConfig> = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
        assert!(text.contains("\"name\":\"digits\"") && text.contains("\"folds\":5"), "{text}");
    }
}
