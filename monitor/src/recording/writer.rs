//! Lines to a file, compressed or not.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use super::{Footer, Header};

/// Level of compression: the fastest that still packs events some fifteen to one.
const LEVEL: i32 = 3;
/// Most bytes of a recording, before compression: a plain file of this size is a long look, a
/// compressed one has some 70 MiB. Rows beyond it are counted as lost.
pub const RECORDING_BYTES_MAX: u64 = 1 << 30;
/// Name of standard output on the command line.
const STDOUT: &str = "-";

/// Where a recording goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output, as it is.
    Stdout,
    /// A file, as it is: its name ends in `.jsonl`.
    Plain(PathBuf),
    /// A compressed file.
    Compressed(PathBuf),
}

impl Target {
    /// The target that a name on the command line means.
    pub fn of(path: &Path) -> Self {
        if path.as_os_str() == STDOUT {
            Self::Stdout
        } else if path.extension().is_some_and(|extension| extension == "jsonl") {
            Self::Plain(path.to_owned())
        } else {
            Self::Compressed(path.to_owned())
        }
    }
}

enum Out {
    Plain(Box<dyn Write + Send>),
    Compressed(zstd::Encoder<'static, BufWriter<File>>),
}

impl Out {
    fn write(&mut self) -> &mut dyn Write {
        match self {
            Self::Plain(out) => out,
            Self::Compressed(out) => out,
        }
    }
}

/// A recording that is being written.
pub struct Writer {
    out: Out,
    rows: u64,
    left_out: u64,
    bytes: u64,
    bytes_max: u64,
    line: Vec<u8>,
}

impl Writer {
    /// Starts a recording. A file that is there already is refused rather than overwritten; it is
    /// readable by its owner only, since arguments and paths are in it.
    pub fn create(target: &Target, header: &Header) -> io::Result<Self> {
        let bytes_max = match target {
            // Nothing is kept there.
            Target::Stdout => u64::MAX,
            Target::Plain(_) | Target::Compressed(_) => RECORDING_BYTES_MAX,
        };
        Self::create_within(target, header, bytes_max)
    }

    /// As [`Self::create`], with another bound than [`RECORDING_BYTES_MAX`].
    pub fn create_within(target: &Target, header: &Header, bytes_max: u64) -> io::Result<Self> {
        let out = match target {
            Target::Stdout => Out::Plain(Box::new(BufWriter::new(io::stdout()))),
            Target::Plain(path) => Out::Plain(Box::new(BufWriter::new(create(path)?))),
            Target::Compressed(path) => {
                let file = BufWriter::new(create(path)?);
                let mut encoder = zstd::Encoder::new(file, LEVEL)?;
                encoder.include_checksum(true)?;
                Out::Compressed(encoder)
            }
        };
        let mut writer = Self { out, rows: 0, left_out: 0, bytes: 0, bytes_max, line: Vec::new() };
        writer.put(&serde_json::to_value(header)?)?;
        Ok(writer)
    }

    /// Writes one row; one beyond the bound on bytes is left out and counted.
    pub fn row(&mut self, row: Map<String, Json>) -> io::Result<()> {
        self.encode(&Json::Object(row))?;
        if self.bytes.saturating_add(self.line.len() as u64) > self.bytes_max {
            self.left_out += 1;
            return Ok(());
        }
        self.rows += 1;
        self.put_line()
    }

    fn put(&mut self, value: &Json) -> io::Result<()> {
        self.encode(value)?;
        self.put_line()
    }

    fn encode(&mut self, value: &Json) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, value)?;
        self.line.push(b'\n');
        Ok(())
    }

    fn put_line(&mut self) -> io::Result<()> {
        self.bytes += self.line.len() as u64;
        self.out.write().write_all(&self.line)
    }

    /// Hands on what is held back, so that whoever follows the file sees it, and a crash loses
    /// little.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.write().flush()
    }

    /// Bytes written, before compression.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Rows written.
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows that were left out at the bound on bytes.
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Ends the recording.
    pub fn finish(mut self, lost: u64) -> io::Result<()> {
        let lost = lost.saturating_add(self.left_out);
        self.put(&serde_json::to_value(Footer { rows: self.rows, lost })?)?;
        match self.out {
            Out::Plain(mut out) => out.flush(),
            Out::Compressed(out) => out.finish()?.flush(),
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
