//! Nearest-neighbour estimators of mutual information and entropy, in nats: Kraskov et al. 2004, Gao et al. 2018, Kozachenko and Leonenko 1987.

use std::collections::HashMap;

use faer::{MatRef, Side};
use rayon::prelude::*;

use crate::information::kd_tree::{Ball, Best, Norm, Tree};

/// Euler's constant.
const GAMMA: f64 = 0.577_215_664_901_532_9;
/// Joint dimensions up to which trees are used; beyond, every pair is looked at.
const TREE_DIMENSIONS: usize = 8;
/// Queries a parallel task handles.
const CHUNK: usize = 64;
/// Queries that look at the same samples one after the other, where every pair is looked at.
const QUERIES: usize = 8;
/// Samples in a block: its coordinates stay in the first-level cache while the queries use them.
const BLOCK: usize = 128;

/// Samples of one variable, `dim` values a row.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Sample-major.
    pub values: &'a [f64],
    /// Values in a sample.
    pub dim: usize,
}

impl<'a> Rows<'a> {
    /// `values` of `dim` a row.
    pub fn new(values: &'a [f64], dim: usize) -> Self {
        Self { values, dim }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.values.len().checked_div(self.dim).unwrap_or(0)
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn row(&self, i: usize) -> &'a [f64] {
        &self.values[i * self.dim..(i + 1) * self.dim]
    }
}

/// Why an estimate is not possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InformationError {
    /// Variables with different numbers of samples, or without values.
    #[error("the variables hold {0:?} samples; they must hold the same number, of at least one value each")]
    Shape(Vec<usize>),
    /// Fewer samples than neighbours.
    #[error("{samples} samples have no {k}-th neighbour; use more samples or a smaller k")]
    TooFew {
        /// Samples.
        samples: usize,
        /// Neighbours asked for.
        k: usize,
    },
    /// A value that is no number.
    #[error("sample {0} holds a value that is not finite")]
    NotFinite(usize),
}

/// What the estimators need of every sample: the distance of its k-th neighbour in the joint space, and how many other samples lie in
/// the ball of that radius in each marginal.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbourhoods {
    /// Distance to the k-th neighbour, one a sample.
    pub radius: Vec<f64>,
    /// For each variable, one count a sample; the sample itself is left out.
    pub counts: Vec<Vec<usize>>,
}

/// psi(n) for n >= 1.
pub fn digamma(n: usize) -> f64 {
    // The asymptotic series is exact to rounding from 30 on; below, the harmonic sum is.
    if n < 30 {
        return (1..n).map(|i| 1.0 / i as f64).sum::<f64>() - GAMMA;
    }
    let x = n as f64;
    let s = 1.0 / (x * x);
    x.ln() - 0.5 / x - s * (1.0 / 12.0 - s * (1.0 / 120.0 - s * (1.0 / 252.0 - s / 240.0)))
}

/// ln Gamma(1 + n/2).
fn ln_gamma_half(n: usize) -> f64 {
    // Gamma(1) = 1 and Gamma(1/2) = sqrt(pi) start the recursion Gamma(1 + x) = x Gamma(x).
    let start = if n.is_multiple_of(2) { 0.0 } else { 0.5 * std::f64::consts::PI.ln() };
    start + (1..=n).rev().step_by(2).map(|i| (i as f64 / 2.0).ln()).sum::<f64>()
}

/// ln of the volume of the unit ball of `dim` dimensions.
fn ln_ball(dim: usize, norm: Norm) -> f64 {
    let d = dim as f64;
    match norm {
        Norm::Max => d * std::f64::consts::LN_2,
        Norm::Euclidean => d * (2f64.ln() + ln_gamma_half(1)) - ln_gamma_half(dim),
    }
}

pub(crate) fn check(variables: &[Rows<'_>], k: usize) -> Result<usize, InformationError> {
    let sizes: Vec<usize> = variables.iter().map(Rows::len).collect();
    let samples = sizes.first().copied().unwrap_or(0);
    if variables.iter().any(|v| v.dim == 0) || sizes.iter().any(|&n| n != samples) || samples == 0 {
        return Err(InformationError::Shape(sizes));
    }
    if k == 0 || samples <= k {
        return Err(InformationError::TooFew { samples, k });
    }
    for variable in variables {
        if let Some(at) = variable.values.iter().position(|x| !x.is_finite()) {
            return Err(InformationError::NotFinite(at / variable.dim));
        }
    }
    Ok(samples)
}

/// Neighbourhoods of every sample; exact, ties decided by `ball`.
///
/// # Errors
/// [`InformationError`] when the variables do not fit together or hold too few samples.
pub fn neighbourhoods(variables: &[Rows<'_>], k: usize, norm: Norm, ball: Ball) -> Result<Neighbourhoods, InformationError> {
    let samples = check(variables, k)?;
    let joint: usize = variables.iter().map(|v| v.dim).sum();
    if joint > TREE_DIMENSIONS || variables.iter().any(|v| v.dim > TREE_DIMENSIONS) {
        return Ok(by_pairs(variables, samples, k, norm, ball));
    }
    let rows: Vec<f64> = (0..samples).flat_map(|i| variables.iter().flat_map(move |v| v.row(i).iter().copied())).collect();
    let radius = with_dimension(joint, &Kth { rows: &rows, k, norm });
    let counts = variables.iter().map(|v| with_dimension(v.dim, &Counts { rows: v.values, radius: &radius, norm, ball })).collect();
    Ok(Neighbourhoods { radius: radius.into_iter().map(|sum| norm.finish(sum)).collect(), counts })
}

/// Work on a tree whose dimension is only known at run time.
trait Dimensioned {
    type Output;
    fn run<const D: usize>(&self) -> Self::Output;
}

fn with_dimension<W: Dimensioned>(dim: usize, work: &W) -> W::Output {
    match dim {
        0 | 1 => work.run::<1>(),
        2 => work.run::<2>(),
        3 => work.run::<3>(),
        4 => work.run::<4>(),
        5 => work.run::<5>(),
        6 => work.run::<6>(),
        7 => work.run::<7>(),
        _ => work.run::<8>(),
    }
}

struct Kth<'a> {
    rows: &'a [f64],
    k: usize,
    norm: Norm,
}

struct Counts<'a> {
    rows: &'a [f64],
    radius: &'a [f64],
    norm: Norm,
    ball: Ball,
}

fn tree_of<const D: usize>(rows: &[f64]) -> Tree<D> {
    Tree::new(rows.as_chunks::<D>().0)
}

/// Results in tree order put back into row order.
fn scatter<T: Copy + Default + Send>(order: &[u32], each: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
    let found: Vec<T> = (0..order.len()).into_par_iter().with_min_len(CHUNK).map(each).collect();
    let mut out = vec![T::default(); order.len()];
    for (&row, value) in order.iter().zip(found) {
        out[row as usize] = value;
    }
    out
}

impl Dimensioned for Kth<'_> {
    type Output = Vec<f64>;
    fn run<const D: usize>(&self) -> Vec<f64> {
        let tree = tree_of::<D>(self.rows);
        scatter(tree.order(), |position| tree.kth(position, self.k, self.norm))
    }
}

impl Dimensioned for Counts<'_> {
    type Output = Vec<usize>;
    fn run<const D: usize>(&self) -> Vec<usize> {
        let tree = tree_of::<D>(self.rows);
        scatter(tree.order(), |position| {
            let radius = self.radius[tree.order()[position] as usize];
            let found = tree.count(tree.point(position), radius, self.ball, self.norm);
            // The query is in its own closed ball always, in its open one unless the radius is 0.
            found - usize::from(self.ball.holds(0.0, radius))
        })
    }
}

/// Distances of a few queries to all samples in every variable, `[variable, QUERIES, samples]`.
struct Distances {
    values: Vec<f64>,
    samples: usize,
}

impl Distances {
    fn range(&self, variable: usize, query: usize) -> std::ops::Range<usize> {
        let from = (variable * QUERIES + query) * self.samples;
        from..from + self.samples
    }
}

/// Every pair, a few queries at a time against all samples, coordinate by coordinate.
fn by_pairs(variables: &[Rows<'_>], samples: usize, k: usize, norm: Norm, ball: Ball) -> Neighbourhoods {
    // Coordinate-major copies let the inner loops run over samples.
    let columns: Vec<Vec<Vec<f64>>> =
        variables.iter().map(|v| (0..v.dim).map(|d| (0..samples).map(|i| v.values[i * v.dim + d]).collect()).collect()).collect();
    let arch = pulp::Arch::new();
    let rows: Vec<Vec<(f64, Vec<usize>)>> = (0..samples.div_ceil(QUERIES))
        .into_par_iter()
        .map_init(
            || Distances { values: vec![0.0; columns.len() * QUERIES * samples], samples },
            |distances, group| {
                let queries = group * QUERIES..samples.min((group + 1) * QUERIES);
                // Compiled once more for the vectors of the machine at hand.
                arch.dispatch(
                    #[inline(always)]
                    || {
                        measure(&columns, queries.clone(), norm, distances);
                        queries.clone().map(|i| neighbourhood(distances, columns.len(), i, k, norm, ball)).collect()
                    },
                )
            },
        )
        .collect();
    let rows: Vec<(f64, Vec<usize>)> = rows.into_iter().flatten().collect();
    let counts = (0..variables.len()).map(|v| rows.iter().map(|(_, counts)| counts[v]).collect()).collect();
    Neighbourhoods { radius: rows.into_iter().map(|(radius, _)| radius).collect(), counts }
}

#[allow(clippy::inline_always)] // Only what is inlined into the dispatched closure is compiled for wide vectors.
#[inline(always)]
fn measure(columns: &[Vec<Vec<f64>>], queries: std::ops::Range<usize>, norm: Norm, distances: &mut Distances) {
    for from in (0..distances.samples).step_by(BLOCK) {
        let block = from..distances.samples.min(from + BLOCK);
        for (v, variable) in columns.iter().enumerate() {
            for (q, i) in queries.clone().enumerate() {
                let range = distances.range(v, q);
                let sums = &mut distances.values[range][block.clone()];
                sums.fill(0.0);
                for column in variable {
                    accumulate(sums, &column[block.clone()], column[i], norm);
                }
            }
        }
    }
}

/// Distance of the `k`-th neighbour of sample `i` and how many others each variable has in that ball.
#[allow(clippy::inline_always)] // As above.
#[inline(always)]
fn neighbourhood(distances: &Distances, variables: usize, i: usize, k: usize, norm: Norm, ball: Ball) -> (f64, Vec<usize>) {
    let mut best = Best::new(k);
    let mut joint = [0.0; BLOCK];
    for from in (0..distances.samples).step_by(BLOCK) {
        let block = from..distances.samples.min(from + BLOCK);
        let joint = &mut joint[..block.len()];
        joint.fill(0.0);
        for v in 0..variables {
            let distance = &distances.values[distances.range(v, i % QUERIES)][block.clone()];
            joint.iter_mut().zip(distance).for_each(|(j, d)| *j = norm.combine(*j, *d));
        }
        if block.contains(&i) {
            joint[i - from] = f64::INFINITY;
        }
        // After the first blocks hardly any holds a neighbour, which one vectorised look tells.
        let worst = best.worst();
        if joint.iter().map(|&d| usize::from(d < worst)).sum::<usize>() > 0 {
            for &distance in joint.iter() {
                if distance < best.worst() {
                    best.insert(distance);
                }
            }
        }
    }
    let radius = best.worst();
    let count = |v| {
        let distance = &distances.values[distances.range(v, i % QUERIES)];
        let inside = distance.iter().map(|&d| usize::from(ball.holds(d, radius))).sum::<usize>();
        inside - usize::from(ball.holds(0.0, radius))
    };
    (norm.finish(radius), (0..variables).map(count).collect())
}

#[allow(clippy::inline_always)] // As above.
#[inline(always)]
fn accumulate(sums: &mut [f64], column: &[f64], at: f64, norm: Norm) {
    match norm {
        Norm::Max => sums.iter_mut().zip(column).for_each(|(sum, x)| {
            let difference = (x - at).abs();
            // A plain comparison compiles to one vector instruction.
            *sum = if difference > *sum { difference } else { *sum };
        }),
        Norm::Euclidean => sums.iter_mut().zip(column).for_each(|(sum, x)| *sum += (x - at) * (x - at)),
    }
}

/// Whether any radius is 0, which takes at least as many copies of a sample as neighbours.
fn warn_copies(radius: &[f64], estimator: &str) -> bool {
    let copies = radius.iter().filter(|&&r| r == 0.0).count();
    if copies > 0 {
        tracing::warn!("{estimator}: {copies} samples have all their neighbours at distance 0; the estimate is not a number");
    }
    copies > 0
}

/// Most samples of `variable` that are equal.
fn most_copies(variable: &Rows<'_>) -> usize {
    let mut seen: HashMap<Vec<u64>, usize> = HashMap::new();
    for i in 0..variable.len() {
        // Adding 0 makes one number of 0 and -0.
        *seen.entry(variable.row(i).iter().map(|x| (x + 0.0).to_bits()).collect()).or_default() += 1;
    }
    seen.into_values().max().unwrap_or(0)
}

/// Whether a variable has more than `k` equal samples and so no density.
fn warn_no_density(variables: &[Rows<'_>], k: usize, estimator: &str) -> bool {
    let found = variables.iter().map(most_copies).enumerate().find(|(_, copies)| *copies > k);
    if let Some((at, copies)) = found {
        tracing::warn!(
            "{estimator}: {copies} samples of variable {} are equal, so it has no density; the estimate is not a number",
            at + 1
        );
    }
    found.is_some()
}

/// I(X; Y; ...) by the first estimator of Kraskov et al. 2004: psi(k) + (m-1) psi(N) - mean sum_v psi(n_v + 1) for m variables, with the
/// max-norm and n_v the other samples strictly closer than the k-th joint neighbour. NaN when samples coincide.
///
/// # Errors
/// As [`neighbourhoods`].
pub fn kraskov(variables: &[Rows<'_>], k: usize) -> Result<f64, InformationError> {
    let found = neighbourhoods(variables, k, Norm::Max, Ball::Open)?;
    if warn_copies(&found.radius, "KSG") {
        return Ok(f64::NAN);
    }
    let n = found.radius.len();
    let mean: f64 = found.counts.iter().flatten().map(|&c| digamma(c + 1)).sum::<f64>() / n as f64;
    Ok(digamma(k) + (variables.len() - 1) as f64 * digamma(n) - mean)
}

/// I(X; Y; ...) by the bias-corrected estimator of Gao et al. 2018: psi(k) + (m-1) ln N - mean sum_v ln n_v + sum_v V(d_v) - V(sum d_v), n_v
/// the other samples at most as far as the k-th joint neighbour and V the ln volumes of unit balls. NaN when samples coincide; with the
/// Euclidean norm, whose volumes do not cancel, also when more than `k` samples of one variable do, because it then has no density.
///
/// # Errors
/// As [`neighbourhoods`].
pub fn revised(variables: &[Rows<'_>], k: usize, norm: Norm) -> Result<f64, InformationError> {
    let found = neighbourhoods(variables, k, norm, Ball::Closed)?;
    let name = "revised KSG";
    if warn_copies(&found.radius, name) || (norm == Norm::Euclidean && warn_no_density(variables, k, name)) {
        return Ok(f64::NAN);
    }
    let n = found.radius.len() as f64;
    let mean: f64 = found.counts.iter().flatten().map(|&c| (c as f64).ln()).sum::<f64>() / n;
    let volumes: f64 = variables.iter().map(|v| ln_ball(v.dim, norm)).sum();
    let joint = variables.iter().map(|v| v.dim).sum();
    Ok(digamma(k) + (variables.len() - 1) as f64 * n.ln() - mean + volumes - ln_ball(joint, norm))
}

/// Differential entropy by Kozachenko and Leonenko: psi(N) - psi(k) + V(d) + d mean ln epsilon. NaN when samples coincide.
///
/// # Errors
/// As [`neighbourhoods`].
pub fn entropy(variable: Rows<'_>, k: usize, norm: Norm) -> Result<f64, InformationError> {
    let found = neighbourhoods(&[variable], k, norm, Ball::Open)?;
    if warn_copies(&found.radius, "entropy") {
        return Ok(f64::NAN);
    }
    let n = found.radius.len();
    let mean: f64 = found.radius.iter().map(|r| r.ln()).sum::<f64>() / n as f64;
    Ok(digamma(n) - digamma(k) + ln_ball(variable.dim, norm) + variable.dim as f64 * mean)
}

/// Differential entropy by resubstitution into a Gaussian kernel estimate with Scott's bandwidth: -mean ln p(x_i), p the mean of normals at
/// every sample whose covariance is the samples' own times N^(-2/(d+4)).
///
/// # Errors
/// As [`neighbourhoods`]; NaN when the samples lie in a hyperplane.
pub fn kernel_entropy(variable: Rows<'_>) -> Result<f64, InformationError> {
    let n = check(&[variable], 1)?;
    let dim = variable.dim;
    let mean: Vec<f64> = (0..dim).map(|d| (0..n).map(|i| variable.row(i)[d]).sum::<f64>() / n as f64).collect();
    let bandwidth = (n as f64).powf(-1.0 / (dim as f64 + 4.0));
    let mut covariance = vec![0.0; dim * dim];
    for i in 0..n {
        for a in 0..dim {
            for b in 0..dim {
                covariance[a * dim + b] +=
                    (variable.row(i)[a] - mean[a]) * (variable.row(i)[b] - mean[b]) / (n - 1) as f64 * bandwidth.powi(2);
            }
        }
    }
    let Ok(decomposition) = MatRef::from_row_major_slice(&covariance, dim, dim).llt(Side::Lower) else {
        tracing::warn!("kernel entropy: the samples lie in a hyperplane; the estimate is not a number");
        return Ok(f64::NAN);
    };
    let factor = decomposition.L();
    let log_determinant: f64 = (0..dim).map(|d| factor[(d, d)].ln()).sum();
    // In whitened coordinates every kernel is a standard normal.
    let white: Vec<f64> = (0..n)
        .flat_map(|i| {
            let mut row = vec![0.0; dim];
            for a in 0..dim {
                let known: f64 = (0..a).map(|b| factor[(a, b)] * row[b]).sum();
                row[a] = (variable.row(i)[a] - mean[a] - known) / factor[(a, a)];
            }
            row
        })
        .collect();
    let rows = Rows::new(&white, dim);
    let total: f64 = (0..n)
        .into_par_iter()
        .with_min_len(CHUNK)
        .map(|i| {
            let square = |j: usize| rows.row(i).iter().zip(rows.row(j)).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            // The sample's own kernel keeps the sum away from 0.
            (0..n).map(|j| (-0.5 * square(j)).exp()).sum::<f64>().ln()
        })
        .collect::<Vec<f64>>()
        .into_iter()
        .sum();
    let normaliser = log_determinant + 0.5 * dim as f64 * (2.0 * std::f64::consts::PI).ln() + (n as f64).ln();
    Ok(normaliser - total / n as f64)
}

/// Order of the error of a KSG estimate: N^(-1/2) + N^(-1/(dx + dy)) (Gao et al. 2018).
pub fn error_scale(samples: usize, dimensions: usize) -> f64 {
    let n = samples as f64;
    n.powf(-0.5) + n.powf(-1.0 / dimensions.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_framework::noise::Noise;

    fn correlated(n: usize, dim: usize, rho: f64, seed: u64) -> (Vec<f64>, Vec<f64>) {
        let mut stream = Noise::new(seed).stream("pairs", 0);
        (0..n * dim)
            .map(|_| {
                let (a, b) = (stream.normal(), stream.normal());
                (a, rho * a + (1.0 - rho * rho).sqrt() * b)
            })
            .unzip()
    }

    #[test]
    fn trees_and_pairs_agree_exactly() {
        let (x, y) = correlated(700, 3, 0.6, 1);
        // Rounding makes ties and copies.
        let coarse = |v: &[f64]| v.iter().map(|x| (x * 4.0).round() / 4.0).collect::<Vec<_>>();
        for (x, y) in [(x.clone(), y.clone()), (coarse(&x), coarse(&y))] {
            for (norm, ball) in [(Norm::Max, Ball::Open), (Norm::Max, Ball::Closed), (Norm::Euclidean, Ball::Open)] {
                let variables = [Rows::new(&x, 3), Rows::new(&y, 3)];
                let tree = neighbourhoods(&variables, 5, norm, ball).unwrap();
                let pairs = by_pairs(&variables, 700, 5, norm, ball);
                assert_eq!(tree.counts, pairs.counts);
                assert!(tree.radius.iter().zip(&pairs.radius).all(|(a, b)| (a - b).abs() < 1e-12));
            }
        }
    }

    #[test]
    fn gaussian_information_is_found() {
        for (dim, rho) in [(1, 0.9), (2, 0.6)] {
            let (x, y) = correlated(4000, dim, rho, 2);
            let exact = -0.5 * dim as f64 * (1.0 - rho * rho).ln();
            let found = kraskov(&[Rows::new(&x, dim), Rows::new(&y, dim)], 5).unwrap();
            assert!((found - exact).abs() < 0.06, "{dim}: {found} for {exact}");
            let entropy = entropy(Rows::new(&x, dim), 5, Norm::Euclidean).unwrap();
            assert!((entropy - dim as f64 * 1.418_94).abs() < 0.06, "{entropy}");
            let kernel = kernel_entropy(Rows::new(&x, dim)).unwrap();
            assert!((kernel - dim as f64 * 1.418_94).abs() < 0.1, "{kernel}");
        }
    }

    #[test]
    fn a_constant_tells_nothing_and_few_sources_no_more_than_their_entropy() {
        let (normal, codes) = correlated(600, 3, 0.0, 7);
        let constant = vec![0.5; 600];
        let copies: Vec<f64> = (0..600).flat_map(|i| normal[i % 12 * 3..][..3].to_vec()).collect();
        // Codes that all but name their source.
        let codes: Vec<f64> = copies.iter().zip(&codes).map(|(x, noise)| x + 1e-3 * noise).collect();
        for (x, limit) in [(Rows::new(&constant, 1), 0.15), (Rows::new(&copies, 3), 12f64.ln() + 0.15)] {
            let variables = [x, Rows::new(&codes, 3)];
            for found in [kraskov(&variables, 5).unwrap(), revised(&variables, 5, Norm::Max).unwrap()] {
                assert!(found.abs() < limit, "{found} above {limit}");
            }
            assert!(revised(&variables, 5, Norm::Euclidean).unwrap().is_nan(), "its volumes assume a density");
        }
        // A pair of equal samples is no reason to give up.
        let mut pair = normal;
        pair.copy_within(0..3, 3);
        assert!(revised(&[Rows::new(&pair, 3), Rows::new(&codes, 3)], 5, Norm::Euclidean).unwrap().is_finite());
    }

    #[test]
    fn digamma_and_volumes_match_known_values() {
        assert!((digamma(1) + GAMMA).abs() < 1e-15 && (digamma(2) - 1.0 + GAMMA).abs() < 1e-15);
        let by_sum = (1..1000).map(|i| 1.0 / f64::from(i)).sum::<f64>() - GAMMA;
        assert!((digamma(1000) - by_sum).abs() < 1e-12);
        let by_sum = (1..30).map(|i| 1.0 / f64::from(i)).sum::<f64>() - GAMMA;
        assert!((digamma(30) - by_sum).abs() < 1e-14);
        assert!((ln_ball(2, Norm::Euclidean) - std::f64::consts::PI.ln()).abs() < 1e-12);
        assert!((ln_ball(3, Norm::Euclidean) - (4.0 * std::f64::consts::PI / 3.0).ln()).abs() < 1e-12);
    }

    #[test]
    fn copies_and_wrong_shapes() {
        let x = [1.0; 20];
        assert!(kraskov(&[Rows::new(&x, 2), Rows::new(&x, 2)], 3).unwrap().is_nan());
        for norm in [Norm::Max, Norm::Euclidean] {
            assert!(revised(&[Rows::new(&x, 2), Rows::new(&x, 2)], 3, norm).unwrap().is_nan());
            assert!(entropy(Rows::new(&x, 2), 3, norm).unwrap().is_nan());
        }
        assert!(kernel_entropy(Rows::new(&x, 2)).unwrap().is_nan());
        assert_eq!(kraskov(&[Rows::new(&x, 2), Rows::new(&x, 4)], 3), Err(InformationError::Shape(vec![10, 5])));
        assert_eq!(kraskov(&[Rows::new(&x, 2), Rows::new(&x, 2)], 10), Err(InformationError::TooFew { samples: 10, k: 10 }));
        let bad = [0.0, f64::NAN];
        assert_eq!(entropy(Rows::new(&bad, 1), 1, Norm::Max), Err(InformationError::NotFinite(1)));
    }
}
