//! The training engine: runs any objective's plan, evaluates, logs, checkpoints and resumes.

mod accumulate;
mod error;
mod evaluate;
mod initial;
mod logs;
mod observer;
mod session;
mod snapshot;
mod stepper;
mod train;
mod trainer;
mod watch;

pub use accumulate::Accumulator;
pub use error::EngineError;
pub use evaluate::evaluate;
pub use initial::with_initial_weights;
pub use observer::{EpochReport, Observer, Quiet, StepReport};
pub use session::{BATCH, Session, State};
pub use snapshot::{metrics_mark, restore_last, restore_weights_at, restore_weights_of};
pub use stepper::{BACKWARD, FORWARD, Stepper, UPDATE};
pub use train::Outcome;
pub(crate) use trainer::unrecorded;
pub use trainer::{BURN, Start, Trainer};
pub use watch::Watch;
