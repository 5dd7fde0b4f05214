//! Windows, sequences, state: bounded, deterministic, the clock is an argument.

mod finding;

pub use finding::Finding;
