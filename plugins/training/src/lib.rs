//! How models are trained: strategies, optimisers and learning-rate schedules. What an objective's defaults name is found here.

pub mod optimisers;
pub mod schedules;
pub mod strategies;
