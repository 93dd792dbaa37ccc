//! Data set `binarised`: binary images drawn from the grey values of another data set.

use std::sync::Arc;

use ibhost_framework::component::resolve;
use ibhost_framework::dataset::{DataError, DataFile, DataInfo, DataRoot, Dataset, DatasetConfig, Samples, Scaling, Split, Values};
use ibhost_framework::noise::{Noise, Stream};
use ibhost_framework::registry::Kind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When pixels are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Training pixels anew in every step, test pixels once.
    #[default]
    Dynamic,
    /// All pixels once.
    Static,
}

/// Binary images: every pixel of another data set is 1 with the probability of its grey value.
///
/// `binarised/of:mnist` is dynamic MNIST. Pixels that are drawn once, and the training split as analyses and pseudo-inputs see it, come
/// from fixed streams whatever the seed of a run. `holdout:10000` evaluates on the last 10,000 training images instead of the test images,
/// which then remain as the official test set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BinarisedConfig {
    /// Data set of grey images with the option scale:unit.
    pub of: String,
    /// When pixels are drawn.
    pub mode: Mode,
    /// Training images at the end that are evaluated on instead of the test images.
    #[schemars(range(min = 0, max = 10_000_000))]
    pub holdout: usize,
    /// Keep only the first N training images.
    #[schemars(range(min = 1))]
    pub first: Option<usize>,
}

impl Default for BinarisedConfig {
    fn default() -> Self {
        Self { of: "mnist".to_owned(), mode: Mode::Dynamic, holdout: 0, first: None }
    }
}

/// The data set behind the name `of`, scaled to 0..1.
pub(crate) fn grey(name: &str, of: &str) -> Result<Box<dyn DatasetConfig>, DataError> {
    let text = format!("{of}/scale:unit");
    match resolve::<dyn DatasetConfig>(Kind::Dataset, &text) {
        Ok((_, config)) => Ok(config),
        Err(error) => Err(DataError::Inconsistent(format!(
            "data set `{name}`: of:{of} is no data set with the option scale:unit\n{error}\n  hint: use e.g. of:mnist, of:fashion_mnist or of:digits"
        ))),
    }
}

#[derive(Debug)]
struct Binarised {
    info: DataInfo,
    grey: Samples,
    train: Samples,
    test: Samples,
    official_test: Option<Samples>,
    dynamic: bool,
}

/// Samples of the images at `indices`: each value is 1 with its own probability.
///
/// # Errors
/// [`DataError`] when the drawn images do not fit together.
pub fn draw(grey: &Samples, indices: &[usize], noise: &mut Stream) -> Result<Samples, DataError> {
    let mut values = Vec::new();
    grey.gather(indices, &mut values);
    let bits = values.iter().map(|&p| u8::from(noise.uniform() < f64::from(p))).collect();
    let labels = indices.iter().map(|&i| grey.label(i)).collect();
    let shape = grey.shape();
    Samples::new(Values::U8(Arc::new(bits)), labels, shape, Scaling::uniform(shape[0], 1.0, 0.0))
}

#[typetag::serde(name = "binarised")]
impl DatasetConfig for BinarisedConfig {
    fn load(&self, root: &DataRoot) -> Result<Box<dyn Dataset>, DataError> {
        let inner = grey("binarised", &self.of)?.load(root)?;
        let mut info = inner.info().clone();
        info.name = format!("{}_{}", if self.mode == Mode::Dynamic { "dynamic" } else { "static" }, info.name);
        let all = inner.split(Split::Train);
        let range = |from: usize, to: usize| (from..to).collect::<Vec<_>>();
        let kept = all.len().min(self.first.unwrap_or(usize::MAX));
        if self.holdout >= kept {
            return Err(DataError::Inconsistent(format!(
                "data set `binarised`: holdout:{} leaves none of the {kept} training images; use a smaller number",
                self.holdout
            )));
        }
        let once = |samples: &Samples, split: &str| draw(samples, &range(0, samples.len()), &mut Noise::new(0).stream(split, 0));
        let grey = all.select(&range(0, kept - self.holdout))?;
        let test = once(inner.split(Split::Test), "binarised test")?;
        let train = once(&grey, "binarised train")?;
        let (test, official_test) = if self.holdout > 0 {
            (once(&all.select(&range(kept - self.holdout, kept))?, "binarised holdout")?, Some(test))
        } else {
            (test, None)
        };
        Ok(Box::new(Binarised { info, grey, train, test, official_test, dynamic: self.mode == Mode::Dynamic }))
    }

    fn files(&self) -> Vec<DataFile> {
        grey("binarised", &self.of).map(|inner| inner.files()).unwrap_or_default()
    }
}

ibhost_framework::register! {
    Dataset: BinarisedConfig as DatasetConfig, aliases: [], paper: "Salakhutdinov & Murray 2008", example: "binarised/mode:static"
}

impl Dataset for Binarised {
    fn info(&self) -> &DataInfo {
        &self.info
    }

    fn split(&self, split: Split) -> &Samples {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }

    fn official_test(&self) -> Option<&Samples> {
        self.official_test.as_ref()
    }

    fn fresh_batch(&self, indices: &[usize], noise: &mut Stream) -> Result<Option<Samples>, DataError> {
        if self.dynamic { draw(&self.grey, indices, noise).map(Some) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Box<dyn Dataset>, DataError> {
        resolve::<dyn DatasetConfig>(Kind::Dataset, text).unwrap().1.load(&DataRoot("/nowhere".into()))
    }

    #[test]
    fn pixels_are_bits_with_the_grey_values_as_frequencies() {
        let data = load("binarised/of:digits").unwrap();
        assert_eq!((data.info().name.as_str(), data.split(Split::Train).len()), ("dynamic_digits", 1437));
        let mut grey = Vec::new();
        load("digits/scale:unit").unwrap().split(Split::Train).gather(&[7], &mut grey);
        let mut mean = [0.0; 64];
        for step in 0..400 {
            let batch = data.fresh_batch(&[7], &mut Noise::new(1).stream("step", step)).unwrap().unwrap();
            let mut bits = Vec::new();
            batch.gather(&[0], &mut bits);
            assert!(bits.iter().all(|&b| b == 0.0 || b == 1.0) && batch.label(0) == data.split(Split::Train).label(7));
            mean.iter_mut().zip(bits).for_each(|(m, b)| *m += b / 400.0);
        }
        assert!(mean.iter().zip(&grey).all(|(m, g)| (m - g).abs() < 0.12), "{mean:?} {grey:?}");
    }

    #[test]
    fn static_pixels_never_change_and_a_holdout_replaces_the_test_split() {
        let data = load("binarised/of:digits|mode:static|first:100|holdout:30").unwrap();
        assert!(data.fresh_batch(&[0], &mut Noise::new(1).stream("step", 0)).unwrap().is_none());
        assert_eq!((data.split(Split::Train).len(), data.split(Split::Test).len()), (70, 30));
        assert_eq!(data.official_test().unwrap().len(), 360);
        let again = load("binarised/of:digits|mode:static|first:100|holdout:30").unwrap();
        assert_eq!(data.split(Split::Train), again.split(Split::Train));
    }

    #[test]
    fn what_cannot_be_binarised_is_refused() {
        for (text, part) in
            [("binarised/of:toy", "scale:unit"), ("binarised/of:nothing", "of:mnist"), ("binarised/of:digits|holdout:1437", "smaller")]
        {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
