//! Windows, sequences, state: bounded, deterministic, the clock is an argument.
//!
//! | module | what it owns |
//! |---|---|
//! | `engine` | which rule sees which event |
//! | `index`, `pick` | the rules that an event may match, by their cheapest test |
//! | `condition` | what rules ask in the same words, asked once an event |
//! | `slot` | one rule at work |
//! | `table` | the keys of one rule, bounded |
//! | `state` | the windows of one key, and when it fires |
//! | `history`, `values` | what a window remembers |
//! | `rehearsal` | the tests in rule files |
//! | `snapshot` | long windows on disk |

mod condition;
mod engine;
mod finding;
mod history;
mod index;
mod key;
pub mod limit;
mod pick;
mod plan;
mod rehearsal;
mod slot;
mod snapshot;
mod state;
mod stats;
mod table;
mod values;

#[cfg(test)]
mod tests;

pub use engine::Engine;
pub use finding::Finding;
pub use limit::CorrelateLimits;
pub use rehearsal::{Rehearsal, RehearsedAlert, rehearse};
pub use snapshot::{Restored, Snapshot, SnapshotError};
pub use stats::{CorrelateStats, KeyStats, RuleStats};
