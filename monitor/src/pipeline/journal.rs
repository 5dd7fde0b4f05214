//! The events that reached the rules, written to a file: for those who ask why a rule did not fire,
//! and for the suites that hold what was seen against what was done.
//!
//! What the kernel side filters out is not in it: the file shows what rules can know. The engine
//! writes it itself, so a slow disk slows the engine down; that is why only the command line can
//! ask for it.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use crate::model::{FactRow, Facts};

/// Bytes of the file; what comes later is counted and left out.
pub(super) const JOURNAL_BYTES_MAX: u64 = 1 << 30;

/// An open file of events.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    left_out: u64,
}

impl Journal {
    /// Creates the file, or empties one that is there.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = BufWriter::new(File::create(path)?);
        Ok(Self { path: path.to_owned(), file, bytes: 0, left_out: 0 })
    }

    /// Adds an event: one JSON object by catalogue name, as rule tests read it.
    pub(super) fn add(&mut self, facts: &(impl Facts + ?Sized)) {
        let line = serde_json::Value::Object(FactRow::snapshot(facts).to_json()).to_string();
        self.bytes += line.len() as u64 + 1;
        if self.bytes > JOURNAL_BYTES_MAX {
            self.left_out += 1;
            return;
        }
        if let Err(error) = writeln!(self.file, "{line}") {
            self.give_up(&error);
        }
    }

    /// Makes what was added readable for others.
    pub(super) fn flush(&mut self) {
        if let Err(error) = self.file.flush() {
            self.give_up(&error);
        }
    }

    /// A full disk must not fill the log as well: the file ends at its first failure.
    fn give_up(&mut self, error: &io::Error) {
        if self.bytes <= JOURNAL_BYTES_MAX {
            self.bytes = JOURNAL_BYTES_MAX;
            tracing::error!(file = %self.path.display(), %error, "no more events are written");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.flush();
        if self.left_out > 0 {
            let (file, left_out) = (self.path.display(), self.left_out);
            tracing::warn!(%file, left_out, "events were left out of the file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_event_reads_back_as_a_row() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("events.jsonl");
        let object = serde_json::json!({
            "evt.kind": "flow", "evt.time_ns": 7, "net.dst.ip": "198.51.100.2", "net.dst.port": 443,
        });
        let object = object.as_object().expect("an object");
        let row = FactRow::from_json(object).expect("a row");
        let mut journal = Journal::create(&path).expect("create");
        journal.add(&row);
        journal.flush();
        let text = std::fs::read_to_string(&path).expect("read");
        let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read.as_object(), Some(object));
    }

    #[test]
    fn events_beyond_the_bound_are_counted() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("events.jsonl");
        let object = serde_json::json!({ "evt.kind": "exec" });
        let row = FactRow::from_json(object.as_object().expect("an object")).expect("a row");
        let mut journal = Journal::create(&path).expect("create");
        journal.bytes = JOURNAL_BYTES_MAX - 1;
        journal.add(&row);
        assert_eq!(journal.left_out, 1);
        drop(journal);
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "");
    }
}
