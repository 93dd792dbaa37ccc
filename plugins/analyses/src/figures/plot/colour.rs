//! Colours and colour maps of the published figures.

/// Red, green, blue.
pub type Colour = [u8; 3];

/// Anchors of a colour map: position in `[0, 1]` and colour in `[0, 1]`.
type Anchors = &'static [(f64, [f64; 3])];

const GIST_RAINBOW: Anchors = &[
    (0.0, [1.0, 0.0, 0.16]),
    (0.03, [1.0, 0.0, 0.0]),
    (0.215, [1.0, 1.0, 0.0]),
    (0.4, [0.0, 1.0, 0.0]),
    (0.586, [0.0, 1.0, 1.0]),
    (0.77, [0.0, 0.0, 1.0]),
    (0.954, [1.0, 0.0, 1.0]),
    (1.0, [1.0, 0.0, 0.75]),
];

const SPECTRAL: Anchors = &[
    (0.0, [0.62, 0.004, 0.26]),
    (0.1, [0.835, 0.243, 0.31]),
    (0.2, [0.957, 0.427, 0.263]),
    (0.3, [0.992, 0.682, 0.38]),
    (0.4, [0.996, 0.878, 0.545]),
    (0.5, [1.0, 1.0, 0.749]),
    (0.6, [0.902, 0.961, 0.596]),
    (0.7, [0.671, 0.867, 0.643]),
    (0.8, [0.4, 0.761, 0.647]),
    (0.9, [0.196, 0.533, 0.741]),
    (1.0, [0.369, 0.31, 0.635]),
];

const BLUES: Anchors = &[(0.0, [1.0, 1.0, 1.0]), (0.35, [0.78, 0.86, 0.94]), (0.7, [0.26, 0.57, 0.78]), (1.0, [0.03, 0.19, 0.42])];

const TAB10: [Colour; 10] = [
    [31, 119, 180],
    [255, 127, 14],
    [44, 160, 44],
    [214, 39, 40],
    [148, 103, 189],
    [140, 86, 75],
    [227, 119, 194],
    [127, 127, 127],
    [188, 189, 34],
    [23, 190, 207],
];

fn interpolate(anchors: Anchors, position: f64) -> Colour {
    let position = if position.is_finite() { position.clamp(0.0, 1.0) } else { 0.0 };
    let next = anchors.iter().position(|(p, _)| *p >= position).unwrap_or(anchors.len() - 1);
    let (high_at, high) = anchors[next];
    let (low_at, low) = anchors[next.saturating_sub(1)];
    let weight = if high_at > low_at { (position - low_at) / (high_at - low_at) } else { 1.0 };
    [0, 1, 2].map(|c| (255.0 * (low[c] + weight * (high[c] - low[c]))).round() as u8)
}

/// Rainbow at `position` in `[0, 1]`; the latent plots use class / 10.
pub fn gist_rainbow(position: f64) -> Colour {
    interpolate(GIST_RAINBOW, position)
}

/// Red over yellow to blue at `position` in `[0, 1]`; the embedding maps use class / (classes - 1).
pub fn spectral(position: f64) -> Colour {
    interpolate(SPECTRAL, position)
}

/// White to dark blue at `position` in `[0, 1]`, for densities.
pub fn blues(position: f64) -> Colour {
    interpolate(BLUES, position)
}

/// Ten well separated colours, repeated.
pub fn tab10(index: usize) -> Colour {
    TAB10[index % TAB10.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_middles_and_ends() {
        assert_eq!(gist_rainbow(0.4), [0, 255, 0]);
        assert_eq!(gist_rainbow(-3.0), [255, 0, 41]);
        assert_eq!(spectral(1.0), [94, 79, 162]);
        assert_eq!(spectral(f64::NAN), spectral(0.0));
        assert_eq!(gist_rainbow(0.493), [0, 255, 128]);
        assert_eq!((tab10(3), tab10(13)), ([214, 39, 40], [214, 39, 40]));
        assert_eq!(blues(0.0), [255, 255, 255]);
    }
}
