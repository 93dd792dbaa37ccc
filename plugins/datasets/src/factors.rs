//! Data sets that hold every combination of known factors: subsets of them, and their loaded form.

use std::sync::Arc;

use ibhost_framework::dataset::{DataError, DataInfo, Dataset, Factors, Samples, Scaling, Split, Values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Range images are scaled to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageRange {
    /// 0 to 1.
    #[default]
    Unit,
    /// -1 to 1.
    Symmetric,
}

impl ImageRange {
    /// Scaling of raw values 0 to `levels`.
    pub fn scaling(self, channels: usize, levels: f32) -> Scaling {
        match self {
            Self::Unit => Scaling::uniform(channels, 1.0 / levels, 0.0),
            Self::Symmetric => Scaling::uniform(channels, 2.0 / levels, -1.0),
        }
    }
}

/// A factor with the values that are kept, in the order they are kept in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factor {
    /// Name, e.g. `orientation`.
    pub name: &'static str,
    /// Number of values in the whole set.
    pub size: usize,
    /// Kept values.
    pub kept: Vec<usize>,
}

impl Factor {
    /// The factor with the `listed` values, all of them when none is listed.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] when a value does not exist or is listed twice.
    pub fn new(data_set: &str, name: &'static str, size: usize, listed: &[usize]) -> Result<Self, DataError> {
        let refuse = |what: String| Err(DataError::Inconsistent(format!("data set `{data_set}`: {name}:{what}")));
        for (at, value) in listed.iter().enumerate() {
            if *value >= size {
                return refuse(format!("{value} does not exist; there are 0 to {}", size - 1));
            }
            if listed[..at].contains(value) {
                return refuse(format!("{value} is listed twice"));
            }
        }
        Ok(Self { name, size, kept: if listed.is_empty() { (0..size).collect() } else { listed.to_vec() } })
    }
}

/// Positions and labels of the kept combinations of factors of a set enumerated row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subset {
    /// Position of each sample in the whole set.
    pub positions: Vec<usize>,
    /// Value of each factor of each sample in the whole set, sample-major.
    pub values: Vec<usize>,
    /// Factors that still vary; labels count positions in the kept lists.
    pub factors: Factors,
}

impl Subset {
    /// Every combination of the kept values, row-major in the order they are listed in.
    pub fn new(factors: &[Factor]) -> Self {
        let count: usize = factors.iter().map(|f| f.kept.len()).product();
        let varies: Vec<bool> = factors.iter().map(|f| f.kept.len() > 1).collect();
        let of = |pick: &dyn Fn(&Factor) -> usize| factors.iter().zip(&varies).filter(|(_, v)| **v).map(|(f, _)| pick(f)).collect();
        let names = factors.iter().zip(&varies).filter(|(_, v)| **v).map(|(f, _)| f.name.to_owned()).collect();
        let mut subset = Self {
            positions: Vec::with_capacity(count),
            values: Vec::with_capacity(count * factors.len()),
            factors: Factors { names, sizes: of(&|f| f.kept.len()), values: Vec::new() },
        };
        for index in 0..count {
            // The last factor runs fastest.
            let mut places = vec![0; factors.len()];
            let mut rest = index;
            for (place, factor) in places.iter_mut().zip(factors).rev() {
                *place = rest % factor.kept.len();
                rest /= factor.kept.len();
            }
            let values = factors.iter().zip(&places).map(|(factor, place)| factor.kept[*place]);
            subset.positions.push(values.clone().zip(factors).fold(0, |position, (value, factor)| position * factor.size + value));
            subset.values.extend(values);
            subset.factors.values.extend(places.iter().zip(&varies).filter(|(_, v)| **v).map(|(place, _)| *place as u16));
        }
        subset
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }
}

/// Images with known factors. Everything is trained on; what is measured on the test split is measured on the training images.
#[derive(Clone, Debug)]
pub struct FactorDataset {
    info: DataInfo,
    samples: Samples,
    factors: Factors,
}

impl FactorDataset {
    /// The data set of bytes 0 to `levels`.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] when bytes, labels and shape do not fit.
    pub fn new(
        info: DataInfo,
        bytes: Vec<u8>,
        labels: Vec<u8>,
        factors: Factors,
        range: ImageRange,
        levels: f32,
    ) -> Result<Self, DataError> {
        let scaling = range.scaling(info.shape[0], levels);
        let samples = Samples::new(Values::U8(Arc::new(bytes)), labels, info.shape, scaling)?;
        Ok(Self { info, samples, factors })
    }
}

impl Dataset for FactorDataset {
    fn info(&self) -> &DataInfo {
        &self.info
    }

    fn split(&self, _split: Split) -> &Samples {
        &self.samples
    }

    fn factors(&self) -> Option<&Factors> {
        Some(&self.factors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_values_keep_their_order_and_single_ones_leave_the_labels() {
        let factor = |name, size, listed: &[usize]| Factor::new("t", name, size, listed).unwrap();
        let subset = Subset::new(&[factor("a", 2, &[]), factor("b", 3, &[1]), factor("c", 4, &[3, 0])]);
        assert_eq!(subset.positions, [7, 4, 19, 16]);
        assert_eq!((subset.factors.names.clone(), subset.factors.sizes.clone()), (vec!["a".to_owned(), "c".to_owned()], vec![2, 2]));
        assert_eq!(subset.factors.values, [0, 0, 0, 1, 1, 0, 1, 1]);
        assert_eq!(subset.values[..3], [0, 1, 3]);
        assert_eq!(subset.factors.of(2), [1, 0]);
    }

    #[test]
    fn values_that_do_not_exist_or_repeat_are_refused() {
        assert!(Factor::new("shapes", "scale", 6, &[6]).unwrap_err().to_string().contains("0 to 5"));
        assert!(Factor::new("shapes", "scale", 6, &[1, 1]).unwrap_err().to_string().contains("twice"));
    }
}
