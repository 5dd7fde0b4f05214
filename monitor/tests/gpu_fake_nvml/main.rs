//! The GPU side over a fake `libnvidia-ml.so.1`, loaded by the same wrapper as a real one.
#![expect(clippy::unwrap_used, reason = "a test may end where it finds something wrong")]

mod client;
mod driver;
mod health;
mod sampler;
mod scenario;
mod stage;
mod state;
mod verdict;
