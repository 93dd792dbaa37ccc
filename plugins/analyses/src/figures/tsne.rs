//! Two-dimensional t-SNE maps that are a function of the data and their start alone.
//!
//! The optimiser is the Barnes-Hut one of the crate `bhtsne`. Its sums over points depend on how threads share the work, so it runs on a
//! single thread; neighbours and start come from here, because its own are drawn from the generator of the process.

use bhtsne::{Neighbor, tSNE};

use crate::probes::neighbours::Neighbours;

/// Opening angle below which a cell of the tree stands for its points.
const ANGLE: f32 = 0.5;
/// Standard deviation of the start along its widest axis.
const START: f64 = 1e-4;

/// Neighbours of each row, itself included, that a map of `perplexity` looks at.
pub fn neighbours_needed(perplexity: f64) -> usize {
    (3.0 * perplexity) as usize + 1
}

/// Lays out rows from their neighbours, which [`neighbours_needed`] counts: the row first, then by ascending distance.
///
/// `start` holds one point per row and is scaled down to a standard deviation of 1e-4. Minimises the Kullback-Leibler divergence of van
/// der Maaten 2014 (JMLR 15) over 1000 steps, the first 250 with affinities exaggerated 12 times.
///
/// # Errors
/// A sentence when there are too few rows for the perplexity, or a distance or the start is not finite.
pub fn layout(neighbours: &Neighbours, start: &[[f64; 2]], perplexity: f64) -> Result<Vec<[f64; 2]>, String> {
    let n = start.len();
    if neighbours.count < neighbours_needed(perplexity) || neighbours.count < 2 || n * neighbours.count != neighbours.indices.len() {
        return Err(format!("{n} points are too few for a map of perplexity {perplexity}; lower `perplexity` or use more points"));
    }
    if !neighbours.squared.iter().all(|d| d.is_finite()) || !start.iter().flatten().all(|x| x.is_finite()) {
        return Err("distances and start must be finite".to_owned());
    }
    let pairs = neighbours.indices.iter().zip(&neighbours.squared);
    let all: Vec<Neighbor<f32>> = pairs.map(|(&index, squared)| Neighbor { index: index as usize, distance: squared.sqrt() }).collect();
    let rows: Vec<Vec<Neighbor<f32>>> = all.chunks_exact(neighbours.count).map(|row| row[1..].to_vec()).collect();
    let start = small(start);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(|e| format!("no thread can be started: {e}"))?;
    let map = pool.install(|| {
        let mut fit: tSNE<'_, f32, Vec<Neighbor<f32>>, 2> = tSNE::new(&rows);
        fit.perplexity(perplexity as f32).initial_embedding(start);
        fit.barnes_hut_with_neighbors(ANGLE, &rows).embedding()
    });
    Ok(map.chunks_exact(2).map(|p| [f64::from(p[0]), f64::from(p[1])]).collect())
}

/// `points` about their mean, scaled to [`START`].
fn small(points: &[[f64; 2]]) -> Vec<f32> {
    let n = points.len() as f64;
    let mean = [0, 1].map(|c| points.iter().map(|p| p[c]).sum::<f64>() / n);
    let deviation = |c: usize| (points.iter().map(|p| (p[c] - mean[c]).powi(2)).sum::<f64>() / n).sqrt();
    let widest = deviation(0).max(deviation(1));
    let scale = if widest > 0.0 { START / widest } else { 0.0 };
    points.iter().flat_map(|p| [0, 1].map(|c| (scale * (p[c] - mean[c])) as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::umap::principal_start;
    use crate::probes::neighbours::nearest;
    use ibhost_framework::noise::Noise;

    #[test]
    fn clusters_stay_apart_and_the_map_repeats() {
        let mut stream = Noise::new(2).stream("clusters", 0);
        let (n, dim, perplexity) = (300, 10, 20.0);
        let rows: Vec<f32> =
            (0..n).flat_map(|i| (0..dim).map(|d| stream.normal_f32() + if d == i % 3 { 12.0 } else { 0.0 }).collect::<Vec<_>>()).collect();
        let neighbours = nearest(&rows, dim, neighbours_needed(perplexity));
        let start = principal_start(&rows, dim, Noise::new(1));
        let points = layout(&neighbours, &start, perplexity).unwrap();
        assert_eq!(points, layout(&neighbours, &start, perplexity).unwrap());
        let squared = |a: [f64; 2], b: [f64; 2]| (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2);
        let mut right = 0;
        for i in 0..n {
            let others = (0..n).filter(|&j| j != i);
            let nearest = others.min_by(|&a, &b| squared(points[i], points[a]).total_cmp(&squared(points[i], points[b])));
            right += usize::from(nearest.is_some_and(|j| j % 3 == i % 3));
        }
        assert!(right > 295, "{right}");
    }

    #[test]
    fn too_few_points_and_broken_distances_are_refused() {
        let few = nearest(&[0.0, 1.0, 2.0], 1, neighbours_needed(30.0));
        assert!(layout(&few, &[[0.0; 2]; 3], 30.0).unwrap_err().contains("3 points"));
        let mut broken = nearest(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 1, neighbours_needed(2.0));
        broken.squared[3] = f32::NAN;
        assert!(layout(&broken, &[[0.0; 2]; 8], 2.0).unwrap_err().contains("finite"));
    }
}
