//! The models on the upper or lower edge of a cloud of (rate, value).

/// Which edge is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// Large values are good.
    Upper,
    /// Small values are good.
    Lower,
}

/// Numbers of the points, ascending, that are corners of those sides of the convex hull which are seen from (0, 2 max value), or from
/// (0, -2 max value) for the lower edge. A value that is not finite is replaced by the one before it.
pub fn frontier(points: &[[f64; 2]], edge: Edge) -> Vec<usize> {
    let mut filled = Vec::with_capacity(points.len());
    for &[rate, value] in points {
        let before = filled.last().map_or(0.0, |[_, value]: &[f64; 2]| *value);
        filled.push([rate, if value.is_finite() { value } else { before }]);
    }
    let most = filled.iter().map(|p| p[1]).fold(f64::NEG_INFINITY, f64::max);
    let viewer = [0.0, if edge == Edge::Upper { 2.0 * most } else { -2.0 * most }];
    let hull = hull(&filled);
    let mut seen: Vec<usize> = Vec::new();
    for (k, &from) in hull.iter().enumerate() {
        let to = hull[(k + 1) % hull.len()];
        // The hull runs counter-clockwise, so what is to the right of a side is outside.
        if from != to && turn(filled[from], filled[to], viewer) < 0.0 {
            seen.extend([from, to]);
        }
    }
    seen.sort_unstable();
    seen.dedup();
    seen
}

/// Twice the signed area of the triangle; positive when c is to the left of a to b.
fn turn(a: [f64; 2], b: [f64; 2], c: [f64; 2]) -> f64 {
    (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
}

/// Corners of the convex hull, counter-clockwise (Andrew's monotone chain).
fn hull(points: &[[f64; 2]]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).filter(|&i| points[i].iter().all(|v| v.is_finite())).collect();
    order.sort_by(|&a, &b| points[a][0].total_cmp(&points[b][0]).then(points[a][1].total_cmp(&points[b][1])));
    if order.len() < 3 {
        return order;
    }
    let chain = |indices: &mut dyn Iterator<Item = usize>| {
        let mut chain: Vec<usize> = Vec::new();
        for i in indices {
            while let [.., a, b] = chain[..] {
                if turn(points[a], points[b], points[i]) > 0.0 {
                    break;
                }
                chain.pop();
            }
            chain.push(i);
        }
        chain.pop();
        chain
    };
    let mut lower = chain(&mut order.iter().copied());
    lower.extend(chain(&mut order.iter().rev().copied()));
    lower
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_of_a_square_with_a_point_inside() {
        let points = [[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0], [2.0, 2.0]];
        // From (0, 6) the top and the left side are seen, from (0, -6) the bottom and the left.
        assert_eq!(frontier(&points, Edge::Upper), [0, 2, 3]);
        assert_eq!(frontier(&points, Edge::Lower), [0, 1, 3]);
        assert_eq!(frontier(&[[1.0, 1.0], [2.0, f64::NAN], [1.5, 4.0]], Edge::Upper), [0, 2]);
        assert!(frontier(&[], Edge::Upper).is_empty());
        assert_eq!(frontier(&[[1.0, 1.0]], Edge::Upper), Vec::<usize>::new());
    }
}
