//! What runs in processes of their own ask of the operating system: a limit on its memory, a signal when its parent dies, locks that end with their holder.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ibhost_framework::storage::inside;

use crate::error::SweepError;

/// A look at a lock holds it for an instant; that must not be taken for another process.
const ATTEMPTS: u32 = 25;
const PAUSE: Duration = Duration::from_millis(20);

/// What a process needs at least beside what it has: stacks of threads, tables.
const LEAST: u64 = 64 << 20;

/// Limits the address space of this process to `bytes`; an allocation beyond it fails.
///
/// # Errors
/// When the system refuses, or the process has nearly as much already.
#[cfg(unix)]
pub fn limit_memory(bytes: u64) -> Result<(), SweepError> {
    use nix::sys::resource::{Resource, setrlimit};
    if let Some(taken) = address_space()
        && bytes < taken + LEAST
    {
        return Err(SweepError::Request(format!(
            "a limit of {bytes} bytes on the address space is too small: the program has taken {taken} before it trains\n  \
             hint: allow at least {}MiB",
            (taken + LEAST).div_ceil(1 << 20)
        )));
    }
    setrlimit(Resource::RLIMIT_AS, bytes, bytes).map_err(|e| SweepError::system(format!("limit the memory to {bytes} bytes"), e.into()))
}

/// Bytes of address space that this process has taken or reserved, where the system tells.
#[cfg(unix)]
fn address_space() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// This system has no such limit.
///
/// # Errors
/// Always.
#[cfg(not(unix))]
pub fn limit_memory(_bytes: u64) -> Result<(), SweepError> {
    Err(SweepError::Request("this system cannot limit the memory of a process\n  hint: leave --memory out".to_owned()))
}

/// Lets this process get a termination signal when its parent, process `parent`, dies. Returns whether the parent is still there.
#[cfg(target_os = "linux")]
pub fn end_with(parent: u32) -> bool {
    if let Err(error) = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM) {
        tracing::warn!("this run goes on when the process that started it dies: {error}");
    }
    // A parent that died before the call sends nothing any more.
    nix::unistd::getppid().as_raw() as u32 == parent
}

/// This system has no such signal.
#[cfg(not(target_os = "linux"))]
pub fn end_with(_parent: u32) -> bool {
    true
}

/// A command that starts the very program of this process, also when another file lies at its path by now.
///
/// # Errors
/// When the process does not know its own path.
pub fn this_program() -> std::io::Result<std::process::Command> {
    let own = Path::new("/proc/self/exe");
    if !own.exists() {
        return Ok(std::process::Command::new(std::env::current_exe()?));
    }
    #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix names a program otherwise than it starts it"))]
    let mut command = std::process::Command::new(own);
    #[cfg(unix)]
    if let Some(name) = std::env::args_os().next() {
        std::os::unix::process::CommandExt::arg0(&mut command, name);
    }
    Ok(command)
}

/// Starts `command` in a process group of its own, so that Ctrl-C reaches it through this process alone, once.
///
/// # Errors
/// Those of the system.
pub fn spawn(command: &mut std::process::Command) -> std::io::Result<std::process::Child> {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    command.spawn()
}

/// Asks `child` to save and end.
pub fn terminate(child: &mut std::process::Child) {
    #[cfg(unix)]
    if let Ok(pid) = i32::try_from(child.id()) {
        // A child that has ended meanwhile is what was wanted.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
    }
    #[cfg(not(unix))]
    if let Err(error) = child.kill() {
        tracing::warn!("a run cannot be stopped: {error}");
    }
}

/// How a process ended, for people; `true` when a signal ended it that says nothing about the work itself.
pub fn describe(status: std::process::ExitStatus) -> (String, bool) {
    #[cfg(unix)]
    if let Some(number) = std::os::unix::process::ExitStatusExt::signal(&status) {
        use nix::sys::signal::Signal::{self, SIGALRM, SIGHUP, SIGINT, SIGKILL, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU};
        let signal = Signal::try_from(number);
        let name = signal.map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned());
        let outside = matches!(signal, Ok(SIGALRM | SIGHUP | SIGINT | SIGKILL | SIGTERM | SIGUSR1 | SIGUSR2 | SIGXCPU));
        let cause = if outside { "from outside, or the system was out of memory" } else { "a crash, or memory ran out" };
        return (format!("ended by {name}: {cause}"), outside);
    }
    (status.code().map_or_else(|| "ended without an exit code".to_owned(), |code| format!("exit code {code}")), false)
}

/// The lock of a folder, held as long as this value lives.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

fn lock_path(folder: &Path) -> PathBuf {
    folder.join(".lock")
}

impl FolderLock {
    /// Takes the lock of `folder` and writes down who holds it.
    ///
    /// # Errors
    /// [`SweepError::Locked`] with the holder.
    pub fn acquire(folder: &Path) -> Result<Self, SweepError> {
        let path = lock_path(folder);
        let failed = |source| SweepError::system(format!("lock `{}`", path.display()), source);
        let mut file = inside::open_shared(&path)?;
        for attempt in 1.. {
            match file.try_lock() {
                Ok(()) if attempt >= ATTEMPTS || inside::is_own(&file, &path) => break,
                // A snapshot by hard links has this file too: the sweep gets one of its own.
                Ok(()) => file = inside::open_in_place(&path)?,
                Err(TryLockError::WouldBlock) if attempt < ATTEMPTS => std::thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    let holder = match file.read_to_string(&mut holder) {
                        Ok(length) if length > 0 => holder.trim().to_owned(),
                        _ => "another process".to_owned(),
                    };
                    return Err(SweepError::Locked { path: folder.to_path_buf(), holder });
                }
                Err(TryLockError::Error(error)) => {
                    tracing::warn!("`{}` cannot be locked ({error}): do not run this sweep twice at a time", path.display());
                    break;
                }
            }
        }
        let note = format!("process {} on {}\n", std::process::id(), host_name());
        let written = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).and_then(|_| file.write_all(note.as_bytes()));
        written.map_err(failed)?;
        Ok(Self { _file: file })
    }

    /// Whether a live process holds the lock of `folder`.
    pub fn is_held(folder: &Path) -> bool {
        let Ok(file) = inside::open(&lock_path(folder)) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}

/// The machine's name, for people who look for a process.
pub fn host_name() -> String {
    let from_system = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = from_system.or_else(|| std::env::var("HOSTNAME").or_else(|_| std::env::var("COMPUTERNAME")).ok());
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown-host".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_and_refused_while_it_is_held_and_names_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!FolderLock::is_held(folder.path()));
        let lock = FolderLock::acquire(folder.path()).unwrap();
        assert!(FolderLock::is_held(folder.path()));
        let error = FolderLock::acquire(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {} on", std::process::id())), "{error}");
        drop(lock);
        assert!(!FolderLock::is_held(folder.path()));
        FolderLock::acquire(folder.path()).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_limit_below_what_the_process_has_is_refused_with_one_that_works() {
        let error = limit_memory(1 << 20).unwrap_err().to_string();
        assert!(error.contains("a limit of 1048576 bytes") && error.contains("at least") && error.contains("MiB"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_kill_is_told_from_a_crash_and_an_exit() {
        let end = |script: &str| describe(std::process::Command::new("sh").args(["-c", script]).status().unwrap());
        assert_eq!(end("exit 3"), ("exit code 3".to_owned(), false));
        let (text, outside) = end("kill -KILL $$");
        assert!(text.contains("SIGKILL") && outside, "{text}");
        let (text, outside) = end("kill -ABRT $$");
        assert!(text.contains("SIGABRT") && !outside, "{text}");
    }
}
