//! Recordings: enriched events and GPU samples in one file, as rules see them.
//!
//! The first line is a [`Header`], then comes one [`crate::model::FactRow`] a line, then a
//! [`Footer`] that says how many there should be. A name that ends in `.jsonl`, and standard
//! output, take the lines as they are; anything else is compressed with Zstandard.
//!
//! | file | what it owns |
//! |---|---|
//! | `header` | the first and the last line |
//! | `writer` | lines to a file |
//! | `reader` | lines from a file, bounded |
//! | `store` | recordings in segments, the oldest dropped |
//! | `tap` | the thread that writes, and the queue before it |

mod header;
mod reader;
mod store;
mod tap;
mod writer;

#[cfg(test)]
mod tests;

pub use header::{FORMAT, Footer, Header, SensorRow};
pub use reader::{LINE_BYTES_MAX, ReadError, Reader};
pub use store::{SEGMENT_BYTES_MAX, SEGMENTS_MAX, Store, StoreConfig, StoredSegment, segments};
pub use tap::{TAP_QUEUE_MAX, Tap, TapCounts, TapSink};
pub use writer::{RECORDING_BYTES_MAX, Target, Writer};
