//! Contour lines of a function on a grid.

/// `count` levels between 0 and `highest`, evenly spaced and without the ends.
pub fn levels(highest: f64, count: usize) -> Vec<f64> {
    (1..=count).map(|i| highest * i as f64 / (count + 1) as f64).collect()
}

/// Pieces of the line where the function equals `level`, in grid coordinates (column, row), one or two a cell.
///
/// Each cell is cut into two triangles, on which the function is taken as linear; the pieces of neighbouring cells then always meet.
pub fn contours(grid: &[Vec<f64>], level: f64) -> Vec<[[f64; 2]; 2]> {
    let mut pieces = Vec::new();
    for (y, rows) in grid.windows(2).enumerate() {
        for x in 1..rows[0].len().min(rows[1].len()) {
            let corner = |dx: usize, dy: usize| ([(x - 1 + dx) as f64, (y + dy) as f64], rows[dy][x - 1 + dx]);
            for triangle in [[corner(0, 0), corner(1, 0), corner(1, 1)], [corner(0, 0), corner(1, 1), corner(0, 1)]] {
                let mut ends = Vec::with_capacity(2);
                for (i, j) in [(0, 1), (1, 2), (2, 0)] {
                    let ((a, low), (b, high)) = (triangle[i], triangle[j]);
                    if (low < level) != (high < level) {
                        let t = (level - low) / (high - low);
                        ends.push([a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])]);
                    }
                }
                if let [a, b] = ends[..] {
                    pieces.push([a, b]);
                }
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contour_of_a_cone_is_a_circle() {
        let grid: Vec<Vec<f64>> = (0..=40).map(|y| (0..=40).map(|x| (f64::from(x) - 20.0).hypot(f64::from(y) - 20.0)).collect()).collect();
        let pieces = contours(&grid, 10.0);
        assert!(pieces.len() > 40);
        assert!(pieces.iter().flatten().all(|p| ((p[0] - 20.0).hypot(p[1] - 20.0) - 10.0).abs() < 0.1));
        let length: f64 = pieces.iter().map(|[a, b]| (a[0] - b[0]).hypot(a[1] - b[1])).sum();
        assert!((length - 20.0 * std::f64::consts::PI).abs() < 1.0, "{length}");
        assert!(contours(&grid, 1e9).is_empty());
        assert_eq!(levels(6.0, 2), [2.0, 4.0]);
    }
}
