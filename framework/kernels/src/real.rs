//! The two float types kernels are written for, and the door to the machine's widest vectors.

use burn::tensor::Element;
use num_traits::{Float, NumAssign};

use crate::elementary;
use crate::lanes::Lanes;

/// `f32` or `f64`. Its elementary functions are vector code in single precision and the platform's own in double precision.
pub trait Real: Float + NumAssign + Element + Lanes + bytemuck::Pod + std::iter::Sum + Send + Sync + 'static {
    /// `x` rounded to this type.
    fn of(x: f64) -> Self;

    /// This number in double precision.
    fn to_double(self) -> f64;

    /// e^x.
    fn exponential(self) -> Self;

    /// ln x.
    fn logarithm(self) -> Self;

    /// 1 / (1 + e^-x).
    fn sigmoid(self) -> Self;

    /// ln(1 + e^x).
    fn softplus(self) -> Self;

    /// Hyperbolic tangent.
    fn hyperbolic_tangent(self) -> Self;

    /// `values` when this type is `f32`, for code that exists in single precision only.
    fn singles(values: &[Self]) -> Option<&[f32]>;
}

impl Real for f32 {
    #[inline(always)]
    fn of(x: f64) -> Self {
        x as Self
    }

    #[inline(always)]
    fn to_double(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn exponential(self) -> Self {
        elementary::exp(self)
    }

    #[inline(always)]
    fn logarithm(self) -> Self {
        elementary::ln(self)
    }

    #[inline(always)]
    fn sigmoid(self) -> Self {
        elementary::sigmoid(self)
    }

    #[inline(always)]
    fn softplus(self) -> Self {
        elementary::softplus(self)
    }

    #[inline(always)]
    fn hyperbolic_tangent(self) -> Self {
        elementary::tanh(self)
    }

    fn singles(values: &[Self]) -> Option<&[f32]> {
        Some(values)
    }
}

impl Real for f64 {
    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }

    #[inline(always)]
    fn to_double(self) -> f64 {
        self
    }

    #[inline(always)]
    fn exponential(self) -> Self {
        self.exp()
    }

    #[inline(always)]
    fn logarithm(self) -> Self {
        self.ln()
    }

    #[inline(always)]
    fn sigmoid(self) -> Self {
        let e = (-self.abs()).exp();
        (if self < 0.0 { e } else { 1.0 }) / (1.0 + e)
    }

    #[inline(always)]
    fn softplus(self) -> Self {
        (if self < 0.0 { 0.0 } else { self }) + (-self.abs()).exp().ln_1p()
    }

    #[inline(always)]
    fn hyperbolic_tangent(self) -> Self {
        self.tanh()
    }

    fn singles(_values: &[Self]) -> Option<&[f32]> {
        None
    }
}

/// Runs a closure compiled for the widest vector instructions of this machine: AVX-512, AVX2 with FMA, or the baseline.
///
/// Only what is inlined into the closure is compiled for them, so what it calls should be `#[inline(always)]`. The closure itself is, which is
/// why this is a macro: left to the compiler's judgement, all but the smallest stayed functions of their own, compiled for the baseline.
#[macro_export]
macro_rules! vectorised {
    (|| $($body:tt)+) => {
        $crate::with_widest_vectors(#[inline(always)] || $($body)+)
    };
}

/// What [`vectorised!`] calls.
#[doc(hidden)]
#[inline]
#[allow(unsafe_code)] // Reason at the calls: the instructions are there because the machine was asked.
pub fn with_widest_vectors<R>(body: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,fma,bmi1,bmi2,lzcnt,popcnt")]
        fn with_avx512<R>(body: impl FnOnce() -> R) -> R {
            body()
        }
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
        fn with_avx2<R>(body: impl FnOnce() -> R) -> R {
            body()
        }
        match instructions() {
            // SAFETY: `instructions` found every feature that the function is compiled with.
            Instructions::Avx512 => return unsafe { with_avx512(body) },
            // SAFETY: as above.
            Instructions::Avx2 => return unsafe { with_avx2(body) },
            Instructions::Baseline => {}
        }
    }
    body()
}

/// Name of the instruction set that the kernels choose on this machine, on which the last digits of their results depend.
pub fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    match instructions() {
        Instructions::Avx512 => return "avx512",
        Instructions::Avx2 => return "avx2",
        Instructions::Baseline => {}
    }
    std::env::consts::ARCH
}

/// Vector instructions of this machine.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instructions {
    /// 512-bit vectors.
    Avx512,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// What every processor of this architecture has.
    Baseline,
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn instructions() -> Instructions {
    use std::arch::is_x86_feature_detected as has;
    // Miri follows every access of plain code and has no vector instructions: scripts/test-miri.
    let common = !cfg!(miri) && has!("fma") && has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("popcnt");
    if common && has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl") {
        Instructions::Avx512
    } else if common && has!("avx2") {
        Instructions::Avx2
    } else {
        Instructions::Baseline
    }
}
