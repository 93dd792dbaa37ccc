//! Faults that a child process inflicts on itself, ordered through its environment: the other half of the kill and disk-fault tests.
//!
//! `IBHOST_FAULT=<what>@<n>[:<part>]` strikes at the `n`-th change of the disk (from 1) whose path contains `part`; `what` is
//! `kill` (SIGKILL before it), `kill-after` (half of a write and then SIGKILL; before any other change), `device` (an input/output
//! error), `full` (half of a write, then a full disk), `full-from` (the same, and nothing can be written from there on) or `panic`.
//! `IBHOST_FAULT_TRACE=<file>` lists every change in that file.

use std::fs::OpenOptions;
use std::io::{Error, ErrorKind, Write};
use std::process::Command;
use std::str::FromStr;

use ibhost_framework::storage::fault::{Operation, Verdict, watch};

/// Name of the variable that holds the plan.
pub const PLAN: &str = "IBHOST_FAULT";
/// Name of the variable that holds the path of the trace.
pub const TRACE: &str = "IBHOST_FAULT_TRACE";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Kill,
    KillAfter,
    Device,
    Full,
    FullFrom,
    Panic,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    what: What,
    number: u64,
    part: String,
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no fault: expected e.g. kill@12 or full@3:checkpoints");
        let (what, place) = text.split_once('@').ok_or_else(wrong)?;
        let (number, part) = place.split_once(':').unwrap_or((place, ""));
        let what = match what {
            "kill" => What::Kill,
            "kill-after" => What::KillAfter,
            "device" => What::Device,
            "full" => What::Full,
            "full-from" => What::FullFrom,
            "panic" => What::Panic,
            _ => return Err(wrong()),
        };
        Ok(Self { what, number: number.parse().map_err(|_| wrong())?, part: part.to_owned() })
    }
}

impl Plan {
    /// What becomes of the `count`-th matching operation, which attempts `action`.
    fn verdict(&self, count: u64, action: &str) -> Verdict {
        let now = count == self.number;
        match self.what {
            What::Kill if now => die(),
            What::KillAfter if now && action != "write" => die(),
            What::KillAfter if count > self.number => die(),
            // EIO, which has no name in the standard library.
            What::Device if now => Verdict::Refuse(Error::from_raw_os_error(5)),
            What::KillAfter | What::Full if now => Verdict::Tear(ErrorKind::StorageFull.into()),
            What::FullFrom if count >= self.number => Verdict::Tear(ErrorKind::StorageFull.into()),
            What::Panic if now => panic!("ordered by the test at disk operation {count}"),
            _ => Verdict::Pass,
        }
    }
}

/// Ends this process as the kernel would: nothing is cleaned up, nothing is flushed.
fn die() -> ! {
    let killed = Command::new("sh").args(["-c", &format!("kill -KILL {}", std::process::id())]).status();
    panic!("this process should be dead: {killed:?}");
}

/// Watches the disk operations of this thread as the environment orders; without an order nothing changes.
///
/// # Panics
/// When the order cannot be understood.
pub fn install_from_environment() {
    let plan = std::env::var(PLAN).ok().map(|text| text.parse::<Plan>().unwrap_or_else(|e| panic!("{e}")));
    let trace =
        std::env::var_os(TRACE).map(|path| OpenOptions::new().create(true).append(true).open(path).expect("the trace can be written"));
    if plan.is_none() && trace.is_none() {
        return;
    }
    let mut count = 0;
    watch(move |operation: &Operation<'_>| {
        if let Some(mut file) = trace.as_ref() {
            writeln!(file, "{}\t{}", operation.action, operation.path.display()).expect("the trace can be written");
        }
        let Some(plan) = &plan else { return Verdict::Pass };
        let matches = operation.path.to_string_lossy().contains(&plan.part);
        // Once a write is torn, whatever comes next is too late, wherever it happens.
        if matches || (plan.what == What::KillAfter && count >= plan.number) {
            count += 1;
        }
        if matches || count > plan.number { plan.verdict(count, operation.action) } else { Verdict::Pass }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_understood_or_refused() {
        let plan: Plan = "full-from@7:checkpoints/".parse().unwrap();
        assert_eq!(plan, Plan { what: What::FullFrom, number: 7, part: "checkpoints/".into() });
        assert!(matches!(plan.verdict(6, "write"), Verdict::Pass) && matches!(plan.verdict(8, "create"), Verdict::Tear(_)));
        assert!(matches!("device@2".parse::<Plan>().unwrap().verdict(3, "write"), Verdict::Pass));
        for wrong in ["", "kill", "kill@", "kill@x", "burn@3"] {
            assert!(wrong.parse::<Plan>().is_err(), "{wrong}");
        }
    }
}
