//! The thread of a remote sink: reads the spool, delivers, acknowledges after a positive reply.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::RetryConfig;
use super::dead_letter::DeadLetters;
use super::health::Counters;
use super::sink::{Deliver, DeliverError};
use super::spool::Reader;
use super::stop::{Pauses, Stop};
use crate::alert::Alert;
use crate::model::Severity;

/// Records read from the spool at once.
const BATCH_MAX: usize = 64;
/// Lines written to a stream and not yet believed to have arrived: what is sent again when it
/// breaks, at most.
pub const UNSETTLED_MAX: usize = 1024;
/// How often the thread looks whether it shall stop, and whether its connection is sound.
const WAKE_EVERY: Duration = Duration::from_millis(100);

pub(super) struct RemoteWorker {
    pub(super) name: String,
    pub(super) sink: Box<dyn Deliver>,
    pub(super) reader: Reader,
    pub(super) min_severity: Severity,
    pub(super) dead_letters: DeadLetters,
    pub(super) counters: Arc<Counters>,
    pub(super) stop: Arc<Stop>,
    pub(super) pauses: Pauses,
    /// Sequence numbers that may be acknowledged once they have settled, with the time of sending.
    pub(super) unsettled: VecDeque<(u64, Instant)>,
}

/// What to do after one record.
enum Next {
    /// Go on with the next one.
    Record,
    /// The connection broke under records that had not settled: read again from the cursor.
    Again,
    /// Told to stop.
    Stop,
}

impl RemoteWorker {
    pub(super) fn pauses(retry: RetryConfig) -> Pauses {
        Pauses::new(retry)
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self) {
        while !self.stop.is_said() {
            self.confirm();
            let room = UNSETTLED_MAX - self.unsettled.len();
            if room == 0 {
                self.stop.pause(WAKE_EVERY);
                continue;
            }
            let records = match self.reader.next(BATCH_MAX.min(room), WAKE_EVERY) {
                Ok(records) => records,
                Err(error) => {
                    self.went_wrong(&format!("cannot read the spool: {error}"));
                    self.stop.pause(self.pauses.next());
                    continue;
                }
            };
            for (seq, payload) in records {
                match self.record(seq, &payload) {
                    Next::Record => {}
                    Next::Again => break,
                    Next::Stop => return,
                }
            }
        }
        self.close();
    }

    fn record(&mut self, seq: u64, payload: &[u8]) -> Next {
        let alert: Alert = match serde_json::from_slice(payload) {
            Ok(alert) => alert,
            Err(error) => {
                // Only a newer or older version of the daemon can have written it.
                self.refuse(payload, &format!("not an alert of this version: {error}"));
                return self.sent(seq);
            }
        };
        if alert.severity < self.min_severity {
            Counters::add(&self.counters.filtered);
            return self.sent(seq);
        }
        loop {
            match self.sink.deliver(&alert) {
                Ok(()) => {
                    if self.counters.went_well() {
                        tracing::info!(sink = self.name, "the sink takes alerts again");
                    }
                    return self.sent(seq);
                }
                Err(DeliverError::Refused { reason }) => {
                    self.refuse(payload, &reason);
                    return self.sent(seq);
                }
                Err(DeliverError::Retry { reason, after }) => {
                    self.went_wrong(&reason);
                    let is_broken = self.rewind();
                    let pause = self.pauses.next();
                    if self.stop.pause(after.map_or(pause, |after| after.max(pause))) {
                        return Next::Stop;
                    }
                    if is_broken {
                        return Next::Again;
                    }
                }
            }
        }
    }

    fn sent(&mut self, seq: u64) -> Next {
        if self.sink.settle().is_zero() {
            self.pauses.reset();
            self.reader.ack(seq + 1);
        } else {
            self.unsettled.push_back((seq + 1, Instant::now()));
        }
        Next::Record
    }

    /// Acknowledges what has settled on a connection that is sound; goes back where it is not.
    fn confirm(&mut self) {
        let settle = self.sink.settle();
        let Some((_, oldest)) = self.unsettled.front() else { return };
        let is_due = oldest.elapsed() >= settle;
        if let Err(DeliverError::Retry { reason, .. } | DeliverError::Refused { reason }) =
            self.sink.check()
        {
            self.went_wrong(&reason);
            self.rewind();
            self.stop.pause(self.pauses.next());
            return;
        }
        if !is_due {
            return;
        }
        let mut settled = None;
        while let Some((next, at)) = self.unsettled.front() {
            if at.elapsed() < settle {
                break;
            }
            settled = Some(*next);
            self.unsettled.pop_front();
        }
        if let Some(next) = settled {
            self.pauses.reset();
            self.reader.ack(next);
        }
    }

    /// Goes back to the cursor if anything had not settled; whether that was so.
    fn rewind(&mut self) -> bool {
        let is_broken = !self.unsettled.is_empty();
        if is_broken {
            self.unsettled.clear();
            self.reader.rewind();
        }
        is_broken
    }

    fn refuse(&mut self, payload: &[u8], reason: &str) {
        Counters::add(&self.counters.refused);
        tracing::error!(
            sink = self.name,
            reason,
            file = %self.dead_letters.path().display(),
            "the receiver refused an alert; it was put aside",
        );
        if let Err(error) = self.dead_letters.put(payload, reason) {
            tracing::error!(sink = self.name, %error, "cannot put a refused alert aside");
        }
    }

    fn went_wrong(&self, reason: &str) {
        if self.counters.went_wrong(reason) {
            tracing::warn!(sink = self.name, reason, "the sink takes no alerts; they wait on disk");
        }
    }

    /// Ends the connection; what had not settled has arrived if the receiver read it all.
    fn close(&mut self) {
        let deadline = self.stop.deadline().unwrap_or_else(Instant::now);
        let last = self.unsettled.back().map(|(next, _)| *next);
        if let (Ok(()), Some(next)) = (self.sink.close(deadline), last) {
            self.reader.ack(next);
        }
    }
}
