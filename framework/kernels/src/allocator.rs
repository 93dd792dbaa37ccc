//! The allocator of a program that trains, and the setting that lets it keep freed memory.

use libmimalloc_sys::{mi_option_set, mi_option_t};
/// What a host names as its `#[global_allocator]`.
pub use mimalloc::MiMalloc as Allocator;

/// Milliseconds until freed pages go back to the system, by their place in the library's list, of which the binding names only a part.
const PURGE_DELAY: mi_option_t = 15;

/// Makes freed memory stay with the process, so that the gradients of one step reuse the pages of the step before.
///
/// By default pages go back after a fraction of a second, and a step that needs them again pays for zeroed ones: eight times the page faults for
/// a convolution network. It counts for memory from [`Allocator`], which puts it on huge pages where the system offers them, and, built with
/// LibTorch, for glibc's too. Call it once at the start of a program.
#[allow(unsafe_code)] // The only doors to an allocator's settings are C functions.
pub fn keep_freed_memory() {
    // SAFETY: sets one number that the allocator reads before it returns pages; it may be called at any time, from any thread.
    unsafe { mi_option_set(PURGE_DELAY, -1) };
    #[cfg(all(feature = "tch", target_os = "linux", target_env = "gnu"))]
    keep_memory_of_glibc();
}

/// The same for glibc's allocator, which LibTorch takes its memory from, with the first gigabyte on huge pages where the system offers them.
#[cfg(all(feature = "tch", target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)] // As above.
fn keep_memory_of_glibc() {
    const RESERVED: usize = 1 << 30;
    const PAGE: usize = 1 << 21;
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

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::alloc::{GlobalAlloc, Layout};
    use std::time::Duration;

    /// Pages that the system had to provide so far.
    fn page_faults() -> u64 {
        let status = std::fs::read_to_string("/proc/self/stat").unwrap();
        let after_the_name = status.rsplit_once(')').unwrap().1;
        after_the_name.split_whitespace().nth(7).unwrap().parse().unwrap()
    }

    #[test]
    #[allow(unsafe_code)] // An allocator's functions are unsafe.
    fn freed_pages_are_there_again_later() {
        keep_freed_memory();
        let layout = Layout::from_size_align(48 << 20, 64).unwrap();
        let use_once = || {
            // SAFETY: the block is as long as what is written, and freed with the layout it came with.
            unsafe {
                let block = Allocator.alloc(layout);
                assert!(!block.is_null());
                block.write_bytes(1, layout.size());
                std::hint::black_box(block);
                Allocator.dealloc(block, layout);
            }
        };
        // Other tests fault meanwhile, so one quiet round of a few counts; each waits long enough for pages to be returned.
        let faults = (0..5).map(|_| {
            use_once();
            std::thread::sleep(Duration::from_millis(300));
            let before = page_faults();
            use_once();
            page_faults() - before
        });
        let fewest = faults.min().unwrap();
        assert!(fewest < 10, "{fewest} page faults in 48 MiB of freed memory");
    }
}
