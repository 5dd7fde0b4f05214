//! How far one sink has read, in a file that is replaced whole.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// First word of a cursor file, with the version of its form.
const MAGIC: &str = "gpuwarden-cursor-1";

/// What the file of a cursor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is none: a new sink.
    Missing,
    /// There is one, and it cannot be believed.
    Damaged,
    /// The next record to send.
    At(u64),
}

/// How far one sink has read. Never goes backwards.
#[derive(Debug)]
pub(super) struct Cursor {
    path: PathBuf,
    seq: u64,
}

impl Cursor {
    pub(super) fn path(dir: &Path, sink: &str) -> PathBuf {
        dir.join(format!("{sink}.cursor"))
    }

    pub(super) fn load(path: &Path) -> io::Result<Found> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(parse(&bytes).map_or(Found::Damaged, Found::At)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Missing),
            Err(error) => Err(error),
        }
    }

    pub(super) fn at(path: PathBuf, seq: u64) -> Self {
        Self { path, seq }
    }

    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// Moves forward to `seq`; an older `seq` changes nothing. In memory it moves even where the
    /// file cannot be written: after a restart that costs duplicates, never a loss.
    pub(super) fn advance(&mut self, seq: u64) -> io::Result<()> {
        if seq <= self.seq {
            return Ok(());
        }
        self.seq = seq;
        self.store()
    }

    /// Writes the file: a new one beside it, then renamed over it. Not synced to disk: after a
    /// power loss an old or damaged cursor costs duplicates with the same ids, never a loss.
    pub(super) fn store(&self) -> io::Result<()> {
        let text = format!("{MAGIC} {}", self.seq);
        let line = format!("{text} {:08x}\n", crc32c::crc32c(text.as_bytes()));
        let fresh = self.path.with_extension("cursor-new");
        let mut file =
            super::private_file().create(true).truncate(true).write(true).open(&fresh)?;
        file.write_all(line.as_bytes())?;
        drop(file);
        std::fs::rename(&fresh, &self.path)
    }
}

fn parse(bytes: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (text, crc) = line.rsplit_once(' ')?;
    if u32::from_str_radix(crc, 16).ok()? != crc32c::crc32c(text.as_bytes()) {
        return None;
    }
    text.strip_prefix(MAGIC)?.strip_prefix(' ')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Cursor, Found, parse};

    #[test]
    fn it_is_found_where_it_was_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = Cursor::path(dir.path(), "siem");
        assert_eq!(Cursor::load(&path).unwrap(), Found::Missing);
        let mut cursor = Cursor::at(path.clone(), 3);
        cursor.advance(7).unwrap();
        assert_eq!(Cursor::load(&path).unwrap(), Found::At(7));
        cursor.advance(5).unwrap();
        assert_eq!((cursor.seq(), Cursor::load(&path).unwrap()), (7, Found::At(7)));
    }

    #[test]
    fn a_cut_or_changed_file_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = Cursor::path(dir.path(), "siem");
        Cursor::at(path.clone(), 0).advance(1234).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(Cursor::load(&path).unwrap(), Found::Damaged, "cut at {cut}");
        }
        std::fs::write(&path, String::from_utf8(whole).unwrap().replace("1234", "1235")).unwrap();
        assert_eq!(Cursor::load(&path).unwrap(), Found::Damaged);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&bytes);
        }
    }
}
