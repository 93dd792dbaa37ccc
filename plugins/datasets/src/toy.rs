//! Data set `toy`: mixtures of normals drawn afresh for every step, with their density.

use std::sync::Arc;

use ibhost_framework::dataset::{DataError, DataInfo, DataRoot, Dataset, DatasetConfig, KnownDensity, Samples, Scaling, Split, Values};
use ibhost_framework::noise::{Noise, Stream};
use ibhost_framework::room::check;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mixture::Mixture;

/// Toy mixtures of normals: k components on a circle and one at the origin, or the pixels of a text.
///
/// `toy/k:4` is the published `toy4`, `toy/k:4|d:20` is `toy4_20`, `toy/text:MIM` is `toyMIM`; labels are component numbers. Every training
/// step and every evaluation draws fresh samples; the stored splits (for analyses) are drawn once from fixed streams. With n components
/// on the circle set sigma is 1.25/n; the angles are 2 pi i / n although one of the n components is at the origin (`even_angles:true`
/// closes the gap). From the third dimension on, the means are evenly spaced numbers between -10 n and 10 n. A negative k leaves the origin
/// out. `pairs:true` gives samples of two channels, two draws of one component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ToyConfig {
    /// Components on the circle; the origin is one more unless k is negative.
    #[schemars(range(min = -200, max = 200))]
    pub k: i64,
    /// Dimensions; text needs 2.
    #[schemars(range(min = 1, max = 4096))]
    pub d: usize,
    /// Printable ASCII text whose pixels are the components, instead of k.
    pub text: Option<String>,
    /// Samples of an epoch and of the test split.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub samples: usize,
    /// Space the k components evenly instead of with the published gap.
    pub even_angles: bool,
    /// Two draws of the same component a sample.
    pub pairs: bool,
}

impl Default for ToyConfig {
    fn default() -> Self {
        Self { k: 4, d: 2, text: None, samples: 9984, even_angles: false, pairs: false }
    }
}

impl ToyConfig {
    /// The distribution.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] when it has no component, too many for labels of one byte, or the text cannot be drawn.
    pub fn mixture(&self) -> Result<Mixture, DataError> {
        let refuse = |problem: String| Err(DataError::Inconsistent(format!("data set `toy`: {problem}")));
        let mixture = match &self.text {
            Some(_) if self.d != 2 => return refuse(format!("text is drawn in the plane, not in {} dimensions; set d:2", self.d)),
            Some(text) => match Mixture::text(text) {
                Some(mixture) => mixture,
                None => return refuse(format!("`{text}` cannot be drawn; use printable ASCII characters, e.g. text:MIM")),
            },
            None => Mixture::circle(self.k, self.d, self.even_angles),
        };
        match mixture.components() {
            n if n > 256 => refuse(format!("{n} components are more than the 256 that labels can tell apart; use a shorter text")),
            _ => Ok(mixture),
        }
    }
}

/// The distribution of [`ToyConfig`] with one stored draw of each split.
#[derive(Debug)]
struct Toy {
    info: DataInfo,
    mixture: Mixture,
    pairs: bool,
    train: Samples,
    test: Samples,
}

#[typetag::serde(name = "toy")]
impl DatasetConfig for ToyConfig {
    fn load(&self, _root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
        let mixture = self.mixture()?;
        // Two splits of single-precision numbers.
        let factors = [2, self.samples, mixture.dimensions, 1 + usize::from(self.pairs)];
        check("data set `toy`", 4, &factors, "fewer `samples` or dimensions `d`")?;
        let stored = |split: &str| sample(&mixture, self.samples, self.pairs, &mut Noise::new(0).stream(split, 0));
        let (train, test) = (stored("toy train")?, stored("toy test")?);
        let name = match (&self.text, self.d) {
            (Some(text), _) => format!("toy{text}"),
            (None, 2) => format!("toy{}", self.k),
            (None, d) => format!("toy{}_{d}", self.k),
        };
        let info = DataInfo {
            name,
            classes: (0..mixture.components()).map(|c| c.to_string()).collect(),
            shape: train.shape(),
            note: None,
            class_entropy: None,
        };
        Ok(Box::new(Toy { info, mixture, pairs: self.pairs, train, test }))
    }
}

ibhost_framework::register! { Dataset: ToyConfig as DatasetConfig, aliases: [], paper: "Livne et al. 2019, arXiv:1910.03175", example: "toy/d:20" }

/// `count` samples of shape `[1 or 2, 1, dimensions]` with component numbers as labels.
fn sample(mixture: &Mixture, count: usize, pairs: bool, noise: &mut Stream) -> Result<Samples, DataError> {
    let (mut values, mut labels) = (Vec::with_capacity(count * mixture.dimensions * (1 + usize::from(pairs))), Vec::with_capacity(count));
    for _ in 0..count {
        let component = noise.below(mixture.components());
        mixture.draw(component, noise, &mut values);
        if pairs {
            mixture.draw(component, noise, &mut values);
        }
        labels.push(component as u8);
    }
    let channels = 1 + usize::from(pairs);
    Samples::new(Values::F32(Arc::new(values)), labels, [channels, 1, mixture.dimensions], Scaling::uniform(channels, 1.0, 0.0))
}

impl Dataset for Toy {
    fn info(&self) -> &DataInfo {
        &self.info
    }

    fn split(&self, split: Split) -> &Samples {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }

    fn fresh_batch(&self, indices: &[usize], noise: &mut Stream) -> Result<Option<Samples>, DataError> {
        sample(&self.mixture, indices.len(), self.pairs, noise).map(Some)
    }

    fn fresh_test(&self, noise: &mut Stream) -> Result<Option<Samples>, DataError> {
        sample(&self.mixture, self.test.len(), self.pairs, noise).map(Some)
    }

    fn known_density(&self) -> Option<&dyn KnownDensity> {
        Some(&self.mixture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(config: &ToyConfig) -> Box<dyn Dataset> {
        config.load(&DataRoot("/nowhere".into())).unwrap()
    }

    #[test]
    fn every_step_has_its_own_samples_and_the_same_ones_again() {
        let data = load(&ToyConfig { samples: 100, ..ToyConfig::default() });
        let draw = |step| data.fresh_batch(&[0; 7], &mut Noise::new(1).stream("fresh", step)).unwrap().unwrap();
        assert_eq!((draw(0).len(), draw(0).shape()), (7, [1, 1, 2]));
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
        assert_eq!((data.info().name.as_str(), data.info().classes.len()), ("toy4", 5));
    }

    #[test]
    fn labels_name_the_component_a_sample_comes_from() {
        let config = ToyConfig { k: -4, d: 3, samples: 400, pairs: true, ..ToyConfig::default() };
        let (data, mixture) = (load(&config), config.mixture().unwrap());
        let test = data.split(Split::Test);
        assert_eq!((test.len(), test.shape()), (400, [2, 1, 3]));
        let mut values = Vec::new();
        test.gather(&(0..400).collect::<Vec<_>>(), &mut values);
        for (i, pair) in values.chunks_exact(6).enumerate() {
            let mean = &mixture.means[usize::from(test.label(i)) * 3..][..3];
            for draw in pair.chunks_exact(3) {
                assert!(draw.iter().zip(mean).all(|(x, m)| (f64::from(*x) - m).abs() < 5.0 * 0.3125));
            }
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        for (config, part) in [
            (ToyConfig { text: Some("é".to_owned()), ..ToyConfig::default() }, "printable"),
            (ToyConfig { text: Some("A".to_owned()), d: 3, ..ToyConfig::default() }, "d:2"),
            (ToyConfig { text: Some("WWWWWWWWWWWWWWWWWWWW".to_owned()), ..ToyConfig::default() }, "shorter"),
        ] {
            let error = config.load(&DataRoot("/nowhere".into())).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn what_does_not_fit_into_memory_is_refused() {
        if !std::path::Path::new("/proc/meminfo").exists() {
            println!("skipped: this system does not tell how much memory is free");
            return;
        }
        let config = ToyConfig { samples: usize::MAX, ..ToyConfig::default() };
        let error = config.load(&DataRoot("/nowhere".into())).unwrap_err().to_string();
        assert!(error.contains("data set `toy`") && error.contains("fewer `samples`"), "{error}");
    }
}
