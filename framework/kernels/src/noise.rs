//! Standard normal numbers in bulk: ChaCha with 8 rounds for the bits, Box and Muller for the shape.
//!
//! Number i of a stream is a function of (key, stream, i) alone, so any part can be drawn by any thread.

// A lane is one place in several arrays at once.
#![allow(clippy::needless_range_loop)]

use rayon::prelude::*;

use crate::elementary::{cos_sin_turns, ln};
use crate::vectorised;

/// Blocks computed side by side, one in each lane.
const LANES: usize = 16;
/// Words of [`LANES`] blocks of 16.
const WORDS: usize = 16 * LANES;
/// Numbers a thread draws at a time.
const PART: usize = 32 * WORDS;

type Block = [[u32; LANES]; 16];

/// Words of the blocks from `counter` on, word w of block b at `[w][b]` (D. J. Bernstein, "ChaCha, a variant of Salsa20", 2008; 8 rounds,
/// 64-bit counter and 64-bit stream).
#[inline(always)]
fn blocks(key: &[u32; 8], stream: u64, counter: u64) -> Block {
    let mut start: Block = [[0; LANES]; 16];
    let constants = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
    for (word, value) in start.iter_mut().zip(constants.iter().chain(key)) {
        *word = [*value; LANES];
    }
    for lane in 0..LANES {
        let counter = counter.wrapping_add(lane as u64);
        start[12][lane] = counter as u32;
        start[13][lane] = (counter >> 32) as u32;
        start[14][lane] = stream as u32;
        start[15][lane] = (stream >> 32) as u32;
    }
    let mut words = start;
    for _ in 0..4 {
        for [a, b, c, d] in [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]] {
            quarter_round(&mut words, a, b, c, d);
        }
        for [a, b, c, d] in [[0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]] {
            quarter_round(&mut words, a, b, c, d);
        }
    }
    for (word, start) in words.iter_mut().zip(&start) {
        for (x, s) in word.iter_mut().zip(start) {
            *x = x.wrapping_add(*s);
        }
    }
    words
}

#[inline(always)]
fn quarter_round(words: &mut Block, a: usize, b: usize, c: usize, d: usize) {
    for lane in 0..LANES {
        words[a][lane] = words[a][lane].wrapping_add(words[b][lane]);
        words[d][lane] = (words[d][lane] ^ words[a][lane]).rotate_left(16);
        words[c][lane] = words[c][lane].wrapping_add(words[d][lane]);
        words[b][lane] = (words[b][lane] ^ words[c][lane]).rotate_left(12);
        words[a][lane] = words[a][lane].wrapping_add(words[b][lane]);
        words[d][lane] = (words[d][lane] ^ words[a][lane]).rotate_left(8);
        words[c][lane] = words[c][lane].wrapping_add(words[d][lane]);
        words[b][lane] = (words[b][lane] ^ words[c][lane]).rotate_left(7);
    }
}

/// The first numbers of stream `stream` under `key`, standard normal in single precision: pairs sqrt(-2 ln u) (cos, sin)(2 pi v) with u on
/// (0, 1] of 31 bits and v on [0, 1) of 24. The largest magnitude is 6.7.
pub fn normal_f32(key: &[u8; 32], stream: u64, out: &mut [f32]) {
    let key = &words_of(key);
    each_part(out, |out, counter| {
        vectorised!(|| {
            for (i, out) in out.chunks_mut(WORDS).enumerate() {
                let words = blocks(key, stream, counter + (i * LANES) as u64);
                let mut normals = [[0f32; LANES]; 16];
                for pair in 0..8 {
                    for lane in 0..LANES {
                        // Through signed numbers, which processors convert in one instruction; small u keep all their bits.
                        let u = ((words[2 * pair][lane] >> 1) as i32 as f32 + 0.5) * (1.0 / 2_147_483_648.0);
                        let v = (words[2 * pair + 1][lane] >> 8) as i32 as f32 * (1.0 / 16_777_216.0);
                        let radius = (-2.0 * ln(u)).sqrt();
                        let [c, s] = cos_sin_turns(v);
                        normals[2 * pair][lane] = radius * c;
                        normals[2 * pair + 1][lane] = radius * s;
                    }
                }
                out.copy_from_slice(&normals.as_flattened()[..out.len()]);
            }
        });
    });
}

/// As [`normal_f32`] in double precision, from 64 bits for each of u and v; the largest magnitude is 8.6.
pub fn normal_f64(key: &[u8; 32], stream: u64, out: &mut [f64]) {
    let key = &words_of(key);
    // Twice the words for each number, so half as many numbers from the same blocks.
    out.par_chunks_mut(PART).enumerate().for_each(|(part, out)| {
        for (i, out) in out.chunks_mut(WORDS / 2).enumerate() {
            let counter = (part * PART / (WORDS / 2) + i) as u64 * LANES as u64;
            let words = blocks(key, stream, counter);
            let unit = |pair: usize, lane: usize| {
                let bits = u64::from(words[2 * pair][lane]) << 32 | u64::from(words[2 * pair + 1][lane]);
                (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
            };
            let mut normals = [[0f64; LANES]; 8];
            for pair in 0..4 {
                for lane in 0..LANES {
                    let radius = (-2.0 * (1.0 - unit(2 * pair, lane)).ln()).sqrt();
                    let (s, c) = (unit(2 * pair + 1, lane) * std::f64::consts::TAU).sin_cos();
                    normals[2 * pair][lane] = radius * c;
                    normals[2 * pair + 1][lane] = radius * s;
                }
            }
            out.copy_from_slice(&normals.as_flattened()[..out.len()]);
        }
    });
}

/// The first numbers of stream `stream` under `key`, uniform on `[0, 1)` with 24 random bits.
pub fn uniform_f32(key: &[u8; 32], stream: u64, out: &mut [f32]) {
    let key = &words_of(key);
    each_part(out, |out, counter| {
        vectorised!(|| {
            for (i, out) in out.chunks_mut(WORDS).enumerate() {
                let words = blocks(key, stream, counter + (i * LANES) as u64);
                for (x, word) in out.iter_mut().zip(words.as_flattened()) {
                    *x = (word >> 8) as f32 * (1.0 / 16_777_216.0);
                }
            }
        });
    });
}

/// As [`uniform_f32`] in double precision, with 53 random bits.
pub fn uniform_f64(key: &[u8; 32], stream: u64, out: &mut [f64]) {
    let key = &words_of(key);
    for (i, out) in out.chunks_mut(WORDS / 2).enumerate() {
        let words = blocks(key, stream, (i * LANES) as u64);
        let words = words.as_flattened();
        for (j, x) in out.iter_mut().enumerate() {
            let bits = u64::from(words[j]) << 32 | u64::from(words[j + WORDS / 2]);
            *x = (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64);
        }
    }
}

fn words_of(key: &[u8; 32]) -> [u32; 8] {
    std::array::from_fn(|i| u32::from_le_bytes(std::array::from_fn(|j| key[4 * i + j])))
}

/// Calls `fill` for each part of `out` with the number of the part's first block; short ones stay on this thread.
fn each_part(out: &mut [f32], fill: impl Fn(&mut [f32], u64) + Sync + Send) {
    let counter = |part: usize| (part * PART / 16) as u64;
    if out.len() <= PART {
        fill(out, 0);
    } else {
        out.par_chunks_mut(PART).enumerate().for_each(|(part, out)| fill(out, counter(part)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    const KEY: [u8; 32] = *b"thirty-two bytes that are no key";

    fn draw(n: usize) -> Vec<f32> {
        let mut out = vec![0.0; n];
        normal_f32(&KEY, 9, &mut out);
        out
    }

    #[test]
    fn the_bits_are_those_of_chacha8() {
        let mut reference = ChaCha8Rng::from_seed(KEY);
        reference.set_stream(0x0123_4567_89ab_cdef);
        for counter in [0, LANES as u64] {
            let words = blocks(&words_of(&KEY), 0x0123_4567_89ab_cdef, counter);
            for lane in 0..LANES {
                for word in &words {
                    assert_eq!(word[lane], reference.next_u32());
                }
            }
        }
    }

    #[test]
    fn a_longer_draw_begins_with_the_shorter_one_whatever_the_threads() {
        let long = draw(3 * PART + 77);
        for n in [0, 1, 15, WORDS, WORDS + 1, PART + 5, 2 * PART] {
            assert!(draw(n) == long[..n]);
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert!(pool.install(|| draw(long.len())) == long);
        let mut double = [vec![0.0; 2 * PART + 7], vec![0.0; 40]];
        for out in &mut double {
            normal_f64(&KEY, 9, out);
        }
        assert!(double[0][..40] == double[1]);
        assert!(double[0][PART..PART + 40] != double[1][..]);
    }

    /// Distribution function of the standard normal, by the series of its integral.
    fn distribution(x: f64) -> f64 {
        if x.abs() > 7.0 {
            return f64::from(u8::from(x > 0.0));
        }
        let (mut term, mut sum, mut n) = (x, x, 1.0);
        while term.abs() > 1e-17 * sum.abs() && n < 400.0 {
            term *= x * x / (2.0 * n + 1.0);
            sum += term;
            n += 1.0;
        }
        0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
    }

    fn check_normal(values: &[f64]) {
        let n = values.len() as f64;
        let moment = |p: i32| values.iter().map(|x| x.powi(p)).sum::<f64>() / n;
        // Five standard errors of each moment.
        for (p, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
            assert!((moment(p) - expected).abs() < 5.0 * f64::sqrt(variance / n), "moment {p}: {}", moment(p));
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let gap = |(i, &x): (usize, &f64)| {
            let f = distribution(x);
            (f - i as f64 / n).abs().max((f - (i + 1) as f64 / n).abs())
        };
        let distance = sorted.iter().enumerate().map(gap).fold(0.0, f64::max);
        // Kolmogorov and Smirnov: exceeded by chance once in a million.
        assert!(distance * n.sqrt() < 2.7, "distance {distance} for {n} numbers");
        // Neighbours, pairs of one radius and numbers a block apart must not correlate.
        for lag in [1, LANES, WORDS] {
            let product = values.iter().zip(&values[lag..]).map(|(a, b)| a * b).sum::<f64>() / n;
            assert!(product.abs() < 5.0 / n.sqrt(), "lag {lag}: {product}");
        }
    }

    #[test]
    fn numbers_are_standard_normal() {
        let single: Vec<f64> = draw(1_000_000).into_iter().map(f64::from).collect();
        check_normal(&single);
        let mut double = vec![0.0; 400_000];
        normal_f64(&KEY, 3, &mut double);
        check_normal(&double);
    }

    #[test]
    fn uniform_numbers_fill_their_range() {
        let mut out = vec![0.0; 100_001];
        uniform_f32(&KEY, 1, &mut out);
        let mut double = vec![0.0; 100_001];
        uniform_f64(&KEY, 1, &mut double);
        assert!(double.iter().all(|x| (0.0..1.0).contains(x)) && (double.iter().sum::<f64>() / 100_001.0 - 0.5).abs() < 0.005);
        let mean = out.iter().map(|&x| f64::from(x)).sum::<f64>() / out.len() as f64;
        assert!(out.iter().all(|x| (0.0..1.0).contains(x)) && (mean - 0.5).abs() < 0.005);
        assert!(out.iter().any(|&x| x > 0.9999) && out.iter().any(|&x| x < 1e-4));
    }
}
