//! Independent pieces of work side by side in one process, each on one core.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::error::EngineError;

/// Runs `work(i)` for every i below `count`, at most `at_once` at the same time, and returns the results in order.
///
/// Each runs on one thread that it keeps to itself, its parallel loops too: for small networks, whose steps are shorter than the time
/// it takes to wake a second thread, this is the fastest way to train many. Results do not depend on the number of threads, so every run
/// ends with the same bytes as in a process of its own.
///
/// # Errors
/// [`EngineError::Request`] when the system gives no more threads; nothing was started then.
///
/// # Panics
/// When `work` panics, after the others have ended.
pub fn side_by_side<R: Send>(count: usize, at_once: usize, work: impl Fn(usize) -> R + Sync) -> Result<Vec<R>, EngineError> {
    let at_once = at_once.min(count);
    let pool = || rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pools: Vec<rayon::ThreadPool> = (0..at_once)
        .map(|_| pool())
        .collect::<Result<_, _>>()
        .map_err(|e| EngineError::Request(format!("cannot start {at_once} threads: {e}\n  hint: ask for fewer with `--threads`")))?;
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(count));
    let take_turns = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return;
            }
            let result = work(i);
            results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((i, result));
        }
    };
    std::thread::scope(|scope| {
        for pool in &pools {
            scope.spawn(|| pool.install(take_turns));
        }
    });
    let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_by_key(|(i, _)| *i);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once_on_one_thread_of_its_own() {
        for (count, at_once) in [(0, 3), (1, 4), (7, 3), (3, 1)] {
            let running = AtomicUsize::new(0);
            let done = side_by_side(count, at_once, |i| {
                assert!(running.fetch_add(1, Ordering::SeqCst) < at_once);
                assert_eq!(rayon::current_num_threads(), 1);
                std::thread::sleep(std::time::Duration::from_millis(5));
                running.fetch_sub(1, Ordering::SeqCst);
                10 * i
            });
            assert_eq!(done.unwrap(), (0..count).map(|i| 10 * i).collect::<Vec<_>>());
        }
    }

    #[test]
    fn pieces_really_run_at_the_same_time() {
        let all_there = std::sync::Barrier::new(3);
        // With fewer threads than three this would wait for ever.
        let waited = side_by_side(3, 3, |_| all_there.wait().is_leader()).unwrap();
        assert_eq!(waited.iter().filter(|leader| **leader).count(), 1);
    }
}
