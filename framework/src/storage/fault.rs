//! A door in front of every change of the disk, through which a test refuses it, tears it, or makes it the last thing a process does.

use std::cell::RefCell;
use std::io;
use std::path::Path;

/// A change of the disk that is about to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation<'a> {
    /// What is attempted, as a verb phrase: `create`, `write`, `flush to disk`, `rename to`, `remove` ...
    pub action: &'static str,
    /// The file or folder concerned.
    pub path: &'a Path,
}

/// What is to become of an operation.
#[derive(Debug)]
pub enum Verdict {
    /// It happens as usual.
    Pass,
    /// It fails before anything has changed.
    Refuse(io::Error),
    /// A write fails after the first half of its bytes, as on a disk that fills up; any other operation fails before anything has changed.
    Tear(io::Error),
}

type Watcher = Box<dyn FnMut(&Operation<'_>) -> Verdict>;

thread_local! {
    static WATCHER: RefCell<Option<Watcher>> = const { RefCell::new(None) };
}

/// Asks `watcher` before every operation of this thread, in place of any earlier watcher. Nothing but a test has a use for this.
pub fn watch(watcher: impl FnMut(&Operation<'_>) -> Verdict + 'static) {
    WATCHER.set(Some(Box::new(watcher)));
}

/// Lets everything on this thread pass again.
pub fn unwatch() {
    WATCHER.set(None);
}

/// What the watcher says; without one everything passes.
pub(super) fn ask(action: &'static str, path: &Path) -> Verdict {
    // Taken out while it is asked, so that a watcher that itself writes does not ask itself. A thread that is ending has none any more.
    let Ok(Some(mut watcher)) = WATCHER.try_with(|slot| slot.borrow_mut().take()) else {
        return Verdict::Pass;
    };
    let verdict = watcher(&Operation { action, path });
    WATCHER.set(Some(watcher));
    verdict
}

/// Failing operations by number, for the unit tests of the modules that write.
#[cfg(test)]
pub(crate) mod sweep {
    use std::cell::Cell;
    use std::io::{Error, ErrorKind};

    use super::{Verdict, unwatch, watch};

    thread_local! {
        static CALLS: Cell<u64> = const { Cell::new(0) };
    }

    /// How the chosen operation fails.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Failure {
        /// An error of the device, nothing done.
        Device,
        /// The disk is full after half of a write.
        FullHalfway,
        /// The disk is full from this operation on.
        FullFromNowOn,
    }

    pub(crate) const FAILURES: [Failure; 3] = [Failure::Device, Failure::FullHalfway, Failure::FullFromNowOn];

    /// Lets operation number `call` (from 0) of this thread fail; counting starts again.
    pub(crate) fn arm(call: u64, failure: Failure) {
        CALLS.set(0);
        watch(move |_| {
            let number = CALLS.get();
            CALLS.set(number + 1);
            match failure {
                // EIO, which has no name in the standard library.
                Failure::Device if number == call => Verdict::Refuse(Error::from_raw_os_error(5)),
                Failure::FullHalfway if number == call => Verdict::Tear(ErrorKind::StorageFull.into()),
                Failure::FullFromNowOn if number >= call => Verdict::Tear(ErrorKind::StorageFull.into()),
                _ => Verdict::Pass,
            }
        });
    }

    /// Lets everything pass again and returns how many operations were counted.
    pub(crate) fn disarm() -> u64 {
        unwatch();
        CALLS.get()
    }

    /// Number of operations `work` takes when none fails.
    pub(crate) fn count(work: impl FnOnce()) -> u64 {
        arm(u64::MAX, Failure::Device);
        work();
        disarm()
    }
}
