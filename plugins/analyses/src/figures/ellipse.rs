//! Ellipses of two-dimensional normal distributions: exact contours and the axes of the 2021 tutorial.

use std::f64::consts::{FRAC_1_SQRT_2, PI, TAU};

/// Factor of the tutorial's axes: the 95 % quantile of chi-squared with two degrees of freedom.
const TUTORIAL_QUANTILE: f64 = 5.991;

/// The point at parameter `angle` (radians) of the contour `(p - mean)^T C^-1 (p - mean) = n_std^2` of N(mean, C).
///
/// The unit circle is squeezed by the correlation `r` to `(sqrt(1 + r) cos, sqrt(1 - r) sin)`, turned by 45 degrees, scaled by the two
/// standard deviations and moved to the mean.
pub fn contour_point(mean: [f64; 2], covariance: [[f64; 2]; 2], n_std: f64, angle: f64) -> [f64; 2] {
    let deviations = [covariance[0][0].max(0.0).sqrt(), covariance[1][1].max(0.0).sqrt()];
    let product = deviations[0] * deviations[1];
    // A coordinate without spread has no correlation; rounding can push the others just past 1.
    let r = if product > 0.0 { (covariance[0][1] / product).clamp(-1.0, 1.0) } else { 0.0 };
    let (a, b) = ((1.0 + r).sqrt() * angle.cos(), (1.0 - r).sqrt() * angle.sin());
    let turned = [(a - b) * FRAC_1_SQRT_2, (a + b) * FRAC_1_SQRT_2];
    [mean[0] + n_std * deviations[0] * turned[0], mean[1] + n_std * deviations[1] * turned[1]]
}

/// The whole contour as a closed polygon of `corners + 1` points.
pub fn contour(mean: [f64; 2], covariance: [[f64; 2]; 2], n_std: f64, corners: usize) -> Vec<[f64; 2]> {
    (0..=corners).map(|i| contour_point(mean, covariance, n_std, TAU * i as f64 / corners as f64)).collect()
}

/// Axes of an ellipse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axes {
    /// Full length along the major axis.
    pub width: f64,
    /// Full length along the minor axis.
    pub height: f64,
    /// Angle of the major axis against the first coordinate in radians, in `[0, pi)`.
    pub angle: f64,
}

/// The ellipse the 2021 VIB tutorial draws: *full* axis lengths `sqrt(5.991 eigenvalue)`, that is half axes of 1.224 standard deviations.
pub fn tutorial_axes(covariance: [[f64; 2]; 2]) -> Axes {
    let (trace, difference) = (covariance[0][0] + covariance[1][1], covariance[0][0] - covariance[1][1]);
    let off = covariance[0][1];
    let root = difference.hypot(2.0 * off);
    let length = |eigenvalue: f64| (TUTORIAL_QUANTILE * eigenvalue.max(0.0)).sqrt();
    let angle = (0.5 * (2.0 * off).atan2(difference)).rem_euclid(PI);
    Axes { width: length(0.5 * (trace + root)), height: length(0.5 * (trace - root)), angle }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_lies_on_the_contour() {
        let (mean, c) = ([1.0, -2.0], [[2.0, -0.7], [-0.7, 0.5]]);
        let det = c[0][0] * c[1][1] - c[0][1] * c[1][0];
        for p in contour(mean, c, 1.5, 16) {
            let d = [p[0] - mean[0], p[1] - mean[1]];
            let q = (c[1][1] * d[0] * d[0] - 2.0 * c[0][1] * d[0] * d[1] + c[0][0] * d[1] * d[1]) / det;
            assert!((q - 2.25).abs() < 1e-9, "{q}");
        }
    }

    #[test]
    fn degenerate_covariances_stay_finite() {
        for c in [[[0.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]]] {
            assert!(contour([0.0, 0.0], c, 1.0, 8).iter().flatten().all(|x| x.is_finite()));
        }
        assert_eq!(contour([3.0, 4.0], [[0.0; 2]; 2], 1.0, 4)[2], [3.0, 4.0]);
    }

    #[test]
    fn tutorial_axes_of_known_matrices() {
        let axes = tutorial_axes([[1.0, 0.0], [0.0, 4.0]]);
        assert!((axes.width - 2.0 * 5.991f64.sqrt()).abs() < 1e-12 && (axes.height - 5.991f64.sqrt()).abs() < 1e-12);
        assert!((axes.angle - PI / 2.0).abs() < 1e-12);
        let turned = tutorial_axes([[2.0, -1.0], [-1.0, 2.0]]);
        assert!((turned.angle - 0.75 * PI).abs() < 1e-12 && (turned.width - (5.991f64 * 3.0).sqrt()).abs() < 1e-12);
    }
}
