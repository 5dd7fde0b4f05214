//! The local store of events: recordings in segments, bounded by size and by age, the oldest
//! dropped first. It is off unless the configuration switches it on.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value as Json};

use super::{Header, Reader, Target, Writer};

/// Bytes of rows, before compression, after which a segment ends: a dropped segment should be a
/// small part of the store.
pub const SEGMENT_BYTES_MAX: u64 = 32 << 20;
/// Time after which a segment ends: age is judged by segments.
const SEGMENT_SPAN: Duration = Duration::from_hours(1);
/// Segments of a store that are looked at, at most.
pub const SEGMENTS_MAX: usize = 16_384;
/// Suffix of a segment's name.
const SUFFIX: &str = ".events.zst";

/// Where the store is and how much it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Its directory.
    pub dir: PathBuf,
    /// Bytes on disk, at most.
    pub bytes_max: u64,
    /// Age at which events are dropped.
    pub age_max: Duration,
}

/// A store that is being written to.
pub struct Store {
    config: StoreConfig,
    header: Header,
    current: Option<Segment>,
}

struct Segment {
    writer: Writer,
    path: PathBuf,
    bytes: u64,
    started: Instant,
}

impl Store {
    /// Opens the store; the directory is made where it is missing.
    pub fn open(config: StoreConfig, header: Header) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.dir)?;
        let mut store = Self { config, header, current: None };
        store.prune()?;
        Ok(store)
    }

    /// Adds one row.
    pub fn row(&mut self, row: Map<String, Json>) -> io::Result<()> {
        let is_full = self.current.as_ref().is_some_and(|segment| {
            segment.bytes >= SEGMENT_BYTES_MAX || segment.started.elapsed() >= SEGMENT_SPAN
        });
        if is_full {
            self.end_segment(0)?;
            self.prune()?;
        }
        if self.current.is_none() {
            self.current = Some(self.begin_segment()?);
        }
        if let Some(segment) = &mut self.current {
            let before = segment.writer.bytes();
            segment.writer.row(row)?;
            segment.bytes += segment.writer.bytes() - before;
        }
        Ok(())
    }

    /// Hands on what is held back.
    pub fn flush(&mut self) -> io::Result<()> {
        self.current.as_mut().map_or(Ok(()), |segment| segment.writer.flush())
    }

    /// Ends the store; `lost` events did not reach it.
    pub fn finish(mut self, lost: u64) -> io::Result<()> {
        self.end_segment(lost)?;
        self.prune()
    }

    fn begin_segment(&self) -> io::Result<Segment> {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let name = format!("{:020}{SUFFIX}", since_epoch.unwrap_or_default().as_nanos());
        let path = self.config.dir.join(name);
        let writer = Writer::create(&Target::Compressed(path.clone()), &self.header)?;
        Ok(Segment { writer, path, bytes: 0, started: Instant::now() })
    }

    fn end_segment(&mut self, lost: u64) -> io::Result<()> {
        self.current.take().map_or(Ok(()), |segment| segment.writer.finish(lost))
    }

    /// Drops the oldest segments until size and age are within their bounds.
    fn prune(&mut self) -> io::Result<()> {
        let open = self.current.as_ref().map(|segment| segment.path.clone());
        let segments = segments(&self.config.dir)?;
        let mut bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let mut count = segments.len();
        for segment in segments.iter().filter(|segment| Some(&segment.path) != open.as_ref()) {
            let age = segment.written.elapsed().unwrap_or_default();
            let is_over = bytes > self.config.bytes_max || count > SEGMENTS_MAX;
            if !is_over && age <= self.config.age_max {
                break;
            }
            fs::remove_file(&segment.path)?;
            bytes -= segment.bytes;
            count -= 1;
        }
        Ok(())
    }
}

/// A segment on disk.
#[derive(Clone, Debug)]
pub struct StoredSegment {
    /// Its file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// When it was last written to.
    pub written: SystemTime,
}

impl StoredSegment {
    /// Reads it.
    pub fn open(&self) -> Result<Reader, super::ReadError> {
        Reader::open(&self.path)
    }
}

/// The segments of a store, oldest first.
pub fn segments(dir: &Path) -> io::Result<Vec<StoredSegment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().ends_with(SUFFIX) {
            continue;
        }
        let meta = entry.metadata()?;
        let written = meta.modified()?;
        segments.push(StoredSegment { path: entry.path(), bytes: meta.len(), written });
    }
    segments.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(segments)
}
