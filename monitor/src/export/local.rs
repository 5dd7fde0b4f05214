//! The thread of a local sink: a queue in memory, and patience with a full disk.

use std::sync::Arc;
use std::time::Duration;

use super::config::RetryConfig;
use super::health::Counters;
use super::queue::Queue;
use super::sink::Write;
use super::stop::{Pauses, Stop};
use crate::alert::Alert;
use crate::model::{BootNs, Clock, Delay};

/// Alerts that wait for a local sink; more are dropped and counted. At the rate limit of the
/// alerter this is a quarter of an hour of a full disk.
pub const LOCAL_QUEUE_MAX: usize = 1024;
/// How often the thread looks whether it shall stop.
const WAKE_EVERY: Duration = Duration::from_millis(200);

/// An alert, and when the kernel wrote the record that it comes from; `None` where it comes from
/// none, as the count of an older alert.
pub(super) struct Handed {
    pub(super) alert: Arc<Alert>,
    pub(super) record: Option<BootNs>,
}

pub(super) struct LocalWorker {
    pub(super) name: String,
    pub(super) sink: Box<dyn Write>,
    pub(super) queue: Arc<Queue<Handed>>,
    pub(super) counters: Arc<Counters>,
    pub(super) written: Arc<Delay>,
    pub(super) stop: Arc<Stop>,
    pub(super) retry: RetryConfig,
}

impl LocalWorker {
    /// Runs until it is told to stop and the queue is empty, or cannot be emptied.
    pub(super) fn run(mut self) {
        let mut pauses = Pauses::new(self.retry);
        loop {
            let handed = self.queue.take(1, WAKE_EVERY);
            if handed.is_empty() && self.stop.is_said() {
                return;
            }
            for Handed { alert, record } in handed {
                let is_done = self.write(&alert, &mut pauses);
                if let Some(record) = record.filter(|_| is_done) {
                    self.written.add(Clock::boot_now().since(record));
                }
                self.queue.done(1);
                if !is_done {
                    return;
                }
            }
        }
    }

    /// Writes one alert, however long it takes; `false` when told to stop before.
    fn write(&mut self, alert: &Alert, pauses: &mut Pauses) -> bool {
        loop {
            let Err(error) = self.sink.write(alert) else {
                pauses.reset();
                if self.counters.went_well() {
                    tracing::info!(sink = self.name, "the sink takes alerts again");
                }
                return true;
            };
            if self.counters.went_wrong(&error.to_string()) {
                tracing::error!(sink = self.name, %error, "the sink takes no alerts");
            }
            if self.stop.pause(pauses.next()) {
                Counters::add(&self.counters.dropped_queue);
                return false;
            }
        }
    }
}
