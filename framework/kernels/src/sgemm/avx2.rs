//! Tiles of products in AVX2 with fused multiplication and addition: 6 rows of two vectors of 8 numbers fill 12 of the 16 registers.

use std::arch::x86_64::{
    __m256, __m256i, _MM_HINT_T0, _mm_prefetch, _mm256_add_ps, _mm256_broadcast_ss, _mm256_castpd_ps, _mm256_castps_pd, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_maskload_ps, _mm256_permute2f128_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    _mm256_unpackhi_pd, _mm256_unpackhi_ps, _mm256_unpacklo_pd, _mm256_unpacklo_ps,
};

use super::tiles::{AHEAD, Tile, Tiles};

pub(super) enum Avx2 {}

#[allow(unsafe_code)] // Reasons at the functions.
impl Tiles for Avx2 {
    const COLUMNS: usize = 16;
    const ROWS: usize = 6;
    /// Three eighths of a megabyte.
    const BLOCK: usize = 3 << 15;

    unsafe fn copy(from: *const f32, stride: usize, to: *mut f32, sizes: [usize; 3]) {
        // SAFETY: as the caller vouches.
        unsafe { copy(from, stride, to, sizes) };
    }

    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize, room: usize, sizes: [usize; 3]) {
        // SAFETY: as the caller vouches.
        unsafe { transpose(from, stride, to, to_stride, room, sizes) };
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
                _ => multiply::<6, PACK>(a, columns, packed, tile),
            }
        }
    }
}

/// The first `count` of 8 lanes.
#[target_feature(enable = "avx2,fma")]
#[allow(unsafe_code)]
fn mask(count: usize) -> __m256i {
    const LANES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: eight numbers from the eighth at the latest.
    unsafe { _mm256_loadu_si256(LANES[8 - count.min(8)..].as_ptr().cast()) }
}

/// `count` numbers, with zeros up to 8.
///
/// # Safety
/// They must be readable.
#[target_feature(enable = "avx2,fma")]
#[allow(unsafe_code)]
unsafe fn load(from: *const f32, count: usize) -> __m256 {
    // SAFETY: as the caller vouches; the mask leaves out the others.
    unsafe { if count >= 8 { _mm256_loadu_ps(from) } else { _mm256_maskload_ps(from, mask(count)) } }
}

/// Writes the first `count` numbers, and more where `room` allows all 8: a masked store takes longer than the rest of a tile together.
///
/// # Safety
/// `to` must be writable for `count` and for `room` numbers.
#[target_feature(enable = "avx2,fma")]
#[allow(unsafe_code)]
unsafe fn store(to: *mut f32, count: usize, room: usize, value: __m256) {
    // SAFETY: as the caller vouches.
    unsafe {
        if room >= 8 {
            _mm256_storeu_ps(to, value);
        } else {
            let mut numbers = [0.0; 8];
            _mm256_storeu_ps(numbers.as_mut_ptr(), value);
            std::ptr::copy_nonoverlapping(numbers.as_ptr(), to, count.min(8));
        }
    }
}

/// [`Tiles::copy`].
#[target_feature(enable = "avx2,fma")]
#[allow(unsafe_code)] // A call to copy each piece would cost more than the copy.
unsafe fn copy(from: *const f32, stride: usize, to: *mut f32, [width, wide, depth]: [usize; 3]) {
    for term in 0..depth {
        let (from, to, room) = (from.wrapping_add(term * stride), to.wrapping_add(term * wide), (depth - term) * wide);
        // SAFETY: the caller vouches for `width` numbers on one side and for all that follows on the other, where what is written beyond
        // this term is written again.
        unsafe {
            store(to, wide, room, load(from, width));
            if wide > 8 {
                store(to.wrapping_add(8), wide - 8, room - 8, load(from.wrapping_add(8), width.saturating_sub(8)));
            }
        }
    }
}

/// [`Tiles::transpose`].
#[target_feature(enable = "avx2,fma")]
#[allow(unsafe_code)] // Eight registers transposed at once are several times faster than the copy the compiler finds.
unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize, room: usize, [lines, terms, lanes]: [usize; 3]) {
    let mut rows = [_mm256_setzero_ps(); 8];
    let mut next = rows;
    for (i, row) in rows.iter_mut().enumerate().take(lines) {
        // SAFETY: the caller vouches for the terms of this line.
        *row = unsafe { load(from.wrapping_add(i * stride), terms) };
    }
    // Pairs, then pairs of pairs, within halves of the registers; then the halves.
    for i in 0..4 {
        next[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        next[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    for i in 0..2 {
        let [a, b, c, d] = std::array::from_fn(|j| _mm256_castps_pd(next[4 * i + j]));
        rows[4 * i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
        rows[4 * i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
        rows[4 * i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
        rows[4 * i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
    }
    for i in 0..4 {
        next[i] = _mm256_permute2f128_ps::<0x20>(rows[i], rows[i + 4]);
        next[i + 4] = _mm256_permute2f128_ps::<0x31>(rows[i], rows[i + 4]);
    }
    for (term, row) in next.iter().enumerate().take(terms) {
        // SAFETY: the caller vouches for the room, in which terms are written in their order.
        unsafe { store(to.wrapping_add(term * to_stride), lanes, room - term * to_stride, *row) };
    }
}

/// [`Tiles::multiply`] for `R` rows.
#[target_feature(enable = "avx2,fma")]
#[allow(unsafe_code)] // The sums stay in registers, and bounds checks in this loop would cost more than the work.
unsafe fn multiply<const R: usize, const PACK: bool>(
    mut a: *const f32,
    (mut b, stride): (*const f32, usize),
    mut packed: *mut f32,
    tile: Tile,
) {
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    // On its way while the sums grow; places that do not exist are never touched.
    for i in 0..R {
        _mm_prefetch::<_MM_HINT_T0>(tile.out.wrapping_add(i * tile.stride).cast());
    }
    for _ in 0..tile.depth {
        // SAFETY: the caller vouches for the strips, which these pointers walk term by term.
        unsafe {
            let columns = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8))];
            if PACK {
                // Rows of a matrix lie on different pages, across which no processor reads ahead by itself.
                _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(AHEAD * stride).cast());
                _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(AHEAD * stride + 15).cast());
                _mm256_storeu_ps(packed, columns[0]);
                _mm256_storeu_ps(packed.add(8), columns[1]);
                packed = packed.add(Avx2::COLUMNS);
            }
            for (i, sum) in sums.iter_mut().enumerate() {
                let x = _mm256_broadcast_ss(&*a.add(i));
                sum[0] = _mm256_fmadd_ps(x, columns[0], sum[0]);
                sum[1] = _mm256_fmadd_ps(x, columns[1], sum[1]);
            }
            a = a.add(R);
            b = b.wrapping_add(if PACK { stride } else { Avx2::COLUMNS });
        }
    }
    for (i, sum) in sums.iter().enumerate() {
        for (half, &sum) in sum.iter().enumerate() {
            let (place, count) = (tile.out.wrapping_add(i * tile.stride + 8 * half), tile.columns.saturating_sub(8 * half));
            // SAFETY: the caller vouches for the columns of the tile, and no others are read or written.
            unsafe {
                let sum = if tile.add { _mm256_add_ps(sum, load(place, count)) } else { sum };
                store(place, count, count, sum);
            }
        }
    }
}
