//! What a product of tiles asks of an instruction set.

/// Terms that are on their way from memory while others are packed.
pub(super) const AHEAD: usize = 16;

/// Packing and multiplication with the vectors of one instruction set.
///
/// # Safety
/// All functions may only be called on a machine that has it.
#[allow(unsafe_code)] // Loads, stores and products of whole registers.
pub(super) trait Tiles {
    /// Columns of a tile: two vectors.
    const COLUMNS: usize;
    /// Most rows of a tile: two vectors of sums each, which leaves registers for the factors.
    const ROWS: usize;
    /// Lanes of a vector: lines and terms that are turned in registers at a time.
    const LANES: usize = Self::COLUMNS / 2;
    /// Most packed numbers of a block: it stays in the second-level cache while strips of the other factor pass by.
    const BLOCK: usize;

    /// Copies `width` numbers of each of `depth` terms, `stride` apart, to places `wide` apart, with zeros up to `wide`, which is at most
    /// [`Tiles::COLUMNS`].
    ///
    /// # Safety
    /// `from` must be readable for `width` numbers of each term, `to` writable for `depth wide` numbers.
    unsafe fn copy(from: *const f32, stride: usize, to: *mut f32, sizes: [usize; 3]);

    /// Transposes `lines` rows of `terms` numbers, `stride` apart in `from`, to `terms` rows of `lanes` numbers, `to_stride` apart, with zeros
    /// beyond `lines`; all three are at most [`Tiles::LANES`], and `lanes` is that or `to_stride`. Overwrites at most `room` numbers from `to`
    /// on, also in places for later terms.
    ///
    /// # Safety
    /// The numbers must be readable on one side; `to` must be writable for `room` numbers, and those for all terms and lanes among them.
    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize, room: usize, sizes: [usize; 3]);

    /// Sums `tile` from a packed strip of the left factor, `tile.rows` numbers a term in `a`, and [`Tiles::COLUMNS`] numbers a term of the right
    /// one. If `PACK`, those lie in rows `columns.1` apart and are left at `packed`, which takes little longer than the multiplications alone;
    /// otherwise they are packed already.
    ///
    /// # Safety
    /// The rows, 1 to [`Tiles::ROWS`], of the tile must be valid for reading and writing, and nobody else may use them meanwhile; the strips
    /// must hold the numbers of `tile.depth` terms, and if `PACK` as many must be writable at `packed`.
    unsafe fn multiply<const PACK: bool>(a: *const f32, columns: (*const f32, usize), packed: *mut f32, tile: Tile);
}

/// Where a tile goes and what it sums.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) out: *mut f32,
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) depth: usize,
    /// Whether the sums join those that are there.
    pub(super) add: bool,
}
