//! The training engine: runs any objective's plan, evaluates, logs, checkpoints and resumes.

mod accumulate;
mod error;
mod evaluate;
mod initial;
mod job;
mod observer;
mod session;
mod snapshot;
mod step;
mod train;
mod watch;

pub use accumulate::Accumulator;
pub use error::EngineError;
pub use evaluate::evaluate;
pub use initial::with_initial_weights;
pub(crate) use job::unrecorded;
pub use job::{BURN, Job, Start};
pub use observer::{EpochReport, Observer, Quiet, StepReport};
pub use session::{BATCH, Session, State};
pub use snapshot::{metrics_mark, restore_last, restore_weights_at, restore_weights_of};
pub use step::{BACKWARD, FORWARD, Orders, StepState, UPDATE, training_step};
pub use train::{Outcome, Record, Standing, train};
pub use watch::Watch;
