//! Tiles of products in AVX-512: 14 rows of two vectors of 16 numbers fill 28 of the 32 registers.

use std::arch::x86_64::{
    _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_castpd_ps, _mm512_castps_pd, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_storeu_ps, _mm512_unpackhi_pd,
    _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

use super::tiles::{AHEAD, Tile, Tiles};

pub(super) enum Avx512 {}

#[allow(unsafe_code)] // Reasons at the functions.
impl Tiles for Avx512 {
    const COLUMNS: usize = 32;
    const ROWS: usize = 14;
    /// A megabyte.
    const BLOCK: usize = 1 << 18;

    unsafe fn copy(from: *const f32, stride: usize, to: *mut f32, sizes: [usize; 3]) {
        // SAFETY: as the caller vouches.
        unsafe { copy(from, stride, to, sizes) };
    }

    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize, _room: usize, sizes: [usize; 3]) {
        // SAFETY: as the caller vouches; masked stores write the lanes alone.
        unsafe { transpose(from, stride, to, to_stride, sizes) };
    }

    unsafe fn multiply<const PACK: bool>(a: *const f32, columns: (*const f32, usize), packed: *mut f32, tile: Tile) {
        // SAFETY: as the caller vouches.
        unsafe {
            match tile.rows {
                1 => multiply::<1, PACK>(a, columns, packed, tile),
                2 => multiply::<2, PACK>(a, columns, packed, tile),
                3 => multiply::<3, PACK>(a, columns, packed, tile),
                4 => multiply::<4, PACK>(a, columns, packed, tile),
                5 => multiply::<5, PACK>(a, columns, packed, tile),
                6 => multiply::<6, PACK>(a, columns, packed, tile),
                7 => multiply::<7, PACK>(a, columns, packed, tile),
                8 => multiply::<8, PACK>(a, columns, packed, tile),
                9 => multiply::<9, PACK>(a, columns, packed, tile),
                10 => multiply::<10, PACK>(a, columns, packed, tile),
                11 => multiply::<11, PACK>(a, columns, packed, tile),
                12 => multiply::<12, PACK>(a, columns, packed, tile),
                13 => multiply::<13, PACK>(a, columns, packed, tile),
                _ => multiply::<14, PACK>(a, columns, packed, tile),
            }
        }
    }
}

/// The first `count` of 16 lanes.
fn mask(count: usize) -> u16 {
    ((1u32 << count.min(16)) - 1) as u16
}

/// [`Tiles::copy`].
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)] // A call to copy each piece would cost more than the copy.
unsafe fn copy(from: *const f32, stride: usize, to: *mut f32, [width, wide, depth]: [usize; 3]) {
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

/// [`Tiles::transpose`].
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)] // Sixteen registers transposed at once are several times faster than the copy the compiler finds.
unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize, [lines, terms, lanes]: [usize; 3]) {
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

/// [`Tiles::multiply`] for `R` rows.
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)] // The sums stay in registers, and bounds checks in this loop would cost more than the work.
unsafe fn multiply<const R: usize, const PACK: bool>(
    mut a: *const f32,
    (mut b, stride): (*const f32, usize),
    mut packed: *mut f32,
    tile: Tile,
) {
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
            if PACK {
                // Rows of a matrix lie on different pages, across which no processor reads ahead by itself.
                _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(AHEAD * stride).cast());
                _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(AHEAD * stride + 16).cast());
                _mm512_storeu_ps(packed, columns[0]);
                _mm512_storeu_ps(packed.add(16), columns[1]);
                packed = packed.add(Avx512::COLUMNS);
            }
            for (i, sum) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*a.add(i));
                sum[0] = _mm512_fmadd_ps(x, columns[0], sum[0]);
                sum[1] = _mm512_fmadd_ps(x, columns[1], sum[1]);
            }
            a = a.add(R);
            b = b.wrapping_add(if PACK { stride } else { Avx512::COLUMNS });
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
