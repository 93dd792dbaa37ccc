//! Matrix product in single precision for AVX-512, fast for the shapes of dense layers: a batch of about a hundred rows, wide layers, and
//! either factor transposed.
//!
//! The smaller factor is packed once into strips; each thread packs strips of the other and multiplies them with all of those, block by block
//! so that a block stays in the second-level cache. Packing goes through registers, and a transposed factor is turned there 16 by 16, which is
//! where general libraries lose most on the gradient of a layer's input.

use std::arch::x86_64::{
    _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_castpd_ps, _mm512_castps_pd, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_unpackhi_pd, _mm512_unpackhi_ps,
    _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};
use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use crate::matmul::{Destination, Layout, PARALLEL_FROM};
use crate::real::{Instructions, instructions};
use crate::vectorised;

/// Columns of a tile: two vectors.
const TILE_COLUMNS: usize = 32;
/// Most rows of a tile: with two vectors a row, 28 of the 32 registers hold sums.
const TILE_ROWS: usize = 14;
/// Most terms summed in registers, so that a strip of either factor stays in the first-level cache.
const TILE_DEPTH: usize = 320;
/// Most packed numbers of a block, a megabyte: a block stays in the second-level cache while strips of the other factor pass by.
const BLOCK: usize = 1 << 18;
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

/// The first `count` of 16 lanes.
fn mask(count: usize) -> u16 {
    ((1u32 << count.min(16)) - 1) as u16
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
    /// Copies lines `first..first + width` and terms `from..from + depth` to `packed`: for each term `wide` numbers, at most
    /// [`TILE_COLUMNS`], with zeros beyond the width.
    #[allow(unsafe_code)]
    fn pack(&self, packed: &mut [f32], wide: usize, [first, width]: [usize; 2], [from, depth]: [usize; 2]) {
        if depth == 0 || width == 0 {
            return;
        }
        assert!(width <= wide && wide <= TILE_COLUMNS && packed.len() >= depth * wide, "a strip of {wide} by {depth}");
        let [outer, inner] = if self.terms_first { [first + width, from + depth] } else { [from + depth, first + width] };
        assert!(inner <= self.stride && self.values.len() >= (outer - 1) * self.stride + inner, "lines and terms of a factor");
        if !self.terms_first {
            // SAFETY: `pays` found AVX-512; the lengths asserted above cover `width` numbers of `depth` terms on one side and `wide` on the
            // other.
            unsafe {
                copy_avx512(self.values[from * self.stride + first..].as_ptr(), self.stride, packed.as_mut_ptr(), [width, wide, depth]);
            }
            return;
        }
        for i in (0..wide).step_by(16) {
            let lines = width.saturating_sub(i).min(16);
            for term in (0..depth).step_by(16) {
                let corner = if lines == 0 { 0 } else { (first + i) * self.stride + from + term };
                let (from, to) = (&self.values[corner..], &mut packed[term * wide + i..]);
                // SAFETY: `pays` found AVX-512; the lengths asserted above cover the lines and terms of the block on either side.
                unsafe {
                    transpose_avx512(
                        from.as_ptr(),
                        self.stride,
                        to.as_mut_ptr(),
                        wide,
                        [lines, (depth - term).min(16), (wide - i).min(16)],
                    );
                }
            }
        }
    }
}

/// Copies `width` numbers of each of `depth` terms, `stride` apart, to places `wide` apart, and zeros up to `wide`.
///
/// # Safety
/// `from` must be readable for the terms, `to` writable for `wide` numbers each; `wide` is at most 32.
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)] // A call to copy each piece would cost more than the copy.
unsafe fn copy_avx512(from: *const f32, stride: usize, to: *mut f32, [width, wide, depth]: [usize; 3]) {
    let load = [mask(width), mask(width.saturating_sub(16))];
    let store = [mask(wide), mask(wide.saturating_sub(16))];
    for term in 0..depth {
        let (from, to) = (from.wrapping_add(term * stride), to.wrapping_add(term * wide));
        // SAFETY: the masks leave out what lies beyond the width on either side; the caller vouches for the rest.
        unsafe {
            _mm512_mask_storeu_ps(to, store[0], _mm512_maskz_loadu_ps(load[0], from));
            if wide > 16 {
                _mm512_mask_storeu_ps(to.wrapping_add(16), store[1], _mm512_maskz_loadu_ps(load[1], from.wrapping_add(16)));
            }
        }
    }
}

/// Transposes `lines` rows of `terms` numbers, `stride` apart in `from`, to `terms` rows of `lanes` numbers, `to_stride` apart in `to`, with
/// zeros beyond `lines`; all three are at most 16.
///
/// # Safety
/// The numbers must be readable on one side and writable on the other.
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)] // Sixteen registers transposed at once are several times faster than the copy the compiler finds.
unsafe fn transpose_avx512(from: *const f32, stride: usize, to: *mut f32, to_stride: usize, [lines, terms, lanes]: [usize; 3]) {
    let mut rows = [_mm512_setzero_ps(); 16];
    let mut next = rows;
    for (i, row) in rows.iter_mut().enumerate() {
        // SAFETY: lines that are not there are masked out; the caller vouches for the others.
        *row = unsafe { _mm512_maskz_loadu_ps(if i < lines { mask(terms) } else { 0 }, from.wrapping_add(i * stride)) };
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
        rows[i] = _mm512_shuffle_f32x4::<0x88>(next[i], next[i + 8]);
        rows[i + 8] = _mm512_shuffle_f32x4::<0xdd>(next[i], next[i + 8]);
    }
    for (term, row) in rows.iter().enumerate() {
        if term < terms {
            // SAFETY: the caller vouches for `lanes` numbers of this row.
            unsafe { _mm512_mask_storeu_ps(to.wrapping_add(term * to_stride), mask(lanes), *row) };
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
    // On its way while the sums grow; places that do not exist are never touched.
    for i in 0..R {
        for half in [0, 16] {
            _mm_prefetch::<_MM_HINT_T0>(tile.out.wrapping_add(i * tile.stride + half).cast());
        }
    }
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
    for (i, sum) in sums.iter().enumerate() {
        for (half, &sum) in sum.iter().enumerate() {
            let (place, mask) = (tile.out.wrapping_add(i * tile.stride + 16 * half), mask(tile.columns.saturating_sub(16 * half)));
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

/// A factor with the strips it is cut into.
struct Strips<'a> {
    factor: Factor<'a>,
    lines: usize,
    count: usize,
    /// Whether lines are rows of the product, in strips of equal shares; otherwise they are columns, in strips of [`TILE_COLUMNS`].
    rows: bool,
}

impl<'a> Strips<'a> {
    fn new(factor: Factor<'a>, lines: usize, rows: bool) -> Self {
        Self { factor, lines, count: lines.div_ceil(if rows { TILE_ROWS } else { TILE_COLUMNS }), rows }
    }

    /// First line and number of lines of a strip.
    fn lines(&self, strip: usize) -> [usize; 2] {
        let first = if self.rows { share(self.lines, self.count, strip) } else { strip * TILE_COLUMNS };
        let end = if self.rows { share(self.lines, self.count, strip + 1) } else { self.lines.min(first + TILE_COLUMNS) };
        [first, end - first]
    }

    /// Numbers a strip has for each term.
    fn wide(&self, strip: usize) -> usize {
        if self.rows { self.lines(strip)[1] } else { TILE_COLUMNS }
    }

    /// Most numbers a strip has for each term.
    fn widest(&self) -> usize {
        if self.rows { TILE_ROWS } else { TILE_COLUMNS }
    }

    fn pack(&self, packed: &mut [f32], strip: usize, terms: [usize; 2]) {
        self.factor.pack(packed, self.wide(strip), self.lines(strip), terms);
    }
}

/// Calls `f` for 0..n, on several threads when `parallel`.
fn each(n: usize, parallel: bool, f: impl Fn(usize) + Sync + Send) {
    if parallel { (0..n).into_par_iter().for_each(f) } else { (0..n).for_each(f) }
}

/// Writes the product of a `[m, k]` and b `[k, n]` to `out`, and calls `finish(column, numbers)` once for each piece of a row that is done,
/// which begins at `column`.
///
/// # Safety
/// `out` must be valid for writing m n numbers that nobody else uses meanwhile. [`pays`] must be true for the sizes.
#[allow(unsafe_code)]
pub(crate) unsafe fn write(
    out: Destination<f32>,
    a: &[f32],
    a_layout: Layout,
    b: &[f32],
    b_layout: Layout,
    [m, k, n]: [usize; 3],
    finish: impl Fn(usize, &mut [f32]) + Sync + Send,
) {
    let a = Factor { values: a, terms_first: a_layout == Layout::Rows, stride: if a_layout == Layout::Rows { k } else { m } };
    let b = Factor { values: b, terms_first: b_layout == Layout::Transposed, stride: if b_layout == Layout::Transposed { k } else { n } };
    let (a, b) = (Strips::new(a, m, true), Strips::new(b, n, false));
    let cuts = k.div_ceil(TILE_DEPTH);
    let terms = |cut: usize| {
        let from = share(k, cuts, cut);
        [from, share(k, cuts, cut + 1) - from]
    };
    // One strip of either factor against one cut of the terms.
    let multiply = |packed_a: &[f32], packed_b: &[f32], [row_strip, column_strip]: [usize; 2], cut: usize| {
        let ([i, rows], [j, columns], [_, depth]) = (a.lines(row_strip), b.lines(column_strip), terms(cut));
        assert!(i + rows <= m && j + columns <= n, "a tile of the product [{m}, {k}] x [{k}, {n}]");
        let tile = Tile { out: out.at(i * n + j), stride: n, rows, columns, depth, add: cut > 0 };
        // SAFETY: the tile lies in the product; tiles are disjoint and each belongs to one thread; a tile is read only after its first cut
        // has written it.
        unsafe { multiply(packed_a, packed_b, tile) };
        if cut + 1 == cuts {
            vectorised!(|| {
                for i in i..i + rows {
                    // SAFETY: the columns of this row of the tile, written just above by the only thread that uses them.
                    finish(j, unsafe { std::slice::from_raw_parts_mut(out.at(i * n + j), columns) });
                }
            });
        }
    };
    let parallel = m * k * n >= PARALLEL_FROM;
    let (whole, passing) = if m < n { (&a, &b) } else { (&b, &a) };
    let length = whole.widest() * k;
    let mut packed_whole = WHOLE.take();
    packed_whole.resize((whole.count * length).max(packed_whole.len()), 0.0);
    let pack = |(strip, packed): (usize, &mut [f32])| {
        (0..cuts).for_each(|cut| whole.pack(&mut packed[terms(cut)[0] * whole.wide(strip)..], strip, terms(cut)));
    };
    if parallel {
        packed_whole[..whole.count * length].par_chunks_exact_mut(length).with_min_len(2).enumerate().for_each(pack);
    } else {
        packed_whole[..whole.count * length].chunks_exact_mut(length).enumerate().for_each(pack);
    }
    // A strip that passes by, against some strips of the factor that stays, for one cut.
    let pass = |strip: usize, cut: usize, staying: Range<usize>| {
        STRIP.with_borrow_mut(|packed| {
            packed.resize((passing.widest() * k.div_ceil(cuts)).max(packed.len()), 0.0);
            passing.pack(packed, strip, terms(cut));
            for stays in staying {
                let block = &packed_whole[stays * length + terms(cut)[0] * whole.wide(stays)..];
                if whole.rows { multiply(block, packed, [stays, strip], cut) } else { multiply(packed, block, [strip, stays], cut) }
            }
        });
    };
    // A tile sums its cuts in order whoever computes it, so the number of groups may depend on that of the threads.
    let groups = if parallel { (2 * rayon::current_num_threads()).min(passing.count) } else { 1 };
    each(groups, parallel, |group| {
        let strips = share(passing.count, groups, group)..share(passing.count, groups, group + 1);
        if whole.count * length <= BLOCK {
            for strip in strips {
                (0..cuts).for_each(|cut| pass(strip, cut, 0..whole.count));
            }
            return;
        }
        let blocks = (whole.count * whole.widest() * k.div_ceil(cuts)).div_ceil(BLOCK).min(whole.count);
        for block in 0..blocks {
            for cut in 0..cuts {
                for strip in strips.clone() {
                    pass(strip, cut, share(whole.count, blocks, block)..share(whole.count, blocks, block + 1));
                }
            }
        }
    });
    WHOLE.set(packed_whole);
}
