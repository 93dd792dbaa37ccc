//! This program as runs record it.

use etcetera::BaseStrategy;
use ibhost_framework::identity::{self, Program};

/// Version of ibhost.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// This program, with the commit that its build script found.
pub fn this() -> Program {
    Program::this(VERSION, option_env!("IBHOST_COMMIT"))
}

/// Version and commit, for people.
pub fn version() -> &'static str {
    env!("IBHOST_VERSION")
}

/// Begins with what the record of a run needs, so that the run does not wait for it. Where there is no cache folder, none is made.
pub fn prepare() {
    let cache = etcetera::choose_base_strategy().ok().map(|base| base.cache_dir()).filter(|folder| folder.is_dir());
    identity::prepare(cache.map(|folder| folder.join("ibhost/executables")));
}
