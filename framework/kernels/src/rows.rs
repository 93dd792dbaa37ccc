//! Sums along rows and passes over them, in vector code and over threads, with results that do not depend on either.
//!
//! A closure with elementary functions is given to a pass as `#[inline(always)] |..|`, for the reason that [`vectorised!`](crate::vectorised)
//! gives. Short rows of plain arithmetic are better left to the compiler.

use rayon::prelude::*;

use crate::real::Real;
use crate::vectorised;

/// Partial sums kept side by side. Their number is fixed, so that every machine adds in the same order.
const LANES: usize = 32;
/// Scalars below which other threads are not worth waking.
pub(crate) const PARALLEL_FROM: usize = 1 << 15;

/// Sum of `term` over the places of `N` equally long rows.
#[inline(always)]
pub(crate) fn sum_terms<T: Real, const N: usize>(rows: [&[T]; N], term: impl Fn([T; N]) -> T) -> T {
    let n = rows.iter().map(|row| row.len()).min().unwrap_or(0);
    let mut sums = [T::zero(); LANES];
    let mut at = 0;
    while at + LANES <= n {
        let parts = rows.map(|row| &row[at..at + LANES]);
        for lane in 0..LANES {
            sums[lane] += term(parts.map(|part| part[lane]));
        }
        at += LANES;
    }
    for (lane, i) in (at..n).enumerate() {
        sums[lane] += term(rows.map(|row| row[i]));
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            let other = sums[lane + width];
            sums[lane] += other;
        }
        width /= 2;
    }
    sums[0]
}

/// Calls `fill(i, row)` for each row of `out`, `columns` long, over several threads when there is enough to do.
pub(crate) fn each_row<T: Real>(out: &mut [T], columns: usize, work: usize, fill: impl Fn(usize, &mut [T]) + Sync + Send) {
    if columns == 0 {
        return;
    }
    if work < PARALLEL_FROM {
        vectorised!(|| out.chunks_exact_mut(columns).enumerate().for_each(|(i, row)| fill(i, row)));
    } else {
        let rows = (PARALLEL_FROM / 8 / (work / (out.len() / columns).max(1)).max(1)).max(1);
        out.par_chunks_mut(rows * columns).enumerate().for_each(|(part, out)| {
            vectorised!(|| out.chunks_exact_mut(columns).enumerate().for_each(|(i, row)| fill(part * rows + i, row)));
        });
    }
}

/// Replaces every number of `values` by `f` of it.
pub(crate) fn each<T: Real>(values: &mut [T], f: impl Fn(T) -> T + Copy + Sync + Send) {
    const PART: usize = PARALLEL_FROM / 4;
    let pass = |values: &mut [T]| {
        vectorised!(|| {
            // What the function holds must lie outside of what is written to, or the compiler reads it again for every number.
            let own = f;
            for x in values.iter_mut() {
                *x = own(*x);
            }
        });
    };
    if values.len() < PARALLEL_FROM { pass(values) } else { values.par_chunks_mut(PART).for_each(pass) }
}

/// Replaces every number of `out` by `f` of it and its counterpart in `other`.
pub(crate) fn combine<T: Real>(out: &mut [T], other: &[T], f: impl Fn(T, T) -> T + Copy + Sync + Send) {
    const PART: usize = PARALLEL_FROM / 4;
    let pass = |out: &mut [T], other: &[T]| {
        vectorised!(|| {
            let own = f;
            for (y, &x) in out.iter_mut().zip(other) {
                *y = own(*y, x);
            }
        });
    };
    if out.len() < PARALLEL_FROM {
        pass(out, other);
    } else {
        out.par_chunks_mut(PART).zip(other.par_chunks(PART)).for_each(|(out, other)| pass(out, other));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_rows_cover_every_place_once() {
        for n in [0, 1, 31, 32, 33, 100] {
            let x: Vec<f64> = (0..n).map(f64::from).collect();
            assert_eq!(sum_terms([&x[..], &x[..]], |[a, b]| a + b), f64::from(n * (n - 1)).max(0.0));
        }
        for (rows, columns) in [(3, 5), (1, 1), (7, 20_000), (40_000, 3), (0, 4), (4, 0)] {
            let mut out = vec![0f32; rows * columns];
            each_row(&mut out, columns, rows * columns, |i, row| row.iter_mut().for_each(|y| *y += i as f32 + 1.0));
            assert!(out.iter().enumerate().all(|(at, &y)| y == (at / columns) as f32 + 1.0));
        }
        let mut y = vec![1f32; PARALLEL_FROM + 3];
        combine(&mut y, &vec![2.0; PARALLEL_FROM + 3], |y, x| y + x);
        assert!(y.iter().all(|&y| y == 3.0));
    }
}
