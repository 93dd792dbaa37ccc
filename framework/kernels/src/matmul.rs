//! Matrix products of slices.

use crate::real::Real;

/// How a matrix lies in its slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Rows one after the other.
    Rows,
    /// The transpose lies there row by row.
    Transposed,
}

/// Products smaller than this many multiplications run on one thread.
const PARALLEL_FROM: usize = 1 << 21;

/// out `[m, n]` = a `[m, k]` times b `[k, n]`, each factor in its layout; `out` is overwritten. Threads do not change the result.
///
/// # Panics
/// When a slice does not have the length its sizes ask for.
#[allow(unsafe_code)] // The kept kernel library takes pointers; the lengths behind them are checked first.
pub fn matmul<T: Real>(out: &mut [T], a: &[T], a_layout: Layout, b: &[T], b_layout: Layout, [m, k, n]: [usize; 3]) {
    assert!(out.len() == m * n && a.len() == m * k && b.len() == k * n, "matrices for the product [{m}, {k}] x [{k}, {n}]");
    if k == 0 {
        out.fill(T::zero());
        return;
    }
    let strides = |layout, rows: usize, columns: usize| match layout {
        Layout::Rows => (1, columns as isize),
        Layout::Transposed => (rows as isize, 1),
    };
    let ((a_cs, a_rs), (b_cs, b_rs)) = (strides(a_layout, m, k), strides(b_layout, k, n));
    let threads = if m * k * n >= PARALLEL_FROM { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    // SAFETY: the lengths asserted above are exactly the elements that these strides reach, and `out` is borrowed for writing.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            a_cs,
            a_rs,
            b.as_ptr(),
            b_cs,
            b_rs,
            T::zero(),
            T::one(),
            false,
            false,
            false,
            threads,
        );
    }
}
