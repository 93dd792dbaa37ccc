//! Matrix product in single precision, fast for the shapes of dense layers: a batch of about a hundred rows, wide layers, and either factor
//! transposed.
//!
//! Factors are packed into strips, each once. If the smaller one stays in the second-level cache as a whole, strips of the other pass by it, packed
//! while the first tile reads them where they can be; otherwise the right factor is packed first and passes by blocks of the left one. Packing goes through registers, and a transposed factor is turned there square by square,
//! which is where general libraries lose most on the gradient of a layer's input. What depends on the machine's vectors is in [`Tiles`].

mod avx2;
mod avx512;
mod tiles;

use std::cell::RefCell;
use std::ptr::null_mut;

use rayon::prelude::*;

use self::avx2::Avx2;
use self::avx512::Avx512;
use self::tiles::{Tile, Tiles};
use crate::layout::{Destination, Layout, PARALLEL_FROM};
use crate::real::{Instructions, instructions};
use crate::vectorised;

/// Most terms summed in registers, so that a strip of either factor stays in the first-level cache.
const TILE_DEPTH: usize = 320;
/// Multiplications from which packing pays.
const PAYS_FROM: usize = 1 << 17;

/// Whether a product of these sizes is computed here, on this machine.
pub(crate) fn pays([m, k, n]: [usize; 3]) -> bool {
    let least = match instructions() {
        Instructions::Avx512 => Avx512::LANES,
        Instructions::Avx2 => Avx2::LANES,
        Instructions::Baseline => return false,
    };
    n >= least && m >= 4 && m * k * n >= PAYS_FROM
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
    /// Copies lines `first..first + width` and terms `from..from + depth` to `packed`: for each term `wide` numbers, at most
    /// [`Tiles::COLUMNS`], with zeros beyond the width.
    ///
    /// # Safety
    /// The machine must have the instructions of `T`.
    #[allow(unsafe_code)]
    unsafe fn pack<T: Tiles>(&self, packed: &mut [f32], wide: usize, [first, width]: [usize; 2], [from, depth]: [usize; 2]) {
        if depth == 0 || width == 0 {
            return;
        }
        assert!(width <= wide && wide <= T::COLUMNS && packed.len() >= depth * wide, "a strip of {wide} by {depth}");
        let [outer, inner] = if self.terms_first { [first + width, from + depth] } else { [from + depth, first + width] };
        assert!(inner <= self.stride && self.values.len() >= (outer - 1) * self.stride + inner, "lines and terms of a factor");
        if !self.terms_first {
            // SAFETY: the lengths asserted above cover `width` numbers of `depth` terms on one side and `wide` on the other; the caller
            // vouches for the instructions.
            unsafe { T::copy(self.values[from * self.stride + first..].as_ptr(), self.stride, packed.as_mut_ptr(), [width, wide, depth]) };
            return;
        }
        for i in (0..wide).step_by(T::LANES) {
            let lines = width.saturating_sub(i).min(T::LANES);
            for term in (0..depth).step_by(T::LANES) {
                let corner = if lines == 0 { 0 } else { (first + i) * self.stride + from + term };
                let (from, to) = (&self.values[corner..], &mut packed[term * wide + i..depth * wide]);
                let sizes = [lines, (depth - term).min(T::LANES), (wide - i).min(T::LANES)];
                // SAFETY: the lengths asserted above cover the lines and terms of the block on either side; the caller vouches for the
                // instructions.
                unsafe { T::transpose(from.as_ptr(), self.stride, to.as_mut_ptr(), wide, to.len(), sizes) };
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
    /// Most lines of a strip.
    widest: usize,
    /// Whether lines are rows of the product, in strips of equal shares; otherwise they are columns, in strips as wide as a tile.
    rows: bool,
}

impl<'a> Strips<'a> {
    fn new<T: Tiles>(factor: Factor<'a>, lines: usize, rows: bool) -> Self {
        let widest = if rows { T::ROWS } else { T::COLUMNS };
        Self { factor, lines, count: lines.div_ceil(widest), widest, rows }
    }

    /// First line and number of lines of a strip.
    fn lines(&self, strip: usize) -> [usize; 2] {
        let first = if self.rows { share(self.lines, self.count, strip) } else { strip * self.widest };
        let end = if self.rows { share(self.lines, self.count, strip + 1) } else { self.lines.min(first + self.widest) };
        [first, end - first]
    }

    /// Numbers a strip has for each term.
    fn wide(&self, strip: usize) -> usize {
        if self.rows { self.lines(strip)[1] } else { self.widest }
    }

    /// # Safety
    /// The machine must have the instructions of `T`.
    #[allow(unsafe_code)]
    unsafe fn pack<T: Tiles>(&self, packed: &mut [f32], strip: usize, terms: [usize; 2]) {
        // SAFETY: as the caller vouches.
        unsafe { self.factor.pack::<T>(packed, self.wide(strip), self.lines(strip), terms) };
    }

    /// The rows of the matrix that hold the terms of a strip, from its first number on, when the strip is a piece of each as wide as it is packed.
    fn unpacked(&self, strip: usize, [from, depth]: [usize; 2]) -> Option<&[f32]> {
        let ([first, width], Factor { values, terms_first, stride }) = (self.lines(strip), &self.factor);
        (!terms_first && depth > 0 && width == self.wide(strip)).then(|| {
            let first = from * stride + first;
            &values[first..first + (depth - 1) * stride + width]
        })
    }
}

/// A strip of the right factor.
enum Columns<'a> {
    Packed(&'a [f32]),
    /// Its rows in the matrix, and where to leave them packed.
    Rows(&'a [f32], &'a mut [f32]),
}

/// Calls `f` with this thread's room for `length` packed numbers.
fn with_strip(length: usize, f: impl FnOnce(&mut [f32])) {
    STRIP.with_borrow_mut(|strip| {
        strip.resize(length.max(strip.len()), 0.0);
        f(&mut strip[..length]);
    });
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
    // SAFETY: the caller vouches for `out`; each of the two is called where its instructions are.
    unsafe {
        match instructions() {
            Instructions::Avx512 => write_with::<Avx512>(out, a, b, [m, k, n], finish),
            Instructions::Avx2 => write_with::<Avx2>(out, a, b, [m, k, n], finish),
            Instructions::Baseline => unreachable!("`pays` is false without vectors"),
        }
    }
}

/// As [`write`].
///
/// # Safety
/// As [`write`], on a machine with the instructions of `T`.
#[allow(unsafe_code)]
unsafe fn write_with<T: Tiles>(
    out: Destination<f32>,
    a: Factor<'_>,
    b: Factor<'_>,
    [m, k, n]: [usize; 3],
    finish: impl Fn(usize, &mut [f32]) + Sync + Send,
) {
    let (a, b) = (Strips::new::<T>(a, m, true), Strips::new::<T>(b, n, false));
    let cuts = k.div_ceil(TILE_DEPTH);
    let depth = k.div_ceil(cuts);
    let terms = |cut: usize| {
        let from = share(k, cuts, cut);
        [from, share(k, cuts, cut + 1) - from]
    };
    // One strip of either factor against one cut of the terms. The columns are read from where they lie, and packed on the way, if they are given.
    let multiply = |packed_a: &[f32], packed_b: Columns<'_>, [row_strip, column_strip]: [usize; 2], cut: usize| {
        let ([i, rows], [j, columns], [_, depth]) = (a.lines(row_strip), b.lines(column_strip), terms(cut));
        assert!(i + rows <= m && j + columns <= n, "a tile of the product [{m}, {k}] x [{k}, {n}]");
        assert!((1..=T::ROWS).contains(&rows) && packed_a.len() >= depth * rows);
        let tile = Tile { out: out.at(i * n + j), stride: n, rows, columns, depth, add: cut > 0 };
        // SAFETY: the strips are as long as asserted; the tile lies in the product; tiles are disjoint and each belongs to one thread; a tile
        // is read only after its first cut has written it. The caller vouches for the instructions.
        unsafe {
            match packed_b {
                Columns::Packed(packed) => {
                    assert!(packed.len() >= depth * T::COLUMNS);
                    T::multiply::<false>(packed_a.as_ptr(), (packed.as_ptr(), T::COLUMNS), null_mut(), tile);
                }
                Columns::Rows(rows, packed) => {
                    assert!(packed.len() >= depth * T::COLUMNS && rows.len() >= (depth - 1) * n + T::COLUMNS);
                    T::multiply::<true>(packed_a.as_ptr(), (rows.as_ptr(), n), packed.as_mut_ptr(), tile);
                }
            }
        }
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
    let parts = if parallel { 2 * rayon::current_num_threads() } else { 1 };
    let (small, large) = if m < n { (&a, &b) } else { (&b, &a) };
    let stays = small.count * small.widest * depth <= T::BLOCK;
    let whole = if stays { small } else { &b };
    let length = whole.widest * k;
    let mut packed_whole = WHOLE.take();
    packed_whole.resize((whole.count * length).max(packed_whole.len()), 0.0);
    let pack = |(strip, packed): (usize, &mut [f32])| {
        for cut in 0..cuts {
            // SAFETY: the caller vouches for the instructions.
            unsafe { whole.pack::<T>(&mut packed[terms(cut)[0] * whole.wide(strip)..], strip, terms(cut)) };
        }
    };
    if parallel {
        packed_whole[..whole.count * length].par_chunks_exact_mut(length).with_min_len(2).enumerate().for_each(pack);
    } else {
        packed_whole[..whole.count * length].chunks_exact_mut(length).enumerate().for_each(pack);
    }
    let packed = |strip: usize, cut: usize| &packed_whole[strip * length + terms(cut)[0] * whole.wide(strip)..];
    // A tile sums its cuts in order whoever computes it, so the number of parts may depend on that of the threads.
    if stays {
        // One strip of the large factor after the other passes by the small one.
        let pass = |strip: usize, cut: usize| {
            with_strip(large.widest * depth, |passing| {
                if large.rows {
                    // SAFETY: the caller vouches for the instructions.
                    unsafe { large.pack::<T>(passing, strip, terms(cut)) };
                    (0..small.count).for_each(|stays| multiply(passing, Columns::Packed(packed(stays, cut)), [strip, stays], cut));
                    return;
                }
                let rows = large.unpacked(strip, terms(cut));
                let first = usize::from(rows.is_some());
                if let Some(rows) = rows {
                    multiply(packed(0, cut), Columns::Rows(rows, passing), [0, strip], cut);
                } else {
                    // SAFETY: as above.
                    unsafe { large.pack::<T>(passing, strip, terms(cut)) };
                }
                (first..small.count).for_each(|stays| multiply(packed(stays, cut), Columns::Packed(passing), [stays, strip], cut));
            });
        };
        let groups = parts.min(large.count);
        each(groups, parallel, |group| {
            let strips = share(large.count, groups, group)..share(large.count, groups, group + 1);
            if small.count * length <= T::BLOCK {
                strips.for_each(|strip| (0..cuts).for_each(|cut| pass(strip, cut)));
            } else {
                (0..cuts).for_each(|cut| strips.clone().for_each(|strip| pass(strip, cut)));
            }
        });
    } else {
        // A block of rows is packed once for each cut, and stays in the second-level cache while the columns pass by.
        let blocks = ((a.count * a.widest * depth).div_ceil(T::BLOCK).div_ceil(parts) * parts).min(a.count);
        each(blocks, parallel, |block| {
            let strips = share(a.count, blocks, block)..share(a.count, blocks, block + 1);
            let length = a.widest * depth;
            with_strip(strips.len() * length, |staying| {
                for cut in 0..cuts {
                    for (strip, packed) in strips.clone().zip(staying.chunks_exact_mut(length)) {
                        // SAFETY: the caller vouches for the instructions.
                        unsafe { a.pack::<T>(packed, strip, terms(cut)) };
                    }
                    for columns in 0..b.count {
                        for (strip, rows) in strips.clone().zip(staying.chunks_exact(length)) {
                            multiply(rows, Columns::Packed(packed(columns, cut)), [strip, columns], cut);
                        }
                    }
                }
            });
        });
    }
    WHOLE.set(packed_whole);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: f32) -> Vec<f32> {
        (0..n).map(|i| ((i as f32 + seed) * 0.618_034).fract() - 0.5).collect()
    }

    /// Products in the vectors of `T`, which the machine must have.
    #[allow(unsafe_code)]
    fn check<T: Tiles>() {
        // Rows and columns that fill no tile, one row, half a vector of columns, several cuts of the terms, several blocks.
        for [m, k, n] in [[1, 5, 3], [7, 33, 17], [13, 700, 8], [100, 321, 47], [29, 90, 250], [450, 650, 400]] {
            let (a, b) = (numbers(m * k, 0.3), numbers(k * n, 7.1));
            for (a_rows, b_rows) in [(true, true), (true, false), (false, true), (false, false)] {
                let at = |i: usize, p: usize| f64::from(if a_rows { a[i * k + p] } else { a[p * m + i] });
                let bt = |p: usize, j: usize| f64::from(if b_rows { b[p * n + j] } else { b[j * k + p] });
                let mut out = vec![f32::NAN; m * n];
                let a = Factor { values: &a, terms_first: a_rows, stride: if a_rows { k } else { m } };
                let b = Factor { values: &b, terms_first: !b_rows, stride: if b_rows { n } else { k } };
                let finish = |column: usize, row: &mut [f32]| row.iter_mut().enumerate().for_each(|(j, x)| *x += (column + j) as f32);
                // SAFETY: `out` holds m n numbers and nobody else uses it.
                unsafe { write_with::<T>(Destination::of(&mut out), a, b, [m, k, n], finish) };
                for i in (0..m).step_by(m.div_ceil(40)).chain([m - 1]) {
                    for j in (0..n).step_by(n.div_ceil(40)).chain([n - 1]) {
                        let exact = (0..k).map(|p| at(i, p) * bt(p, j)).sum::<f64>() + j as f64;
                        let error = (f64::from(out[i * n + j]) - exact).abs();
                        assert!(error < 1e-4, "[{m}, {k}, {n}] {a_rows} {b_rows}: entry {i} {j} is off by {error:e}");
                    }
                }
            }
        }
    }

    #[test]
    fn tiles_of_every_instruction_set_of_this_machine_sum_what_they_stand_for() {
        if matches!(instructions(), Instructions::Avx512) {
            check::<Avx512>();
        }
        // What has AVX-512 has these too.
        if !matches!(instructions(), Instructions::Baseline) {
            check::<Avx2>();
        }
    }
}
