//! Two-dimensional UMAP maps that are a function of the data and a seed alone.
//!
//! The fuzzy neighbour graph comes from the crate `umap-rs`. Its layout optimiser draws from the generator of the process on several
//! threads, so two runs never agree; the layout is therefore optimised here, sequentially and from a counter-based stream.

use ibhost_framework::noise::{Noise, Stream};
use ndarray::ArrayView2;
use umap_rs::{GraphParams, ManifoldParams, Umap, UmapConfig};

use crate::probes::neighbours::Neighbours;

/// Negative samples per attracted pair.
const NEGATIVE_SAMPLES: f64 = 5.0;
/// Passes over the graph for small and for large data.
const EPOCHS: [usize; 2] = [500, 200];
/// Rows up to which data are small.
const SMALL: usize = 10_000;
/// Largest step of a coordinate.
const CLIP: f64 = 4.0;

/// Lays out rows from their neighbours.
///
/// `distances` are what the graph is built from, one for each entry of `neighbours.indices`, ascending per row; `start` holds one point
/// per row. Minimises the fuzzy cross-entropy of McInnes et al. 2018 (arXiv:1802.03426) with `min_dist` in `[0, 1]` and spread 1.
///
/// # Errors
/// A sentence when there are not more rows than neighbours, fewer than two neighbours, or a distance is not finite.
pub fn layout(
    neighbours: &Neighbours,
    distances: &[f32],
    start: &[[f64; 2]],
    min_dist: f64,
    noise: Noise,
) -> Result<Vec<[f64; 2]>, String> {
    let (n, k) = (start.len(), neighbours.count);
    if k < 2 || n <= k {
        return Err(format!("{n} points are too few for a map with {k} neighbours; lower `neighbours` or use more points"));
    }
    if !distances.iter().all(|d| d.is_finite()) || !(0.0..=1.0).contains(&min_dist) {
        return Err("distances must be finite and `min_dist` between 0 and 1".to_owned());
    }
    let shape = |e: ndarray::ShapeError| format!("neighbours do not form a table of {n} x {k}: {e}");
    let indices = ArrayView2::from_shape((n, k), &neighbours.indices).map_err(shape)?;
    let lengths = ArrayView2::from_shape((n, k), distances).map_err(shape)?;
    let [a, b] = curve(min_dist);
    let config = UmapConfig {
        n_components: 2,
        manifold: ManifoldParams { min_dist: min_dist as f32, a: Some(a as f32), b: Some(b as f32), ..ManifoldParams::default() },
        graph: GraphParams { n_neighbors: k, ..GraphParams::default() },
        ..UmapConfig::default()
    };
    // Only the number of rows of its first argument is looked at.
    let manifold = Umap::new(config).learn_manifold(lengths, indices, lengths);
    let epochs = EPOCHS[usize::from(n > SMALL)];
    let mut edges: Vec<Edge> = Vec::new();
    let rows = manifold.graph().outer_iterator().enumerate();
    let weights: Vec<(usize, usize, f64)> =
        rows.flat_map(|(i, row)| row.iter().map(|(j, &w)| (i, j, f64::from(w))).collect::<Vec<_>>()).collect();
    let heaviest = weights.iter().map(|w| w.2).fold(0.0, f64::max);
    for (from, to, weight) in weights {
        let period = heaviest / weight;
        // Pairs that would be due less than once are left out.
        if weight > 0.0 && period <= epochs as f64 {
            edges.push(Edge { from, to, period, next: period, next_negative: period / NEGATIVE_SAMPLES });
        }
    }
    Ok(optimise(edges, start.to_vec(), epochs, [a, b], noise))
}

/// A pair that attracts, with the epochs it is due at.
struct Edge {
    from: usize,
    to: usize,
    period: f64,
    next: f64,
    next_negative: f64,
}

fn optimise(mut edges: Vec<Edge>, mut points: Vec<[f64; 2]>, epochs: usize, [a, b]: [f64; 2], noise: Noise) -> Vec<[f64; 2]> {
    let n = points.len();
    for epoch in 0..epochs {
        let rate = 1.0 - epoch as f64 / epochs as f64;
        let now = epoch as f64;
        let mut stream: Stream = noise.stream("umap", epoch as u64);
        for edge in &mut edges {
            if edge.next > now {
                continue;
            }
            let (difference, d2) = between(points[edge.from], points[edge.to]);
            if d2 > 0.0 {
                let attraction = -2.0 * a * b * d2.powf(b - 1.0) / (1.0 + a * d2.powf(b));
                for c in 0..2 {
                    let step = rate * (attraction * difference[c]).clamp(-CLIP, CLIP);
                    points[edge.from][c] += step;
                    points[edge.to][c] -= step;
                }
            }
            edge.next += edge.period;
            let negative_period = edge.period / NEGATIVE_SAMPLES;
            let negatives = ((now - edge.next_negative) / negative_period).max(0.0) as usize;
            for _ in 0..negatives {
                let other = stream.below(n);
                let (difference, d2) = between(points[edge.from], points[other]);
                if other == edge.from || d2 == 0.0 {
                    continue;
                }
                let repulsion = 2.0 * b / ((0.001 + d2) * (1.0 + a * d2.powf(b)));
                for c in 0..2 {
                    points[edge.from][c] += rate * (repulsion * difference[c]).clamp(-CLIP, CLIP);
                }
            }
            edge.next_negative += negatives as f64 * negative_period;
        }
    }
    points
}

fn between(p: [f64; 2], q: [f64; 2]) -> ([f64; 2], f64) {
    let d = [p[0] - q[0], p[1] - q[1]];
    (d, d[0] * d[0] + d[1] * d[1])
}

/// Parameters of `1 / (1 + a x^2b)`, the closest to 1 below `min_dist` and `exp(min_dist - x)` above it on `[0, 3]`, by damped
/// Gauss-Newton steps.
fn curve(min_dist: f64) -> [f64; 2] {
    let points: Vec<[f64; 2]> =
        (1..=300).map(|i| f64::from(i) / 100.0).map(|x| [x, if x < min_dist { 1.0 } else { (min_dist - x).exp() }]).collect();
    let value = |[a, b]: [f64; 2], x: f64| 1.0 / (1.0 + a * x.powf(2.0 * b));
    let error = |p: [f64; 2]| points.iter().map(|[x, y]| (value(p, *x) - y).powi(2)).sum::<f64>();
    let (mut p, mut damping) = ([1.0, 1.0], 1e-3);
    for _ in 0..100 {
        let (mut h, mut g) = ([[0.0; 2]; 2], [0.0; 2]);
        for [x, y] in &points {
            let f = value(p, *x);
            let power = x.powf(2.0 * p[1]);
            let slope = [-f * f * power, -f * f * p[0] * power * 2.0 * x.ln()];
            for r in 0..2 {
                g[r] += slope[r] * (f - y);
                for c in 0..2 {
                    h[r][c] += slope[r] * slope[c];
                }
            }
        }
        let (h00, h11) = (h[0][0] * (1.0 + damping), h[1][1] * (1.0 + damping));
        let det = h00 * h11 - h[0][1] * h[1][0];
        let step = [(h11 * g[0] - h[0][1] * g[1]) / det, (h00 * g[1] - h[1][0] * g[0]) / det];
        let next = [(p[0] - step[0]).max(1e-3), (p[1] - step[1]).max(1e-3)];
        if error(next) < error(p) {
            p = next;
            damping *= 0.3;
        } else {
            damping *= 10.0;
        }
    }
    p
}

/// The first two principal components of `rows` (`dim` values each), scaled to `[0, 10]` per axis after adding noise of 1e-4 of the
/// range, so that copies start apart.
pub fn principal_start(rows: &[f32], dim: usize, noise: Noise) -> Vec<[f64; 2]> {
    let n = rows.len() / dim.max(1);
    let mut mean = vec![0.0; dim];
    for row in rows.chunks_exact(dim) {
        row.iter().zip(&mut mean).for_each(|(x, m)| *m += f64::from(*x) / n as f64);
    }
    let mut stream = noise.stream("umap start", 0);
    let mut axes: [Vec<f64>; 2] = [0, 1].map(|_| (0..dim).map(|_| stream.normal()).collect());
    let project = |axis: &[f64], row: &[f32]| -> f64 { row.iter().zip(&mean).zip(axis).map(|((x, m), a)| (f64::from(*x) - m) * a).sum() };
    // The subspace of two power iterations converges with the ratio of the third to the second variance; a start needs no more.
    for _ in 0..40 {
        let mut next = [vec![0.0; dim], vec![0.0; dim]];
        for row in rows.chunks_exact(dim) {
            for (axis, next) in axes.iter().zip(&mut next) {
                let score = project(axis, row);
                next.iter_mut().zip(row.iter().zip(&mean)).for_each(|(t, (x, m))| *t += score * (f64::from(*x) - m));
            }
        }
        let [first, second] = &mut next;
        normalise(first);
        let overlap: f64 = first.iter().zip(second.iter()).map(|(a, b)| a * b).sum();
        second.iter_mut().zip(first.iter()).for_each(|(s, f)| *s -= overlap * f);
        normalise(second);
        axes = next;
    }
    let mut points: Vec<[f64; 2]> = rows.chunks_exact(dim).map(|row| [project(&axes[0], row), project(&axes[1], row)]).collect();
    for c in 0..2 {
        let (low, high) = points.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), p| (low.min(p[c]), high.max(p[c])));
        let range = if high > low { high - low } else { 1.0 };
        for p in &mut points {
            p[c] = 10.0 * ((p[c] - low) / range + 1e-4 * stream.normal());
        }
    }
    points
}

fn normalise(vector: &mut [f64]) {
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    if length > 0.0 {
        for x in vector.iter_mut() {
            *x /= length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probes::neighbours::nearest;

    #[test]
    fn the_curve_has_the_known_parameters() {
        let [a, b] = curve(0.1);
        assert!((a - 1.577).abs() < 0.01 && (b - 0.8951).abs() < 0.01, "{a} {b}");
        let [a, b] = curve(0.5);
        assert!((a - 0.583).abs() < 0.01 && (b - 1.334).abs() < 0.01, "{a} {b}");
    }

    #[test]
    fn separate_clusters_stay_separate_and_seeds_decide() {
        let mut stream = Noise::new(2).stream("clusters", 0);
        let (n, dim) = (300, 10);
        let rows: Vec<f32> =
            (0..n).flat_map(|i| (0..dim).map(|d| stream.normal_f32() + if d == i % 3 { 12.0 } else { 0.0 }).collect::<Vec<_>>()).collect();
        let neighbours = nearest(&rows, dim, 15);
        let lengths: Vec<f32> = neighbours.squared.iter().map(|d| d.sqrt()).collect();
        let map = |seed| {
            let noise = Noise::new(seed);
            layout(&neighbours, &lengths, &principal_start(&rows, dim, noise), 0.1, noise).unwrap()
        };
        let points = map(1);
        assert_eq!(points, map(1));
        assert_ne!(points, map(2));
        let mut right = 0;
        for i in 0..n {
            let nearest =
                (0..n).filter(|&j| j != i).min_by(|&x, &y| between(points[i], points[x]).1.total_cmp(&between(points[i], points[y]).1));
            right += usize::from(nearest.is_some_and(|j| j % 3 == i % 3));
        }
        assert!(right > 295, "{right}");
    }

    #[test]
    fn too_few_points_are_refused() {
        let neighbours = nearest(&[0.0, 1.0, 2.0], 1, 15);
        let error = layout(&neighbours, &[0.0; 9], &[[0.0; 2]; 3], 0.1, Noise::new(0)).unwrap_err();
        assert!(error.contains("3 points"), "{error}");
    }
}
