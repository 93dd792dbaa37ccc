//! Fréchet distance of two sets of features, each taken as a normal distribution.

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

    /// Covariance with divisor n - 1, `[dim, dim]`.
    fn covariance(&self) -> Vec<f64> {
        let (d, n) = (self.dim, self.count as f64);
        let mut covariance = vec![0.0; d * d];
        for i in 0..d {
            for j in i..d {
                let value = (self.products[i * d + j] - self.sum[i] * self.sum[j] / n) / (n - 1.0);
                (covariance[i * d + j], covariance[j * d + i]) = (value, value);
            }
        }
        covariance
    }
}

/// |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), covariances with n - 1 (Heusel et al. 2017). NaN for fewer than two rows or differing sizes.
///
/// With S1 = L L^T the eigenvalues of S1 S2 are those of the symmetric L^T S2 L, so no root of a matrix is needed and sets smaller than
/// the number of features do no harm.
pub fn frechet_distance(first: &FeatureMoments, second: &FeatureMoments) -> f64 {
    if first.count < 2 || second.count < 2 || first.dim != second.dim {
        return f64::NAN;
    }
    let d = first.dim;
    let apart: f64 = first.mean().iter().zip(second.mean()).map(|(a, b)| (a - b).powi(2)).sum();
    let (s1, s2) = (first.covariance(), second.covariance());
    let trace = |s: &[f64]| (0..d).map(|i| s[i * d + i]).sum::<f64>();
    let factor = cholesky(&s1, d);
    let roots: f64 = eigenvalues(congruence(&factor, &s2, d), d).into_iter().map(|value| value.max(0.0).sqrt()).sum();
    apart + trace(&s1) + trace(&s2) - 2.0 * roots
}

/// Lower factor L of a positive semi-definite matrix, with zero columns where it is singular.
fn cholesky(matrix: &[f64], d: usize) -> Vec<f64> {
    let mut l = vec![0.0; d * d];
    let largest = (0..d).map(|i| matrix[i * d + i]).fold(0.0, f64::max);
    for j in 0..d {
        let row_j = l[j * d..j * d + j].to_vec();
        let pivot = matrix[j * d + j] - row_j.iter().map(|x| x * x).sum::<f64>();
        if pivot <= largest * d as f64 * f64::EPSILON {
            continue;
        }
        let root = pivot.sqrt();
        l[j * d + j] = root;
        for i in j + 1..d {
            let dot: f64 = l[i * d..i * d + j].iter().zip(&row_j).map(|(a, b)| a * b).sum();
            l[i * d + j] = (matrix[i * d + j] - dot) / root;
        }
    }
    l
}

/// L^T S L for lower L and symmetric S.
fn congruence(l: &[f64], s: &[f64], d: usize) -> Vec<f64> {
    let times = |a: &[f64], transposed: bool, b: &[f64]| {
        let mut out = vec![0.0; d * d];
        for i in 0..d {
            for k in 0..d {
                let factor = if transposed { a[k * d + i] } else { a[i * d + k] };
                if factor != 0.0 {
                    out[i * d..(i + 1) * d].iter_mut().zip(&b[k * d..(k + 1) * d]).for_each(|(o, x)| *o += factor * x);
                }
            }
        }
        out
    };
    times(&times(l, true, s), false, l)
}

/// Rotations of one eigenvalue at most before it is given up; a handful suffice.
const MAX_ROTATIONS: usize = 60;

/// Eigenvalues of a symmetric matrix: Householder's reduction to three diagonals, then implicitly shifted QL.
fn eigenvalues(mut a: Vec<f64>, d: usize) -> Vec<f64> {
    let (mut diagonal, mut beside) = (vec![0.0; d], vec![0.0; d]);
    // Each step clears the last row left of the diagonal with a reflection I - v v^T / h acting on the leading block.
    for size in (1..d).rev() {
        let mut v = a[size * d..size * d + size].to_vec();
        let length = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        diagonal[size] = a[size * d + size];
        let signed = if v[size - 1] > 0.0 { -length } else { length };
        beside[size] = signed;
        let h = length * length - v[size - 1] * signed;
        if length == 0.0 || h == 0.0 {
            continue;
        }
        v[size - 1] -= signed;
        let mut p: Vec<f64> = (0..size).map(|i| a[i * d..i * d + size].iter().zip(&v).map(|(x, y)| x * y).sum::<f64>() / h).collect();
        let half = v.iter().zip(&p).map(|(x, y)| x * y).sum::<f64>() / (2.0 * h);
        p.iter_mut().zip(&v).for_each(|(p, v)| *p -= half * v);
        for i in 0..size {
            let (vi, pi) = (v[i], p[i]);
            a[i * d..i * d + size].iter_mut().zip(v.iter().zip(&p)).for_each(|(x, (v, p))| *x -= vi * p + pi * v);
        }
    }
    if d > 0 {
        diagonal[0] = a[0];
    }
    beside.rotate_left(1.min(d));
    for l in 0..d {
        for _ in 0..MAX_ROTATIONS {
            let small = |m: usize| beside[m].abs() <= f64::EPSILON * (diagonal[m].abs() + diagonal[m + 1].abs());
            let end = (l..d - 1).find(|&m| small(m)).unwrap_or(d - 1);
            if end == l {
                break;
            }
            let mut g = (diagonal[l + 1] - diagonal[l]) / (2.0 * beside[l]);
            let mut r = g.hypot(1.0);
            g = diagonal[end] - diagonal[l] + beside[l] / (g + r.copysign(g));
            let (mut sine, mut cosine, mut p) = (1.0, 1.0, 0.0);
            let mut split = false;
            for i in (l..end).rev() {
                let (f, b) = (sine * beside[i], cosine * beside[i]);
                r = f.hypot(g);
                beside[i + 1] = r;
                if r == 0.0 {
                    diagonal[i + 1] -= p;
                    beside[end] = 0.0;
                    split = true;
                    break;
                }
                (sine, cosine) = (f / r, g / r);
                g = diagonal[i + 1] - p;
                r = (diagonal[i] - g) * sine + 2.0 * cosine * b;
                p = sine * r;
                diagonal[i + 1] = g + p;
                g = cosine * r - b;
            }
            if !split {
                diagonal[l] -= p;
                beside[l] = g;
                beside[end] = 0.0;
            }
        }
    }
    diagonal
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
    fn eigenvalues_have_the_traces_of_the_matrix_and_its_square() {
        let mut noise = Noise::new(2).stream("matrix", 0);
        for d in [1, 2, 3, 7, 40] {
            let mut a = vec![0.0; d * d];
            for i in 0..d {
                for j in 0..=i {
                    let x = noise.normal();
                    (a[i * d + j], a[j * d + i]) = (x, x);
                }
            }
            let values = eigenvalues(a.clone(), d);
            let trace: f64 = (0..d).map(|i| a[i * d + i]).sum();
            let square: f64 = a.iter().map(|x| x * x).sum();
            assert!((values.iter().sum::<f64>() - trace).abs() < 1e-10 * (1.0 + trace.abs()), "{d}");
            assert!((values.iter().map(|x| x * x).sum::<f64>() / square - 1.0).abs() < 1e-10, "{d}");
        }
        let mut known = eigenvalues(vec![2.0, 1.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, -5.0], 3);
        known.sort_by(f64::total_cmp);
        assert!(known.iter().zip([-5.0, 1.0, 3.0]).all(|(a, b)| (a - b).abs() < 1e-12), "{known:?}");
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
        let spread: f64 = (0..3).map(|i| own.covariance()[i * 4]).sum();
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
