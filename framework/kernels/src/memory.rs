//! New arrays computed part by part on all threads.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::real::Real;

/// An array of `len` numbers whose parts of `part` numbers (the last one may be shorter) `compute` fills, given the part's number; a part
/// holds zeros before. `scratch` makes what a thread reuses from part to part.
///
/// Zeroing the whole array first would send it through memory once more, on one thread; a part is small enough to stay in cache.
#[allow(unsafe_code)]
pub fn filled<T: Real, S>(
    len: usize,
    part: usize,
    scratch: impl Fn() -> S + Sync + Send,
    compute: impl Fn(&mut S, usize, &mut [T]) + Sync + Send,
) -> Vec<T> {
    // SAFETY: every number of a part is written before `compute` sees it.
    unsafe {
        written(len, part, scratch, |scratch, number, part| {
            for place in part.iter_mut() {
                place.write(T::zero());
            }
            compute(scratch, number, part.assume_init_mut());
        })
    }
}

/// As [`filled`], where a part holds nothing before: memory that is new is then touched while numbers are computed, which hides its delay.
///
/// # Safety
/// `compute` must write every number of its part.
#[allow(unsafe_code)]
pub unsafe fn written<T: Real, S>(
    len: usize,
    part: usize,
    scratch: impl Fn() -> S + Sync + Send,
    compute: impl Fn(&mut S, usize, &mut [MaybeUninit<T>]) + Sync + Send,
) -> Vec<T> {
    let mut values = Vec::with_capacity(len);
    let room: &mut [MaybeUninit<T>] = &mut values.spare_capacity_mut()[..len];
    room.par_chunks_mut(part.max(1)).enumerate().for_each_init(scratch, |scratch, (number, room)| compute(scratch, number, room));
    // SAFETY: the parts cover the first `len` places, and the caller vouches that all of them were written.
    unsafe { values.set_len(len) };
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_start_as_zeros_and_end_as_computed() {
        for (len, part) in [(0, 3), (1, 3), (7, 3), (9, 3), (5, 0)] {
            let values = filled::<f64, _>(
                len,
                part,
                || 1.0,
                |one, number, out| {
                    out.iter_mut().enumerate().for_each(|(i, x)| *x += *one + (number * part.max(1) + i) as f64);
                },
            );
            assert_eq!(values, (0..len).map(|i| i as f64 + 1.0).collect::<Vec<_>>());
        }
    }
}
