//! Signals that ask for an end: work that can save itself does, and only a person who insists ends it at once.
//!
//! Every signal whose default is a sudden end is such a request: launchers use several of them (`timeout`, schedulers, a terminal that
//! closes, a limit on processor time), often one after the other, and what any of them means is that the time is over. Left alone are SIGKILL,
//! which nobody can catch, SIGQUIT (Ctrl-\), the way out of a process that hangs, and those of crashes. What was ignored when the process began,
//! as under `nohup` or in the background of a script, stays ignored, here and in the processes started from here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::exit::INTERRUPTED;
use crate::messages::say;

/// Time between two Ctrl-C after which the second one insists: programs send several signals within moments and mean one request.
const SECOND_THOUGHT: Duration = Duration::from_secs(1);

/// Calls `asked` at the first request to end, with how to hurry for the message, and `insisted` when Ctrl-C is pressed again a second or
/// more after it was first pressed.
pub fn listen(asked: impl FnOnce(&str) + Send + 'static, insisted: impl FnMut() + Send + 'static) {
    let mut requests = Requests { asked: Some(asked), insisted, first_interrupt: None };
    if let Err(error) = watch(move |is_interrupt| requests.take(is_interrupt, Instant::now())) {
        tracing::warn!("Ctrl-C and other signals will stop this at once, without saving: {error}");
    }
}

/// A flag that is set at the first request to end. `what` is done then, which is said; who insists ends the process and is told what is lost.
pub fn stop_flag(what: &'static str, lost: impl Fn() -> String + Send + 'static) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let asked = move |hurry: &str| {
        flag.store(true, Ordering::Relaxed);
        say!("{what}{hurry}");
    };
    let insisted = move || {
        say!("stopped at once: {}", lost());
        std::process::exit(i32::from(INTERRUPTED));
    };
    listen(asked, insisted);
    stop
}

/// What signals ask of work in other processes, which are called `whom`: 1 that they save and end, 2 that they are killed.
pub fn requests(whom: &'static str) -> Arc<AtomicUsize> {
    let requests = Arc::new(AtomicUsize::new(0));
    let [asked, insisted] = [Arc::clone(&requests), Arc::clone(&requests)];
    let ask = move |hurry: &str| {
        asked.store(1, Ordering::Relaxed);
        say!("all {whom} finish their step and save{hurry}");
    };
    let insist = move || {
        if insisted.swap(2, Ordering::Relaxed) < 2 {
            say!("killing the {whom}: each loses what it computed since its last checkpoint");
        }
    };
    listen(ask, insist);
    requests
}

struct Requests<A, I> {
    asked: Option<A>,
    insisted: I,
    first_interrupt: Option<Instant>,
}

impl<A: FnOnce(&str), I: FnMut()> Requests<A, I> {
    fn take(&mut self, is_interrupt: bool, now: Instant) {
        if let Some(asked) = self.asked.take() {
            asked(if is_interrupt { "; press Ctrl-C again to stop at once" } else { "" });
        }
        if is_interrupt && now.duration_since(*self.first_interrupt.get_or_insert(now)) >= SECOND_THOUGHT {
            (self.insisted)();
        }
    }
}

/// Calls `take` on a thread of its own for every signal that asks for an end, and says whether it was Ctrl-C.
#[cfg(unix)]
fn watch(mut take: impl FnMut(bool) + Send + 'static) -> io::Result<()> {
    let wanted: Vec<libc::c_int> = asking().into_iter().filter(|signal| ends_the_process(*signal)).collect();
    let mut signals = signal_hook::iterator::Signals::new(wanted)?;
    let thread = std::thread::Builder::new().name("signals".to_owned());
    let listen = move || {
        for signal in &mut signals {
            take(signal == libc::SIGINT);
        }
    };
    thread.spawn(listen).map(|_| ())
}

/// This system has no signals but Ctrl-C.
#[cfg(not(unix))]
fn watch(mut take: impl FnMut(bool) + Send + 'static) -> io::Result<()> {
    ctrlc::set_handler(move || take(true)).map_err(io::Error::other)
}

/// Signals that end a process by default, nothing being wrong with it.
#[cfg(unix)]
fn asking() -> Vec<libc::c_int> {
    use libc::{SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU};
    let everywhere = [SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGXCPU];
    #[cfg(target_os = "linux")]
    let more = [SIGIO, libc::SIGPWR, libc::SIGSTKFLT].into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX());
    // Elsewhere SIGIO is ignored unless it is asked for.
    #[cfg(not(target_os = "linux"))]
    let more = [SIGIO].into_iter();
    everywhere.into_iter().chain(more).collect()
}

/// Lets a write beyond the limit on the size of files fail as any other does, instead of ending the process.
#[cfg(unix)]
#[allow(unsafe_code)] // The system is told through a C function alone.
pub fn let_writes_fail() {
    // SAFETY: to ignore a signal runs no code of ours.
    let _ = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Whether `signal` would end this process. One that is ignored, or that another part of the process handles, is none of our business.
#[cfg(unix)]
#[allow(unsafe_code)] // The system tells through a C function alone.
fn ends_the_process(signal: libc::c_int) -> bool {
    let mut found = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only fills `found`, which is of the type it expects, and zeroes are a value of that type.
    let found = unsafe { (libc::sigaction(signal, std::ptr::null(), found.as_mut_ptr()) == 0).then(|| found.assume_init()) };
    found.is_some_and(|found| found.sa_sigaction == libc::SIG_DFL)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// How often the work was asked to end and how often somebody insisted, after signals at these milliseconds; `true` is Ctrl-C.
    fn after(signals: &[(bool, u64)]) -> (u32, u32) {
        let (asked, insisted) = (Cell::new(0), Cell::new(0));
        let count = |counter: &Cell<u32>| counter.set(counter.get() + 1);
        let mut requests = Requests { asked: Some(|_: &str| count(&asked)), insisted: || count(&insisted), first_interrupt: None };
        let begin = Instant::now();
        for (is_interrupt, milliseconds) in signals {
            requests.take(*is_interrupt, begin + Duration::from_millis(*milliseconds));
        }
        (asked.get(), insisted.get())
    }

    #[test]
    fn only_a_second_ctrl_c_a_second_later_insists() {
        assert_eq!(after(&[(true, 0)]), (1, 0));
        assert_eq!(after(&[(false, 0), (false, 3)]), (1, 0));
        assert_eq!(after(&[(false, 0), (false, 60_000), (false, 120_000)]), (1, 0));
        assert_eq!(after(&[(true, 0), (true, 3), (true, 999)]), (1, 0));
        assert_eq!(after(&[(false, 0), (true, 5_000)]), (1, 0));
        assert_eq!(after(&[(true, 0), (false, 5_000)]), (1, 0));
        assert_eq!(after(&[(true, 0), (true, 3), (true, 1_500)]), (1, 1));
        assert_eq!(after(&[(false, 0), (true, 1_000), (true, 2_000)]), (1, 1));
    }

    #[cfg(unix)]
    #[test]
    fn signals_of_crashes_and_those_that_end_nothing_are_no_requests() {
        let asking = asking();
        for other in [libc::SIGKILL, libc::SIGQUIT, libc::SIGSEGV, libc::SIGABRT, libc::SIGCHLD, libc::SIGWINCH, libc::SIGPIPE] {
            assert!(!asking.contains(&other), "{other}");
        }
        assert!(ends_the_process(libc::SIGUSR2) && !ends_the_process(libc::SIGPIPE), "Rust ignores SIGPIPE");
    }
}
