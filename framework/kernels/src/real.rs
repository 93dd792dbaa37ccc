//! The two float types kernels are written for, and the door to the machine's widest vectors.

use burn::tensor::Element;
use num_traits::{Float, NumAssign};

use crate::lanes::Lanes;

/// `f32` or `f64`.
pub trait Real: Float + NumAssign + Element + Lanes + bytemuck::Pod + std::iter::Sum + Send + Sync + 'static {
    /// `x` rounded to this type.
    fn of(x: f64) -> Self;
}

impl Real for f32 {
    #[inline(always)]
    fn of(x: f64) -> Self {
        x as Self
    }
}

impl Real for f64 {
    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }
}

/// Runs `body` compiled for the widest vector instructions of this machine: AVX-512, AVX2 with FMA, or the baseline.
///
/// Only code that is inlined into `body` is compiled for them, so what it calls should be `#[inline(always)]`.
#[inline]
#[allow(unsafe_code)] // Reason at the calls: the instructions are there because the machine was asked.
pub fn vectorised<R>(body: impl FnOnce() -> R) -> R {
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
    let common = has!("fma") && has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("popcnt");
    if common && has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl") {
        Instructions::Avx512
    } else if common && has!("avx2") {
        Instructions::Avx2
    } else {
        Instructions::Baseline
    }
}
