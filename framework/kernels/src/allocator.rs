//! Telling the system's allocator to keep freed memory.

/// Memory asked to lie on huge pages.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const RESERVED: usize = 1 << 30;

/// Makes freed memory stay with the process, so that the gradients of one step reuse the pages of the step before, and puts the first
/// gigabyte of it on huge pages where the system offers them.
///
/// By default glibc returns blocks of a few megabytes to the system at once, and every step pays for fresh, zeroed pages: 3,300 page faults
/// and a quarter of the processor time for a network of 2.4 million weights. On pages of 4 KB the passes of an optimiser over its moments wait
/// for address translation, another tenth. Call it once at the start of a program; other C libraries are left alone.
#[allow(unsafe_code)] // The only doors to the allocator's settings and to the pages are C functions.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` only changes limits that later allocations read, and these are values its manual allows. The block is not touched,
    // so it costs addresses but no memory; `madvise` gets its pages only, and a system without huge pages answers with an error that
    // changes nothing. Freed, the block is the heap that later allocations are taken from.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        let block = libc::malloc(RESERVED);
        if !block.is_null() {
            let skip = block.align_offset(PAGE);
            libc::madvise(block.wrapping_byte_add(skip), (RESERVED - skip) / PAGE * PAGE, libc::MADV_HUGEPAGE);
            libc::free(block);
        }
    }
}

/// Bytes of a huge page.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const PAGE: usize = 1 << 21;
