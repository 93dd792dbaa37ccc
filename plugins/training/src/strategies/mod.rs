//! Training strategies: which parameters move when.

pub mod alternate;
pub mod by_epoch;
pub mod oneshot;

use ibhost_framework::plan::{Cadence, MAIN, OptimiserSlot, ParameterGroup, Phase, Plan};

pub use alternate::Alternate;
pub use by_epoch::ByEpoch;
pub use oneshot::Oneshot;

/// One phase in which the first group and all others have an optimiser each, and move when `encoder` and `decoder` say.
fn encoder_and_decoder(groups: &[ParameterGroup], [encoder, decoder]: [Cadence; 2], decoder_step_factor: u64) -> Plan {
    let (first, others) = groups.split_at(groups.len().min(1));
    let optimisers = vec![
        OptimiserSlot { name: "encoder".to_owned(), groups: first.to_vec(), step_factor: 1 },
        OptimiserSlot { name: "decoder".to_owned(), groups: others.to_vec(), step_factor: decoder_step_factor },
    ];
    Plan { optimisers, phases: vec![Phase::new(MAIN, vec![(0, encoder), (1, decoder)])] }
}
