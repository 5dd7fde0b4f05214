//! What the exporter says of itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::export::spool::SpoolHealth;

/// How every sink and the spool are doing. Alerts of one sink balance:
/// `accepted = sent + filtered + dropped + refused + pending` once the exporter is at rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportHealth {
    /// One entry a sink, in the order of the configuration.
    pub sinks: Vec<SinkHealth>,
    /// The disk queue; `None` where no sink is remote.
    pub spool: Option<SpoolHealth>,
}

/// How one sink is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkHealth {
    /// Its name.
    pub name: String,
    /// stdout, file, syslog or webhook.
    pub kind: &'static str,
    /// Whether the last delivery, if there was one, went well.
    pub is_up: bool,
    /// Alerts delivered.
    pub sent: u64,
    /// Alerts below the sink's severity.
    pub filtered: u64,
    /// Failed attempts.
    pub failed: u64,
    /// Alerts lost because the queue before the sink or the spool was full.
    pub dropped_queue: u64,
    /// Alerts lost at the spool's bounds, to damage, or with a memory row that was full.
    pub dropped_spool: u64,
    /// Alerts the receiver refused for good, put aside in the dead-letter file.
    pub refused: u64,
    /// Alerts waiting.
    pub pending: u64,
    /// Why the last attempt failed, while it did.
    pub last_error: Option<String>,
}

/// Counters of one sink, shared between its thread and whoever asks.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sent: AtomicU64,
    pub(super) filtered: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) dropped_queue: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) is_down: AtomicBool,
    last_error: Mutex<Option<String>>,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A delivery went well; whether that is news.
    pub(super) fn went_well(&self) -> bool {
        Self::add(&self.sent);
        let was_down = self.is_down.swap(false, Ordering::Relaxed);
        if was_down {
            *self.error() = None;
        }
        was_down
    }

    /// A delivery failed; whether that is news.
    pub(super) fn went_wrong(&self, reason: &str) -> bool {
        Self::add(&self.failed);
        *self.error() = Some(reason.to_owned());
        !self.is_down.swap(true, Ordering::Relaxed)
    }

    /// The counters as numbers, without what the queues know.
    pub(super) fn read(&self) -> SinkHealth {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SinkHealth {
            is_up: !self.is_down.load(Ordering::Relaxed),
            sent: get(&self.sent),
            filtered: get(&self.filtered),
            failed: get(&self.failed),
            dropped_queue: get(&self.dropped_queue),
            refused: get(&self.refused),
            last_error: self.error().clone(),
            ..SinkHealth::default()
        }
    }

    fn error(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
