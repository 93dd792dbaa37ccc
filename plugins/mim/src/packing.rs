//! Equal circles packed into the unit circle: where the components of a learned mixture prior start.

/// A circle: centre and radius.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Circle {
    /// Centre.
    pub centre: [f64; 2],
    /// Radius.
    pub radius: f64,
}

/// `count` equal circles inside the unit circle, greedily packed.
///
/// After two circles side by side, each next one touches two of those placed, overlaps none, and has the smallest sum of gaps to the
/// others (the hole degree of Huang et al. 2006; the first candidate wins ties). The smallest circle around all of them is then scaled to
/// the unit circle.
pub fn pack(count: usize) -> Vec<Circle> {
    let mut centres: Vec<[f64; 2]> = Vec::with_capacity(count);
    for placed in 0..count {
        centres.push(match placed {
            0 => [1.0, 0.0],
            1 => [-1.0, 0.0],
            _ => best_place(&centres),
        });
    }
    let (middle, radius) = enclosing(&centres);
    centres.iter().map(|c| Circle { centre: [(c[0] - middle[0]) / radius, (c[1] - middle[1]) / radius], radius: 1.0 / radius }).collect()
}

/// Gap between two unit circles.
fn gap(a: [f64; 2], b: [f64; 2]) -> f64 {
    let (x, y) = (b[0] - a[0], b[1] - a[1]);
    (x * x + y * y).sqrt() - 1.0 - 1.0
}

/// Centre of the next unit circle.
fn best_place(placed: &[[f64; 2]]) -> [f64; 2] {
    // A little room, so that rounding does not make touching circles overlap.
    let margin = f64::EPSILON * 10.0;
    let mut best: Option<(f64, [f64; 2])> = None;
    for first in 0..placed.len() {
        for second in first + 1..placed.len() {
            for place in touching(placed[first], placed[second], 2.0 + margin).into_iter().flatten() {
                let others = placed.iter().enumerate().filter(|(i, _)| *i != first && *i != second);
                let gaps: Vec<f64> = others.map(|(_, other)| gap(*other, place)).collect();
                if gaps.is_empty() {
                    return place;
                }
                if gaps.iter().any(|gap| *gap < 0.0) {
                    continue;
                }
                let degree: f64 = gaps.iter().sum();
                if best.is_none_or(|(least, _)| degree < least) {
                    best = Some((degree, place));
                }
            }
        }
    }
    // Two circles at the edge of the heap always leave room beside them.
    best.map_or([0.0, 0.0], |(_, place)| place)
}

/// The two points at `distance` from both centres.
fn touching(a: [f64; 2], b: [f64; 2], distance: f64) -> Option<[[f64; 2]; 2]> {
    let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
    let d = (dx * dx + dy * dy).sqrt();
    let along = d * d / (2.0 * d);
    let square = distance * distance - along * along;
    if square.is_nan() || square < 0.0 {
        return None;
    }
    let off = square.sqrt();
    let (x, y) = (a[0] + along * dx / d, a[1] + along * dy / d);
    Some([[x + off * dy / d, y - off * dx / d], [x - off * dy / d, y + off * dx / d]])
}

/// Centre and radius of the smallest circle around unit circles: around their centres, and one more.
fn enclosing(centres: &[[f64; 2]]) -> ([f64; 2], f64) {
    let distance = |a: [f64; 2], b: [f64; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
    let inside = |(middle, radius): ([f64; 2], f64), p: [f64; 2]| distance(middle, p) <= radius * (1.0 + 1e-12) + 1e-12;
    // Each point outside must lie on the circle of all points up to it; at most three points determine the circle.
    let mut circle = (centres.first().copied().unwrap_or([0.0, 0.0]), 0.0);
    for (i, &p) in centres.iter().enumerate() {
        if inside(circle, p) {
            continue;
        }
        circle = (p, 0.0);
        for (j, &q) in centres[..i].iter().enumerate() {
            if inside(circle, q) {
                continue;
            }
            circle = ([f64::midpoint(p[0], q[0]), f64::midpoint(p[1], q[1])], distance(p, q) / 2.0);
            for &r in &centres[..j] {
                if !inside(circle, r) {
                    circle = around(p, q, r);
                }
            }
        }
    }
    (circle.0, circle.1 + 1.0)
}

/// The circle through three points.
fn around(a: [f64; 2], b: [f64; 2], c: [f64; 2]) -> ([f64; 2], f64) {
    let (bx, by, cx, cy) = (b[0] - a[0], b[1] - a[1], c[0] - a[0], c[1] - a[1]);
    let twice = 2.0 * (bx * cy - by * cx);
    let (b2, c2) = (bx * bx + by * by, cx * cx + cy * cy);
    let (x, y) = ((cy * b2 - by * c2) / twice, (bx * c2 - cx * b2) / twice);
    ([a[0] + x, a[1] + y], x.hypot(y))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_touch_but_do_not_overlap_and_fill_the_unit_circle() {
        for count in 1..40 {
            let circles = pack(count);
            assert_eq!(circles.len(), count);
            let reach = circles.iter().map(|c| c.centre[0].hypot(c.centre[1]) + c.radius).fold(0.0, f64::max);
            assert!((reach - 1.0).abs() < 1e-9, "{count}: {reach}");
            for (i, a) in circles.iter().enumerate() {
                for b in &circles[..i] {
                    let apart = (a.centre[0] - b.centre[0]).hypot(a.centre[1] - b.centre[1]);
                    assert!(apart >= 2.0 * a.radius - 1e-9, "{count}: {apart}");
                }
            }
        }
        assert!((pack(7)[6].radius - 1.0 / 3.0).abs() < 1e-9);
        assert!(pack(0).is_empty());
    }
}
