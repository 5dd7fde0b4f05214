//! Lines from a recording, one row at a time, in bounded memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde_json::Value as Json;
use thiserror::Error;

use super::{FORMAT, Footer, Header};
use crate::model::{FactRow, RowError};

/// Bytes of one line of a recording, at most: the longest event has some 40 KiB of arguments,
/// paths and labels.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// The first bytes of a Zstandard frame (RFC 8878, section 3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Why a recording cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file cannot be read, or its compressed form is damaged.
    #[error("{0}; expected a file that `gpuwarden record` wrote")]
    Io(#[from] io::Error),
    /// The first line says something else.
    #[error(
        "this is not a recording: its first line is not a header; expected a file that \
         `gpuwarden record` wrote"
    )]
    NoHeader,
    /// Another version wrote it.
    #[error("the recording has form {0}, this version of gpuwarden reads form {FORMAT}")]
    Format(u32),
    /// A line is longer than its bound.
    #[error("line {0} has more than {LINE_BYTES_MAX} bytes")]
    Long(u64),
    /// A line is not JSON.
    #[error("line {line} is not a JSON object: {source}")]
    Json {
        /// Which.
        line: u64,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A line is not an event.
    #[error("line {line}: {source}")]
    Row {
        /// Which.
        line: u64,
        /// What is wrong with it.
        source: RowError,
    },
}

/// A recording that is being read.
pub struct Reader {
    lines: Box<dyn BufRead>,
    /// The first line.
    pub header: Header,
    footer: Option<Footer>,
    line: u64,
    buffer: Vec<u8>,
}

impl Reader {
    /// Opens a recording and reads its header.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Self::new(File::open(path)?)
    }

    /// Reads a recording from `source`, compressed or not.
    pub fn new(source: impl Read + 'static) -> Result<Self, ReadError> {
        let mut source = BufReader::new(source);
        let compressed = source.fill_buf()?.starts_with(&ZSTD_MAGIC);
        let lines: Box<dyn BufRead> = if compressed {
            Box::new(BufReader::new(zstd::Decoder::with_buffer(source)?))
        } else {
            Box::new(source)
        };
        let header = Header {
            format: 0,
            version: String::new(),
            revision: String::new(),
            host: crate::alert::Host::default(),
            wall_at_boot_ns: 0,
            sensors: Vec::new(),
        };
        let mut reader = Self { lines, header, footer: None, line: 0, buffer: Vec::new() };
        let first = reader.next_json()?.ok_or(ReadError::NoHeader)?;
        reader.header = serde_json::from_value(first).map_err(|_| ReadError::NoHeader)?;
        if reader.header.format != FORMAT {
            return Err(ReadError::Format(reader.header.format));
        }
        Ok(reader)
    }

    /// The next event; `None` at the end. What was cut off by a crash ends the recording early,
    /// which [`Self::footer`] shows.
    pub fn next_row(&mut self) -> Result<Option<FactRow>, ReadError> {
        if self.footer.is_some() {
            return Ok(None);
        }
        let json = match self.next_json() {
            Ok(Some(json)) => json,
            Ok(None) => return Ok(None),
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if let Ok(footer) = serde_json::from_value::<Footer>(json.clone()) {
            self.footer = Some(footer);
            return Ok(None);
        }
        let line = self.line;
        let Json::Object(object) = json else {
            return Err(ReadError::Row { line, source: RowError::NoKind });
        };
        FactRow::from_json(&object).map(Some).map_err(|source| ReadError::Row { line, source })
    }

    /// The last line, once it was read: without one the recording was cut off.
    pub const fn footer(&self) -> Option<Footer> {
        self.footer
    }

    fn next_json(&mut self) -> Result<Option<Json>, ReadError> {
        self.buffer.clear();
        let most = LINE_BYTES_MAX as u64 + 1;
        let read = (&mut *self.lines).take(most).read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        if read as u64 == most {
            return Err(ReadError::Long(self.line));
        }
        match serde_json::from_slice(&self.buffer) {
            Ok(json) => Ok(Some(json)),
            // The end of a file whose writer was killed.
            Err(_) if !self.buffer.ends_with(b"\n") => Ok(None),
            Err(source) => Err(ReadError::Json { line: self.line, source }),
        }
    }
}
