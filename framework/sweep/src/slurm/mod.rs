//! Trials as tasks of Slurm job arrays. The shared file system and Slurm are all the coordination there is: no daemon, no database.

mod options;
mod queue;
mod script;
mod submit;

pub use options::{Commands, Options};
pub use queue::{Queue, Task};
pub use submit::{Submission, cancel, submit};
