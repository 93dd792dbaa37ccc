//! Views on a data set: fewer training samples, a held-out part, or one fold of a cross-validation.

use ibhost_framework::dataset::{DataError, Samples};
use ibhost_framework::noise::Noise;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kfold::stratified_folds;

/// Which part of the training samples is trained on, and what they are tested on. Applied in the order of the fields.
///
/// Every choice keeps the samples in data order and depends on `split_seed` only, not on the seed of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct View {
    /// Keep the first N training samples.
    #[schemars(range(min = 1))]
    pub first: Option<usize>,
    /// Keep N random training samples, drawn without replacement.
    #[schemars(range(min = 1))]
    pub subset: Option<usize>,
    /// Test on N random training samples instead of the official test set, and train on the rest.
    #[schemars(range(min = 1))]
    pub holdout: Option<usize>,
    /// Number of stratified cross-validation folds; fold number `fold` becomes the test set.
    #[schemars(range(min = 2))]
    pub folds: Option<usize>,
    /// The fold to test on, from 0.
    pub fold: usize,
    /// Seed of `subset` and `holdout`.
    pub split_seed: u64,
}

/// The splits a view leaves.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Samples to train on.
    pub train: Samples,
    /// Samples to test on.
    pub test: Samples,
    /// The official test set, when `test` is made of training samples.
    pub official_test: Option<Samples>,
}

impl View {
    /// Applies the view to the official splits of data set `name`.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] when more samples or folds are asked for than there are, or the options contradict each other.
    pub fn apply(&self, name: &str, mut train: Samples, test: Samples) -> Result<Parts, DataError> {
        if self.holdout.is_some() && self.folds.is_some() {
            return Err(refuse(name, "holdout and folds both replace the test set; give one of them"));
        }
        if self.folds.is_none() && self.fold != 0 {
            return Err(refuse(name, &format!("fold:{} needs the number of folds, e.g. folds:5", self.fold)));
        }
        if let Some(first) = self.first {
            at_most(name, "first", first, train.len())?;
            train = train.select(&(0..first).collect::<Vec<_>>())?;
        }
        if let Some(subset) = self.subset {
            at_most(name, "subset", subset, train.len())?;
            train = train.select(&self.draw("subset", subset, train.len()))?;
        }
        let held_out = if let Some(holdout) = self.holdout {
            // At least one sample must be left to train on.
            at_most(name, "holdout", holdout, train.len().saturating_sub(1))?;
            self.draw("holdout", holdout, train.len())
        } else if let Some(folds) = self.folds {
            self.validation_fold(name, folds, &train.labels())?
        } else {
            return Ok(Parts { train, test, official_test: None });
        };
        let mut kept = vec![true; train.len()];
        for &index in &held_out {
            kept[index] = false;
        }
        let rest: Vec<usize> = (0..train.len()).filter(|&index| kept[index]).collect();
        Ok(Parts { test: train.select(&held_out)?, train: train.select(&rest)?, official_test: Some(test) })
    }

    /// `count` of `0..total` without replacement, ascending.
    fn draw(&self, purpose: &str, count: usize, total: usize) -> Vec<usize> {
        let mut stream = Noise::new(self.split_seed).stream(&format!("data set view: {purpose}"), 0);
        let mut chosen = stream.permutation(total);
        chosen.truncate(count);
        chosen.sort_unstable();
        chosen
    }

    fn validation_fold(&self, name: &str, folds: usize, labels: &[u8]) -> Result<Vec<usize>, DataError> {
        if folds < 2 {
            return Err(refuse(name, &format!("folds:{folds} is no cross-validation; give at least 2")));
        }
        at_most(name, "folds", folds, labels.len())?;
        if self.fold >= folds {
            return Err(refuse(name, &format!("fold:{} does not exist; folds:{folds} has 0 to {}", self.fold, folds - 1)));
        }
        Ok(stratified_folds(labels, folds).swap_remove(self.fold))
    }
}

fn at_most(name: &str, key: &str, asked: usize, there: usize) -> Result<(), DataError> {
    if asked == 0 || asked > there {
        return Err(refuse(name, &format!("{key}:{asked} is out of range; between 1 and {there} training samples can be asked for")));
    }
    Ok(())
}

fn refuse(name: &str, why: &str) -> DataError {
    DataError::Inconsistent(format!("data set `{name}`: {why}"))
}

#[cfg(test)]
mod tests {
    use ibhost_framework::dataset::{Scaling, Values};

    use super::*;

    /// `n` one-pixel samples whose pixel is their number and whose label is that number modulo 3.
    fn samples(n: u8) -> Samples {
        let labels = (0..n).map(|i| i % 3).collect();
        Samples::new(Values::U8(std::sync::Arc::new((0..n).collect())), labels, [1, 1, 1], Scaling::uniform(1, 1.0, 0.0)).unwrap()
    }

    fn numbers(samples: &Samples) -> Vec<u8> {
        let mut values = Vec::new();
        samples.gather(&(0..samples.len()).collect::<Vec<_>>(), &mut values);
        values.into_iter().map(|x| x as u8).collect()
    }

    fn apply(view: &View) -> Result<Parts, DataError> {
        view.apply("test", samples(60), samples(12))
    }

    #[test]
    fn the_default_changes_nothing() {
        let parts = apply(&View::default()).unwrap();
        assert_eq!((parts.train.len(), parts.test.len(), parts.official_test.is_none()), (60, 12, true));
    }

    #[test]
    fn first_then_subset_keep_data_order() {
        let view = View { first: Some(20), subset: Some(10), ..View::default() };
        let train = numbers(&apply(&view).unwrap().train);
        assert_eq!(train.len(), 10);
        assert!(train.is_sorted() && train.iter().all(|&i| i < 20));
        assert_eq!(numbers(&apply(&view).unwrap().train), train, "the same seed draws the same samples");
        let other = View { split_seed: 1, ..view };
        assert_ne!(numbers(&apply(&other).unwrap().train), train);
    }

    #[test]
    fn holdout_partitions_the_training_samples() {
        let parts = apply(&View { holdout: Some(15), ..View::default() }).unwrap();
        let mut all = numbers(&parts.train);
        all.extend(numbers(&parts.test));
        all.sort_unstable();
        assert_eq!(all, (0..60).collect::<Vec<u8>>());
        assert_eq!((parts.test.len(), parts.official_test.unwrap().len()), (15, 12));
    }

    #[test]
    fn folds_follow_the_stratified_rule() {
        let labels = samples(60).labels();
        for fold in 0..4 {
            let parts = apply(&View { folds: Some(4), fold, ..View::default() }).unwrap();
            let expected: Vec<u8> = stratified_folds(&labels, 4)[fold].iter().map(|&i| i as u8).collect();
            assert_eq!(numbers(&parts.test), expected);
            assert_eq!(parts.train.len() + parts.test.len(), 60);
        }
    }

    #[test]
    fn impossible_requests_are_refused() {
        let cases = [
            (View { first: Some(61), ..View::default() }, "between 1 and 60"),
            (View { first: Some(0), ..View::default() }, "first:0"),
            (View { first: Some(5), subset: Some(6), ..View::default() }, "between 1 and 5"),
            (View { holdout: Some(60), ..View::default() }, "between 1 and 59"),
            (View { folds: Some(5), fold: 5, ..View::default() }, "0 to 4"),
            (View { folds: Some(1), ..View::default() }, "at least 2"),
            (View { fold: 2, ..View::default() }, "needs the number of folds"),
            (View { holdout: Some(5), folds: Some(5), ..View::default() }, "give one of them"),
        ];
        for (view, part) in cases {
            let message = apply(&view).unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("`test`"), "{message}");
        }
    }
}
