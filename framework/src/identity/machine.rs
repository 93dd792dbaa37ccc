//! The machine a process computed on, as far as numbers can depend on it.

use serde::{Deserialize, Serialize};

/// Where a process computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Name of the host.
    pub host: String,
    /// Instruction set of the kernels: `avx512`, `avx2`, or the architecture's own name.
    pub instructions: String,
    /// Threads of the pool.
    pub threads: u64,
    /// Device asked for.
    pub device: String,
}

impl Machine {
    /// This machine, computing on `device`.
    pub fn this(device: &str) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
        Self {
            host: host.map_or_else(|| "unknown".to_owned(), |name| name.trim().to_owned()),
            instructions: ibhost_kernels::instruction_set().to_owned(),
            threads: rayon::current_num_threads() as u64,
            device: device.to_owned(),
        }
    }

    /// What differs from `before` and may change results. On flex the number of threads changes none.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        if self.instructions != before.instructions {
            let (was, is) = (&before.instructions, &self.instructions);
            changes.push(format!("the kernels used {was} instructions and now use {is}, which round differently"));
        }
        if self.device != before.device {
            changes.push(format!("the device was `{}` and is `{}`", before.device, self.device));
        }
        changes
    }
}
