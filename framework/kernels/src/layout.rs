//! How matrices lie in memory, and where a product of them goes.

/// How a matrix lies in its slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Rows one after the other.
    Rows,
    /// The transpose lies there row by row.
    Transposed,
}

/// Multiplications below which waking other threads costs more than it saves.
pub(crate) const PARALLEL_FROM: usize = 1 << 22;

/// Where a product goes, shared by the threads that write disjoint parts of it.
#[derive(Clone, Copy)]
pub(crate) struct Destination<T>(pub(crate) *mut T);

#[allow(unsafe_code)]
// SAFETY: the pointer is only used for disjoint parts, while the memory behind it is borrowed for writing by the caller.
unsafe impl<T: Send> Send for Destination<T> {}
#[allow(unsafe_code)]
// SAFETY: as above.
unsafe impl<T: Send> Sync for Destination<T> {}

impl<T> Destination<T> {
    /// All of `numbers`.
    #[cfg(test)]
    pub(crate) fn of(numbers: &mut [T]) -> Self {
        Self(numbers.as_mut_ptr())
    }

    /// The place of number `index`.
    pub(crate) fn at(self, index: usize) -> *mut T {
        self.0.wrapping_add(index)
    }
}
