//! Alerts that a receiver refused for good, in a file for a person to look at.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::spool::private_file;

/// Bytes of dead letters that are kept for one sink, in each of two files: a refusal that repeats
/// shows itself in the first lines.
pub const DEAD_LETTER_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// `<spool>/<sink>.dead.jsonl`: one JSON object a line, `{"refused": why, "alert": …}`.
pub(super) struct DeadLetters {
    path: PathBuf,
}

impl DeadLetters {
    pub(super) fn new(dir: &Path, sink: &str) -> Self {
        Self { path: dir.join(format!("{sink}.dead.jsonl")) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn put(&self, payload: &[u8], reason: &str) -> io::Result<()> {
        let alert = serde_json::from_slice(payload)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(payload).into_owned()));
        let mut line = json!({ "refused": reason, "alert": alert }).to_string();
        line.push('\n');
        let mut file = self.open()?;
        if file.metadata()?.len() + line.len() as u64 > DEAD_LETTER_BYTES_MAX {
            let mut older = self.path.clone().into_os_string();
            older.push(".1");
            std::fs::rename(&self.path, older)?;
            file = self.open()?;
        }
        file.write_all(line.as_bytes())
    }

    fn open(&self) -> io::Result<File> {
        private_file().create(true).append(true).open(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::{DEAD_LETTER_BYTES_MAX, DeadLetters};

    #[test]
    fn letters_are_kept_with_the_reason_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(dir.path(), "hook");
        let payload = vec![b'x'; 1024 * 1024];
        letters.put(b"{\"id\":1}", "status 400").unwrap();
        let text = std::fs::read_to_string(letters.path()).unwrap();
        assert_eq!(text, "{\"alert\":{\"id\":1},\"refused\":\"status 400\"}\n");
        for _ in 0..20 {
            letters.put(&payload, "too large").unwrap();
        }
        let bytes: u64 = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().metadata().unwrap().len())
            .sum();
        assert!(bytes <= 2 * DEAD_LETTER_BYTES_MAX, "{bytes}");
    }
}
