//! A file of alerts, rotated by size.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::alert::Alert;
use crate::export::config::Format;
use crate::export::encode::{Colour, encode};

pub(super) struct FileSink {
    path: PathBuf,
    format: Format,
    rotate_bytes: u64,
    keep: u32,
    open: Option<Open>,
}

struct Open {
    file: File,
    inode: u64,
    bytes: u64,
}

impl FileSink {
    pub(super) fn new(path: PathBuf, format: Format, rotate_bytes: u64, keep: u32) -> Self {
        Self { path, format, rotate_bytes, keep, open: None }
    }

    /// `path` → `path.1` → … → `path.<keep>`, which goes.
    fn rotate(&self) -> io::Result<()> {
        if self.keep == 0 {
            return std::fs::remove_file(&self.path);
        }
        for number in (1..self.keep).rev() {
            ignore_missing(std::fs::rename(self.numbered(number), self.numbered(number + 1)))?;
        }
        std::fs::rename(&self.path, self.numbered(1))
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    /// The open file; opened again where somebody moved it away, as logrotate does.
    fn file(&mut self) -> io::Result<&mut Open> {
        let is_moved = self.open.as_ref().is_some_and(|open| inode(&self.path) != Some(open.inode));
        if is_moved {
            self.open = None;
        }
        if self.open.is_none() {
            let file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(&self.path)?;
            let meta = file.metadata()?;
            self.open = Some(Open { file, inode: meta.ino(), bytes: meta.len() });
        }
        self.open.as_mut().ok_or_else(|| io::Error::other("the file is not open"))
    }
}

impl super::Write for FileSink {
    fn write(&mut self, alert: &Alert) -> io::Result<()> {
        let text = encode(alert, self.format, Colour::Off);
        let rotate_bytes = self.rotate_bytes;
        let bytes = self.file()?.bytes;
        if bytes > 0 && bytes + text.len() as u64 > rotate_bytes {
            self.open = None;
            self.rotate()?;
        }
        let open = self.file()?;
        if let Err(error) = open.file.write_all(text.as_bytes()) {
            // Half a line would spoil the next one; it is written again as a whole.
            let _ = open.file.set_len(open.bytes);
            self.open = None;
            return Err(error);
        }
        open.bytes += text.len() as u64;
        Ok(())
    }
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|meta| meta.ino())
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::FileSink;
    use crate::alert::Alert;
    use crate::export::config::Format;
    use crate::export::encode::tests::sample;
    use crate::export::sink::Write as _;

    fn numbered(n: usize) -> Alert {
        Alert { id: format!("{n:032}"), ..sample() }
    }

    #[test]
    fn alerts_are_lines_of_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alerts.jsonl");
        let mut sink = FileSink::new(path.clone(), Format::Json, 1 << 20, 3);
        for n in 0..3 {
            sink.write(&numbered(n)).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let read: Vec<Alert> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, (0..3).map(numbered).collect::<Vec<_>>());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_full_file_is_rotated_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alerts.jsonl");
        let mut sink = FileSink::new(path.clone(), Format::Json, 1, 2);
        for n in 0..5 {
            sink.write(&numbered(n)).unwrap();
        }
        let has = |name: &str, n: usize| {
            std::fs::read_to_string(dir.path().join(name)).unwrap().contains(&format!("{n:032}"))
        };
        assert!(has("alerts.jsonl", 4) && has("alerts.jsonl.1", 3) && has("alerts.jsonl.2", 2));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alerts.jsonl");
        let mut sink = FileSink::new(path.clone(), Format::Json, 1 << 20, 2);
        sink.write(&numbered(0)).unwrap();
        std::fs::rename(&path, dir.path().join("away")).unwrap();
        sink.write(&numbered(1)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn a_missing_directory_is_an_error_and_not_a_lost_alert() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("no/alerts.jsonl");
        let mut sink = FileSink::new(path.clone(), Format::Json, 1 << 20, 2);
        assert!(sink.write(&numbered(0)).is_err());
        std::fs::create_dir(dir.path().join("no")).unwrap();
        sink.write(&numbered(0)).unwrap();
        assert!(path.exists());
    }
}
