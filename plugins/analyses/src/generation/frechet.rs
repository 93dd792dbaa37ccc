//! Fréchet distance of two sets of features, each taken as a normal distribution.

use faer::{Mat, Side};

/// Sums of the features of a set, from which mean and covariance follow.
#[derive(Clone, Debug)]
pub struct FeatureMoments {
    dim: usize,
    count: usize,
    /// Subtracted from every feature first, so that sums of squares keep their digits: the first row seen.
    origin: Vec<f64>,
    sum: Vec<f64>,
    /// Upper triangle of the sum of outer products, row by row in a full square.
    products: Vec<f64>,
}

impl FeatureMoments {
    /// No rows yet, of `dim` features.
    pub fn new(dim: usize) -> Self {
        Self { dim, count: 0, origin: Vec::new(), sum: vec![0.0; dim], products: vec![0.0; dim * dim] }
    }

    /// Adds rows, sample-major.
    pub fn add(&mut self, rows: &[f64]) {
        let mut row = vec![0.0; self.dim];
        for features in rows.chunks_exact(self.dim.max(1)) {
            if self.origin.is_empty() {
                self.origin = features.to_vec();
            }
            row.iter_mut().zip(features.iter().zip(&self.origin)).for_each(|(r, (f, o))| *r = f - o);
            self.sum.iter_mut().zip(&row).for_each(|(s, r)| *s += r);
            for (i, &left) in row.iter().enumerate() {
                let start = i * self.dim;
                self.products[start + i..start + self.dim].iter_mut().zip(&row[i..]).for_each(|(p, right)| *p += left * right);
            }
            self.count += 1;
        }
    }

    /// Rows added.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether no row was added.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn mean(&self) -> Vec<f64> {
        self.sum.iter().zip(&self.origin).map(|(s, o)| s / self.count as f64 + o).collect()
    }

    /// Covariance with divisor n - 1.
    fn covariance(&self) -> Mat<f64> {
        let (d, n) = (self.dim, self.count as f64);
        Mat::from_fn(d, d, |row, column| {
            let (i, j) = (row.min(column), row.max(column));
            (self.products[i * d + j] - self.sum[i] * self.sum[j] / n) / (n - 1.0)
        })
    }
}

/// |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), covariances with n - 1 (Heusel et al. 2017). NaN for fewer than two rows or differing sizes.
///
/// With S1 = L L^T the eigenvalues of S1 S2 are those of the symmetric L^T S2 L, so no root of a matrix is needed; L has a column for each
/// eigenvalue of S1 that is not 0, so that sets smaller than the number of features do no harm.
pub fn frechet_distance(first: &FeatureMoments, second: &FeatureMoments) -> f64 {
    if first.count < 2 || second.count < 2 || first.dim != second.dim {
        return f64::NAN;
    }
    let apart: f64 = first.mean().iter().zip(second.mean()).map(|(a, b)| (a - b).powi(2)).sum();
    let (s1, s2) = (first.covariance(), second.covariance());
    let trace = |s: &Mat<f64>| (0..first.dim).map(|i| s[(i, i)]).sum::<f64>();
    apart + trace(&s1) + trace(&s2) - 2.0 * trace_of_root(&s1, &s2)
}

/// tr((S1 S2)^(1/2)) of two covariances; NaN when their eigenvalues are not found, which numbers that are finite do not cause.
fn trace_of_root(s1: &Mat<f64>, s2: &Mat<f64>) -> f64 {
    let Ok(eigen) = s1.self_adjoint_eigen(Side::Lower) else { return f64::NAN };
    let (vectors, values) = (eigen.U(), eigen.S().column_vector());
    let d = s1.nrows();
    let largest = (0..d).map(|j| values[j]).fold(0.0, f64::max);
    let kept: Vec<usize> = (0..d).filter(|&j| values[j] > largest * d as f64 * f64::EPSILON).collect();
    let factor = Mat::from_fn(d, kept.len(), |i, k| vectors[(i, kept[k])] * values[kept[k]].sqrt());
    let product = factor.transpose() * s2 * &factor;
    let roots = product.self_adjoint_eigenvalues(Side::Lower);
    roots.map_or(f64::NAN, |roots| roots.into_iter().map(|value| value.max(0.0).sqrt()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_framework::noise::Noise;

    fn moments(rows: &[f64], dim: usize) -> FeatureMoments {
        let mut moments = FeatureMoments::new(dim);
        // In two parts, as batches come.
        let cut = rows.len() / dim / 3 * dim;
        moments.add(&rows[..cut]);
        moments.add(&rows[cut..]);
        moments
    }

    #[test]
    fn normal_sets_have_the_closed_form_and_a_set_is_no_distance_from_itself() {
        let mut noise = Noise::new(1).stream("features", 0);
        let rows: Vec<f64> = (0..3000).map(|_| noise.normal()).collect();
        let own = moments(&rows, 3);
        assert!(frechet_distance(&own, &own).abs() < 1e-9);
        // Twice as wide and moved by 5 in one direction: the same sample, so exact up to rounding.
        let moved: Vec<f64> = rows.iter().enumerate().map(|(i, x)| 2.0 * x + if i % 3 == 1 { 5.0 } else { 0.0 }).collect();
        let other = moments(&moved, 3);
        let mean = own.mean();
        let apart: f64 = (0..3).map(|i| (mean[i] + if i == 1 { 5.0 } else { 0.0 }).powi(2)).sum();
        let spread: f64 = (0..3).map(|i| own.covariance()[(i, i)]).sum();
        assert!((frechet_distance(&own, &other) - apart - spread).abs() < 1e-8);
    }

    #[test]
    fn fewer_rows_than_features_are_no_problem() {
        let rows: Vec<f64> = (0..40).map(|i| f64::from(i * i % 17)).collect();
        let few = moments(&rows, 8);
        assert!(frechet_distance(&few, &few).abs() < 1e-6);
        assert!(frechet_distance(&few, &moments(&rows, 10)).is_nan() && frechet_distance(&few, &FeatureMoments::new(8)).is_nan());
    }
}
