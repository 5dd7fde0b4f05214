//! The thread that writes a recording, so that the engine never waits for a disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Store, Writer};
use crate::model::{FactRow, Facts};

/// Rows that wait for the writing thread, some 16 MiB; what does not fit is counted as lost.
pub const TAP_QUEUE_MAX: usize = 8_192;
/// How long a row may wait before a reader of the file can see it.
const FLUSH_EVERY: Duration = Duration::from_millis(200);

/// What became of the rows so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapCounts {
    /// Rows handed to the writer.
    pub taken: u64,
    /// Rows for which the queue had no place.
    pub lost: u64,
}

/// What the thread writes to.
pub enum TapSink {
    /// One file.
    File(Writer),
    /// The store of events.
    Store(Box<Store>),
}

impl TapSink {
    fn row(&mut self, row: &FactRow) -> io::Result<()> {
        match self {
            Self::File(writer) => writer.row(row.to_json()),
            Self::Store(store) => store.row(row.to_json()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(writer) => writer.flush(),
            Self::Store(store) => store.flush(),
        }
    }

    fn finish(self, lost: u64) -> io::Result<()> {
        match self {
            Self::File(writer) => writer.finish(lost),
            Self::Store(store) => store.finish(lost),
        }
    }
}

/// Where the engine hands rows in.
pub struct Tap {
    queue: Option<SyncSender<FactRow>>,
    thread: Option<JoinHandle<io::Result<u64>>>,
    lost: Arc<AtomicU64>,
    taken: u64,
}

impl Tap {
    /// Starts the thread that writes to `sink`.
    pub fn start(sink: TapSink) -> io::Result<Self> {
        let (queue, rows) = sync_channel(TAP_QUEUE_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&lost);
        let thread = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || write(sink, &rows, &seen))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), lost, taken: 0 })
    }

    /// Records an event.
    pub fn offer(&mut self, facts: &dyn Facts) {
        let Some(queue) = &self.queue else { return };
        match queue.try_send(FactRow::snapshot(facts)) {
            Ok(()) => self.taken += 1,
            // A writer that has failed says so itself when it is joined.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// What became of the rows so far.
    pub fn counts(&self) -> TapCounts {
        TapCounts { taken: self.taken, lost: self.lost.load(Ordering::Relaxed) }
    }

    /// Whether the writing thread has ended by a fault.
    pub fn has_failed(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Ends the recording; gives the number of rows that were written.
    pub fn stop(mut self) -> io::Result<u64> {
        self.queue = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(written)) => written,
            Some(Err(_)) | None => Err(io::Error::other("the writing thread panicked")),
        }
    }
}

fn write(mut sink: TapSink, rows: &Receiver<FactRow>, lost: &AtomicU64) -> io::Result<u64> {
    let (mut written, mut dirty, mut flushed) = (0, true, Instant::now());
    loop {
        match rows.recv_timeout(FLUSH_EVERY) {
            Ok(row) => {
                sink.row(&row)?;
                written += 1;
                dirty = true;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if dirty && flushed.elapsed() >= FLUSH_EVERY {
            sink.flush()?;
            (dirty, flushed) = (false, Instant::now());
        }
    }
    sink.finish(lost.load(Ordering::Relaxed))?;
    Ok(written)
}
