//! Encoders, sinks, the disk spool.
//!
//! | file | what it owns |
//! |---|---|
//! | `exporter` | [`Exporter`]: takes alerts, runs one thread a sink |
//! | `config` | checked settings |
//! | `encode/` | alert → bytes: native JSON, OCSF, lines for a person, RFC 5424 |
//! | `sink/` | stdout, file, syslog, webhook |
//! | `spool/` | the disk queue before the remote sinks |
//! | `writer` | queue → spool; announces losses |
//! | `local`, `remote` | the threads of the sinks |

pub mod config;
pub mod encode;
pub mod spool;

mod dead_letter;
mod exporter;
mod health;
mod local;
mod queue;
mod remote;
mod sink;
mod stop;
mod writer;

pub use dead_letter::DEAD_LETTER_BYTES_MAX;
pub use exporter::{ExportError, Exporter, QUEUE_DEPTH_MAX, SUBMIT_WAIT_MAX, Submitted};
pub use health::{ExportHealth, SinkHealth};
pub use local::LOCAL_QUEUE_MAX;
pub use remote::UNSETTLED_MAX;
pub use sink::{REPLY_BYTES_MAX, RETRY_AFTER_MAX, SETTLE, SinkError};
pub use writer::ANNOUNCE_EVERY;
