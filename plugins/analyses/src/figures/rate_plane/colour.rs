//! Colours of pairs of rate weights and of values.

use crate::figures::plot::Colour;

/// Value (brightness) of every pair's colour.
const VALUE: f64 = 0.8;

/// Red, green and blue in `[0, 1]` of the pair (ln beta of the lower level, ln beta of the top level):
/// HSV(atan2(lower, top)/2pi + 0.5, |(lower, top)|/(sqrt 2 ln `largest`), 0.8), the saturation at most 1.
pub fn pair_colour([lower, top]: [f64; 2], largest: f64) -> [f64; 3] {
    let hue = lower.atan2(top) / std::f64::consts::TAU + 0.5;
    let saturation = (lower.hypot(top) / (std::f64::consts::SQRT_2 * largest.ln())).clamp(0.0, 1.0);
    hsv(hue, saturation, VALUE)
}

/// Hue in turns, saturation and value in `[0, 1]` as red, green and blue in `[0, 1]`.
fn hsv(hue: f64, saturation: f64, value: f64) -> [f64; 3] {
    let sixths = hue.rem_euclid(1.0) * 6.0;
    // Each colour rises, stays, falls and rests along the circle, two sixths after the next.
    [5.0, 3.0, 1.0].map(|offset| {
        let k = (offset + sixths) % 6.0;
        value * (1.0 - saturation * k.min(4.0 - k).clamp(0.0, 1.0))
    })
}

/// As bytes.
pub fn bytes(colour: [f64; 3]) -> Colour {
    colour.map(|c| (255.0 * c).round() as u8)
}

/// Dark blue over green to yellow at `position` in `[0, 1]`, of growing brightness.
pub fn value_colour(position: f64) -> Colour {
    const ANCHORS: [[f64; 3]; 5] = [[0.27, 0.0, 0.33], [0.23, 0.32, 0.55], [0.13, 0.57, 0.55], [0.37, 0.79, 0.38], [0.99, 0.91, 0.14]];
    let at = position.clamp(0.0, 1.0) * 4.0;
    let (from, share) = ((at as usize).min(3), at - (at as usize).min(3) as f64);
    bytes([0, 1, 2].map(|c| ANCHORS[from][c] + share * (ANCHORS[from + 1][c] - ANCHORS[from][c])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_centre_is_grey_and_directions_are_hues() {
        assert_eq!(pair_colour([0.0, 0.0], 12.0), [0.8; 3]);
        // To the left: hue 1, red.
        let red = pair_colour([0.0, -2f64.sqrt() * 12f64.ln()], 12.0);
        assert!((red[0] - 0.8).abs() < 1e-12 && red[1].abs() < 1e-9 && red[2].abs() < 1e-9, "{red:?}");
        assert_eq!((bytes([1.0, 0.5, 0.0]), value_colour(0.0), value_colour(1.0)), ([255, 128, 0], [69, 0, 84], [252, 232, 36]));
    }
}
