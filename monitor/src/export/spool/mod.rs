//! The disk queue between the exporter and its remote sinks: one log, one cursor a sink.
//!
//! A record is appended once and read by every sink in its own time. It is gone from disk when
//! every sink has had a positive reply for it, or when it falls behind the bounds on size and age;
//! the second is counted for each sink that had not sent it. A torn record at the end, which is
//! what `kill -9` and a power loss leave, is cut off at the next start and counted. While the disk
//! is full, records wait in a bounded row in memory and sinks are served from there.

mod cursor;
mod log;
mod record;
mod segment;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, SystemTime};

use thiserror::Error;

use cursor::{Cursor, Found};
use log::{Log, Position};

pub use log::{MEMORY_BYTES_MAX, MEMORY_RECORDS_MAX};
pub use record::RECORD_BYTES_MAX;

/// Default bound on the spool in bytes: two weeks of alerts at one a second.
pub const SPOOL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Default bound on the age of an alert in the spool: a week, so that a receiver that was down
/// over a long weekend misses nothing, and one that is gone holds nothing for ever.
pub const SPOOL_AGE_MAX: Duration = Duration::from_hours(7 * 24);

/// When the log is synced to the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fsync {
    /// After each batch: an alert that was taken survives a power loss.
    #[default]
    EachBatch,
    /// Never: an alert that was taken survives `kill -9`, and the kernel decides on the rest.
    Never,
}

/// Where and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// The directory; made with mode 0700 if it is not there.
    pub dir: PathBuf,
    /// Bound on all segments in bytes.
    pub bytes_max: u64,
    /// Bound on the age of a segment's newest record.
    pub age_max: Duration,
    /// When the log is synced.
    pub fsync: Fsync,
}

impl SpoolConfig {
    /// The defaults, in `dir`.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            bytes_max: SPOOL_BYTES_MAX,
            age_max: SPOOL_AGE_MAX,
            fsync: Fsync::default(),
        }
    }
}

/// Why the spool cannot be opened.
#[derive(Debug, Error)]
pub enum SpoolError {
    /// The directory or something in it cannot be read or written.
    #[error(
        "spool directory `{}` cannot be used; it must be a directory on a local disk that the \
         daemon may write", dir.display()
    )]
    Io {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process holds it.
    #[error(
        "spool directory `{}` is in use by another process; give each daemon its own \
         (`fuser {0}/lock` names it)", dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
}

/// How the spool is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpoolHealth {
    /// Bytes on disk.
    pub bytes: u64,
    /// Bound on them.
    pub bytes_max: u64,
    /// Records appended since start.
    pub appended: u64,
    /// Records waiting in memory because the disk takes none.
    pub in_memory: u64,
    /// Records that fell out of memory.
    pub memory_dropped: u64,
    /// Torn records cut off at start.
    pub torn: u64,
    /// Places where the log was damaged.
    pub damaged: u64,
    /// Failed writes.
    pub write_errors: u64,
    /// Why the disk takes nothing, while it does not.
    pub error: Option<String>,
}

struct ReaderState {
    name: String,
    cursor: Cursor,
    lost: u64,
    cursor_errors: u64,
}

struct Inner {
    log: Log,
    readers: Vec<ReaderState>,
    damaged: u64,
}

/// The spool. Cheap to clone: all clones are one spool.
#[derive(Clone)]
pub struct Spool {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Mutex<Inner>,
    moved: Condvar,
    config: SpoolConfig,
    /// The last answer of [`Spool::health`], for when the disk makes everybody wait.
    last_health: Mutex<SpoolHealth>,
    /// Held for as long as the spool is: two daemons in one directory would destroy it.
    _lock: File,
}

impl Spool {
    /// Opens or makes the spool for the sinks named. A sink that has no cursor yet starts at the
    /// end; one whose cursor cannot be believed starts at the oldest record that is there.
    pub fn open(config: SpoolConfig, sinks: &[String]) -> Result<Self, SpoolError> {
        let dir = config.dir.clone();
        let io = |source| SpoolError::Io { dir: dir.clone(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.dir).map_err(io)?;
        let lock = private_file()
            .create(true)
            .truncate(false)
            .write(true)
            .open(config.dir.join("lock"))
            .map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(SpoolError::InUse { dir: config.dir.clone() });
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(io(source)),
        }
        let mut found = Vec::new();
        for name in sinks {
            let path = Cursor::path(&config.dir, name);
            found.push((name.clone(), Cursor::load(&path).map_err(io)?, path));
        }
        let seq_min = found.iter().map(|(_, found, _)| match found {
            Found::At(seq) => *seq,
            Found::Missing | Found::Damaged => 0,
        });
        let log = Log::open(&config, seq_min.max().unwrap_or(0)).map_err(io)?;
        let mut readers = Vec::new();
        let mut damaged = 0;
        for (name, found, path) in found {
            let seq = match found {
                Found::At(seq) => seq,
                Found::Missing => log.next_seq(),
                Found::Damaged => {
                    damaged += 1;
                    log.first_seq()
                }
            };
            let cursor = Cursor::at(path, seq);
            cursor.store().map_err(io)?;
            readers.push(ReaderState { name, cursor, lost: 0, cursor_errors: 0 });
        }
        let inner = Mutex::new(Inner { log, readers, damaged });
        let last_health = Mutex::default();
        let shared = Shared { inner, moved: Condvar::new(), config, last_health, _lock: lock };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Appends records of 1 to [`RECORD_BYTES_MAX`] bytes; wakes the readers. Afterwards they are
    /// on disk, or in memory while the disk takes none.
    pub fn append(&self, payloads: Vec<Vec<u8>>, now: SystemTime) {
        let mut inner = self.lock();
        let before = inner.log.first_seq();
        inner.log.append(payloads, now);
        self.bound(&mut inner, before, now);
        drop(inner);
        self.shared.moved.notify_all();
    }

    /// What is due from time to time: tries the disk again, applies the bounds.
    pub fn tick(&self, now: SystemTime) {
        let mut inner = self.lock();
        let before = inner.log.first_seq();
        inner.log.persist(now);
        self.bound(&mut inner, before, now);
    }

    /// The reader of the sink `name`; `None` if it was not named at [`Spool::open`].
    pub fn reader(&self, name: &str) -> Option<Reader> {
        let inner = self.lock();
        let index = inner.readers.iter().position(|reader| reader.name == name)?;
        let position = Position::at(inner.readers[index].cursor.seq());
        drop(inner);
        Some(Reader { spool: self.clone(), index, position })
    }

    /// How the spool is doing. Never waits for the disk: while a write is under way, the answer is
    /// the last one.
    pub fn health(&self) -> SpoolHealth {
        let mut last = self.shared.last_health.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(inner) = self.try_lock() else { return last.clone() };
        let counts = inner.log.counts();
        *last = SpoolHealth {
            bytes: inner.log.bytes(),
            bytes_max: self.shared.config.bytes_max,
            appended: counts.appended,
            in_memory: inner.log.next_seq() - inner.log.memory_base(),
            memory_dropped: counts.memory_dropped,
            torn: counts.torn,
            damaged: counts.damaged + inner.damaged,
            write_errors: counts.write_errors
                + inner.readers.iter().map(|reader| reader.cursor_errors).sum::<u64>(),
            error: inner.log.error().map(str::to_owned),
        };
        last.clone()
    }

    /// Wakes every reader, so that it sees that it shall stop.
    pub fn wake(&self) {
        self.shared.moved.notify_all();
    }

    /// Applies the bounds; `before` is the oldest record before whatever was just done.
    fn bound(&self, inner: &mut Inner, before: u64, now: SystemTime) {
        let Inner { log, readers, .. } = inner;
        let dropped = log.first_seq();
        for reader in &mut *readers {
            reader.lost += dropped.saturating_sub(reader.cursor.seq().max(before));
        }
        if let Some(oldest) = readers.iter().map(|reader| reader.cursor.seq()).min() {
            log.release(oldest);
        }
        let before = log.first_seq();
        log.enforce(now.checked_sub(self.shared.config.age_max).unwrap_or(SystemTime::UNIX_EPOCH));
        let after = log.first_seq();
        for reader in readers {
            reader.lost += after.saturating_sub(reader.cursor.seq().max(before));
        }
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Inner>> {
        match self.shared.inner.try_lock() {
            Ok(inner) => Some(inner),
            Err(TryLockError::Poisoned(inner)) => Some(inner.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A thread that panicked while it held the lock left at worst an uncounted record.
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One sink's view of the spool.
pub struct Reader {
    spool: Spool,
    index: usize,
    position: Position,
}

impl Reader {
    /// The next records, at most `count_max`; empty when none came within `wait`.
    pub fn next(&mut self, count_max: usize, wait: Duration) -> io::Result<Vec<(u64, Vec<u8>)>> {
        let mut inner = self.spool.lock();
        if self.position.seq >= inner.log.next_seq() && !wait.is_zero() {
            let moved = &self.spool.shared.moved;
            inner = moved.wait_timeout(inner, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        let batch = inner.log.read(&mut self.position, count_max)?;
        if batch.lost > 0 {
            inner.readers[self.index].lost += batch.lost;
            inner.damaged += 1;
            tracing::error!(
                sink = inner.readers[self.index].name,
                dir = %inner.log.dir().display(),
                lost = batch.lost,
                "alerts in the spool were damaged or never reached the disk",
            );
        }
        Ok(batch.records)
    }

    /// Says that every record before `seq` has been sent, or will never be.
    pub fn ack(&mut self, seq: u64) {
        let mut inner = self.spool.lock();
        let reader = &mut inner.readers[self.index];
        if let Err(error) = reader.cursor.advance(seq) {
            reader.cursor_errors += 1;
            tracing::warn!(sink = reader.name, %error, "cannot write the cursor of a sink");
        }
    }

    /// Goes back to the first record that was not acknowledged.
    pub fn rewind(&mut self) {
        let seq = self.acked();
        self.position = Position::at(seq);
    }

    /// The first record that was not acknowledged.
    pub fn acked(&self) -> u64 {
        self.spool.lock().readers[self.index].cursor.seq()
    }

    /// Records that wait for this sink, and those it lost at a bound or to damage.
    pub fn backlog(&self) -> (u64, u64) {
        self.backlog_in(&self.spool.lock())
    }

    /// As [`Reader::backlog`]; `None` while the disk makes everybody wait.
    pub fn try_backlog(&self) -> Option<(u64, u64)> {
        self.spool.try_lock().map(|inner| self.backlog_in(&inner))
    }

    fn backlog_in(&self, inner: &Inner) -> (u64, u64) {
        let reader = &inner.readers[self.index];
        let from = reader.cursor.seq().max(inner.log.first_seq());
        (inner.log.next_seq().saturating_sub(from), reader.lost)
    }
}

/// Options for a file that only the daemon's user may read: alerts name commands and addresses.
pub(super) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

#[cfg(test)]
mod tests;
