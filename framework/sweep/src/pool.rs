//! Child processes side by side: which of them have ended, and how all of them are stopped.

use std::io;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use crate::process::terminate;

/// Shortest and longest wait between two looks at the processes; waits grow while nothing happens.
const WAIT: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(40)];

/// Processes that run, each with what belongs to it. Those that still run when the pool is dropped are asked to save and end.
#[derive(Debug)]
pub struct Pool<T> {
    running: Vec<(T, Child)>,
    stopped_at: usize,
    wait: Duration,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { running: Vec::new(), stopped_at: 0, wait: WAIT[0] }
    }
}

impl<T> Pool<T> {
    /// Takes in a process.
    pub fn push(&mut self, item: T, process: Child) {
        self.running.push((item, process));
        self.wait = WAIT[0];
    }

    /// What belongs to the processes that run.
    pub fn running(&self) -> impl ExactSizeIterator<Item = &T> {
        self.running.iter().map(|(item, _)| item)
    }

    /// Whether they were asked to stop.
    pub fn is_stopped(&self) -> bool {
        self.stopped_at > 0
    }

    /// Those that have ended since the last look.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ended(&mut self) -> io::Result<Vec<(T, ExitStatus)>> {
        let mut ended = Vec::new();
        let mut place = 0;
        while place < self.running.len() {
            match self.running[place].1.try_wait()? {
                None => place += 1,
                Some(status) => ended.push((self.running.swap_remove(place).0, status)),
            }
        }
        if !ended.is_empty() {
            self.wait = WAIT[0];
        }
        Ok(ended)
    }

    /// Does what so many `requests` to stop ask for: after one, processes save and end; after more, they are killed.
    pub fn obey(&mut self, requests: usize) {
        if requests <= self.stopped_at {
            return;
        }
        self.stopped_at = requests;
        for (_, process) in &mut self.running {
            if requests == 1 {
                terminate(process);
            } else if let Err(error) = process.kill() {
                tracing::warn!("process {} cannot be killed: {error}", process.id());
            }
        }
    }

    /// Sleeps until it is time for another look.
    pub fn pause(&mut self) {
        std::thread::sleep(self.wait);
        self.wait = (self.wait * 2).min(WAIT[1]);
    }
}

impl<T> Drop for Pool<T> {
    fn drop(&mut self) {
        for (_, process) in &mut self.running {
            terminate(process);
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::process::spawn;
    use std::process::Command;

    fn started(pool: &mut Pool<u32>, item: u32, script: &str) {
        pool.push(item, spawn(Command::new("sh").args(["-c", script])).unwrap());
    }

    fn all(pool: &mut Pool<u32>) -> Vec<(u32, ExitStatus)> {
        let mut ended = Vec::new();
        while pool.running().len() > 0 {
            ended.extend(pool.ended().unwrap());
            pool.pause();
        }
        ended.sort_by_key(|(item, _)| *item);
        ended
    }

    #[test]
    fn each_ends_once_with_its_own_status() {
        let mut pool = Pool::default();
        (0..3).for_each(|code| started(&mut pool, code, &format!("exit {code}")));
        assert_eq!(
            all(&mut pool).iter().map(|(item, status)| (*item, status.code())).collect::<Vec<_>>(),
            [(0, Some(0)), (1, Some(1)), (2, Some(2))]
        );
        assert!(pool.ended().unwrap().is_empty() && !pool.is_stopped());
    }

    #[test]
    fn the_first_request_asks_and_the_second_kills() {
        use std::os::unix::process::ExitStatusExt;
        let mut pool = Pool::default();
        started(&mut pool, 0, "sleep 60");
        pool.obey(1);
        assert!(pool.is_stopped());
        assert_eq!(all(&mut pool)[0].1.signal(), Some(15));
        started(&mut pool, 1, "trap '' TERM; sleep 60 & wait; wait");
        pool.obey(2);
        assert_eq!(all(&mut pool)[0].1.signal(), Some(9));
    }
}
