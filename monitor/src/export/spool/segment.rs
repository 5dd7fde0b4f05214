//! One file of the log: a magic, then records without gaps.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::record::{self, HEADER_BYTES, Parsed, RECORD_BYTES_MAX};

/// First bytes of a segment, with the version of its form.
const MAGIC: &[u8; 8] = b"GWSPOOL1";
/// Ending of a segment's file name; the rest is its first sequence number in 20 digits.
const EXTENSION: &str = "seg";

/// A segment: the records `base..end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) base: u64,
    pub(super) end: u64,
    pub(super) bytes: u64,
    pub(super) modified: SystemTime,
}

/// What [`Segment::recover`] cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) bytes: u64,
    pub(super) is_damaged: bool,
}

impl Segment {
    pub(super) fn path(dir: &Path, base: u64) -> PathBuf {
        dir.join(format!("{base:020}.{EXTENSION}"))
    }

    /// Sequence numbers of the segments in `dir`, ascending.
    pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
        let mut bases = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            let is_segment = path.extension().is_some_and(|extension| extension == EXTENSION);
            let base = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            if let (true, Some(base)) = (is_segment, base) {
                bases.push(base);
            }
        }
        bases.sort_unstable();
        Ok(bases)
    }

    /// Makes an empty segment and opens it for appending.
    pub(super) fn create(dir: &Path, base: u64, now: SystemTime) -> io::Result<(Self, File)> {
        let path = Self::path(dir, base);
        let mut file = super::private_file().create(true).truncate(true).write(true).open(path)?;
        file.write_all(MAGIC)?;
        // The name must survive a power loss as well as the records do.
        File::open(dir)?.sync_all()?;
        Ok((Self { base, end: base, bytes: MAGIC.len() as u64, modified: now }, file))
    }

    /// A segment that is followed by another one: its end is where that one begins.
    pub(super) fn closed(dir: &Path, base: u64, next: u64) -> io::Result<Self> {
        let meta = std::fs::metadata(Self::path(dir, base))?;
        Ok(Self { base, end: next, bytes: meta.len(), modified: meta.modified()? })
    }

    /// The last segment: reads it through, cuts off what is torn or damaged at its end, and
    /// opens it for appending.
    pub(super) fn recover(dir: &Path, base: u64) -> io::Result<(Self, File, Cut)> {
        let path = Self::path(dir, base);
        let mut file = super::private_file().read(true).write(true).open(&path)?;
        let meta = file.metadata()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut segment =
            Self { base, end: base, bytes: MAGIC.len() as u64, modified: meta.modified()? };
        let mut cut = Cut::default();
        if !bytes.starts_with(MAGIC) {
            cut = Cut { bytes: bytes.len() as u64, is_damaged: bytes.len() >= MAGIC.len() };
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(MAGIC)?;
            return Ok((segment, file, cut));
        }
        let mut at = MAGIC.len();
        loop {
            match record::parse(&bytes[at..]) {
                Parsed::Record(payload) => {
                    at += HEADER_BYTES + payload.len();
                    segment.end += 1;
                }
                Parsed::End => break,
                found @ (Parsed::Torn | Parsed::Damaged) => {
                    cut.bytes = (bytes.len() - at) as u64;
                    cut.is_damaged = found == Parsed::Damaged;
                    file.set_len(at as u64)?;
                    break;
                }
            }
        }
        segment.bytes = at as u64;
        file.seek(SeekFrom::Start(segment.bytes))?;
        Ok((segment, file, cut))
    }
}

/// Where the next record to read stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offset {
    /// The segment it is in.
    pub(super) base: u64,
    /// Its sequence number.
    pub(super) seq: u64,
    /// Its first byte.
    pub(super) at: u64,
}

impl Offset {
    pub(super) fn start(base: u64) -> Self {
        Self { base, seq: base, at: MAGIC.len() as u64 }
    }
}

/// What [`read`] found.
pub(super) struct Found {
    /// Records, each with its sequence number.
    pub(super) records: Vec<(u64, Vec<u8>)>,
    /// Where to go on.
    pub(super) next: Offset,
    /// Whether the file ended, or made no sense, before the segment's end.
    pub(super) is_damaged: bool,
}

/// Reads records from `from` up to `end`, at most `count_max`, passing over those before `wanted`.
pub(super) fn read(
    dir: &Path,
    from: Offset,
    wanted: u64,
    end: u64,
    count_max: usize,
) -> io::Result<Found> {
    let mut file = File::open(Segment::path(dir, from.base))?;
    file.seek(SeekFrom::Start(from.at))?;
    let mut reader = io::BufReader::with_capacity(64 * 1024, file);
    let mut found = Found { records: Vec::new(), next: from, is_damaged: false };
    while found.next.seq < end && found.records.len() < count_max {
        let Some(payload) = read_record(&mut reader)? else {
            found.is_damaged = true;
            break;
        };
        found.next.at += (HEADER_BYTES + payload.len()) as u64;
        if found.next.seq >= wanted {
            found.records.push((found.next.seq, payload));
        }
        found.next.seq += 1;
    }
    Ok(found)
}

fn read_record(reader: &mut impl io::Read) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; HEADER_BYTES];
    if !read_whole(reader, &mut bytes)? {
        return Ok(None);
    }
    let len = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
    if len == 0 || len > RECORD_BYTES_MAX {
        return Ok(None);
    }
    bytes.resize(HEADER_BYTES + len, 0);
    if !read_whole(reader, &mut bytes[HEADER_BYTES..])? {
        return Ok(None);
    }
    Ok(match record::parse(&bytes) {
        Parsed::Record(payload) => Some(payload.to_vec()),
        Parsed::End | Parsed::Torn | Parsed::Damaged => None,
    })
}

/// Whether the file had enough bytes left to fill `bytes`.
fn read_whole(reader: &mut impl io::Read, bytes: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
