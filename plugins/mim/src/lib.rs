//! The mutual information machine (Livne, Swersky and Fleet 2019): its objective beside the variational auto-encoder's on the same
//! networks, its statistics and plots, and the hierarchical image models it is compared on.

pub mod animation;
pub mod contours;
pub mod hierarchical;
pub mod mixture_net;
pub mod names;
pub mod objective;
pub mod packing;
pub mod portrait;
pub mod presets;
pub mod prior;
pub mod progress;
pub mod statistics;
pub mod terms;

pub use hierarchical::{HierarchicalConfig, HierarchicalObjective};
pub use objective::{MimConfig, MimObjective};
