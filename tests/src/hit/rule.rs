//! Numbers given by the rule of the vectors.

use serde_json::Value;

use crate::golden::{Array, count, list, member, numbers, text};

/// u(seed, i): the top 24 bits of the splitmix64 output for seed 2^32 + i, as a share.
pub(super) fn uniform(seed: u64, i: u64) -> f64 {
    let mut z = (seed << 32).wrapping_add(i).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as f64 / f64::from(1 << 24)
}

/// Standard normal numbers of `seed`.
pub(super) fn gauss(seed: u64, n: usize) -> Vec<f64> {
    let one = |i: u64| (-2.0 * (1.0 - uniform(2 * seed, i)).ln()).sqrt() * (std::f64::consts::TAU * uniform(2 * seed + 1, i)).cos();
    (0..n as u64).map(one).collect()
}

/// Images in (batch, channel, row, column) order: levels of 255, or bits where `binary`.
pub(super) fn images(seed: u64, n: usize, binary: bool) -> Vec<f64> {
    let one = |u: f64| if binary { f64::from(u > 0.6) } else { (u * 255.0).round() / 255.0 };
    (0..n as u64).map(|i| one(uniform(seed, i))).collect()
}

/// Weights by name as the list `tensors` of a vector gives them.
pub(super) fn tensors(model: &Value) -> Result<Vec<(String, Array)>, String> {
    let one = |entry: &Value| {
        let shape: Vec<usize> = numbers(member(entry, "shape")?)?.into_iter().map(|n| n as usize).collect();
        let seed = count(entry, "seed")? as u64;
        let rule = text(entry, "rule")?;
        let scale = match rule.strip_prefix("sym ") {
            Some("sqrt(3/fan_in)") => (3.0 / count(entry, "fan_in")? as f64).sqrt(),
            Some(scale) => scale.parse().map_err(|_| format!("`{rule}` is not a known rule"))?,
            None => return Err(format!("`{rule}` is not a known rule")),
        };
        let size: usize = shape.iter().product();
        let values = (0..size as u64).map(|i| (2.0 * uniform(seed, i) - 1.0) * scale).collect();
        Ok((text(entry, "name")?.to_owned(), (shape, values)))
    };
    list(member(model, "tensors")?)?.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_rule_gives_the_stated_numbers() {
        for (i, expected) in [0.376_275_897, 0.643_903_494, 0.109_535_635].into_iter().enumerate() {
            assert!((super::uniform(4000, i as u64) - expected).abs() < 1e-8);
        }
    }
}
