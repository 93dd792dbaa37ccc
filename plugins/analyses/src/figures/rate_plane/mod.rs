//! Models of a grid of two rate weights, their measured values over the plane of the two rates, and the figures of it.

pub mod colour;
pub mod figures;
pub mod frontier;
pub mod grid;
pub mod interactive;

pub use figures::{Picture, pictures};
pub use grid::{BetaGrid, Evaluated};
pub use interactive::page;
