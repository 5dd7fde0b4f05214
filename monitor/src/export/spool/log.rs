//! The log: segments on disk, and behind them the records that the disk would not take.
//!
//! Every record has a sequence number. Those in memory are the newest, so that a reader sees one
//! row of numbers and never asks where a record lives.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::record::{self, RECORD_BYTES_MAX};
use super::segment::{self, Cut, Offset, Segment};
use super::{Fsync, SpoolConfig};

/// Records held in memory while the disk takes none: half an hour of alerts at the rate limit.
pub const MEMORY_RECORDS_MAX: usize = 2048;
/// Bytes held in memory while the disk takes none: half of what the daemon may use in all.
pub const MEMORY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Segments that the size bound is cut into: the oldest eighth goes when the bound is reached.
const SEGMENTS_PER_BOUND: u64 = 8;
/// Largest segment in bytes: it is read through at start, which must not be felt.
const SEGMENT_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What went wrong or missing in the log since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LogCounts {
    pub(super) appended: u64,
    pub(super) torn: u64,
    pub(super) damaged: u64,
    pub(super) write_errors: u64,
    /// Records that fell out of memory while the disk took none.
    pub(super) memory_dropped: u64,
}

/// Where a reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) seq: u64,
    hint: Option<Offset>,
}

impl Position {
    pub(super) fn at(seq: u64) -> Self {
        Self { seq, hint: None }
    }
}

/// What [`Log::read`] found.
pub(super) struct Batch {
    pub(super) records: Vec<(u64, Vec<u8>)>,
    /// Records that should have been there: damaged, or never persisted.
    pub(super) lost: u64,
}

pub(super) struct Log {
    dir: PathBuf,
    fsync: Fsync,
    bytes_max: u64,
    segment_bytes: u64,
    segments: VecDeque<Segment>,
    /// The last segment, open for appending.
    active: Option<File>,
    memory: VecDeque<Vec<u8>>,
    memory_bytes: usize,
    next_seq: u64,
    counts: LogCounts,
    /// Why the disk takes nothing, while it does not.
    error: Option<String>,
}

impl Log {
    /// Opens the log in `config.dir`. `seq_min` is beyond every cursor: a number that was once
    /// given out, and lost with the machine's power, is never given out again.
    pub(super) fn open(config: &SpoolConfig, seq_min: u64) -> io::Result<Self> {
        let bases = Segment::list(&config.dir)?;
        let mut log = Self {
            dir: config.dir.clone(),
            fsync: config.fsync,
            bytes_max: config.bytes_max,
            segment_bytes: (config.bytes_max / SEGMENTS_PER_BOUND).clamp(1, SEGMENT_BYTES_MAX),
            segments: VecDeque::new(),
            active: None,
            memory: VecDeque::new(),
            memory_bytes: 0,
            next_seq: 0,
            counts: LogCounts::default(),
            error: None,
        };
        for pair in bases.windows(2) {
            log.segments.push_back(Segment::closed(&config.dir, pair[0], pair[1])?);
        }
        if let Some(base) = bases.last() {
            let (segment, file, Cut { bytes, is_damaged }) = Segment::recover(&config.dir, *base)?;
            log.counts.torn += u64::from(bytes > 0 && !is_damaged);
            log.counts.damaged += u64::from(is_damaged);
            log.next_seq = segment.end;
            log.segments.push_back(segment);
            log.active = Some(file);
        }
        log.next_seq = log.next_seq.max(seq_min);
        Ok(log)
    }

    /// The oldest record that is still there.
    pub(super) fn first_seq(&self) -> u64 {
        self.segments.front().map_or(self.memory_base(), |segment| segment.base)
    }

    /// The number that the next record gets.
    pub(super) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// All records before this one are on disk.
    pub(super) fn memory_base(&self) -> u64 {
        self.next_seq - self.memory.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    pub(super) fn counts(&self) -> LogCounts {
        self.counts
    }

    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Appends records, each of 1 to [`RECORD_BYTES_MAX`] bytes. What the disk does not take
    /// stays in memory and is tried again with the next append.
    pub(super) fn append(&mut self, payloads: Vec<Vec<u8>>, now: SystemTime) {
        for payload in payloads {
            debug_assert!(payload.len() <= RECORD_BYTES_MAX);
            self.counts.appended += 1;
            self.next_seq += 1;
            self.memory_bytes += payload.len();
            self.memory.push_back(payload);
        }
        self.persist(now);
        while self.memory.len() > MEMORY_RECORDS_MAX || self.memory_bytes > MEMORY_BYTES_MAX {
            let Some(oldest) = self.memory.pop_front() else { break };
            self.memory_bytes -= oldest.len();
            self.counts.memory_dropped += 1;
        }
    }

    /// Moves what is in memory to disk, as far as the disk takes it.
    pub(super) fn persist(&mut self, now: SystemTime) {
        while !self.memory.is_empty() {
            match self.persist_run(now) {
                Ok(count) => {
                    for payload in self.memory.drain(..count) {
                        self.memory_bytes -= payload.len();
                    }
                    self.error = None;
                }
                Err(error) => {
                    self.counts.write_errors += 1;
                    self.error = Some(error.to_string());
                    return;
                }
            }
        }
    }

    /// Writes as many records as fit into one segment, at least one; gives their number.
    fn persist_run(&mut self, now: SystemTime) -> io::Result<usize> {
        let base = self.memory_base();
        let is_usable = self.active.is_some()
            && self
                .segments
                .back()
                .is_some_and(|segment| segment.end == base && segment.bytes < self.segment_bytes);
        if !is_usable {
            self.active = None;
            let (segment, file) = Segment::create(&self.dir, base, now)?;
            self.segments.push_back(segment);
            self.active = Some(file);
        }
        let (Some(segment), Some(file)) = (self.segments.back_mut(), &mut self.active) else {
            return Err(io::Error::other("no open segment"));
        };
        let mut bytes = Vec::new();
        let mut count = 0;
        for payload in &self.memory {
            record::write(payload, &mut bytes);
            count += 1;
            if segment.bytes + bytes.len() as u64 >= self.segment_bytes {
                break;
            }
        }
        let written = file.write_all(&bytes).and_then(|()| match self.fsync {
            Fsync::EachBatch => file.sync_data(),
            Fsync::Never => Ok(()),
        });
        if let Err(error) = written {
            // Half a record must not stand before whole ones: cut it off, or leave the file.
            let is_cut = file.set_len(segment.bytes).is_ok()
                && io::Seek::seek(file, io::SeekFrom::Start(segment.bytes)).is_ok();
            if !is_cut {
                self.active = None;
            }
            return Err(error);
        }
        segment.bytes += bytes.len() as u64;
        segment.end += count as u64;
        segment.modified = now;
        Ok(count)
    }

    /// Reads at most `count_max` records from `position` on, and moves it.
    pub(super) fn read(&self, position: &mut Position, count_max: usize) -> io::Result<Batch> {
        let mut batch = Batch { records: Vec::new(), lost: 0 };
        // What was dropped at a bound is counted where it is dropped.
        position.seq = position.seq.max(self.first_seq());
        while batch.records.is_empty() && position.seq < self.next_seq {
            let seq = position.seq;
            let segment = self.segments.iter().find(|segment| segment.end > seq);
            let Some(segment) = segment else {
                self.read_memory(position, count_max, &mut batch);
                break;
            };
            if segment.base > seq {
                batch.lost += segment.base - seq;
                position.seq = segment.base;
                continue;
            }
            let from = position
                .hint
                .filter(|hint| hint.base == segment.base && hint.seq <= seq)
                .unwrap_or(Offset::start(segment.base));
            let found = segment::read(&self.dir, from, seq, segment.end, count_max)?;
            position.seq = found.next.seq.max(seq);
            position.hint = Some(found.next);
            batch.records = found.records;
            if found.is_damaged {
                batch.lost += segment.end - position.seq;
                position.seq = segment.end;
                position.hint = None;
            }
        }
        Ok(batch)
    }

    fn read_memory(&self, position: &mut Position, count_max: usize, batch: &mut Batch) {
        let base = self.memory_base();
        if position.seq < base {
            batch.lost += base - position.seq;
            position.seq = base;
        }
        let skip = usize::try_from(position.seq - base).unwrap_or(usize::MAX);
        for payload in self.memory.iter().skip(skip).take(count_max) {
            batch.records.push((position.seq, payload.clone()));
            position.seq += 1;
        }
    }

    /// Removes segments that every sink has sent (`sent_by_all` is the oldest cursor).
    pub(super) fn release(&mut self, sent_by_all: u64) {
        while self.memory_base() < sent_by_all.min(self.next_seq) {
            let Some(oldest) = self.memory.pop_front() else { break };
            self.memory_bytes -= oldest.len();
        }
        while self.segments.len() > 1
            && self.segments.front().is_some_and(|segment| segment.end <= sent_by_all)
        {
            self.drop_oldest();
        }
    }

    /// Removes the oldest segments until size and age are within bounds.
    pub(super) fn enforce(&mut self, oldest_allowed: SystemTime) {
        while self.segments.len() > 1 && self.bytes() > self.bytes_max {
            self.drop_oldest();
        }
        while self
            .segments
            .front()
            .is_some_and(|segment| segment.modified < oldest_allowed && segment.end > segment.base)
        {
            if self.segments.len() == 1 {
                self.active = None;
            }
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(segment) = self.segments.pop_front() else { return };
        if let Err(error) = std::fs::remove_file(Segment::path(&self.dir, segment.base)) {
            tracing::warn!(base = segment.base, %error, "cannot remove a spool segment");
            self.counts.write_errors += 1;
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}
