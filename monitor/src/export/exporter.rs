//! The exporter: takes alerts, never makes the caller wait, and lets no sink disturb another.
//!
//! ```text
//! submit ─┬─► queue ─► thread of a local sink
//!         └─► queue ─► writer ─► spool ─┬─► thread of a remote sink
//!                                       └─► thread of a remote sink
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::config::{ExportConfig, SinkConfig};
use super::dead_letter::DeadLetters;
use super::health::{Counters, ExportHealth, SinkHealth};
use super::local::{Handed, LOCAL_QUEUE_MAX, LocalWorker};
use super::queue::Queue;
use super::remote::RemoteWorker;
use super::sink::{Sink, SinkError};
use super::spool::{Reader, Spool, SpoolError};
use super::stop::Stop;
use super::writer::Writer;
use crate::alert::Alert;
use crate::model::{BootNs, Delay, DelayCounts, Severity};

/// Alerts that wait to be written to the spool; more are dropped, counted and announced. Deep
/// enough for a burst while the disk syncs.
pub const QUEUE_DEPTH_MAX: usize = 1024;
/// The longest that [`Exporter::submit`] waits for room in that queue; once it has waited in vain
/// it does not wait again until there is room.
pub const SUBMIT_WAIT_MAX: Duration = Duration::from_millis(20);

/// Why the exporter cannot start.
#[derive(Debug, Error)]
pub enum ExportError {
    /// A sink cannot be set up.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The spool cannot be opened.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A thread cannot be started.
    #[error("cannot start the thread of sink `{sink}`; check the limit on threads (ulimit -u)")]
    Thread {
        /// The sink, or `spool`.
        sink: String,
        /// Why.
        source: std::io::Error,
    },
}

/// What [`Exporter::submit`] did with an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// Every sink's queue has it. It is safe from `kill -9` once [`Exporter::persisted`] has
    /// reached the number.
    Accepted(u64),
    /// A queue was full: at least one sink will not see it; counted, and announced by an alert.
    Dropped,
}

/// One sink, as the exporter sees it.
pub(super) struct Slot {
    pub(super) config: SinkConfig,
    pub(super) counters: Arc<Counters>,
    /// The queue of a local sink.
    pub(super) queue: Option<Arc<Queue<Handed>>>,
    /// What a remote sink has yet to read.
    pub(super) reader: Option<Reader>,
    /// The last backlog, for when the disk makes everybody wait.
    pub(super) last_backlog: Mutex<(u64, u64)>,
}

/// What `submit` and the writer share.
pub(super) struct Shared {
    pub(super) slots: Vec<Slot>,
    pub(super) queue: Queue<Arc<Alert>>,
    pub(super) spool: Option<Spool>,
    /// From the record in the kernel to the line of a local sink.
    pub(super) written: Arc<Delay>,
}

/// The running exporter. Dropping it stops its threads without waiting for delivery; what is in
/// the spool goes out after the next start.
pub struct Exporter {
    shared: Arc<Shared>,
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
}

impl Exporter {
    /// Sets up every sink, opens the spool where one is remote, and starts the threads. All sinks
    /// that cannot be set up are named at once.
    pub fn start(config: &ExportConfig) -> Result<Self, Vec<ExportError>> {
        let (sinks, errors): (Vec<_>, Vec<_>) =
            config.sinks.iter().map(Sink::build).partition(Result::is_ok);
        let mut errors: Vec<ExportError> =
            errors.into_iter().filter_map(Result::err).map(ExportError::from).collect();
        let remote: Vec<String> = config
            .sinks
            .iter()
            .filter(|sink| sink.target.is_remote())
            .map(|sink| sink.name.clone())
            .collect();
        let spool = if remote.is_empty() {
            None
        } else {
            Spool::open(config.spool.clone(), &remote)
                .map_err(|error| errors.push(error.into()))
                .ok()
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        let slots = config.sinks.iter().map(|sink| slot(sink, spool.as_ref())).collect();
        let (queue, written) = (Queue::new(QUEUE_DEPTH_MAX), Arc::default());
        let shared = Arc::new(Shared { slots, queue, spool, written });
        let mut exporter = Self { shared, stop: Arc::default(), threads: Vec::new() };
        let sinks = sinks.into_iter().filter_map(Result::ok).collect();
        exporter.spawn(config, sinks).map_err(|error| vec![error])?;
        Ok(exporter)
    }

    fn spawn(&mut self, config: &ExportConfig, sinks: Vec<Sink>) -> Result<(), ExportError> {
        let shared = Arc::clone(&self.shared);
        for (slot, sink) in shared.slots.iter().zip(sinks) {
            let name = slot.config.name.clone();
            let (counters, stop) = (Arc::clone(&slot.counters), Arc::clone(&self.stop));
            let reader = shared.spool.as_ref().and_then(|spool| spool.reader(&name));
            match (sink, &slot.queue, reader) {
                (Sink::Local(sink), Some(queue), _) => {
                    let queue = Arc::clone(queue);
                    let worker = LocalWorker {
                        name: name.clone(),
                        sink,
                        queue,
                        counters,
                        written: Arc::clone(&shared.written),
                        stop,
                        retry: config.retry,
                    };
                    self.thread(&name, move || worker.run())?;
                }
                (Sink::Remote(sink), _, Some(reader)) => {
                    let worker = RemoteWorker {
                        name: name.clone(),
                        sink,
                        reader,
                        min_severity: slot.config.min_severity,
                        dead_letters: DeadLetters::new(&config.spool.dir, &name),
                        counters,
                        stop,
                        pauses: RemoteWorker::pauses(config.retry),
                        unsettled: std::collections::VecDeque::new(),
                    };
                    self.thread(&name, move || worker.run())?;
                }
                (Sink::Local(_) | Sink::Remote(_), _, _) => {}
            }
        }
        let writer = Writer::new(shared, Arc::clone(&self.stop), config.host.clone());
        self.thread("spool", move || writer.run())
    }

    fn thread(
        &mut self,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), ExportError> {
        let thread = std::thread::Builder::new().name(format!("export-{name}")).spawn(run);
        self.threads
            .push(thread.map_err(|source| ExportError::Thread { sink: name.to_owned(), source })?);
        Ok(())
    }

    /// Takes an alert for every sink, and with it when the kernel wrote the record that it comes
    /// from. Waits at most [`SUBMIT_WAIT_MAX`].
    pub fn submit(&self, alert: Alert, record: Option<BootNs>) -> Submitted {
        self.shared.submit(Arc::new(alert), record, SUBMIT_WAIT_MAX)
    }

    /// How long it took from a record in the kernel to the line of a sink on this host.
    pub fn written(&self) -> DelayCounts {
        self.shared.written.read()
    }

    /// The highest number of [`Submitted::Accepted`] up to which every alert is in the spool's
    /// log: `kill -9` loses none of them.
    pub fn persisted(&self) -> u64 {
        self.shared.queue.done_through()
    }

    /// Waits until every sink has everything; whether that was so before `deadline`.
    pub fn flush(&self, deadline: Instant) -> bool {
        let mut is_done = self.shared.queue.wait_empty(deadline);
        for slot in &self.shared.slots {
            if let Some(queue) = &slot.queue {
                is_done &= queue.wait_empty(deadline);
            }
            while slot.pending() > 0 && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            is_done &= slot.pending() == 0;
        }
        is_done
    }

    /// How every sink and the spool are doing. Never waits for disk or network.
    pub fn health(&self) -> ExportHealth {
        ExportHealth {
            sinks: self.shared.slots.iter().map(Slot::health).collect(),
            spool: self.shared.spool.as_ref().map(Spool::health),
        }
    }

    /// Delivers what can be delivered before `deadline`, then stops; whether nothing was left.
    /// What is left stays in the spool for the next start.
    pub fn stop(mut self, deadline: Instant) -> bool {
        // A stream confirms only after a while; closing it confirms at once. So the connections
        // are ended in any case, and the last quarter of the time is theirs.
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        let is_flushed = self.flush(now + left / 4 * 3);
        self.end(deadline);
        is_flushed || self.shared.slots.iter().all(|slot| slot.pending() == 0)
    }

    fn end(&mut self, deadline: Instant) {
        self.stop.say(deadline);
        self.shared.queue.close();
        self.shared.slots.iter().filter_map(|slot| slot.queue.as_ref()).for_each(|q| q.close());
        if let Some(spool) = &self.shared.spool {
            spool.wake();
        }
        // A thread that hangs in a system call is left behind: the process ends soon.
        while self.threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        for thread in self.threads.drain(..).filter(JoinHandle::is_finished) {
            if thread.join().is_err() {
                tracing::error!("a thread of the exporter panicked");
            }
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.stop.say(Instant::now());
        self.shared.queue.close();
        self.shared.slots.iter().filter_map(|slot| slot.queue.as_ref()).for_each(|q| q.close());
    }
}

fn slot(config: &SinkConfig, spool: Option<&Spool>) -> Slot {
    let is_remote = config.target.is_remote();
    Slot {
        config: config.clone(),
        counters: Arc::default(),
        queue: (!is_remote).then(|| Arc::new(Queue::new(LOCAL_QUEUE_MAX))),
        reader: spool.and_then(|spool| spool.reader(&config.name)),
        last_backlog: Mutex::default(),
    }
}

impl Slot {
    fn queued(&self) -> u64 {
        self.queue.as_ref().map_or(0, |queue| queue.depth() as u64)
    }

    fn pending(&self) -> u64 {
        let backlog = self.reader.as_ref().map_or((0, 0), Reader::backlog);
        *self.last_backlog.lock().unwrap_or_else(PoisonError::into_inner) = backlog;
        self.queued() + backlog.0
    }

    pub(super) fn health(&self) -> SinkHealth {
        let mut last = self.last_backlog.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(backlog) = self.reader.as_ref().and_then(Reader::try_backlog) {
            *last = backlog;
        }
        let (waiting, dropped_spool) = *last;
        SinkHealth {
            name: self.config.name.clone(),
            kind: self.config.target.kind(),
            pending: self.queued() + waiting,
            dropped_spool,
            ..self.counters.read()
        }
    }
}

impl Shared {
    pub(super) fn submit(
        &self,
        alert: Arc<Alert>,
        record: Option<BootNs>,
        wait: Duration,
    ) -> Submitted {
        let mut is_accepted = true;
        for slot in &self.slots {
            let Some(queue) = &slot.queue else { continue };
            if alert.severity < slot.config.min_severity {
                Counters::add(&slot.counters.filtered);
                continue;
            }
            let handed = Handed { alert: Arc::clone(&alert), record };
            if queue.push(handed, Duration::ZERO).is_err() {
                Counters::add(&slot.counters.dropped_queue);
                is_accepted = false;
            }
        }
        let mut number = self.queue.pushed();
        match self.least_remote_severity() {
            Some(least) if alert.severity >= least => {
                if let Ok(pushed) = self.queue.push(alert, wait) {
                    number = pushed;
                } else {
                    is_accepted = false;
                    self.remote().for_each(|slot| Counters::add(&slot.counters.dropped_queue));
                }
            }
            Some(_) => self.remote().for_each(|slot| Counters::add(&slot.counters.filtered)),
            None => {}
        }
        if is_accepted { Submitted::Accepted(number) } else { Submitted::Dropped }
    }

    fn remote(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| slot.config.target.is_remote())
    }

    /// The lowest severity that a remote sink wants; `None` without one.
    fn least_remote_severity(&self) -> Option<Severity> {
        self.remote().map(|slot| slot.config.min_severity).min()
    }
}

#[cfg(test)]
mod tests;
