//! Matrix products of slices: which code computes them, over how many threads.

use rayon::prelude::*;

use crate::layout::{Destination, PARALLEL_FROM};
use crate::real::Real;
use crate::rows::each_row;

pub use crate::layout::Layout;

/// Parts a product that the kept library computes is cut into, along its longer side.
const PARTS: usize = 8;

/// The product a b of a `[m, k]` and b `[k, n]`, each in its layout, row by row. The number of threads does not change the result.
///
/// # Panics
/// When a slice does not have the length its sizes ask for.
pub fn product<T: Real>(a: &[T], a_layout: Layout, b: &[T], b_layout: Layout, sizes: [usize; 3]) -> Vec<T> {
    product_then(a, a_layout, b, b_layout, sizes, |_, _| {})
}

/// As [`product`], with `finish(column, numbers)` called once for each piece of a row that is done, which begins at `column`, while it is
/// in cache.
///
/// # Panics
/// When a slice does not have the length its sizes ask for.
#[allow(unsafe_code)] // Zeroing a product first would send it through memory once more.
pub(crate) fn product_then<T: Real>(
    a: &[T],
    a_layout: Layout,
    b: &[T],
    b_layout: Layout,
    sizes: [usize; 3],
    finish: impl Fn(usize, &mut [T]) + Sync + Send,
) -> Vec<T> {
    let [m, _, n] = sizes;
    let mut out = Vec::with_capacity(m * n);
    // SAFETY: the capacity is m n numbers, and `write` writes all of them.
    unsafe {
        write(Destination(out.as_mut_ptr()), a, a_layout, b, b_layout, sizes, finish);
        out.set_len(m * n);
    }
    out
}

/// As [`product`], over the numbers in `out`.
///
/// # Panics
/// When a slice does not have the length its sizes ask for.
#[allow(unsafe_code)] // Parts of the product are written by several threads.
pub fn matmul<T: Real>(out: &mut [T], a: &[T], a_layout: Layout, b: &[T], b_layout: Layout, sizes: [usize; 3]) {
    assert_eq!(out.len(), sizes[0] * sizes[2], "result of the product {sizes:?}");
    // SAFETY: `out` holds m n numbers and is borrowed for writing.
    unsafe { write(Destination(out.as_mut_ptr()), a, a_layout, b, b_layout, sizes, |_, _| {}) }
}

/// Writes all m n numbers of the product to `out`, and finishes them.
///
/// # Safety
/// `out` must be valid for writing m n numbers that nobody else uses meanwhile.
#[allow(unsafe_code)]
unsafe fn write<T: Real>(
    out: Destination<T>,
    a: &[T],
    a_layout: Layout,
    b: &[T],
    b_layout: Layout,
    [m, k, n]: [usize; 3],
    finish: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    assert!(a.len() == m * k && b.len() == k * n, "matrices for the product [{m}, {k}] x [{k}, {n}]");
    let finish_all = || {
        // SAFETY: the caller vouches for m n numbers, and they have been written.
        each_row(unsafe { std::slice::from_raw_parts_mut(out.0, m * n) }, n, m * n, |_, row| finish(0, row));
    };
    if k == 0 {
        // SAFETY: the caller vouches for m n numbers.
        (0..m * n).for_each(|i| unsafe { out.at(i).write(T::zero()) });
        finish_all();
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if crate::sgemm::pays([m, k, n])
        && let (Some(a), Some(b)) = (T::singles(a), T::singles(b))
    {
        // SAFETY: the caller vouches for the memory, and `T` is `f32`.
        unsafe {
            crate::sgemm::write(Destination(out.0.cast()), a, a_layout, b, b_layout, [m, k, n], |column, numbers| {
                finish(column, bytemuck::cast_slice_mut(numbers));
            });
        }
        return;
    }
    let strides = |layout, rows: usize, columns: usize| match layout {
        Layout::Rows => (1, columns as isize),
        Layout::Transposed => (rows as isize, 1),
    };
    let ((a_cs, a_rs), (b_cs, b_rs)) = (strides(a_layout, m, k), strides(b_layout, k, n));
    // Rows i0..i1 and columns j0..j1 of the product.
    let part = |[i0, i1]: [usize; 2], [j0, j1]: [usize; 2]| {
        // SAFETY: the strides reach exactly the elements that the lengths asserted above allow; `out` as the caller vouches.
        unsafe {
            gemm::gemm(
                i1 - i0,
                j1 - j0,
                k,
                out.at(i0 * n + j0),
                1,
                n as isize,
                false,
                a.as_ptr().offset(i0 as isize * a_rs),
                a_cs,
                a_rs,
                b.as_ptr().offset(j0 as isize * b_cs),
                b_cs,
                b_rs,
                T::zero(),
                T::one(),
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    };
    if m * k * n < PARALLEL_FROM {
        part([0, m], [0, n]);
        finish_all();
        return;
    }
    // The parts do not depend on the number of threads, so neither does the result.
    let cut = |len: usize, i: usize| len * i / PARTS;
    (0..PARTS)
        .into_par_iter()
        .for_each(|i| if m > n { part([cut(m, i), cut(m, i + 1)], [0, n]) } else { part([0, m], [cut(n, i), cut(n, i + 1)]) });
    finish_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers<T: Real>(n: usize, seed: f64) -> Vec<T> {
        (0..n).map(|i| T::of(((i as f64 + seed) * 0.618_033_988_749_894_9).fract() - 0.5)).collect()
    }

    fn check_product<T: Real>(sizes: [usize; 3], allowed: f64) {
        let [m, k, n] = sizes;
        let (a, b) = (numbers::<T>(m * k, 0.3), numbers::<T>(k * n, 7.1));
        for a_layout in [Layout::Rows, Layout::Transposed] {
            for b_layout in [Layout::Rows, Layout::Transposed] {
                let at = |i: usize, p: usize| if a_layout == Layout::Rows { a[i * k + p] } else { a[p * m + i] };
                let bt = |p: usize, j: usize| if b_layout == Layout::Rows { b[p * n + j] } else { b[j * k + p] };
                let found = product(&a, a_layout, &b, b_layout, sizes);
                let mut again = vec![T::nan(); m * n];
                matmul(&mut again, &a, a_layout, &b, b_layout, sizes);
                for i in 0..m {
                    for j in 0..n {
                        let exact = (0..k).map(|p| at(i, p).to_double() * bt(p, j).to_double()).sum::<f64>();
                        let error = (found[i * n + j].to_double() - exact).abs();
                        assert!(error <= allowed, "{sizes:?} {a_layout:?} {b_layout:?}: entry {i} {j} is off by {error:e}");
                        assert!(found[i * n + j] == again[i * n + j]);
                    }
                }
            }
        }
    }

    #[test]
    fn products_of_all_sizes_and_layouts_equal_the_sum_they_stand_for() {
        for sizes in [
            [1, 1, 1],
            [0, 3, 2],
            [2, 0, 3],
            [3, 2, 0],
            [5, 7, 3],
            [1, 300, 40],
            [33, 100, 65],
            [15, 500, 31],
            [100, 129, 17],
            [600, 17, 70],
            [41, 330, 129],
        ] {
            check_product::<f32>(sizes, 2e-5);
            check_product::<f64>(sizes, 1e-13);
        }
    }

    /// Sizes whose packed factors do not fit into one block, so that sums are taken up again where an earlier cut left them.
    #[test]
    fn products_larger_than_a_block_equal_the_sum_they_stand_for_and_are_finished_once() {
        for [m, k, n] in [[610, 450, 640], [900, 330, 801]] {
            let (a, b) = (numbers::<f32>(m * k, 0.3), numbers::<f32>(k * n, 7.1));
            for [a_rows, b_rows] in [[true, true], [true, false], [false, true]] {
                let at = |i: usize, p: usize| f64::from(if a_rows { a[i * k + p] } else { a[p * m + i] });
                let bt = |p: usize, j: usize| f64::from(if b_rows { b[p * n + j] } else { b[j * k + p] });
                let [a_layout, b_layout] = [a_rows, b_rows].map(|rows| if rows { Layout::Rows } else { Layout::Transposed });
                let found = product_then(&a, a_layout, &b, b_layout, [m, k, n], |column, row| {
                    row.iter_mut().enumerate().for_each(|(j, x)| *x += (column + j) as f32);
                });
                for i in (0..m).step_by(37).chain([m - 1]) {
                    for j in (0..n).step_by(41).chain([n - 1]) {
                        let exact = (0..k).map(|p| at(i, p) * bt(p, j)).sum::<f64>() + j as f64;
                        let error = (f64::from(found[i * n + j]) - exact).abs();
                        assert!(error < 1e-4, "[{m}, {k}, {n}] {a_layout:?} {b_layout:?}: entry {i} {j} is off by {error:e}");
                    }
                }
            }
        }
    }

    #[test]
    fn large_products_do_not_depend_on_the_number_of_threads() {
        for sizes in [[100, 300, 700], [700, 60, 301]] {
            let [m, k, n] = sizes;
            let (a, b) = (numbers::<f32>(m * k, 0.3), numbers::<f32>(k * n, 7.1));
            let (c, d) = (numbers::<f64>(m * k, 0.3), numbers::<f64>(k * n, 7.1));
            let with = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let f = |x, y| (product(&a, x, &b, y, sizes), product(&c, x, &d, y, sizes));
                    [f(Layout::Rows, Layout::Rows), f(Layout::Rows, Layout::Transposed), f(Layout::Transposed, Layout::Rows)]
                })
            };
            assert!(with(1) == with(5));
        }
    }
}
