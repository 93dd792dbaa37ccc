//! Refusing what cannot fit into memory before it is allocated: a process that runs out of memory cannot say so any more.

/// Something larger than the memory that is free.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: this takes {} of memory and {} are free\n  hint: {hint}", readable(*.bytes), readable(*.free))]
pub struct NoRoom {
    /// What was to be allocated.
    pub what: String,
    /// How much it takes, in bytes.
    pub bytes: u64,
    /// How much is free, in bytes.
    pub free: u64,
    /// How to make it smaller.
    pub hint: &'static str,
}

/// Checks that `what` with numbers of `bytes` each, as many as the product of `factors`, fits into free memory. Where the system does not
/// tell how much that is, everything fits.
///
/// # Errors
/// [`NoRoom`] with both sizes and the `hint`.
pub fn check(what: impl Into<String>, bytes: u64, factors: &[usize], hint: &'static str) -> Result<(), NoRoom> {
    let bytes = factors.iter().fold(bytes, |product, &factor| product.saturating_mul(factor as u64));
    match free() {
        Some(free) if bytes > free => Err(NoRoom { what: what.into(), bytes, free, hint }),
        _ => Ok(()),
    }
}

/// Memory that can be had without swapping and within the limit of this process, in bytes, where the system tells.
fn free() -> Option<u64> {
    let machine = bytes_of("/proc/meminfo", "MemAvailable:")?;
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max address space")?.split_whitespace().next()?.parse::<u64>().ok());
    let left = limit.zip(bytes_of("/proc/self/status", "VmSize:")).map(|(limit, taken)| limit.saturating_sub(taken));
    Some(left.map_or(machine, |left| left.min(machine)))
}

/// The size in `file` of the system behind `key`.
fn bytes_of(file: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let kilobytes = text.lines().find_map(|line| line.strip_prefix(key))?.trim().strip_suffix("kB")?;
    Some(kilobytes.trim().parse::<u64>().ok()?.saturating_mul(1024))
}

fn readable(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut number, mut unit) = (bytes as f64, 0);
    while number >= 1024.0 && unit + 1 < UNITS.len() {
        (number, unit) = (number / 1024.0, unit + 1);
    }
    format!("{number:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_larger_than_any_machine_is_refused_and_small_things_are_not() {
        assert_eq!(check("a picture", 4, &[1, 28, 28], "none"), Ok(()));
        let Err(refused) = check("data set `x`", 4, &[usize::MAX, usize::MAX], "fewer samples") else {
            // Not every system tells.
            assert_eq!(free(), None);
            return;
        };
        assert_eq!(refused.bytes, u64::MAX);
        let text = refused.to_string();
        assert!(text.contains("data set `x`") && text.contains("PiB") && text.contains("hint: fewer samples"), "{text}");
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!([0, 1023, 1024, 1 << 30, u64::MAX].map(readable), ["0.0 B", "1023.0 B", "1.0 KiB", "1.0 GiB", "16384.0 PiB"]);
    }
}
