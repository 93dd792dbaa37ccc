//! Exact nearest neighbours by brute force.

use rayon::prelude::*;

/// Rows compared against one another at a time; two blocks of 256 dimensions fit the second-level cache.
const BLOCK: usize = 64;
/// Sums kept side by side so that the compiler can use vector instructions.
const LANES: usize = 16;

/// Nearest neighbours of every row.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbours {
    /// Neighbours per row, the row itself included.
    pub count: usize,
    /// Row numbers, `count` per row, nearest first.
    pub indices: Vec<u32>,
    /// Squared Euclidean distances in the same order.
    pub squared: Vec<f32>,
}

/// The `count` nearest rows of each row of `rows` (`dim` values each) by squared Euclidean distance; every row is its own first
/// neighbour, ties go to the smaller number. At most as many neighbours as rows are returned.
pub fn nearest(rows: &[f32], dim: usize, count: usize) -> Neighbours {
    let n = rows.len().checked_div(dim).unwrap_or(0);
    let count = count.min(n);
    let blocks: Vec<Vec<(f32, u32)>> = rows
        .par_chunks(BLOCK * dim.max(1))
        .enumerate()
        .map(|(block, queries)| {
            let mut best: Vec<Vec<(f32, u32)>> = vec![Vec::with_capacity(count + 1); queries.len() / dim];
            for (other_block, others) in rows.chunks(BLOCK * dim).enumerate() {
                for (q, (query, best)) in queries.chunks_exact(dim).zip(&mut best).enumerate() {
                    for (o, other) in others.chunks_exact(dim).enumerate() {
                        let index = other_block * BLOCK + o;
                        // Below every distance, so that the row itself comes first even among copies of it.
                        let distance = if index == block * BLOCK + q { -1.0 } else { squared_distance(query, other) };
                        insert(best, count, (distance, index as u32));
                    }
                }
            }
            best.into_iter().flatten().collect()
        })
        .collect();
    let pairs = blocks.into_iter().flatten();
    let (squared, indices) = pairs.map(|(distance, index)| (distance.max(0.0), index)).unzip();
    Neighbours { count, indices, squared }
}

fn insert(best: &mut Vec<(f32, u32)>, count: usize, candidate: (f32, u32)) {
    if best.len() == count && best.last().is_none_or(|worst| candidate.0 >= worst.0) {
        return;
    }
    let at = best.partition_point(|kept| kept.0 <= candidate.0);
    best.insert(at, candidate);
    best.truncate(count);
}

fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (a_lanes, b_lanes) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a_lanes.remainder().iter().zip(b_lanes.remainder()).map(|(x, y)| (x - y) * (x - y)).sum();
    for (x, y) in a_lanes.zip(b_lanes) {
        for lane in 0..LANES {
            let d = x[lane] - y[lane];
            sums[lane] += d * d;
        }
    }
    sums.iter().sum::<f32>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibhost_framework::noise::Noise;

    #[test]
    fn blocks_agree_with_sorting_all_distances() {
        let (n, dim, count) = (150, 19, 7);
        let mut noise = Noise::new(1).stream("rows", 0);
        let rows: Vec<f32> = (0..n * dim).map(|_| noise.normal_f32()).collect();
        let found = nearest(&rows, dim, count);
        for i in 0..n {
            let row = |j: usize| &rows[j * dim..(j + 1) * dim];
            let mut all: Vec<(f64, usize)> =
                (0..n).map(|j| (row(i).iter().zip(row(j)).map(|(a, b)| f64::from(a - b).powi(2)).sum(), j)).collect();
            all.sort_by(|a, b| a.partial_cmp(b).unwrap());
            let expected: Vec<u32> = all[..count].iter().map(|p| p.1 as u32).collect();
            assert_eq!(found.indices[i * count..(i + 1) * count], expected);
            assert!((f64::from(found.squared[i * count + 3]) - all[3].0).abs() < 1e-4);
        }
    }

    #[test]
    fn copies_and_few_rows() {
        let found = nearest(&[1.0; 6], 2, 5);
        assert_eq!((found.count, found.indices.as_slice()), (3, &[0, 1, 2, 1, 0, 2, 2, 0, 1][..]));
        assert_eq!(found.squared, [0.0; 9]);
        assert!(nearest(&[], 3, 4).indices.is_empty());
    }
}
