//! Vectors of `f32` and `f64` under one interface, in the instruction set that `pulp` finds at run time.

#[cfg(target_arch = "x86_64")]
use std::any::TypeId;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use pulp::{Arch, Simd, WithSimd};

use crate::real::Real;

/// A number with vectors of it.
pub trait Lanes: Copy {
    /// Vector of the instruction set `S`.
    type Vector<S: Simd>: Copy;

    /// Numbers in a vector.
    fn lanes<S: Simd>() -> usize;
    /// `slice` as whole vectors, without the remainder.
    fn vectors<S: Simd>(slice: &[Self]) -> &[Self::Vector<S>];
    /// Every lane `value`.
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Vector<S>;
    /// The first lanes from `slice`, 0 where it is shorter than a vector.
    fn load<S: Simd>(simd: S, slice: &[Self]) -> Self::Vector<S>;
    /// The first lanes to `slice`, which takes as many as it has room for.
    fn store<S: Simd>(simd: S, slice: &mut [Self], value: Self::Vector<S>);
    /// As [`Lanes::store`], to memory that may hold nothing yet.
    fn write<S: Simd>(simd: S, slice: &mut [MaybeUninit<Self>], value: Self::Vector<S>);
    /// a * b + c, rounded once where the machine has an instruction for it.
    fn multiply_add<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>, c: Self::Vector<S>) -> Self::Vector<S>;
    /// In double precision.
    fn wide(self) -> f64;
}

impl Lanes for f32 {
    type Vector<S: Simd> = S::f32s;

    #[inline(always)]
    fn lanes<S: Simd>() -> usize {
        S::F32_LANES
    }
    #[inline(always)]
    fn vectors<S: Simd>(slice: &[Self]) -> &[S::f32s] {
        S::as_simd_f32s(slice).0
    }
    #[inline(always)]
    fn splat<S: Simd>(simd: S, value: Self) -> S::f32s {
        simd.splat_f32s(value)
    }
    #[inline(always)]
    fn load<S: Simd>(simd: S, slice: &[Self]) -> S::f32s {
        match S::as_simd_f32s(slice).0.first() {
            Some(whole) => *whole,
            None => simd.partial_load_f32s(slice),
        }
    }
    #[inline(always)]
    fn store<S: Simd>(simd: S, slice: &mut [Self], value: S::f32s) {
        match S::as_mut_simd_f32s(slice) {
            ([whole, ..], _) => *whole = value,
            (_, part) => simd.partial_store_f32s(part, value),
        }
    }
    #[inline(always)]
    fn write<S: Simd>(simd: S, slice: &mut [MaybeUninit<Self>], value: S::f32s) {
        match S::as_uninit_mut_simd_f32s(slice) {
            ([whole, ..], _) => {
                whole.write(value);
            }
            (_, part) => {
                let mut numbers = [0.0; 64];
                let numbers = &mut numbers[..part.len()];
                simd.partial_store_f32s(numbers, value);
                part.write_copy_of_slice(numbers);
            }
        }
    }
    #[inline(always)]
    fn multiply_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
        if fuses::<S>() { simd.mul_add_e_f32s(a, b, c) } else { simd.add_f32s(simd.mul_f32s(a, b), c) }
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Lanes for f64 {
    type Vector<S: Simd> = S::f64s;

    #[inline(always)]
    fn lanes<S: Simd>() -> usize {
        S::F64_LANES
    }
    #[inline(always)]
    fn vectors<S: Simd>(slice: &[Self]) -> &[S::f64s] {
        S::as_simd_f64s(slice).0
    }
    #[inline(always)]
    fn splat<S: Simd>(simd: S, value: Self) -> S::f64s {
        simd.splat_f64s(value)
    }
    #[inline(always)]
    fn load<S: Simd>(simd: S, slice: &[Self]) -> S::f64s {
        match S::as_simd_f64s(slice).0.first() {
            Some(whole) => *whole,
            None => simd.partial_load_f64s(slice),
        }
    }
    #[inline(always)]
    fn store<S: Simd>(simd: S, slice: &mut [Self], value: S::f64s) {
        match S::as_mut_simd_f64s(slice) {
            ([whole, ..], _) => *whole = value,
            (_, part) => simd.partial_store_f64s(part, value),
        }
    }
    #[inline(always)]
    fn write<S: Simd>(simd: S, slice: &mut [MaybeUninit<Self>], value: S::f64s) {
        match S::as_uninit_mut_simd_f64s(slice) {
            ([whole, ..], _) => {
                whole.write(value);
            }
            (_, part) => {
                let mut numbers = [0.0; 64];
                let numbers = &mut numbers[..part.len()];
                simd.partial_store_f64s(numbers, value);
                part.write_copy_of_slice(numbers);
            }
        }
    }
    #[inline(always)]
    fn multiply_add<S: Simd>(simd: S, a: S::f64s, b: S::f64s, c: S::f64s) -> S::f64s {
        if fuses::<S>() { simd.mul_add_e_f64s(a, b, c) } else { simd.add_f64s(simd.mul_f64s(a, b), c) }
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
}

/// Whether multiplication and addition in one instruction are sure to exist; where not, a fused operation could be a call for each lane.
#[inline(always)]
fn fuses<S: Simd>() -> bool {
    #[cfg(target_arch = "x86_64")]
    if TypeId::of::<S>() == TypeId::of::<pulp::x86::V3>() {
        return true;
    }
    cfg!(target_arch = "aarch64") || S::REGISTER_COUNT == 32
}

/// Runs `operation` with the widest vectors of this machine: AVX-512, AVX2 with FMA or NEON instructions, or else arrays of 256 bits that the
/// compiler turns into what there is.
#[inline]
pub fn dispatch<O: WithSimd>(operation: O) -> O::Output {
    match Arch::new() {
        Arch::Scalar => operation.with_simd(pulp::Scalar256b),
        arch => arch.dispatch(operation),
    }
}

/// Runs `operation` as a function of its own where that is known to keep the instructions of `S`, else in place.
#[inline(always)]
pub fn outlined<S: Simd, O: WithSimd>(simd: S, operation: O) -> O::Output {
    if fuses::<S>() { simd.vectorize(operation) } else { operation.with_simd(simd) }
}

/// Numbers in the vectors that [`dispatch`] chooses.
pub fn lanes<T: Real>() -> usize {
    struct Ask<T>(PhantomData<T>);
    impl<T: Real> WithSimd for Ask<T> {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _simd: S) -> usize {
            T::lanes::<S>()
        }
    }
    dispatch(Ask::<T>(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loads and stores `values` through one vector.
    struct Through<'a, T>(&'a [T], &'a mut [T]);

    impl<T: Real> WithSimd for Through<'_, T> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let x = T::load(simd, self.0);
            T::store(simd, self.1, T::multiply_add(simd, x, T::splat(simd, T::of(2.0)), T::splat(simd, T::one())));
        }
    }

    fn check<T: Real>() {
        let lanes = lanes::<T>();
        for len in 0..=lanes + 1 {
            let values: Vec<T> = (0..len).map(|i| T::of(i as f64)).collect();
            let mut out = vec![T::of(-7.0); len];
            dispatch(Through(&values, &mut out));
            for (i, y) in out.iter().enumerate() {
                assert_eq!(y.wide(), if i < lanes { 2.0 * i as f64 + 1.0 } else { -7.0 });
            }
        }
    }

    fn check_arrays<T: Real>() {
        let values: Vec<T> = (0..40).map(|i| T::of(f64::from(i))).collect();
        let (mut wide, mut narrow) = (vec![T::zero(); 40], vec![T::zero(); 40]);
        Through(&values, &mut wide).with_simd(pulp::Scalar512b);
        Through(&values, &mut narrow).with_simd(pulp::Scalar256b);
        assert!(narrow.iter().zip(&wide).all(|(n, w)| n.wide() == w.wide() || n.wide() == 0.0));
        assert_eq!(narrow[1].wide(), 3.0);
    }

    #[test]
    fn arrays_in_place_of_vectors_give_the_same() {
        check_arrays::<f32>();
        check_arrays::<f64>();
    }

    #[test]
    fn short_slices_are_read_and_written_as_far_as_they_go() {
        check::<f32>();
        check::<f64>();
    }
}
