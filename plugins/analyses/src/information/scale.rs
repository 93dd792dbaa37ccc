//! What variables are divided by before distances are taken between their samples.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Scaling of a variable; a coordinate that never changes stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Values as they are: what published estimates use.
    #[default]
    None,
    /// Each variable by one number, the root of the mean variance of its coordinates: its unit goes, the shape of its cloud stays.
    Variable,
    /// Each coordinate by its own standard deviation; rarely used pixels then weigh as much as all others.
    Standard,
    /// Each coordinate replaced by its rank over N, equal values by their mean rank.
    Rank,
}

impl Scale {
    /// `values` of `dim` a sample, scaled.
    pub fn of(self, values: &[f64], dim: usize) -> Cow<'_, [f64]> {
        let samples = values.len().checked_div(dim).unwrap_or(0);
        if self == Self::None || samples == 0 {
            return Cow::Borrowed(values);
        }
        let column = |d: usize| -> Vec<f64> { values.iter().skip(d).step_by(dim).copied().collect() };
        let columns: Vec<Vec<f64>> = match self {
            Self::None => return Cow::Borrowed(values),
            Self::Rank => (0..dim).map(|d| ranks(&column(d))).collect(),
            Self::Variable => {
                let spread = ((0..dim).map(|d| variance(&column(d))).sum::<f64>() / dim as f64).sqrt();
                (0..dim).map(|d| divided(column(d), spread)).collect()
            }
            Self::Standard => (0..dim).map(column).map(|c| (variance(&c).sqrt(), c)).map(|(spread, c)| divided(c, spread)).collect(),
        };
        Cow::Owned((0..samples).flat_map(|i| columns.iter().map(move |column| column[i])).collect())
    }
}

fn variance(column: &[f64]) -> f64 {
    // Rounding must not give a constant a spread.
    if column.iter().all(|x| *x == column[0]) {
        return 0.0;
    }
    let mean = column.iter().sum::<f64>() / column.len() as f64;
    column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / column.len() as f64
}

fn divided(mut column: Vec<f64>, spread: f64) -> Vec<f64> {
    if spread > 0.0 {
        for x in &mut column {
            *x /= spread;
        }
    }
    column
}

/// Ranks from 1 over the number of values, equal values sharing their mean.
fn ranks(column: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..column.len()).collect();
    order.sort_by(|&a, &b| column[a].total_cmp(&column[b]));
    let mut ranks = vec![0.0; column.len()];
    let mut from = 0;
    for group in order.chunk_by(|&a, &b| column[a] == column[b]) {
        // Ranks from + 1 ... from + n have the mean from + (n + 1) / 2.
        let rank = (from as f64 + (group.len() + 1) as f64 / 2.0) / column.len() as f64;
        for &i in group {
            ranks[i] = rank;
        }
        from += group.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_constants() {
        let values = [1.0, 10.0, 5.0, 3.0, 30.0, 5.0];
        assert_eq!(&*Scale::None.of(&values, 3), values);
        assert_eq!(&*Scale::Standard.of(&values, 3), [1.0, 1.0, 5.0, 3.0, 3.0, 5.0]);
        let spread = (101.0f64 / 3.0).sqrt();
        let found = Scale::Variable.of(&values, 3);
        assert!(found.iter().zip(values).all(|(a, b)| (a - b / spread).abs() < 1e-12), "{found:?}");
        assert_eq!(&*Scale::Rank.of(&values, 3), [0.5, 0.5, 0.75, 1.0, 1.0, 0.75]);
        assert_eq!(&*Scale::Rank.of(&[2.0, -1.0, 2.0, 7.0], 1), [0.625, 0.25, 0.625, 1.0]);
        assert!(Scale::Standard.of(&[], 3).is_empty());
    }
}
