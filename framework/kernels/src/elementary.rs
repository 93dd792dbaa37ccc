//! Exponentials, logarithms and their relatives as straight-line arithmetic in single precision, which compilers turn into vector code.
//!
//! Coefficients are those of the minimax polynomials that Moshier's Cephes library made common. Each function is within a few units in the
//! last place of the double-precision one on its whole range, keeps NaN, and reaches the limits at infinity.

/// 1.5 * 2^23: adding it rounds a small number to the nearest integer, which then sits in the low bits.
const ROUND: f32 = 12_582_912.0;

/// e^x; 0 below -104, infinite above 88.8.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Selected by comparison, so that a NaN is not replaced.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -105.0 { -105.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, the first of few bits so that its product with n is exact.
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4f32;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    // Two factors, because 2^n alone leaves the range before e^x does.
    let n = shifted.to_bits() as i32 - ROUND.to_bits() as i32;
    let half = n >> 1;
    y * power_of_two(half) * power_of_two(n - half)
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) << 23) as u32)
}

/// ln x; minus infinity at 0, NaN below.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    // Subnormal numbers are lifted into the normal range first.
    let small = x < f32::MIN_POSITIVE;
    let lifted = if small { x * 8_388_608.0 } else { x };
    // Mantissa in [1/sqrt 2, sqrt 2) and its exponent.
    let shifted = lifted.to_bits() as i32 - 0x3f35_04f3;
    let e = (shifted >> 23) as f32 - if small { 23.0 } else { 0.0 };
    let m = f32::from_bits(((shifted & 0x007f_ffff) + 0x3f35_04f3) as u32);
    let r = m - 1.0;
    let p = 7.037_683_6e-2f32;
    let p = p * r - 1.151_461e-1;
    let p = p * r + 1.167_699_9e-1;
    let p = p * r - 1.242_014_1e-1;
    let p = p * r + 1.424_932_3e-1;
    let p = p * r - 1.666_805_8e-1;
    let p = p * r + 2.000_071_5e-1;
    let p = p * r - 2.499_999_4e-1;
    let p = p * r + 3.333_333e-1;
    let square = r * r;
    let y = r * square * p - e * 2.121_944_4e-4 - 0.5 * square + r + e * 0.693_359_4;
    let y = if x == f32::INFINITY { x } else { y };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    // Also true for NaN, which must stay one.
    if x >= 0.0 { y } else { f32::NAN }
}

/// ln(1 + x) for x >= 0.
#[inline(always)]
pub(crate) fn ln_1p(x: f32) -> f32 {
    let sum = 1.0 + x;
    // What the rounded sum lost comes back to first order; nothing is lost at infinity.
    let lost = if sum < f32::INFINITY { x - (sum - 1.0) } else { 0.0 };
    ln(sum) + lost / sum
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

/// ln(1 + e^x).
#[inline(always)]
pub(crate) fn softplus(x: f32) -> f32 {
    // By comparison: `max` would drop a NaN.
    (if x < 0.0 { 0.0 } else { x }) + ln_1p(exp(-x.abs()))
}

/// Hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let square = x * x;
    let p = -5.704_988_7e-3f32;
    let p = p * square + 2.063_909e-2;
    let p = p * square - 5.373_971_6e-2;
    let p = p * square + 1.333_144_2e-1;
    let p = p * square - 3.333_328e-1;
    let near = p * square * x + x;
    let far = (1.0 - 2.0 / (exp(2.0 * size) + 1.0)).copysign(x);
    if size < 0.625 { near } else { far }
}

/// Cosine and sine of a full turn times `turns`, for `turns` in [0, 1].
#[inline(always)]
pub(crate) fn cos_sin_turns(turns: f32) -> [f32; 2] {
    // The nearest quarter turn and the angle from it, at most an eighth.
    let shifted = turns * 4.0 + ROUND;
    let quarter = shifted.to_bits();
    let angle = (turns - (shifted - ROUND) * 0.25) * std::f32::consts::TAU;
    let square = angle * angle;
    let sine = ((-1.951_529_6e-4 * square + 8.332_161e-3) * square - 1.666_665_5e-1) * square * angle + angle;
    let cosine = ((2.443_315_7e-5 * square - 1.388_731_6e-3) * square + 4.166_664_6e-2) * square * square - 0.5 * square + 1.0;
    let (c, s) = if quarter & 1 == 0 { (cosine, sine) } else { (sine, cosine) };
    let c = if (quarter + 1) & 2 == 0 { c } else { -c };
    let s = if quarter & 2 == 0 { s } else { -s };
    [c, s]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectorised;

    /// Largest error of `f` on `points` in units of the last place of the exact result.
    fn worst(points: &[f32], f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> (f64, f32) {
        let mut found = vec![0.0; points.len()];
        vectorised!(|| found.iter_mut().zip(points).for_each(|(y, &x)| *y = f(x)));
        let mut worst = (0.0, 0.0);
        for (&x, &y) in points.iter().zip(&found) {
            let expected = exact(f64::from(x));
            let rounded = expected as f32;
            if rounded.is_nan() || rounded.is_infinite() || y.is_nan() {
                assert!(rounded.is_nan() == y.is_nan() && (rounded.is_nan() || rounded == y), "at {x}: {y}, not {rounded}");
                continue;
            }
            let unit = f64::from(f32::from_bits(rounded.abs().to_bits() + 1)) - f64::from(rounded.abs());
            let error = (f64::from(y) - expected).abs() / unit;
            if error > worst.0 {
                worst = (error, x);
            }
        }
        worst
    }

    /// Every `step`-th float, both signs, with the special values.
    fn floats(step: usize) -> Vec<f32> {
        let mut all: Vec<f32> =
            (0..=f32::INFINITY.to_bits()).step_by(step).flat_map(|bits| [f32::from_bits(bits), -f32::from_bits(bits)]).collect();
        all.extend([
            0.0,
            -0.0,
            1.0,
            -1.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            f32::MIN_POSITIVE,
            88.72,
            89.1,
            -87.5,
            -103.9,
            -200.0,
        ]);
        all
    }

    #[test]
    fn functions_are_within_units_in_the_last_place_everywhere() {
        let all = floats(1511);
        let positive: Vec<f32> = all.iter().copied().filter(|x| x.is_nan() || *x >= 0.0).collect();
        let checks = [
            ("exp", worst(&all, exp, f64::exp), 2.5),
            ("ln", worst(&all, ln, f64::ln), 2.5),
            ("ln_1p", worst(&positive, ln_1p, f64::ln_1p), 3.0),
            ("sigmoid", worst(&all, sigmoid, |x| if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }), 4.0),
            ("softplus", worst(&all, softplus, |x| if x.is_nan() { x } else { x.max(0.0) + (-x.abs()).exp().ln_1p() }), 4.0),
            ("tanh", worst(&all, tanh, f64::tanh), 3.5),
        ];
        for (name, (units, x), allowed) in checks {
            println!("{name}: {units:.2} units in the last place, at {x}");
            assert!(units <= allowed, "{name} is off by {units} units in the last place at {x}");
        }
    }

    #[test]
    fn turns_give_points_on_the_circle() {
        for i in 0..=4096u16 {
            let turns = f32::from(i) / 4096.0;
            let [c, s] = cos_sin_turns(turns);
            let angle = f64::from(turns) * std::f64::consts::TAU;
            assert!((f64::from(c) - angle.cos()).abs() < 2e-7 && (f64::from(s) - angle.sin()).abs() < 2e-7, "{turns}: {c} {s}");
        }
    }
}
