//! How much a code tells about its input and its label: bounds, estimators and the likelihood behind them.

pub mod accuracy_bound;
pub mod aggregate;
pub mod kd_tree;
pub mod kraskov;
pub mod ksg;
pub mod label_information;
pub(crate) mod levels;
pub mod mixed_ksg;
pub mod mutual_information;
pub mod nll;
pub mod rates;
pub mod scale;
pub(crate) mod shared_scale;
