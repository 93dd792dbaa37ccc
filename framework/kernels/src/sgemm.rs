//! Matrix product in single precision for AVX-512, fast for the shapes of dense layers: a batch of about a hundred rows, wide layers, and
//! either factor transposed.
//!
//! The smaller factor is packed once into strips; each thread packs one strip of the other and multiplies it with all of those. Packing a
//! transposed factor goes through registers, 16 by 16, which is where general libraries lose most on the gradient of a layer's input.

use std::arch::x86_64::{
    _mm512_add_ps, _mm512_castpd_ps, _mm512_castps_pd, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_set1_ps, _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_storeu_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd,
    _mm512_unpacklo_ps,
};
use std::cell::RefCell;

use rayon::prelude::*;

use crate::matmul::{Destination, Layout, PARALLEL_FROM};
use crate::real::{Instructions, instructions, vectorised};

/// Columns of a tile: two vectors.
const TILE_COLUMNS: usize = 32;
/// Most rows of a tile: with two vectors a row, 28 of the 32 registers hold sums.
const TILE_ROWS: usize = 14;
/// Most terms summed in registers, so that a tile's share of both factors stays in the first-level cache.
const TILE_DEPTH: usize = 384;
/// Multiplications from which packing pays.
const PAYS_FROM: usize = 1 << 17;

/// Whether a product of these sizes is computed here, on this machine.
pub(crate) fn pays([m, k, n]: [usize; 3]) -> bool {
    n >= TILE_COLUMNS / 2 && m >= 4 && m * k * n >= PAYS_FROM && instructions() == Instructions::Avx512
}

/// Start of share `i` when `n` is cut into `parts` equal shares.
fn share(n: usize, parts: usize, i: usize) -> usize {
    n * i / parts
}

/// A factor seen as lines (rows of the left one, columns of the right one) of `terms` numbers each.
struct Factor<'a> {
    values: &'a [f32],
    /// Whether the terms of a line lie side by side; otherwise the lines do.
    terms_first: bool,
    /// Distance between lines, or between terms.
    stride: usize,
}

impl Factor<'_> {
    /// Copies lines `first..first + width` and terms `from..from + depth` to `packed`: for each term `wide` numbers, zeros beyond the width.
    fn pack(&self, packed: &mut [f32], wide: usize, [first, width]: [usize; 2], [from, depth]: [usize; 2]) {
        let packed = &mut packed[..depth * wide];
        if !self.terms_first {
            if wide == TILE_COLUMNS && width == wide {
                // A length the compiler knows: a call to copy each piece would cost more than the copy.
                vectorised(|| {
                    let (rows, _) = packed.as_chunks_mut::<TILE_COLUMNS>();
                    for (term, row) in rows.iter_mut().enumerate() {
                        let at = (from + term) * self.stride + first;
                        if let Some(piece) = self.values[at..].first_chunk::<TILE_COLUMNS>() {
                            *row = *piece;
                        }
                    }
                });
                return;
            }
            for (term, row) in packed.chunks_exact_mut(wide).enumerate() {
                let at = (from + term) * self.stride + first;
                row[..width].copy_from_slice(&self.values[at..at + width]);
                row[width..].fill(0.0);
            }
            return;
        }
        let line = |i: usize| &self.values[(first + i) * self.stride + from..][..depth];
        let (by_16, whole) = (width / 16 * 16, depth / 16 * 16);
        for i in (0..by_16).step_by(16) {
            for term in (0..whole).step_by(16) {
                let corner = (first + i) * self.stride + from + term;
                transpose(&self.values[corner..], self.stride, &mut packed[term * wide + i..], wide);
            }
            for i in i..i + 16 {
                (whole..depth).for_each(|term| packed[term * wide + i] = line(i)[term]);
            }
        }
        for i in by_16..width {
            line(i).iter().zip(packed.chunks_exact_mut(wide)).for_each(|(&x, row)| row[i] = x);
        }
        if width < wide {
            packed.chunks_exact_mut(wide).for_each(|row| row[width..].fill(0.0));
        }
    }
}

/// Transposes 16 rows of 16 numbers, `stride` apart in `from` and `to_stride` apart in `to`.
#[allow(unsafe_code)]
fn transpose(from: &[f32], stride: usize, to: &mut [f32], to_stride: usize) {
    assert!(from.len() >= 15 * stride + 16 && to.len() >= 15 * to_stride + 16, "a block of 16 by 16");
    // SAFETY: `pays` found AVX-512; the lengths asserted above cover every row read and written.
    unsafe { transpose_avx512(from.as_ptr(), stride, to.as_mut_ptr(), to_stride) }
}

/// As [`transpose`].
///
/// # Safety
/// 16 numbers must be readable at each of 16 places `stride` apart, and writable at 16 places `to_stride` apart.
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)] // Sixteen registers transposed at once are several times faster than the copy the compiler finds.
unsafe fn transpose_avx512(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
    let mut rows = [_mm512_setzero_ps(); 16];
    let mut next = rows;
    for (i, row) in rows.iter_mut().enumerate() {
        // SAFETY: the caller vouches for the rows.
        *row = unsafe { _mm512_loadu_ps(from.add(i * stride)) };
    }
    // Pairs, then pairs of pairs, within quarters of the registers; then the quarters.
    for i in 0..8 {
        next[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        next[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    for i in 0..4 {
        let [a, b, c, d] = std::array::from_fn(|j| _mm512_castps_pd(next[4 * i + j]));
        rows[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        rows[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        rows[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        rows[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    for i in 0..4 {
        next[i] = _mm512_shuffle_f32x4::<0x88>(rows[i], rows[i + 4]);
        next[i + 4] = _mm512_shuffle_f32x4::<0xdd>(rows[i], rows[i + 4]);
        next[i + 8] = _mm512_shuffle_f32x4::<0x88>(rows[i + 8], rows[i + 12]);
        next[i + 12] = _mm512_shuffle_f32x4::<0xdd>(rows[i + 8], rows[i + 12]);
    }
    for i in 0..8 {
        let (low, high) = (_mm512_shuffle_f32x4::<0x88>(next[i], next[i + 8]), _mm512_shuffle_f32x4::<0xdd>(next[i], next[i + 8]));
        // SAFETY: the caller vouches for the rows.
        unsafe {
            _mm512_storeu_ps(to.add(i * to_stride), low);
            _mm512_storeu_ps(to.add((i + 8) * to_stride), high);
        }
    }
}

/// Where a tile goes and what it sums.
#[derive(Clone, Copy)]
struct Tile {
    out: *mut f32,
    stride: usize,
    rows: usize,
    columns: usize,
    depth: usize,
    /// Whether the sums join those that are there.
    add: bool,
}

/// Sums `tile` from packed strips: `rows` numbers a term in `a`, [`TILE_COLUMNS`] in `b`.
///
/// # Safety
/// The rows of the tile must be valid for reading and writing, and nobody else may use them meanwhile.
#[allow(unsafe_code)]
unsafe fn multiply(a: &[f32], b: &[f32], tile: Tile) {
    assert!((1..=TILE_ROWS).contains(&tile.rows) && a.len() >= tile.depth * tile.rows && b.len() >= tile.depth * TILE_COLUMNS);
    let (a, b) = (a.as_ptr(), b.as_ptr());
    // SAFETY: `pays` found AVX-512; the strips are as long as asserted; the caller vouches for the tile.
    unsafe {
        match tile.rows {
            1 => multiply_avx512::<1>(a, b, tile),
            2 => multiply_avx512::<2>(a, b, tile),
            3 => multiply_avx512::<3>(a, b, tile),
            4 => multiply_avx512::<4>(a, b, tile),
            5 => multiply_avx512::<5>(a, b, tile),
            6 => multiply_avx512::<6>(a, b, tile),
            7 => multiply_avx512::<7>(a, b, tile),
            8 => multiply_avx512::<8>(a, b, tile),
            9 => multiply_avx512::<9>(a, b, tile),
            10 => multiply_avx512::<10>(a, b, tile),
            11 => multiply_avx512::<11>(a, b, tile),
            12 => multiply_avx512::<12>(a, b, tile),
            13 => multiply_avx512::<13>(a, b, tile),
            _ => multiply_avx512::<14>(a, b, tile),
        }
    }
}

/// As [`multiply`], for `R` rows.
///
/// # Safety
/// As [`multiply`]; the strips must hold `R` and [`TILE_COLUMNS`] numbers for each term.
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)] // The sums stay in registers, and bounds checks in this loop would cost more than the work.
unsafe fn multiply_avx512<const R: usize>(mut a: *const f32, mut b: *const f32, tile: Tile) {
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for _ in 0..tile.depth {
        // SAFETY: the caller vouches for the strips, which these pointers walk term by term.
        unsafe {
            let columns = [_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(16))];
            for (i, sum) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*a.add(i));
                sum[0] = _mm512_fmadd_ps(x, columns[0], sum[0]);
                sum[1] = _mm512_fmadd_ps(x, columns[1], sum[1]);
            }
            a = a.add(R);
            b = b.add(TILE_COLUMNS);
        }
    }
    let mask = |from: usize| ((1u32 << tile.columns.saturating_sub(from).min(16)) - 1) as u16;
    for (i, sum) in sums.iter().enumerate() {
        for (half, &sum) in sum.iter().enumerate() {
            let (place, mask) = (tile.out.wrapping_add(i * tile.stride + 16 * half), mask(16 * half));
            // SAFETY: the mask leaves out the columns beyond the tile; the caller vouches for the others.
            unsafe {
                let sum = if tile.add { _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, place)) } else { sum };
                _mm512_mask_storeu_ps(place, mask, sum);
            }
        }
    }
}

thread_local! {
    /// The strip a thread is working on.
    static STRIP: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// The factor that is packed as a whole, taken out while in use: a waiting thread may start another product.
    static WHOLE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` for 0..n, on several threads when `parallel`, at least `together` calls at a time.
fn each(n: usize, parallel: bool, together: usize, f: impl Fn(usize) + Sync + Send) {
    if parallel { (0..n).into_par_iter().with_min_len(together).for_each(f) } else { (0..n).for_each(f) }
}

/// Writes the product of a `[m, k]` and b `[k, n]` to `out`.
///
/// # Safety
/// `out` must be valid for writing m n numbers that nobody else uses meanwhile. [`pays`] must be true for the sizes.
#[allow(unsafe_code)]
pub(crate) unsafe fn write(out: Destination<f32>, a: &[f32], a_layout: Layout, b: &[f32], b_layout: Layout, [m, k, n]: [usize; 3]) {
    let a = Factor { values: a, terms_first: a_layout == Layout::Rows, stride: if a_layout == Layout::Rows { k } else { m } };
    let b = Factor { values: b, terms_first: b_layout == Layout::Transposed, stride: if b_layout == Layout::Transposed { k } else { n } };
    let (row_strips, column_strips, cuts) = (m.div_ceil(TILE_ROWS), n.div_ceil(TILE_COLUMNS), k.div_ceil(TILE_DEPTH));
    let rows = |strip: usize| {
        let first = share(m, row_strips, strip);
        [first, share(m, row_strips, strip + 1) - first]
    };
    let columns = |strip: usize| [strip * TILE_COLUMNS, TILE_COLUMNS.min(n - strip * TILE_COLUMNS)];
    let terms = |cut: usize| {
        let from = share(k, cuts, cut);
        [from, share(k, cuts, cut + 1) - from]
    };
    // One strip of either factor against one cut of the terms.
    let multiply = |a: &[f32], b: &[f32], row_strip: usize, column_strip: usize, cut: usize| {
        let ([i, rows], [j, columns], [_, depth]) = (rows(row_strip), columns(column_strip), terms(cut));
        let tile = Tile { out: out.at(i * n + j), stride: n, rows, columns, depth, add: cut > 0 };
        // SAFETY: tiles are disjoint and each belongs to one thread; a tile is read only after its first cut has written it.
        unsafe { multiply(a, b, tile) }
    };
    let parallel = m * k * n >= PARALLEL_FROM;
    let mut whole = WHOLE.take();
    let by_columns = m < n;
    let (strips, wide) = if by_columns { (row_strips, TILE_ROWS) } else { (column_strips, TILE_COLUMNS) };
    whole.resize((strips * wide * k).max(whole.len()), 0.0);
    let pack = |strip: usize, packed: &mut [f32]| {
        for cut in 0..cuts {
            let [from, depth] = terms(cut);
            if by_columns {
                a.pack(&mut packed[from * rows(strip)[1]..], rows(strip)[1], rows(strip), [from, depth]);
            } else {
                b.pack(&mut packed[from * TILE_COLUMNS..], TILE_COLUMNS, columns(strip), [from, depth]);
            }
        }
    };
    let length = wide * k;
    if parallel {
        whole[..strips * length].par_chunks_exact_mut(length).with_min_len(2).enumerate().for_each(|(strip, packed)| pack(strip, packed));
    } else {
        whole[..strips * length].chunks_exact_mut(length).enumerate().for_each(|(strip, packed)| pack(strip, packed));
    }
    if by_columns {
        each(column_strips, parallel, 2, |column_strip| {
            STRIP.with_borrow_mut(|packed| {
                packed.resize((TILE_COLUMNS * k.div_ceil(cuts)).max(packed.len()), 0.0);
                for cut in 0..cuts {
                    b.pack(packed, TILE_COLUMNS, columns(column_strip), terms(cut));
                    for row_strip in 0..row_strips {
                        let from = row_strip * length + terms(cut)[0] * rows(row_strip)[1];
                        multiply(&whole[from..], packed, row_strip, column_strip, cut);
                    }
                }
            });
        });
    } else {
        each(row_strips, parallel, 2, |row_strip| {
            STRIP.with_borrow_mut(|packed| {
                packed.resize((TILE_ROWS * k.div_ceil(cuts)).max(packed.len()), 0.0);
                for cut in 0..cuts {
                    a.pack(packed, rows(row_strip)[1], rows(row_strip), terms(cut));
                    for column_strip in 0..column_strips {
                        let from = column_strip * length + terms(cut)[0] * TILE_COLUMNS;
                        multiply(packed, &whole[from..], row_strip, column_strip, cut);
                    }
                }
            });
        });
    }
    WHOLE.set(whole);
}
