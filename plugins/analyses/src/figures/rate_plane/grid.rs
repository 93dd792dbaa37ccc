//! Grids of two rate weights: rows from the largest weight of the lower level down, columns from the smallest weight of the top level up.

use std::collections::BTreeMap;

/// Relative difference up to which two weights are the same.
const SAME: f64 = 1e-6;

fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= SAME * a.abs().max(b.abs())
}

/// What is known of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// Name of the run.
    pub run: String,
    /// Weights of the rates: lower levels, top level.
    pub beta: [f64; 2],
    /// Rates in nats: lower levels given the top, top level.
    pub rate: [f64; 2],
    /// Everything else by name.
    pub values: BTreeMap<String, f64>,
}

impl Evaluated {
    /// A value, NaN when it was not measured.
    pub fn value(&self, name: &str) -> f64 {
        self.values.get(name).copied().unwrap_or(f64::NAN)
    }

    /// Sum of both rates in nats.
    pub fn total_rate(&self) -> f64 {
        self.rate[0] + self.rate[1]
    }

    /// Whether both levels have the same weight.
    pub fn is_diagonal(&self) -> bool {
        same(self.beta[0], self.beta[1])
    }

    /// Whether both weights are 1, an ordinary evidence lower bound.
    pub fn is_plain(&self) -> bool {
        self.is_diagonal() && same(self.beta[0], 1.0)
    }
}

/// The two lists of weights a grid spans.
#[derive(Clone, Debug, PartialEq)]
pub struct BetaGrid {
    /// Weights of the lower level, ascending.
    pub lower: Vec<f64>,
    /// Weights of the top level, ascending.
    pub top: Vec<f64>,
}

impl BetaGrid {
    /// The grid of all weights that occur in `pairs` (lower, top).
    pub fn new(pairs: &[[f64; 2]]) -> Self {
        let axis = |part: usize| {
            let mut values: Vec<f64> = pairs.iter().map(|pair| pair[part]).collect();
            values.sort_by(f64::total_cmp);
            values.dedup_by(|a, b| same(*a, *b));
            values
        };
        Self { lower: axis(0), top: axis(1) }
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.lower.len() * self.top.len()
    }

    /// Whether there is no cell.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number, row by row, of the cell of a pair of weights.
    pub fn cell(&self, [lower, top]: [f64; 2]) -> Option<usize> {
        let row = self.lower.iter().rev().position(|&beta| same(beta, lower))?;
        let column = self.top.iter().position(|&beta| same(beta, top))?;
        Some(row * self.top.len() + column)
    }

    /// Cells with the same weight on both levels, from the smallest weight up, without the weight 1.
    pub fn diagonal(&self) -> Vec<usize> {
        self.lower.iter().filter(|&&beta| !same(beta, 1.0)).filter_map(|&beta| self.cell([beta, beta])).collect()
    }

    /// A value of every cell, row by row; NaN where no model has it.
    pub fn matrix(&self, models: &[Evaluated], value: impl Fn(&Evaluated) -> f64) -> Vec<f64> {
        let mut matrix = vec![f64::NAN; self.len()];
        for model in models {
            if let Some(cell) = self.cell(model.beta) {
                matrix[cell] = value(model);
            }
        }
        matrix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_found_by_value_and_missing_models_are_nan() {
        let model = |beta: [f64; 2]| Evaluated {
            run: String::new(),
            beta,
            rate: [1.0, 2.0],
            values: BTreeMap::from([("psnr".to_owned(), beta[0])]),
        };
        let models = [model([0.316_227_766_016, 1.0]), model([0.316_227_766, 2.0]), model([1.0, 1.0])];
        let grid = BetaGrid::new(&models.iter().map(|m| m.beta).collect::<Vec<_>>());
        assert_eq!((grid.lower.len(), grid.top.clone(), grid.len()), (2, vec![1.0, 2.0], 4));
        assert_eq!((grid.cell([0.316_227_766, 1.0]), grid.cell([1.0, 1.0]), grid.cell([5.0, 1.0])), (Some(2), Some(0), None));
        let matrix = grid.matrix(&models, |m| m.value("psnr"));
        assert!(matrix[0] == 1.0 && matrix[1].is_nan() && matrix[2] > 0.3 && models[2].is_plain() && models[0].value("fid").is_nan());
        assert_eq!((models[0].total_rate(), grid.diagonal()), (3.0, vec![]));
    }
}
